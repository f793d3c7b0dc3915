"""Logistic regression against exact sums, finite differences and SciPy; workers' float32 updates against float64."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad

import qsim
from helpers.rows import as_dicts
from oracles import csr
from qsim.batch import Vectors
from qsim.block import Block, Rows
from qsim.datasets import Contiguous, Dirichlet
from qsim.objectives import NoOptimumError
from qsim.weights import Replica

pytestmark = pytest.mark.quick

LogisticRegression = qsim.LogisticRegression


@st.composite
def problems(draw: st.DrawFn) -> qsim.Dataset:
    rows, features = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    matrix = rng.standard_normal((rows, features)) * (
        rng.random((rows, features)) < draw(st.sampled_from([0.2, 0.6, 1.0]))
    )
    if draw(st.booleans()):
        matrix = (matrix != 0).astype(float)
    labels = rng.choice([-1, 1], rows)
    return qsim.Dataset.from_arrays(matrix, labels, empty="keep")


@given(problems(), st.sampled_from([0.0, 0.01, 1.0]), st.sampled_from([0.1, 3.0, 300.0]))
def test_value_and_gradient_are_the_oracles(data: qsim.Dataset, l2: float, size: float) -> None:
    w = size * np.random.default_rng(0).standard_normal(data.features)
    value, gradient = LogisticRegression(l2).value_and_gradient(w, data)
    expected_value, expected_gradient = csr.logistic(w.tolist(), as_dicts(data), data.labels.tolist(), l2)
    assert value == pytest.approx(expected_value, rel=1e-13)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-12, atol=1e-14)
    assert LogisticRegression(l2).value(w, data) == value
    assert np.array_equal(LogisticRegression(l2).gradient(w, data), gradient)


@given(st.lists(st.sampled_from([-2.0, -0.0, 0.0, 1e-300, 3.0, np.inf]), min_size=1, max_size=70), st.booleans())
def test_the_share_of_wrong_signs(margins: list[float], unknown: bool) -> None:
    labels = np.where(np.arange(len(margins)) % 3, 1, -1)
    data, z = qsim.Dataset.from_arrays(np.ones((len(margins), 1)), labels), np.array(margins)
    if unknown:
        z[-1] = np.nan
    right = np.mean([0.5 * (1 - np.sign(x * y)) for x, y in zip(z, labels, strict=True)])
    found = LogisticRegression(0.0).error_of_margins(z, data)
    assert found == right or np.isnan([found, right]).all()


def test_gradient_is_the_slope_of_the_value() -> None:
    data = qsim.datasets.load("spark_sample")
    objective = LogisticRegression(0.1, intercept=True)
    w = np.random.default_rng(2).standard_normal(17) * 0.1
    assert check_grad(lambda v: objective.value(v, data), lambda v: objective.gradient(v, data), w) < 1e-6


@pytest.mark.parametrize("margin", [1e4, -1e4, 800.0, -800.0, 0.0])
def test_stable_at_large_margins(margin: float) -> None:
    data = qsim.Dataset.from_arrays(np.array([[1.0], [1.0]]), np.array([1, -1]))
    value, gradient = LogisticRegression(0.0).value_and_gradient(np.array([margin]), data)
    assert value == pytest.approx(abs(margin) / 2 if margin else np.log(2), rel=1e-15)
    assert gradient.tolist() == [pytest.approx(np.sign(margin) / 2, abs=1e-15)]


def test_against_scipy_in_float32_and_float64() -> None:
    data = qsim.datasets.load("adult")
    matrix, y = data.to_scipy().astype(np.float64), data.labels.astype(np.float64)
    w = np.random.default_rng(1).standard_normal(data.features)
    expected = matrix.T @ (-y / (1 + np.exp(y * (matrix @ w)))) / data.rows
    np.testing.assert_allclose(LogisticRegression(0.0).gradient(w, data), expected, rtol=1e-10, atol=1e-15)
    shards = Contiguous().split(data, 1, qsim.Key(0))
    block = Block(shards, 0, 1)
    update = LogisticRegression(0.5).update(block, block.all_rows(), Replica(w.astype(np.float32)), 2.0)
    # float32 sums of up to 32,561 terms: off by about sqrt(32,561) roundings of 2^-24, relative to the largest entry
    np.testing.assert_allclose(update.to_dense()[0], 2 * expected, atol=2e-5 * np.abs(expected).max())


@given(problems(), st.integers(1, 12), st.data())
def test_updates_of_all_and_of_some_rows(data: qsim.Dataset, workers: int, draw: st.DataObject) -> None:
    """Every worker's update is step times the mean gradient over its rows, in its own support; none for no rows."""
    workers = min(workers, data.rows)
    shards = Dirichlet(0.5).split(data, workers, qsim.Key(draw.draw(st.integers(0, 1000))))
    block = Block(shards, 0, workers)
    w = np.random.default_rng(3).standard_normal(data.features).astype(np.float32)
    picks = [
        draw.draw(st.lists(st.sampled_from(own.tolist()), max_size=5)) if own.size else [] for own in owners(shards)
    ]
    some = Rows(np.array([r for pick in picks for r in pick], np.int64), np.cumsum([0, *map(len, picks)]))
    for rows, per_worker in ((block.all_rows(), [o.tolist() for o in owners(shards)]), (some, picks)):
        found = LogisticRegression(0.7).update(block, rows, Replica(w), 0.5)
        check_update(found, per_worker, data, w)


