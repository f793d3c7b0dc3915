"""DASHA, EControl, EF-BV and EF21's extensions: their papers' loops in dense NumPy, special cases, and rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import qsim
from helpers.dense_loops import L2, ROUNDS, RUN, STEP, WORKERS, Half, Loop, N, half, top, weights
from qsim.clients import SampledClients
from qsim.compressors import Bernoulli, Compose, Identity, RandK, Scaled, TopK
from qsim.datasets import ByLabel, Contiguous, Dirichlet, Quadratics
from qsim.keys import Key
from qsim.methods import (
    DASHA,
    DIANA,
    EF21,
    EFBV,
    MVR,
    PAGE,
    EControl,
    Estimator,
    GradientDescent,
    HeavyBall,
    Method,
    Nesterov,
    Passes,
)
from qsim.objectives import LeastSquares, WithRegulariser
from qsim.problem import TheoryError
from qsim.steps import Constant


def estimates(loop: Loop, estimator: Estimator | None) -> Callable[[int, np.ndarray], np.ndarray]:
    """Return the function of round and weights that estimates all gradients, called round by round."""
    kept: list[np.ndarray] = []
    kept_orders = {} if estimator is None else estimator.sampling.memory(loop.block)

    def at(t: int, w: np.ndarray) -> np.ndarray:
        if estimator is None or t == 0:
            now = loop.gradients(w)
        else:
            k, before = kept
            rows = estimator.sampling.draw(loop.block, estimator.batch, t, kept_orders, loop.rows)
            if isinstance(estimator, PAGE):
                full = loop.coins.fold(t).generator().random() < estimator.p
                now = loop.gradients(w) if full else k + loop.gradients(w, rows) - loop.gradients(before, rows)
            else:
                now = loop.gradients(w, rows) + (1 - estimator.momentum) * (k - loop.gradients(before, rows))
        kept[:] = now, w
        return now

    return at


def dasha(loop: Loop, method: DASHA) -> np.ndarray:
    """Algorithm 1 of Tyurin and Richtarik, with the gradients or estimates of them."""
    w, h, old = loop.start, np.zeros((WORKERS, N)), None
    estimate = estimates(loop, method.estimator)
    for t in range(ROUNDS):
        k = estimate(t, w)
        if t == 0 and method.shifts == "gradient":
            h = k.copy()
        else:
            before = k if old is None else old
            h = h + half(k - before - method.forget * (h - before))
        old, w = k, w - STEP * (loop.share @ h + L2 * w)
    return w


def ef21(loop: Loop, method: EF21) -> np.ndarray:
    w, h, velocity = loop.start, np.zeros((WORKERS, N)), np.zeros(N)
    estimate, beta = estimates(loop, method.estimator), 0.0
    if method.server_momentum is not None:
        beta = method.server_momentum.beta
    for t in range(ROUNDS):
        k = estimate(t, w)
        h = k.copy() if t == 0 and method.shifts == "gradient" else h + top(k - h)
        plain = STEP * (loop.share @ h + L2 * w)
        velocity = beta * velocity + plain
        w = w - (plain + beta * velocity if isinstance(method.server_momentum, Nesterov) else velocity)
    return w


def econtrol(loop: Loop, method: EControl) -> np.ndarray:
    """Algorithm 2 of Gao, Islamov and Stich."""
    w, h, e = loop.start, np.zeros((WORKERS, N)), np.zeros((WORKERS, N))
    for t in range(ROUNDS):
        g = loop.gradients(w)
        if t == 0 and method.shifts == "gradient":
            h = g.copy()
        else:
            message = top(method.strength * e + g - h)
            e, h = e + g - h - message, h + message
        w = w - STEP * (loop.share @ h + L2 * w)
    return w


def ef_bv(loop: Loop, method: EFBV) -> np.ndarray:
    """Algorithm 1 of Condat, Yi and Richtarik."""
    w, h = loop.start, np.zeros((WORKERS, N))
    for _ in range(ROUNDS):
        message = top(loop.gradients(w) - h)
        w = w - STEP * (loop.share @ (h + method.scale * message) + L2 * w)
        h = h + method.shift * message
    return w


FAST = MVR(3, momentum=0.3)
LOOPS = [
    (DASHA(STEP, forget=0.3), Half(), dasha),
    (DASHA(STEP, forget=0.3, shifts="zero"), Half(), dasha),
    (DASHA(STEP, PAGE(3, p=0.3), forget=0.3), Half(), dasha),
    (DASHA(STEP, PAGE(3, p=0.3, sampling=Passes()), forget=0.6, shifts="zero"), Half(), dasha),
    (DASHA(STEP, FAST, forget=0.3), Half(), dasha),
    (EF21(STEP, estimator=PAGE(3, p=0.3)), TopK(4), ef21),
    (EF21(STEP, estimator=FAST, shifts="gradient", server_momentum=HeavyBall(0.4)), TopK(4), ef21),
    (EF21(STEP, server_momentum=HeavyBall(0.5)), TopK(4), ef21),
    (EF21(STEP, server_momentum=Nesterov(0.5), shifts="gradient"), TopK(4), ef21),
    (EControl(STEP, strength=0.3), TopK(4), econtrol),
    (EControl(STEP, strength=0.3, shifts="gradient"), TopK(4), econtrol),
    (EFBV(STEP, shift=0.6, scale=0.8), TopK(4), ef_bv),
]


@pytest.mark.parametrize(("method", "compressor", "loop"), LOOPS, ids=lambda x: getattr(x, "__name__", repr(x)[:60]))
@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.5)], ids=repr)
def test_methods_are_those_of_their_papers(method, compressor, loop, partition) -> None:
    """To float32's rounding of gradients and messages, over 25 rounds of steps of 0.3."""
    run = replace(RUN, method=method, compressor=compressor, partition=partition)
    np.testing.assert_allclose(qsim.simulate(run).weights, loop(Loop(run), method), atol=1e-6)


