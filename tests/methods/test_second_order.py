"""Second-order methods against SciPy's optimum, exact exchanges bit by bit; objectives; clients; weights down."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

import qsim
from qsim.block import Block
from qsim.compressors import Identity, TopK
from qsim.datasets import Dirichlet, Synthetic
from qsim.methods import LBFGS, GradientDescent, NewtonCG
from qsim.objectives import LeastSquares, LinearModel, NonconvexLogistic, Objective
from qsim.steps import Constant
from qsim.weights import Replica

SMALL = Synthetic(rows=150, features=30, nonzeros_per_row=6, noise=0.2, seed=1)
SETS = [qsim.datasets.Builtin("adult"), SMALL, Synthetic(rows=400, features=80, nonzeros_per_row=8, values="tfidf")]


@pytest.mark.parametrize("data", SETS, ids=lambda data: data.name)
@pytest.mark.parametrize("method", [LBFGS(history=20), NewtonCG()], ids=["LBFGS", "NewtonCG"])
def test_they_reach_scipys_optimum(data: Any, method: qsim.methods.Method) -> None:
    objective = qsim.LogisticRegression(l2=1e-3)
    found = qsim.simulate(
        data,
        objective=objective,
        method=method,
        workers=4,
        rounds=200,
        until=qsim.stopping.GradientNorm(1e-9),
        optimum=False,
    )
    there = data.load()
    near = minimize(objective.value_and_gradient, np.zeros(there.features), (there,), "L-BFGS-B", jac=True, tol=1e-14)
    best = min(near.fun, objective.optimum(there).value)
    assert found.frame["loss"].iloc[-1] - best <= 1e-10 * best
    assert len(found.frame) < 150


def test_the_bits_of_an_exact_round() -> None:
    """A first round of L-BFGS: losses at the start and at a trial, gradients there, all float64; headers once.

    Weights go down for the losses alone: those of the gradient are held by then.
    """
    n, workers = 30, 5
    trace = qsim.simulate(SMALL, objective=qsim.LogisticRegression(l2=0.1), method=LBFGS(), workers=workers, rounds=2)
    header = 4  # version, codec, kind, n in one byte
    losses, gradients = [], []
    for row in (1, 2):
        up, down = (int(trace.frame[name].iloc[row]) for name in ("bits_up", "bits_down"))
        exchanges = round(trace.frame["passes"].iloc[row])
        first = row == 1
        numbers = (up - workers * 8 * 2 * header * first) // (64 * workers)
        gradients.append((numbers - exchanges) // (n - 1))
        losses.append(exchanges - gradients[-1])
        assert numbers == losses[-1] + n * gradients[-1]
        assert down == workers * (losses[-1] * 64 * n + 8 * header * first)
    assert gradients == [2, 1]
    assert losses[0] >= 2
    assert losses[1] >= 1


def test_a_wrong_direction_is_left() -> None:
    """With gradients that lie, losses never rise, and steps go on."""
    run = qsim.Run(SMALL, qsim.LogisticRegression(l2=0.01), LBFGS(gradients="compressed"), TopK(2), rounds=40)
    loss = qsim.simulate(run).frame["loss"].to_numpy()
    assert (np.diff(loss) <= 1e-12).all()
    assert loss[-1] < loss[0] - 0.01


def test_least_squares_take_one_newton_step() -> None:
    run = qsim.Run(SMALL, LeastSquares(l2=0.1), NewtonCG(accuracy=1e-12), rounds=1, optimum=True)
    assert qsim.simulate(run).frame["suboptimality"].iloc[-1] < 1e-13


@pytest.mark.parametrize("bad", [{"history": 0}, {"gradients": "none"}])
def test_bad_options(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        LBFGS(**bad)


@qsim.option
class Huber(LinearModel):
    """A user's own objective: quadratic near the label, linear beyond."""

    l2: float

    def loss(self, margins, labels):
        off = np.abs(margins - labels)
        return np.where(off < 0.5, off**2 / 2, 0.5 * off - 0.125)

    def slope(self, margins, labels):
        return np.clip(margins - labels, -0.5, 0.5)

    def curvature(self, margins, labels):
        return (np.abs(margins - labels) < 0.5).astype(margins.dtype)

    def curvature_bound(self) -> float:
        return 1.0


