"""Coordinates that both ends draw: some in a row, and the blocks of a permutation that workers have in common.

A batch is as in `quantize`, coordinates as in `select`. What is taken is scaled, and rounded once to the type of `out`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.hashing import NUMBER_BITS, fold, uniform24
from qsim.kernels.select import scaled_up


@inlined
def _start(key: np.uint64, n: int) -> np.int64:
    """Draw the first of some coordinates in a row."""
    return np.int64(scaled_up(fold(key, np.uint64(0)), np.uint64(n)))


@inlined
def _scaled(x: np.floating, scale: float) -> np.float64:
    return np.float64(x) * scale + 0.0  # a negative zero becomes a positive one


@kernel
def place_runs(keys: NDArray[np.uint64], n: int, k: int, out: NDArray[np.signedinteger]) -> None:
    """Write k coordinates from a random one on, modulo n, for every row of a batch, rising."""
    for row in range(keys.size):
        start = int(_start(np.uint64(keys[row]), n))
        wrapped = max(0, start + k - n)
        here = out[row * k : (row + 1) * k]
        for j in range(wrapped):
            here[j] = j
        for j in range(wrapped, k):
            here[j] = start - wrapped + j


@kernel
def take_runs(
    keys: NDArray[np.uint64],
    k: int,
    n: int,
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.floating],
    scale: float,
    out: NDArray[np.floating],
) -> None:
    """Write scale times what every row has at the coordinates of `place_runs`; 0 where it has no entry."""
    for row in range(keys.size):
        start = int(_start(np.uint64(keys[row]), n))
        wrapped = max(0, start + k - n)
        here = out[row * k : (row + 1) * k]
        if index is None:
            dense = value[offsets[row] : offsets[row + 1]]
            for j in range(wrapped):
                here[j] = _scaled(dense[j], scale)
            behind, rest = here[wrapped:], dense[start : start + k - wrapped]
            for j in range(rest.size):
                behind[j] = _scaled(rest[j], scale)
        else:
            here[:] = 0
            for entry in range(offsets[row], offsets[row + 1]):
                coordinate = np.int64(index[entry])
                if coordinate < wrapped:
                    here[coordinate] = _scaled(value[entry], scale)
                elif start <= coordinate < start + k:
                    here[coordinate - start + wrapped] = _scaled(value[entry], scale)


@kernel
def deal(keys: NDArray[np.uint64], workers: int, copies: int, n: int, out: NDArray[np.signedinteger]) -> None:
    """Write the coordinates that every row is dealt, rising, and from n on to fill up: each goes to `copies` workers.

    Who gets what is drawn by the word without the number (`NUMBER_BITS`): rows behind one another with one such word
    are dealt from one draw, by their numbers. Coordinates are dealt to hands in equal parts, and hand h is held by
    the workers in the places h copies, ..., (h + 1) copies - 1, modulo all, of a random order.
    """
    low, count, k = np.uint64(2**NUMBER_BITS - 1), np.uint64(workers), out.size // max(keys.size, 1)
    hands = workers // _common(workers, copies)
    owner, places, starts = np.empty(-(-n // hands) * hands, np.int32), np.empty(workers, np.int64), np.arange(workers)
    order, counts = np.arange(workers), np.empty(hands, np.int64)
    row = 0
    while row < keys.size:
        word, first = np.uint64(keys[row]) & ~low, row
        _draw_owners(word, owner.size // hands, owner, counts)
        if copies > 1:
            _shuffle(fold(word, np.uint64(2)), order)
        places[:] = -1
        while row < keys.size and np.uint64(keys[row]) & ~low == word:
            number = (np.uint64(keys[row]) & low) % count
            if places[number] < 0:
                places[number] = starts[number] = row * k
            row += 1
        if copies == 1:  # the same without an order, in half the time
            for coordinate in range(n):
                place = places[owner[coordinate]]
                if place >= 0:
                    out[place] = coordinate
                    places[owner[coordinate]] = place + 1
        else:
            _hand_out(owner[:n], copies, order, places, out)
        for again in range(first, row):
            number = (np.uint64(keys[again]) & low) % count
            here, start = out[again * k : (again + 1) * k], starts[number]
            if start == again * k:
                for place in range(places[number] - start, k):
                    here[place] = n + place
            else:  # another row with this number came before
                here[:] = out[start : start + k]


@kernel
def _hand_out(
    owner: NDArray[np.int32],
    copies: int,
    order: NDArray[np.int64],
    places: NDArray[np.int64],
    out: NDArray[np.signedinteger],
) -> None:
    """Write every coordinate where those who hold its hand have their next place."""
    for coordinate in range(owner.size):
        at = owner[coordinate] * copies % order.size
        for _ in range(copies):
            place = places[order[at]]
            if place >= 0:
                out[place] = coordinate
                places[order[at]] = place + 1
            at = at + 1 if at + 1 < order.size else 0


@kernel
def _common(a: int, b: int) -> int:
    """Return the greatest common divisor."""
    while b:
        a, b = b, a % b
    return a


@kernel
def _shuffle(key: np.uint64, order: NDArray[np.int64]) -> None:
    """Put 0, 1, ... into an order, all with the same probability: draw i swaps i with one of the first i + 1."""
    for i in range(order.size):
        order[i] = i
    for i in range(1, order.size):
        j = int(scaled_up(fold(key, np.uint64(i)), np.uint64(i + 1)))
        order[i], order[j] = order[j], order[i]


@kernel
def _draw_owners(word: np.uint64, k: int, owner: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
    """Draw one of `counts.size` hands for every coordinate, each k times: all ways with the same probability.

    Coordinates draw a hand each. Then coordinates are drawn, and given up where the hand has too many; those that
    have too few get them. All that depends on coordinates alike, so no way is more likely than another.
    """
    hands, own, tries = counts.size, fold(word, np.uint64(0)), fold(word, np.uint64(1))
    for coordinate in range(owner.size):
        owner[coordinate] = np.int64(uniform24(coordinate, own)) * hands >> 24
    counts[:] = 0
    for coordinate in range(owner.size):
        counts[owner[coordinate]] += 1
    left = 0
    for hand in range(hands):
        left += max(0, int(counts[hand]) - k)
    given, found, draw = np.empty(left, np.int64), 0, np.uint64(0)
    while found < left:
        coordinate = int(scaled_up(fold(tries, draw), np.uint64(owner.size)))
        draw += np.uint64(1)
        hand = owner[coordinate]
        if hand >= 0 and counts[hand] > k:
            counts[hand] -= 1
            owner[coordinate] = -1
            given[found] = coordinate
            found += 1
    for hand in range(hands):
        for _ in range(k - counts[hand]):
            found -= 1
            owner[given[found]] = hand


@kernel
def take_dealt(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.floating],
    n: int,
    positions: NDArray[np.signedinteger],
    scale: float,
    out: NDArray[np.floating],
) -> None:
    """As `take_positions`; a coordinate of n or more has no entry."""
    k = positions.size // (offsets.size - 1)
    for row in range(offsets.size - 1):
        here, last = offsets[row], offsets[row + 1]
        for place in range(row * k, (row + 1) * k):
            x = value.dtype.type(0)
            if index is None:
                if positions[place] < n:
                    x = value[np.uint64(here + positions[place])]
            else:
                while here < last and index[here] < positions[place]:
                    here += 1
                if here < last and index[here] == positions[place]:
                    x = value[here]
            out[place] = _scaled(x, scale)
