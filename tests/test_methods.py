"""Methods: what they have in common with gradient descent, the rates that they promise, the same bits everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from qsim.compressors import Identity, RandK, Scaled, ScaledSign, Sign, TopK
from qsim.datasets import ByLabel, Synthetic
from qsim.engines import Processes, Serial
from qsim.methods import (
    DIANA,
    EF21,
    LBFGS,
    MARINA,
    SGD,
    Averaged,
    GradientDescent,
    HeavyBall,
    LocalSGD,
    Method,
    Nesterov,
    NewtonCG,
    Passes,
    SignSGD,
)
from qsim.problem import Problem, TheoryError
from qsim.steps import Constant, InverseSqrt

DATA = Synthetic(rows=120, features=20, nonzeros_per_row=5, noise=0.2, seed=3)
L2 = 0.1
RUN = qsim.Run(
    DATA, qsim.LogisticRegression(l2=L2), GradientDescent(Constant(0.5)), workers=6, partition=ByLabel(), rounds=12
)


def run(method: Method, compressor: qsim.compressors.Compressor | None = None, **changes) -> qsim.Trace:
    return qsim.simulate(replace(RUN, method=method, compressor=compressor or Identity(), **changes))


def problem_of(compressor: qsim.compressors.Compressor) -> Problem:
    data = DATA.load()
    shards = RUN.partition.split(data, RUN.workers, qsim.Key(0))
    return Problem(RUN.objective, data, shards, compressor, shards.weights)


# Special cases.

PLAIN = Constant(0.5)


@pytest.mark.parametrize(
    ("method", "compressor"),
    [
        (DIANA(PLAIN, shift=1.0), Identity()),
        (DIANA(PLAIN, shift=0.3), Identity()),
        (EF21(PLAIN), Identity()),
        (EF21(PLAIN, momentum=1.0), TopK(20)),
        (MARINA(PLAIN, p=1.0), qsim.QSGD(1)),
        (MARINA(PLAIN, p=0.2), Identity()),
        (LocalSGD(PLAIN, steps=1, batch=None), Identity()),
        (GradientDescent(PLAIN, momentum=HeavyBall(0.0)), Identity()),
        (GradientDescent(PLAIN, momentum=Nesterov(0.0)), Identity()),
    ],
    ids=repr,
)
def test_special_cases_are_gradient_descent(method: Method, compressor: qsim.compressors.Compressor) -> None:
    """To float32's rounding of gradients: 2^-24 of numbers of about 1, in 12 steps of 0.5."""
    np.testing.assert_allclose(run(method, compressor).weights, run(GradientDescent(PLAIN)).weights, atol=2e-6)


def test_one_local_step_is_sgd_bit_for_bit() -> None:
    for sampling in (qsim.methods.WithReplacement(), Passes()):
        one = run(LocalSGD(PLAIN, steps=1, batch=3, sampling=sampling), qsim.QSGD(2))
        np.testing.assert_allclose(one.weights, run(SGD(PLAIN, 3, sampling), qsim.QSGD(2)).weights, atol=1e-6)


def test_local_steps_are_those_of_a_loop() -> None:
    """Against dense SGD in float64, with the rows that the sampling draws."""
    method = LocalSGD(Constant(0.4), steps=5, batch=2, server_step=0.7)
    found = run(method, rounds=3).weights
    data = DATA.load()
    x, y = data.to_scipy().toarray().astype(float), data.labels.astype(float)
    key = qsim.Key(0)
    shards = RUN.partition.split(data, RUN.workers, key.fold(qsim.keys.Purpose.PARTITION))
    block = qsim.datasets.block.Block(shards, 0, RUN.workers)
    w = np.zeros(20)
    for t in range(3):
        total = np.zeros(20)
        shrink = 1 - 0.4 * L2
        local = np.tile(w, (RUN.workers, 1))
        rows = method.sampling.draw(block, 5 * 2, t, {}, key.fold(qsim.keys.Purpose.DATA))
        for h in range(5):
            for worker, u in enumerate(local):
                mine = rows.index[rows.offsets[worker] + 2 * h :][:2]
                slope = -y[mine] / (1 + np.exp(y[mine] * (x[mine] @ u)))
                u[:] = shrink * u - 0.4 * x[mine].T @ slope / 2
        for worker, u in enumerate(local):
            total += shards.weights[worker] * (shrink**5 * w - u)
        w = shrink**5 * w - 0.7 * total
    np.testing.assert_allclose(found, w, atol=2e-6)


