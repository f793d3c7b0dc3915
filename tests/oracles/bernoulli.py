"""Coordinates that are kept independently of each other."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from oracles import hashing


def bernoulli(v: np.ndarray, p: float, word: int) -> dict[int, np.float32]:
    steps = round(p * 2**24)
    kept = [i for i, x in enumerate(v) if x and hashing.uniform24(i, word) < steps]
    return {i: np.float32(float(v[i]) * (2**24 / steps)) for i in kept}


def certain_magnitude(v: np.ndarray, k: int) -> float:
    """The t with sum min(1, |v_i| / t) = k, in exact fractions: the m largest are certain, for the least m possible."""
    magnitudes = sorted((Fraction(abs(float(x))) for x in v if x), reverse=True)
    if len(magnitudes) <= k:
        return 0.0
    rest = sum(magnitudes)
    for m in range(k):
        if magnitudes[m] * (k - m) < rest:
            return float(rest / (k - m))
        rest -= magnitudes[m]
    return float(magnitudes[k - 1])


def wangni(v: np.ndarray, t: float, word: int) -> dict[int, np.float32]:
    """What is kept for a given t."""
    kept = {}
    for i, x in enumerate(v.tolist()):
        steps = min(abs(x) * (2.0**24 / t), 2.0**24) if t else 2.0**24
        if x and hashing.uniform24(i, word) < steps:
            kept[i] = np.float32(x * (2.0**24 / math.ceil(steps)))
    return kept
