"""Quantizers to powers of two, and the values of levels that are looked up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import MAGNITUDE
from qsim.kernels.tiles import RUN, draw_entries, keep_entries, strip_ramp


@kernel
def round_to_exponents(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32] | None,
    value: NDArray[np.float32],
    keys: NDArray[np.uint64],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
    out_level: NDArray[np.int32],
) -> tuple[int, np.float32]:
    """Round |x| up or down at random to a power of two; the level is the sign times float32's biased exponent.

    The upper 23 bits of the 24 random ones, added to the bits of |x|, carry into the exponent with probability
    mantissa / 2^23: just what makes the mean |x|, also below the normal range (there 0 or 2^-126, level 1).
    Returns how many levels are not zero, and the largest |x|, which must be at most 2^127 (NaN counts as largest).
    """
    kept = np.uint64(0)
    bits = value.view(np.int32)
    level, uniform, largest = np.empty(RUN, np.int32), np.empty(RUN, np.int32), np.int32(0)
    ramp = strip_ramp()
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first, last = offsets[row], offsets[row + 1]
        for start in range(first, last, RUN):
            size = min(RUN, last - start)
            draw_entries(ramp, index, first, start, size, keys[row], uniform)
            word = bits[start : start + size]
            for k in range(size):
                magnitude = np.int32(word[k] & MAGNITUDE)
                largest = max(largest, magnitude)
                up = np.int32(np.int32(magnitude + np.int32(uniform[k] >> np.int32(1))) >> np.int32(23))
                level[k] = np.int32(-up if word[k] < 0 else up)
            kept = keep_entries(level, ramp, index, first, start, size, out_index, out_level, kept)
        out_offsets[row + 1] = kept
    return int(kept), np.int32(largest).view(np.float32)


@kernel
def round_to_powers(
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
    """Round |x| / scale up or down at random to 0, 2^(1 - levels), ..., 1/2 or 1, which are level 0, 1, ..., levels.

    With t = float32(min(|x| * (2^(levels - 1) / scale), 2^(levels - 1))), computed in float64, and u a 24-bit uniform
    of (key, coordinate): below 1 the level is 1 if u < t 2^24; above, the upper 23 bits of u are added to the bits of t
    and the level is the exponent, as in `round_to_exponents`. Returns how many levels are not zero.
    """
    kept = np.uint64(0)
    most = 2.0 ** (levels - 1)
    position = np.empty(RUN, np.float32)
    bits = position.view(np.int32)
    level, uniform = np.empty(RUN, np.int32), np.empty(RUN, np.int32)
    ramp = strip_ramp()
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        if scale[row] > np.float32(0.0):
            factor = most / np.float64(scale[row])
            first, last = offsets[row], offsets[row + 1]
            for start in range(first, last, RUN):
                size = min(RUN, last - start)
                draw_entries(ramp, index, first, start, size, keys[row], uniform)
                x = value[start : start + size]
                for k in range(size):
                    position[k] = np.float32(min(abs(np.float64(x[k])) * factor, most))
                for k in range(size):
                    one = np.int32(np.float32(uniform[k]) < position[k] * np.float32(2.0**24))
                    total = np.int32(bits[k] + np.int32(uniform[k] >> np.int32(1)))
                    power = np.int32(np.int32(total >> np.int32(23)) - np.int32(126))
                    up = power if position[k] >= np.float32(1.0) else one
                    level[k] = np.int32(-up if x[k] < np.float32(0.0) else up)
                kept = keep_entries(level, ramp, index, first, start, size, out_index, out_level, kept)
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def look_up(
    offsets: NDArray[np.int64],
    level: NDArray[np.int32],
    scale: NDArray[np.float32],
    table: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Write scale * table[level + s], computed in float64 and rounded once to float32; the table has 2 s + 1."""
    s = np.int64(table.size) // 2
    for row in range(offsets.size - 1):
        unit = np.float64(scale[row])
        for k in range(offsets[row], offsets[row + 1]):
            out[k] = np.float32(table[np.uint64(np.int64(level[k]) + s)] * unit)