SAME = [
    (DASHA(STEP), Identity(), GradientDescent(STEP), Identity()),
    (DASHA(STEP, shifts="zero"), Identity(), GradientDescent(STEP), Identity()),
    (DASHA(STEP, PAGE(2, p=1.0)), RandK(5), DASHA(STEP), RandK(5)),
    (DASHA(STEP, forget=1.0, shifts="zero"), Scaled(RandK(10)), EF21(STEP), Scaled(RandK(10))),
    (EF21(STEP, estimator=PAGE(2, p=1.0)), TopK(4), EF21(STEP), TopK(4)),
    (EF21(STEP, server_momentum=HeavyBall(0.0)), TopK(4), EF21(STEP), TopK(4)),
    (EF21(STEP, server_momentum=HeavyBall(0.6)), Identity(), GradientDescent(STEP, HeavyBall(0.6)), Identity()),
    (EControl(STEP, strength=0.0), TopK(4), EF21(STEP), TopK(4)),
    (EControl(STEP, strength=0.5), Identity(), GradientDescent(STEP), Identity()),
    (EFBV(STEP, shift=1.0, scale=1.0), TopK(4), EF21(STEP), TopK(4)),
    (EFBV(STEP, shift=0.3, scale=1.0), qsim.QSGD(2), DIANA(STEP, shift=0.3), qsim.QSGD(2)),
    (EFBV(STEP, shift=0.3, scale=1.0, batch=3), qsim.QSGD(2), DIANA(STEP, shift=0.3, batch=3), qsim.QSGD(2)),
]


@qsim.option
class Unbiased(qsim.compressors.Compressor):
    """Another compressor, of which a variance is claimed."""

    compressor: qsim.compressors.Compressor
    emits = qsim.batch.Floats

    def compress(self, v, keys, memory=None):
        return self.compressor.compress(v, keys, memory)

    def variance(self, n):
        return 0.5


