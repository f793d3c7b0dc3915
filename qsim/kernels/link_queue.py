"""Queues: in which order messages are ready, and when links have passed each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel

_BITS = 11
_DIGITS = 6  # of 11 bits, for 64
_FEW = 64


@kernel
def _rising_few(word: NDArray[np.uint64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """As `rising`, by insertion."""
    found = order.copy()
    for k in range(1, found.size):
        item, place = found[k], k
        while place > 0 and word[found[place - 1]] > word[item]:
            found[place] = found[place - 1]
            place -= 1
        found[place] = item
    return found


@kernel
def rising(word: NDArray[np.uint64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order in which the words rise, equal ones as they are in `order`: a radix sort, for more than a few.

    The bits of floats of at least 0 rise as the floats do.
    """
    size, mask = word.size, np.uint64((1 << _BITS) - 1)
    if size <= _FEW:
        return _rising_few(word, order)
    counts = np.zeros((_DIGITS, 1 << _BITS), np.int64)
    for k in range(size):
        left = word[k]
        for digit in range(_DIGITS):
            counts[digit, left & mask] += 1
            left >>= np.uint64(_BITS)
    here, there = word[order], np.empty(size, np.uint64)
    now, then = order.copy(), np.empty(size, np.int64)
    for digit in range(_DIGITS):
        shift = np.uint64(digit * _BITS)
        count = counts[digit]
        if size and count[(here[0] >> shift) & mask] == size:
            continue  # all have this digit
        start = 0
        for value in range(count.size):
            start, count[value] = start + count[value], start
        for k in range(size):
            value = (here[k] >> shift) & mask
            place = count[value]
            count[value] = place + 1
            there[place] = here[k]
            then[place] = now[k]
        here, there = there, here
        now, then = then, now
    return now


@kernel
def pass_in_order(
    order: NDArray[np.int64], ready: NDArray[np.float64], takes: NDArray[np.float64], places: int, through: NDArray[Any]
) -> bool:
    """Pass messages in an order, `places` at a time, message i not before ready[i] and in takes[i] seconds.

    through[i]: when it has passed. Returns whether two that followed each other were ready at one time.
    """
    free = np.zeros(places)  # when each place is free: a heap, the first of them on top
    before, equal = -1.0, False
    for k in range(order.size):
        i = order[k]
        equal |= ready[i] == before
        before = ready[i]
        end = max(free[0], ready[i]) + takes[i]
        through[i] = end
        at = 0
        while True:
            child = 2 * at + 1
            if child + 1 < places and free[child + 1] < free[child]:
                child += 1
            if child >= places or free[child] >= end:
                break
            free[at] = free[child]
            at = child
        free[at] = end
    return equal
