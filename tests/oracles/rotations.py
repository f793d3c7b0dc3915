"""DRIVE and EDEN, written from their docstrings: random rotations, and levels of rotated numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from oracles import hadamard, hashing, quantize, signs


def blocks(x: list[np.float32]) -> list[np.float32]:
    """The transform over the powers of two that the length is made of, the largest first."""
    if not x:
        return []
    size = 2 ** (len(x).bit_length() - 1)
    return hadamard.hadamard(x[:size]) + blocks(x[size:])


def order(size: int, turn: int, word: int) -> list[int]:
    """Which numbers come first, second, ... in a round."""
    if size & (size - 1) == 0:
        return list(range(size))
    word, j = hashing.fold(word, turn), 1
    while math.gcd(hashing.below(hashing.fold(word, j), size), size) != 1:
        j += 1
    a, b = hashing.below(hashing.fold(word, j), size), hashing.below(hashing.fold(word, 0), size)
    return [(a * i + b) % size for i in range(size)]


def rotate(x: list[np.float32], first: int, rounds: int, word: int) -> list[np.float32]:
    """Rotate the piece of a row that begins at coordinate `first`."""
    for turn in range(rounds):
        x = [x[i] for i in order(len(x), turn, word)]
        x = blocks([-y if hashing.uniform24(first + k, word) >> turn & 1 else y for k, y in enumerate(x)])
    return x


def rotate_back(x: list[np.float32], first: int, rounds: int, word: int) -> list[np.float32]:
    for turn in reversed(range(rounds)):
        x = [-y if hashing.uniform24(first + k, word) >> turn & 1 else y for k, y in enumerate(blocks(x))]
        places = order(len(x), turn, word)
        x = [y for _, y in sorted(zip(places, x, strict=True), key=lambda pair: pair[0])]
    return x


def pieces(n: int, chunk: int) -> list[range]:
    """Runs of `chunk` coordinates; what is left over joins the last."""
    starts = list(range(0, n - chunk + 1, chunk)) or [0]
    return [range(a, b) for a, b in zip(starts, [*starts[1:], n], strict=True)]


def negative(x: np.float32, coordinate: int, word: int) -> bool:
    """The sign of a rotated number; that of a tie is drawn."""
    return bool(hashing.uniform24(coordinate, word) >> 23 if abs(x) < 2.0**-16 else x < 0)


def rotated_levels(
    v: np.ndarray, centroids: list[float], rounds: int, chunk: int, word: int
) -> tuple[list[np.float32], dict[int, int]]:
    """The scales, one for every `chunk` coordinates begun, and the levels by coordinate."""
    c = [float(np.float32(x)) for x in centroids]
    middles = [float(np.float32((a + b) / 2)) for a, b in pairwise(c)]
    scales, levels = [], {}
    for piece in pieces(v.size, chunk):
        part = v[piece.start : piece.stop]
        norm = quantize.l2_norm(list(range(len(piece))), part)
        scale = np.float32(0)
        if norm > 0:
            unit = math.sqrt(len(piece)) / norm
            y = rotate([np.float32(float(x) * unit) for x in part], piece.start, rounds, word)
            found = [1 + sum(abs(float(x)) >= m for m in middles) for x in y]
            product = signs.in_lanes([c[k - 1] * abs(float(x)) for k, x in zip(found, y, strict=True)])
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
