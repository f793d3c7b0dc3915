"""Kashin's representation, written from the docstrings: few steps of truncation, and coefficients rounded at random."""

from __future__ import annotations

import math

import numpy as np

from oracles import hadamard, hashing, quantize
from oracles.rotations import pieces
from oracles.signs import lanes_total


def flipped(x: list[np.float32], first: int, bit: int, word: int) -> list[np.float32]:
    return [-y if hashing.uniform24(first + k, word) >> bit & 1 else y for k, y in enumerate(x)]


def rotate(x: list[np.float32], first: int, word: int) -> list[np.float32]:
    block = 2 ** (len(x).bit_length() - 1)
    rest = len(x) - block
    x = hadamard.hadamard(flipped(x[:block], first, 0, word)) + x[block:]
    return x[:rest] + hadamard.hadamard(flipped(x[rest:], first + rest, 1, word)) if rest else x


def rotate_back(x: list[np.float32], first: int, word: int) -> list[np.float32]:
    block = 2 ** (len(x).bit_length() - 1)
    rest = len(x) - block
    if rest:
        x = x[:rest] + flipped(hadamard.hadamard(x[rest:]), first + rest, 1, word)
    return flipped(hadamard.hadamard(x[:block]), first, 0, word) + x[block:]


def coefficients(x: list[np.float32], first: int, words: list[int]) -> list[list[np.float32]]:
    return [rotate([np.float32(0.5) * y for y in x], first, word) for word in words]


def root_mean_square(rows: list[list[np.float32]]) -> np.float32:
    lanes = [0.0] * 32
    for row in rows:
        for k, y in enumerate(row):
            lanes[k % 32] += float(y) ** 2
    return np.float32(math.sqrt(lanes_total(lanes) / (2 * len(rows[0]))))


def peak(rows: list[list[np.float32]]) -> float:
    return max(abs(float(y)) for row in rows for y in row)


def represent(x: list[np.float32], first: int, words: list[int]) -> list[list[np.float32]]:
    """The coefficients with small maximum, or R_0 x/2 and R_1 x/2 if theirs is smaller."""
    total, rest = [[np.float32(0)] * len(x) for _ in words], list(x)
    for _ in range(8):
        found = coefficients(rest, first, words)
        limit = root_mean_square(found)
        for row, part, word in zip(total, found, words, strict=True):
            part = [min(max(y, -limit), limit) for y in part]
            row[:] = [a + b for a, b in zip(row, part, strict=True)]
            rest = [a - b for a, b in zip(rest, rotate_back(part, first, word), strict=True)]
    found = coefficients(rest, first, words)
    total = [[a + b for a, b in zip(row, part, strict=True)] for row, part in zip(total, found, strict=True)]
    plain = coefficients(x, first, words)
    return plain if peak(total) > peak(plain) else total


def kashin_levels(v: np.ndarray, bits: int, chunk: int, word: int) -> tuple[list[np.float32], dict[int, int]]:
    """The scales, one for every `chunk` coordinates begun, and the levels by coordinate."""
    scales, levels, top = [], {}, 2**bits - 1
    signs, draws = ([hashing.fold(word, k) for k in pair] for pair in ((0, 1), (2, 3)))
    for piece in pieces(v.size, chunk):
        part = v[piece.start : piece.stop]
        norm, scale = quantize.l2_norm(list(range(len(piece))), part), np.float32(0)
        if norm > 0:
            unit = math.sqrt(len(piece)) / norm
            rows = represent([np.float32(float(x) * unit) for x in part], piece.start, signs)
            scale = np.float32(peak(rows) / unit)
            if scale > 0:
                slope = top / 2 / float(scale) / unit
                for k, i in enumerate(piece):
                    points = []
                    for row, draw in zip(rows, draws, strict=True):
                        place = float(row[k]) * slope + top / 2
                        low = min(max(math.floor(place), 0), top - 1)
                        points.append(low + (hashing.uniform24(i, draw) / 2**24 < place - low))
                    both = points[0] * 2**bits + points[1] - 2 ** (2 * bits - 1)
                    levels[i] = both if both < 0 else both + 1
        scales += [scale] * max(1, math.ceil(len(piece) / chunk))
    return scales, levels


def kashin_values(
    n: int, scales: list[np.float32], levels: dict[int, int], bits: int, chunk: int, word: int
) -> list[np.float32]:
    out, top = [], 2**bits - 1
    for piece in pieces(n, chunk):
        if piece.start not in levels:
            out += [np.float32(0)] * len(piece)
            continue
        both = [levels[i] + 2 ** (2 * bits - 1) - (levels[i] > 0) for i in piece]
        rows = [[p >> bits for p in both], [p % 2**bits for p in both]]
        first, second = (
            rotate_back([np.float32(2 * p - top) for p in row], piece.start, hashing.fold(word, basis))
            for basis, row in enumerate(rows)
        )
        factor = np.float32(float(scales[piece.start // chunk]) / top)
        out += [(a + b) * factor for a, b in zip(first, second, strict=True)]
    return out
