"""Methods: what they have in common with gradient descent, the rates that they promise, the same bits everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from qsim.compressors import Identity, RandK, ScaledSign, Sign, TopK
from qsim.datasets import ByLabel, Synthetic
from qsim.engines import Processes, Serial
from qsim.l2_decay import EveryStep, GlobalScale, JustInTime, L2Decay
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
from qsim.problem import TheoryError
from qsim.steps import Constant, InverseSqrt, InverseTime, Noisy, Step

DATA = Synthetic(rows=120, features=20, nonzeros_per_row=5, noise=0.2, seed=3)
L2 = 0.1
RUN = qsim.Run(
    DATA, qsim.LogisticRegression(l2=L2), GradientDescent(Constant(0.5)), workers=6, partition=ByLabel(), rounds=12
)


def run(method: Method, compressor: qsim.compressors.Compressor | None = None, **changes) -> qsim.Trace:
    return qsim.simulate(replace(RUN, method=method, compressor=compressor or Identity(), **changes))


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


@pytest.mark.parametrize("decay", [GlobalScale(), JustInTime(), EveryStep()], ids=repr)
@pytest.mark.parametrize("rule", [Constant(0.4), InverseTime(0.9, 2.0), InverseSqrt(0.8)], ids=repr)
def test_local_steps_are_those_of_a_loop(rule: Step, decay: L2Decay) -> None:
    """Against dense SGD in float64, with the rows that the sampling draws. A step that falls does so at every step."""
    method = LocalSGD(rule, steps=5, batch=2, server_step=0.7, decay=decay)
    found = run(method, rounds=3).weights
    data = DATA.load()
    x, y = data.to_scipy().toarray().astype(float), data.labels.astype(float)
    key = qsim.Key(0)
    shards = RUN.partition.split(data, RUN.workers, key.fold(qsim.keys.Purpose.PARTITION))
    block = qsim.block.Block(shards, 0, RUN.workers)
    w = np.zeros(20)
    for t in range(3):
        total, still = np.zeros(20), w.copy()
        local = np.tile(w, (RUN.workers, 1))
        rows = method.sampling.draw(block, 5 * 2, t, {}, key.fold(qsim.keys.Purpose.DATA))
        for h in range(5):
            a = rule(5 * t + h)
            still *= 1 - a * L2
            for worker, u in enumerate(local):
                mine = rows.index[rows.offsets[worker] + 2 * h :][:2]
                slope = -y[mine] / (1 + np.exp(y[mine] * (x[mine] @ u)))
                u[:] = (1 - a * L2) * u - a * x[mine].T @ slope / 2
        for worker, u in enumerate(local):
            total += shards.weights[worker] * (still - u)
        w = still - 0.7 * total
    np.testing.assert_allclose(found, w, atol=2e-6)


@pytest.mark.parametrize(
    "rule", [Constant(0.3), InverseTime(0.9, 7.0), InverseSqrt(0.8, 3.0), Noisy(2.0, 3.0)], ids=repr
)
def test_many_steps_are_those_that_the_rule_gives_one_by_one(rule: Step) -> None:
    np.testing.assert_array_equal(rule.many(5, 40), [rule(t) for t in range(5, 45)])


def test_many_local_steps_with_a_strong_regulariser_do_not_underflow() -> None:
    """(1 - a l2)^H = 0.5^300 is below all float32 numbers: against a loop in float64 over full batches."""
    objective, a = qsim.LogisticRegression(l2=0.5), 1.0
    found = run(LocalSGD(Constant(a), steps=300, batch=None), objective=objective, workers=1, rounds=2).weights
    w = np.zeros(20)
    for _ in range(600):
        w = w - a * objective.gradient(w, DATA.load())
    np.testing.assert_allclose(found, w, atol=1e-6)


@pytest.mark.parametrize("downlink", [qsim.downlinks.DenseWeights(), qsim.downlinks.SignSum()], ids=repr)
def test_a_tie_is_a_tie_in_any_order(downlink) -> None:
    """Three workers against three: 1/6 + 1/6 + 1/6 - 1/6 - 1/6 - 1/6 is not zero in float64."""
    y = np.repeat([-1, 1], 60)
    for labels in (y, -y):
        data = qsim.datasets.Dataset.from_arrays(np.ones((120, 2), np.float32), labels)
        case = replace(RUN, data=data, partition=qsim.datasets.Contiguous(), method=SignSGD(Constant(0.1)))
        w = qsim.simulate(replace(case, compressor=Sign(), downlink=downlink, rounds=1, optimum=False)).weights
        assert w.tolist() == ([0.0, 0.0] if downlink == qsim.downlinks.DenseWeights() else [-0.1, -0.1])


@qsim.option
class TwoWorkers(qsim.datasets.Partition):
    """Always two."""

    def split(self, data, workers, key):
        return qsim.datasets.Shards(data, np.arange(data.rows), np.array([0, 5, data.rows]))


@qsim.option
class Named(qsim.clients.Clients):
    """Workers 0 and 1, by number."""

    def draw(self, key, workers):
        return np.array([0, 1])


@qsim.option
class FirstOfAll(qsim.methods.Sampling):
    """Every worker takes the data set's first rows, whoever holds them, or its own first row."""

    own: bool

    def draw(self, block, batch, t, memory, key):
        first = block.order[block.offsets[:-1]] if self.own else np.zeros(block.workers, np.int64)
        return qsim.block.Rows(np.repeat(first, batch), batch * np.arange(block.workers + 1))


