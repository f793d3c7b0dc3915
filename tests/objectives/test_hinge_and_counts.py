"""The hinge loss, its square, and Poisson regression: against other ways to them, and what they do not have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

import qsim
from qsim.datasets import DataError
from qsim.objectives import NoOptimumError, NoSmoothnessError

pytestmark = pytest.mark.quick

DATA = qsim.datasets.synthetic(120, 10, 4, seed=5)
COUNTS = qsim.Dataset.from_arrays(
    DATA.to_scipy(), np.random.default_rng(0).poisson(1.5, 120).astype(float), kind="targets"
)
RUN = qsim.Run(DATA, qsim.SquaredHinge(0.1), qsim.GradientDescent(), workers=4, rounds=400)


def test_losses_are_their_formulas() -> None:
    z, y = np.array([-2.0, 0.5, 1.0, 3.0, -0.5, -1.0, -3.0]), np.array([1, 1, 1, 1, -1, -1, -1], np.int8)
    hinge, square = qsim.Hinge(0), qsim.SquaredHinge(0)
    assert hinge.loss(z, y).tolist() == [3.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.0]
    assert hinge.slope(z, y).tolist() == [-1.0, -1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert square.loss(z, y).tolist() == [9.0, 0.25, 0.0, 0.0, 0.25, 0.0, 0.0]
    assert square.slope(z, y).tolist() == [-6.0, -1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert square.curvature(z, y).tolist() == [2.0, 2.0, 0.0, 0.0, 2.0, 0.0, 0.0]
    poisson, counts = qsim.objectives.Poisson(0), np.arange(7.0)
    np.testing.assert_allclose(poisson.loss(z, counts), np.exp(z) - counts * z, rtol=1e-15)
    np.testing.assert_allclose(poisson.slope(z, counts), np.exp(z) - counts, rtol=1e-15)
    for of in (hinge, square, poisson):
        assert of.slope(z.astype(np.float32), counts if of is poisson else y).dtype == np.float32


@pytest.mark.parametrize(
    ("objective", "data"), [(qsim.SquaredHinge(0.1), DATA), (qsim.objectives.Poisson(0.1), COUNTS)], ids=repr
)
def test_the_optimum_is_found_by_another_way_too(objective, data) -> None:
    x, y = data.to_scipy().toarray().astype(np.float64), data.labels

    def value(w: np.ndarray) -> float:
        z = x @ w
        loss = np.exp(z) - y * z if data is COUNTS else np.maximum(0, 1 - y * z) ** 2
        return float(loss.mean() + 0.05 * w @ w)

    found = objective.optimum(data)
    other = minimize(value, np.zeros(10), method="BFGS", options={"gtol": 1e-7})
    assert found.value <= other.fun + 1e-13
    np.testing.assert_allclose(found.weights, other.x, atol=1e-4)


def test_the_squared_hinge_has_the_steps_of_theory() -> None:
    frame = qsim.simulate(RUN).frame
    assert (frame["suboptimality"] <= RUN.bound()(frame["round"])).all()
    assert frame["suboptimality"].iloc[-1] < 1e-12
    newton = qsim.simulate(replace(RUN, method=qsim.NewtonCG(), rounds=12)).frame
    assert newton["gradient_norm"].iloc[-1] < 1e-10


def test_the_hinge_states_nothing_that_it_does_not_have() -> None:
    run = replace(RUN, objective=qsim.Hinge(0.1), optimum=False)
    with pytest.raises(NoSmoothnessError, match=r"not smooth.*give the step"):
        qsim.simulate(run)
    assert replace(run, method=qsim.GradientDescent(0.1)).bound() is None
    with pytest.raises(NoOptimumError, match="optimum=False"):
        qsim.simulate(replace(run, method=qsim.GradientDescent(0.1), optimum=True))
    with pytest.raises(NotImplementedError, match="LBFGS, or SquaredHinge"):
        qsim.simulate(replace(run, method=qsim.NewtonCG()))
    falling = replace(run, method=qsim.GradientDescent(qsim.steps.InverseTime(1.0, halving=10.0)), rounds=2000)
    best = qsim.simulate(falling).frame["loss"].min()
    long = qsim.simulate(replace(falling, method=qsim.methods.LBFGS(), rounds=200)).frame["loss"].min()
    assert abs(best - long) < 0.02 * best  # neither is exact where F has kinks


def test_poisson_takes_counts_and_has_no_l() -> None:
    poisson = qsim.objectives.Poisson(0.1)
    run = replace(RUN, data=COUNTS, objective=poisson)
    with pytest.raises(NoSmoothnessError, match="exp bends ever more"):
        qsim.simulate(run)
    assert qsim.simulate(replace(run, method=qsim.GradientDescent(0.1))).frame["suboptimality"].iloc[-1] < 1e-10
    assert qsim.simulate(replace(run, method=qsim.NewtonCG(), rounds=12)).frame["gradient_norm"].iloc[-1] < 1e-10
    with pytest.raises(qsim.compressors.NotFiniteError, match="step that is too large"):
        qsim.simulate(
            replace(run, objective=qsim.objectives.Poisson(0), optimum=False, method=qsim.GradientDescent(1e3))
        )
    below = qsim.Dataset.from_arrays(np.eye(3), [1.0, -2.0, 0.0], kind="targets")
    with pytest.raises(DataError, match="row 1 has -2"):
        poisson.value(np.zeros(3), below)


@pytest.mark.parametrize(("labels", "has"), [([0.0, 2.0], True), ([0.0, 0.0], False), ([1.0, 2.0], True)])
def test_whether_poisson_without_l2_has_a_minimum(labels: list[float], has: bool) -> None:
    """A count of zero pulls its mean to zero, without end; not if a like row has a count."""
    data = qsim.Dataset.from_arrays(np.ones((2, 1)), labels, kind="targets")
    poisson = qsim.objectives.Poisson(0)
    if has:
        assert np.exp(poisson.optimum(data).weights) == pytest.approx(np.mean(labels))
    else:
        with pytest.raises(NoOptimumError, match="a count of 0"):
            poisson.optimum(data)
    apart = qsim.Dataset.from_arrays(np.eye(2), labels, kind="targets")
    if 0.0 in labels:
        with pytest.raises(NoOptimumError, match="l2 > 0"):
            poisson.optimum(apart)
