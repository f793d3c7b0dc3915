"""Plain-Python oracles of the sign and rotation compressors, written from their docstrings."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from oracles import below, fold, l2_norm, uniform24


def in_lanes(terms: list[float]) -> float:
    """Sum in 32 lanes, term k in lane k mod 32, and add the lanes in halves."""
    lanes = [0.0] * 32
    for k, term in enumerate(terms):
        lanes[k % 32] += term
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0]


def scaled_sign(v: list[float]) -> tuple[np.float32, dict[int, int]]:
    """The scale, and the levels by coordinate."""
    scale = np.float32(in_lanes([abs(x) for x in v]) / len(v))
    return scale, {i: 1 if x >= 0 else -1 for i, x in enumerate(v)} if scale > 0 else {}


def one_bit(v: list[float], support_only: bool) -> tuple[np.float32, np.float32, dict[int, bool]]:
    """The low mean, the high mean, and the bits by coordinate."""
    bits = {i: x >= 0 for i, x in enumerate(v) if x != 0 or not support_only}
    entries = [v[i] for i in bits]
    low, high = [x for x in entries if x < 0], [x for x in entries if x >= 0]
    low_sum = in_lanes([x if x < 0 else 0.0 for x in entries])
    high_sum = in_lanes([x if x >= 0 else 0.0 for x in entries])
    return np.float32(low_sum / max(len(low), 1)), np.float32(high_sum / max(len(high), 1)), bits


def decoded(rule: str, v: np.ndarray) -> np.ndarray:
    """What arrives of a vector, in float64: rule "scaled", "one bit" or "support"."""
    v = np.asarray(v, np.float64)
    if rule == "scaled":
        return np.where(v >= 0, 1.0, -1.0) * np.abs(v).mean()
    out = np.zeros(v.size)
    for side in (v >= 0, v < 0):
        if rule == "support":
            side = side & (v != 0)
        if side.any():
            out[side] = v[side].mean()
    return out


def hadamard(x: list[np.float32]) -> list[np.float32]:
    """The plain algorithm, level by level, in float32."""
    x = [np.float32(1.0 / math.sqrt(len(x))) * number for number in x]
    distance = 1
    while distance < len(x):
        for k in range(len(x)):
            if not k & distance:
                x[k], x[k + distance] = x[k] + x[k + distance], x[k] - x[k + distance]
        distance *= 2
    return x


def blocks(x: list[np.float32]) -> list[np.float32]:
    """The transform over the powers of two that the length is made of, the largest first."""
    if not x:
        return []
    size = 2 ** (len(x).bit_length() - 1)
    return hadamard(x[:size]) + blocks(x[size:])


def order(size: int, turn: int, word: int) -> list[int]:
    """Which numbers come first, second, ... in a round."""
    if size & (size - 1) == 0:
        return list(range(size))
    word, j = fold(word, turn), 1
    while math.gcd(below(fold(word, j), size), size) != 1:
        j += 1
    a, b = below(fold(word, j), size), below(fold(word, 0), size)
    return [(a * i + b) % size for i in range(size)]


def rotate(x: list[np.float32], first: int, rounds: int, word: int) -> list[np.float32]:
    """Rotate the piece of a row that begins at coordinate `first`."""
    for turn in range(rounds):
        x = [x[i] for i in order(len(x), turn, word)]
        x = blocks([-y if uniform24(first + k, word) >> turn & 1 else y for k, y in enumerate(x)])
    return x


def rotate_back(x: list[np.float32], first: int, rounds: int, word: int) -> list[np.float32]:
    for turn in reversed(range(rounds)):
        x = [-y if uniform24(first + k, word) >> turn & 1 else y for k, y in enumerate(blocks(x))]
        places = order(len(x), turn, word)
        x = [y for _, y in sorted(zip(places, x, strict=True), key=lambda pair: pair[0])]
    return x


def pieces(n: int, chunk: int) -> list[range]:
    """Runs of `chunk` coordinates; what is left over joins the last."""
    starts = list(range(0, n - chunk + 1, chunk)) or [0]
    return [range(a, b) for a, b in zip(starts, [*starts[1:], n], strict=True)]


def negative(x: np.float32, coordinate: int, word: int) -> bool:
    """The sign of a rotated number; that of a tie is drawn."""
    return bool(uniform24(coordinate, word) >> 23 if abs(x) < 2.0**-16 else x < 0)


def rotated_levels(
    v: np.ndarray, centroids: list[float], rounds: int, chunk: int, word: int
) -> tuple[list[np.float32], dict[int, int]]:
    """The scales, one for every `chunk` coordinates begun, and the levels by coordinate."""
    c = [float(np.float32(x)) for x in centroids]
    middles = [float(np.float32((a + b) / 2)) for a, b in pairwise(c)]
    scales, levels = [], {}
    for piece in pieces(v.size, chunk):
        part = v[piece.start : piece.stop]
        norm = l2_norm(list(range(len(piece))), part)
        scale = np.float32(0)
        if norm > 0:
            unit = math.sqrt(len(piece)) / norm
            y = rotate([np.float32(float(x) * unit) for x in part], piece.start, rounds, word)
            found = [1 + sum(abs(float(x)) >= m for m in middles) for x in y]
            product = in_lanes([c[k - 1] * abs(float(x)) for k, x in zip(found, y, strict=True)])
            scale = np.float32(norm * math.sqrt(len(piece)) / product)
            if scale > 0:
                levels |= {i: -k if negative(x, i, word) else k for i, k, x in zip(piece, found, y, strict=True)}
        scales += [scale] * max(1, math.ceil(len(piece) / chunk))
    return scales, levels


def rotated_values(
    n: int,
    scales: list[np.float32],
    levels: dict[int, int],
    centroids: list[float],
    rounds: int,
    chunk: int,
    word: int,
) -> list[np.float32]:
    c, out = [np.float32(x) for x in centroids], []
    for piece in pieces(n, chunk):
        if piece.start not in levels:
            out += [np.float32(0)] * len(piece)
            continue
        x = [np.float32(math.copysign(c[abs(levels[i]) - 1], levels[i])) for i in piece]
        out += [y * scales[piece.start // chunk] for y in rotate_back(x, piece.start, rounds, word)]
    return out
