"""Softmax regression on rows as dicts."""

from __future__ import annotations

import math


def softmax(
    w: list[float], rows: list[dict[int, float]], labels: list[int], classes: int, l2: float
) -> tuple[float, list[float], list[list[float]]]:
    """Value and gradient of softmax regression, and the probabilities: weight c of feature j is w[j * classes + c]."""
    value, gradient, chances = 0.5 * l2 * sum(x * x for x in w), [l2 * x for x in w], []
    for row, label in zip(rows, labels, strict=True):
        margins = [math.fsum(x * w[j * classes + c] for j, x in row.items()) for c in range(classes)]
        top = max(margins)
        total = math.fsum(math.exp(z - top) for z in margins)
        value += (math.log(total) + top - margins[label]) / len(rows)
        chances.append([math.exp(z - top) / total for z in margins])
        for j, x in row.items():
            for c in range(classes):
                gradient[j * classes + c] += x * (chances[-1][c] - (c == label)) / len(rows)
    return value, gradient, chances
