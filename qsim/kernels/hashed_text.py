"""Delimited text to hashed rows: a line a row, a field a cell, every cell a feature that a hash of it names.

A cell is a column's number or its category. The hash of a category is that of the column's word and the cell's bytes;
that of a number, of the column's word and no bytes. Its low bits are the feature, its highest one the sign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import load_low, ones, trailing_zeros
from qsim.kernels.decimals import HARD, LARGEST, MOST_DIGITS, NO_NUMBER, decimal, more_digits
from qsim.kernels.simd import STRIP, at_least, pointer

FINE, WRONG_FIELDS, NO_LABEL, NO_VALUE, TOO_LARGE = range(5)
"""What was found: 0 for good lines; too few or too many fields; a label or a number that is none; a value that float32
cannot hold."""

UNREAD, LABEL, NUMBER, CATEGORY = range(4)
"""What a field is."""

MISSING = np.uint64(0xFF)
"""The byte whose hash is that of a missing cell: no text in UTF-8 holds it."""

PADDING = 64
"""How many bytes must follow the text, since they are looked at in strips."""

_NEWLINE, _RETURN, _PLUS, _MINUS = (np.uint8(ord(byte)) for byte in "\n\r+-")
_ZERO, _ONE, _SIX, _EIGHT, _TOP = (np.uint64(number) for number in (0, 1, 6, 8, 63))
_ODD, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_LAST = np.int32(0x7FFFFFFF)
_MOST = 1.7976931348623157e308  # not infinite
_LOGS = np.log1p(np.arange(1024.0)).astype(np.float32)


@intrinsic
def _separators(typing: Any, data: Any, at: Any, delimiter: Any) -> Any:
    """Generate the code of `separators`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8)
        strip = ir.VectorType(byte, STRIP)
        here = builder.load(pointer(context, builder, signature.args[0], arguments[0], arguments[1], strip), align=1)
        first = builder.insert_element(ir.Constant(strip, ir.Undefined), arguments[2], ir.IntType(32)(0))
        wanted = builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), STRIP), None))
        newline = ir.Constant(strip, [int(_NEWLINE)] * STRIP)
        found = builder.or_(builder.icmp_unsigned("==", here, wanted), builder.icmp_unsigned("==", here, newline))
        return builder.bitcast(found, ir.IntType(64))

    good = isinstance(data, types.Array) and data.dtype == types.uint8 and delimiter == types.uint8
    return (types.uint64(data, types.uint64, delimiter), generate) if good else None


separators = cast("Callable[[NDArray[np.uint8], np.uint64, np.uint8], np.uint64]", _separators)
"""Return a word whose bit j, from 0 to 63, is set if data[at + j] is the delimiter or a newline.

Nothing checks that 64 bytes are there.
"""


@kernel
def find_separators(data: NDArray[np.uint8], end: int, delimiter: np.uint8, places: NDArray[np.uint32]) -> int:
    """Write where the delimiters and newlines of data[:end] are; returns how many there are, and needs as much room."""
    found = _ZERO
    for strip in range((np.uint64(end) + _TOP) >> _SIX):
        at = strip << _SIX
        marks = separators(data, at, delimiter)
        if at + np.uint64(STRIP) > np.uint64(end):
            marks &= (_ONE << (np.uint64(end) - at)) - _ONE
        while marks != _ZERO:
            places[found] = at + trailing_zeros(marks)
            marks &= marks - _ONE
            found += _ONE
    return int(np.int64(found))


@inlined
def mixed(word: np.uint64) -> np.uint64:
    """Return a word of which every bit depends on all bits of the given one."""
    word = (word ^ (word >> np.uint64(32))) * _MIX
    word = (word ^ (word >> np.uint64(29))) * _ODD
    return np.uint64(word ^ (word >> np.uint64(32)))


@inlined
def _hash(data: NDArray[np.uint8], low: np.uint64, high: np.uint64, word: np.uint64) -> np.uint64:
    """Hash data[low:high], eight bytes at a time, with a column's word; of no bytes, anything."""
    word ^= (high - low) * _ODD
    while high - low > _EIGHT:
        word = mixed(word ^ load_low(data, low))
        low += _EIGHT
    left = (_EIGHT * (_EIGHT - (high - low))) & np.uint64(63)
    return np.uint64(mixed(word ^ ((load_low(data, low) << left) >> left)))


@kernel
def _sort(
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    k: int,
    bits: int,
    spare: NDArray[np.int32],
    spare_values: NDArray[np.float32],
    starts: NDArray[np.int64],
) -> None:
    """Sort the first k entries by column, those of one column staying in their order: a digit of 8 bits at a time.

    spare, spare_values, starts: room for k entries, and for 256 numbers.
    """
    for shift in range(0, bits, 8):
        starts[:] = 0
        for place in range(np.uint64(k)):
            starts[np.uint8(columns[place] >> shift)] += 1
        start = 0
        for digit in range(np.uint64(starts.size)):
            count = starts[digit]
            starts[digit] = start
            start += count
        for place in range(np.uint64(k)):
            bucket = np.uint8(columns[place] >> shift)
            to = np.uint64(starts[bucket])
            spare[to], spare_values[to] = columns[place], values[place]
            starts[bucket] += 1
        columns[:k], values[:k] = spare[:k], spare_values[:k]