@pytest.mark.parametrize(("method", "compressor", "other", "others"), SAME, ids=lambda x: repr(x)[:60])
def test_special_cases(method, compressor, other, others) -> None:
    """To rounding: what differs is where float32 rounds."""
    if isinstance(method, DASHA) and isinstance(compressor, Scaled):
        compressor = others = Unbiased(compressor)
    np.testing.assert_allclose(weights(method, compressor), weights(other, others), atol=2e-6)


def test_mvr_of_all_rows_is_the_gradient() -> None:
    """Batches of 20 rows in passes over 20 are the shard, in another order."""
    whole = MVR(20, momentum=0.3, sampling=Passes())
    np.testing.assert_allclose(
        weights(DASHA(STEP, whole), RandK(5), partition=Contiguous()),
        weights(DASHA(STEP), RandK(5), partition=Contiguous()),
        atol=1e-6,
    )


@pytest.mark.parametrize("estimator", [PAGE(3, p=0.3), FAST], ids=repr)
def test_old_weights_with_the_regulariser_inside_and_rotations(estimator: Estimator) -> None:
    """Dense memories, where all n old weights are kept: without compression as with sparse ones."""
    for kind, method in ((Identity(), DASHA(STEP, estimator)), (Identity(), EF21(STEP, estimator=estimator))):
        inside = WithRegulariser(qsim.LogisticRegression(l2=L2))
        np.testing.assert_allclose(weights(method, kind, objective=inside), weights(method, kind), atol=1e-5)
    end = replace(RUN, method=DASHA(0.3, estimator), compressor=qsim.compressors.DRIVE(), rounds=200)
    behind = qsim.simulate(end).axis("suboptimality")
    assert behind[-1] < 0.05 * behind[0]


# Rates.

SKEWED = qsim.Run(
    Quadratics((1.0, 2.0, 4.0, 8.0, 20.0), mu=0.5, heterogeneity=1.0),
    LeastSquares(l2=0.0),
    DASHA(),
    workers=5,
    partition=Contiguous(),
    rounds=400,
)
SEEDS = 6
BOUNDED: list[tuple[Method, qsim.compressors.Compressor, float]] = [
    (DASHA(), RandK(2), 16),
    (DASHA(shifts="zero"), RandK(2), 16),
    (DASHA(forget=0.05), RandK(3), 32),
    (EFBV(), RandK(2), 64),
    (EFBV(), TopK(2), 64),
    (EFBV(shifts="gradient"), Compose(TopK(4), Bernoulli(0.5)), 512),
]


def ends(run: qsim.Run, times: float) -> np.ndarray:
    """The mean over seeds, of runs with so many times the step of theory; infinity for those that overflow."""
    resolved = run.method.resolved(run.problem())
    method, found = replace(resolved, step=Constant(times * resolved.step(0))), []
    for seed in range(SEEDS):
        try:
            found.append(qsim.simulate(replace(run, method=method, seed=seed)).axis("suboptimality"))
        except (ValueError, OverflowError, FloatingPointError):
            found.append(np.full(run.rounds + 1, np.inf))
    return np.mean(found, axis=0)


@pytest.mark.parametrize(("method", "compressor", "far"), BOUNDED, ids=repr)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of runs that diverge
def test_bounds_hold_and_far_longer_steps_break_them(method, compressor, far: float) -> None:
    run = replace(SKEWED, method=method, compressor=compressor)
    promise = run.bound()(np.arange(run.rounds + 1))
    assert (ends(run, 1.0) <= promise).all()
    assert (ends(run, far) > promise).any()


