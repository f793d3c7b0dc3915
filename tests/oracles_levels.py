"""Plain-Python oracles of the compressors that round to levels, written from their specification."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction

import numpy as np

DRAWS = 2**24


def lp_norm(coordinates: list[int], values: list[float], p: float) -> float:
    """M (sum (|x| / M)^p)^(1/p) for p a multiple of 1/2, in 32 lanes by coordinate; M = 1 for p = 1."""
    largest = max(map(abs, values), default=0.0) if p > 1 else 1.0
    if largest == 0:
        return 0.0
    lanes = [0.0] * 32
    for c, x in zip(coordinates, values, strict=True):
        ratio = abs(x) * (1 / largest)
        power = ratio if p == int(p) else ratio * math.sqrt(ratio)
        for _ in range(int(p) - 1):
            power *= ratio
        lanes[c % 32] += power
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return largest * lanes[0] ** (1 / p)


def bits(x: float) -> int:
    return struct.unpack("<I", struct.pack("<f", x))[0]


def from_bits(word: int) -> float:
    return struct.unpack("<f", struct.pack("<I", word))[0]


def exponent_level(x: float, u: int) -> int:
    """Natural compression: one more than the biased exponent with probability mantissa / 2^23."""
    exponent, mantissa = divmod(bits(abs(x)), 2**23)
    level = exponent + int(mantissa + u // 2 >= 2**23)
    return -level if x < 0 else level


def exponent_value(level: int) -> float:
    return math.copysign(math.ldexp(1.0, abs(level) - 127), level) if level else 0.0


def power_level(x: float, scale: float, s: int, u: int) -> int:
    """Natural dithering, for the 24-bit uniform u."""
    if scale == 0:
        return 0
    t = float(np.float32(min(abs(x) * (2.0 ** (s - 1) / scale), 2.0 ** (s - 1))))
    if t < 1:
        level = int(u < t * 2**24)
    else:
        mantissa, exponent = math.frexp(t)  # t = mantissa 2^exponent, 1/2 <= mantissa < 1
        level = exponent + int((2 * mantissa - 1) * 2**23 + u // 2 >= 2**23)
    return -level if x < 0 else level


def power_value(level: int, scale: float, s: int) -> float:
    return math.copysign(float(np.float32(scale * 2.0 ** (abs(level) - s))), level) if level else 0.0


def dither(u: int) -> float:
    return (u + 0.5) / DRAWS - 0.5


def dither_level(x: float, scale: float, s: int, u: int) -> int:
    return math.floor(x * (s / scale) + (u + 0.5) / DRAWS) if scale else 0


def dither_value(level: int, scale: float, s: int, u: int) -> float:
    return float(np.float32((level - dither(u)) * (scale / s)))


def half_value(x: float, format: str, u: int) -> float:
    """Stochastic rounding to float16 or bfloat16."""
    if format == "float16" and abs(x) < 2.0**-14:
        t = abs(x) * 2.0**24
        return math.copysign((math.floor(t) + (u < (t - math.floor(t)) * 2**24)) * 2.0**-24, x)
    dropped = 13 if format == "float16" else 16
    word, unit = bits(abs(x)), 2**dropped
    cut = word - word % unit + unit * int(word % unit + (u >> (24 - dropped)) >= unit)
    return math.copysign(from_bits(cut), x)


def nearest_half(x: float, format: str) -> float:
    """The nearest number of the format, ties to the even one, found among its neighbours in exact arithmetic."""
    size = Fraction(abs(x))
    kept, least = (10, -14) if format == "float16" else (7, -126)
    exponent = max(math.frexp(x)[1] - 1, least) if x else least
    gap = Fraction(2) ** (exponent - kept)
    return math.copysign(float(round(size / gap) * gap), x)  # Python rounds ties to even


def law(draw: Callable[[int], float]) -> dict[float, Fraction]:
    """What a function of the 24-bit uniform gives, and how often: it takes two neighbouring values, changing once."""
    first, last = draw(0), draw(DRAWS - 1)
    if first == last:
        return {first: Fraction(1)}
    low, high = 0, DRAWS - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if draw(middle) == first else (low, middle)
    return {first: Fraction(high, DRAWS), last: 1 - Fraction(high, DRAWS)}


def mean(found: dict[float, Fraction]) -> Fraction:
    return sum(Fraction(value) * chance for value, chance in found.items())


def square_error(found: dict[float, Fraction], x: float) -> Fraction:
    return sum((Fraction(value) - Fraction(x)) ** 2 * chance for value, chance in found.items())
