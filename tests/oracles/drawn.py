"""Coordinates in a row, and those that workers share out."""

from __future__ import annotations

from math import gcd

import numpy as np

from oracles import hashing


def run(word: int, n: int, k: int) -> list[int]:
    """The first coordinate is the word of draw 0, as a fraction of n, rounded down."""
    start = hashing.fold(word, 0) * n >> 64
    return sorted((start + j) % n for j in range(k))


def owners(word: int, hands: int, k: int) -> list[int]:
    """Each coordinate draws a hand; then coordinates drawn at random leave hands with too many, the last one first
    for the first hand with too few."""
    own, tries, given, draw = hashing.fold(word, 0), hashing.fold(word, 1), [], 0
    owner = [hashing.uniform24(c, own) * hands >> 24 for c in range(k * hands)]
    while max(owner.count(hand) for hand in range(hands)) > k:
        c = hashing.fold(tries, draw) * len(owner) >> 64
        draw += 1
        if owner[c] >= 0 and owner.count(owner[c]) > k:
            owner[c] = -1
            given.append(c)
    for hand in range(hands):
        while owner.count(hand) < k:
            owner[given.pop()] = hand
    return owner


def block(word: int, workers: int, copies: int, n: int) -> list[int]:
    """The coordinates of the worker whose number is in the low 24 bits: those of hands that it has a hand in."""
    number, word = word % 2**24 % workers, word - word % 2**24
    hands, order = workers // gcd(workers, copies), list(range(workers))
    for i in range(1, workers if copies > 1 else 0):
        j = hashing.fold(hashing.fold(word, 2), i) * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    holders = [{order[(hand * copies + c) % workers] for c in range(copies)} for hand in range(hands)]
    mine = [c for c, hand in enumerate(owners(word, hands, -(-n // hands))) if number in holders[hand] and c < n]
    k = min(n, -(-n // hands) * copies * hands // workers)
    return mine + list(range(n + len(mine), n + k))


def scaled(v: np.ndarray, positions: list[int], factor: float) -> list[np.float32]:
    return [np.float32(float(v[c]) * factor) if c < v.size else np.float32(0) for c in positions]