def test_econtrol_meets_its_bound() -> None:
    """The mean of ||grad F||^2, for each number of rounds."""
    run = replace(SKEWED, method=EControl(), compressor=TopK(2), rounds=2000)
    problem = run.problem()
    method = run.method.resolved(problem)
    step, eta, big = method.step(0), method.strength, problem.smoothness
    squares = qsim.simulate(run).axis("gradient_norm")[:-1] ** 2
    start = problem.suboptimality + step**3 * big**2 / eta**3 * problem.mean_square_gradient(problem.start)
    rounds = np.arange(1, 2001)
    means = np.cumsum(squares) / rounds
    assert (means <= 8 / (step * rounds) * start).all()
    far = replace(run, method=replace(method, step=Constant(1000 * step)), rounds=40)
    assert (qsim.simulate(far).axis("gradient_norm")[:-1] ** 2).sum() > 8 / step * start


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of runs that diverge
@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_heavy_ball_meets_its_bound(beta: float) -> None:
    """The sum of ||grad F(z)||^2 over the points z of the proof, by the loop that the method equals, in float64."""
    problem = replace(SKEWED, method=EF21(server_momentum=HeavyBall(beta)), compressor=TopK(4)).problem()
    step = EF21(server_momentum=HeavyBall(beta)).resolved(problem).step(0)
    x, y = problem.shards.dataset.to_scipy().toarray().astype(float), problem.shards.dataset.labels
    parts = [slice(low, low + 20) for low in range(0, 100, 20)]
    objective, theta = problem.objective, 1 - np.sqrt(1 - problem.delta)

    def total(step: float) -> float:
        w, h, v, found, c = np.zeros(10), np.zeros((5, 10)), np.zeros(10), 0.0, step / (1 - beta)
        for _ in range(500):
            z = w - beta * c * v
            found += np.sum(objective.gradient(z, problem.data) ** 2)
            h = h + top(np.array([x[rows].T @ (x[rows] @ w - y[rows]) / 20 for rows in parts]) - h)
            v = beta * v + h.mean(axis=0)
            w = w - step * v
        return found

    c = step / (1 - beta)
    error = (1 - problem.delta) * problem.sent_energy(problem.start)
    most = 2 / c * (problem.suboptimality + c / theta * error)
    assert 0.02 * most < total(step) <= most
    assert not total(64 * step) <= most  # infinite, or not a number


@pytest.mark.parametrize(
    ("method", "compressor"),
    [
        (EF21(estimator=PAGE(4)), TopK(5)),
        (DASHA(estimator=PAGE(4)), RandK(5)),
        (DASHA(estimator=PAGE(1, 0.5)), RandK(5)),
    ],
    ids=repr,
)
def test_page_meets_its_bound(method, compressor) -> None:
    """Sum of ||grad F||^2 <= 2/a (F(w_0) - F* + c mean of ||h_i - g_i||^2 after round 0), in the mean over seeds."""
    run = replace(SKEWED, method=method, compressor=compressor, rounds=600)
    problem = run.problem()
    resolved = method.resolved(problem)
    step, error = resolved.step(0), 0.0  # DASHA begins at gradients
    if isinstance(method, EF21):
        theta = 1 - np.sqrt(1 - problem.delta)
        error = step / theta * (1 - problem.delta) * problem.mean_square_gradient(problem.start)
    most = 2 / step * (problem.suboptimality + error)

    def total(times: float, rounds: int = 600) -> float:
        case = replace(run, method=replace(resolved, step=Constant(times * step)), rounds=rounds)
        found = [qsim.simulate(replace(case, seed=seed)).axis("gradient_norm")[:-1] for seed in range(4)]
        return float(np.mean(np.sum(np.square(found), axis=1)))

    assert 1e-3 * most < total(1.0) <= most
    assert total(256.0, rounds=40) > most


ESTIMATED = [
    (EF21(estimator=PAGE(4)), TopK(15), {}),
    (DASHA(estimator=PAGE(4)), qsim.QSGD(16), {}),
    (DASHA(estimator=PAGE(4)), qsim.QSGD(16), {"partition": Dirichlet(0.5)}),
]


@pytest.mark.parametrize(("method", "compressor", "changes"), ESTIMATED, ids=lambda x: repr(x)[:60])
def test_page_gets_below_the_floor_of_batches(method, compressor, changes) -> None:
    """With steps of theory: the noise of batches goes, as that of SGD does not."""
    run = replace(RUN, method=method, compressor=compressor, rounds=1000, evaluate_every=1000, **changes)
    noisy = replace(run, method=qsim.SGD(batch=4), compressor=Identity())
    assert qsim.simulate(run).axis("suboptimality")[-1] < 1e-10
    assert qsim.simulate(noisy).axis("suboptimality")[-1] > 1e-5


