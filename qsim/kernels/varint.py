"""Entries as LEB128 numbers: seven bits a byte, low bits first, the high bit set while more follow.

Each entry is one number, `((gap - 1) << width | (|level| - 1)) << 1 | sign`, where width is the bit length of s - 1; a
float (s = 0) is `gap - 1` and then the four or eight bytes of its value. `docs/wire-format.md` is the specification.

The place of an entry follows from the lengths of all before it, and that is what reading waits for. So where the next
four take one or two bytes each, how they lie is looked up in a table, and they are read at once, in 16 bits each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import bit_length, is_entry, leading_zeros, load_low, store_four, store_low, trailing_zeros
from qsim.kernels.decode_status import (
    DOUBLES,
    FINE,
    FLOATS,
    LEVELS,
    NOT_FINITE,
    OVERLONG,
    PAST_LEVELS,
    PAST_N,
    SIGNS,
    TRUNCATED,
    ZERO,
)

_MORE = np.uint64(0x8080808080808080)
_SEVEN = np.uint64(127)
_ONE, _TWO = np.uint64(1), np.uint64(2)


_EACH = np.uint64(0x0001000100010001)
_TOP = _EACH << np.uint64(15)
_PAIRS = _EACH << np.uint64(7)
_TWO_EACH = _EACH * np.uint64(0x7F7F)


def _layout(ends: int) -> tuple[int, int]:
    """Return how four numbers of one or two bytes lie in eight, of which bit i of `ends` says if byte i is a last one.

    First, the bytes that they take in bits 0 to 3, 0 if there are no four such numbers; and the bits at which the
    second to the fourth begin, in 6 bits each from bit 4 on. Then, in 16 bits each, which of their bits count.
    """
    at, layout, bits = 0, 0, 0
    for entry in range(4):
        two = not ends >> at & 1
        if two and not ends >> at + 1 & 1:
            return 0, 0
        bits |= (0x7F7F if two else 0x7F) << 16 * entry
        layout |= 8 * at << 6 * entry - 2 if entry else 0
        at += 1 + two
    return layout | at, bits


_LAYOUTS = np.array([_layout(ends) for ends in range(256)], np.uint64)
_START = np.uint64(63)


@inlined
def _four(eight: np.uint64, ends: np.uint64) -> tuple[np.uint64, np.uint64, bool]:
    """Return the first four numbers of eight bytes, in 16 bits each, what they take, and if none is longer than needed.

    They take 0 bytes if one is of more than two. `ends` has the high bits of the last bytes of numbers.
    """
    raw, bits, took = eight, _TWO_EACH, np.uint64(8)
    if ends != _PAIRS << np.uint64(8):
        which = (ends >> np.uint64(7)) * np.uint64(0x0102040810204080) >> np.uint64(56)
        layout, bits = _LAYOUTS[which, 0], _LAYOUTS[which, 1]
        took = layout & np.uint64(15)
        raw = eight & np.uint64(0xFFFF)
        raw |= (eight >> (layout >> np.uint64(4) & _START) & np.uint64(0xFFFF)) << np.uint64(16)
        raw |= (eight >> (layout >> np.uint64(10) & _START) & np.uint64(0xFFFF)) << np.uint64(32)
        raw |= eight >> (layout >> np.uint64(16) & _START) << np.uint64(48)
    raw &= bits
    high = raw & _EACH * np.uint64(0x7F00)
    needed = (high + _EACH * np.uint64(0x7F00)) & _TOP == (bits << _ONE) & _TOP
    return (raw & _EACH * _SEVEN) | high >> _ONE, took, needed


@inlined
def _joined(word: np.uint64) -> np.uint64:
    """Return the number that the low seven bits of eight bytes make, the lowest byte first."""
    word = (word & np.uint64(0x007F007F007F007F)) | ((word & np.uint64(0x7F007F007F007F00)) >> np.uint64(1))
    word = (word & np.uint64(0x00003FFF00003FFF)) | ((word & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2))
    return (word & np.uint64(0xFFFFFFF)) | ((word & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4))


@inlined
def _length(number: np.uint64) -> np.uint64:
    """Return how many bytes a number takes: its bits / 7, rounded up."""
    bits = np.uint64(64) - leading_zeros(number | _ONE)
    return (bits * np.uint64(9) + np.uint64(64)) >> np.uint64(6)


@inlined
def _put(data: NDArray[np.uint8], at: np.uint64, number: np.uint64) -> np.uint64:
    """Write one number and return the place behind it; eight bytes from `at` on may be overwritten."""
    if number < np.uint64(1 << 14):
        two = np.uint64(number > _SEVEN)
        store_low(data, at, (number & _SEVEN) | two << np.uint64(7) | (number >> np.uint64(7)) << np.uint64(8))
        return at + _ONE + two
    while number > _SEVEN:
        data[at] = np.uint8(number & _SEVEN | np.uint64(128))
        number >>= np.uint64(7)
        at += _ONE
    data[at] = np.uint8(number)
    return at + _ONE


@inlined
def _width(s: int, payload: int) -> np.uint64:
    """Return how many bits of a number hold the level."""
    return np.uint64(0) if payload in (FLOATS, DOUBLES) else bit_length(s - 1)


@inlined
def _number(gap: np.uint64, word: np.int64, width: np.uint64, payload: int) -> np.uint64:
    """Return the number of an entry."""
    if payload in (FLOATS, DOUBLES):
        return gap - _ONE
    return (((gap - _ONE) << width) | np.uint64(abs(word) - 1)) << _ONE | np.uint64(word < 0)


def _kernels(payload: int) -> tuple[Any, Any, Any]:
    """Make the kernels for one payload: it is a constant in them, so that what does not concern it vanishes."""
    floating = payload in (FLOATS, DOUBLES)

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
        """Write every row as a packet behind `skip` free bytes; return the bytes used.

        A row that is no message gives -1 - row: nothing is written for it, since it would not fit the bytes reserved.
        """
        width = _width(s, payload)
        at = np.uint64(0)
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            at += np.uint64(skip)
            previous = np.int64(-1)
            for k in range(np.uint64(offsets[row]), np.uint64(offsets[row + 1])):
                here, word = np.int64(index[k]), np.int64(words[k])
                if not is_entry(here, previous, word, n, s, payload):
                    return -1 - row
                at = _put(data, at, _number(np.uint64(here - previous), word, width, payload))
                previous = here
                if payload == FLOATS:
                    store_low(data, at, np.uint64(word) & np.uint64(0xFFFFFFFF))
                    at += np.uint64(4)
                elif payload == DOUBLES:
                    store_low(data, at, np.uint64(word))
                    at += np.uint64(8)
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
        width = _width(s, payload)
        for row in range(out.size):
            previous = np.int64(-1)
            total = np.uint64(0)
            good = True
            for k in range(np.uint64(offsets[row]), np.uint64(offsets[row + 1])):
                here, word = np.int64(index[k]), np.int64(words[k])
                good &= is_entry(here, previous, word, n, s, payload)
                total += _length(_number(np.uint64(here - previous), word, width, payload))
                total += np.uint64(4 if payload == FLOATS else 8 if payload == DOUBLES else 0)
                previous = here
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
        """Read packets, one row behind the other: (reason, row, byte of the packet). Needs 8 bytes behind the last."""
        k, width = np.uint64(0), _width(s, payload)
        mask = (_ONE << width) - _ONE
        shift = width + _ONE
        mask_each = _EACH * (mask & np.uint64(0x1FFF))
        gap_each = _EACH * (np.uint64(0x3FFF) >> min(shift, np.uint64(14)))
        over_each = _EACH * (np.uint64(0x8000) - np.uint64(min(s, 0x2000)))
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            first, end = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            at = first + np.uint64(skip)
            previous = np.int64(-1)
            while at < end:
                start = at
                eight = load_low(data, at)
                last = ~eight & _MORE
                if not floating and at + np.uint64(8) <= end:
                    four, took, fine = _four(eight, last)
                    level = four >> _ONE & mask_each
                    gaps = (four >> shift & gap_each) * _EACH + np.uint64(0x0004000300020001)  # from the place before
                    fine &= (level + over_each) & _TOP == np.uint64(0)
                    ahead = np.int64(gaps >> np.uint64(48))
                    if fine and took != np.uint64(0) and previous + ahead < n:
                        sign = four & _EACH
                        level = (level + _EACH ^ sign * np.uint64(0xFFFF)) + sign
                        store_four(index, k, gaps, previous)
                        store_four(words, k, level, 0)
                        previous, at, k = previous + ahead, at + took, k + np.uint64(4)
                        continue  # else one by one, and to say what is wrong
                if last & np.uint64(0x8080) != np.uint64(0):  # one byte or two
                    two = eight >> np.uint64(7) & _ONE
                    second = eight >> np.uint64(8) & _SEVEN
                    number = (eight & _SEVEN) | (second * two) << np.uint64(7)
                    at += _ONE + two
                    if two > second:
                        return OVERLONG if at <= end else TRUNCATED, row, int(np.int64(start - first))
                elif last != np.uint64(0):
                    high = trailing_zeros(last)  # the high bit of the number's last byte
                    eight &= (_TWO << high) - _ONE
                    at += (high >> np.uint64(3)) + _ONE
                    number = _joined(eight)
                    if eight >> (high - np.uint64(7)) == np.uint64(0):
                        return OVERLONG if at <= end else TRUNCATED, row, int(np.int64(start - first))
                else:
                    number = _joined(eight)
                    at += np.uint64(8)
                    size = np.uint64(8)
                    byte = np.uint64(128)
                    while byte > _SEVEN:
                        if at >= end:
                            return TRUNCATED, row, int(np.int64(start - first))
                        byte = np.uint64(data[at])
                        if size == np.uint64(9) and byte > _ONE:
                            return OVERLONG, row, int(np.int64(start - first))
                        number |= (byte & _SEVEN) << (np.uint64(7) * size)
                        at += _ONE
                        size += _ONE
                    if byte == np.uint64(0):
                        return OVERLONG, row, int(np.int64(start - first))
                if at > end:
                    return TRUNCATED, row, int(np.int64(start - first))
                word = np.int64(0)
                if payload == FLOATS:
                    gap = number
                    word = np.int64(load_low(data, at) & np.uint64(0xFFFFFFFF))
                    at += np.uint64(4)
                    if at > end:
                        return TRUNCATED, row, int(np.int64(start - first))
                    if word & 0x7F800000 == 0x7F800000:
                        return NOT_FINITE, row, int(np.int64(start - first))
                    if word & 0x7FFFFFFF == 0:
                        return ZERO, row, int(np.int64(start - first))
                elif payload == DOUBLES:
                    gap = number
                    word = np.int64(load_low(data, at))
                    at += np.uint64(8)
                    if at > end:
                        return TRUNCATED, row, int(np.int64(start - first))
                    if word & 0x7FF0000000000000 == 0x7FF0000000000000:
                        return NOT_FINITE, row, int(np.int64(start - first))
                    if word & 0x7FFFFFFFFFFFFFFF == 0:
                        return ZERO, row, int(np.int64(start - first))
                else:
                    negative = np.int64(number & _ONE)
                    number >>= _ONE
                    gap = number >> width
                    word = (np.int64(number & mask) + 1 ^ -negative) + negative
                if gap >= np.uint64(n - 1 - previous):
                    return PAST_N, row, int(np.int64(start - first))
                if not floating and abs(word) > s:
                    return PAST_LEVELS, row, int(np.int64(start - first))
                previous += np.int64(gap) + 1
                index[k] = previous
                words[k] = word
                k += _ONE
            out_offsets[row + 1] = k
        return FINE, 0, 0

    return encode, sizes, decode


KERNELS = tuple(_kernels(payload) for payload in (FLOATS, SIGNS, LEVELS, DOUBLES))
"""The kernels (encode, sizes, decode) for each payload."""
