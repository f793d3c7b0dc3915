"""Gaps and levels in code words of bits: Elias gamma, delta and omega, and Golomb-Rice for the gaps.

An entry is the code word of its gap, then its sign and, if s > 1, the code word of its level; a float (s = 0) is its
gap and the 32 bits of its value. Bits fill bytes from the highest down. The last byte of a row is filled with bits that
are no entry: ones for omega, zeros for the others. `docs/wire-format.md` is the specification.

How fast: an entry is put into a word with shifts and stored without a branch, and a code word is read with one count of
leading zeros (omega: one look into a table for numbers below 128). The entries of a row depend on each other, on the
way out by their place in the row, on the way in by their length too: that latency is the limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.words import leading_zeros, load, store

GAMMA, DELTA, OMEGA, RICE = range(4)
"""The codes. Rice is for gaps: its levels are in gamma."""

FLOATS, SIGNS, LEVELS = range(3)
"""What an entry carries besides its gap; signs are levels of 1."""

LARGEST = 2**48
"""Vectors may be so long: two code words of a number below it then fit what the kernels reserve."""

FINE, TRUNCATED, _, PAST_N, PAST_LEVELS, NOT_FINITE = range(6)
"""What a decoder found: 0 for a good packet, else the reason for refusing it."""

_ONE, _TWO, _64 = np.uint64(1), np.uint64(2), np.uint64(64)
_SHORT = np.uint64(56)  # so many bits fit a word behind up to seven others
_VALID = np.uint64(57)  # so many bits of a window are there
_TABLE = np.uint64(13)


def _omega_bits(number: int) -> str:
    bits = "0"
    while number > 1:
        bits, number = f"{number:b}{bits}", number.bit_length() - 1
    return bits


def _omega_words() -> NDArray[np.uint64]:
    """Return for the numbers below 128 their code word, shifted left by 6, and its length."""
    words = np.zeros(128, np.uint64)
    for number in range(1, 128):
        bits = _omega_bits(number)
        words[number] = int(bits, 2) << 6 | len(bits)
    return words


def _omega_numbers() -> NDArray[np.uint16]:
    """Return for the first 13 bits of a code word the number below 128, shifted left by 4, and its length; else 0."""
    numbers = np.zeros(1 << 13, np.uint16)
    for number in range(1, 128):
        bits = _omega_bits(number)
        first = int(bits, 2) << (13 - len(bits))
        numbers[first : first + (1 << (13 - len(bits)))] = number << 4 | len(bits)
    return numbers


_OMEGA_WORDS = _omega_words()
_OMEGA_NUMBERS = _omega_numbers()


@inlined
def _code(code: int, number: np.uint64, rice: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the code word of a number from 1 and its length; of a word longer than 64 bits, all but leading zeros."""
    if code == RICE:
        rest = number - _ONE
        return _ONE << rice | (rest & ((_ONE << rice) - _ONE)), (rest >> rice) + _ONE + rice
    if code == OMEGA:
        if number < np.uint64(128):
            entry = _OMEGA_WORDS[number]
            return entry >> np.uint64(6), entry & np.uint64(63)
        word, length = np.uint64(0), _ONE
        while number > _ONE:
            size = _64 - leading_zeros(number)
            word |= number << length
            length += size
            number = size - _ONE
        return word, length
    high = np.uint64(63) - leading_zeros(number)  # the place of the highest bit
    if code == GAMMA:
        return number, high + high + _ONE
    size = high + _ONE
    return size << high | (number ^ (_ONE << high)), high + _TWO * (np.uint64(63) - leading_zeros(size)) + _ONE


@inlined
def _tail(code: int, word: np.int64, payload: int) -> tuple[np.uint64, np.uint64]:
    """Return what follows a gap, and its length: sign and level, or the bits of a float."""
    if payload == FLOATS:
        return np.uint64(word) & np.uint64(0xFFFFFFFF), np.uint64(32)
    sign = np.uint64(word < 0)
    if payload == SIGNS:
        return sign, _ONE
    bits, length = _code(GAMMA if code == RICE else code, np.uint64(abs(word)), np.uint64(0))
    return sign << length | bits, length + _ONE


@inlined
def _is_entry(index: np.int64, previous: np.int64, word: np.int64, n: int, s: int, payload: int) -> bool:
    """Tell whether the index rises and stays below n, and the word is a level up to s or (s = 0) a finite float."""
    if payload == FLOATS:
        return bool(previous < index < n and (word & 0x7F800000) != 0x7F800000)
    return bool(previous < index < n and word != 0 and -s <= word <= s)


