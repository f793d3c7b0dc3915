"""A code word for every coordinate: the Elias code of |level| + 1, and a sign behind it if the level is not zero.

Bits fill bytes from the highest down, the last byte of a row with zeros. `docs/wire-format.md` is the specification.

How fast: the code word of a zero level is one bit, so a run of zeros is a run of equal bits: written as one word with
the entry behind it, and read by one count of leading bits. The entries of a row depend on each other, as in the sparse
codes: that latency is the limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bitcodes import DELTA, GAMMA, OMEGA, code_word, read_word
from qsim.kernels.bits import bit_length, is_entry, leading_zeros, put, window
from qsim.kernels.decode_status import EMPTY, FINE, LEVELS, PAST_LEVELS, TRUNCATED, UNFILLED
from qsim.kernels.packing import is_filled, put_rest

_ONE, _7 = np.uint64(1), np.uint64(7)
_SHORT = np.uint64(56)  # this many bits fit a word behind up to seven others
_VALID = np.uint64(57)  # this many bits of a window are there


@inlined
def _entry(code: int, word: np.int64) -> tuple[np.uint64, np.uint64]:
    """Return the code word of a level that is not zero, with its sign, and the length of both."""
    bits, length = code_word(code, np.uint64(abs(word) + 1), np.uint64(0))
    return bits << _ONE | np.uint64(word < 0), length + _ONE


@inlined
def _zeros(code: int, count: np.uint64) -> np.uint64:
    """Return the code words of up to 56 levels of zero."""
    return np.uint64(0) if code == OMEGA else (_ONE << count) - _ONE


@inlined
def _put_zeros(
    code: int, data: NDArray[np.uint8], at: np.uint64, bits: np.uint64, held: np.uint64, count: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Append the code words of any number of levels of zero."""
    while count > _SHORT:
        at, bits, held = put(data, at, bits, held, _zeros(code, _SHORT), _SHORT)
        count -= _SHORT
    if count > np.uint64(0):
        at, bits, held = put(data, at, bits, held, _zeros(code, count), count)
    return at, bits, held


def _kernels(code: int) -> tuple[Any, Any, Any]:
    """Make the kernels for a code: a constant in them, so that what does not concern it vanishes."""

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
        at = np.uint64(0)
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            at += np.uint64(skip)
            k, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            previous = np.int64(-1 if k < last else n - 1)
            bits, held = np.uint64(0), np.uint64(0)
            while k < last:
                here, word = np.int64(index[k]), np.int64(words[k])
                if not is_entry(here, previous, word, n, s, LEVELS):
                    return -1 - row
                zeros = np.uint64(here - previous) - _ONE
                entry, length = _entry(code, word)
                previous = here
                k += _ONE
                if zeros + length <= _SHORT:
                    entry |= _zeros(code, zeros) << length
                    length += zeros
                else:
                    at, bits, held = _put_zeros(code, data, at, bits, held, zeros)
                if length > _SHORT:
                    at, bits, held = put(data, at, bits, held, entry >> np.uint64(32), length - np.uint64(32))
                    entry, length = entry & np.uint64(0xFFFFFFFF), np.uint64(32)
                at, bits, held = put(data, at, bits, held, entry, length)
            at, bits, held = _put_zeros(code, data, at, bits, held, np.uint64(n - 1 - previous))
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
        for row in range(out.size):
            first, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            bits = np.uint64(n) - (last - first) if first < last else np.uint64(0)
            previous = np.int64(-1)
            good = True
            for k in range(first, last):
                here, word = np.int64(index[k]), np.int64(words[k])
                good &= is_entry(here, previous, word, n, s, LEVELS)
                bits += _entry(code, word)[1]
                previous = here
            out[row] = np.int64(bits + _7) >> 3 if good else -1

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
        k, length_n = np.uint64(0), np.uint64(n)
        # A run of so many zeros leaves the entry behind it in the window: gamma's word of s + 1, or another's.
        room = np.uint64(max(np.int64(0), 54 - 2 * np.int64(bit_length(s + 1))))
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            first, end = np.uint64(offsets[row]) << np.uint64(3), np.uint64(offsets[row + 1]) << np.uint64(3)
            at = first + (np.uint64(skip) << np.uint64(3))
            i, before = length_n if at == end else np.uint64(0), k
            if i < end - at and end - at < length_n:
                return TRUNCATED, row, int(offsets[row + 1] - offsets[row])
            while i < length_n:
                bits = window(data, at)
                run = min(leading_zeros(bits if code == OMEGA else ~bits), _VALID, length_n - i)
                at += run
                i += run
                if run < _VALID and i < length_n and at < end:
                    start = at
                    bits = bits << run if run <= room else window(data, at)
                    number, length = read_word(code, data, at, bits, np.uint64(0), end)
                    at += length
                    if at >= end:
                        return TRUNCATED, row, int(offsets[row + 1] - offsets[row])
                    if number - np.uint64(2) >= np.uint64(s):  # 0, for no code word, is large too
                        return PAST_LEVELS, row, int(np.int64((start - first) >> np.uint64(3)))
                    negative = np.int64(data[at >> np.uint64(3)] >> (_7 - (at & _7))) & 1
                    index[k] = i
                    words[k] = (np.int64(number) - 1 ^ -negative) + negative
                    k += _ONE
                    i += _ONE
                    at += _ONE
                if at > end or (at == end and i < length_n):
                    return TRUNCATED, row, int(offsets[row + 1] - offsets[row])
            if k == before and at > first + (np.uint64(skip) << np.uint64(3)):
                return EMPTY, row, skip
            if not is_filled(data, at, end):
                return UNFILLED, row, int(np.int64((at - first) >> np.uint64(3)))
            out_offsets[row + 1] = k
        return FINE, 0, 0

    return encode, sizes, decode


KERNELS = tuple(_kernels(code) for code in (GAMMA, DELTA, OMEGA))
"""The kernels (encode, sizes, decode) for each code."""
