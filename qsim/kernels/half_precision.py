"""Numbers of 16 bits: float16 and bfloat16, nearest and at random.

Both are float32 with a shorter mantissa: of its 23 bits, float16 keeps 10 and bfloat16 keeps 7. float16 has a smaller
range too: its numbers below 2^-14 are multiples of 2^-24. bfloat16 has the range of float32.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import MAGNITUDE
from qsim.kernels.tiles import RUN, draw_entries, strip_ramp


@kernel
def round_at_random(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.float32],
    keys: NDArray[np.uint64],
    dropped: int,
    least: np.float32,
    out: NDArray[np.float32],
) -> np.float32:
    """Write every x with the lowest 13 or 16 bits of its mantissa rounded up or down at random, so that the mean is x.

    As many random bits, the upper of 24, are added to the bits of x, and the sum is cut. Below `least` the result is
    one of the two multiples of 2^-24 beside x: with t = |x| 2^24 it is floor(t) + 1 of them if u < t - floor(t), u a
    24-bit uniform. Returns the largest magnitude (NaN counts as largest).
    """
    bits, out_bits, largest = value.view(np.int32), out.view(np.int32), np.int32(0)
    keep, uniform = np.int32(-(1 << dropped)), np.empty(RUN, np.int32)
    ramp = strip_ramp()
    for row in range(offsets.size - 1):
        first, last = offsets[row], offsets[row + 1]
        for start in range(first, last, RUN):
            size = min(RUN, last - start)
            draw_entries(ramp, index, first, start, size, keys[row], uniform)
            x, y = value[start : start + size], out[start : start + size]
            word, cut = bits[start : start + size], out_bits[start : start + size]
            for k in range(size):
                noise = np.int32(uniform[k] >> 11 if dropped == 13 else uniform[k] >> 8)
                cut[k] = np.int32(np.int32(word[k] + noise) & keep)
                largest = max(largest, np.int32(word[k] & MAGNITUDE))
            if least > np.float32(0.0):
                for k in range(size):
                    t = abs(x[k]) * np.float32(2.0**24)
                    part = (t - np.floor(t)) * np.float32(2.0**24)
                    up = np.floor(t) + np.float32(np.float32(uniform[k]) < part)
                    low = np.float32(math.copysign(up * np.float32(2.0**-24), x[k]))
                    y[k] = low if abs(x[k]) < least else y[k]
    return np.int32(largest).view(np.float32)


@kernel
def round_to_nearest(
    value: NDArray[np.float32], dropped: int, least: np.float32, out: NDArray[np.float32]
) -> np.float32:
    """Write every x with the lowest `dropped` bits of its mantissa rounded to nearest, ties to even.

    Below `least` the result is the nearest multiple of 2^-24: such numbers are the float32 between 1/2 and 1. Returns
    the largest magnitude (NaN counts as largest).
    """
    bits, out_bits, largest = value.view(np.int32), out.view(np.int32), np.int32(0)
    keep, unit, half = np.int32(-(1 << dropped)), np.int32(1 << dropped), np.int32((1 << (dropped - 1)) - 1)
    for k in range(out.size):
        odd = np.int32(np.int32(bits[k] & unit) != np.int32(0))
        out_bits[k] = np.int32(np.int32(bits[k] + np.int32(half + odd)) & keep)
        largest = max(largest, np.int32(bits[k] & MAGNITUDE))
    if least > np.float32(0.0):
        for k in range(out.size):
            x = value[k]
            low = np.float32(math.copysign((abs(x) + np.float32(0.5)) - np.float32(0.5), x))
            out[k] = low if abs(x) < least else out[k]
    return np.int32(largest).view(np.float32)


@kernel
def to_bfloat16(value: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper halves of the bits of float32 numbers, rounded to nearest, ties to even."""
    out = np.empty(value.size, np.uint16)
    bits = value.view(np.uint32)
    for k in range(out.size):
        out[k] = (np.uint64(bits[k]) + np.uint64(0x7FFF) + (np.uint64(bits[k] >> 16) & np.uint64(1))) >> np.uint64(16)
    return out


@kernel
def from_bfloat16(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the float32 numbers whose upper halves are given; the lower ones are zero."""
    bits = np.empty(halves.size, np.uint32)
    for k in range(bits.size):
        bits[k] = np.uint32(halves[k]) << 16
    return bits.view(np.float32)
