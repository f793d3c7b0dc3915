"""Subtractive dither."""

from __future__ import annotations

import math

import numpy as np


def dither(u: int) -> float:
    return (u + 0.5) / 2**24 - 0.5


def dither_level(x: float, scale: float, s: int, u: int) -> int:
    return math.floor(x * (s / scale) + (u + 0.5) / 2**24) if scale else 0


def dither_value(level: int, scale: float, s: int, u: int) -> float:
    return float(np.float32((level - dither(u)) * (scale / s)))
