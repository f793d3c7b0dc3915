"""Constants of the workers' rows: what each has by itself, and how their Hessians differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.block import Block
from qsim.datasets import Shards
from qsim.objectives.base import Objective
from qsim.objectives.others import LeastSquares
from qsim.weights import Replica

_BLOCK = 64  # workers whose gradients are held at once
_MANY = 500  # features: a Hessian is held for each worker, and squared


def of_workers(task: str, objective: Objective, shards: Shards, *points: NDArray[Any]) -> NDArray[np.float64]:
    """Return a number for each worker of shards, from its rows alone.

    task: "smoothness": L_i. "convexity": the mu of its rows; l2 without. "row smoothness": no less than the largest L
        of its rows, and of all workers' that of all. "square norms": ||g_i(w)||^2, or of two points
        ||g_i(u) - g_i(w)||^2. "row square norms": the mean of ||g(w)||^2 over its rows, g being the gradient of one;
        0 without rows. "owned": how many weights its rows touch.
    """
    if task == "smoothness":
        return objective.worker_smoothness(shards)
    if task == "convexity":
        spans = zip(shards.offsets[:-1], shards.offsets[1:], strict=True)
        pieces = [shards.dataset.take(shards.order[low:high]) if low < high else None for low, high in spans]
        l2 = float(objective.l2 or 0.0)
        return np.array([l2 if rows is None else objective.strong_convexity(rows) for rows in pieces], np.float64)
    if task == "owned":
        return np.diff(shards.support_offsets).astype(np.float64) * shards.width
    if task == "row smoothness":
        return np.full(shards.workers, objective.row_smoothness(shards))
    if task == "square norms":
        return _square_norms(objective, shards, *points)
    if task == "row square norms":
        one = replace(shards, offsets=np.arange(shards.dataset.rows + 1))  # a worker for every row
        worker = np.repeat(np.arange(shards.workers), shards.sizes)
        sums = np.bincount(worker, _square_norms(objective, one, *points), shards.workers)
        return np.asarray(sums / np.maximum(shards.sizes, 1), np.float64)
    raise ValueError(f"there is no task {task!r}")


def _square_norms(objective: Objective, shards: Shards, *points: NDArray[Any]) -> NDArray[np.float64]:
    """Return ||g_i(w)||^2 for all workers of shards, in float64; of two points, ||g_i(u) - g_i(w)||^2."""
    found = []
    for low in range(0, shards.workers, _BLOCK):
        block = Block(shards, low, min(low + _BLOCK, shards.workers))
        first, *others = (objective.update(block, block.all_rows(), Replica(w), 1.0) for w in points)
        for other in others:
            first = replace(first, value=first.value - other.value)
        found.append(_squares(first))
    return np.concatenate(found)


def _squares(v: Vectors) -> NDArray[np.float64]:
    """Return the squared norm of every row."""
    squares = np.bincount(np.repeat(np.arange(v.rows), np.diff(v.offsets)), v.value**2, v.rows)
    return np.asarray(squares, np.float64)


def hessian_variance(objective: Objective, shards: Any, weights: NDArray[np.float64]) -> float | None:
    """Return the root of the largest eigenvalue of sum_i weight_i H_i^2 - (sum_i weight_i H_i)^2, H_i the Hessians.

    To within 1e-6, never below. None if the Hessians depend on the weights that are trained, or are large, or if the
    rows are elsewhere.
    """
    if not (isinstance(objective, LeastSquares) and isinstance(shards, Shards)) or shards.n > _MANY:
        return None
    mean, square = np.zeros((2, shards.n, shards.n))
    for weight, low, high in zip(weights, shards.offsets[:-1], shards.offsets[1:], strict=True):
        if low < high:
            rows = shards.dataset.take(shards.order[low:high]).to_scipy().astype(np.float64)
            hessian = (rows.T @ rows).toarray() / (high - low)
            mean += weight * hessian
            square += weight * hessian @ hessian
    found = float(np.linalg.eigvalsh(square - mean @ mean)[-1])
    rounding = 1e-12 * float(np.trace(square))
    return float(np.sqrt(max(found, 0.0) + rounding))
