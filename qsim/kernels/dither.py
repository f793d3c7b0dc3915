"""Subtractive dither: the same random number is added before rounding and subtracted after it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.lanes import STRIP
from qsim.kernels.strips import draw_strip, keep_strip

_BIT = 2.0**-24
_LEAST = -0.5 + 2.0**-25  # the dither is _LEAST + uniform24 * _BIT: symmetric around 0, never 0


@kernel
def round_with_dither(
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
    """Round x (levels / scale) + u to the nearest whole level, u the dither of (key, coordinate), in float64.

    Returns how many levels are not zero. That of x = 0 is always zero, and none is above `levels`, since |u| < 1/2 by
    more than float64 errs.
    """
    kept = np.uint64(0)
    level, uniform = np.empty(STRIP, np.int32), np.empty(STRIP, np.int32)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        if scale[row] > np.float32(0.0):
            factor = np.float64(levels) / np.float64(scale[row])
            first, last = offsets[row], offsets[row + 1]
            for start in range(first, last, STRIP):
                size = min(STRIP, last - start)
                draw_strip(index, first, start, size, keys[row], uniform)
                x = value[start : start + size]
                for k in range(size):
                    dither = _LEAST + np.float64(uniform[k]) * _BIT
                    level[k] = np.int32(np.floor(np.float64(x[k]) * factor + dither + 0.5))
                kept = keep_strip(level, index, first, start, size, out_index, out_level, kept)
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def subtract_dither(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    level: NDArray[np.int32],
    scale: NDArray[np.float32],
    levels: int,
    keys: NDArray[np.uint64],
    n: int,
    out: NDArray[np.float32],
) -> None:
    """Write (level - u) (scale / levels) at all n coordinates of every row, rounded once to float32; `out` is zeros."""
    uniform = np.empty(STRIP, np.int32)
    for row in range(offsets.size - 1):
        unit = np.float64(scale[row]) / np.float64(levels)
        for k in range(offsets[row], offsets[row + 1]):
            out[row * n + np.int64(index[k])] = level[k]  # exact: levels are at most 2^23
        if scale[row] != np.float32(0.0):
            for start in range(0, n, STRIP):
                size = min(STRIP, n - start)
                draw_strip(None, 0, start, size, keys[row], uniform)
                y = out[row * n + start : row * n + start + size]
                for k in range(size):
                    dither = _LEAST + np.float64(uniform[k]) * _BIT
                    y[k] = np.float32((np.float64(y[k]) - dither) * unit)
