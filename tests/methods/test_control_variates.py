"""Scaffnew, SCAFFOLD and LoCoDL: their papers' loops in dense NumPy, special cases, and rates."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

import qsim
from helpers.dense_loops import L2, RUN, STEP, WORKERS, Half, Loop, N, half, weights
from qsim.clients import AllClients, SampledClients
from qsim.compressors import Identity, RandK
from qsim.datasets import ByLabel, Contiguous, Dirichlet, Quadratics
from qsim.methods import SCAFFOLD, GradientDescent, LocalSGD, LoCoDL, Method, Passes, Scaffnew
from qsim.objectives import LeastSquares, NonconvexLogistic, WithRegulariser
from qsim.problem import TheoryError
from qsim.steps import Constant, InverseTime
from qsim.storage import read_arrays

FEW = replace(RUN, rounds=6, seed=1)  # all end at the optimum; several local steps a round


def scaffnew(loop: Loop, method: Scaffnew, compress=lambda v: v) -> np.ndarray:
    """Algorithm 1 of Mishchenko et al., whose coin is tossed after every step: here the steps up to a head."""
    w, h = loop.start, np.zeros((WORKERS, N))
    for t in range(FEW.rounds):
        step, u = method.step(t), np.tile(w, (WORKERS, 1))
        for _ in range(loop.rows.fold(t).generator().geometric(method.p)):
            u = u - step * (loop.gradients(u) + L2 * u - h)
        arrived = compress(w - u)
        new = w - loop.share @ arrived
        h = h + method.p / step * (new - (w - arrived))
        w = new
    return w


def scaffold(loop: Loop, method: SCAFFOLD, moving: bool = True) -> np.ndarray:
    """Algorithm 1 of Karimireddy et al., option II; with `moving` false all gradients of a round are those at w."""
    w, c, c_i = loop.start, np.zeros(N), np.zeros((WORKERS, N))
    kept = method.sampling.memory(loop.block)
    for t in range(FEW.rounds):
        rows, step, u = None, method.step(t), np.tile(w, (WORKERS, 1))
        drawn = loop.present(t)
        here = np.ones(WORKERS, bool) if drawn is None else drawn
        if method.batch:
            rows = method.sampling.draw(loop.block, method.steps * method.batch, t, kept, loop.rows)
        for k in range(method.steps):
            some, at = rows and rows.step(k, method.batch), u if moving else w
            u = u - step * (loop.gradients(at, some) + L2 * at - c_i + c)
        change = np.where(here[:, None], (w - u) / (method.steps * step) - c, 0.0)
        share = np.where(here, loop.share, 0.0)
        w = w - method.server_step * share @ (w - u) / share.sum()
        c, c_i = c + share @ change, c_i + change
    return w


@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.5)], ids=repr)
@pytest.mark.parametrize(
    ("method", "clients"),
    [
        (SCAFFOLD(STEP, steps=4), AllClients()),
        (SCAFFOLD(InverseTime(STEP, 9), steps=3, batch=2, server_step=0.7), AllClients()),
        (SCAFFOLD(STEP, steps=3, batch=4, sampling=Passes()), AllClients()),
        (SCAFFOLD(STEP, steps=4), SampledClients(3)),
    ],
    ids=repr,
)
def test_scaffold_is_that_of_the_paper(method: SCAFFOLD, clients, partition) -> None:
    run = replace(FEW, method=method, partition=partition, clients=clients)
    np.testing.assert_allclose(qsim.simulate(run).weights, scaffold(Loop(run), method), atol=3e-6)


def test_local_steps_move() -> None:
    """Code that evaluates all gradients of a round at its beginning ends elsewhere, by far more than rounding."""
    run = replace(FEW, method=SCAFFOLD(STEP, steps=8))
    assert np.abs(qsim.simulate(run).weights - scaffold(Loop(run), run.method, moving=False)).max() > 1e-4


def locodl(loop: Loop, method: LoCoDL, compress=half) -> np.ndarray:
    """Algorithm 1 of Condat, Maranjyan and Richtarik, with g = c/2 ||w||^2 taken out of the f_i."""
    y, x = loop.start, np.tile(loop.start, (WORKERS, 1))
    u, v, c = np.zeros((WORKERS, N)), np.zeros(N), method.share
    for t in range(FEW.rounds):
        step = method.step(t)
        for _ in range(loop.coins.fold(t).generator().geometric(method.p)):
            x, y = x - step * (loop.gradients(x) + L2 * x - c * x - u), y - step * (c * y - v)
        sent = compress(x - y)
        mean = loop.share @ sent / 2
        x, y = (1 - method.mixing) * x + method.mixing * (y + mean), y + method.mixing * mean
        u, v = u + method.learning / step * (mean - sent), v + method.learning / step * mean
    return y


@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.5)], ids=repr)
@pytest.mark.parametrize("step", [STEP, InverseTime(STEP, 9)], ids=repr)
def test_locodl_is_that_of_the_paper(step, partition) -> None:
    run = replace(FEW, method=LoCoDL(step, 0.4, 0.03, 0.7, 0.1), compressor=Half(), partition=partition)
    np.testing.assert_allclose(qsim.simulate(run).weights, locodl(Loop(run), run.method), atol=3e-6)


def test_two_vectors_go_up_and_two_down() -> None:
    trace = qsim.simulate(replace(RUN, method=SCAFFOLD(STEP, steps=2)))
    plain = qsim.simulate(replace(RUN, method=GradientDescent(STEP)))
    for axis in ("bits_up", "bits_down"):
        assert trace.axis(axis)[-1] == pytest.approx(2 * plain.axis(axis)[-1], rel=0.02)


@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.5)], ids=repr)
@pytest.mark.parametrize("method", [Scaffnew(STEP, p=0.3), Scaffnew(InverseTime(STEP, 5), p=0.25)], ids=repr)
def test_it_is_that_of_the_paper(method: Scaffnew, partition) -> None:
    """To float32's rounding of gradients and messages; with half of a message, too."""
    run = replace(FEW, method=method, partition=partition)
    np.testing.assert_allclose(qsim.simulate(run).weights, scaffnew(Loop(run), method), atol=2e-6)
    found = qsim.simulate(replace(run, compressor=Half())).weights
    np.testing.assert_allclose(found, scaffnew(Loop(run), method, half), atol=2e-6)


