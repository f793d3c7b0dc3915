"""Gaps and levels in code words of bits: Elias gamma, delta and omega, and Golomb-Rice for the gaps.

An entry is the code word of its gap, then its sign and, if s > 1, the code word of its level; a float (s = 0) is its
gap and the 32 bits of its value. Bits fill bytes from the highest down. The last byte of a row is filled with bits that
are no entry: ones for omega, zeros for the others. `docs/wire-format.md` is the specification.

How fast: two short entries make one store and up to four come from one load; the one test for being short is the test
for bad input too, and all else goes one by one, with every check by itself. A code word is found by its number's
highest bit; on the way in, one count of leading zeros (omega: one look into a table of 128) gives its length. Each
entry's place follows from the lengths of those before it: that latency is the limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import is_entry, leading_zeros, put
from qsim.kernels.bits import window as look
from qsim.kernels.decode_status import FINE, FLOATS, LEVELS, NOT_FINITE, PAST_LEVELS, PAST_N, SIGNS, TRUNCATED, ZERO

GAMMA, DELTA, OMEGA, RICE = range(4)
"""The codes. Rice is for gaps: its levels are in gamma."""

_ONE, _TWO, _63, _64 = np.uint64(1), np.uint64(2), np.uint64(63), np.uint64(64)
_SHORT = np.uint64(56)  # this many bits fit a word behind up to seven others
_VALID = np.uint64(57)  # this many bits of a window are there


def _omega_bits(number: int) -> str:
    bits = "0"
    while number > 1:
        bits, number = f"{number:b}{bits}", number.bit_length() - 1
    return bits


def _omega_words() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return by the place of a number's highest bit: twice its code word xor the number, and the word's length."""
    masks, lengths = np.zeros(64, np.uint64), np.full(64, _64)
    for high in range(49):
        bits = _omega_bits(1 << high)
        masks[high], lengths[high] = int(bits, 2) ^ 2 << high, len(bits)
    return masks, lengths


def _omega_heads() -> NDArray[np.uint64]:
    """Return for the first 7 bits of a code word how it is read, if its number is below 2^16; else a 1 is at its end.

    That is its length; times 2^8 where the bits of the number begin, times 2^16 64 less how many there are, and times
    2^24 what to add, which is 1 for the number 1 and else 0.
    """
    heads = np.zeros(128, np.uint64)
    for head in range(128):
        bits, place, size, end, value = f"{head:07b}", 0, 1, 0, 1
        while end < 7 and bits[end] == "1":
            place, size = end, value + 1
            end += size
            value = int(bits[place:end], 2)
        heads[head] = end + 1 | place << 8 | (64 - size) << 16 | (end == 0) << 24
    return heads


def _tails() -> NDArray[np.uint32]:
    """Return for gamma, delta and omega the sign and level of the words from -64 to 63: times 2^6, and its length.

    The word 0, which is none, has the length 63.
    """
    tails = np.full((3, 128), 63, np.uint32)
    for level in range(1, 64):
        high = level.bit_length() - 1
        delta = f"{high + 1:b}".zfill(2 * (high + 1).bit_length() - 1) + f"{level:b}"[1:]
        for code, bits in enumerate((f"{level:b}".zfill(2 * high + 1), delta, _omega_bits(level))):
            tails[code, 64 + level] = int(bits, 2) << 6 | len(bits) + 1
            tails[code, 64 - level] = int("1" + bits, 2) << 6 | len(bits) + 1
    return tails


_TAILS = _tails()
_OMEGA_MASKS, _OMEGA_LENGTHS = _omega_words()
_OMEGA_HEADS = _omega_heads()


