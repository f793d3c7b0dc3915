"""Sparse messages as LEB128 numbers: seven bits a byte, low bits first, the high bit set while more follow.

Each non-zero is one number. A level message packs the gap to the previous coordinate, the level and the sign into it:
`((gap - 1) << width | (|level| - 1)) << 1 | sign`, where width is the bit length of levels - 1. A float message writes
`gap - 1` and then the float32. `docs/wire-format.md` is the specification.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel

FINE, SHORT_SCALE, TRUNCATED, OVERLONG, PAST_N, PAST_LEVELS, BAD_SCALE, NOT_FINITE, ZERO_SCALE = range(9)
"""What a decoder found: 0 for a good packet, else the reason for refusing it."""

_SCALE = 4  # bytes of a float32
_LONGEST = 10  # bytes of the longest LEB128 number of 64 bits


@kernel
def _put(data: NDArray[np.uint8], at: int, number: np.uint64) -> int:
    """Write one number and return the place behind it."""
    while number > np.uint64(127):
        data[at] = np.uint8(number & np.uint64(127)) | np.uint8(128)
        number >>= np.uint64(7)
        at += 1
    data[at] = np.uint8(number)
    return at + 1


@kernel
def _get(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int, np.uint64]:
    """Read one number before `end`: (reason, the place behind it, the number). Only the shortest form is accepted."""
    number = np.uint64(0)
    for size in range(_LONGEST):
        if at + size >= end:
            return TRUNCATED, at, number
        byte = np.uint64(data[at + size])
        if size == _LONGEST - 1 and byte > np.uint64(1):
            return OVERLONG, at, number
        number |= (byte & np.uint64(127)) << np.uint64(7 * size)
        if byte < np.uint64(128):
            if byte == np.uint64(0) and size > 0:
                return OVERLONG, at, number
            return FINE, at + size + 1, number
    return OVERLONG, at, number


@kernel
def _copy(source: NDArray[np.uint8], start: int, target: NDArray[np.uint8], at: int) -> None:
    for byte in range(_SCALE):
        target[at + byte] = source[start + byte]


@kernel
def encode_levels(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    level: NDArray[np.int32],
    scale: NDArray[np.float32],
    n: int,
    levels: int,
    width: int,
    out_offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
) -> int:
    """Write every row as a packet: its scale, then its non-zeros. Returns the bytes written.

    A message that is none (a level of 0 or above `levels`, coordinates that do not rise, or past n) gives
    -1 - row: nothing is written for it, since it would not fit the bytes reserved.
    """
    at = 0
    out_offsets[0] = 0
    scales = scale.view(np.uint8)
    for row in range(offsets.size - 1):
        _copy(scales, _SCALE * row, data, at)
        at += _SCALE
        previous = np.int64(-1)
        for k in range(offsets[row], offsets[row + 1]):
            if index[k] <= previous or index[k] >= n or level[k] == 0 or abs(np.int64(level[k])) > levels:
                return -1 - row
            gap = np.uint64(index[k] - previous - 1)
            previous = np.int64(index[k])
            size = np.uint64(abs(level[k]) - 1)
            sign = np.uint64(level[k] < 0)
            at = _put(data, at, ((gap << np.uint64(width) | size) << np.uint64(1)) | sign)
        out_offsets[row + 1] = at
    return at


@kernel
def encode_floats(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    value: NDArray[np.float32],
    n: int,
    out_offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
) -> int:
    """Write every row as a packet: for each non-zero its gap and its float32. Returns the bytes written.

    Coordinates that do not rise, or past n, give -1 - row.
    """
    at = 0
    out_offsets[0] = 0
    source = value.view(np.uint8)
    for row in range(offsets.size - 1):
        previous = np.int64(-1)
        for k in range(offsets[row], offsets[row + 1]):
            if index[k] <= previous or index[k] >= n:
                return -1 - row
            at = _put(data, at, np.uint64(index[k] - previous - 1))
            previous = np.int64(index[k])
            _copy(source, _SCALE * k, data, at)
            at += _SCALE
        out_offsets[row + 1] = at
    return at


@kernel
def count_levels(data: NDArray[np.uint8], offsets: NDArray[np.int64], out_offsets: NDArray[np.int64]) -> None:
    """Count the numbers that end in each packet behind its scale: the most non-zeros that it can hold."""
    total = 0
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        for at in range(offsets[row] + _SCALE, offsets[row + 1]):
            total += data[at] < 128
        out_offsets[row + 1] = total


@kernel
def decode_levels(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    n: int,
    levels: int,
    width: int,
    places: NDArray[np.int64],
    index: NDArray[np.int32],
    level: NDArray[np.int32],
    scale: NDArray[np.float32],
) -> tuple[int, int, int]:
    """Read packets into rows that start at `places` (from `count_levels`): (reason, row, byte in the packet)."""
    scales = scale.view(np.uint8)
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    for row in range(offsets.size - 1):
        first, end = offsets[row], offsets[row + 1]
        if end - first < _SCALE:
            return SHORT_SCALE, row, 0
        _copy(data, first, scales, _SCALE * row)
        if not np.isfinite(scale[row]) or scale[row] < 0:
            return BAD_SCALE, row, 0
        at = first + _SCALE
        if scale[row] == 0 and at < end:
            return ZERO_SCALE, row, 0
        previous = np.int64(-1)
        k = places[row]
        while at < end:
            start = at
            reason, at, number = _get(data, at, end)
            if reason != FINE:
                return reason, row, start - first
            sign = number & np.uint64(1)
            number >>= np.uint64(1)
            size = np.int64(number & mask) + 1
            gap = number >> np.uint64(width)
            if gap >= np.uint64(n - 1 - previous):
                return PAST_N, row, start - first
            if size > levels:
                return PAST_LEVELS, row, start - first
            previous += np.int64(gap) + 1
            index[k] = previous
            level[k] = -size if sign else size
            k += 1
    return FINE, 0, 0


@kernel
def decode_floats(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    n: int,
    out_offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    value: NDArray[np.float32],
) -> tuple[int, int, int]:
    """Read packets of gaps and floats, one row behind the other: (reason, row, byte in the packet)."""
    target = value.view(np.uint8)
    k = 0
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first, end = offsets[row], offsets[row + 1]
        at = first
        previous = np.int64(-1)
        while at < end:
            start = at
            reason, at, gap = _get(data, at, end)
            if reason != FINE:
                return reason, row, start - first
            if gap >= np.uint64(n - 1 - previous):
                return PAST_N, row, start - first
            if end - at < _SCALE:
                return TRUNCATED, row, at - first
            _copy(data, at, target, _SCALE * k)
            if not np.isfinite(value[k]):
                return NOT_FINITE, row, at - first
            at += _SCALE
            previous += np.int64(gap) + 1
            index[k] = previous
            k += 1
        out_offsets[row + 1] = k
    return FINE, 0, 0