def test_special_cases() -> None:
    """An exchange after every step is gradient descent, as the control variates sum to zero; the regulariser counts
    with the rows, wherever it is."""
    expected = weights(GradientDescent(STEP), Identity(), partition=Dirichlet(0.5))
    for method in (Scaffnew(STEP, p=1.0), SCAFFOLD(STEP, steps=1), LoCoDL(2 * STEP, p=1.0)):
        np.testing.assert_allclose(weights(method, Identity(), partition=Dirichlet(0.5)), expected, atol=2e-6)
    method, inside = Scaffnew(STEP, p=0.3), WithRegulariser(RUN.objective)
    plain = weights(method, Identity())
    np.testing.assert_array_equal(weights(method, Identity(), objective=inside), plain)
    curved = NonconvexLogistic(0.1)
    found = weights(Scaffnew(STEP, p=1.0), Identity(), objective=curved, optimum=False)
    expected = weights(GradientDescent(STEP), Identity(), objective=curved, optimum=False)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_local_steps_are_counted() -> None:
    """Passes over the data: one for every local step."""
    method = Scaffnew(STEP, p=0.3)
    run = replace(RUN, method=method)
    steps = [Loop(run).rows.fold(t).generator().geometric(0.3) for t in range(RUN.rounds)]
    assert max(steps) > 4
    assert qsim.simulate(run).axis("passes").tolist() == [0, *np.cumsum(steps)]


def test_messages_that_are_dropped_leave_the_sum_of_control_variates(tmp_path: Path) -> None:
    """Half of all messages come late. What workers learn is of those in time, so that h_i still sum to zero, to the
    rounding of weights to float32 on their way down: some 1e-7 of them, times p/a."""
    network = qsim.Network(rule=qsim.network.Fastest(3))
    run = replace(RUN, method=Scaffnew(STEP, p=0.5), partition=Dirichlet(0.5), network=network)
    qsim.simulate(run, checkpoint=tmp_path / "run.npz")
    control = read_arrays(tmp_path / "run.npz")["workers/method/control"].reshape(WORKERS, N)
    assert np.abs(control).max() > 0.01
    assert np.abs(Loop(run).share @ control).max() < 1e-6


# Rates.

SKEWED = qsim.Run(
    Quadratics((1.0, 2.0, 4.0, 8.0, 20.0), mu=0.5, heterogeneity=1.0),
    LeastSquares(l2=0.0),
    Scaffnew(),
    workers=5,
    partition=Contiguous(),
    rounds=80,
)


