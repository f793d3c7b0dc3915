"""Planned rounds: the same to the last bit as through the exchange, whatever the parts of the run; or not planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from helpers.planned import RUN, agree, differences, plain, small, stopped
from qsim.batch import Vectors
from qsim.compressors import NotFiniteError
from qsim.datasets import Dataset
from qsim.methods import SGD, HeavyBall, Nesterov, Passes, WithReplacement
from qsim.program import Program
from qsim.steps import Constant, InverseSqrt, InverseTime
from qsim.testing.shipped import shipped

_COMPOSED = ((qsim.batch.Blocks,), (qsim.batch.WithOutliers,))
CODECS = [one for one in shipped(qsim.codecs, qsim.codecs.Codec) if one.carries not in _COMPOSED]


@settings(max_examples=25)
@given(
    levels=st.sampled_from([1, 2, 4, 127, 10_000]),
    norm=st.sampled_from(["l2", "max"]),
    sampling=st.sampled_from([WithReplacement(), Passes()]),
    step=st.sampled_from([Constant(0.5), InverseTime(5.0, 30.0), InverseSqrt(2.0)]),
    l2=st.sampled_from([0.0, 1e-3, 0.15]),
    bits=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 5),
    ones=st.booleans(),
    codec=st.sampled_from([qsim.codecs.GolombRice(), qsim.codecs.Varint()]),
)
def test_bits_are_those_of_the_exchange(levels, norm, sampling, step, l2, bits, seed, ones, codec) -> None:
    data = RUN.load()
    data = Dataset(data.indptr, data.indices, None if ones else data.values, data.labels > 0, data.features)
    run = replace(
        RUN,
        data=data,
        objective=qsim.LogisticRegression(l2=l2, intercept=ones),
        method=SGD(step, sampling=sampling),
        compressor=qsim.QSGD(levels, norm),
        codec=codec,
        downlink=qsim.downlinks.DenseWeights(bits),
        seed=seed,
    )
    agree(qsim.simulate(run), plain(run))


SHAPES = [  # workers, how rows are shared out, whether values are not all one
    (1, qsim.datasets.Contiguous(), True),
    (3, qsim.datasets.ByLabel(), False),
    (7, qsim.datasets.Dirichlet(0.1), True),
]


METHODS = [
    qsim.GradientDescent(0.2),
    SGD(Constant(0.2), batch=1),
    SGD(InverseTime(0.5, 20.0), batch=3, sampling=Passes()),
    qsim.DIANA(0.1, shift=0.25),
    qsim.DIANA(0.1, shift=0.5, batch=2),
    qsim.DIANA(0.1, shift=0.5, batch=2, shifts="gradient"),
    qsim.EF21(0.1),
    qsim.EF21(0.1, batch=2, sampling=Passes()),
    SGD(Constant(0.2), batch=2, momentum=HeavyBall(0.5)),
    qsim.GradientDescent(0.2, momentum=Nesterov(0.7)),
    qsim.EF21(0.1, momentum=0.3, batch=2),
    qsim.EF21(0.1, momentum=0.3, shifts="gradient"),
    qsim.methods.MARINA(0.1, p=0.3),
    qsim.methods.Averaged(SGD(Constant(0.2), batch=2), power=1),
    qsim.methods.LocalSGD(0.3, steps=3, batch=2, sampling=Passes()),
    qsim.methods.LocalSGD(0.3, steps=2, batch=1, server_step=0.7),
]
DOWNLINKS = [
    qsim.downlinks.DenseWeights(),
    qsim.downlinks.SparseSum(),
    qsim.downlinks.CompressedWeights(qsim.TopK(5)),
    qsim.downlinks.CompressedWeights(qsim.Scaled(qsim.QSGD(8)), qsim.codecs.Varint()),
]


@pytest.mark.parametrize("compressor", list(shipped(qsim.compressors, qsim.compressors.Compressor)), ids=repr)
def test_every_compressor_with_every_method(compressor: qsim.compressors.Compressor) -> None:
    wrong = []
    for number, method in enumerate([*METHODS, *shipped(qsim.methods, qsim.methods.Method)]):
        if compressor.three_point(1) is not None and not isinstance(method, qsim.EF21):
            continue  # which is refused
        workers, partition, values = SHAPES[number % len(SHAPES)]
        workers = compressor.correlated or workers
        downlink = DOWNLINKS[number % len(DOWNLINKS)]
        run = qsim.Run(
            small(values),
            qsim.LogisticRegression(l2=0.01 * (number % 2)),
            method,
            compressor,
            downlink=downlink,
            workers=workers,
            partition=partition,
            rounds=9,
            evaluate_every=4,
            optimum=False,
            seed=number,
        )
        wrong += differences(run)
    assert not wrong


@pytest.mark.parametrize("downlink", DOWNLINKS, ids=repr)
def test_every_downlink_with_every_method(downlink: qsim.downlinks.Downlink, count: list[int]) -> None:
    """With regularisers that change the scale of the weights, wide data and narrow."""
    wrong = []
    for number, method in enumerate(METHODS):
        for compressor in (qsim.RandK(9), qsim.TopK(3)):
            for data in (small(True), RUN.load()):
                run = qsim.Run(
                    data,
                    qsim.LogisticRegression(l2=0.05 * (number % 3)),
                    method,
                    compressor,
                    downlink=downlink,
                    workers=4,
                    rounds=12,
                    evaluate_every=5,
                    optimum=False,
                )
                wrong += differences(run)
    assert not wrong
    assert sum(count) > 10 * len(METHODS)


@pytest.mark.parametrize(("workers", "partition"), [(5, None), (7, qsim.datasets.Dirichlet(0.1))])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_sampled_clients(method: qsim.methods.Method, workers: int, partition: Any, count: list[int]) -> None:
    """Who sits out a round reads, sends and learns nothing; some have no rows at all."""
    wrong = []
    for number, compressor in enumerate((qsim.TopK(3), qsim.ErrorFeedback(qsim.TopK(3)), qsim.RandK(9))):
        run = qsim.Run(
            small(True),
            qsim.LogisticRegression(l2=0.02 * number),
            method,
            compressor,
            workers=workers,
            partition=partition or qsim.datasets.Shuffled(),
            clients=qsim.clients.SampledClients(workers // 2),
            downlink=DOWNLINKS[number],
            rounds=60,
            evaluate_every=25,
            optimum=False,
        )
        wrong += differences(run)
    assert not wrong
    refused = isinstance(method, qsim.methods.MARINA) or getattr(method, "shifts", "zero") != "zero"
    assert (sum(count) > 20) == (not refused and getattr(method, "momentum", None) != 0.3)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_every_codec(codec: qsim.codecs.Codec) -> None:
    wrong = []
    compressors = [qsim.QSGD(1), qsim.QSGD(4), qsim.QSGD(300, "max"), qsim.TopK(3), qsim.RandK(2)]
    compressors += [qsim.RandK(2, "drawn"), qsim.Identity(), qsim.compressors.NaturalCompression()]
    compressors += [qsim.ErrorFeedback(qsim.TopK(2)), qsim.ErrorFeedback(qsim.Scaled(qsim.RandK(2)))]
    compressors += [qsim.Scaled(qsim.RandK(2, "drawn")), qsim.Scaled(qsim.QSGD(3))]
    carried = [c for c in compressors if {c.emits, qsim.batch.Floats} & set(codec.carries)]
    assert len(carried) >= 4
    for number, compressor in enumerate(carried):
        for workers, partition, values in SHAPES:
            run = qsim.Run(
                small(values),
                qsim.LogisticRegression(l2=0.01),
                METHODS[number % 3],
                compressor,
                codec=codec,
                workers=workers,
                partition=partition,
                rounds=9,
                evaluate_every=5,
                optimum=False,
            )
            wrong += differences(run)
    assert not wrong


@pytest.mark.parametrize("rule", [qsim.stopping.Bits(40_000), qsim.stopping.Passes(2.0)], ids=repr)
@pytest.mark.parametrize("method", [METHODS[1], METHODS[4]], ids=repr)
def test_a_budget_ends_it_at_the_same_round(rule: qsim.stopping.StoppingRule, method: qsim.methods.Method) -> None:
    run = qsim.Run(
        small(True), qsim.LogisticRegression(0.1), method, qsim.QSGD(2), workers=5, rounds=300, until=rule,
        evaluate_every=300, optimum=False,
    )  # fmt: skip
    found = qsim.simulate(run)
    assert 1 < found.frame["round"].iloc[-1] < 299
    agree(found, plain(run))


@pytest.mark.parametrize(
    ("method", "compressor"),
    [(METHODS[2], qsim.ErrorFeedback(qsim.TopK(2))), (METHODS[2], qsim.QSGD(2)), (METHODS[4], qsim.QSGD(2))],
    ids=repr,
)
def test_what_workers_keep_is_in_checkpoints(compressor, method, tmp_path: Path) -> None:
    """Snapshots in the middle of what is run at once, taken by either way, and continued by the other."""
    run = qsim.Run(
        small(True), qsim.LogisticRegression(0.1), method, compressor, workers=5, rounds=120, evaluate_every=120,
        optimum=False,
    )  # fmt: skip
    whole = plain(run)
    for first, second in ((plain, qsim.simulate), (qsim.simulate, plain), (qsim.simulate, qsim.simulate)):
        path = tmp_path / f"{first.__name__}-{second.__name__}.npz"
        with pytest.raises(KeyboardInterrupt):
            first(run, checkpoint=path, every=30, after_round=stopped)
        agree(second(run, checkpoint=path, every=30), whole)


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize(
    "method",
    [
        SGD(Constant(0.2), batch=40),
        SGD(Constant(0.2), batch=40, sampling=Passes()),
        qsim.GradientDescent(0.2),
        qsim.EF21(0.1),
    ],
    ids=repr,
)
def test_rows_that_are_laid_out(method: qsim.methods.Method, values: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that read much more than the supports, after a first that reads the rows where they are."""
    data = qsim.datasets.synthetic(600, 70, 12, seed=4)
    numbers = None if not values else np.random.default_rng(5).normal(size=data.nonzeros).astype(np.float32)
    data = Dataset(data.indptr, data.indices, numbers, data.labels > 0, data.features)
    laid: list[qsim.block.Block] = []
    lay = qsim.block.Block.laid_out
    monkeypatch.setattr(qsim.block.Block, "laid_out", lambda self: laid.append(lay(self)) or laid[-1])
    for partition in (qsim.datasets.Shuffled(), qsim.datasets.ByLabel()):
        run = qsim.Run(
            data, qsim.LogisticRegression(0.01), method, qsim.TopK(9), workers=4, partition=partition, rounds=30,
            evaluate_every=9, optimum=False,
        )  # fmt: skip
        agree(qsim.simulate(run), plain(run))
    assert len(laid) == 4  # for the rounds of both runs, and for their evaluations


