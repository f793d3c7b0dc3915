"""Metrics of a model on data: against plain Python, and against scikit-learn where it is installed."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from helpers.honest_objectives import Squares
from oracles import csr
from qsim.datasets import DataError, HashedText, Parts, save_clicks

pytestmark = pytest.mark.quick

SCORED = st.lists(st.tuples(st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 7.0]), st.booleans()), min_size=1)
PREDICTED = st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=60)
LOGISTIC = qsim.LogisticRegression(l2=0.1)


def area(scores: list[float], positive: list[bool]) -> float:
    """Pairs of a positive and a negative row, those in the right order, ties as halves."""
    ups = [s for s, good in zip(scores, positive, strict=True) if good]
    downs = [s for s, good in zip(scores, positive, strict=True) if not good]
    right = sum(Fraction(int(up > down) + int(up >= down), 2) for up in ups for down in downs)
    return float(right / (len(ups) * len(downs))) if ups and downs else math.nan


@given(SCORED)
def test_the_area_under_the_curve_is_the_share_of_ordered_pairs(rows: list[tuple[float, bool]]) -> None:
    scores, positive = [s for s, _ in rows], [good for _, good in rows]
    assert np.array_equal(qsim.metrics.auc(scores, positive), area(scores, positive), equal_nan=True)
    assert np.array_equal(qsim.metrics.auc(scores, np.where(positive, 1, -1)), area(scores, positive), equal_nan=True)


def test_the_area_of_unordered_scores_is_unknown() -> None:
    assert math.isnan(qsim.metrics.auc([0.5, np.nan], [1, -1]))


@pytest.mark.parametrize("bins", [1, 3, 10])
@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@given(rows=PREDICTED)
def test_the_reliability_table(bins: int, strategy: str, rows: list[tuple[int, bool]]) -> None:
    chances, positive = [k / 40 for k, _ in rows], [good for _, good in rows]
    found = qsim.metrics.calibration(chances, positive, bins=bins, strategy=strategy)
    clicks, gap = sum(positive), 0.0
    assert found.ratio == (pytest.approx(math.fsum(chances) / clicks, rel=1e-12) if clicks else math.inf)
    assert found.rows.sum() == len(rows)
    if strategy == "uniform":
        assert found.edges.tolist() == np.linspace(0, 1, bins + 1).tolist()
    for b, (low, high) in enumerate(zip(found.edges[:-1], found.edges[1:], strict=True)):
        mine = [
            (p, good) for p, good in zip(chances, positive, strict=True) if low < p <= high or (b == 0 and p <= low)
        ]
        if low == high or (b > 0 and low == found.edges[b - 1]):
            continue  # bins between equal quantiles share their rows as they like
        assert found.rows[b] == len(mine)
        if mine:
            mean, share = math.fsum(p for p, _ in mine) / len(mine), sum(good for _, good in mine) / len(mine)
            assert (found.predicted[b], found.observed[b]) == pytest.approx((mean, share), rel=1e-12)
        else:
            assert math.isnan(found.predicted[b])
            assert math.isnan(found.observed[b])
    for count, mean, share in zip(found.rows, found.predicted, found.observed, strict=True):
        gap += count * abs(mean - share) / len(rows) if count else 0.0
    assert found.expected_error == pytest.approx(gap, abs=1e-12)


def test_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn: pip install '.[test]'")
    from sklearn.calibration import calibration_curve as curve

    random = np.random.default_rng(0)
    chances = random.random(2000).round(2)  # with ties
    labels = np.where(random.random(2000) < chances**2, 1, -1)
    assert qsim.metrics.auc(chances, labels) == pytest.approx(metrics.roc_auc_score(labels, chances), rel=1e-12)
    for strategy in ("uniform", "quantile"):
        found = qsim.metrics.calibration(chances, labels, bins=7, strategy=strategy)
        observed, predicted = curve(labels, chances, n_bins=7, strategy=strategy, pos_label=1)
        np.testing.assert_allclose(found.observed, observed, rtol=1e-12)
        np.testing.assert_allclose(found.predicted, predicted, rtol=1e-12)


def test_a_model_is_evaluated_by_its_margins() -> None:
    """Against the oracle, on a slice of rows; the regulariser has no part in it."""
    data = qsim.datasets.synthetic(50, 12, 4, seed=3)
    w = np.random.default_rng(1).standard_normal(12)
    found = qsim.evaluate(w, data, LOGISTIC, bins=4)
    x, y = data.to_scipy().toarray().astype(np.float64), data.labels
    rows = [{j: float(value) for j, value in enumerate(row) if value} for row in x]
    assert found.loss == pytest.approx(csr.logistic(w.tolist(), rows, y.tolist(), 0.0)[0], rel=1e-13)
    assert found.auc == area((x @ w).tolist(), (y > 0).tolist())
    assert found.error == np.mean(np.sign(x @ w) != y)
    assert (found.rows, found.accuracy) == (50, 1 - found.error)
    own = qsim.metrics.calibration(1 / (1 + np.exp(-x @ w)), y, bins=4)
    assert found.calibration is not None
    np.testing.assert_allclose(found.calibration.predicted, own.predicted, rtol=1e-13)
    assert found.calibration.rows.tolist() == own.rows.tolist()
    inside = qsim.evaluate(w, data, qsim.WithRegulariser(LOGISTIC), bins=4)
    assert (inside.loss, inside.auc) == (found.loss, found.auc)
    assert repr(
        found
    ) == f"Evaluation(50 rows, loss {found.loss:.4g}, error {found.error:.4g}, AUC {found.auc:.4g}, " + (
        f"calibration {found.calibration.ratio:.4g})"
    )
    assert "<td style='text-align:left'>" in found._repr_html_()
    assert len(found.calibration.to_frame()) == 4
    axes = found.calibration.plot(color="k")
    assert axes.lines[1].get_xdata().tolist() == found.calibration.predicted[found.calibration.rows > 0].tolist()


def test_the_end_of_a_run() -> None:
    """As the trace has it, on planned rounds and through the exchange; with an intercept too."""
    train, test = qsim.datasets.synthetic(60, 9, 3, seed=1), qsim.datasets.synthetic(40, 9, 3, seed=2)
    for objective in (LOGISTIC, qsim.LogisticRegression(0.1, intercept=True), qsim.LeastSquares(0.1)):
        run = qsim.Run(train, objective, qsim.SGD(0.1, batch=4), workers=3, rounds=20, optimum=False, test=test)
        trace = qsim.simulate(run)
        found, last = qsim.evaluate(trace, test, objective), trace.frame.iloc[-1]
        assert found.loss == pytest.approx(last["test_loss"], rel=1e-14)  # sums in another order
        assert found.error == last["test_error"]
        assert (found.calibration is None) == isinstance(objective, qsim.LeastSquares)
        assert 0 < found.auc < 1
    without = qsim.simulate(replace(run, test=None)).frame
    assert without[["test_loss", "test_error"]].isna().all().all()


def test_other_labels_and_losses_have_what_makes_sense_for_them() -> None:
    x = np.random.default_rng(0).standard_normal((30, 5))
    classes = qsim.Dataset.from_arrays(x, np.arange(30) % 3, kind="classes")
    found = qsim.evaluate(np.zeros(15), classes, qsim.MultinomialLogistic(0.1, classes=3))
    assert (found.loss, found.error) == pytest.approx((math.log(3), 2 / 3))
    assert (found.auc, found.calibration) == (None, None)
    targets = qsim.Dataset.from_arrays(x, x[:, 0], kind="targets")
    found = qsim.evaluate(np.zeros(5), targets, qsim.LeastSquares(0.1))
    assert found.error == pytest.approx(2 * found.loss)
    with pytest.raises(ValueError, match="targets have no accuracy"):
        _ = found.accuracy
    own = Squares()
    found = qsim.evaluate(np.ones(5), targets, own)
    assert found.loss == pytest.approx(own.value(np.ones(5), targets) - 0.01 / 2 * 5)
    assert (found.error, found.auc) == (0.5, None)
    diverged = qsim.evaluate(np.full(5, np.nan), (x, np.sign(x[:, 0])), LOGISTIC)
    assert np.isnan([diverged.loss, diverged.auc, diverged.calibration.ratio]).all()


def test_files_that_are_read_one_by_one_make_one_evaluation(tmp_path: Path) -> None:
    for part, rows in enumerate((40, 25)):
        save_clicks(tmp_path / f"{part}.tsv", rows, part=part)
    whole = tmp_path / "all.txt"
    whole.write_bytes(b"".join((tmp_path / f"{part}.tsv").read_bytes() for part in range(2)))
    w = np.random.default_rng(0).standard_normal(2**8)
    found = qsim.evaluate(w, Parts(HashedText(tmp_path / "*.tsv", 2**8)), LOGISTIC)
    right = qsim.evaluate(w, HashedText(whole, 2**8), LOGISTIC)
    assert repr(found) == repr(right)
    assert (found.rows, found.loss, found.error, found.auc) == (65, right.loss, right.error, right.auc)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="must have the 17 features of the model, found .*features="):
        qsim.evaluate(np.zeros(17), "spark_sample", LOGISTIC)
    with pytest.raises(DataError, match="must have the 15 features of the model"):
        qsim.evaluate(np.zeros(16), "spark_sample", qsim.LogisticRegression(0.1, intercept=True))
    with pytest.raises(DataError, match="takes classes"):
        qsim.evaluate(np.zeros(32), "spark_sample", qsim.MultinomialLogistic(0.1, classes=2))
    with pytest.raises(ValueError, match="must be of one length, at least 1"):
        qsim.metrics.auc([0.5, 0.5], [1])
    with pytest.raises(ValueError, match=r"probabilities must be in \[0, 1\], found 1.5"):
        qsim.metrics.calibration([0.5, 1.5], [1, -1])
    with pytest.raises(ValueError, match="strategy must be"):
        qsim.metrics.calibration([0.5], [1], strategy="equal")
    with pytest.raises(ValueError, match="bins must be a whole number"):
        qsim.metrics.calibration([0.5], [1], bins=0)
    with pytest.raises(ValueError, match="bins must be a whole number"):  # of an objective without calibration, too
        qsim.evaluate(np.zeros(16), "spark_sample", qsim.LeastSquares(0.1), bins=0)


@pytest.mark.parametrize(
    "model", [None, "trace.npz", np.zeros((4, 4)), np.zeros(16, complex), qsim.load("spark_sample")]
)
def test_models_without_weights_are_refused(model: Any) -> None:
    with pytest.raises(TypeError, match="model must be a trace, or weights in an array with one axis, found"):
        qsim.evaluate(model, "spark_sample", LOGISTIC)


def test_what_is_evaluated_is_asked_for_by_name() -> None:
    wrong: list[Any] = [qsim.LogisticRegression, "logistic", qsim.SGD(step=0.1)]
    for objective in wrong:
        with pytest.raises(TypeError, match="objective must be one such as"):
            qsim.evaluate(np.zeros(16), "spark_sample", objective)
    x = np.eye(3)
    with pytest.raises(DataError, match="has 3 weights for each feature, found 11 in all"):
        qsim.evaluate(
            np.zeros(11),
            qsim.Dataset.from_arrays(x, [0, 1, 2], kind="classes"),
            qsim.MultinomialLogistic(0.1, classes=3),
        )
    with pytest.raises(ValueError, match="labels must be numbers, found nan"):
        qsim.metrics.auc([0.1, 0.2], [np.nan, 1])
    with pytest.raises(ValueError, match=r"labels must be numbers, found \['no', 'yes'\]"):
        qsim.metrics.calibration([0.1, 0.2], ["no", "yes"])
