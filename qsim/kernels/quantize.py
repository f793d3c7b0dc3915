"""Quantizers of level kind: the norm of every row, then a random level for every coordinate.

A batch is `offsets` (rows + 1), `value` (float32), and `index` (the coordinates, rising inside a row) or None for dense
rows. The same vector gives the same bits dense and sparse: sums follow the coordinate, and so does the randomness.

How fast: a vector must be read twice, for the norm and for the levels. The norm runs as fast as `np.dot` reads. Most
levels are zero, and a coordinate is not zero just when its random number is below |x| levels / scale; so rounding is
that one comparison, 64 at a time, and levels are made only where it holds. The hash, about 13 of
its 20 vector instructions for 8 coordinates, is what keeps it from the limit, which is reading.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import uniform24
from qsim.kernels.lanes import LANES, STRIP, add_squares, draws_below, max_bits
from qsim.kernels.words import ones, trailing_zeros

TINY = np.float32(2.0**-60)
"""Rows whose norm is below this are first multiplied by 2^64 (exactly), so that levels / norm does not overflow."""

_LIFT = np.float32(2.0**64)
_FEW = 6  # up to so many levels of a strip are cheaper one by one


@kernel
def l2_norms(
    offsets: NDArray[np.int64], index: NDArray[np.int32] | None, value: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the l2 norm of every row. Squares of float32 are exact in float64, so only the sums round."""
    norms = np.empty(offsets.size - 1, np.float64)
    lanes = np.empty(LANES, np.float64)
    for row in range(norms.size):
        lanes[:] = 0.0
        entries = value[offsets[row] : offsets[row + 1]]
        if index is None:
            added = add_squares(entries, lanes)
            for k in range(added, entries.size):
                lanes[k - added] += np.float64(entries[k]) ** 2
        else:
            coordinates = index[offsets[row] : offsets[row + 1]]
            for k in range(entries.size):
                lanes[coordinates[k] & (LANES - 1)] += np.float64(entries[k]) ** 2
        half = LANES // 2
        while half > 0:
            for lane in range(half):
                lanes[lane] += lanes[lane + half]
            half //= 2
        norms[row] = math.sqrt(lanes[0])
    return norms


@kernel
def rounded_up(norms: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the norms as float32, rounded up (to infinity beyond its range); NaN stays."""
    scale = np.empty(norms.size, np.float32)
    bits = scale.view(np.int32)
    for row in range(norms.size):
        scale[row] = norms[row]
        if np.float64(scale[row]) < norms[row]:
            bits[row] += 1  # the next float32
    return scale


@kernel
def max_norms(offsets: NDArray[np.int64], value: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the largest magnitude in every row (of its bit pattern: NaN counts as larger than infinity)."""
    norms = np.empty(offsets.size - 1, np.float64)
    lanes = np.empty(LANES, np.int32)
    for row in range(norms.size):
        lanes[:] = 0
        entries = value[offsets[row] : offsets[row + 1]].view(np.int32)
        for k in range(max_bits(entries, lanes), entries.size):
            lanes[0] = max(lanes[0], entries[k] & 0x7FFFFFFF)
        lanes[0] = lanes.max()
        norms[row] = lanes.view(np.float32)[0]
    return norms


@kernel
def round_to_levels(
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

    Where the level is not zero, u < t, and few coordinates are drawn so. (Of those whose t underflows, some are drawn
    in vain; hence the check at the end.)
    """
    kept = np.uint64(0)  # unsigned: Numba need not ask whether it counts from the end
    ramp, strip = np.arange(STRIP).astype(np.int32), np.empty(STRIP, np.int32)
    spare_x, spare_coordinates = np.empty(STRIP, np.float32), np.empty(STRIP, np.int64)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        if scale[row] > np.float32(0.0):
            lift = _LIFT if scale[row] < TINY else np.float32(1.0)
            most = np.float32(levels)
            factor = np.float32(np.float64(levels) / np.float64(scale[row] * lift))
            if scale[row] * lift * factor < most:
                factor = np.nextafter(factor, np.float32(np.inf))
            bound = factor * np.float32(2.0**24)
            word = keys[row]
            first, last = offsets[row], offsets[row + 1]
            for start in range(first, last, STRIP):
                size = min(STRIP, last - start)
                base = np.int64(start - first if index is None else 0)
                if size < STRIP or lift != np.float32(1.0):
                    spare_x[size:] = 0.0
                    for k in range(size):
                        spare_x[k] = value[start + k] * lift
                        spare_coordinates[k] = k if index is None else index[start + k]
                    drawn = draws_below(spare_x, 0, bound, spare_coordinates, 0, base, word)
                elif index is None:
                    drawn = draws_below(value, start, bound, ramp, 0, base, word)
                else:
                    drawn = draws_below(value, start, bound, index, start, base, word)
                many = ones(drawn) > _FEW
                if many:
                    for k in range(size):
                        coordinate = np.int64(base + k if index is None else index[start + k])
                        strip[k] = _level(value[start + k], lift, factor, most, uniform24(coordinate, word))
                while drawn != np.uint64(0):
                    j = np.int64(trailing_zeros(drawn))
                    drawn &= drawn - np.uint64(1)
                    coordinate = np.int64(base + j if index is None else index[start + j])
                    if not many:
                        strip[j] = _level(value[start + j], lift, factor, most, uniform24(coordinate, word))
                    out_index[kept] = coordinate
                    out_level[kept] = strip[j]
                    kept += np.uint64(strip[j] != 0)
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def _level(x: np.float32, lift: np.float32, factor: np.float32, most: np.float32, uniform: np.int32) -> np.int32:
    """Return the signed level of x, as `round_to_levels` says."""
    t = min(abs(x) * lift * factor, most)
    floor = np.int32(t)
    part = (t - np.float32(floor)) * np.float32(2.0**24)
    level = np.int32(floor + np.int32(np.float32(uniform) < part))
    return np.int32(-level if x < np.float32(0.0) else level)


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