OBJECTIVES: list[Objective] = [
    qsim.LogisticRegression(l2=0.05),
    LeastSquares(l2=0.05),
    NonconvexLogistic(weight=0.3),
    Huber(l2=0.05),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_derivatives_are_those_of_the_value(objective: Objective) -> None:
    """By central differences of step 1e-5: their error is some 1e-9 here; for workers in exact float64."""
    data, random = SMALL.load(), np.random.default_rng(0)
    w, v = random.standard_normal((2, data.features))
    slope = (objective.value(w + 1e-5 * v, data) - objective.value(w - 1e-5 * v, data)) / 2e-5
    assert objective.gradient(w, data) @ v == pytest.approx(slope, abs=1e-7)
    shards = Dirichlet(0.5).split(data, 5, qsim.Key(1))
    block = Block(shards, 0, 5)
    rows, here = block.all_rows(), Replica(w)
    share = shards.weights
    penalty, pull = objective.regulariser(w)
    losses = share @ objective.losses(block, rows, here).to_dense()[:, 0]
    assert losses + penalty == pytest.approx(objective.value(w, data), rel=1e-12)
    gradient = share @ objective.update(block, rows, here, 1.0).to_dense() + pull
    np.testing.assert_allclose(gradient, objective.gradient(w, data), atol=1e-12)
    curved = share @ objective.hvp(block, rows, here, v).to_dense() + objective.regulariser_hvp(w, v)
    if not isinstance(objective, Huber):  # whose slope has corners
        change = (objective.gradient(w + 1e-5 * v, data) - objective.gradient(w - 1e-5 * v, data)) / 2e-5
        np.testing.assert_allclose(curved, change, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_smoothness_bounds_every_change_of_the_gradient(objective: Objective) -> None:
    data, random = SMALL.load(), np.random.default_rng(1)
    bound = objective.smoothness(data)
    shards = Dirichlet(0.5).split(data, 5, qsim.Key(1))
    own = objective.worker_smoothness(shards)
    assert (own >= objective.strong_convexity(data) - 1e-12).all()
    assert shards.weights @ own >= bound * (1 - 1e-6)  # a mean of functions is no less smooth than its parts say
    for scale in (1e-3, 1.0, 30.0):
        for _ in range(20):
            u, v = scale * random.standard_normal((2, data.features))
            change = np.linalg.norm(objective.gradient(u, data) - objective.gradient(v, data))
            assert change <= bound * np.linalg.norm(u - v) * (1 + 1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES[1:], ids=repr)
def test_other_objectives_train_everywhere(objective: Objective, tmp_path: Any) -> None:
    run = qsim.Run(SMALL, objective, GradientDescent(), qsim.QSGD(8), rounds=60, optimum=False)
    trace = qsim.simulate(run)
    assert trace.frame["gradient_norm"].iloc[-1] < 0.2 * trace.frame["gradient_norm"].iloc[0]
    again = qsim.simulate(run, checkpoint=tmp_path / "run.npz", every=7, engine=qsim.engines.Serial(block=3, threads=2))
    assert again.weights.tobytes() == trace.weights.tobytes()


# Who takes part, and what comes down.


def test_sampled_clients_are_as_many_as_said_and_each_as_often() -> None:
    """200 rounds of 3 of 8: each comes 75 times on average, deviation 6.8; off by 7 of them: false alarm 2e-11."""
    clients, came = qsim.clients.SampledClients(3), np.zeros(8, int)
    for t in range(200):
        here = clients.draw(qsim.Key(4).fold(t), 8)
        assert here.sum() == 3
        came += here
    assert np.abs(came - 75).max() < 7 * 6.85
    with pytest.raises(ValueError, match="9 clients cannot be drawn of 8"):
        qsim.clients.SampledClients(9).draw(qsim.Key(0), 8)


def test_absent_clients_send_and_cost_nothing() -> None:
    clients = qsim.clients.SampledClients(2)
    run = qsim.Run(SMALL, qsim.LogisticRegression(l2=0.1), GradientDescent(Constant(1.0)), workers=5, rounds=3)
    few = qsim.simulate(replace(run, clients=clients))
    every = qsim.simulate(run)
    came = np.cumsum([clients.draw(qsim.Key(0).fold(qsim.keys.Purpose.CLIENTS, t), 5) for t in range(3)], axis=0) > 0
    new = np.diff(came.sum(axis=1), prepend=0)  # whose streams open in this round
    assert new.tolist() != [5, 0, 0]
    headers = {5: 8 * 4 * np.array([0, 5, 0, 0]), 2: 8 * 4 * np.array([0, *new])}
    for name in ("bits_up", "bits_down"):
        assert ((few.frame[name] - headers[2]) * 5 == (every.frame[name] - headers[5]) * 2).all()
    assert few.frame["passes"].iloc[1:].tolist() == [60 / 150] * 3
    all_of_them = qsim.simulate(replace(run, clients=qsim.clients.SampledClients(5)))
    np.testing.assert_allclose(all_of_them.weights, every.weights, atol=1e-12)


def test_compressed_weights_are_what_workers_compute_at() -> None:
    """One worker, no compression up: w and what is known follow a loop in float64; bits down are those of Top-3."""
    data, objective = SMALL.load(), qsim.LogisticRegression(l2=0.1)
    run = qsim.Run(
        SMALL,
        objective,
        GradientDescent(Constant(0.7)),
        downlink=qsim.downlinks.CompressedWeights(TopK(3)),
        workers=1,
        rounds=8,
    )
    trace = qsim.simulate(run)
    w, known = np.zeros(30), np.zeros(30)
    for _ in range(8):
        sent = TopK(3).quantize(w - known, qsim.Key(0)).vectors().row(0)
        known = known + sent
        w = (1 - 0.07) * w - 0.7 * (objective.gradient(known, data) - 0.1 * known)
    np.testing.assert_allclose(trace.weights, w, atol=1e-5)
    assert trace.frame["bits_down"].iloc[2:].max() <= 8 * (3 * 5 + 1)
    some = qsim.simulate(replace(run, workers=4, clients=qsim.clients.SampledClients(1)))
    assert some.frame["bits_down"].iloc[3] >= 4 * 8 * 3 * 5  # who sits out a round must still follow the weights
    with pytest.raises(ValueError, match="needs a contraction"):
        qsim.downlinks.CompressedWeights(qsim.QSGD(1))
    with pytest.raises(ValueError, match="without one"):
        qsim.downlinks.CompressedWeights(qsim.ErrorFeedback(TopK(3)))
    with pytest.raises(TypeError, match="clients must be"):
        replace(run, clients=Identity())


def test_bits_do_not_depend_on_the_threads_of_blas() -> None:
    """Long vectors, of which BLAS gives each of its threads a part: the server adds up in one order all the same."""
    code = (
        "import qsim; run = qsim.simulate(qsim.datasets.Synthetic(40, 60_000, 40),"
        " objective=qsim.LogisticRegression(l2=1e-2), method=qsim.methods.LBFGS(), workers=2, rounds=4, optimum=False);"
        " print(run.weights.tobytes().hex(), run.columns['loss'].tolist(), run.columns['gradient_norm'].tolist())"
    )
    one, two = (
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    )
    assert one == two
    assert len(one) > 60_000
