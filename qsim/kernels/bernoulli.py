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
from qsim.kernels.simd import LANES, STRIP, at_least, draws_below, lanes_total
from qsim.kernels.tiles import RUN, draw_entries, strip_ramp

_STEPS = 2.0**24
_LARGEST = float(np.finfo(np.float32).max)


@kernel
def fold_each(keys: NDArray[np.uint64], part: int) -> NDArray[np.uint64]:
    """Mix a part into every key's word."""
    words = np.empty_like(keys)
    for row in range(keys.size):
        words[row] = fold(np.uint64(keys[row]), np.uint64(part))
    return words


@kernel
def fold_words(keys: NDArray[np.uint64], part: int, out: NDArray[np.uint64]) -> None:
    """Write what `fold_each` returns."""
    out[:] = fold_each(keys, part)


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
    until none more reaches it. Sums run in lanes, entry i of a row in lane i % 32.
    """
    certain, lanes = np.zeros(offsets.size - 1, np.float64), np.empty(LANES, np.float64)
    for row in range(certain.size):
        entries = value[offsets[row] : offsets[row + 1]]
        aside, rest = _sum_below(entries, np.inf, lanes)
        more = _count_nonzeros(entries) > k
        while more:
            certain[row] = rest / np.float64(k - aside)
            before = aside
            aside, rest = _sum_below(entries, certain[row], lanes)
            more = before < aside < k  # k of them: the others are too small to count in the sum
    return certain


@kernel
def certain_scales(offsets: NDArray[np.int64], value: NDArray[np.float32], k: int, out: NDArray[np.float64]) -> int:
    """Write what `certain_magnitudes` returns; return how many of them float32 does not reach."""
    out[:] = certain_magnitudes(offsets, value, k)
    above = 0
    for row in range(out.size):
        above += int(out[row] > _LARGEST)
    return above


@kernel
def _sum_below(x: NDArray[np.float32], bound: float, lanes: NDArray[np.float64]) -> tuple[int, float]:
    """Return how many magnitudes reach a bound, and the sum of the others."""
    lanes[:] = 0.0
    whole, reach = x.size - x.size % LANES, np.int64(0)
    for start in range(0, whole, LANES):
        strip = x[start : start + LANES]
        for lane in range(LANES):
            magnitude = np.float64(abs(strip[lane]))
            lanes[lane] += 0.0 if magnitude >= bound else magnitude
            reach += np.int64(magnitude >= bound)
    for k in range(whole, x.size):
        magnitude = np.float64(abs(x[k]))
        lanes[k - whole] += 0.0 if magnitude >= bound else magnitude
        reach += np.int64(magnitude >= bound)
    return int(reach), lanes_total(lanes)


@kernel
def _count_nonzeros(x: NDArray[np.float32]) -> int:
    found = 0
    for k in range(x.size):
        found += int(x[k] != np.float32(0.0))
    return found


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
    ramp, uniform, chosen = strip_ramp(), np.empty(RUN, np.int32), np.zeros(RUN, np.int32)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first, last = offsets[row], offsets[row + 1]
        factor = _STEPS / certain[row] if certain[row] > 0.0 else np.inf
        for start in range(first, last, RUN):
            size = min(RUN, last - start)
            draw_entries(ramp, index, first, start, size, keys[row], uniform)
            _choose(value[start : start + size], factor, uniform, chosen)
            for strip in range(start, start + size, STRIP):
                left = at_least(chosen, strip - start, np.int32(1))
                while left != np.uint64(0):
                    place = np.uint64(strip) + trailing_zeros(left)
                    left &= left - np.uint64(1)
                    x = np.float64(value[place])
                    out_index[kept] = np.int64(place) - first if index is None else index[place]
                    out_value[kept] = np.float32(x * (_STEPS / np.ceil(min(abs(x) * factor, _STEPS))))
                    kept += np.uint64(1)
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def _choose(x: NDArray[np.float32], factor: float, uniform: NDArray[np.int32], chosen: NDArray[np.int32]) -> None:
    """Write 1 for every number that is not zero and whose draw is below |x| factor, and 0 for the others and behind."""
    for k in range(x.size):
        there = x[k] != np.float32(0.0)
        chosen[k] = there & (np.float64(uniform[k]) < np.float64(abs(x[k])) * factor)
    chosen[x.size :] = 0
