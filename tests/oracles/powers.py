"""Levels that are powers of two, and their values."""

from __future__ import annotations

import math

import numpy as np

from oracles import bits


def exponent_level(x: float, u: int) -> int:
    """Natural compression: one more than the biased exponent with probability mantissa / 2^23."""
    exponent, mantissa = divmod(bits.of_float(abs(x)), 2**23)
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
