"""What is recorded of weights has one definition wherever rows are: sums over the workers, in their order."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from qsim.datasets import Contiguous, LibSVM, Parts, Shards
from qsim.objectives.wrapper import innermost
from qsim.simulation.evaluation import LONGEST, TOGETHER, AllRows, RowsHere, evaluator
from qsim.testing.shipped import shipped

OBJECTIVES = [
    objective
    for objective in shipped(qsim.objectives, qsim.objectives.Objective)
    if isinstance(innermost(objective), qsim.objectives.MarginModel)
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 99), st.booleans(), st.sampled_from([0, 0.1, 300, np.nan]))
def test_sums_over_workers_in_their_order(
    objective, several: int, workers: int, seed: int, ones: bool, size: float
) -> None:
    """Several weights at once have the bits of each alone, which are those of plain sums; workers may have no rows."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((40, 9)) * (rng.random((40, 9)) < rng.random(40)[:, None])
    matrix[0] = 0
    labels = {"signs": rng.choice([-1, 1], 40), "classes": rng.integers(0, 2, 40), "targets": rng.poisson(2.0, 40)}
    kind = objective.takes[seed % len(objective.takes)]
    data = qsim.Dataset.from_arrays((matrix != 0) * 1.0 if ones else matrix, labels[kind], kind=kind, empty="keep")
    design, ends = objective.design(data), np.sort(rng.integers(0, 41, workers - 1))
    shards = Shards(design, rng.permutation(40), np.concatenate([[0], ends, [40]]), objective.width)
    weights = rng.standard_normal((several, design.features * objective.width))
    weights[0] *= size
    here = RowsHere(objective, shards)
    with np.errstate(invalid="ignore", over="ignore"):
        found, scores = here.evaluate(weights), here.score(weights)
        for w, got, score in zip(weights, found, scores, strict=True):
            (alone,), (alone_score,) = here.evaluate(w[None]), here.score(w[None])
            assert np.array_equal(
                [got.loss, got.error, *score], [alone.loss, alone.error, *alone_score], equal_nan=True
            )
            np.testing.assert_array_equal(got.gradient, alone.gradient)
            assert np.array_equal(got.error, score.error, equal_nan=True)
            value, gradient, error = objective.evaluate(w, data)
            assert got.loss == pytest.approx(value, rel=1e-13, nan_ok=True)
            assert got.error == pytest.approx(error, rel=1e-13, nan_ok=True)
            if kind == "signs":
                assert np.array_equal(got.error, error, equal_nan=True)  # a number of halves
            np.testing.assert_allclose(got.gradient, gradient, rtol=1e-12, atol=1e-13)
            assert score.loss == pytest.approx(objective.loss_and_error(w, data)[0], rel=1e-13, nan_ok=True)


@given(st.integers(1, 9), st.integers(0, 99))
def test_the_sum_is_that_of_a_loop(workers: int, seed: int) -> None:
    """To the last bit, written out in Python for logistic regression."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((30, 5)) * (rng.random((30, 5)) < 0.5)
    data = qsim.Dataset.from_arrays(matrix, rng.choice([-1, 1], 30), empty="keep")
    order, ends = rng.permutation(30), np.sort(rng.integers(0, 31, workers - 1))
    offsets = np.concatenate([[0], ends, [30]])
    objective, weights = qsim.LogisticRegression(0.0), rng.standard_normal((3, 5))
    evaluations = RowsHere(objective, Shards(data, order, offsets)).evaluate(weights)
    rows = data.to_scipy().toarray().astype(np.float64)
    for w, found in zip(weights, evaluations, strict=True):
        margins = objective_margins(rows, w)
        losses, slopes = objective.loss(margins, data.labels), objective.slope(margins, data.labels)
        loss, gradient = 0.0, np.zeros(5)
        for low, high in pairwise(offsets.tolist()):
            own_loss, own_gradient = 0.0, np.zeros(5)
            for row in order[low:high]:
                own_loss += losses[row]
                own_gradient += slopes[row] * rows[row]
            loss += own_loss
            gradient += own_gradient
        assert found.loss == loss / 30
        np.testing.assert_array_equal(found.gradient, gradient / 30)


def objective_margins(rows: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return margins as kernels add them up: entries of even and of odd places apart."""
    margins = []
    for row in rows:
        terms = (w * row)[row != 0]
        margins.append(sum(terms[::2], 0.0) + sum(terms[1::2], 0.0))
    return np.array(margins)


