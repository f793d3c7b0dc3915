"""QUIC-FL, written from the docstrings: one of two windows of a table at random, and large numbers exact."""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np

from oracles import hashing, quantize
from oracles.rotations import pieces, rotate, rotate_back


def means(table: list[np.float32], dithers: int) -> list[float]:
    """The grid: the means of all windows."""
    return [math.fsum(map(float, table[w : w + dithers])) / dithers for w in range(len(table) - dithers + 1)]


def is_too_large(unit: float, size: int, table: list[np.float32]) -> bool:
    return unit * math.sqrt(size * (float(table[-1]) ** 2 + 1)) > float(np.finfo(np.float32).max)


def quicfl_message(
    v: np.ndarray, table: list[np.float32], shared_bits: int, rounds: int, chunk: int, word: int
) -> tuple[list[np.float32], dict[int, int], dict[int, np.float32]]:
    """The scales, one for every `chunk` coordinates begun, the levels and the outliers by coordinate."""
    dithers, rest = 2**shared_bits, 24 - shared_bits
    grid, s = means(table, dithers), len(table) // dithers // 2
    scales, levels, outliers = [], {}, {}
    for piece in pieces(v.size, chunk):
        part = v[piece.start : piece.stop]
        scale = np.float32(quantize.l2_norm(list(range(len(piece))), part) / math.sqrt(len(piece)))
        scales += [scale] * max(1, math.ceil(len(piece) / chunk))
        if scale == 0:
            continue
        over = 1 / float(scale)
        x = rotate([np.float32(float(y) * over) for y in part], piece.start, rounds, word)
        for i, z in zip(piece, map(float, x), strict=True):
            draw = hashing.uniform24(i, hashing.fold(word, 0))
            dither, uniform = draw >> rest, draw % 2**rest
            if abs(z) > grid[-1]:
                outliers[i], levels[i] = np.float32(z * float(scale)), int(math.copysign(s, z))
                continue
            w = min(bisect_right(grid, z) - 1, len(grid) - 2)
            w += uniform < (z - grid[w]) * (2.0**rest / (grid[w + 1] - grid[w]))
            (place,) = (p for p in range(2 * s) if w <= p * dithers + dither < w + dithers)
            levels[i] = place - s if place < s else place - s + 1
    return scales, levels, outliers


def quicfl_values(
    n: int,
    scales: list[np.float32],
    levels: dict[int, int],
    outliers: dict[int, np.float32],
    table: list[np.float32],
    shared_bits: int,
    rounds: int,
    chunk: int,
    word: int,
) -> list[np.float32]:
    dithers, out = 2**shared_bits, []
    s = len(table) // dithers // 2
    for piece in pieces(n, chunk):
        scale = scales[piece.start // chunk]
        if scale == 0:
            out += [np.float32(0)] * len(piece)
            continue
        x = []
        for i in piece:
            place = levels[i] + s - (levels[i] > 0)
            dither = hashing.uniform24(i, hashing.fold(word, 0)) >> 24 - shared_bits
            x.append(
                np.float32(float(outliers[i]) / float(scale)) if i in outliers else table[place * dithers + dither]
            )
        out += [y * scale for y in rotate_back(x, piece.start, rounds, word)]
    return out
