"""Coordinates in a row, and those that workers share out."""

from __future__ import annotations

import numpy as np

from oracles import hashing


def run(word: int, n: int, k: int) -> list[int]:
    """The first coordinate is the word of draw 0, as a fraction of n, rounded down."""
    start = hashing.fold(word, 0) * n >> 64
    return sorted((start + j) % n for j in range(k))


def owners(word: int, workers: int, k: int) -> list[int]:
    """Each coordinate draws a worker; then coordinates drawn at random leave workers with too many, the last one first
    for the first worker with too few."""
    own, tries, given, draw = hashing.fold(word, 0), hashing.fold(word, 1), [], 0
    owner = [hashing.uniform24(c, own) * workers >> 24 for c in range(k * workers)]
    while max(owner.count(worker) for worker in range(workers)) > k:
        c = hashing.fold(tries, draw) * len(owner) >> 64
        draw += 1
        if owner[c] >= 0 and owner.count(owner[c]) > k:
            owner[c] = -1
            given.append(c)
    for worker in range(workers):
        while owner.count(worker) < k:
            owner[given.pop()] = worker
    return owner


def block(word: int, workers: int, k: int) -> list[int]:
    """The coordinates of the worker whose number is in the low 24 bits."""
    number = word % 2**24 % workers
    owner = owners(word - word % 2**24, workers, k)
    return [c for c, worker in enumerate(owner) if worker == number]


def scaled(v: np.ndarray, positions: list[int], factor: float) -> list[np.float32]:
    return [np.float32(float(v[c]) * factor) if c < v.size else np.float32(0) for c in positions]
