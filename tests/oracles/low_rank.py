"""A step of subspace iteration, and products of factors, number by number."""

from __future__ import annotations

from math import sqrt

import numpy as np


def subspace_step(matrix: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P, by Gram and Schmidt done twice of what the matrix makes of the columns of `start`; and M^T P."""
    m, basis = matrix.astype(np.float64).tolist(), []
    for a in range(start.shape[1]):
        column = [_dot(row, start[:, a].tolist()) for row in m]
        largest = max(map(abs, column))
        if largest > 0:
            column = [x / largest for x in column]
            first = sqrt(_dot(column, column))
            for _ in range(2):
                for other in basis:
                    part = _dot(column, other)
                    column = [x - part * y for x, y in zip(column, other, strict=True)]
            length = sqrt(_dot(column, column))
            column = [x / length if length > 2.0**-40 * first else 0.0 for x in column]
        basis.append(column)
    left = np.array(basis, np.float64).T.astype(np.float32)
    right = [
        [_sum(row[j] * float(left[i, a]) for i, row in enumerate(m)) for a in range(left.shape[1])]
        for j in range(matrix.shape[1])
    ]
    return left, np.array(right, np.float64).astype(np.float32)


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    rows = [[_sum(float(x) * float(y) for x, y in zip(p, q, strict=True)) for q in right] for p in left]
    return np.array(rows, np.float64).astype(np.float32)


def _dot(x: list[float], y: list[float]) -> float:
    """Eight sums of every eighth term, in pairs; what is behind the last eight goes to the first."""
    terms = [a * b for a, b in zip(x, y, strict=True)]
    whole = len(terms) // 8 * 8
    a, b, c, d, e, f, g, h = (_sum(terms[lane:whole:8] + terms[whole:] * (lane == 0)) for lane in range(8))
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


def _sum(terms) -> float:
    total = 0.0
    for term in terms:
        total += term
    return total