def test_momentum_is_polyaks_and_nesterovs() -> None:
    data, objective, a = DATA.load(), RUN.objective, 0.5
    for rule in (HeavyBall(0.8), Nesterov(0.8)):
        w, v = np.zeros(20), np.zeros(20)
        for _ in range(12):
            u = a * objective.gradient(w, data)
            v = 0.8 * v + u
            w = w - (v if isinstance(rule, HeavyBall) else u + 0.8 * v)
        np.testing.assert_allclose(run(GradientDescent(PLAIN, rule)).weights, w, atol=1e-5)


def test_averages_of_iterates() -> None:
    iterates = [run(SGD(PLAIN, 4), rounds=t).weights for t in range(1, 8)]
    np.testing.assert_allclose(run(Averaged(SGD(PLAIN, 4)), rounds=7).weights, np.mean(iterates, axis=0), atol=1e-12)
    expected = np.zeros(20)
    for t, w in enumerate(iterates, start=1):
        expected = expected + 3 / (t + 2) * (w - expected)
    np.testing.assert_allclose(run(Averaged(SGD(PLAIN, 4), power=2), rounds=7).weights, expected, atol=1e-12)


# Promises.


@pytest.mark.parametrize(
    ("method", "compressor"),
    [
        (GradientDescent(), Identity()),
        (DIANA(), qsim.QSGD(2)),
        (DIANA(), RandK(5)),
        (EF21(), TopK(5)),
        (EF21(), Scaled(qsim.QSGD(2))),
        (MARINA(), qsim.QSGD(2)),
        (MARINA(), RandK(5)),
    ],
    ids=repr,
)
def test_the_error_falls_at_the_promised_rate(method: Method, compressor: qsim.compressors.Compressor) -> None:
    """Over rounds in which it is promised to fall by e^-6, in each of 3 seeds, down to float32's floor.

    Promised is the fall of a sum of error and memory, whose start is at most some 10 times the error's own here: hence
    the factor 10.
    """
    rate = method.rate(problem_of(compressor))
    assert rate is not None
    assert 0.5 < rate < 1
    rounds = int(6 / (1 - rate))
    for seed in range(3):
        loss = run(method, compressor, rounds=rounds, evaluate_every=rounds, seed=seed).frame["suboptimality"]
        assert loss.iloc[-1] <= max(10 * rate**rounds * loss.iloc[0], 1e-12)


def test_noise_floors_of_skewed_shards() -> None:
    """Compressed gradient descent stops where shards differ; DIANA, with the same compressor, goes on."""
    for seed in range(3):
        floor = run(GradientDescent(), qsim.QSGD(1), rounds=3000, evaluate_every=1000, seed=seed)
        learnt = run(DIANA(), qsim.QSGD(1), rounds=6000, evaluate_every=1000, seed=seed)
        assert floor.frame["suboptimality"].dropna().iloc[2:].min() > 1e-6
        assert learnt.frame["suboptimality"].iloc[-1] < 1e-9


def test_theory_needs_what_it_needs() -> None:
    for method, compressor, words in [
        (DIANA(), TopK(3), "states no variance"),
        (EF21(), qsim.QSGD(1), "no contraction that is known"),
        (MARINA(), ScaledSign(), "states no variance"),
        (GradientDescent(), TopK(3), "give the step"),
    ]:
        with pytest.raises(TheoryError, match=words):
            run(method, compressor)
    with pytest.raises(ValueError, match="SignSGD sends signs"):
        run(SignSGD(PLAIN), TopK(3))
    with pytest.raises(ValueError, match="regulariser of its own"):
        run(LocalSGD(PLAIN), objective=qsim.objectives.NonconvexLogistic(0.1), optimum=False)


@pytest.mark.parametrize("bad", [DIANA, EF21, MARINA, GradientDescent, SGD, LocalSGD, SignSGD])
def test_a_number_is_no_step(bad: type[Method]) -> None:
    with pytest.raises(TypeError, match=r"Constant\(0.1\)"):
        bad(step=0.1)


