"""Logistic regression on rows as dicts."""

from __future__ import annotations

import math

import numpy as np


def logistic(w: list[float], rows: list[dict[int, float]], labels: list[int], l2: float) -> tuple[float, list[float]]:
    """Loss and gradient, summed exactly (fsum)."""
    losses, parts = [], [[] for _ in w]
    for row, y in zip(rows, labels, strict=True):
        m = y * math.fsum(x * w[j] for j, x in row.items())
        losses.append(math.log1p(math.exp(-m)) if m > 0 else -m + math.log1p(math.exp(m)))
        slope = -y * (math.exp(-m) / (1 + math.exp(-m)) if m > 0 else 1 / (1 + math.exp(m)))
        for j, x in row.items():
            parts[j].append(slope * x)
    n = len(rows)
    value = math.fsum(losses) / n + l2 / 2 * math.fsum(v * v for v in w)
    return value, [math.fsum(part) / n + l2 * v for part, v in zip(parts, w, strict=True)]


def sums_of_rows(rows: list[list[tuple[dict[int, float], float]]]) -> list[dict[int, float]]:
    """The sum of slope times row for each worker, added in float32 row by row, at the coordinates of its rows."""
    found = []
    for mine in rows:
        total: dict[int, np.float32] = {}
        for row, slope in mine:
            for j, x in row.items():
                total[j] = total.get(j, np.float32(0)) + np.float32(slope) * np.float32(x)
        found.append({j: float(total[j]) for j in sorted(total)})
    return found