def ends(run: qsim.Run, times: float) -> np.ndarray:
    """The mean over four seeds, of runs with so many times the step; infinity for those that overflow."""
    resolved = run.method.resolved(run.problem())
    method, found = replace(resolved, step=Constant(times * resolved.step(0))), []
    for seed in range(4):
        try:
            found.append(qsim.simulate(replace(run, method=method, seed=seed)).axis("suboptimality"))
        except (ValueError, OverflowError, FloatingPointError):
            return np.full(run.rounds + 1, np.inf)
    return np.mean(found, axis=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of runs that diverge
@pytest.mark.parametrize(
    ("method", "far"),
    [
        (LoCoDL(), 3),
        (Scaffnew(), 1.2),
        (Scaffnew(p=0.05), 1.2),
        (Scaffnew(1 / 20, p=sqrt(0.5 / 20)), 4),
        (SCAFFOLD(steps=1), 8),
        (SCAFFOLD(steps=4), 24),
        (SCAFFOLD(steps=16), 96),
    ],
    ids=repr,
)
def test_the_bound_holds_and_a_longer_step_breaks_it(method: Method, far: float) -> None:
    run = replace(SKEWED, method=method, compressor=RandK(3) if method == LoCoDL() else Identity())
    promise = run.bound()
    assert (ends(run, 1.0) <= promise(np.arange(81))).all()
    assert (ends(run, far) > promise(np.arange(81))).any()


@pytest.mark.parametrize(("step", "p"), [(2 / 20.5, 0.3085), (1 / 20, sqrt(1 / 40)), (0.09, 0.05), (0.01, 0.9)])
def test_a_round_shrinks_the_error_as_derived(step: float, p: float) -> None:
    """The expectation over the number of local steps, of random states of quadratics, in float64: at most the factor,
    and with a third of the gain no more, as at slow states."""
    random = np.random.default_rng(0)
    problem = SKEWED.problem()
    bound = Scaffnew(step, p).bound(problem)
    worst = 0.0
    for trial in range(60):
        curved = np.exp(random.uniform(np.log(0.5), np.log(20), (5, 8)))  # f_i = sum_j curved_ij u_j^2/2, w* = 0
        if trial % 3 == 0:
            curved[:, 0], curved[:, 1] = 0.5, 20
        d, eta = random.standard_normal(8) * 10.0 ** random.uniform(-2, 2, 8), random.standard_normal((5, 8))
        if trial % 2 == 0:
            d[1:] = 0.0
        if trial == 1:
            curved[:], d = min(1 / step, 20), 0.0 * d  # workers end at once where their control variates say
        eta -= eta.mean(axis=0)
        eta *= 10 ** random.uniform(-3, 2)
        u, left, found = np.tile(d, (5, 1)), 1.0, 0.0
        before = 5 * d @ d + np.sum(eta**2)
        for _ in range(int(40 / p)):
            u = (1 - step * curved) * u + p * eta  # eta = (a/p) (h - h*)
            after = eta + u.mean(axis=0) - u
            found += left * p * (5 * np.sum(u.mean(axis=0) ** 2) + np.sum(after**2))
            left *= 1 - p
        worst = max(worst, found / before)
    assert worst <= bound.factor
    assert 1 - worst <= 3 * (1 - bound.factor)


def test_steps_and_probabilities_are_those_of_theory() -> None:
    problem = SKEWED.problem()
    method = Scaffnew().resolved(problem)
    assert method.step(0) == pytest.approx(2 / 20.5, rel=1e-6)
    assert method.p == pytest.approx(2 * sqrt(40) / 41, rel=1e-6)
    assert Scaffnew(0.05).resolved(problem).p == pytest.approx(sqrt(1 - 0.975**2), rel=1e-6)
    assert Scaffnew(0.05, 0.2).resolved(problem) == Scaffnew(0.05, 0.2)
    whole = Scaffnew(p=1.0)
    bound = whole.resolved(problem).bound(problem)
    assert bound.factor == pytest.approx((19.5 / 20.5) ** 2, rel=1e-6)  # that of gradient descent
    assert Scaffnew(0.101, 0.2).bound(problem) is None
    assert Scaffnew(0.05, 0.2).bound(replace(SKEWED, compressor=qsim.QSGD(4)).problem()) is None


def test_a_round_of_locodl_shrinks_the_error_as_derived() -> None:
    """As above, with Rand-1 of 2 weights on two workers: all four draws, of random states."""
    random, step, p, share = np.random.default_rng(1), 0.1, 0.3, 0.25
    run = replace(SKEWED, data=Quadratics((1.0, 20.0), mu=0.5, features=2), workers=2, compressor=RandK(1))
    problem = run.problem()
    method = LoCoDL(step, p, share).resolved(problem)
    factor, r, e = method.bound(problem).factor, method.mixing, method.learning
    worst = 0.0
    for trial in range(40):
        curved = np.exp(random.uniform(np.log(0.5), np.log(20), (2, 2)))
        if trial == 0:
            curved[:] = 0.5
        slopes = np.vstack([curved - share, np.full((1, 2), share)])  # x_1, x_2 and y; w* = 0
        state = np.tile(random.standard_normal(2), (3, 1)) + 0.1 * random.standard_normal((3, 2)) * (trial % 2)
        dual = random.standard_normal((3, 2)) * 10 ** random.uniform(-2, 2)
        dual[2] = -dual[:2].mean(axis=0)
        if trial == 0:
            state *= 0

        def error(state: np.ndarray, dual: np.ndarray) -> float:
            weights = np.array([0.5, 0.5, 1.0]) @ (state**2 + step**2 / (p * e) * dual**2)
            return float(weights.sum())

        before, left, found = error(state, dual), 1.0, 0.0
        for _ in range(130):
            state = state - step * (slopes * state - dual)
            for one in range(2):
                for other in range(2):
                    sent = 2 * (state[:2] - state[2]) * np.eye(2)[[one, other]]
                    mean = sent.mean(axis=0) / 2
                    moved = np.vstack([(1 - r) * state[:2] + r * (state[2] + mean), state[2:] + r * mean])
                    learnt = dual + e / step * np.vstack([mean - sent, mean[None]])
                    found += left * p / 4 * error(moved, learnt)
            left *= 1 - p
        worst = max(worst, found / before)
    assert worst <= factor
    assert 1 - worst <= 4 * (1 - factor)


def test_the_step_of_scaffold_is_that_of_theory() -> None:
    problem = SKEWED.problem()
    assert SCAFFOLD(steps=1).resolved(problem).step(0) == pytest.approx(1 / 20, rel=1e-6)
    step = SCAFFOLD(steps=8).resolved(problem).step(0)
    far = 8 * step * 20
    assert 3 * (1 - 1 / 8) * far**2 + far == pytest.approx(1, rel=1e-6)
    assert SCAFFOLD(2 * step, 8).bound(problem) is None


def test_local_steps_stay_at_the_optimum() -> None:
    """Where those of local SGD with the same steps are pulled apart, on skewed shards."""
    plain = replace(RUN, method=LocalSGD(0.3, 8, batch=None), rounds=400, evaluate_every=400)
    learns = replace(plain, method=SCAFFOLD(0.3, 8))
    floor, end = (qsim.simulate(run).axis("suboptimality")[-1] for run in (plain, learns))
    assert floor > 1e-5
    assert end < 1e-10


def test_what_is_refused() -> None:
    for method, changes, words in [
        (Scaffnew(), {"compressor": qsim.QSGD(4)}, "theory of Scaffnew is for exact messages"),
        (Scaffnew(), {"objective": LeastSquares(l2=0.0)}, "not strongly convex"),
        (Scaffnew(InverseTime(0.1)), {}, "no p follows"),
        (Scaffnew(100.0), {}, "no p follows"),
        (LoCoDL(), {"objective": LeastSquares(l2=0.0)}, "not strongly convex"),
        (LoCoDL(InverseTime(0.1)), {}, "no p follows"),
        (SCAFFOLD(batch=2), {}, "step of theory is for full gradients"),
        (SCAFFOLD(server_step=0.5), {}, "step of theory is for full gradients"),
        (SCAFFOLD(), {"clients": SampledClients(2)}, "step of theory is for full gradients"),
        (SCAFFOLD(), {"compressor": qsim.QSGD(4)}, "step of theory is for full gradients"),
    ]:
        with pytest.raises(TheoryError, match=words):
            method.resolved(replace(RUN, **changes).problem())
    for changes, words in [
        ({"clients": SampledClients(2)}, "Scaffnew needs every worker"),
        ({"compressor": qsim.ErrorFeedback(qsim.TopK(2))}, "without a memory"),
    ]:
        with pytest.raises(ValueError, match=words):
            Scaffnew(0.1, 0.5).resolved(replace(RUN, **changes).problem())
    with pytest.raises(ValueError, match="LoCoDL needs an unbiased compressor"):
        LoCoDL(0.1, 0.5).resolved(replace(RUN, compressor=qsim.TopK(2)).problem())
    assert LoCoDL(0.01, 0.5, mixing=0.9).resolved(SKEWED.problem()).bound(SKEWED.problem()) is None
    with pytest.raises(ValueError, match="p must be at most 1"):
        Scaffnew(p=1.5)
