"""Quantizers of level kind: the norm of every row, then a random level for every coordinate.

A batch is `offsets` (rows + 1), `value` (float32), and `index` (the coordinates, rising inside a row) or None for dense
rows. The same vector gives the same bits dense and sparse: sums follow the coordinate, and so does the randomness.

How fast: a vector must be read twice, for the norm and for the levels. The norm runs as fast as `np.dot` reads. Where
most levels are zero, rounding is one comparison, 64 at a time, as a level is not zero if and only if its random number
is below |x| levels / scale; levels are made only where it holds. The hash, about 13 of its 20 vector instructions for 8
coordinates, is what keeps it from the limit, which is reading. Where hardly any level is not zero, in long rows, most
coordinates are not hashed at all (`thinning`); where many are not zero, levels are made 512 at a time (`tiles`). Short
rows are rounded in a plain loop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import ones, trailing_zeros
from qsim.kernels.hashing import fold, uniform24
from qsim.kernels.simd import STRIP, draws_below
from qsim.kernels.thinning import BLOCK, LEAST, RARE, candidates, largest_of_many, next_block
from qsim.kernels.tiles import FEW, RUN, draw_entries, keep_entries, strip_ramp

TINY = np.float32(2.0**-60)
"""Rows whose norm is below this are first multiplied by 2^64 (exactly), so that levels / norm does not overflow."""

COINS = 2**63
"""What a key is folded with for the coins of thinned blocks."""

_LIFT = np.float32(2.0**64)
_SHORT = 48  # entries a row, on average: with fewer a plain loop is faster than vectors
_SPREAD = 4096  # in shorter rows, for the square of the levels, t is hardly ever as small as in thinned blocks


@kernel
def round_to_levels(
    n: int,
    offsets: NDArray[np.int64],
    index: NDArray[np.int32] | None,
    value: NDArray[np.float32],
    scale: NDArray[np.float32],
    levels: int,
    keys: NDArray[np.uint64],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
    out_level: NDArray[np.int32],
) -> int:
    """Round |x| levels / scale up or down at random and keep what is not zero; return how many are kept.

    With t = min(|x| * f, levels) in float32, f = float32(levels / scale) or the next float32 above it if else
    scale * f were below `levels`, the level is floor(t), plus one if u < t - floor(t), where u is a 24-bit uniform of
    (key, coordinate). Its mean is t to within 2^-24, exactly t for t >= 1/2, and t is |x| levels / scale to within a
    factor of 1 +- 2^-22, exactly `levels` for |x| = scale.

    In rows of n >= 4096 levels^2, a block of BLOCK coordinates with at least LEAST numbers that are not zero and no t
    above RARE is *thinned*: with 2^-j the least power of two that is at least every t of the block, but j at most 24, a
    coordinate is a candidate if j fair coins all show heads (`toss`, with the word fold(key, COINS)). The level of a
    candidate is 1 if u < t 2^j, and that of the others is 0: its mean is t to within 2^-(24 + j).
    """
    entries = offsets[-1] - offsets[0]
    thick = n >= _SPREAD * levels * levels and entries >= LEAST
    if index is not None and entries <= _SHORT * (offsets.size - 1) and not thick:
        return _round_short(offsets, index, value, scale, levels, keys, out_offsets, out_index, out_level)
    kept = np.uint64(0)  # unsigned: Numba need not ask whether it counts from the end
    ramp, uniform, level = strip_ramp(), np.empty(RUN, np.int32), np.empty(RUN, np.int32)
    heads, where, chosen = np.empty(2 * STRIP, np.int32), np.empty_like(ramp), np.empty(BLOCK, np.int64)
    bits, coins = value.view(np.int32), np.empty_like(keys[:1])  # the type of a word names its stream
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        start, last = offsets[row], offsets[row + 1]
        law = _law(scale[row], levels)
        while start < last and scale[row] > np.float32(0.0):
            begin, end, largest = last, last, np.float32(np.inf)
            if n >= _SPREAD * levels * levels:
                begin, end = next_block(index, start, last)
                if begin < end and _position(value[begin], law) <= RARE:  # often answered by the first
                    largest = _position(largest_of_many(bits[begin:end]), law)
            stop = begin if largest <= RARE else end
            if start < stop:
                kept = _round_strips(
                    index, value, offsets[row], start, stop, law, keys[row],
                    ramp, uniform, level, out_index, out_level, kept,
                )  # fmt: skip
            if stop < end:
                coins[0] = fold(np.uint64(keys[row]), np.uint64(COINS))
                base = int(begin - offsets[row] if index is None else index[begin] // BLOCK * BLOCK)
                found, turns = candidates(coins[0], base, largest, ramp, heads, where, chosen)
                odds = np.float32(2.0**24) * np.float32(1 << turns)
                for i in range(found):
                    coordinate = chosen[np.uint64(i)]
                    y = _entry(index, value, begin, end, coordinate - base)
                    if y != np.float32(0.0):  # else there may be no room to write in vain
                        out_index[kept] = coordinate
                        out_level[kept] = -1 if y < np.float32(0.0) else 1
                        kept += np.uint64(np.float32(uniform24(coordinate, keys[row])) < _position(y, law) * odds)
            start = end
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def _round_short(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    value: NDArray[np.float32],
    scale: NDArray[np.float32],
    levels: int,
    keys: NDArray[np.uint64],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
    out_level: NDArray[np.int32],
) -> int:
    """Round rows as `round_to_levels` does, none of whose blocks has as many numbers as a thinned one."""
    kept = np.uint64(0)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        if scale[row] > np.float32(0.0):
            law = _law(scale[row], levels)
            for k in range(np.uint64(offsets[row]), np.uint64(offsets[row + 1])):
                coordinate = np.int64(index[k])
                found = _level(value[k], law, uniform24(coordinate, keys[row]))
                out_index[kept], out_level[kept] = coordinate, found
                kept += np.uint64(found != 0)
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def _round_strips(
    index: NDArray[np.int32] | None,
    value: NDArray[np.float32],
    first: int,
    start: int,
    stop: int,
    law: tuple[np.float32, np.float32, np.float32],
    word: np.uint64,
    ramp: NDArray[np.int32],
    uniform: NDArray[np.int32],
    level: NDArray[np.int32],
    out_index: NDArray[np.int32],
    out_level: NDArray[np.int32],
    kept: np.uint64,
) -> np.uint64:
    """Round the entries from `start` to `stop` of a row that begins at `first`; return the place behind what is kept.

    Where the level is not zero, u < t, and where few coordinates are drawn so, only they get a level. (Of those whose t
    underflows, some are drawn in vain; hence the check at the end.) Where many are, all get one, until few do.
    """
    bound, many = law[1] * np.float32(2.0**24), law[0] != np.float32(1.0)
    while start < stop:
        size = min(RUN if many else STRIP, stop - start)
        drawn = np.uint64(0)
        if not many and size == STRIP:
            if index is None:
                drawn = draws_below(value, start, bound, ramp, 0, start - first, word)
            else:
                drawn = draws_below(value, start, bound, index, start, 0, word)
            many = ones(drawn) > FEW
        if many or size < STRIP:
            size, before = min(RUN, stop - start), kept
            draw_entries(ramp, index, first, start, size, word, uniform)
            _round_run(value[start : start + size], law, uniform, level)
            kept = keep_entries(level, ramp, index, first, start, size, out_index, out_level, kept)
            many = int(kept - before) * STRIP > FEW * size or law[0] != np.float32(1.0)
            start += size
            continue
        while drawn != np.uint64(0):
            j = np.int64(trailing_zeros(drawn))
            drawn &= drawn - np.uint64(1)
            coordinate = np.int64(start - first + j if index is None else index[start + j])
            found = _level(value[start + j], law, uniform24(coordinate, word))
            out_index[kept], out_level[kept] = coordinate, found
            kept += np.uint64(found != 0)
        start += size
    return kept


@kernel
def _round_run(
    x: NDArray[np.float32],
    law: tuple[np.float32, np.float32, np.float32],
    uniform: NDArray[np.int32],
    level: NDArray[np.int32],
) -> None:
    """Write the levels of entries next to each other: alone, so that the compiler vectorises it."""
    for k in range(x.size):
        level[k] = _level(x[k], law, uniform[k])


@kernel
def _law(scale: np.float32, levels: int) -> tuple[np.float32, np.float32, np.float32]:
    """Return what makes t of |x|: two factors, of which the first keeps the second finite, and the largest t."""
    lift = _LIFT if scale < TINY else np.float32(1.0)
    most = np.float32(levels)
    factor = np.float32(np.float64(levels) / np.float64(scale * lift))
    if scale * lift * factor < most:
        factor = np.nextafter(factor, np.float32(np.inf))
    return lift, factor, most


@kernel
def _position(x: np.float32, law: tuple[np.float32, np.float32, np.float32]) -> np.float32:
    """Return t of x, as `round_to_levels` says."""
    return min(abs(x) * law[0] * law[1], law[2])


@kernel
def _level(x: np.float32, law: tuple[np.float32, np.float32, np.float32], uniform: np.int32) -> np.int32:
    """Return the signed level of x, as `round_to_levels` says."""
    t = _position(x, law)
    floor = np.int32(t)
    part = (t - np.float32(floor)) * np.float32(2.0**24)
    level = np.int32(floor + np.int32(np.float32(uniform) < part))
    return np.int32(-level if x < np.float32(0.0) else level)


@kernel
def _entry(
    index: NDArray[np.int32] | None, value: NDArray[np.float32], begin: int, end: int, inside: int
) -> np.float32:
    """Return what a block that lies from `begin` to `end` has at a coordinate inside it; 0 if it has no entry."""
    if index is None:
        place = begin + inside
        return value[np.uint64(place)] if place < end else np.float32(0.0)
    low, high = begin, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if index[middle] % BLOCK <= inside else (low, middle)
    return value[np.uint64(low)] if index[low] % BLOCK == inside else np.float32(0.0)


@kernel
def levels_to_values(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    level: NDArray[np.int32],
    scale: NDArray[np.float32],
    bucket: int,
    levels: int,
    out: NDArray[np.float32],
) -> None:
    """Write level * (scale / levels), computed in float64 and rounded once to float32.

    Every row has scale.size / rows scales, one for each `bucket` coordinates.
    """
    rows = offsets.size - 1
    for row in range(rows):
        scales = scale[row * (scale.size // rows) : (row + 1) * (scale.size // rows)]
        k, last = offsets[row], offsets[row + 1]
        end = 0
        unit = 0.0
        while k < last:
            if index[k] >= end:
                part = index[k] // bucket
                unit = np.float64(scales[part]) / np.float64(levels)
                end = (part + 1) * bucket
            while k < last and index[k] < end:
                out[k] = np.float32(np.float64(level[k]) * unit)
                k += 1