@pytest.mark.parametrize(
    "method", [qsim.GradientDescent(0.1), SGD(Constant(0.1), batch=30), qsim.DIANA(0.1, shift=0.1)], ids=repr
)
def test_few_rows_of_very_many_features(method: qsim.methods.Method) -> None:
    """Rounds read few of all weights, but more than the supports have: the two ways of reading fewer met."""
    data = qsim.datasets.synthetic(60, 40, 6, seed=1)
    data = Dataset(data.indptr, data.indices, None, data.labels > 0, 100_000)
    run = qsim.Run(
        data, qsim.LogisticRegression(0.01), method, qsim.QSGD(4), workers=1, rounds=40, evaluate_every=40,
        optimum=False,
    )  # fmt: skip
    agree(qsim.simulate(run), plain(run))


def test_long_rows_and_thinned_blocks() -> None:
    """Rows of thousands of non-zeros, some of whose blocks are thinned, and one without any."""
    rng = np.random.default_rng(1)
    lengths = np.array([9000, 0, 4000])
    indices = np.concatenate([np.sort(rng.choice(20_000, size, replace=False)) for size in lengths])
    values = rng.normal(size=indices.size).astype(np.float32)
    values[:9000:3000] *= 1000
    data = Dataset(np.concatenate([[0], lengths.cumsum()]), indices, values, [1, 0, 1], 20_000)
    run = replace(RUN, data=data, compressor=qsim.QSGD(1), rounds=60, method=SGD(Constant(1e-3)))
    agree(qsim.simulate(run), plain(run))