def owners(shards) -> list[np.ndarray]:
    return [shards.order[a:b] for a, b in zip(shards.offsets, shards.offsets[1:], strict=False)]


def check_update(found: Vectors, per_worker: list[list[int]], data: qsim.Dataset, w: np.ndarray) -> None:
    dicts = as_dicts(data)
    dense = found.to_dense()
    for worker, rows in enumerate(per_worker):
        index = found.index[found.offsets[worker] : found.offsets[worker + 1]]
        assert index.tolist() == sorted({j for r in rows for j in dicts[r]} | set(index.tolist()))
        assert set(index.tolist()) >= {j for r in rows for j in dicts[r]}
        if not rows:
            assert not dense[worker].any()
            continue
        labels = [int(data.labels[r]) for r in rows]
        _, gradient = csr.logistic(w.astype(float).tolist(), [dicts[r] for r in rows], labels, 0.0)
        np.testing.assert_allclose(dense[worker], 0.5 * np.array(gradient), rtol=2e-5, atol=2e-6)


def test_touched_coordinates_only() -> None:
    """A batch's update holds the columns of its rows, and nothing else, in order; the scratch is clean afterwards."""
    data = qsim.datasets.synthetic(200, 1000, 8, seed=1)
    shards = Contiguous().split(data, 2, qsim.Key(0))
    block = Block(shards, 0, 2)
    w = np.zeros(1000, np.float32)
    dicts = as_dicts(data)
    for first in (0, 50, 0):
        rows = Rows(np.array([first, first + 1, first + 100]), np.array([0, 2, 3]))
        found = LogisticRegression(0.0).update(block, rows, Replica(w), 1.0)
        assert found.index.tolist() == sorted(dicts[first].keys() | dicts[first + 1].keys()) + sorted(
            dicts[first + 100]
        )


def test_smoothness_bounds_and_is_tight() -> None:
    for data in (qsim.datasets.load("spark_sample"), qsim.datasets.load("adult"), qsim.datasets.synthetic(30, 100, 5)):
        objective = LogisticRegression(0.01)
        smoothness = objective.smoothness(data)
        exact = 0.01 + np.linalg.norm(data.to_scipy().toarray().astype(np.float64), 2) ** 2 / (4 * data.rows)
        assert exact * (1 - 1e-9) <= smoothness <= exact * (1 + 1e-6)
    tiny = qsim.Dataset.from_arrays(np.array([[3.0, 4.0]]), np.array([1]))
    assert LogisticRegression(0.0).smoothness(tiny) == pytest.approx(25 / 4)