@pytest.mark.parametrize("method", [SGD(PLAIN), DIANA(PLAIN, shift=0.5, batch=2), LocalSGD(PLAIN)], ids=repr)
def test_rows_of_other_workers_are_refused(method: Method) -> None:
    """Kernels read and wrote at their places in the wrong support, or beside all arrays."""
    assert np.isfinite(run(replace(method, sampling=FirstOfAll(own=True))).weights).all()
    case = replace(RUN, method=replace(method, sampling=FirstOfAll(own=False)))
    for block in (None, 1):
        with pytest.raises(ValueError, match=r"FirstOfAll\(own=False\) drew rows that are not those of their worker"):
            qsim.simulate(case, engine=qsim.engines.Serial(block=block))


def test_parts_of_ones_own_that_do_not_fit_the_run_are_told() -> None:
    """The first ran with another number of workers than it said, the second ended in an IndexError."""
    with pytest.raises(ValueError, match=r"TwoWorkers\(\) made 2 shards for 6 workers"):
        run(SGD(PLAIN), partition=TwoWorkers(), workers=6)
    with pytest.raises(ValueError, match=r"by .*Named\(\), .* truth values of shape \(6,\), found int64 .* \(2,\)"):
        run(SGD(PLAIN), clients=Named(), workers=6)


def test_features_that_rows_lack_are_voted_down() -> None:
    """As the docstring says: 6 workers of one row, each with a feature of its own, whose gradient is negative."""
    data = qsim.datasets.Dataset.from_arrays(np.eye(6, dtype=np.float32), np.ones(6))
    case = replace(RUN, data=data, partition=qsim.datasets.Contiguous(), method=SignSGD(Constant(0.1)), rounds=10)
    w = qsim.simulate(replace(case, objective=qsim.LogisticRegression(0), compressor=Sign(), optimum=False)).weights
    np.testing.assert_allclose(w, -1.0)


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


def test_an_average_of_averages_is_refused() -> None:
    """Both would be kept under one name: it was a KeyError in the first round."""
    with pytest.raises(ValueError, match=r"found .*Averaged.*; give the method inside"):
        Averaged(Averaged(SGD(PLAIN)))


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
        (EF21(), qsim.QSGD(64), "no contraction that is known"),
        (GradientDescent(), TopK(3), "give the step"),
    ]:
        with pytest.raises(TheoryError, match=words):
            run(method, compressor)