# The same bits everywhere.

EVERY = [
    (DIANA(PLAIN), qsim.QSGD(2), {}),
    (DIANA(PLAIN, batch=2), qsim.QSGD(2), {"clients": qsim.clients.SampledClients(2)}),
    (DIANA(PLAIN, shift=0.2, batch=2), qsim.compressors.SubtractiveDither(4), {}),
    (EF21(PLAIN, momentum=0.5, batch=2, sampling=Passes()), TopK(3), {}),
    (EF21(PLAIN), ScaledSign(), {"clients": qsim.clients.SampledClients(3)}),
    (MARINA(PLAIN, p=0.4), RandK(4), {}),
    (LocalSGD(PLAIN, steps=3, batch=2, sampling=Passes()), qsim.QSGD(2), {}),
    (SignSGD(InverseSqrt(0.1), batch=3), Sign(), {"downlink": qsim.downlinks.SignSum(), "weighting": "workers"}),
    (Averaged(SGD(PLAIN, 2, momentum=Nesterov(0.5))), qsim.ErrorFeedback(TopK(2)), {}),
    (SGD(PLAIN, 2), qsim.QSGD(2), {"downlink": qsim.downlinks.CompressedWeights(TopK(4))}),
    (LBFGS(history=3), Identity(), {}),
    (LBFGS(gradients="compressed"), qsim.QSGD(8), {}),
    (NewtonCG(), Identity(), {}),
]


@pytest.mark.parametrize(("method", "compressor", "changes"), EVERY, ids=lambda x: repr(x)[:60])
def test_blocks_threads_processes_and_resumption_change_nothing(method, compressor, changes, tmp_path) -> None:
    case = replace(RUN, method=method, compressor=compressor, rounds=7, evaluate_every=3, **changes)
    expected = qsim.simulate(case, engine=Serial(block=1))

    class StopError(Exception):
        pass

    def stop(done: int) -> None:
        if done == 5:
            raise StopError

    path = tmp_path / "run.npz"
    with pytest.raises(StopError):
        qsim.simulate(case, checkpoint=path, every=2, after_round=stop, engine=Serial(block=4, threads=2))
    for found in (qsim.simulate(case, checkpoint=path), qsim.simulate(case, engine=Serial())):
        assert found.frame.equals(expected.frame)
        assert found.weights.tobytes() == expected.weights.tobytes()


def test_processes_give_the_same_bits() -> None:
    for method, compressor, changes in (EVERY[1], EVERY[3], EVERY[12]):
        case = replace(RUN, method=method, compressor=compressor, rounds=4, **changes)
        found, expected = qsim.simulate(case, engine=Processes(2)), qsim.simulate(case)
        assert found.frame.equals(expected.frame)
        assert found.weights.tobytes() == expected.weights.tobytes()


@pytest.mark.parametrize("clients", [qsim.clients.AllClients(), qsim.clients.SampledClients(2)], ids=repr)
@pytest.mark.parametrize(
    ("method", "compressor"),
    [(DIANA(PLAIN, shift=0.3, batch=4), qsim.QSGD(2)), (EF21(PLAIN), TopK(3)), (EF21(PLAIN), ScaledSign())],
    ids=repr,
)
def test_the_servers_shift_is_the_mean_of_the_workers(method, compressor, clients, tmp_path) -> None:
    path = tmp_path / "run.npz"
    qsim.simulate(replace(RUN, method=method, compressor=compressor, clients=clients), checkpoint=path)
    with np.load(path) as saved:
        server, kept = saved["server/shift"], saved["workers/method/shift"]
    data = DATA.load()
    shards = RUN.partition.split(data, RUN.workers, qsim.Key(0).fold(qsim.keys.Purpose.PARTITION))
    mean = np.zeros(20)
    if kept.size == 20 * RUN.workers:
        mean = shards.weights @ kept.reshape(RUN.workers, 20)
    else:
        np.add.at(mean, shards.support, kept * np.repeat(shards.weights, np.diff(shards.support_offsets)))
    np.testing.assert_allclose(server, mean, atol=1e-6)
    assert np.abs(server).max() > 0.01
