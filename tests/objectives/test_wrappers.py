"""Objectives around others: the nonconvex regulariser, an intercept that is not regularised, the l1 norm."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import qsim
from qsim.block import Block
from qsim.l2_decay import GlobalScale
from qsim.objectives import NonconvexLogistic, NoOptimumError
from qsim.weights import Replica, Weights

pytestmark = pytest.mark.quick

DATA = qsim.datasets.synthetic(120, 30, 4, seed=5)
LOGISTIC = qsim.LogisticRegression(l2=0.05)
RUN = qsim.Run(DATA, LOGISTIC, qsim.GradientDescent(), qsim.QSGD(4), workers=4, rounds=25, optimum=False)


def weights(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n)


def test_nonconvex_logistic_is_one_of_them() -> None:
    """To the last bit: values, constants, and a run."""
    here, there = qsim.WithNonconvex(qsim.LogisticRegression(l2=0), 0.1), NonconvexLogistic(0.1)
    w, v = weights(30), weights(30, 1)
    for mine, right in zip(here.evaluate(w, DATA), there.evaluate(w, DATA), strict=True):
        assert np.array_equal(mine, right)
    assert np.array_equal(here.regulariser_hvp(w, v), there.regulariser_hvp(w, v))
    runs = [replace(RUN, objective=objective) for objective in (here, there)]
    problems = [run.problem() for run in runs]
    assert problems[0].smoothness == problems[1].smoothness
    assert np.array_equal(problems[0].worker_smoothness, problems[1].worker_smoothness)
    assert problems[0].row_smoothness == problems[1].row_smoothness
    traces = [qsim.simulate(run) for run in runs]
    assert np.array_equal(traces[0].weights, traces[1].weights)
    assert traces[0].frame.equals(traces[1].frame)


def test_the_nonconvex_regulariser_is_beside_the_others_own() -> None:
    objective, w = qsim.WithNonconvex(LOGISTIC, 0.3), weights(30)
    penalty = 0.3 * sum(x * x / (1 + x * x) for x in w.tolist())
    assert objective.value(w, DATA) == pytest.approx(LOGISTIC.value(w, DATA) + penalty, rel=1e-14)
    assert objective.smoothness(DATA) == LOGISTIC.smoothness(DATA) + 0.6
    with pytest.raises(NoOptimumError, match="not convex"):
        qsim.WithL1(objective, 0.1).optimum(DATA)
    with pytest.raises(NoOptimumError, match="not convex"):
        qsim.WithIntercept(NonconvexLogistic(0.1)).optimum(DATA)


def test_an_intercept_is_not_regularised() -> None:
    objective, w, x = qsim.WithIntercept(LOGISTIC), weights(31), DATA.to_scipy().astype(np.float64)
    margins, y = x @ w[:-1] + w[-1], DATA.labels
    value, gradient = objective.value_and_gradient(w, DATA)
    slopes = -y / (1 + np.exp(y * margins)) / y.size
    assert value == pytest.approx(np.logaddexp(0, -y * margins).mean() + 0.025 * w[:-1] @ w[:-1], rel=1e-14)
    np.testing.assert_allclose(gradient[:-1], x.T @ slopes + 0.05 * w[:-1], rtol=1e-12, atol=1e-15)
    assert gradient[-1] == pytest.approx(slopes.sum(), rel=1e-12)
    assert objective.error(w, DATA) == np.mean(y * margins < 0)
    moved = Weights(w)
    for _ in range(10**4):  # the scale is multiplied in several times
        objective.apply_l2_step(moved, 1.0)
    assert abs(moved.dense()[-1] - w[-1]) < 1e-11
    assert np.abs(moved.dense()[:-1]).max() < 1e-200


@pytest.mark.parametrize(
    "objective", [LOGISTIC, qsim.LeastSquares(l2=0.05), qsim.SquaredHinge(l2=0.05)], ids=lambda o: type(o).__name__
)
def test_a_run_comes_to_its_optimum(objective) -> None:
    """Where the mean slope of the loss is zero, as the intercept demands; messages are no longer than without."""
    run = replace(RUN, objective=qsim.WithIntercept(objective), compressor=qsim.Identity(), rounds=900, optimum=True)
    trace, design = qsim.simulate(run), DATA.with_intercept()
    optimum = run.objective.optimum(DATA).weights
    slope = objective.slope(design.to_scipy().astype(np.float64) @ optimum, DATA.labels)
    assert abs(np.mean(slope)) < 1e-10 < 0.001 < abs(optimum[-1])
    assert abs(trace.frame["suboptimality"].iloc[-1]) < 1e-9
    sparse = replace(run, data=qsim.datasets.synthetic(16, 400, 3), workers=8, rounds=1, optimum=False)
    sparse = replace(sparse, codec=qsim.codecs.SparseFloats())
    sent = qsim.simulate(sparse).frame["nonzeros"].iloc[1]
    assert sent <= sparse.problem().shards.support.size < 100


def test_without_l2_it_is_a_column_of_ones() -> None:
    """And where a class has no rows there is no minimum."""
    data = qsim.Dataset.from_arrays(np.eye(4)[np.arange(12) % 4], np.where(np.arange(12) % 3, 1, -1))
    one, other = qsim.WithIntercept(qsim.LogisticRegression(0)), qsim.LogisticRegression(0, intercept=True)
    assert one.optimum(data).value == other.optimum(data).value
    alike = qsim.Dataset.from_arrays(np.eye(4), np.ones(4))
    with pytest.raises(NoOptimumError, match="class without rows"):
        qsim.WithIntercept(LOGISTIC).optimum(alike)
    qsim.WithIntercept(qsim.SquaredHinge(0.1)).optimum(alike)


def test_a_model_with_an_intercept_is_evaluated() -> None:
    objective = qsim.WithL1(qsim.WithIntercept(LOGISTIC), 0.01)
    trace = qsim.simulate(replace(RUN, objective=objective, test=DATA))
    found = qsim.evaluate(trace, DATA, objective)
    assert found.error == trace.frame["test_error"].iloc[-1] == trace.frame["train_error"].iloc[-1]
    assert found.loss == pytest.approx(trace.frame["test_loss"].iloc[-1], rel=1e-14)
    progressive = qsim.simulate(replace(RUN, objective=objective, progressive=True))
    assert np.array_equal(progressive.weights, trace.weights)
    assert np.isfinite(progressive.frame["progressive_error"].iloc[1:]).all()


def test_the_lasso_of_an_orthonormal_design() -> None:
    """Each weight is its label moved towards zero by n l1, and no further."""
    y = np.array([3.0, -0.5, 0.2, -4.0, 0.0, 1.0])
    data = qsim.Dataset.from_arrays(np.eye(6), y, kind="targets")
    found = qsim.WithL1(qsim.LeastSquares(0), l1=0.1).optimum(data)
    np.testing.assert_allclose(found.weights, [2.4, 0, 0, -3.4, 0, 0.4], atol=1e-9)
    elastic = qsim.WithL1(qsim.LeastSquares(l2=0.5), l1=0.1).optimum(data)
    np.testing.assert_allclose(elastic.weights, found.weights / (1 + 6 * 0.5), atol=1e-9)


@pytest.mark.parametrize("inside", [LOGISTIC, qsim.WithIntercept(LOGISTIC), qsim.SquaredHinge(0.01)], ids=repr)
def test_the_optimum_with_l1_is_one(inside) -> None:
    """The gradient of the rest is -l1 sign(w) where w is not zero, elsewhere at most l1, and 0 for the intercept."""
    objective = qsim.WithL1(inside, 0.02)
    found, free = objective.optimum(DATA), objective.free
    w, gradient = found.weights, inside.gradient(found.weights, DATA)
    counted = np.arange(w.size) < w.size - free
    np.testing.assert_allclose(gradient[w != 0], -0.02 * (np.sign(w) * counted)[w != 0], atol=1e-10)
    assert np.abs(gradient[w == 0]).max() < 0.02
    assert np.abs(gradient[~counted]).max(initial=0) < 1e-10
    assert 0 < np.count_nonzero(w) < w.size
    assert found.value == pytest.approx(inside.value(w, DATA) + 0.02 * np.abs(w[counted]).sum(), rel=1e-14)
    for seed in range(20):
        other = w + 10.0 ** (seed % 5 - 4) * weights(w.size, seed)
        assert objective.value(other, DATA) > found.value


def test_l1_from_which_on_all_weights_are_zero() -> None:
    edge = float(np.abs(LOGISTIC.gradient(np.zeros(30), DATA)).max())
    assert not qsim.WithL1(LOGISTIC, 1.001 * edge).optimum(DATA).weights.any()
    assert np.count_nonzero(qsim.WithL1(LOGISTIC, 0.999 * edge).optimum(DATA).weights) == 1


def test_heterogeneity_with_l1_is_that_of_the_gradients() -> None:
    problem = replace(RUN, objective=qsim.WithL1(LOGISTIC, 0.02), optimum=True).problem()
    shards = problem.shards
    squares = [
        np.sum(LOGISTIC.gradient(problem.optimum, DATA.take(shards.order[low:high])) ** 2)
        for low, high in zip(shards.offsets[:-1], shards.offsets[1:], strict=True)
    ]
    assert problem.heterogeneity == pytest.approx(float(problem.weights @ squares), rel=1e-10)


def test_what_goes_into_what() -> None:
    nested = qsim.WithRegulariser(qsim.WithL1(qsim.WithNonconvex(qsim.WithIntercept(LOGISTIC), 0.1), 0.2))
    assert eval(repr(nested)) == nested
    assert nested.innermost == LOGISTIC
    assert nested.composite
    assert not nested.smooth_part.composite
    with pytest.raises(ValueError, match=r"WithIntercept goes inside WithL1, found .*: put it around qsim.Logistic"):
        qsim.WithIntercept(qsim.WithL1(LOGISTIC, 0.1))
    with pytest.raises(ValueError, match="has a WithL1 inside already"):
        qsim.WithL1(qsim.WithL1(LOGISTIC, 0.1), 0.1)
    with pytest.raises(ValueError, match="goes inside WithRegulariser"):
        qsim.WithL1(qsim.WithRegulariser(LOGISTIC), 0.1)
    with pytest.raises(ValueError, match="has an intercept already"):
        qsim.WithIntercept(qsim.LogisticRegression(0.1, intercept=True))
    with pytest.raises(TypeError, match=re.escape("objective must be such as qsim.LogisticRegression")):
        qsim.WithNonconvex(0.1, 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="regulariser of its own"):
        qsim.simulate(replace(RUN, objective=qsim.WithIntercept(LOGISTIC), method=qsim.LocalSGD(0.1)))


@pytest.mark.parametrize("inside", [qsim.WithNonconvex(LOGISTIC, 0.1), NonconvexLogistic(0.1)], ids=repr)
def test_local_steps_take_no_other_regulariser_than_l2(inside) -> None:
    """Messages have in them what l2 does to the weights on the way, and would lack what another regulariser does."""
    objective = qsim.WithRegulariser(inside)
    with pytest.raises(ValueError, match=r"regulariser of its own"):
        qsim.simulate(replace(RUN, objective=objective, method=qsim.LocalSGD(0.1, steps=3)))
    block = Block(qsim.datasets.Contiguous().split(qsim.load("spark_sample"), 4, qsim.Key(0)), 0, 4)
    with pytest.raises(ValueError, match=r"local steps take l2 alone, but .* has a regulariser of its own"):
        objective.local_steps(
            block, block.all_rows(), None, Replica(np.ones(16, np.float32)), np.ones(2), GlobalScale()
        )
