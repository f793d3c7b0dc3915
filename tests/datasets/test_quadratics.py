"""Quadratics: their constants against eigenvalues, least squares against dense algebra, and what rates they show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.datasets import Contiguous, Dataset, Quadratics
from qsim.objectives import LeastSquares
from qsim.problem import Problem

OBJECTIVE = LeastSquares(l2=0)
SOURCE = Quadratics(smoothness=(1.0, 3.0, 8.0), mu=0.2, heterogeneity=2.5, features=6, seed=3)


def parts(source: Quadratics) -> list[Dataset]:
    rows = 2 * source.features
    return [source.load().take(np.arange(i * rows, (i + 1) * rows)) for i in range(len(source.smoothness))]


def hessian(data: Dataset) -> np.ndarray:
    matrix = data.to_scipy().toarray().astype(np.float64)
    return matrix.T @ matrix / data.rows


numbers = st.floats(1e-3, 1e3)


@given(st.lists(numbers, min_size=1, max_size=5), st.floats(1e-4, 1.0), numbers, st.integers(2, 9), st.integers(0, 99))
@settings(max_examples=40)
def test_constants_are_the_given_ones(above: list[float], share: float, spread: float, d: int, seed: int) -> None:
    mu = share * min(above)
    source = Quadratics(above, mu, spread if len(above) > 1 else 0.0, d, seed)
    data, w = source.load(), source.optimum()
    for part, largest in zip(parts(source), above, strict=True):
        values = np.linalg.eigvalsh(hessian(part))
        np.testing.assert_allclose(values[[0, -1]], [mu, largest], rtol=1e-12)
        assert ((mu * (1 - 1e-12) <= values) & (values <= largest * (1 + 1e-12))).all()
    values = np.linalg.eigvalsh(hessian(data))
    np.testing.assert_allclose(values[[0, -1]], [mu, np.mean(above)], rtol=1e-12)
    gradients = np.array([OBJECTIVE.gradient(w, part) for part in parts(source)])
    size = np.sqrt(max(source.heterogeneity, max(above)))
    np.testing.assert_allclose(gradients.mean(axis=0), 0, atol=1e-12 * size)
    assert np.mean((gradients**2).sum(axis=1)) == pytest.approx(source.heterogeneity, rel=1e-11, abs=1e-24 * size**2)
    assert np.linalg.norm(w) == pytest.approx(1)


def test_theory_reads_the_constants() -> None:
    data = SOURCE.load()
    shards = Contiguous().split(data, 3, qsim.Key(0))
    start, everyone = np.zeros(data.features), qsim.clients.AllClients()
    problem = Problem(OBJECTIVE, data, shards, qsim.Identity(), shards.weights, start, everyone)
    assert problem.smoothness == pytest.approx(4.0, rel=1e-6)
    assert problem.worker_smoothness == pytest.approx(np.array([1.0, 3.0, 8.0]), rel=1e-6)
    assert problem.strong_convexity == pytest.approx(0.2, rel=1e-12)
    assert problem.heterogeneity == pytest.approx(SOURCE.heterogeneity, rel=1e-6)
    assert LeastSquares(l2=0.5).strong_convexity(data) == pytest.approx(0.7, rel=1e-12)


def test_the_optimum_is_known() -> None:
    found = OBJECTIVE.optimum(SOURCE.load())
    np.testing.assert_allclose(found.weights, SOURCE.optimum(), atol=1e-9)


def test_gradient_descent_has_its_rate_and_no_more() -> None:
    """Along the axis of mu, w_t - w* shrinks by exactly 1 - a mu; float32 keeps 7 digits of it."""
    run = qsim.Run(SOURCE, OBJECTIVE, qsim.GradientDescent(), workers=3, partition=Contiguous())
    far = {t: qsim.simulate(replace(run, rounds=t)).weights - SOURCE.optimum() for t in (10, 40)}
    rate = 1 - 0.2 / 4.0
    assert far[40][-1] / far[10][-1] == pytest.approx(rate**30, rel=1e-4)
    assert np.linalg.norm(far[40]) <= rate**30 * np.linalg.norm(far[10])


def test_targets_travel_to_processes() -> None:
    run = qsim.Run(SOURCE, OBJECTIVE, qsim.GradientDescent(), qsim.QSGD(4), workers=3, partition=Contiguous(), rounds=9)
    here = qsim.simulate(run)
    assert here.frame["loss"].iloc[-1] < here.frame["loss"].iloc[0]
    assert qsim.simulate(run, engine=qsim.engines.Processes(2)).weights.tobytes() == here.weights.tobytes()


def test_smallest_eigenvalues_are_for_few_columns() -> None:
    random = np.random.default_rng(0)
    for rows, features in ((30, 8), (8, 30)):
        data = Dataset.from_arrays(
            random.standard_normal((rows, features)), random.standard_normal(rows), kind="targets"
        )
        least = np.linalg.eigvalsh(hessian(data))[0]
        found = LeastSquares(l2=0.25).strong_convexity(data)
        assert found == pytest.approx(0.25 + (least if rows > features else 0.0), rel=1e-12)
    wide = Dataset(np.arange(2102), np.arange(2101), None, np.ones(2101), 2101)
    assert LeastSquares(l2=0.25).strong_convexity(wide) == 0.25


def test_least_squares_against_dense_algebra() -> None:
    random = np.random.default_rng(1)
    matrix, y = random.standard_normal((60, 9)).astype(np.float32), 100 * random.standard_normal(60)
    data, l2 = Dataset.from_arrays(matrix, y, kind="targets"), 0.3
    x = matrix.astype(np.float64)
    best = np.linalg.solve(x.T @ x / 60 + l2 * np.eye(9), x.T @ y / 60)
    np.testing.assert_allclose(LeastSquares(l2).optimum(data).weights, best, rtol=1e-9)
    w = random.standard_normal(9)
    np.testing.assert_allclose(LeastSquares(l2).gradient(w, data), x.T @ (x @ w - y) / 60 + l2 * w, rtol=1e-12)
    run = qsim.Run(data, LeastSquares(l2), qsim.methods.NewtonCG(accuracy=1e-12), workers=4, rounds=1)
    np.testing.assert_allclose(qsim.simulate(run).weights, best, rtol=1e-9)


@qsim.option
class Ones(qsim.starts.Start):
    """w = (1, ..., 1)."""

    def weights(self, n, key):
        return np.ones(n)


def test_top_1_diverges_on_the_quadratics_that_are_known_for_it() -> None:
    """f_i(w) = <a_i, w>^2 + ||w||^2 / 4, a_1 = (-3, 2, 2), ...: from (1, 1, 1), w grows by 1 + 11 a / 6 every round.

    Source: Beznosikov, Horvath, Richtarik, Safaryan, "On biased compression for distributed learning", JMLR 2023,
    Example 1; error feedback repairs it.
    """
    rows = [np.vstack([np.sqrt(2) * (2 - 5 * axis), np.eye(3) / np.sqrt(2)]) * 2 for axis in np.eye(3)]
    data = Dataset.from_arrays(np.vstack(rows), np.zeros(12), kind="targets")
    step = 0.02
    run = qsim.Run(
        data,
        OBJECTIVE,
        qsim.GradientDescent(step=qsim.steps.Constant(step)),
        qsim.TopK(1),
        workers=3,
        partition=Contiguous(),
        start=Ones(),
        rounds=50,
    )
    np.testing.assert_allclose(qsim.simulate(run).weights, (1 + 11 * step / 6) ** 50, rtol=1e-4)
    repaired = qsim.simulate(replace(run, compressor=qsim.ErrorFeedback(qsim.TopK(1)), rounds=2000))
    assert np.linalg.norm(repaired.weights) < 1e-3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"smoothness": ()}, "at least one worker"),
        ({"smoothness": 2.0}, r"smoothness must be a tuple of numbers, found 2\.0"),
        ({"smoothness": "abc"}, "smoothness must be a tuple of numbers, found 'abc'"),
        ({"smoothness": (1.0, "2")}, r"smoothness\[1\] must be a number, found '2'"),
        ({"smoothness": (1.0, 0.1)}, r"smoothness\[1\] must be a finite number of at least 0\.2, found 0\.1"),
        ({"mu": 0}, "mu must be a finite number above 0"),
        ({"heterogeneity": -1}, "heterogeneity"),
        ({"smoothness": (1.0,)}, "one worker alone has no heterogeneity"),
        ({"features": 1}, "features"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(SOURCE, **changes)


def test_a_source_prints_as_its_code_and_loads_the_same() -> None:
    again = eval(repr(SOURCE), {"qsim": qsim})
    assert again == SOURCE
    assert again.load() is SOURCE.load()
    first = again.load().labels[[0, 2]]  # a change here changes what users' seeds mean
    np.testing.assert_allclose(first, [4.48229785408, 0.387961474443], rtol=1e-6)
