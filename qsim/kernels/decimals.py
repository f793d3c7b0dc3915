"""Decimals in text, rounded as Python's `float` rounds them.

Eight bytes are looked at together: how many of them lead as digits, and what number these make. A decimal is a whole
number w times 10^q. If w <= 2^53 and |q| <= 22, one multiplication or division of floats rounds it correctly (Clinger,
"How to read floating point numbers accurately", PLDI 1990); otherwise 64 x 128 bits of w 5^q decide (Lemire, "Number
parsing at a gigabyte per second", Software: Practice and Experience 2021). The rest is left to the caller: more than
19 digits, powers outside -64, ..., 38, and products too close to call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined
from qsim.kernels.bits import as_float, leading_zeros, load_low, product_high, trailing_zeros

NO_NUMBER, KNOWN, HARD = range(3)
"""What was found: no number; one, and its value; one whose value the caller has to find."""

PADDING = 16
"""How many bytes must follow a text, since words are loaded across its end."""

LARGEST = 3.4028235677973362e38
"""The last float64 that does not become infinite in float32."""

MOST_DIGITS = np.uint64(19)
"""So many digits are below 2^64, whatever they are."""

_PLUS, _MINUS, _POINT, _E = (np.uint8(ord(byte)) for byte in "+-.e")
_LOWER = np.uint8(32)
_ZERO, _ONE, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)
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
def more_digits(data: NDArray[np.uint8], at: np.uint64, number: np.uint64) -> tuple[np.uint64, np.uint64]:
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
def decimal(data: NDArray[np.uint8], at: np.uint64) -> tuple[np.uint64, np.float64, int]:
    """Read a decimal, such as -12, +.5 or 1e-3: the place behind it, its value, and what was found."""
    negative = data[at] == _MINUS
    at += np.uint64(negative or data[at] == _PLUS)
    begin = at
    at, w = more_digits(data, at, _ZERO)
    digits = at - begin
    q = np.int64(0)
    if data[at] == _POINT:
        at += _ONE
        point = at
        at, w = more_digits(data, at, w)
        q = -np.int64(at - point)
        digits += at - point
    good = digits > _ZERO
    if digits > MOST_DIGITS:
        while data[begin] == np.uint8(48) or data[begin] == _POINT:  # zeros in front do not count
            digits -= np.uint64(data[begin] != _POINT)
            begin += _ONE
    if data[at] | _LOWER == _E:
        at += _ONE
        lower = data[at] == _MINUS
        at += np.uint64(lower or data[at] == _PLUS)
        begin = at
        at, power = more_digits(data, at, _ZERO)
        good = good and at > begin
        power = min(power, np.uint64(1 << 20)) if at - begin <= MOST_DIGITS else np.uint64(1 << 20)
        q += -np.int64(power) if lower else np.int64(power)
    value, known = _scaled(w, q)
    if not known or digits > MOST_DIGITS:
        return at, np.float64(0.0), HARD if good else NO_NUMBER
    return at, -value if negative else value, KNOWN if good else NO_NUMBER
