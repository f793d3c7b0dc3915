"""Coordinates that are kept independently of each other, each with a probability of its own.

The probabilities are whole multiples of 2^-24, and one 24-bit uniform a coordinate is compared with them; so what is
kept is divided by exactly the probability with which it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import trailing_zeros
from qsim.kernels.hashing import fold, uniform24
from qsim.kernels.simd import STRIP, draws_below

_STEPS = 2.0**24


@kernel
def fold_each(keys: NDArray[np.uint64], part: int) -> NDArray[np.uint64]:
    """Mix a part into every key's word."""
    words = np.empty_like(keys)
    for row in range(keys.size):
        words[row] = fold(np.uint64(keys[row]), np.uint64(part))
    return words


@kernel
def keep_with_probability(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.float32],
    steps: int,
    keys: NDArray[np.uint64],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.signedinteger],
    out_value: NDArray[np.float32],
) -> int:
    """Keep every non-zero with probability steps / 2^24, divided by it; return how many are kept."""
    kept = np.uint64(0)
    ramp, ones, bound = np.arange(STRIP).astype(np.int32), np.ones(STRIP, np.float32), np.float32(steps)
    scale = _STEPS / np.float64(steps)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first, last = offsets[row], offsets[row + 1]
        for start in range(first, last, STRIP):
            base = np.int64(start - first if index is None else 0)
            drawn = np.uint64(0)
            if last - start < STRIP:
                for j in range(last - start):
                    coordinate = np.int64(base + j if index is None else index[start + j])
                    drawn |= np.uint64(uniform24(coordinate, keys[row]) < steps) << np.uint64(j)
            elif index is None:
                drawn = draws_below(ones, 0, bound, ramp, 0, base, keys[row])
            else:
                drawn = draws_below(ones, 0, bound, index, start, base, keys[row])
            while drawn != np.uint64(0):
                place = start + np.int64(trailing_zeros(drawn))
                drawn &= drawn - np.uint64(1)
                x = value[np.uint64(place)]
                out_index[kept] = place - first if index is None else index[np.uint64(place)]
                out_value[kept] = np.float32(np.float64(x) * scale)
                kept += np.uint64(x != np.float32(0.0))
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def certain_magnitudes(offsets: NDArray[np.int64], value: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Return for every row the t with sum_i min(1, |x_i| / t) = k; 0 for rows with at most k non-zeros.

    From t = sum |x_i| / k on, those that reach t are set aside with probability 1, and t is found anew for the others,
    until none more reaches it. Sums run in the order of the coordinates.
    """
    certain = np.zeros(offsets.size - 1, np.float64)
    for row in range(certain.size):
        entries = value[offsets[row] : offsets[row + 1]]
        rest, nonzeros = 0.0, 0
        for i in range(entries.size):
            rest += np.float64(abs(entries[i]))
            nonzeros += entries[i] != np.float32(0.0)
        aside, more = 0, nonzeros > k
        while more:
            certain[row] = rest / np.float64(k - aside)
            before, aside, rest = aside, 0, 0.0
            for i in range(entries.size):
                magnitude = np.float64(abs(entries[i]))
                reaches = magnitude >= certain[row]
                aside += reaches
                rest += 0.0 if reaches else magnitude
            more = before < aside < k  # k of them: the others are too small to count in the sum
    return certain


@kernel
def keep_in_proportion(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.float32],
    certain: NDArray[np.float64],
    keys: NDArray[np.uint64],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.signedinteger],
    out_value: NDArray[np.float32],
) -> int:
    """Keep every non-zero x with probability p = min(1, |x| / certain), rounded up, divided by p; return how many."""
    kept = np.uint64(0)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first = offsets[row]
        factor = _STEPS / certain[row] if certain[row] > 0.0 else np.inf
        for place in range(first, offsets[row + 1]):
            x = np.float64(value[place])
            if x != 0.0:
                coordinate = np.int64(place - first if index is None else index[place])
                steps = min(abs(x) * factor, _STEPS)
                if np.float64(uniform24(coordinate, keys[row])) < steps:
                    out_index[kept] = coordinate
                    out_value[kept] = np.float32(x * (_STEPS / np.ceil(steps)))
                    kept += np.uint64(1)
        out_offsets[row + 1] = kept
    return int(kept)
