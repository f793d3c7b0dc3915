"""QSGD: the scale of a vector, and a random level for every coordinate."""

from __future__ import annotations

import math

import numpy as np

from oracles import hashing, signs, thinning


def l2_norm(coordinates: list[int], values: np.ndarray) -> float:
    """Sum squares in 32 lanes (coordinate mod 32), add the lanes in halves, take the root."""
    lanes = [0.0] * 32
    for c, x in zip(coordinates, values, strict=True):
        lanes[c % 32] += float(x) ** 2
    return math.sqrt(signs.lanes_total(lanes))


def up_to_float32(x: float) -> np.float32:
    rounded = np.float32(x)
    return np.nextafter(rounded, np.float32(np.inf)) if float(rounded) < x else rounded


def position(x: float, scale: np.float32, s: int) -> np.float32:
    """|x| s / scale, as the specification rounds it."""
    lift = np.float32(2.0**64) if scale < np.float32(2.0**-60) else np.float32(1)
    factor = np.float32(s / float(scale * lift))
    if scale * lift * factor < s:  # so that |x| = scale gives s exactly
        factor = np.nextafter(factor, np.float32(np.inf))
    return min(np.float32(np.float32(abs(np.float32(x)) * lift) * factor), np.float32(s))


def level(x: float, scale: np.float32, s: int, u: int) -> int:
    """The signed level of x when the 24-bit uniform is u."""
    if scale == 0:
        return 0
    t = position(x, scale, s)
    floor = math.floor(t)
    size = floor + int(u < (float(t) - floor) * 2**24)
    return -size if x < 0 else size


def qsgd(
    coordinates: list[int], values: np.ndarray, s: int, word: int, norm: str = "l2", n: int = 0
) -> tuple[np.float32, dict[int, int]]:
    """The message of one vector, of length n if that is more than its entries: its scale, and the levels but zeros."""
    size = l2_norm(coordinates, values) if norm == "l2" else float(max(map(abs, values), default=0.0))
    scale = up_to_float32(size)
    levels = {c: level(x, scale, s, hashing.uniform24(c, word)) for c, x in zip(coordinates, values, strict=True)}
    entries = dict(zip(coordinates, values, strict=True))
    if scale and max(n, len(coordinates)) >= 4096 * s * s:
        for block in {c // 2048 for c in coordinates}:
            inside = {c: x for c, x in entries.items() if c // 2048 == block}
            levels |= thinning.thinned(block, {c: position(x, scale, s) for c, x in inside.items()}, inside, word)
    return scale, {c: found for c, found in levels.items() if found}
