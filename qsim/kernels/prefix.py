"""The floats that packets begin with: taken from packets, put into them, and checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel

RIGHT, BAD_SCALE, ZERO_SCALE, BAD_MEAN = range(4)
"""What is wrong with the floats of a row."""


@kernel
def first_short(offsets: NDArray[np.int64], size: int) -> int:
    """Return the first packet of fewer bytes, or -1."""
    for row in range(offsets.size - 1):
        if offsets[row + 1] - offsets[row] < size:
            return row
    return -1


@kernel
def take_prefixes(data: NDArray[np.uint8], offsets: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """Copy the first bytes of every packet, as many as a row of `out` has."""
    for row in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[row, k] = data[offsets[row] + k]


@kernel
def put_prefixes(prefixes: NDArray[np.uint8], offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
    """Copy the rows to the places where the packets begin."""
    for row in range(prefixes.shape[0]):
        for k in range(prefixes.shape[1]):
            data[offsets[row] + k] = prefixes[row, k]


@kernel
def wrong_prefix(
    prefix: NDArray[np.float32], offsets: NDArray[np.int64], index: NDArray[np.int32], levels: bool, bucket: int
) -> tuple[int, int]:
    """Return the first row whose floats cannot be, and what is wrong; (-1, RIGHT) if all are right.

    Scales (`levels`) are finite, not negative, and zero only where no level is of them: a scale is that of `bucket`
    coordinates. Means are finite.
    """
    for row in range(prefix.shape[0]):
        zero = False
        for k in range(prefix.shape[1]):
            x = prefix[row, k]
            if levels and (not np.isfinite(x) or np.signbit(x)):
                return row, BAD_SCALE
            if not np.isfinite(x):
                return row, BAD_MEAN
            zero |= levels and x == np.float32(0.0)
        if zero:
            for k in range(offsets[row], offsets[row + 1]):
                place = index[k] // bucket
                if 0 <= place < prefix.shape[1] and prefix[row, place] == np.float32(0.0):
                    return row, ZERO_SCALE
    return -1, RIGHT
