"""Correlated quantization, coordinate by coordinate."""

from __future__ import annotations

import math

import numpy as np

from oracles import hashing


def permutation(key: int, size: int) -> list[int]:
    """Fisher and Yates: from the last one down, each is exchanged with one up to it."""
    order = list(range(size))
    for last in range(size - 1, 0, -1):
        other = hashing.fold(key, last) * (last + 1) >> 64
        order[last], order[other] = order[other], order[last]
    return order


def levels(v: np.ndarray, workers: int, bits: int, word: int) -> list[int]:
    """One for every coordinate; 0 for all of the zero vector."""
    scale, top = max(abs(float(x)) for x in v), 2**bits - 1
    if scale == 0:
        return [0] * v.size
    number, stream = word % 2**24 % workers, word - word % 2**24
    first = permutation(hashing.fold(stream, 1), workers)[number]
    found = []
    for k, x in enumerate(v):
        stratum = (first + (hashing.uniform24(k, hashing.fold(stream, 2)) * workers >> 24)) % workers
        uniform = (stratum + hashing.uniform24(k, hashing.fold(word, 0)) * 2.0**-24) * (1 / workers)
        place = float(x) * (top / 2 / scale) + top / 2
        point = min(max(math.floor(place), 0), top - 1)
        point += uniform < place - point
        found.append(point - (top + 1) // 2 + (point >= (top + 1) // 2))
    return found