@inlined
def code_word(code: int, number: np.uint64, rice: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the code word of a number and its length; of a word longer than 64 bits, all but leading zeros.

    What is no number from 1 to 2^48, taken as signed, has a length from 64 on.
    """
    if code == RICE:
        rest = number - _ONE
        length = ((rest >> rice) + _ONE + rice) | (rest >> _63 << np.uint64(6))
        return _ONE << rice | (rest & ((_ONE << rice) - _ONE)), length
    high = (_63 - leading_zeros(number)) & _63  # the place of the highest bit; 63 for the number 0
    if code == OMEGA:
        return number << _ONE ^ _OMEGA_MASKS[high], _OMEGA_LENGTHS[high]
    if code == GAMMA:
        return number, high + high + _ONE
    size = high + _ONE
    return size << high | (number ^ (_ONE << high)), high + _TWO * (_63 - leading_zeros(size)) + _ONE


@inlined
def _tail(code: int, word: np.int64, payload: int) -> tuple[np.uint64, np.uint64]:
    """Return what follows a gap, and its length: sign and level, or the bits of a float."""
    if payload == FLOATS:
        return np.uint64(word) & np.uint64(0xFFFFFFFF), np.uint64(32)
    sign = np.uint64(word < 0)
    if payload == SIGNS:
        return sign, _ONE
    bits, length = code_word(GAMMA if code == RICE else code, np.uint64(abs(word)), np.uint64(0))
    return sign << length | bits, length + _ONE


@inlined
def _short_entry(
    code: int, gap: np.int64, word: np.int64, rice: np.uint64, s: np.int64, payload: int
) -> tuple[np.uint64, np.uint64]:
    """Return an entry and its length, which is past 56 if it is no entry (whatever n is), or too long.

    Here s is at most 63.
    """
    bits, length = code_word(code, np.uint64(gap), rice)
    length = min(length, _64)  # so that sums do not wrap
    if payload == SIGNS:
        return bits << _ONE | np.uint64(word < 0), length + _ONE | np.uint64(word * word != 1) << np.uint64(6)
    tail = np.uint64(_TAILS[0 if code == RICE else code, np.uint64(word + 64) & np.uint64(127)])
    long = np.uint64(np.uint64(word + s) > np.uint64(s + s))
    size = tail & _63
    return bits << size | tail >> np.uint64(6), length + size | long << np.uint64(6)


@inlined
def _rice_parameter(n: int, entries: np.uint64) -> np.uint64:
    """Return the parameter of a row with k > 0 entries: floor(log2(ln 2 (n - k) / k)), at least 0, ln 2 as 9/13."""
    k = np.int64(entries)
    ratio = np.uint64(9 * max(np.int64(n) - k, np.int64(0))) // np.uint64(13 * k)
    return _63 - leading_zeros(ratio | _ONE)


@inlined
def _put_long(
    data: NDArray[np.uint8], at: np.uint64, bits: np.uint64, held: np.uint64, word: np.uint64, length: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """As `_put`, for any number of bits: those before the last 64 are zeros."""
    while length > _64:
        zeros = min(length - _64, _SHORT)
        at, bits, held = put(data, at, bits, held, np.uint64(0), zeros)
        length -= zeros
    if length > np.uint64(32):
        at, bits, held = put(data, at, bits, held, word >> np.uint64(32), length - np.uint64(32))
        word, length = word & np.uint64(0xFFFFFFFF), np.uint64(32)
    return put(data, at, bits, held, word, length)


@inlined
def _glance(code: int, window: np.uint64, rice: np.uint64) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Read a code word at the window's highest bit, if all of it is there: number, length, what follows it, and 0.

    Of any other word the length is past the valid bits, or the last is not 0.
    """
    if code == OMEGA:
        head = _OMEGA_HEADS[window >> np.uint64(57)]
        length = head & _63
        number = (window << (head >> np.uint64(8) & _63) >> (head >> np.uint64(16) & _63)) + (head >> np.uint64(24))
        return number, length, window << length, window << (length - _ONE & _63) >> _63
    zeros = leading_zeros(window)
    if code == RICE:
        rest = window << (zeros & _63) << _ONE
        number = (zeros << rice | rest >> _ONE >> (_63 - rice)) + _ONE
        return number, zeros + _ONE + rice, rest << rice, np.uint64(0)
    number, length = window >> (_63 - zeros - zeros & _63), zeros + zeros + _ONE
    rest = window << (zeros & _63) << (zeros & _63) << _ONE
    if code == GAMMA:
        return number, length, rest, np.uint64(0)
    high = number - _ONE  # the place of the number's highest bit
    number = _ONE << (high & _63) | rest >> _ONE >> (_63 - high & _63)
    return number, length + high, rest << (high & _63), np.uint64(0)


@inlined
def _glance_entry(
    code: int, payload: int, window: np.uint64, rice: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]:
    """Read a short entry: gap, sign, level, length, what follows it, and 0; of any other entry as `_glance`."""
    gap, length, window, wrong = _glance(code, window, rice)
    negative = window >> _63
    window <<= _ONE
    if payload == SIGNS:
        return gap, negative, _ONE, length + _ONE, window, wrong
    if code == OMEGA and window >> _63 == np.uint64(0):
        return gap, negative, _ONE, length + _TWO, window << _ONE, wrong
    level, size, window, wrong_level = _glance(GAMMA if code == RICE else code, window, np.uint64(0))
    return gap, negative, level, length + _ONE + size, window, wrong | wrong_level


@inlined
def _signed(level: np.uint64, negative: np.uint64) -> np.int64:
    """Return the level with its sign."""
    return (np.int64(level) ^ -np.int64(negative)) + np.int64(negative)


@inlined
def read_word(
    code: int, data: NDArray[np.uint8], at: np.uint64, window: np.uint64, rice: np.uint64, end: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Read the code word at bit `at`, where the window is: (number, length). The number 0 says that there is none."""
    if code == RICE:
        zeros = leading_zeros(window)
        length = zeros + _ONE + rice
        if length <= _VALID:
            rest = window << zeros << _ONE  # zeros may be 63
            return ((zeros << rice) | (rest >> np.uint64(1) >> (np.uint64(63) - rice))) + _ONE, length
        run = np.uint64(0)
        while zeros >= _VALID:
            run += _VALID
            if at + run >= end:
                return np.uint64(0), run
            window = look(data, at + run)
            zeros = leading_zeros(window)
        run += zeros + _ONE
        rest = look(data, at + run)
        return (((run - _ONE) << rice) | (rest >> np.uint64(1) >> (np.uint64(63) - rice))) + _ONE, run + rice
    if code == OMEGA:
        number, length, _, wrong = _glance(code, window, rice)
        if wrong == np.uint64(0):
            return number, length
        number, length = _ONE, np.uint64(0)
        while window >> np.uint64(63) != np.uint64(0):
            size = number + _ONE
            if size > np.uint64(49):
                return np.uint64(0), length
            number = window >> (_64 - size)
            length += size
            window = look(data, at + length)
        return number, length + _ONE
    zeros = leading_zeros(window)
    if code == GAMMA:
        if zeros <= np.uint64(27):  # of a window behind a sign 56 bits are there
            return window >> (np.uint64(63) - zeros - zeros), zeros + zeros + _ONE
        if zeros > np.uint64(48):
            return np.uint64(0), zeros
        return look(data, at + zeros) >> (np.uint64(63) - zeros), zeros + zeros + _ONE
    if zeros > np.uint64(5):
        return np.uint64(0), zeros
    high = (window >> (np.uint64(63) - zeros - zeros)) - _ONE  # the place of the number's highest bit
    length = zeros + zeros + _ONE
    if high > np.uint64(48):
        return np.uint64(0), length
    rest = window << length if length + high < _VALID else look(data, at + length)
    return _ONE << high | (rest >> np.uint64(1) >> (np.uint64(63) - high)), length + high


def _kernels(code: int, payload: int) -> tuple[Any, Any, Any]:
    """Make the kernels for a code and a payload: constants in them, so that what does not concern them vanishes."""

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
        """Write every row as a packet behind `skip` free bytes; Rice puts its parameter before the entries.

        Returns the bytes used, or -1 - row for a row that is no message.
        """
        at = np.uint64(0)
        short = min(np.int64(s), np.int64(63))
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            at += np.uint64(skip)
            k, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            parameter = np.uint64(0)
            if code == RICE and k < last:
                parameter = _rice_parameter(n, last - k)
                data[at] = parameter
                at += _ONE
            previous = np.int64(-1)
            bits, held = np.uint64(0), np.uint64(0)
            while k < last:
                here, word = np.int64(index[k]), np.int64(words[k])
                if payload != FLOATS and k + _ONE < last:
                    then = np.int64(index[k + _ONE])
                    one, length = _short_entry(code, here - previous, word, parameter, short, payload)
                    two, size = _short_entry(code, then - here, np.int64(words[k + _ONE]), parameter, short, payload)
                    if length + size <= _SHORT:
                        at, bits, held = put(data, at, bits, held, one << (size & _63) | two, length + size)
                        previous = then
                        k += _TWO
                        continue
                if not is_entry(here, previous, word, n, s, payload):
                    return -1 - row
                gap_word, gap_length = code_word(code, np.uint64(here - previous), parameter)
                tail_word, tail_length = _tail(code, word, payload)
                at, bits, held = _put_long(data, at, bits, held, gap_word, gap_length)
                at, bits, held = _put_long(data, at, bits, held, tail_word, tail_length)
                previous = here
                k += _ONE
            if previous >= n:
                return -1 - row
            if held > np.uint64(0):
                filled = bits | (~np.uint64(0) >> held if code == OMEGA else np.uint64(0))
                data[at] = np.uint8(filled >> np.uint64(56))
                at += _ONE
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
            previous = np.int64(-1)
            first, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            parameter, bits = np.uint64(0), np.uint64(0)
            if code == RICE and first < last:
                parameter, bits = _rice_parameter(n, last - first), np.uint64(8)
            good = True
            for k in range(first, last):
                here, word = np.int64(index[k]), np.int64(words[k])
                good &= is_entry(here, previous, word, n, s, payload)
                bits += code_word(code, np.uint64(here - previous), parameter)[1] + _tail(code, word, payload)[1]
                previous = here
            out[row] = np.int64(bits + np.uint64(7)) >> 3 if good else -1

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
        k = np.uint64(0)
        out_offsets[0] = 0
        level_code = GAMMA if code == RICE else code
        # A gap of so many bits leaves what follows it in the window: a level's longest word, gamma, has 2 log2 s + 1.
        room = np.uint64(25)
        if payload != FLOATS:
            room = np.uint64(max(np.int64(0), 55 - 2 * np.int64(_64 - leading_zeros(np.uint64(s)))))
        for row in range(offsets.size - 1):
            first = np.uint64(offsets[row]) << np.uint64(3)
            at, end = first + (np.uint64(skip) << np.uint64(3)), np.uint64(offsets[row + 1]) << np.uint64(3)
            rice = np.uint64(0)
            if code == RICE and at < end:
                rice = np.uint64(data[at >> np.uint64(3)])
                at += np.uint64(8)
                if rice > np.uint64(48):
                    return PAST_N, row, int(np.int64(at - first - np.uint64(8)) >> 3)
                if at == end:
                    return TRUNCATED, row, int(np.int64(at - first) >> 3)
            previous = np.int64(-1)
            while at < end:
                start = ~at
                # Short entries, four to a window; what is not short or not good is left to the checks below.
                while payload != FLOATS and at != start and end - at >= _64:
                    start = at
                    window = look(data, at)
                    for _ in range(4):
                        gap, minus, level, length, window, wrong = _glance_entry(code, payload, window, rice)
                        bad = (
                            (at + length - start > _VALID) | (wrong != np.uint64(0)) | (gap >= np.uint64(n - previous))
                        )
                        if bad | (level > np.uint64(s)):
                            break
                        at += length
                        previous += np.int64(gap)
                        index[k] = previous
                        words[k] = _signed(level, minus)
                        k += _ONE
                start = at
                window = look(data, at)
                left = end - at
                if left < np.uint64(8):
                    rest = window >> (_64 - left)
                    if rest == ((_ONE << left) - _ONE if code == OMEGA else np.uint64(0)):
                        break
                gap, length = read_word(code, data, at, window, rice, end)
                at += length
                if at >= end:
                    return TRUNCATED, row, int(np.int64(start - first) >> 3)
                if gap - _ONE >= np.uint64(n - 1 - previous):  # 0 is large too
                    return PAST_N, row, int(np.int64(start - first) >> 3)
                previous += np.int64(gap)
                window = window << length if length <= room else look(data, at)
                if payload == FLOATS:
                    word = np.int64(window >> np.uint64(32))
                    at += np.uint64(32)
                    if word & 0x7F800000 == 0x7F800000:
                        return NOT_FINITE, row, int(np.int64(start - first) >> 3)
                    if word & 0x7FFFFFFF == 0:
                        return ZERO, row, int(np.int64(start - first) >> 3)
                    word -= (word >> 31) << 32
                else:
                    negative = np.int64(window >> np.uint64(63))
                    at += _ONE
                    word = np.int64(1)
                    if payload == LEVELS:
                        level, length = read_word(level_code, data, at, window << _ONE, np.uint64(0), end)
                        at += length
                        if level - _ONE >= np.uint64(s):
                            return PAST_LEVELS, row, int(np.int64(start - first) >> 3)
                        word = np.int64(level)
                    word = (word ^ -negative) + negative
                if at > end:
                    return TRUNCATED, row, int(np.int64(start - first) >> 3)
                index[k] = previous
                words[k] = word
                k += _ONE
            out_offsets[row + 1] = k
        return FINE, 0, 0

    return encode, sizes, decode


KERNELS = tuple(tuple(_kernels(code, payload) for payload in range(3)) for code in range(4))
"""The kernels (encode, sizes, decode) for each code and payload."""
