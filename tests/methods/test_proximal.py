"""Proximal steps: a plain loop that they equal, what they come to, the bounds of theory, and who refuses them."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

import qsim
from helpers.planted_proximal import Sparse
from qsim.datasets import Dirichlet
from qsim.methods import EF21, Averaged, HeavyBall, Method, Richtarik2024
from qsim.problem import TheoryError
from qsim.testing.shipped import shipped

DATA = qsim.datasets.synthetic(400, 40, 6, seed=3)
SMOOTH, L1 = qsim.LogisticRegression(l2=0.02), 0.01
LASSO = qsim.WithL1(SMOOTH, L1)
RUN = qsim.Run(DATA, LASSO, qsim.GradientDescent(), workers=5, rounds=120, partition=Dirichlet(0.3))


def shrunk(v: np.ndarray, by: float) -> np.ndarray:
    return np.array([max(0.0, abs(x) - by) * (1 if x > 0 else -1) for x in v.tolist()])


@pytest.mark.parametrize("inside", [False, True])
def test_a_plain_loop(inside: bool) -> None:
    """w <- prox(w - a grad f(w)), with the regulariser of f on the server or in the messages."""
    w, a = np.zeros(40), 1.0
    for _ in range(20):
        w = shrunk(w - a * SMOOTH.gradient(w, DATA), a * L1)
    objective = qsim.WithRegulariser(LASSO) if inside else LASSO
    trace = qsim.simulate(replace(RUN, objective=objective, method=qsim.GradientDescent(a), rounds=20))
    np.testing.assert_allclose(trace.weights, w, atol=1e-6)
    assert np.array_equal(trace.weights == 0, w == 0)
    assert 0 < np.count_nonzero(w) < 40
    value, least = SMOOTH.value(trace.weights, DATA) + L1 * np.abs(trace.weights).sum(), LASSO.optimum(DATA).value
    assert trace.frame["loss"].iloc[-1] == pytest.approx(value, rel=1e-14)
    assert trace.frame["suboptimality"].iloc[-1] == pytest.approx(value - least, abs=1e-14)


@pytest.mark.parametrize("method", [qsim.DIANA(1.0, shifts="gradient"), EF21(1.0, shifts="gradient")], ids=repr)
def test_the_round_in_which_shifts_begin_at_gradients(method: Method) -> None:
    run = replace(
        RUN, method=method, compressor=qsim.Scaled(qsim.QSGD(4)) if isinstance(method, EF21) else qsim.QSGD(4)
    )
    w = shrunk(-SMOOTH.gradient(np.zeros(40), DATA), L1)
    np.testing.assert_allclose(qsim.simulate(replace(run, rounds=1)).weights, w, atol=1e-6)
    assert np.count_nonzero(w) < 40


def test_without_a_weight_it_changes_nothing() -> None:
    for method in (qsim.GradientDescent(), qsim.SGD(0.3, batch=4), qsim.DIANA(), EF21(0.1)):
        run = replace(RUN, method=method, compressor=qsim.TopK(4) if isinstance(method, EF21) else qsim.QSGD(4))
        without = qsim.simulate(replace(run, objective=SMOOTH, rounds=30)).weights
        np.testing.assert_allclose(
            qsim.simulate(replace(run, objective=qsim.WithL1(SMOOTH, 0), rounds=30)).weights, without, rtol=1e-9
        )


def test_the_bound_of_gradient_descent() -> None:
    """F - F* falls by 1 - a mu. With a step of 8/L it does not; of compressed gradients nothing is stated."""
    bound, frame = RUN.bound(), qsim.simulate(RUN).frame
    problem = RUN.problem()
    assert bound.factor == pytest.approx(1 - problem.strong_convexity / problem.smoothness)
    assert (frame["suboptimality"] <= bound(frame["round"])).all()
    long = qsim.simulate(replace(RUN, method=qsim.GradientDescent(8 / problem.smoothness))).frame
    assert (long["suboptimality"] > bound(long["round"])).any()
    for method, compressor in (
        (qsim.GradientDescent(), qsim.QSGD(4)),
        (qsim.DIANA(), qsim.QSGD(4)),
        (EF21(), qsim.TopK(4)),
    ):
        assert replace(RUN, method=method, compressor=compressor).bound() is None


@pytest.mark.parametrize(
    ("method", "compressor", "rounds"),
    [
        (qsim.DIANA(), qsim.QSGD(4), 900),
        (qsim.DIANA(shifts="gradient"), qsim.RandK(20), 900),
        (EF21(0.7), qsim.TopK(4), 900),
        (EF21(0.5, momentum=0.5), qsim.TopK(4), 900),
    ],
    ids=repr,
)
def test_the_optimum_is_reached_with_its_zeros(method: Method, compressor: qsim.compressors.Compressor, rounds) -> None:
    """Compressed gradient descent stops at a noise floor; with more weights that are not zero."""
    run = replace(RUN, method=method, compressor=compressor, rounds=rounds, evaluate_every=rounds)
    trace, optimum = qsim.simulate(run), LASSO.optimum(DATA).weights
    assert trace.frame["suboptimality"].iloc[-1] < 1e-9
    assert np.array_equal(trace.weights == 0, optimum == 0)
    floor = qsim.simulate(replace(run, method=qsim.GradientDescent(), compressor=qsim.QSGD(1)))
    assert floor.frame["suboptimality"].iloc[-1] > 1e-5


def test_ef21_prox_keeps_its_bound() -> None:
    """The mean of the squared prox-gradient mapping is at most 8 D/(a T); with a step 256 times longer it is above."""
    rounds, ratio = 60, {}
    for times in (1, 256):
        run = replace(RUN, method=EF21(), compressor=qsim.TopK(4))
        problem = run.problem()
        a = times * run.method.resolved(problem).step.step
        delta = problem.delta
        theta = 1 - sqrt(1 - delta)
        beta = (1 - delta) / theta
        expected = 1 / (2 * problem.smoothness + 2 * problem.feature_smoothness * sqrt(beta / theta))
        assert a == pytest.approx(times * expected)
        squares = []
        for t in range(0, rounds, 4):
            w = qsim.simulate(replace(run, method=EF21(a), rounds=t, optimum=False)).weights
            squares.append(np.sum(((w - shrunk(w - a * SMOOTH.gradient(w, DATA), a * L1)) / a) ** 2))
        start = problem.suboptimality + a / theta * (1 - delta) * problem.sent_energy(problem.start)
        ratio[times] = np.mean(squares) / (8 * start / (a * rounds))
    assert ratio[1] < 1 < ratio[256]


def test_the_mapping_is_at_most_the_subgradient() -> None:
    """And it falls with the step: what the certificate of an optimum stands on."""
    for seed in range(20):
        w = shrunk(np.random.default_rng(seed).standard_normal(40), 1.0)
        most = float(np.linalg.norm(LASSO.gradient(w, DATA)))
        for a in np.geomspace(1e-4, 100, 13):
            norm = float(np.linalg.norm(w - shrunk(w - a * SMOOTH.gradient(w, DATA), a * L1))) / a
            assert norm <= most * (1 + 1e-9)
            most = norm


@pytest.mark.parametrize("method", list(shipped(qsim.methods, Method)), ids=repr)
def test_other_methods_refuse_it(method: Method) -> None:
    if method.takes_proximal_steps:
        replace(RUN, method=method)
        return
    with pytest.raises(ValueError, match=r"takes no proximal steps, .* take GradientDescent, SGD, DIANA or EF21"):
        replace(RUN, method=method)


def test_a_nonsmooth_part_of_ones_own() -> None:
    """Its rounds are not planned, though its regulariser is l2; what it comes to is as of the shipped one."""
    run = replace(RUN, rounds=60, optimum=False, method=qsim.GradientDescent(1.0))
    own = qsim.simulate(replace(run, objective=Sparse(l2=0.02, l1=L1)))
    shipped_one = qsim.simulate(run)
    np.testing.assert_allclose(own.weights, shipped_one.weights, atol=1e-6)
    assert np.array_equal(own.weights == 0, shipped_one.weights == 0)
    assert own.frame["loss"].iloc[-1] == pytest.approx(shipped_one.frame["loss"].iloc[-1], rel=1e-9)


def test_what_has_no_step_of_theory_says_so() -> None:
    run = replace(RUN, compressor=qsim.TopK(4))
    with pytest.raises(TheoryError, match="with proximal steps: give the step"):
        qsim.simulate(replace(run, method=EF21(momentum=0.5)))
    with pytest.raises(TheoryError, match="about smooth objectives"):
        qsim.simulate(replace(run, method=EF21(Richtarik2024())))
    for refused in (EF21(0.1, server_momentum=HeavyBall(0.5)), Averaged(qsim.SGD(0.1))):
        with pytest.raises(ValueError, match="takes no proximal steps"):
            replace(run, method=refused)
