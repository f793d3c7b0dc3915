"""LIBSVM text to arrays: a line a row, `label index:value index:value ...`, every number rounded as `float` does.

Eight bytes are looked at together: how many of them lead as digits, and what number these make. A decimal is a whole
number w times 10^q. If w <= 2^53 and |q| <= 22, one multiplication or division of floats rounds it correctly (Clinger,
"How to read floating point numbers accurately", PLDI 1990); otherwise 64 x 128 bits of w 5^q decide (Lemire, "Number
parsing at a gigabyte per second", Software: Practice and Experience 2021). The rest is left to the caller: more than
19 digits, powers outside -64, ..., 38, and products too close to call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import as_float, leading_zeros, load_low, product_high, trailing_zeros

FINE, NO_LABEL, NO_INDEX, WRONG_INDEX, NO_VALUE, TOO_LARGE = range(6)
"""What was found: 0 for good lines; no label; no index with its colon; an index out of order or out of range; no value
behind the colon, or one that float32 cannot hold."""

PADDING = 16
"""How many bytes must follow the text, since words are loaded across its end."""

LARGEST = 3.4028235677973362e38
"""The last float64 that does not become infinite in float32."""

_NEWLINE, _SPACE, _HASH, _PLUS, _MINUS, _POINT, _COLON, _E = (np.uint8(ord(byte)) for byte in "\n #+-.:e")
_TAB, _RETURN, _LOWER = np.uint8(9), np.uint8(13), np.uint8(32)
_ZERO, _ONE, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)
_QID, _FOUR_BYTES = np.uint64(int.from_bytes(b"qid:", "little")), np.uint64(0xFFFFFFFF)
_MOST_DIGITS = np.uint64(19)  # below 2^64, whatever they are
_LEAST_POWER, _MOST_POWER = -64, 38  # beyond, 19 digits are zero or infinite in float32


def _five_to(q: int) -> int:
    """Return the leading 128 bits of 5^q: rounded down, but up for those q < 0 whose reciprocal fits 64 bits."""
    power: int = 5 ** abs(q)
    if q >= 0:
        return power << 128 >> power.bit_length()
    return (1 << power.bit_length() + 127) // power + (q >= -27)


_FIVES = np.array(
    [half for q in range(_LEAST_POWER, _MOST_POWER + 1) for half in divmod(_five_to(q), 1 << 64)], np.uint64
)
_TENS = np.array([10**k for k in range(9)], np.uint64)
_FLOAT_TENS = np.array([10.0**k for k in range(23)])


@inlined
def _more_digits(data: NDArray[np.uint8], at: np.uint64, number: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Append the digits from a place on to a number, modulo 2^64; returns the place behind them and the number."""
    while True:
        word = load_low(data, at)
        others = (word + np.uint64(0x4646464646464646)) | (word - np.uint64(0x3030303030303030))
        digits = trailing_zeros(others & np.uint64(0x8080808080808080)) >> np.uint64(3)
        if digits == _ZERO:
            return at, number
        word = (word << (np.uint64(64) - _EIGHT * digits)) & np.uint64(0x0F0F0F0F0F0F0F0F)
        word = ((word * np.uint64(2561)) >> _EIGHT) & np.uint64(0x00FF00FF00FF00FF)
        word = ((word * np.uint64(6553601)) >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)
        number = number * _TENS[digits] + ((word * np.uint64(42949672960001)) >> np.uint64(32))
        at += digits
        if digits != _EIGHT:
            return at, number


@inlined
def _scaled(w: np.uint64, q: np.int64) -> tuple[np.float64, bool]:
    """Return the float64 nearest to w 10^q and True; or anything and False if it is not known."""
    if w <= np.uint64(1 << 53) and -22 <= q <= 22:
        return (np.float64(w) / _FLOAT_TENS[-q] if q < 0 else np.float64(w) * _FLOAT_TENS[q]), True
    if w == _ZERO:
        return np.float64(0.0), True
    if q < _LEAST_POWER or q > _MOST_POWER:
        return np.float64(0.0), False
    zeros = leading_zeros(w)
    w <<= zeros
    five = np.uint64(2 * (q - _LEAST_POWER))
    high, low = product_high(w, _FIVES[five]), w * _FIVES[five]
    if high & np.uint64(511) == np.uint64(511):  # what was left out may carry into the bits that are kept
        more = product_high(w, _FIVES[five + _ONE])
        low += more
        high += np.uint64(low < more)
    if low == ~_ZERO:
        return np.float64(0.0), False
    upper = high >> np.uint64(63)
    kept = high >> (upper + np.uint64(9))  # 53 bits, and one that rounds
    exponent = np.uint64(((217706 * q) >> 16) + 1086) + upper - zeros  # floor(q log2(10))
    halfway = kept << (upper + np.uint64(9)) == high and low <= _ONE and -4 <= q <= 23
    if halfway and kept & np.uint64(3) == _ONE:
        kept &= ~_ONE
    kept = (kept + (kept & _ONE)) >> _ONE
    if kept == np.uint64(1 << 53):
        kept >>= _ONE
        exponent += _ONE
    return as_float((kept & np.uint64((1 << 52) - 1)) | exponent << np.uint64(52)), True


