"""Quantizers of level kind: the norm of every row, then a random level for every coordinate.

A batch is `offsets` (rows + 1), `value` (float32), and `index` (the coordinates, rising inside a row) or None for dense
rows. The same vector gives the same bits dense and sparse: sums follow the coordinate, and so does the randomness.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import uniform24

LANES = 32
"""A norm is summed in 32 lanes, coordinate c in lane c % 32, and the lanes are then added in halves."""

TINY = np.float32(2.0**-60)
"""Rows whose norm is below this are first multiplied by 2^64 (exactly), so that levels / norm does not overflow."""

_BLOCK = 1024  # coordinates whose levels are held in the L1 cache between rounding and packing


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
            whole = entries.size - entries.size % LANES
            for first in range(0, whole, LANES):
                for lane in range(LANES):
                    x = np.float64(entries[first + lane])
                    lanes[lane] += x * x
            for lane in range(entries.size - whole):
                x = np.float64(entries[whole + lane])
                lanes[lane] += x * x
        else:
            coordinates = index[offsets[row] : offsets[row + 1]]
            for k in range(entries.size):
                x = np.float64(entries[k])
                lanes[coordinates[k] & (LANES - 1)] += x * x
        half = LANES // 2
        while half > 0:
            for lane in range(half):
                lanes[lane] += lanes[lane + half]
            half //= 2
        norms[row] = math.sqrt(lanes[0])
    return norms


@kernel
def max_norms(offsets: NDArray[np.int64], value: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the largest magnitude in every row (of its bit pattern: NaN counts as larger than infinity)."""
    norms = np.empty(offsets.size - 1, np.float64)
    largest = np.empty(1, np.int32)
    bits = value.view(np.int32)
    for row in range(norms.size):
        found = np.int32(0)
        for k in range(offsets[row], offsets[row + 1]):
            found = max(found, np.int32(bits[k] & np.int32(0x7FFFFFFF)))
        largest[0] = found
        norms[row] = largest.view(np.float32)[0]
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

    With t = min(|x| * f, levels) in float32, f = float32(levels / scale), the level is floor(t), plus one if
    u < t - floor(t), where u is a 24-bit uniform of (key, coordinate). Its mean is t to within 2^-24, exactly t for
    t >= 1/2, and t is |x| levels / scale to within a factor of 1 +- 2^-23.
    """
    kept = 0
    most = np.float32(levels)
    buffer = np.empty(_BLOCK, np.int32)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first, last = offsets[row], offsets[row + 1]
        if scale[row] > np.float32(0.0):
            lift = np.float32(2.0**64) if scale[row] < TINY else np.float32(1.0)
            factor = np.float32(np.float64(levels) / np.float64(scale[row] * lift))
            low = np.int64(keys[row] & np.uint64(0xFFFFFFFF))
            high = np.int64(keys[row] >> np.uint64(32))
            for start in range(first, last, _BLOCK):
                size = min(_BLOCK, last - start)
                for k in range(size):
                    x = value[start + k]
                    t = min(abs(x) * lift * factor, most)
                    floor = np.int32(t)
                    part = (t - np.float32(floor)) * np.float32(2.0**24)
                    coordinate = start - first + k if index is None else index[start + k]
                    up = np.float32(uniform24(coordinate, low, high)) < part
                    level = np.int32(floor + np.int32(up))
                    buffer[k] = -level if x < np.float32(0.0) else level
                for k in range(size):
                    out_index[kept] = start - first + k if index is None else index[start + k]
                    out_level[kept] = buffer[k]
                    kept += buffer[k] != 0
        out_offsets[row + 1] = kept
    return kept


@kernel
def levels_to_values(
    offsets: NDArray[np.int64],
    level: NDArray[np.int32],
    scale: NDArray[np.float32],
    levels: int,
    out: NDArray[np.float32],
) -> None:
    """Write level * (scale / levels), computed in float64 and rounded once to float32."""
    for row in range(offsets.size - 1):
        unit = np.float64(scale[row]) / np.float64(levels)
        for k in range(offsets[row], offsets[row + 1]):
            out[k] = np.float32(np.float64(level[k]) * unit)