@pytest.mark.parametrize("method", [qsim.GradientDescent(), qsim.EF21(), qsim.LBFGS()], ids=repr)
@pytest.mark.parametrize("width", [1, 2])
def test_rows_in_memory_and_in_a_file_have_one_trace(tmp_path: Path, method: qsim.methods.Method, width: int) -> None:
    """Every column, the minimum and the steps of theory included, and the test data: to the last bit."""
    rng = np.random.default_rng(5)
    for name, rows in (("train", 90), ("test", 40)):
        lines = [
            f"{rng.choice([-1, 1]) if width == 1 else rng.integers(1, 3):+d} "
            + " ".join(f"{j + 1}:{rng.standard_normal():.4f}" for j in range(7) if j == 6 or rng.random() < 0.5)
            for _ in range(rows)
        ]
        (tmp_path / f"{name}.svm").write_text("\n".join(lines))
    classes = None if width == 1 else (1, 2)
    train, test = (LibSVM(tmp_path / f"{name}.svm", classes=classes) for name in ("train", "test"))
    objective = qsim.LogisticRegression(0.01) if width == 1 else qsim.MultinomialLogistic(0.01, classes=2)
    compressor = qsim.TopK(3) if isinstance(method, qsim.EF21) else qsim.Identity()
    runs = [
        qsim.Run(data, objective, method, compressor, workers=4, partition=Contiguous(), rounds=12, test=on)
        for data, on in ((train, test), (Parts(train), Parts(test)))
    ]
    here, elsewhere = map(qsim.simulate, runs)
    assert np.isfinite(here.frame["suboptimality"]).all()
    for column in here.frame:
        np.testing.assert_array_equal(here.frame[column], elsewhere.frame[column], err_msg=column)
    np.testing.assert_array_equal(here.weights, elsewhere.weights)


def test_an_error_of_ones_own_is_that_of_all_rows() -> None:
    """A median, which is no mean of the workers' medians."""

    class Median(qsim.LogisticRegression.__base__):  # type: ignore[misc]
        l2 = 0.1

        def error_of_margins(self, margins, data):
            return float(np.median(np.abs(margins)))

    data, w = qsim.load("spark_sample"), np.linspace(-1.0, 1.0, 16)
    found = evaluator(Median(), data, Contiguous().split(data, 7, qsim.Key(0))).evaluate(w[None])[0]
    assert found.error == Median().error(w, data)


@pytest.mark.parametrize(("n", "vectors"), [(LONGEST, 26), (LONGEST + 1, 12)])
def test_weights_that_are_long_are_evaluated_one_by_one(n: int, vectors: int) -> None:
    """To the same bits, and in bounded memory: eight gradients and three vectors, and no more than 25 together."""
    data = qsim.datasets.synthetic(30, n, 5)
    here = RowsHere(qsim.LogisticRegression(0.1), Contiguous().split(data, 3, qsim.Key(0)))
    weights = np.zeros((TOGETHER, n))
    weights[:, data.indices] = np.random.default_rng(0).standard_normal((TOGETHER, data.indices.size))
    alone = [here.evaluate(w[None])[0] for w in weights]
    tracemalloc.start()
    together = here.evaluate(weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < vectors * 8 * n
    for one, other in zip(together, alone, strict=True):
        assert (one.loss, one.error) == (other.loss, other.error)
        np.testing.assert_array_equal(one.gradient, other.gradient)


def test_an_objective_with_a_way_of_its_own_is_asked() -> None:
    class Own(qsim.LogisticRegression.__base__):  # type: ignore[misc]
        l2 = 0.1

        def error(self, w, data):
            return 0.25

    data = qsim.load("spark_sample")
    shards = Contiguous().split(data, 4, qsim.Key(0))
    assert isinstance(evaluator(Own(), data, shards), AllRows)
    assert evaluator(Own(), data, shards).evaluate(np.zeros((1, 16)))[0].error == 0.25
    assert isinstance(evaluator(qsim.LogisticRegression(0.1), data, shards), RowsHere)