@pytest.mark.parametrize("matrix", [np.eye(60, 50), np.random.default_rng(1).standard_normal((40, 30))])
def test_smoothness_when_the_top_eigenvector_is_orthogonal_to_ones(matrix: np.ndarray) -> None:
    matrix = np.hstack([matrix, -matrix])
    matrix[0, :2] = 100, -100
    data = qsim.Dataset.from_arrays(matrix, np.arange(len(matrix)) % 2, empty="keep")
    exact = np.linalg.norm(data.to_scipy().toarray().astype(np.float64), 2) ** 2 / (4 * data.rows)
    assert exact * (1 - 1e-9) <= LogisticRegression(0.0).smoothness(data) <= exact * (1 + 1e-6)


def test_smoothness_of_zeros_is_l2() -> None:
    data = qsim.Dataset(np.array([0, 1, 1, 1]), np.array([0]), np.zeros(1), np.array([1, 0, 1]), 5)
    assert LogisticRegression(0.25).smoothness(data) == 0.25


def test_error_rate_counts_zero_margins_as_half() -> None:
    """As of a tossed coin, and as ties count in the area under the ROC curve: at w = 0 the error is 1/2."""
    data = qsim.Dataset.from_arrays(np.array([[1.0], [1.0], [-1.0]]), np.array([1, -1, -1]))
    assert LogisticRegression(0.0).error(np.array([2.0]), data) == pytest.approx(1 / 3)
    assert LogisticRegression(0.0).error(np.array([0.0]), data) == 0.5
    mixed = qsim.Dataset.from_arrays(np.array([[1.0], [0.0], [0.0], [1.0]]), np.array([1, -1, 1, -1]), empty="keep")
    assert LogisticRegression(0.0).error(np.array([1.0]), mixed) == (0 + 0.5 + 0.5 + 1) / 4


def test_intercept_is_a_column_of_ones() -> None:
    data = qsim.datasets.load("spark_sample")
    wide = qsim.Dataset.from_arrays(sp.hstack([data.to_scipy(), np.ones((data.rows, 1))]), data.labels)
    w = np.random.default_rng(0).standard_normal(17)
    with_intercept, plain = LogisticRegression(0.1, intercept=True), LogisticRegression(0.1)
    assert with_intercept.value(w, data) == plain.value(w, wide)
    assert with_intercept.error(w, data) == plain.error(w, wide)
    with pytest.raises(ValueError, match=r"shape \(17,\)"):
        with_intercept.value(w[:16], data)


def test_optimum_is_one_and_is_cached(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("QSIM_CACHE_DIR", str(tmp_path))
    data = qsim.datasets.load("adult")
    objective = LogisticRegression(1 / data.rows)
    found = objective.optimum(data)
    assert found.gradient_norm <= 1e-10
    assert np.linalg.norm(objective.gradient(found.weights, data)) <= 1e-10
    rng = np.random.default_rng(0)
    assert all(
        objective.value(found.weights + 1e-3 * rng.standard_normal(data.features), data) > found.value for _ in range(5)
    )
    (stored,) = tmp_path.rglob("optima/*.npz")
    monkeypatch.setattr(LogisticRegression, "_solve", lambda *_: pytest.fail("solved again"))
    assert objective.optimum(data).value == found.value
    monkeypatch.undo()
    monkeypatch.setenv("QSIM_CACHE_DIR", str(tmp_path))
    stored.write_bytes(stored.read_bytes()[:100])  # a torn file is found out and made again
    assert objective.optimum(data).value == pytest.approx(found.value, rel=1e-14)


def test_an_optimum_that_cannot_be_stored_is_returned_all_the_same(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QSIM_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not cached"):
        assert LogisticRegression(0.1).optimum(qsim.datasets.load("spark_sample")).gradient_norm <= 1e-10


def test_no_optimum_on_separable_data_without_l2(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("QSIM_CACHE_DIR", str(tmp_path))
    for matrix in ([[1.0], [-1.0]], [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]):  # the second but for two rows
        data = qsim.Dataset.from_arrays(np.array(matrix), np.arange(len(matrix)) % 2 == 0)
        with pytest.raises(NoOptimumError, match="separates the classes"):
            LogisticRegression(0.0).optimum(data)
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("bad", [-1e-9, np.nan, np.inf, "0.1", None])
def test_bad_l2_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="l2 must be a (finite )?number"):
        LogisticRegression(bad)
