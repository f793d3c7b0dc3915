"""The noise of a compressor in the gradient, measured at given weights, and the loss that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.batch import Vectors
from qsim.block import Block
from qsim.keys import Key, Purpose
from qsim.objectives import LinearModel
from qsim.objectives.products import margins_of
from qsim.simulation import Run
from qsim.weights import Replica

Array = NDArray[np.float64]

DRAWS = 200
"""The number of times that every vector is compressed, by default."""


@dataclass(frozen=True)
class Noise:
    """The error of a compressor in the mean of all messages, at given weights.

    squares: the mean of ||g||^2 over messages. bias: E Q(g) - g, of the mean message. variance: of each coordinate of
    the mean message; all over the compressor's randomness.
    """

    squares: float
    bias: Array
    variance: Array


def noise(run: Run, weights: Array, *, by_row: bool = False, draws: int = DRAWS) -> Noise:
    """Measure what the run's compressor, without memory, does to the gradients of all workers at some weights.

    by_row: every worker sends the gradient of one of its rows, drawn at random (SGD with batch = 1); the means are then
        over these draws too, but not their own variance, which the uncompressed run has as well.
    """
    if run.compressor.correlated is not None:
        raise ValueError(f"errors of workers are taken to be independent, and those of {run.compressor!r} are not")
    shards = run.partition.split(run.load(), run.workers, Key(run.seed).fold(Purpose.PARTITION))
    sizes = np.diff(shards.offsets)
    shares = sizes / sizes.sum() if run.weighting == "rows" else np.full(run.workers, 1 / run.workers)
    if by_row:
        shards = replace(shards, offsets=np.arange(shards.dataset.rows + 1))
        chances = np.repeat(1 / np.maximum(sizes, 1), sizes)  # of a row, that its worker draws it
        shares = np.repeat(shares, sizes)
    else:
        chances = np.ones(run.workers)
    block = Block(shards, 0, shares.size)
    sent = run.objective.update(block, block.all_rows(), Replica(weights.astype(np.float32)), 1.0)
    total, squared = moments(run.compressor, sent, draws)
    exact = sent.to_dense().astype(np.float64)
    return Noise(
        float(np.average(np.sum(exact**2, axis=1), weights=shares * chances)),
        (shares * chances) @ (total - exact),
        (shares**2 * chances) @ np.maximum(squared - total**2, 0.0),
    )


def moments(compressor: qsim.compressors.Compressor, vectors: Vectors, draws: int) -> tuple[Array, Array]:
    """Return the mean and the mean square of what each vector arrives as, over draws of keys."""
    total, squared = np.zeros((2, vectors.rows, vectors.n))
    for draw in range(draws):
        keys = Key(0).fold(draw).words(0, vectors.rows)
        arrived = compressor.decompress(compressor.compress(vectors, keys), keys).to_dense().astype(np.float64)
        total += arrived / draws
        squared += arrived**2 / draws
    return total, squared


def hessian(run: Run, weights: Array) -> Array:
    """Return the Hessian of a linear model's objective, dense."""
    objective = run.objective
    if not isinstance(objective, LinearModel):
        raise TypeError(f"the Hessian is known for linear models, found {objective!r}")
    data = objective.design(run.load())
    margin_hvp = objective.curvature(margins_of(data, weights), data.labels)
    matrix = data.to_scipy().astype(np.float64)
    found = (matrix.T @ matrix.multiply(margin_hvp[:, None] / data.rows)).toarray()
    return np.asarray(found + objective.regulariser_hvp(weights, np.eye(weights.size)))


def excess(curvature: Array, variance: Array, step: float, rounds: int) -> float:
    """Return the loss that unbiased noise adds to gradient descent in some rounds, for a quadratic.

    With w' = w - step (grad F(w) + e), E e = 0, E e e^T = C and F quadratic with Hessian H, E w is the way without
    noise, and what is added to the loss is tr(H S)/2, where S' = (I - step H) S (I - step H) + step^2 C. Along the
    eigenvector of an eigenvalue h of H that is step^2 h c (1 - q^(2 rounds))/(2 (1 - q^2)), q = 1 - step h: with a step
    of at most 1/L never more than step tr(C)/2, and in the end at least step tr(C)/4.

    >>> excess(np.diag([0.5, 1.0]), np.array([2.0, 2.0]), step=1.0, rounds=1000)
    1.6666666666666665
    """
    values, vectors = np.linalg.eigh(curvature)
    along = vectors.T**2 @ variance
    kept = np.abs(1 - step * values)
    grown = np.where(kept < 1, (1 - kept ** (2 * rounds)) / np.maximum(1 - kept**2, 1e-300), rounds)
    return float(np.sum(step**2 * values * along * grown) / 2)