@inlined
def _put(
    data: NDArray[np.uint8], at: np.uint64, bits: np.uint64, held: np.uint64, word: np.uint64, length: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Append up to 56 bits to the up to 7 held ones; whole bytes are written. Returns the new (at, bits, held)."""
    held += length
    bits |= word << (_64 - held)
    store(data, at, bits)
    whole = held >> np.uint64(3)
    return at + whole, bits << (whole << np.uint64(3)), held & np.uint64(7)


@inlined
def _put_long(
    data: NDArray[np.uint8], at: np.uint64, bits: np.uint64, held: np.uint64, word: np.uint64, length: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """As `_put`, for any number of bits: those before the last 64 are zeros."""
    while length > _64:
        zeros = min(length - _64, _SHORT)
        at, bits, held = _put(data, at, bits, held, np.uint64(0), zeros)
        length -= zeros
    if length > np.uint64(32):
        at, bits, held = _put(data, at, bits, held, word >> np.uint64(32), length - np.uint64(32))
        word, length = word & np.uint64(0xFFFFFFFF), np.uint64(32)
    return _put(data, at, bits, held, word, length)


@inlined
def _window(data: NDArray[np.uint8], at: np.uint64) -> np.uint64:
    """Return the bits from bit `at` of the data on, the first highest; 57 of them at least."""
    return load(data, at >> np.uint64(3)) << (at & np.uint64(7))


@inlined
def _read(
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
            window = _window(data, at + run)
            zeros = leading_zeros(window)
        run += zeros + _ONE
        rest = _window(data, at + run)
        return (((run - _ONE) << rice) | (rest >> np.uint64(1) >> (np.uint64(63) - rice))) + _ONE, run + rice
    if code == OMEGA:
        found = np.uint64(_OMEGA_NUMBERS[window >> (_64 - _TABLE)])
        if found != np.uint64(0):
            return found >> np.uint64(4), found & np.uint64(15)
        number, length = _ONE, np.uint64(0)
        while window >> np.uint64(63) != np.uint64(0):
            size = number + _ONE
            if size > np.uint64(49):
                return np.uint64(0), length
            number = window >> (_64 - size)
            length += size
            window = _window(data, at + length)
        return number, length + _ONE
    zeros = leading_zeros(window)
    if code == GAMMA:
        if zeros <= np.uint64(28):
            return window >> (np.uint64(63) - zeros - zeros), zeros + zeros + _ONE
        if zeros > np.uint64(48):
            return np.uint64(0), zeros
        return _window(data, at + zeros) >> (np.uint64(63) - zeros), zeros + zeros + _ONE
    if zeros > np.uint64(5):
        return np.uint64(0), zeros
    high = (window >> (np.uint64(63) - zeros - zeros)) - _ONE  # the place of the number's highest bit
    length = zeros + zeros + _ONE
    if high > np.uint64(48):
        return np.uint64(0), length
    rest = window << length if length + high <= _VALID else _window(data, at + length)
    return _ONE << high | (rest >> np.uint64(1) >> (np.uint64(63) - high)), length + high


def _kernels(code: int, payload: int) -> Any:
    """Make the kernels for a code and a payload: constants in them, so that what does not concern them vanishes."""

    @kernel
    def encode(
        offsets: NDArray[np.int64],
        index: NDArray[np.int32],
        words: NDArray[np.int32],
        n: int,
        s: int,
        rice: NDArray[np.uint8],
        skip: int,
        out_offsets: NDArray[np.int64],
        data: NDArray[np.uint8],
    ) -> int:
        """Write every row as a packet behind `skip` free bytes; Rice puts its parameter, rice[row], before the entries.

        Returns the bytes used, or -1 - row for a row that is no message.
        """
        at = np.uint64(0)
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            at += np.uint64(skip)
            k, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            parameter = np.uint64(0)
            if code == RICE and k < last:
                parameter = np.uint64(rice[row])
                data[at] = parameter
                at += _ONE
            previous = np.int64(-1)
            bits, held = np.uint64(0), np.uint64(0)
            while k < last:
                here, word = np.int64(index[k]), np.int64(words[k])
                if not _is_entry(here, previous, word, n, s, payload):
                    return -1 - row
                gap_word, gap_length = _code(code, np.uint64(here - previous), parameter)
                tail_word, tail_length = _tail(code, word, payload)
                previous = here
                k += _ONE
                if gap_length + tail_length <= _SHORT:
                    at, bits, held = _put(
                        data, at, bits, held, gap_word << tail_length | tail_word, gap_length + tail_length
                    )
                else:
                    at, bits, held = _put_long(data, at, bits, held, gap_word, gap_length)
                    at, bits, held = _put_long(data, at, bits, held, tail_word, tail_length)
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
        rice: NDArray[np.uint8],
        out: NDArray[np.int64],
    ) -> None:
        """Write the bytes that `encode` takes for every row, without `skip`; -1 for a row that is no message."""
        for row in range(out.size):
            previous = np.int64(-1)
            first, last = offsets[row], offsets[row + 1]
            parameter = np.uint64(rice[row] if code == RICE else 0)
            bits = np.uint64(8 if code == RICE and first < last else 0)
            good = True
            for k in range(np.uint64(first), np.uint64(last)):
                here, word = np.int64(index[k]), np.int64(words[k])
                good &= _is_entry(here, previous, word, n, s, payload)
                bits += _code(code, np.uint64(here - previous), parameter)[1] + _tail(code, word, payload)[1]
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
                start = at
                window = _window(data, at)
                left = end - at
                if left < np.uint64(8):
                    rest = window >> (_64 - left)
                    if rest == ((_ONE << left) - _ONE if code == OMEGA else np.uint64(0)):
                        break
                gap, length = _read(code, data, at, window, rice, end)
                at += length
                if at >= end:
                    return TRUNCATED, row, int(np.int64(start - first) >> 3)
                if gap - _ONE >= np.uint64(n - 1 - previous):  # 0 is large too
                    return PAST_N, row, int(np.int64(start - first) >> 3)
                previous += np.int64(gap)
                window = window << length if length <= room else _window(data, at)
                if payload == FLOATS:
                    word = np.int64(window >> np.uint64(32))
                    at += np.uint64(32)
                    if word & 0x7F800000 == 0x7F800000:
                        return NOT_FINITE, row, int(np.int64(start - first) >> 3)
                    word -= (word >> 31) << 32
                else:
                    negative = np.int64(window >> np.uint64(63))
                    at += _ONE
                    word = np.int64(1)
                    if payload == LEVELS:
                        level, length = _read(level_code, data, at, window << _ONE, np.uint64(0), end)
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
