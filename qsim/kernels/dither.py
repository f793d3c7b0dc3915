"""Subtractive dither: the same random number is added before rounding and subtracted after it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import ones, trailing_zeros
from qsim.kernels.hashing import uniform24
from qsim.kernels.simd import STRIP, mirrored_draws_below
from qsim.kernels.tiles import FEW, RUN, draw_entries, keep_entries, strip_ramp

_ABOVE = 2.0**24 * (1 + 2.0**-20)  # what float32 rounds is not to be missed
_HALF_STEP = 2.0**-25  # the dither is (2 uniform24 + 1) _HALF_STEP - 1/2: symmetric around 0, never 0


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
    """Round x (levels / scale) + u to the nearest whole level, u the dither of (key, coordinate).

    It is the floor of x (levels / scale) + (u + 1/2), in float64. That is not zero just where u + 1/2 is within
    |x| levels / scale of the end of [0, 1] that x points to; where few are (tested with a little more), only they get a
    level, as in `quantize`.

    Returns how many levels are not zero. That of x = 0 is always zero, and none is above `levels`, since |u| < 1/2 by
    more than float64 errs.
    """
    kept = np.uint64(0)
    level, uniform = np.empty(RUN, np.int32), np.empty(RUN, np.int32)
    ramp = strip_ramp()
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        factor = np.float64(levels) / np.float64(scale[row]) if scale[row] > np.float32(0.0) else 0.0
        bound, word, many = np.float32(factor * _ABOVE), keys[row], False
        start, last = offsets[row], offsets[row + 1]
        while start < last and factor > 0.0:
            base, hits = start - offsets[row], np.uint64(0)
            if not many and last - start >= STRIP:
                if index is None:
                    hits = mirrored_draws_below(value, start, bound, ramp, 0, base, word)
                else:
                    hits = mirrored_draws_below(value, start, bound, index, start, 0, word)
                many = bool(ones(hits) > FEW)
            if many or last - start < STRIP:
                size, before = min(RUN, last - start), kept
                draw_entries(ramp, index, offsets[row], start, size, word, uniform)
                _round_run(value[start : start + size], factor, uniform, level)
                kept = keep_entries(level, ramp, index, offsets[row], start, size, out_index, out_level, kept)
                many = int(kept - before) * STRIP > FEW * size
                start += size
                continue
            while hits != np.uint64(0):
                j = np.int64(trailing_zeros(hits))
                hits &= hits - np.uint64(1)
                coordinate = np.int64(base + j if index is None else index[start + j])
                found = _level(value[start + j], factor, uniform24(coordinate, word))
                out_index[kept], out_level[kept] = coordinate, found
                kept += np.uint64(found != 0)
            start += STRIP
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def _round_run(x: NDArray[np.float32], factor: float, uniform: NDArray[np.int32], level: NDArray[np.int32]) -> None:
    for k in range(x.size):
        level[k] = _level(x[k], factor, uniform[k])


@kernel
def _level(x: np.float32, factor: float, uniform: np.int32) -> np.int32:
    """Return the level of x, as `round_with_dither` says."""
    return np.int32(np.floor(np.float64(x) * factor + np.float64(np.int32(2 * uniform + 1)) * _HALF_STEP))


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
    uniform = np.empty(RUN, np.int32)
    ramp = strip_ramp()
    for row in range(offsets.size - 1):
        unit = np.float64(scale[row]) / np.float64(levels)
        for k in range(offsets[row], offsets[row + 1]):
            out[row * n + np.int64(index[k])] = level[k]  # exact: levels are at most 2^23
        if scale[row] != np.float32(0.0):
            for start in range(0, n, RUN):
                size = min(RUN, n - start)
                draw_entries(ramp, None, 0, start, size, keys[row], uniform)
                y = out[row * n + start : row * n + start + size]
                for k in range(size):
                    dither = np.float64(np.int32(2 * uniform[k] + 1)) * _HALF_STEP - 0.5
                    y[k] = np.float32((np.float64(y[k]) - dither) * unit)
