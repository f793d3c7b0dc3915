"""Sparsifiers that keep large entries, and toss coins."""

from __future__ import annotations

import math

import numpy as np

from oracles import hashing, select, signs


def by_size(v: np.ndarray) -> list[int]:
    """The coordinates of non-zeros, the largest first, of equal magnitudes the first."""
    return sorted((i for i in range(v.size) if v[i]), key=lambda i: (-abs(float(v[i])), i))


def toplek(v: np.ndarray, k: int, word: int) -> dict[int, np.float32]:
    """The fewest largest ones whose squares have a share k/n of all, or one fewer: the share is met in the mean."""
    lanes = [0.0] * 32
    for i, x in enumerate(v):
        lanes[i % 32] += float(x) ** 2
    lacking = math.sqrt(signs.lanes_total(lanes)) ** 2 * min(k, v.size) / v.size
    largest, count = by_size(v)[:k], 0
    while count < len(largest) - 1 and lacking > float(v[largest[count]]) ** 2:
        lacking -= float(v[largest[count]]) ** 2
        count += 1
    if largest and (hashing.fold(word, 0) >> 11) * 2.0**-53 < lacking / float(v[largest[count]]) ** 2:
        count += 1
    return {i: v[i] for i in sorted(largest[:count])}


def comp(v: np.ndarray, k: int, among: int, word: int) -> dict[int, np.float32]:
    """k places of the `among` largest, by coordinate, those behind the last of which are zeros."""
    largest = sorted(by_size(v)[:among])
    places = [place for place in select.positions(word, among, k) if place < len(largest)]
    return {largest[place]: np.float32(float(v[largest[place]]) * (among / k)) for place in places}


def mix(v: np.ndarray, k: int, others: int, word: int) -> dict[int, np.float32]:
    """The k largest, and what is at some places of the list of all other coordinates."""
    largest = by_size(v)[:k]
    rest = [i for i in range(v.size) if i not in largest]
    drawn = (
        [rest[place] for place in select.positions(word, v.size - k, others)] if len(largest) == k and others else []
    )
    return {i: v[i] for i in sorted([*largest, *drawn]) if v[i]}
