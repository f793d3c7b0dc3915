"""FedProx, FedOpt and DiLoCo, whose steps are tuned: their papers' loops in dense NumPy, and special cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from helpers.dense_loops import L2, RUN, STEP, WORKERS, Half, Loop, N, half, weights
from qsim.compressors import Identity
from qsim.datasets import ByLabel, Dirichlet, Quadratics
from qsim.methods import (
    Adagrad,
    Adam,
    DiLoCo,
    FedProx,
    HeavyBall,
    LocalSGD,
    Method,
    Nesterov,
    Passes,
    Yogi,
)
from qsim.objectives import LeastSquares, NonconvexLogistic
from qsim.problem import TheoryError


def some_rows(loop: Loop, method, t: int, kept: dict):
    """Return the function that gives the rows of local step k of a round."""
    if not method.batch:
        return lambda k: None
    rows = method.sampling.draw(loop.block, method.steps * method.batch, t, kept, loop.rows)
    return lambda k: rows.step(k, method.batch)


def serve(method, w: np.ndarray, d: np.ndarray, kept: dict) -> np.ndarray:
    """A round of Algorithm 2 of Reddi et al., or of momentum."""
    rule, eta = method.server, method.server_step
    if rule is None:
        return w - eta * d
    if isinstance(rule, (HeavyBall, Nesterov)):
        v = kept["v"] = rule.beta * kept.get("v", 0.0) + eta * d
        return w - (v if isinstance(rule, HeavyBall) else eta * d + rule.beta * v)
    m = kept["m"] = rule.beta1 * kept.get("m", 0.0) + (1 - rule.beta1) * d
    v = kept.get("v", np.full(N, rule.tau**2))
    if isinstance(rule, Adagrad):
        v = v + d**2
    elif isinstance(rule, Adam):
        v = rule.beta2 * v + (1 - rule.beta2) * d**2
    else:
        v = v - (1 - rule.beta2) * d**2 * np.sign(v - d**2)
    kept["v"] = v
    return w - eta * m / (np.sqrt(v) + rule.tau)


def fedprox(loop: Loop, method: FedProx) -> np.ndarray:
    w, kept = loop.start, method.sampling.memory(loop.block)
    for t in range(RUN.rounds):
        u, rows = np.tile(w, (WORKERS, 1)), some_rows(loop, method, t, kept)
        for k in range(method.steps):
            u = u - method.step(t) * (loop.gradients(u, rows(k)) + L2 * u + method.strength * (u - w))
        w = w - loop.share @ half(w - u)
    return w


def local_sgd(loop: Loop, method: LocalSGD) -> np.ndarray:
    """What l2 alone does is not compressed."""
    w, kept, held = loop.start, method.sampling.memory(loop.block), {}
    for t in range(RUN.rounds):
        u, rows = np.tile(w, (WORKERS, 1)), some_rows(loop, method, t, kept)
        for k in range(method.steps):
            u = u - method.step(t) * (loop.gradients(u, rows(k)) + L2 * u)
        shrunk = (1 - method.step(t) * L2) ** method.steps * w
        w = serve(method, w, w - shrunk + loop.share @ half(shrunk - u), held)
    return w


def diloco(loop: Loop, method: DiLoCo) -> np.ndarray:
    w, kept, held = loop.start, method.sampling.memory(loop.block), {}
    m, v = np.zeros((2, WORKERS, N))
    taken = 0
    for t in range(RUN.rounds):
        u, rows = np.tile(w, (WORKERS, 1)), some_rows(loop, method, t, kept)
        for k in range(method.steps):
            g = loop.gradients(u, rows(k)) + L2 * u
            m, v = method.beta1 * m + (1 - method.beta1) * g, method.beta2 * v + (1 - method.beta2) * g**2
            taken += 1
            way = m / (1 - method.beta1**taken) / (np.sqrt(v / (1 - method.beta2**taken)) + method.eps)
            u = u - method.step(t) * (way + method.weight_decay * u)
        w = serve(method, w, loop.share @ half(w - u), held)
    return w


FIRM = {"eps": 0.1, "weight_decay": 0.1}  # AdamW divides small gradients by themselves, and rounding with them
LOOPS = [
    (FedProx(STEP, strength=0.7, steps=4), fedprox),
    (FedProx(STEP, strength=0.7, steps=3, batch=2), fedprox),
    (LocalSGD(STEP, 3, batch=2, server=Adam(tau=0.1), server_step=0.2), local_sgd),
    (LocalSGD(STEP, 3, batch=None, server=Yogi(tau=0.1), server_step=0.2), local_sgd),
    (LocalSGD(STEP, 3, batch=2, sampling=Passes(), server=Adagrad(0.5, tau=0.1), server_step=0.2), local_sgd),
    (LocalSGD(STEP, 3, batch=2, server=HeavyBall(0.5)), local_sgd),
    (LocalSGD(STEP, 3, batch=2, server=Nesterov(0.5), server_step=0.7), local_sgd),
    (DiLoCo(0.02, steps=4, **FIRM), diloco),
    (DiLoCo(0.02, steps=3, batch=4, server=Adam(tau=0.1), server_step=0.3, **FIRM), diloco),
    (DiLoCo(0.02, steps=3, server=None, server_step=0.8, beta1=0.5, beta2=0.9, **FIRM), diloco),
]


@pytest.mark.parametrize(("method", "loop"), LOOPS, ids=lambda x: getattr(x, "__name__", repr(x)[:90]))
@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.5)], ids=repr)
def test_methods_are_those_of_their_papers(method: Method, loop, partition) -> None:
    run = replace(RUN, method=method, compressor=Half(), partition=partition)
    np.testing.assert_allclose(qsim.simulate(run).weights, loop(Loop(run), method), atol=5e-6)


PLAIN = LocalSGD(STEP, 4, batch=None)
SAME = [
    (FedProx(STEP, strength=0.0, steps=4), PLAIN, 2e-6),
    (replace(PLAIN, server=HeavyBall(0.0)), PLAIN, 2e-6),
    (replace(PLAIN, server=Nesterov(0.0)), PLAIN, 2e-6),
    (replace(PLAIN, server=Adam(0.0, tau=1e6), server_step=2e6), PLAIN, 1e-5),  # sqrt(v) = tau throughout
    (replace(PLAIN, server=Yogi(0.0, tau=1e6), server_step=2e6), PLAIN, 1e-5),
    (replace(PLAIN, server=Adagrad(tau=1e6), server_step=2e6), PLAIN, 1e-5),
]


@pytest.mark.parametrize(("method", "other", "near"), SAME, ids=repr)
def test_special_cases(method: Method, other: Method, near: float) -> None:
    if isinstance(getattr(method, "server", None), (Adam, Yogi)):  # v begins at tau^2, and Adam forgets it
        method = replace(method, server=replace(method.server, beta2=1 - 1e-9))
    np.testing.assert_allclose(weights(method, Identity()), weights(other, Identity()), atol=near)


def test_a_strong_proximal_term_makes_steps_along_the_gradient() -> None:
    """Solved well, it is a proximal point: of a quadratic of one worker, w* + (w - w*)/(1 + a_j/strength)."""
    run = qsim.Run(Quadratics((4.0,), mu=0.5), LeastSquares(l2=0.0), FedProx(0.2, 1.0, steps=200), workers=1, rounds=1)
    problem = run.problem()
    best, curved = problem.optimum, np.diag(problem.data.to_scipy().T @ problem.data.to_scipy().toarray()) / 20
    np.testing.assert_allclose(qsim.simulate(run).weights - best, -best / (1 + curved / 1.0), atol=1e-5)


def test_servers_with_rules_train_objectives_of_their_kind() -> None:
    """A regulariser that is not l2 counts with the rows; LocalSGD refuses it."""
    curved = {"objective": NonconvexLogistic(0.1), "optimum": False}
    loss = qsim.simulate(replace(RUN, method=DiLoCo(0.02, steps=5), **curved)).axis("loss")
    assert loss[-1] < loss[0]
    with pytest.raises(ValueError, match="regulariser of its own"):
        weights(replace(PLAIN, server=Adam()), Identity(), **curved)


def test_what_is_refused() -> None:
    for make, words in [
        (lambda: FedProx(None, 0.1), "FedProx has no step of theory"),
        (lambda: DiLoCo(None), "DiLoCo has no step of theory"),
        (lambda: FedProx(0.1, -1.0), "strength must be a finite number of at least 0"),
        (lambda: DiLoCo(0.1, beta1=1.0), "beta1 must be below 1"),
        (lambda: Adam(beta2=1.0), "beta2 must be below 1"),
        (lambda: Yogi(tau=0.0), "tau must be a finite number above 0"),
    ]:
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(TypeError, match="server must be None or a rule such as"):
        LocalSGD(0.1, server=0.9)
    with pytest.raises(TheoryError, match="no step of theory is known for a server"):
        LocalSGD(server=Adam()).resolved(RUN.problem())