@pytest.mark.parametrize("every", [1, 7, 1000])
def test_as_many_rounds_as_may_be_are_done_at_once(every: int, count: list[int]) -> None:
    qsim.simulate(replace(RUN, evaluate_every=every))
    assert sum(count) == 249  # the first round opens the streams
    assert len(count) < 25


@pytest.mark.parametrize(
    "step", [Constant(0.3), InverseTime(0.5, 20.0), InverseSqrt(2.0), qsim.steps.Noisy(2.0, 3.0)], ids=repr
)
def test_steps_of_many_rounds_are_those_of_each(step: qsim.steps.Step) -> None:
    assert step.many(7, 5000).tolist() == [step(t) for t in range(7, 5007)]


def test_slow_rounds_are_few_at_once(count: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can interrupt rounds that are run at once, or see how far they are."""
    clock = iter(range(10**6))
    monkeypatch.setattr("qsim.simulation.planned.perf_counter", lambda: float(next(clock)))  # each lasts a second
    qsim.simulate(replace(RUN, rounds=40))
    assert count == [16, *[1] * 23]


@pytest.mark.parametrize(
    "changes",
    [
        {"method": qsim.GradientDescent(0.5)},
        {"method": SGD(Constant(0.5), batch=3, sampling=Passes())},
        {"method": qsim.DIANA(0.5, shift=0.1)},
        {"method": qsim.EF21(0.5, batch=2), "compressor": qsim.TopK(3)},
        {"compressor": qsim.QSGD(4, "max"), "codec": qsim.codecs.Varint()},
        {"compressor": qsim.QSGD(4), "codec": qsim.codecs.RANS()},
        {"compressor": qsim.QSGD(1), "codec": qsim.codecs.Bitmap()},
        {"compressor": qsim.QSGD(4), "codec": qsim.codecs.FixedWidth()},
        {"compressor": qsim.QSGD(4), "codec": qsim.codecs.Elias()},
        {"compressor": qsim.RandK(3)},
        {"compressor": qsim.RandK(3, "drawn")},
        {"compressor": qsim.RandSeqK(3)},
        {"compressor": qsim.compressors.HardThreshold(0.1)},
        {"compressor": qsim.compressors.NaturalCompression(), "codec": qsim.codecs.Varint()},
        {"compressor": qsim.ErrorFeedback(qsim.TopK(3))},
        {"compressor": qsim.Scaled(qsim.QSGD(4))},
        {"compressor": qsim.ErrorFeedback(qsim.Scaled(qsim.RandK(3)))},
        {"compressor": qsim.Scaled(qsim.RandK(3, "drawn"))},
        {"compressor": qsim.Identity()},
        {"engine": qsim.engines.Serial()},
        {"compressor": qsim.QSGD(4, 3.0), "codec": qsim.codecs.Varint()},
        {"compressor": qsim.QSGD(4, 1.0)},
        {"compressor": qsim.Philox(qsim.QSGD(4))},
        {"compressor": qsim.compressors.TernGrad()},
        {"compressor": qsim.compressors.NUQSGD(3)},
        {"compressor": qsim.compressors.Bernoulli(0.3)},
        {"compressor": qsim.compressors.Wangni(5)},
        {"compressor": qsim.compressors.Compose(qsim.TopK(5), qsim.Scaled(qsim.QSGD(2)))},
        {"method": qsim.methods.Averaged(SGD(Constant(0.5)))},
        {"method": qsim.methods.LocalSGD(0.5, steps=3, batch=2)},
        *({"downlink": downlink} for downlink in DOWNLINKS),
        {"method": SGD(Constant(0.5), momentum=HeavyBall(0.5))},
        {"method": qsim.EF21(0.5, batch=2, momentum=0.5), "compressor": qsim.TopK(3)},
        {"compressor": qsim.Scaled(qsim.compressors.NaturalCompression()), "codec": qsim.codecs.Varint()},
    ],
    ids=str,
)
@pytest.mark.parametrize("workers", [1, 6])
def test_what_is_planned(changes: dict, workers: int, count: list[int]) -> None:
    engine = changes.get("engine")
    rest = {name: value for name, value in changes.items() if name != "engine"}
    qsim.simulate(replace(RUN, rounds=20, workers=workers, **rest), engine=engine)
    assert sum(count) == 19


@pytest.mark.parametrize(
    "changes",
    [
        {"downlink": qsim.downlinks.SparsePull()},
        {"objective": qsim.objectives.WithRegulariser(qsim.LogisticRegression(l2=0.1))},
        {"objective": qsim.WithL1(qsim.LogisticRegression(l2=0.1), 0.01)},
        {"method": qsim.methods.LBFGS(gradients="compressed")},
        {
            "compressor": qsim.PerLayer(((40, qsim.QSGD(4)), (None, qsim.QSGD(2)))),
            "clients": qsim.clients.SampledClients(1),
        },
    ],
    ids=str,
)
def test_other_runs_go_through_the_exchange(changes: dict, count: list[int]) -> None:
    qsim.simulate(replace(RUN, rounds=3, **changes))
    assert count == []


def test_a_scaled_number_that_vanishes_is_left_to_the_exchange() -> None:
    for least, done in ((1e-30, 1), (1e-45, 0)):
        program, v = Program(), Vectors.dense(np.array([0.0, least, 0.0, 0.0], np.float32))
        qsim.Scaled(qsim.QSGD(1)).plan(program, v, qsim.Key(1).words(0, 1))
        assert program.run(1) == done


def test_a_run_is_resumed(tmp_path: Path, count: list[int]) -> None:
    path, whole = tmp_path / "run.npz", qsim.simulate(RUN)
    with pytest.raises(KeyboardInterrupt):
        qsim.simulate(RUN, checkpoint=path, every=30, after_round=stopped)
    assert path.exists()
    count.clear()
    agree(qsim.simulate(RUN, checkpoint=path, every=30), whole)
    assert sum(count) == 160  # from round 90 on


def test_a_rule_ends_it_at_the_same_round() -> None:
    run = replace(RUN, evaluate_every=10)
    some = plain(run).frame["gradient_norm"].dropna().iloc[10]
    run = replace(run, until=qsim.stopping.GradientNorm(float(some)))
    found = qsim.simulate(run)
    assert 0 < found.frame["round"].iloc[-1] < run.rounds
    agree(found, plain(run))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"method": SGD(Constant(2.0)), "objective": qsim.LogisticRegression(l2=0.5)}, ValueError),
        ({"method": SGD(Constant(1e39))}, NotFiniteError),
    ],
    ids=["past zero", "infinite"],
)
def test_the_exchange_says_why_a_round_fails(changes: dict, error: type[Exception]) -> None:
    run = replace(RUN, **changes)
    with pytest.raises(error) as seen:
        qsim.simulate(run)
    with pytest.raises(error) as right:
        plain(run)
    assert str(seen.value) == str(right.value)


@pytest.mark.parametrize(
    ("method", "last", "error"),
    [
        (lambda step: SGD(step), 2.0, ValueError),
        (lambda step: qsim.EF21(step, batch=1), 1e45, ValueError),
        (lambda step: qsim.DIANA(step, shift=0.2), 1e45, ValueError),
    ],
    ids=["exactly zero", "descent", "sums"],
)
def test_a_step_that_becomes_too_long_fails_in_its_round(method: Any, last: float, error: type[Exception]) -> None:
    """Down to 1 - step l2 = 0 exactly, or to weights that float32 does not reach, of which the rows read few."""

    @qsim.option
    class Longer(qsim.steps.Step):
        def __call__(self, t: int) -> float:
            return 0.1 if t < 20 else last

    l2 = 0.5 if last == 2.0 else 0.0
    run = replace(RUN, method=method(Longer()), objective=qsim.LogisticRegression(l2=l2), compressor=qsim.TopK(20))
    told = []
    for way in (plain, qsim.simulate):
        with pytest.raises(error) as seen:
            way(run)
        told.append(str(seen.value))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "method", [SGD(0.5), qsim.DIANA(0.5, shift=0.2), qsim.methods.LocalSGD(0.5, steps=2)], ids=repr
)
def test_a_scale_below_the_smallest_is_multiplied_into_the_weights(method: qsim.methods.Method) -> None:
    """Which l2 shrinks tenfold in each round, until float64 would not reach it."""
    objective = qsim.LogisticRegression(l2=1.8)
    run = replace(RUN, data=small(True), objective=objective, method=method, workers=3, rounds=400)
    agree(qsim.simulate(run), plain(run))


def test_divergence_is_found_in_the_same_round() -> None:
    """A step that grows from round to round: the first rounds are good."""

    @qsim.option
    class Growing(qsim.steps.Step):
        def __call__(self, t: int) -> float:
            return 10.0 ** (2 * t)

    run = replace(RUN, method=SGD(Growing()), objective=qsim.LogisticRegression(l2=0.0))
    with pytest.raises(NotFiniteError) as seen:
        qsim.simulate(run)
    with pytest.raises(NotFiniteError) as right:
        plain(run)
    assert str(seen.value) == str(right.value)


@pytest.mark.parametrize("compressor", [qsim.Identity(), qsim.ErrorFeedback(qsim.TopK(2)), qsim.QSGD(4)], ids=repr)
def test_what_overflows_on_the_last_worker_alone_is_found(compressor: qsim.compressors.Compressor) -> None:
    """Its rows are so large that a longer step throws it out, from the fifth round on."""

    @qsim.option
    class Longer(qsim.steps.Step):
        def __call__(self, t: int) -> float:
            return 0.0 if t < 5 else 1e10

    data = Dataset([0, 1, 2, 3], [0, 1, 2], np.array([1, 1, 1e30], np.float32), [1, 0, 1], 3)
    run = replace(RUN, data=data, objective=qsim.LogisticRegression(0.0), method=SGD(Longer()), compressor=compressor)
    run = replace(run, workers=3, partition=qsim.datasets.Contiguous(), rounds=30)
    told = []
    for way in (plain, qsim.simulate):
        with pytest.raises(NotFiniteError, match="worker 2, round 5") as seen:
            way(run)
        told.append(str(seen.value))
    assert told[0] == told[1]
