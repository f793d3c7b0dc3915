"""Every coordinate in a field of the same width: the level + s, in as many bits as 2s has.

A row that has a level at every coordinate needs no field for zero: where that makes it shorter, positive levels move
down by one, and a field has as many bits as 2s - 1. Fields fill bytes from the highest bit down; the last byte is
filled with zeros. `docs/wire-format.md` is the specification.

How fast: rows go by blocks of 1024 coordinates. Where a block has many entries they are scattered over it, and its
fields are put together a group at a time, as many as fit 56 bits; where it has few, a block of zeros is copied and the
entries are set in the bytes. A decoder compares a group with one of zeros, and takes it apart without a branch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import bit_length, load, put, store, window
from qsim.kernels.decode_status import EMPTY, FINE, NO_ZERO, PAST_LEVELS, TRUNCATED, UNFILLED

BLOCK = 1024
FEW = np.uint64(64)  # this many entries of a block are cheaper to set one by one
GROUPS = (8, 4, 2, 1)
"""How many fields go into a word at once."""

_ONE, _7, _64 = np.uint64(1), np.uint64(7), np.uint64(64)


def group_of(width: int) -> int:
    """Return how many fields of a width go into a word at once: 56 bits fit it behind up to seven others."""
    return next(group for group in GROUPS if group * width <= 56)


@inlined
def _is_row(
    index: NDArray[np.int32], words: NDArray[np.int32], first: np.uint64, last: np.uint64, n: int, s: int
) -> bool:
    """Tell whether the entries of a row are `is_entry`, without a branch an entry."""
    if first == last:
        return True
    wrong = np.int64(
        index[first] < 0 or index[last - _ONE] >= n or words[first] == 0 or abs(np.int64(words[first])) > s
    )
    for k in range(first + _ONE, last):
        word = np.int64(words[k])
        wrong |= np.int64(index[k] <= index[k - _ONE]) | np.int64(word == 0) | np.int64(abs(word) > s)
    return bool(wrong == 0)


@inlined
def put_rest(data: NDArray[np.uint8], at: np.uint64, bits: np.uint64, held: np.uint64) -> np.uint64:
    """Write the held bits as a byte filled with zeros; return the place behind it."""
    if held == np.uint64(0):
        return at
    data[at] = np.uint8(bits >> np.uint64(56))
    return at + _ONE


@inlined
def is_filled(data: NDArray[np.uint8], at: np.uint64, end: np.uint64) -> bool:
    """Tell whether fewer than eight bits are left before bit `end`, and all are zeros."""
    return bool(at <= end < at + np.uint64(8) and window(data, at) >> _ONE >> (np.uint64(63) - (end - at)) == 0)


@inlined
def length_of(n: np.uint64, width: np.uint64) -> np.uint64:
    """Return the bytes of n fields."""
    return (n * width + _7) >> np.uint64(3)


@inlined
def _is_short(entries: np.uint64, n: int, s: int) -> bool:
    """Tell whether a row is written without a field for zero: it has n entries, and that makes it shorter."""
    length = np.uint64(n)
    return bool(entries == length and length_of(length, bit_length(2 * s - 1)) < length_of(length, bit_length(2 * s)))


@inlined
def _pack(group: int, fields: NDArray[np.uint32], size: int, width: np.uint64, data: Any, at: np.uint64) -> np.uint64:
    """Write fields from byte `at` on; return the place behind them."""
    bits, held = np.uint64(0), np.uint64(0)
    whole = np.uint64(size - size % group)
    for j in range(np.uint64(0), whole, np.uint64(group)):
        word = np.uint64(0)
        for i in range(np.uint64(group)):
            word = word << width | np.uint64(fields[j + i])
        at, bits, held = put(data, at, bits, held, word, np.uint64(group) * width)
    for j in range(whole, np.uint64(size)):
        at, bits, held = put(data, at, bits, held, np.uint64(fields[j]), width)
    return put_rest(data, at, bits, held)


@inlined
def _pack_short(
    words: NDArray[np.int32], k: np.uint64, last: np.uint64, s: int, data: NDArray[np.uint8], at: np.uint64
) -> np.uint64:
    """Write levels of which none is zero from byte `at` on; return the place behind them."""
    width = bit_length(2 * s - 1)
    bits, held = np.uint64(0), np.uint64(0)
    for j in range(k, last):
        word = np.int64(words[j])
        at, bits, held = put(data, at, bits, held, np.uint64(word + s - np.int64(word > 0)), width)
    return put_rest(data, at, bits, held)


@inlined
def _take_short(
    data: NDArray[np.uint8],
    at: np.uint64,
    n: np.uint64,
    s: int,
    k: np.uint64,
    index: NDArray[np.int32],
    words: NDArray[np.int32],
) -> np.uint64:
    """Read n levels of which none is zero from bit `at` on; return the bit behind them. All fields are levels."""
    width = bit_length(2 * s - 1)
    for i in range(n):
        word = np.int64(window(data, at) >> (_64 - width)) - s
        index[k + i] = i
        words[k + i] = word + np.int64(word >= 0)
        at += width
    return at


@inlined
def _replace(data: NDArray[np.uint8], at: np.uint64, field: np.uint64, width: np.uint64) -> None:
    """Change the field at bit `at` by exclusive or."""
    byte = at >> np.uint64(3)
    store(data, byte, load(data, byte) ^ field << (_64 - width) >> (at & _7))


@inlined
def _take(
    group: int,
    fields: np.uint64,
    i: np.uint64,
    width: np.uint64,
    s: np.uint64,
    k: np.uint64,
    index: NDArray[np.int32],
    words: NDArray[np.int32],
) -> tuple[np.uint64, np.uint64]:
    """Write the entries of a group whose fields, each exclusive-or s, are given: (entries so far, the largest field).

    What is no entry is written too, and then written over.
    """
    largest = np.uint64(0)
    mask = (_ONE << width) - _ONE
    for j in range(np.uint64(group)):
        changed = fields >> (np.uint64(group) - _ONE - j) * width & mask
        field = changed ^ s
        index[k] = i + j
        words[k] = np.int64(field) - np.int64(s)
        k += np.uint64(changed != np.uint64(0))
        largest = max(largest, field)
    return k, largest


def _kernels(group: int) -> tuple[Any, Any, Any]:
    """Make the kernels for widths of which so many fields go into a word at once."""

    @kernel
    def encode(
        offsets: NDArray[np.int64],
        index: NDArray[np.int32],
        words: NDArray[np.int32],
        n: int,
        s: int,
        skip: int,
        out_offsets: NDArray[np.int64],
        data: NDArray[np.uint8],
    ) -> int:
        """Write every row as a packet behind `skip` free bytes.

        Returns the bytes used, or -1 - row for a row that is no message.
        """
        width = bit_length(2 * s)
        fields = np.empty(BLOCK, np.uint32)
        zeros = np.empty(BLOCK * 4 + 8, np.uint8)
        fields[:] = s
        _pack(group, fields, BLOCK, width, zeros, np.uint64(0))
        at = np.uint64(0)
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            at += np.uint64(skip)
            k, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            if not _is_row(index, words, k, last, n, s):
                return -1 - row
            if _is_short(last - k, n, s):
                at = _pack_short(words, k, last, s, data, at)
                k = last
            for base in range(0, n if k < last else 0, BLOCK):
                limit, size = base + BLOCK, min(BLOCK, n - base)
                bits = np.uint64(size) * width
                end = at + ((bits + _7) >> np.uint64(3))
                if k + FEW < last and index[k + FEW] < limit:
                    fields[:] = s
                    while k < last and index[k] < limit:
                        fields[np.uint64(index[k] - base)] = words[k] + s
                        k += _ONE
                    _pack(group, fields, size, width, data, at)
                else:
                    data[at:end] = zeros[: end - at]
                    while k < last and index[k] < limit:
                        place = (at << np.uint64(3)) + np.uint64(index[k] - base) * width
                        _replace(data, place, np.uint64(words[k] + s) ^ np.uint64(s), width)
                        k += _ONE
                    data[end - _ONE] &= np.uint8(np.uint64(255) << (-bits & _7) & np.uint64(255))
                at = end
            out_offsets[row + 1] = at
        return int(np.int64(at))

    @kernel
    def decode(
        data: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        skip: int,
        n: int,
        s: int,
        out_offsets: NDArray[np.int64],
        index: NDArray[np.int32],
        words: NDArray[np.int32],
    ) -> tuple[int, int, int]:
        """Read the packets' entries, one row behind the other: (reason, row, byte of the packet)."""
        width, level_0, most = bit_length(2 * s), np.uint64(s), np.uint64(2 * s)
        zeros = np.uint64(0)
        for _ in range(group):
            zeros = zeros << width | level_0
        length, short = length_of(np.uint64(n), width), length_of(np.uint64(n), bit_length(2 * s - 1))
        length_n, whole = np.uint64(n), np.uint64(n - n % group)
        k = np.uint64(0)
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            first, before = np.uint64(offsets[row] + skip), k
            end = np.uint64(offsets[row + 1])
            if first < end and end - first == short < length:
                at = _take_short(data, first << np.uint64(3), length_n, s, k, index, words)
                k += length_n
                if not is_filled(data, at, end << np.uint64(3)):
                    return UNFILLED, row, int(offsets[row + 1] - offsets[row]) - 1
            elif first < end:
                if end - first != length:
                    return TRUNCATED if end - first < length else UNFILLED, row, int(offsets[row + 1] - offsets[row])
                at = first << np.uint64(3)
                for i in range(np.uint64(0), whole, np.uint64(group)):
                    fields = (window(data, at) >> (_64 - np.uint64(group) * width)) ^ zeros
                    if fields != np.uint64(0):
                        k, largest = _take(group, fields, np.uint64(i), width, level_0, k, index, words)
                        if largest > most:
                            return PAST_LEVELS, row, int(np.int64(at >> np.uint64(3)) - offsets[row])
                    at += np.uint64(group) * width
                for i in range(whole, length_n):
                    fields = window(data, at) >> (_64 - width) ^ level_0
                    k, largest = _take(1, fields, np.uint64(i), width, level_0, k, index, words)
                    if largest > most:
                        return PAST_LEVELS, row, int(np.int64(at >> np.uint64(3)) - offsets[row])
                    at += width
                if not is_filled(data, at, end << np.uint64(3)):
                    return UNFILLED, row, int(offsets[row + 1] - offsets[row]) - 1
                if k == before:
                    return EMPTY, row, skip
                if k - before == length_n and short < length:
                    return NO_ZERO, row, skip
            out_offsets[row + 1] = k
        return FINE, 0, 0

    return encode, sizes, decode


@kernel
def sizes(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    words: NDArray[np.int32],
    n: int,
    s: int,
    out: NDArray[np.int64],
) -> None:
    """Write the bytes that `encode` takes for every row, without `skip`; -1 for a row that is no message."""
    length, short = length_of(np.uint64(n), bit_length(2 * s)), length_of(np.uint64(n), bit_length(2 * s - 1))
    for row in range(out.size):
        first, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
        good = _is_row(index, words, first, last, n, s)
        used = np.int64(short if _is_short(last - first, n, s) else length)
        out[row] = -1 if not good else used if first < last else 0


KERNELS = {group: _kernels(group) for group in GROUPS}
"""The kernels (encode, sizes, decode) for each group."""
