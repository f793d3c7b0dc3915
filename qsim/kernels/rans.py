"""Gaps and levels by rANS: two states, one for gaps and one for levels, over the same words of 16 bits.

The encoder goes from the last entry to the first and appends words; the decoder takes them from the packet's end. Plain
bits stand before the words. `docs/wire-format.md` is the specification.

How fast: both states step without a branch and do not wait for each other; a step is a multiplication behind another
(out) or behind a look into a table (in), and the words come from one load an entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import is_entry, load, load_low, store, store_low
from qsim.kernels.decode_status import (
    BAD_TABLE,
    FINE,
    FLOATS,
    LEFT_OVER,
    LEVELS,
    NO_SYMBOL,
    NOT_FINITE,
    OVERLONG,
    PAST_LEVELS,
    PAST_N,
    SIGNS,
    TRUNCATED,
    ZERO,
)
from qsim.kernels.frequencies import (
    MOST_BITS,
    SYMBOLS,
    class_of,
    highest_shared,
    plain_bits,
    precision,
    read_table,
    to_divisors,
    to_frequencies,
    to_slots,
    write_table,
)

LOWEST = np.uint64(1 << 15)
"""A state is at least this, and below 2^16 times as much. The encoder starts from it; the decoder must end at it."""

ENTRIES_PER_BYTE = np.uint64(1600)
"""An entry lessens the logarithm of a state by log2(288/287) at least, so that 1595 take a byte."""

HEAD = 2048
"""The number of entries and two tables take fewer bytes."""

_ONE, _TWO, _64 = np.uint64(1), np.uint64(2), np.uint64(64)
_16, _WORD = np.uint64(16), np.uint64(0xFFFF)
_SMALL, _ZERO = np.uint64(128), 64  # a gap below the one, and a level that is by the other, are counted as they are
_LIMITS = (188, 238)  # so many symbols of gaps and of levels


@inlined
def _level_class(word: np.int64) -> tuple[np.uint64, np.uint64]:
    """Return the symbol of a signed level, and how many plain bits it has."""
    symbol, plain = class_of(np.uint64(abs(word)))
    return symbol << _ONE | np.uint64(word < 0), plain


@inlined
def _low(number: np.uint64, length: np.uint64) -> np.uint64:
    """Return the lowest bits of a number."""
    return number & ((_ONE << length) - _ONE)


@inlined
def _push(state: np.uint64, divisors: NDArray[np.uint64], symbol: np.uint64) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Put a symbol into a state: (new state, low word of the old one, 1 if the word must be written else 0)."""
    row = symbol << _TWO
    word = state & _WORD
    full = np.uint64(state >= divisors[row + _TWO])
    shorter = state >> _16
    state = shorter if full != np.uint64(0) else state
    packed = divisors[row + _ONE]
    quotient = state * divisors[row] >> (packed & np.uint64(63))
    return state + (packed >> np.uint64(8)) + quotient * divisors[row + np.uint64(3)], word, full


