"""Sparsifiers that choose so many coordinates, or those above a threshold."""

from __future__ import annotations

import numpy as np

from oracles import hashing


def positions(word: int, n: int, k: int) -> list[int]:
    """Floyd's algorithm, with a set."""
    if k >= n:
        return list(range(n))
    taken: set[int] = set()
    for draw in range(k):
        last = n - k + draw
        t = hashing.fold(word, draw) * (last + 1) >> 64
        taken.add(last if t in taken else t)
    return sorted(taken)


def randk(v: np.ndarray, k: int, word: int) -> dict[int, np.float32]:
    factor = max(1.0, v.size / k)
    return {i: np.float32(float(v[i]) * factor) for i in positions(word, v.size, k) if v[i]}


def topk(v: np.ndarray, k: int) -> dict[int, np.float32]:
    order = sorted(range(v.size), key=lambda i: (-abs(float(v[i])), i))
    return {i: v[i] for i in sorted(order[:k]) if v[i]}


def hard_threshold(v: np.ndarray, threshold: float) -> dict[int, np.float32]:
    return {i: x for i, x in enumerate(v) if abs(float(x)) >= threshold}
