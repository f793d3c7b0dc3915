"""A map with a bit for every coordinate, then the fields of the entries, all of one width.

The field of a level is its sign and |level| - 1 in as many bits as s - 1 has, that of a sign its bit, and that of a
float its 32 bits. Map and fields both fill bytes from the highest bit down, the last byte of each with zeros.
`docs/wire-format.md` is the specification.

How fast: the map is built a word at a time, and read by counting the zeros before the next set bit. Fields go a group
at a time, as many as fit 56 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import bit_length, is_entry, leading_zeros, load, ones, put, store, window
from qsim.kernels.decode_status import (
    EMPTY,
    FINE,
    FLOATS,
    LEVELS,
    NOT_FINITE,
    PAST_LEVELS,
    SIGNS,
    TRUNCATED,
    UNFILLED,
    ZERO,
)
from qsim.kernels.packing import GROUPS, is_filled, put_rest

_ONE, _7, _63, _64 = np.uint64(1), np.uint64(7), np.uint64(63), np.uint64(64)


@inlined
def _width(s: int, payload: int) -> np.uint64:
    """Return how many bits the field of an entry has."""
    return np.uint64(32) if payload == FLOATS else _ONE + bit_length(s - 1)


@inlined
def _field(word: np.int64, width: np.uint64, payload: int) -> np.uint64:
    """Return the field of a word."""
    if payload == FLOATS:
        return np.uint64(word) & np.uint64(0xFFFFFFFF)
    return np.uint64(word < 0) << (width - _ONE) | np.uint64(abs(word) - 1)


@inlined
def _word(field: np.uint64, width: np.uint64, payload: int) -> np.int64:
    """Return the word of a field."""
    if payload == FLOATS:
        return np.int64(np.int32(field))
    negative = np.int64(field >> (width - _ONE))
    return (np.int64(field & ((_ONE << (width - _ONE)) - _ONE)) + 1 ^ -negative) + negative


@inlined
def _wrong(word: np.int64, s: int, payload: int) -> int:
    """Return why a word cannot be, or `FINE`."""
    if payload == FLOATS:
        if word & 0x7F800000 == 0x7F800000:
            return NOT_FINITE
        return ZERO if word & 0x7FFFFFFF == 0 else FINE
    return PAST_LEVELS if abs(word) > s else FINE


@inlined
def _map_word(data: NDArray[np.uint8], at: np.uint64, left: np.uint64) -> np.uint64:
    """Return the next 64 bits of a map of which `left` bytes are left."""
    bits = load(data, at)
    return bits if left >= np.uint64(8) else bits & ~(~np.uint64(0) >> (np.uint64(8) * left))


@inlined
def _take(
    group: int, bits: np.uint64, s: int, width: np.uint64, payload: int, k: np.uint64, words: NDArray[np.int32]
) -> int:
    """Write the words of a group of fields, the first the highest bits; return why one cannot be, or `FINE`."""
    found = FINE
    for j in range(np.uint64(group)):
        word = _word(bits << j * width >> (_64 - width), width, payload)
        words[k + j] = word
        found = max(found, _wrong(word, s, payload))
    return found


def _kernels(payload: int, group: int) -> tuple[Any, Any, Any]:
    """Make the kernels for a payload, and for fields of which so many go into a word at once."""

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
        width, length = _width(s, payload), np.uint64(n + 7) >> np.uint64(3)
        at = np.uint64(0)
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            at += np.uint64(skip)
            first, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            if first < last:
                data[at : at + length] = 0
                previous = np.int64(-1)
                place, bits = np.uint64(0), np.uint64(0)
                for k in range(first, last):
                    here = np.int64(index[k])
                    if not is_entry(here, previous, np.int64(words[k]), n, s, payload):
                        return -1 - row
                    previous = here
                    if np.uint64(here) >> np.uint64(6) != place:
                        store(data, at + np.uint64(8) * place, bits)
                        place, bits = np.uint64(here) >> np.uint64(6), np.uint64(0)
                    bits |= _ONE << (_63 - (np.uint64(here) & _63))
                store(data, at + np.uint64(8) * place, bits)
                at += length
                bits, held = np.uint64(0), np.uint64(0)
                whole = last - (last - first) % np.uint64(group)
                for k in range(first, whole, np.uint64(group)):
                    fields = np.uint64(0)
                    for j in range(np.uint64(group)):
                        fields = fields << width | _field(np.int64(words[k + j]), width, payload)
                    at, bits, held = put(data, at, bits, held, fields, np.uint64(group) * width)
                for k in range(whole, last):
                    at, bits, held = put(data, at, bits, held, _field(np.int64(words[k]), width, payload), width)
                at = put_rest(data, at, bits, held)
            out_offsets[row + 1] = at
        return int(np.int64(at))

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
        width, length = _width(s, payload), np.uint64(n + 7) >> np.uint64(3)
        for row in range(out.size):
            first, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            previous = np.int64(-1)
            good = True
            for k in range(first, last):
                good &= is_entry(np.int64(index[k]), previous, np.int64(words[k]), n, s, payload)
                previous = np.int64(index[k])
            total = length + (((last - first) * width + _7) >> np.uint64(3)) if first < last else np.uint64(0)
            out[row] = np.int64(total) if good else -1

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
        width, length = _width(s, payload), np.uint64(n + 7) >> np.uint64(3)
        k = np.uint64(0)
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            first, end = np.uint64(offsets[row] + skip), np.uint64(offsets[row + 1])
            if first < end:
                size = int(offsets[row + 1] - offsets[row])
                if end - first < length:
                    return TRUNCATED, row, size
                count = np.uint64(0)
                for place in range(np.uint64(0), length, np.uint64(8)):
                    count += np.uint64(ones(_map_word(data, first + place, length - place)))
                at = first + length
                fields = (count * width + _7) >> np.uint64(3)
                if end - at != fields:
                    return TRUNCATED if end - at < fields else UNFILLED, row, size
                if count == np.uint64(0):
                    return EMPTY, row, skip
                if not is_filled(data, (first << np.uint64(3)) + np.uint64(n), at << np.uint64(3)):
                    return UNFILLED, row, int(np.int64(at) - offsets[row]) - 1
                last = k
                for place in range(np.uint64(0), length, np.uint64(8)):
                    bits = _map_word(data, first + place, length - place)
                    while bits != np.uint64(0):
                        zeros = leading_zeros(bits)
                        bits ^= _ONE << (_63 - zeros)
                        index[last] = np.uint64(8) * place + zeros
                        last += _ONE
                at <<= np.uint64(3)
                whole = last - count % np.uint64(group)
                while k < last:
                    if k < whole:
                        reason = _take(group, window(data, at), s, width, payload, k, words)
                        taken = np.uint64(group)
                    else:
                        reason = _take(1, window(data, at), s, width, payload, k, words)
                        taken = _ONE
                    if reason != FINE:
                        return reason, row, int(np.int64(at >> np.uint64(3)) - offsets[row])
                    k += taken
                    at += taken * width
                if not is_filled(data, at, end << np.uint64(3)):
                    return UNFILLED, row, size - 1
            out_offsets[row + 1] = k
        return FINE, 0, 0

    return encode, sizes, decode


_PAIRS = [(FLOATS, 1), (SIGNS, 8), *((LEVELS, group) for group in GROUPS)]

KERNELS = {pair: _kernels(*pair) for pair in _PAIRS}
"""The kernels (encode, sizes, decode) for each payload and group."""
