"""What a compressor adds to the gradient: moments against what compressors state, and the loss that follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from qsim.batch import Vectors
from qsim.study.noise import excess, hessian, moments, noise

pytestmark = pytest.mark.quick

RUN = qsim.Run(
    qsim.datasets.load("spark_sample"),
    objective=qsim.LogisticRegression(l2=0.1),
    method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
    compressor=qsim.QSGD(2),
    workers=3,
)


def test_moments_are_those_of_the_compressor() -> None:
    """The variance of 4,000 draws is within 10% of the exact one (its deviation is about 1%); top-k has none."""
    v = np.random.default_rng(0).standard_normal((2, 20)).astype(np.float32)
    mean, square = moments(qsim.QSGD(1), Vectors.dense(v), 4000)
    found = (square - mean**2).sum(axis=1)
    assert found == pytest.approx([qsim.QSGD(1).exact_variance(row) for row in v], rel=0.1)
    assert np.abs(mean - v).max() < 6 * np.sqrt((square - mean**2).max() / 4000) * 1.5
    mean, square = moments(qsim.TopK(3), Vectors.dense(v), 3)
    np.testing.assert_allclose(square, mean**2)
    assert (np.count_nonzero(mean, axis=1) == 3).all()


@pytest.mark.parametrize("by_row", [False, True])
def test_noise_is_that_of_the_mean_message(by_row: bool) -> None:
    """Against the gradients of the workers (or rows), one by one, and the variance that QSGD states."""
    data, w = RUN.load(), np.linspace(-1, 1, 16)
    run = replace(RUN, partition=qsim.datasets.Contiguous(), weighting="workers" if by_row else "rows")
    found = noise(run, w, by_row=by_row, draws=1000)
    shards = run.partition.split(data, 3, qsim.Key(0))
    variance = squares = 0.0
    for low, high in zip(shards.offsets[:-1], shards.offsets[1:], strict=True):
        parts = [data.take([row]) for row in range(low, high)] if by_row else [data.take(np.arange(low, high))]
        for part in parts:
            gradient = run.objective.value_and_gradient(w, part)[1]
            share = (1 / 3 if by_row else (high - low) / data.rows, 1 / len(parts))
            sent = gradient - 0.1 * w  # the server knows the regulariser
            variance += share[0] ** 2 * share[1] * run.compressor.exact_variance(sent)
            squares += share[0] * share[1] * sent @ sent
    assert found.squares == pytest.approx(squares, rel=1e-4)
    assert found.variance.sum() == pytest.approx(variance, rel=0.15)


def test_the_hessian_is_that_of_differences() -> None:
    w, data = np.linspace(-1, 1, 16), RUN.load()
    found = hessian(RUN, w)
    for k in range(16):
        ends = [RUN.objective.value_and_gradient(w + side * 1e-5 * np.eye(16)[k], data)[1] for side in (1, -1)]
        np.testing.assert_allclose(found[k], (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("rounds", [0, 1, 7, 4000])
def test_the_excess_is_that_of_the_recursion(rounds: int) -> None:
    """S' = (I - step H) S (I - step H) + step^2 C from 0, also along a direction without curvature."""
    random = np.random.default_rng(1)
    matrix, variance, step = random.standard_normal((6, 5)), random.random(5), 0.7
    matrix[:, 4] = 0
    curvature = matrix.T @ matrix
    curvature /= np.linalg.norm(curvature, 2)
    shrink, spread = np.eye(5) - step * curvature, np.zeros((5, 5))
    for _ in range(rounds):
        spread = shrink @ spread @ shrink + step**2 * np.diag(variance)
    found = excess(curvature, variance, step, rounds)
    assert found == pytest.approx(np.trace(curvature @ spread) / 2, rel=1e-9)
    assert found <= step * variance.sum() / 2
