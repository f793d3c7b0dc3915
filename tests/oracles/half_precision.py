"""Stochastic and nearest rounding to float16 and bfloat16."""

from __future__ import annotations

import math
from fractions import Fraction

from oracles import bits


def half_value(x: float, format: str, u: int) -> float:
    """Stochastic rounding to float16 or bfloat16."""
    if format == "float16" and abs(x) < 2.0**-14:
        t = abs(x) * 2.0**24
        return math.copysign((math.floor(t) + (u < (t - math.floor(t)) * 2**24)) * 2.0**-24, x)
    dropped = 13 if format == "float16" else 16
    word, unit = bits.of_float(abs(x)), 2**dropped
    cut = word - word % unit + unit * int(word % unit + (u >> (24 - dropped)) >= unit)
    return math.copysign(bits.as_float(cut), x)


def nearest_half(x: float, format: str) -> float:
    """The nearest number of the format, ties to the even one, found among its neighbours in exact arithmetic."""
    size = Fraction(abs(x))
    kept, least = (10, -14) if format == "float16" else (7, -126)
    exponent = max(math.frexp(x)[1] - 1, least) if x else least
    gap = Fraction(2) ** (exponent - kept)
    return math.copysign(float(round(size / gap) * gap), x)  # Python rounds ties to even