@kernel
def parse(
    data: NDArray[np.uint8],
    places: NDArray[np.uint32],
    kinds: NDArray[np.uint8],
    words: NDArray[np.uint64],
    pairs: NDArray[np.int64],
    bits: int,
    signed: bool,
    logarithms: bool,
    keeps_missing: bool,
    offsets: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    labels: NDArray[np.float64],
    hard: NDArray[np.int64],
    known: NDArray[np.float64],
) -> tuple[int, int, int, int]:
    """Read the lines whose fields end at these places: (reason, place, rows, hard numbers).

    kinds, words: what each field of a line is, and the word of its column.
    pairs: pairs of fields that are features too, shape (pairs, 2).
    bits: there are 2^bits features, 31 at most.
    signed: whether the hash gives a sign as well.
    logarithms: whether a number x is sign(x) log(1 + |x|).
    keeps_missing: whether an empty cell is a feature, or none.
    offsets, columns, values, labels: the rows. There must be room for places.size / kinds.size of them.
    hard: where the numbers are that the caller has to read; room for places.size. If there are any, the call is to be
    repeated with their values as `known`, until then empty.

    Unless the reason is FINE, place is where the line starts whose number of fields is wrong, or the cell that is.
    """
    fields = kinds.size
    cell_word, cell_value = np.zeros(fields, np.uint64), np.zeros(fields, np.float32)
    room = max(fields + pairs.shape[0] + 1, STRIP)
    found, found_values = np.full(room, _LAST, np.int32), np.zeros(room, np.float32)
    spare, spare_values, starts = np.empty(room, np.int32), np.empty(room, np.float32), np.empty(256, np.int64)
    mask, signs = np.uint64((1 << bits) - 1), np.array([1.0, -1.0 if signed else 1.0], np.float32)
    start = _ZERO
    at = row = entry = before = left = 0
    offsets[0] = 0
    while at < places.size:
        if at + fields > places.size or data[places[at + fields - 1]] != _NEWLINE:
            return WRONG_FIELDS, int(np.int64(start)), row, left
        low = start
        k = 0
        for field in range(fields):
            high = np.uint64(places[at + field])
            begin, low = low, high + _ONE
            if field < fields - 1:
                if data[high] == _NEWLINE:
                    return WRONG_FIELDS, int(np.int64(start)), row, left
            elif high > begin and data[high - _ONE] == _RETURN:
                high -= _ONE
            kind = kinds[field]
            if kind == UNREAD:
                continue
            word, empty = words[field], high == begin
            if keeps_missing and empty and kind != LABEL:
                x, word = np.float32(1.0), mixed(word ^ _ODD ^ MISSING)
            elif kind == CATEGORY:
                x, word = np.float32(not empty), _hash(data, begin, high, word)
            else:
                negative = data[begin] == _MINUS and not empty
                digit = begin + np.uint64(negative)
                behind, w = more_digits(data, digit, _ZERO)
                plain = behind == high and high - digit <= MOST_DIGITS and w < np.uint64(_LOGS.size)
                if plain and kind == NUMBER and (digit < high or empty):  # nothing is read as 0, which is no entry
                    x = _LOGS[w] if logarithms else np.float32(w)
                    x = -x if negative else x
                else:
                    behind, value, state = decimal(data, begin)
                    if behind != high or state == NO_NUMBER:
                        return (NO_LABEL if kind == LABEL else NO_VALUE), int(np.int64(begin)), row, left
                    if state == HARD:
                        hard[left] = np.int64(begin)
                        value = known[left] if left < known.size else np.float64(0.0)
                        left += 1
                    if kind == LABEL:
                        labels[row] = value
                        continue
                    if logarithms and abs(value) <= _MOST:
                        value = np.copysign(np.log1p(abs(value)), value)
                    if abs(value) > LARGEST:
                        return TOO_LARGE, int(np.int64(begin)), row, left
                    x = np.float32(value)
                word = mixed(word)
            cell_word[field], cell_value[field] = word, x
            found[k], found_values[k] = np.int32(word & mask), x * signs[word >> _TOP]
            k += x != np.float32(0.0)  # without a branch: which cells are empty cannot be foretold
        for pair in range(pairs.shape[0]):
            one, other = pairs[pair, 0], pairs[pair, 1]
            product = np.float64(cell_value[one]) * np.float64(cell_value[other])
            if abs(product) > LARGEST:
                return TOO_LARGE, int(np.int64(start)), row, left
            x = np.float32(product)
            if x == np.float32(0.0):
                continue
            word = mixed(cell_word[one] * _ODD + cell_word[other])
            found[k], found_values[k] = np.int32(word & mask), x * signs[word >> _TOP]
            k += 1
        total = np.int64(0)
        if k <= STRIP:
            found[k : max(before, k + 1)] = _LAST
            for place in range(k):
                rank = np.int64(STRIP) - ones(at_least(found, 0, found[place]))  # how many columns are smaller
                columns[entry + rank], values[entry + rank] = found[place], found_values[place]
                total += rank
        before = k
        if k > STRIP or 2 * total != k * (k - 1):  # equal columns have one rank
            _sort(found, found_values, k, bits, spare, spare_values, starts)
            end = entry - 1
            for place in range(k):
                if place and found[place] == found[place - 1]:
                    values[end] += found_values[place]
                else:
                    end += 1
                    columns[end], values[end] = found[place], found_values[place]
            k = end + 1 - entry
        entry += k
        at += fields
        row += 1
        start = low
        offsets[row] = entry
    return FINE, 0, row, left