@inlined
def _put_back(
    data: NDArray[np.uint8], at: np.uint64, bits: np.uint64, held: np.uint64, word: np.uint64, length: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Put up to 56 bits before the up to 7 held ones; eight bytes are written. Returns the new (at, bits, held)."""
    bits |= word << held
    held += length
    store(data, at - np.uint64(8), bits)
    whole = held >> np.uint64(3)
    return at - whole, bits >> (whole << np.uint64(3)), held & np.uint64(7)


@kernel
def _head(
    k: np.uint64,
    counts: NDArray[np.int64],
    low: NDArray[np.uint64],
    tables: int,
    head: NDArray[np.uint8],
    divisors: NDArray[np.uint64],
) -> np.uint64:
    """Turn counts into frequencies and divisors; write k and the tables to `head`, and return how many bytes."""
    p = precision(k)
    for table in range(tables):
        to_frequencies(counts[table], int(np.int64(k)), int(np.int64(p)))
    most = highest_shared(p)
    if tables == 2 and min(counts[0].max(), counts[1].max()) > most:
        counts[0, counts[0].argmax()] = most
    at, rest = np.uint64(0), k
    while rest > np.uint64(127):
        head[at] = np.uint8(rest & np.uint64(127) | np.uint64(128))
        rest >>= np.uint64(7)
        at += _ONE
    head[at] = np.uint8(rest)
    at += _ONE
    head[at] = 0
    at <<= np.uint64(3)
    for table in range(tables):
        at = write_table(head, at, counts[table], low[table] != np.uint64(0), 1 + table)
        to_divisors(counts[table], p, divisors[table])
    return (at + np.uint64(7)) >> np.uint64(3)


@kernel
def read_count(data: NDArray[np.uint8], at: np.uint64, end: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Read a LEB128 number at byte `at`: (number, byte behind it). The byte 0 says that there is none."""
    number, shift = np.uint64(0), np.uint64(0)
    while at < end and shift < np.uint64(63):
        byte = np.uint64(data[at])
        number |= (byte & np.uint64(127)) << shift
        at += _ONE
        if byte < np.uint64(128):
            return number, at if byte > np.uint64(0) else np.uint64(0)
        shift += np.uint64(7)
    return number, np.uint64(0)


@kernel
def claims(data: NDArray[np.uint8], offsets: NDArray[np.int64], skip: int, n: int, s: int) -> int:
    """Return how many entries the packets hold in all, of those that say so many as they can hold."""
    total = np.uint64(0)
    for row in range(offsets.size - 1):
        at, end = np.uint64(offsets[row] + skip), np.uint64(offsets[row + 1])
        k, behind = read_count(data, at, end)
        if behind > np.uint64(0) and _plausible(k, end - at, n, s):
            total += k
    return int(np.int64(total))


@inlined
def _plausible(k: np.uint64, size: np.uint64, n: int, s: int) -> bool:
    """Tell whether a body of `size` bytes can hold k entries."""
    return bool(k <= np.uint64(n) and k <= (size * ENTRIES_PER_BYTE if s > 0 else size >> _TWO))


@kernel
def _fold(tally: NDArray[np.int64], counts: NDArray[np.int64], low: NDArray[np.uint64]) -> np.int64:
    """Put the small numbers into their classes; return how many plain bits all numbers have."""
    for place in range(tally.shape[2]):
        gaps, levels = tally[0, 0, place] + tally[1, 0, place], tally[0, 1, place] + tally[1, 1, place]
        if gaps > 0:
            symbol, plain = class_of(np.uint64(place))
            counts[0, symbol] += gaps
            low[0] |= _low(np.uint64(place), plain)
        if levels > 0:
            symbol, plain = _level_class(np.int64(place - _ZERO))
            counts[1, symbol] += levels
            low[1] |= _low(np.uint64(abs(place - _ZERO)), plain)
    total = np.int64(0)
    for table in range(2):
        if low[table] != np.uint64(0):
            for place in range(SYMBOLS):
                total += counts[table, place] * plain_bits(place >> table)
    return total


def _kernels(payload: int) -> tuple[Any, Any, Any]:
    """Make the kernels for a payload: a constant in them, so that what does not concern it vanishes."""
    tables = 1 if payload == FLOATS else 2
    states_bytes, value_bytes = np.uint64(4 * tables), np.uint64(4 if payload == FLOATS else 0)

    @kernel
    def count(
        index: NDArray[np.int32],
        words: NDArray[np.int32],
        n: int,
        s: int,
        tally: NDArray[np.int64],
        counts: NDArray[np.int64],
        low: NDArray[np.uint64],
    ) -> int:
        """Count a row's symbols, and join the plain bits in `low`: how many those are, or -1 for no message.

        Small numbers are counted as they are, and put into classes at the end. Entries take turns with two counts of
        each: adding to what was just written is slow.
        """
        tally[:] = 0
        counts[:] = 0
        low[:] = 0
        previous = np.int64(-1)
        for i in range(np.uint64(index.size)):
            here, word = np.int64(index[i]), np.int64(words[i])
            if not is_entry(here, previous, word, n, s, payload):
                return -1
            gap, turn = np.uint64(here - previous), i & _ONE
            previous = here
            if gap < _SMALL:
                tally[turn, 0, gap] += 1
            else:
                symbol, plain = class_of(gap)
                counts[0, symbol] += 1
                low[0] |= _low(gap, plain)
            if payload != FLOATS:
                place = np.uint64(word + _ZERO)
                if place < _SMALL:
                    tally[turn, 1, place] += 1
                else:
                    symbol, plain = _level_class(word)
                    counts[1, symbol] += 1
                    low[1] |= _low(np.uint64(abs(word)), plain)
        return int(_fold(tally, counts, low))

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
        """Write every row as a packet behind `skip` free bytes: the bytes used, or -1 - row for what is no message."""
        tally, counts = np.empty((2, 2, 128), np.int64), np.empty((2, SYMBOLS), np.int64)
        low, head = np.zeros(2, np.uint64), np.empty(HEAD, np.uint8)
        divisors = np.empty((2, 4 * SYMBOLS), np.uint64)
        of_gap, of_level = divisors[0], divisors[1]
        at = np.uint64(0)
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            at += np.uint64(skip)
            first, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            if first == last:
                out_offsets[row + 1] = at
                continue
            bits_total = count(index[first:last], words[first:last], n, s, tally, counts, low)
            if bits_total < 0:
                return -1 - row
            k = last - first
            head_bytes = _head(k, counts, low, tables, head, divisors)
            gap_mask = ~np.uint64(0) if low[0] != np.uint64(0) else np.uint64(0)
            level_mask = ~np.uint64(0) if low[1] != np.uint64(0) else np.uint64(0)
            states_at = at + head_bytes
            words_at = states_at + states_bytes + value_bytes * k + np.uint64((bits_total + 7) >> 3)
            bits_at, bits, held = words_at, np.uint64(0), np.uint64(-bits_total & 7)
            gap_state, level_state = LOWEST, LOWEST
            here = np.int64(index[last - _ONE])
            i = last
            while i > first:
                i -= _ONE
                word = np.int64(words[i])
                previous = np.int64(index[i - _ONE]) if i > first else np.int64(-1)
                gap = np.uint64(here - previous)
                here = previous
                gap_symbol, gap_plain = class_of(gap)
                gap_plain &= gap_mask
                gap_low = _low(gap, gap_plain)
                level_word, level_full = np.uint64(0), np.uint64(0)
                low_bits, low_length = np.uint64(0), np.uint64(0)
                if payload == SIGNS:
                    level_state, level_word, level_full = _push(level_state, of_level, np.uint64(word < 0))
                if payload == LEVELS:
                    symbol, low_length = _level_class(word)
                    low_length &= level_mask
                    low_bits = _low(np.uint64(abs(word)), low_length)
                    level_state, level_word, level_full = _push(level_state, of_level, symbol)
                gap_state, gap_word, gap_full = _push(gap_state, of_gap, gap_symbol)
                store_low(data, words_at, gap_word << (level_full << np.uint64(4)) | level_word & -level_full)
                words_at += (gap_full + level_full) << _ONE
                if gap_plain + low_length > np.uint64(56):
                    bits_at, bits, held = _put_back(data, bits_at, bits, held, low_bits, low_length)
                    low_bits, low_length = np.uint64(0), np.uint64(0)
                bits_at, bits, held = _put_back(
                    data, bits_at, bits, held, gap_low << low_length | low_bits, gap_plain + low_length
                )
            # What stands before the plain bits comes last: writing them ran up to eight bytes into it.
            for j in range(head_bytes):
                data[at + j] = head[j]
            for j in range(states_bytes):
                states = level_state << np.uint64(32) | gap_state
                data[states_at + j] = np.uint8(states >> (j << np.uint64(3)) & np.uint64(255))
            for j in range(value_bytes * k):
                value = np.uint64(words[first + (j >> _TWO)]) >> ((j & np.uint64(3)) << np.uint64(3))
                data[states_at + states_bytes + j] = np.uint8(value & np.uint64(255))
            at = words_at
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
        tally, counts = np.empty((2, 2, 128), np.int64), np.empty((2, SYMBOLS), np.int64)
        low, head = np.zeros(2, np.uint64), np.empty(HEAD, np.uint8)
        divisors = np.empty((2, 4 * SYMBOLS), np.uint64)
        of_gap, of_level = divisors[0], divisors[1]
        for row in range(out.size):
            first, last = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
            out[row] = 0
            if first == last:
                continue
            bits_total = count(index[first:last], words[first:last], n, s, tally, counts, low)
            if bits_total < 0:
                out[row] = -1
                continue
            k = last - first
            head_bytes = _head(k, counts, low, tables, head, divisors)
            gap_state, level_state, written = LOWEST, LOWEST, np.uint64(0)
            here = np.int64(index[last - _ONE])
            i = last
            while i > first:
                i -= _ONE
                previous = np.int64(index[i - _ONE]) if i > first else np.int64(-1)
                gap_state, _, full = _push(gap_state, of_gap, class_of(np.uint64(here - previous))[0])
                here = previous
                written += full
                if payload != FLOATS:
                    symbol = np.uint64(words[i] < 0)
                    if payload == LEVELS:
                        symbol = _level_class(np.int64(words[i]))[0]
                    level_state, _, full = _push(level_state, of_level, symbol)
                    written += full
            out[row] = np.int64(head_bytes + states_bytes + value_bytes * k + _TWO * written) + ((bits_total + 7) >> 3)

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
        frequencies = np.empty((2, SYMBOLS), np.int64)
        slots = np.empty((2, 1 << MOST_BITS), np.uint32)
        meanings = np.empty((2, SYMBOLS), np.uint64)
        gap_slots, level_slots, gap_meanings, level_meanings = slots[0], slots[1], meanings[0], meanings[1]
        done = np.uint64(0)
        out_offsets[0] = 0
        for row in range(offsets.size - 1):
            begin = np.uint64(offsets[row])
            at, end = begin + np.uint64(skip), np.uint64(offsets[row + 1])
            if at == end:
                out_offsets[row + 1] = done
                continue
            k, behind = read_count(data, at, end)
            if behind == np.uint64(0):
                return OVERLONG, row, int(np.int64(at - begin))
            if k == np.uint64(0) or not _plausible(k, end - at, n, s):
                return TRUNCATED, row, int(np.int64(at - begin))
            p = precision(k)
            at = behind << np.uint64(3)
            for table in range(tables):
                start = at
                limit = _LIMITS[0] if table == 0 else (_LIMITS[1] if payload == LEVELS else 2)
                at, plain = read_table(
                    data, at, end << np.uint64(3), int(np.int64(p)), limit, 1 + table, frequencies[table]
                )
                if at == np.uint64(0):
                    return BAD_TABLE, row, int(np.int64((start >> np.uint64(3)) - begin))
                to_slots(frequencies[table], int(np.int64(p)), plain, table == 1, slots[table], meanings[table])
            start = at >> np.uint64(3)
            if tables == 2 and min(frequencies[0].max(), frequencies[1].max()) > highest_shared(p):
                return BAD_TABLE, row, int(np.int64(start - begin))
            if at & np.uint64(7) != np.uint64(0):
                if data[start] & np.uint8(np.uint64(255) >> (at & np.uint64(7))) != 0:
                    return BAD_TABLE, row, int(np.int64(start - begin))
                start += _ONE
            if start + states_bytes + value_bytes * k > end:
                return TRUNCATED, row, int(np.int64(start - begin))
            both = load_low(data, start)
            gap_state, level_state = both & np.uint64(0xFFFFFFFF), both >> np.uint64(32)
            if payload == FLOATS:
                level_state = LOWEST
            if min(gap_state, level_state) < LOWEST or max(gap_state, level_state) >= LOWEST << _16:
                return LEFT_OVER, row, int(np.int64(start - begin))
            value_at, words_at = start + states_bytes, end
            at = (value_at + value_bytes * k) << np.uint64(3)
            mask, previous = (_ONE << p) - _ONE, np.int64(-1)
            last = done + k
            while done < last:
                coming = load_low(data, words_at - np.uint64(4))
                slot = np.uint64(gap_slots[gap_state & mask])
                gap_state = ((slot >> np.uint64(20)) + _ONE) * (gap_state >> p) + (
                    slot >> np.uint64(8) & np.uint64(0xFFF)
                )
                short = np.uint64(gap_state < LOWEST)
                gap_state = gap_state << (short << np.uint64(4)) | (coming >> _16 & _WORD & -short)
                words_at -= short << _ONE
                meaning = gap_meanings[slot & np.uint64(255)]
                window = load(data, at >> np.uint64(3)) << (at & np.uint64(7))
                length = meaning & np.uint64(127)
                gap = (meaning >> np.uint64(8)) + (window >> _ONE >> (np.uint64(63) - length))
                at += length
                if gap - _ONE >= np.uint64(n - 1 - previous):  # 0 is large too
                    reason = NO_SYMBOL if meaning == np.uint64(0) else PAST_N
                    return reason, row, int(np.int64((at >> np.uint64(3)) - begin))
                previous += np.int64(gap)
                if payload == FLOATS:
                    word = np.int64(load_low(data, value_at) & np.uint64(0xFFFFFFFF))
                    if word & 0x7F800000 == 0x7F800000:
                        return NOT_FINITE, row, int(np.int64(value_at - begin))
                    if word & 0x7FFFFFFF == 0:
                        return ZERO, row, int(np.int64(value_at - begin))
                    value_at += value_bytes
                    word -= (word >> 31) << 32
                else:
                    slot = np.uint64(level_slots[level_state & mask])
                    level_state = ((slot >> np.uint64(20)) + _ONE) * (level_state >> p) + (
                        slot >> np.uint64(8) & np.uint64(0xFFF)
                    )
                    coming = coming >> ((_ONE - short) << np.uint64(4)) & _WORD
                    short = np.uint64(level_state < LOWEST)
                    level_state = level_state << (short << np.uint64(4)) | (coming & -short)
                    words_at -= short << _ONE
                    meaning = level_meanings[slot & np.uint64(255)]
                    level = meaning >> np.uint64(8)
                    negative = np.int64(meaning >> np.uint64(7) & _ONE)
                    if payload == LEVELS:
                        window = load(data, at >> np.uint64(3)) << (at & np.uint64(7))
                        length = meaning & np.uint64(127)
                        level += window >> _ONE >> (np.uint64(63) - length)
                        at += length
                    if level - _ONE >= np.uint64(s):
                        reason = NO_SYMBOL if meaning == np.uint64(0) else PAST_LEVELS
                        return reason, row, int(np.int64((at >> np.uint64(3)) - begin))
                    word = (np.int64(level) ^ -negative) + negative
                if at > words_at << np.uint64(3):
                    return TRUNCATED, row, int(np.int64((at >> np.uint64(3)) - begin))
                index[done] = previous
                words[done] = word
                done += _ONE
            rest = at & np.uint64(7)
            filling = np.uint64(data[at >> np.uint64(3)]) & (np.uint64(255) >> rest)
            start = (at + np.uint64(7)) >> np.uint64(3)
            if (
                start != words_at
                or (rest > np.uint64(0) and filling > np.uint64(0))
                or gap_state != LOWEST
                or level_state != LOWEST
            ):
                return LEFT_OVER, row, int(np.int64(start - begin))
            out_offsets[row + 1] = done
        return FINE, 0, 0

    return encode, sizes, decode


KERNELS = tuple(_kernels(payload) for payload in range(3))
"""The kernels (encode, sizes, decode) for each payload."""