def test_what_diverges_or_means_nothing_is_refused() -> None:
    """EF21 around a large omega and around a second memory grew past 1e11 before; the others came to a wrong place."""
    some, memory = {"clients": qsim.clients.SampledClients(2)}, qsim.ErrorFeedback(TopK(2))
    cases: list[tuple[Method, qsim.compressors.Compressor, dict, str]] = [
        (EF21(PLAIN), qsim.QSGD(1), {}, r"needs a contraction, .*Scaled\("),
        (EF21(PLAIN), memory, {}, "without a memory"),
        (DIANA(PLAIN, shift=0.5), memory, {}, "without a memory"),
        (MARINA(PLAIN, p=0.5), memory, {}, "without a memory"),
        (LBFGS(gradients="compressed"), memory, {}, "without a memory"),
        (NewtonCG(gradients="compressed"), memory, {}, "without a memory"),
        (LBFGS(), TopK(2), {}, r"would not use .*TopK.*LBFGS\(gradients=\"compressed\"\)"),
        (MARINA(PLAIN, p=0.5), TopK(2), {}, "needs an unbiased compressor"),
        (MARINA(PLAIN, p=0.5), qsim.compressors.HardThreshold(0.1), {}, "needs an unbiased compressor"),
        (EF21(PLAIN), Sign(), {}, "Sign, which loses the size"),
        (DIANA(PLAIN, shift=0.5), Sign(), {}, "Sign, which loses the size"),
        (MARINA(PLAIN, p=0.5), Sign(), {}, "Sign, which loses the size"),
        (LBFGS(gradients="compressed"), Sign(), {}, "Sign, which loses the size"),
        (MARINA(PLAIN, p=0.5), qsim.QSGD(2), some, "needs every worker in every round"),
        (LBFGS(), Identity(), some, "needs every worker in every round"),
        (NewtonCG(), Identity(), some, "needs every worker in every round"),
        (SGD(PLAIN), Identity(), {"downlink": qsim.downlinks.SignSum()}, "the vote of SignSGD"),
    ]
    for method, compressor, changes, words in cases:
        with pytest.raises(ValueError, match=words):
            run(method, compressor, **changes)


def test_methods_that_refuse_other_compressors_and_objectives() -> None:
    with pytest.raises(ValueError, match="SignSGD sends signs"):
        run(SignSGD(PLAIN), TopK(3))
    with pytest.raises(ValueError, match="regulariser of its own"):
        run(LocalSGD(PLAIN), objective=qsim.objectives.NonconvexLogistic(0.1), optimum=False)


def test_batches_of_theory_are_stable_where_rows_share_no_coordinate() -> None:
    """Least squares on 40 rows with a coordinate each: with 1/L, the step of full gradients, a row's error grows 39
    times whenever it is drawn; with that of SGD the error falls from the start."""
    data = qsim.datasets.Dataset(np.arange(41), np.arange(40), None, np.ones(40), 40)
    case = replace(RUN, data=data, objective=qsim.objectives.LeastSquares(l2=0.01), workers=1, rounds=200)
    far = qsim.simulate(replace(case, method=SGD())).frame["suboptimality"]
    assert far.iloc[-1] < 0.1 * far.iloc[0]


def test_a_round_of_workers_without_rows_changes_nothing_but_the_regulariser() -> None:
    """One worker of 8 a round; most have no rows, and their weights sum to zero."""
    case = replace(RUN, workers=8, partition=qsim.datasets.Dirichlet(0.01), clients=qsim.clients.SampledClients(1))
    trace = qsim.simulate(replace(case, rounds=40))
    idle = trace.frame["passes"].to_numpy()[1:] == 0
    assert 5 < idle.sum() < 35
    assert np.isfinite(trace.frame["loss"]).all()


def test_full_gradients_come_down_as_sums_too() -> None:
    """MARINA with p = 1 sends full gradients only; with SparseSum workers learn them from the sums that come down."""
    few = run(MARINA(PLAIN, p=1.0), qsim.QSGD(2), downlink=qsim.downlinks.SparseSum(), rounds=3).frame["bits_down"]
    assert few.iloc[1:].min() >= RUN.workers * 20 * 32


