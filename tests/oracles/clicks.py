"""Click logs that are drawn at random, in plain Python."""

from __future__ import annotations

import math

import numpy as np

from oracles.hashing import fold
from qsim.keys import Key, Purpose

MISSING = [0.0, 0.03, 0.1, 0.25, 0.45]
SIZES = np.geomspace(10, 2_000_000, 26).astype(int).tolist()


def uniform(word: int) -> float:
    return (word >> 11) * 2.0**-53


def effect(word: int) -> float:
    return (word.bit_count() - 32) / 4


def lines(rows: int, part: int, seed: int) -> list[str]:
    root = Key(seed).fold(Purpose.SYNTHETIC)
    return [line(root.fold(0).word, fold(root.fold(1, part).word, row)) for row in range(rows)]


def line(model: int, drawn: int) -> str:
    margin, cells = -1.3, []
    for field in range(39):
        word, here = fold(drawn, field), fold(model, field)
        if uniform(fold(word, 0)) < MISSING[field % 5]:
            cells.append("")
        elif field < 13:
            bits = min((64 - (word | 1).bit_length()) * (1 + field % 3), 30)
            margin += 0.25 * effect(here) * (bits - 1) * 0.5
            cells.append(str(2**bits - 1 + (fold(word, 1) & (2**bits - 1))))
        else:
            u = uniform(word)
            which = fold(here, int(SIZES[field - 13] * (u * u) * (u * u)))
            margin += 0.25 * effect(which)
            cells.append("".join(f"{which >> 4 * place & 15:x}" for place in range(8)))
    clicked = uniform(fold(drawn, 39)) * (1 + math.exp(-margin)) < 1
    return "\t".join([str(int(clicked)), *cells])