def test_mvr_has_less_noise_with_a_smaller_share() -> None:
    floors = []
    for share in (1.0, 0.1):
        run = replace(RUN, method=DASHA(0.5, MVR(2, share)), compressor=qsim.QSGD(4), rounds=1500, evaluate_every=100)
        floors.append(qsim.simulate(run).frame["suboptimality"].dropna()[-5:].mean())
    assert floors[1] < 0.5 * floors[0]


# What is known of compressors, and what is refused.


@pytest.mark.parametrize(
    "compressor",
    [RandK(5), TopK(5), Scaled(RandK(5)), Compose(TopK(8), Bernoulli(0.5)), Compose(TopK(8), qsim.QSGD(2))],
)
def test_bias_and_variance_bound_those_of_messages(compressor) -> None:
    """2,000 draws, whose mean has a deviation of sqrt(omega/2000) of the vector's norm: 4% for the largest omega."""
    eta, omega = compressor.bias_and_variance(N)
    v = np.random.default_rng(0).standard_normal(N).astype(np.float32)
    many = qsim.batch.Vectors.dense(np.tile(v, (2000, 1)))
    keys = Key(1).words(0, 2000)
    found = compressor.decompress(compressor.compress(many, keys), keys).to_dense().astype(float)
    mean = found.mean(axis=0)
    assert np.linalg.norm(mean - v) <= (eta + 0.1) * np.linalg.norm(v)
    assert np.mean(np.sum((found - mean) ** 2, axis=1)) <= 1.1 * omega * (v @ v) + 1e-9


def test_what_is_refused() -> None:
    some = {"clients": SampledClients(2)}
    cases = [
        (DASHA(STEP), TopK(3), {}, "DASHA needs an unbiased compressor"),
        (DASHA(STEP), RandK(3), some, "needs every worker"),
        (DASHA(STEP), qsim.ErrorFeedback(TopK(2)), {}, "without a memory"),
        (EControl(STEP, strength=0.1), TopK(3), some, "needs every worker"),
        (EFBV(STEP, shift=0.1, scale=1.0), TopK(3), some, "needs every worker"),
        (EF21(STEP, estimator=PAGE(2)), TopK(3), some, "needs every worker"),
        (EControl(STEP), qsim.compressors.Sign(), {}, "Sign, which loses the size"),
    ]
    for method, compressor, changes, words in cases:
        with pytest.raises(ValueError, match=words):
            qsim.simulate(replace(RUN, method=method, compressor=compressor, **changes))
    for method, compressor, words in [
        (DASHA(forget=0.9), RandK(3), "above 1/\\(2 omega \\+ 1\\)"),
        (EControl(strength=0.9), TopK(3), "no step of theory is known for strength = 0.9"),
        (EControl(strength=0.0), TopK(3), "no step of theory is known for strength = 0"),
        (EFBV(), Compose(RandK(5), TopK(2)), "bias and variance of .* are not known"),
        (EFBV(shift=1.0), RandK(2), "run away"),
        (EF21(server_momentum=Nesterov(0.5)), TopK(3), "no step of theory is known for .*Nesterov"),
        (EF21(server_momentum=HeavyBall(0.5), momentum=0.5), TopK(3), "no step of theory"),
    ]:
        with pytest.raises(TheoryError, match=words):
            method.resolved(replace(RUN, compressor=compressor).problem())
    with pytest.raises(ValueError, match="leave out momentum and batch"):
        EF21(estimator=PAGE(2), batch=3)
    with pytest.raises(TypeError, match="estimator must be None or such as"):
        DASHA(estimator=3)
    with pytest.raises(TypeError, match="server_momentum must be None or a rule"):
        EF21(server_momentum=0.9)
    for part in (lambda: PAGE(2, p=1.5), lambda: MVR(2, 1.5), lambda: DASHA(forget=2.0), lambda: EFBV(scale=1.5)):
        with pytest.raises(ValueError, match="must be at most 1"):
            part()
