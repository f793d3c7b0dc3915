"""The l_p norm, in 32 lanes by coordinate."""

from __future__ import annotations

import math

from oracles import signs


def lp_norm(coordinates: list[int], values: list[float], p: float) -> float:
    """M (sum (|x| / M)^p)^(1/p) for p a multiple of 1/2, in 32 lanes by coordinate; M = 1 for p = 1."""
    largest = max(map(abs, values), default=0.0) if p > 1 else 1.0
    if largest == 0:
        return 0.0
    lanes = [0.0] * 32
    for c, x in zip(coordinates, values, strict=True):
        ratio = abs(x) * (1 / largest)
        power = ratio if p == int(p) else ratio * math.sqrt(ratio)
        for _ in range(int(p) - 1):
            power *= ratio
        lanes[c % 32] += power
    return largest * signs.lanes_total(lanes) ** (1 / p)
