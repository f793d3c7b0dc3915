"""Blocks in which hardly any coordinate is drawn: coins choose the candidates."""

from __future__ import annotations

import numpy as np

from oracles import hashing


def thinned(block: int, t: dict[int, np.float32], values: dict[int, float], word: int) -> dict[int, int]:
    """The levels of a block, if it is thinned."""
    largest = max(t.values())
    if sum(x != 0 for x in values.values()) < 512 or largest > 2.0**-6:
        return {}
    j = next((j for j in range(24, 6, -1) if largest <= 2.0**-j), 6)
    heads = candidates(block, j, word)
    return {
        c: (-1 if values[c] < 0 else 1) * int(c in heads and hashing.uniform24(c, word) < float(t[c]) * 2.0 ** (24 + j))
        for c in t
    }


def candidates(block: int, j: int, word: int) -> set[int]:
    """The coordinates of a block of which j coins show heads: coin l of 32 i + b is bit b of draw 64 l + i."""
    coins = [
        [hashing.draw32(2048 * block + 64 * turn + i, hashing.fold(word, 2**63)) for i in range(64)]
        for turn in range(j)
    ]
    return {2048 * block + c for c in range(2048) if all(toss[c // 32] >> c % 32 & 1 for toss in coins)}
