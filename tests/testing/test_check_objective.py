"""`check_objective`: shipped objectives and honest ones of a user's pass; every planted mistake is caught.

And the first look that `simulate` takes at the gradient of an objective of one's own.
"""

from __future__ import annotations

import numpy as np
import pytest

import qsim
from helpers.honest_objectives import HONEST, Logistic, Squares
from helpers.planted_objectives import (
    GRADIENT,
    HESSIAN,
    PLANTED,
    Clipped,
    CurvedTwice,
    GradientWithoutL2,
    SlopeTwice,
    SlopeUphill,
)
from helpers.planted_proximal import PLANTED as PROXIMAL
from helpers.planted_proximal import Sparse
from qsim.objectives import LeastSquares, Objective
from qsim.testing import check_objective
from qsim.testing import objective as checks
from qsim.testing.shipped import shipped

SHIPPED = list(shipped(qsim.objectives, Objective))


@pytest.mark.parametrize("objective", [*SHIPPED, *HONEST, Sparse()], ids=repr)
def test_what_is_right_passes(objective: Objective) -> None:
    report = check_objective(objective)
    assert report.good, str(report)


@pytest.mark.parametrize(
    ("objective", "data"),
    [
        (qsim.LogisticRegression(l2=1e-4), qsim.datasets.Builtin("adult")),
        (Logistic(1e-4), qsim.datasets.Builtin("spark_sample")),
        (Logistic(), qsim.datasets.synthetic(600, 30, 4).take([0, 1, 2])),
        (LeastSquares(l2=0.0), qsim.datasets.Quadratics(smoothness=(1.0, 9.0), mu=0.1, heterogeneity=1.0)),
    ],
    ids=repr,
)
def test_on_data_that_are_given(objective: Objective, data) -> None:
    report = check_objective(
        objective, qsim.datasets.load(data) if isinstance(data, str) else getattr(data, "load", lambda: data)()
    )
    assert report.good, str(report)


@pytest.mark.quick
@pytest.mark.parametrize(("objective", "promise"), [*PLANTED, *PROXIMAL], ids=lambda value: type(value).__name__)
def test_planted_mistakes_are_caught(objective: Objective, promise: str, monkeypatch) -> None:
    """Only the check that must find it is run, to save time."""
    monkeypatch.setattr(checks, "CHECKS", {promise: checks.CHECKS[promise]})
    report = check_objective(objective)
    assert report.broken == [promise], str(report)


def test_a_mistake_is_told_with_its_place(monkeypatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", {promise: checks.CHECKS[promise] for promise in (GRADIENT, HESSIAN)})
    seen = check_objective(SlopeUphill()).findings[GRADIENT].seen
    assert "-1 times as much" in seen
    assert "of a row with margin" in seen
    assert "lacks the gradient of r once" in check_objective(GradientWithoutL2()).findings[GRADIENT].seen
    assert "where differences of gradients have" in check_objective(CurvedTwice()).findings[HESSIAN].seen


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(TypeError, match=r"only an Objective can be checked, .* found 3"):
        check_objective(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data must be a Dataset"):
        check_objective(Logistic(), "adult")  # type: ignore[arg-type]


# The first look of a run.


def first_look(objective: Objective, **changes) -> qsim.Trace:
    options = {"rounds": 1, "workers": 2, "optimum": False, "method": qsim.SGD(step=qsim.steps.Constant(0.1))}
    kind = objective.takes[0]
    data = qsim.datasets.synthetic(600, 30, 4)
    if kind != "signs":
        labels = np.arange(600) % 3 if kind == "classes" else np.random.default_rng(0).standard_normal(600)
        data = qsim.Dataset(data.indptr, data.indices, data.values, labels, 30, kind=kind)
    return qsim.simulate(data, objective=objective, **(options | changes))


@pytest.mark.parametrize("objective", HONEST, ids=repr)
def test_a_run_with_a_right_gradient_begins(objective: Objective) -> None:
    """Also from where kinks are: margins of zero."""
    assert np.isfinite(first_look(objective).weights).all()


@pytest.mark.parametrize("objective", [SlopeUphill(), SlopeTwice(), Clipped()], ids=repr)
def test_a_run_with_a_wrong_gradient_is_refused(objective: Objective) -> None:
    """It was told "no minimum was found ... Use a larger l2", or without the optimum nothing."""
    for optimum in (True, False):
        told = (
            r"the gradient of .* is not that of its loss.* where differences give .*\(of a row with .*check_objective"
        )
        with pytest.raises(ValueError, match=told):
            first_look(objective, optimum=optimum)


@qsim.option
class OnlyPositive(Squares):
    """Has values for positive weights only: nothing can be said near a start of zero."""

    def loss_and_gradient(self, w, data):
        if (w < 0).any():
            raise ValueError("weights must not be negative")
        return super().loss_and_gradient(w, data)


def test_a_loss_without_values_near_the_start_is_no_mistake() -> None:
    case = {"method": qsim.methods.LBFGS(), "rounds": 0}
    assert first_look(OnlyPositive(), **case).weights.size == 30


@qsim.option
class SlopeOfLargeMargins(Logistic):
    """Wrong where the first look does not come."""

    def slope(self, margins, labels):
        found = super().slope(margins, labels)
        return np.where(labels * margins > 2.5, -0.01 * labels, found)


def test_a_minimum_that_is_not_found_may_be_a_wrong_gradient() -> None:
    with pytest.raises(qsim.objectives.NoOptimumError, match=r"Use a larger l2.*check_objective"):
        SlopeOfLargeMargins(1e-3).optimum(qsim.datasets.synthetic(600, 30, 4))


def test_a_resumed_run_is_not_looked_at_again(tmp_path, monkeypatch) -> None:
    looks = []
    monkeypatch.setattr("qsim.simulation.training.refuse_wrong_gradient", lambda *given: looks.append(given))
    for _ in range(2):
        first_look(Logistic(), checkpoint=tmp_path / "run.npz")
    assert len(looks) == 1