def test_momentum_of_ef21_starts_at_the_first_gradient(tmp_path) -> None:
    """Also that of a worker that comes later: with tiny steps and eta all gradients are those at the start."""
    path = tmp_path / "run.npz"
    method, clients = EF21(Constant(1e-9), momentum=1e-6), qsim.clients.SampledClients(2)
    qsim.simulate(replace(RUN, method=method, compressor=TopK(2), clients=clients, rounds=60), checkpoint=path)
    shards = RUN.problem().shards
    block = qsim.block.Block(shards, 0, RUN.workers)
    first = RUN.objective.update(block, block.all_rows(), qsim.weights.Replica(np.zeros(20)), 1.0)
    with np.load(path) as saved:
        np.testing.assert_allclose(saved["workers/method/momentum"], first.value, rtol=1e-3, atol=1e-6)


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
    np.testing.assert_allclose(server, mean, atol=1e-14)  # float64 on both ends: they do not drift apart
    assert np.abs(server).max() > 0.01


def test_local_sgd_falls_as_one_over_the_rounds() -> None:
    """Without a step: the weighted average after 16 times the rounds is at least 8 times as near, over three seeds.

    The promise is a factor of 16 once the start is forgotten.
    """
    data = Synthetic(rows=120, features=20, nonzeros_per_row=5, noise=0.2, seed=3, values="tfidf")
    ends = []
    for rounds in (250, 4000):
        runs = [
            qsim.Run(
                data,
                qsim.LogisticRegression(l2=L2),
                Averaged(LocalSGD(steps=4), power=2),
                workers=6,
                rounds=rounds,
                evaluate_every=rounds,
                seed=seed,
            )
            for seed in range(3)
        ]
        ends.append(np.mean([qsim.simulate(run).frame["suboptimality"].iloc[-1] for run in runs]))
    assert ends[1] < ends[0] / 8
    problem = runs[0].problem()
    rows = np.sqrt(data.load().to_scipy().power(2).sum(axis=1)).max()
    shift, step = 16 * (L2 + rows**2 / 4) / L2 + 1, LocalSGD(steps=4).resolved(problem).step
    np.testing.assert_allclose([step(k) for k in (0, 36)], [4 / L2 / shift, 4 / L2 / (shift + 36)], rtol=1e-6)
    with pytest.raises(TheoryError, match="for exact differences: give a step for .*QSGD"):
        qsim.simulate(replace(runs[0], compressor=qsim.QSGD(64)))
    with pytest.raises(TheoryError, match="not strongly convex"):
        qsim.simulate(replace(runs[0], objective=qsim.LogisticRegression(l2=0.0), optimum=False))


def test_sign_descent_meets_its_bound() -> None:
    """Without a step, for one worker: sum_t a_t ||g_t||_1 <= F_0 - F* + (n L/2) sum_t a_t^2.

    The descent lemma for steps of a in every coordinate; F >= 0 stands for F*. The least ||g||_1 is below the mean.
    """
    rounds = 300
    one = replace(RUN, objective=qsim.LogisticRegression(l2=0.0), workers=1, compressor=Sign(), optimum=False)
    objective, data = one.objective, one.load()
    nl = data.features * objective.smoothness(data)
    steps = 1 / np.sqrt(nl * (1 + np.arange(rounds)))
    norms = []
    for done in (0, 10, 100, rounds - 1):
        trace = qsim.simulate(replace(one, method=SignSGD(), rounds=done))
        norms.append(np.abs(objective.gradient(trace.weights, data)).sum())
        if done == 10:
            np.testing.assert_allclose(
                trace.weights, qsim.simulate(replace(one, method=SignSGD(InverseSqrt(steps[0])), rounds=10)).weights
            )
    most = (objective.value(np.zeros(data.features), data) + nl / 2 * (steps**2).sum()) / steps.sum()
    assert min(norms) <= most
    assert norms[-1] < norms[0] / 3