@inlined
def _ends(byte: np.uint8) -> bool:
    """Tell whether a token ends before a byte."""
    return bool(_TAB <= byte <= _RETURN or byte == _SPACE or byte == _HASH)  # noqa: SIM109


@kernel
def parse(
    data: NDArray[np.uint8],
    end: int,
    first: int,
    last: int,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    labels: NDArray[np.float64],
    hard: NDArray[np.int64],
) -> tuple[int, int, int, int, int]:
    """Read the lines of data[:end], the last of which is complete, too: (reason, place, lines, rows, hard numbers).

    first, last: the smallest index there may be, which becomes column 0, and the largest.
    offsets, labels, indices, values: the rows. There must be room for end/2 + 1 rows and end/4 + 1 entries.
    hard: for each number that the caller has to read, its entry (its label: ~row) and its place; room for end/4 + 1.

    Blank lines are no rows; comments (from # to the end of a line) and a `qid:number` before the entries are passed
    over. Unless the reason is FINE, place is where the label, the index or the value starts that is none, or wrong.
    """
    at, place, finish = _ZERO, _ZERO, np.uint64(end)
    lines = row = entry = left = 0
    offsets[0] = 0
    while at < finish:
        least = np.uint64(first)
        labelled = False
        while True:
            while data[at] == _SPACE or (_TAB <= data[at] <= _RETURN and data[at] != _NEWLINE):
                at += _ONE
            if data[at] == _HASH:
                while data[at] != _NEWLINE:
                    at += _ONE
            if data[at] == _NEWLINE:
                break
            place = at
            column = np.int32(0)
            if labelled:
                if load_low(data, at) & _FOUR_BYTES == _QID and entry == offsets[row]:
                    begin = at + np.uint64(4)
                    at, _ = _more_digits(data, begin, _ZERO)
                    if at == begin or not _ends(data[at]):
                        return NO_INDEX, int(np.int64(place)), lines, row, left
                    continue
                at, index = _more_digits(data, at, _ZERO)
                if at == place or data[at] != _COLON:
                    return NO_INDEX, int(np.int64(place)), lines, row, left
                if index < least or index > np.uint64(last) or at - place > _MOST_DIGITS:
                    return WRONG_INDEX, int(np.int64(place)), lines, row, left
                column = np.int32(index - np.uint64(first))
                least = index + _ONE
                at += _ONE
                place = at
                digit = np.uint64(data[at]) - np.uint64(48)
                if digit <= np.uint64(9) and data[at + _ONE] == _SPACE:  # as in data of indicators
                    indices[entry] = column
                    values[entry] = np.float32(digit)
                    entry += 1
                    at += _ONE
                    continue
            negative = data[at] == _MINUS
            at += np.uint64(negative or data[at] == _PLUS)
            begin = at
            at, w = _more_digits(data, at, _ZERO)
            digits = at - begin
            q = np.int64(0)
            if data[at] == _POINT:
                at += _ONE
                point = at
                at, w = _more_digits(data, at, w)
                q = -np.int64(at - point)
                digits += at - point
            good = digits > _ZERO
            if digits > _MOST_DIGITS:
                while data[begin] == np.uint8(48) or data[begin] == _POINT:  # zeros in front do not count
                    digits -= np.uint64(data[begin] != _POINT)
                    begin += _ONE
            if data[at] | _LOWER == _E:
                at += _ONE
                lower = data[at] == _MINUS
                at += np.uint64(lower or data[at] == _PLUS)
                begin = at
                at, power = _more_digits(data, at, _ZERO)
                good = good and at > begin
                power = min(power, np.uint64(1 << 20)) if at - begin <= _MOST_DIGITS else np.uint64(1 << 20)
                q += -np.int64(power) if lower else np.int64(power)
            if not good or not _ends(data[at]):
                return (NO_VALUE if labelled else NO_LABEL), int(np.int64(place)), lines, row, left
            value, known = _scaled(w, q)
            if not known or digits > _MOST_DIGITS:
                value = np.float64(0.0)
                hard[2 * left] = entry if labelled else ~row
                hard[2 * left + 1] = np.int64(place)
                left += 1
            value = -value if negative else value
            if not labelled:
                labels[row] = value
                labelled = True
                continue
            if abs(value) > LARGEST:
                return TOO_LARGE, int(np.int64(place)), lines, row, left
            indices[entry] = column
            values[entry] = np.float32(value)
            entry += 1
        at += _ONE
        lines += 1
        if labelled:
            row += 1
            offsets[row] = entry
    return FINE, 0, lines, row, left
