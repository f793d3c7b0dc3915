"""Runs: what must always hold, on real data and small ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import qsim
from helpers.traces import same
from qsim.batch import Levels, Packets, Vectors
from qsim.channel import Line
from qsim.compressors import Compressor, NotFiniteError
from qsim.datasets import ByLabel, Contiguous, DataError, Dirichlet, Shuffled
from qsim.downlinks import DenseWeights, SparseSum
from qsim.engines import Serial
from qsim.keys import Purpose
from qsim.methods import Passes

Constant = qsim.steps.Constant
SAMPLE = qsim.datasets.load("spark_sample")
SPARSE = qsim.datasets.synthetic(300, 400, 6, seed=5)
BASE = qsim.Run(
    SPARSE,
    objective=qsim.LogisticRegression(l2=1e-3),
    method=qsim.GradientDescent(step=Constant(0.5)),
    compressor=qsim.QSGD(levels=2),
    workers=11,
    rounds=6,
    optimum=False,
)
VARIANTS = {
    "gd": BASE,
    "identity": replace(BASE, compressor=qsim.Identity()),
    "sgd": replace(BASE, method=qsim.SGD(step=qsim.steps.InverseSqrt(0.5, 4), batch=5)),
    "passes": replace(BASE, method=qsim.SGD(step=qsim.steps.InverseTime(0.5, 4), batch=5, sampling=Passes())),
    "max": replace(BASE, compressor=qsim.QSGD(3, "max"), method=qsim.SGD(step=Constant(0.5), batch=2)),
    "skewed": replace(BASE, partition=Dirichlet(0.05)),
    "floats": replace(BASE, codec=qsim.codecs.SparseFloats(), downlink=SparseSum()),
    "intercept": replace(BASE, objective=qsim.LogisticRegression(l2=1e-3, intercept=True)),
}


@qsim.option
class Ternary(Compressor):
    """A user's compressor in plain NumPy."""

    emits = Levels

    def quantize(self, v, key):
        scale = np.abs(v).max()
        keep = key.generator().random(v.size) * scale < np.abs(v)
        return Levels.single(np.sign(v) * keep, scale=scale, s=1)


@pytest.mark.parametrize("name", VARIANTS)
def test_blocks_of_any_size_give_the_same_bits(name: str) -> None:
    run = VARIANTS[name]
    first = qsim.simulate(run, engine=Serial(block=1))
    for block in (3, run.workers, None):
        assert same(first, qsim.simulate(run, engine=Serial(block=block)))
    assert not same(first, qsim.simulate(replace(run, seed=1)))


@pytest.mark.parametrize("name", VARIANTS)
def test_runs_print_as_the_code_that_makes_them(name: str) -> None:
    run = VARIANTS[name]
    again = eval(repr(run), {"qsim": qsim})
    assert again == run
    assert same(qsim.simulate(again), qsim.simulate(run))


def test_gradient_descent_without_compression_is_gradient_descent() -> None:
    """For unequal and empty shards too, since rows weight the mean. float32 messages: to a tolerance of 1e-6."""
    run = replace(BASE, compressor=qsim.Identity(), rounds=30)
    w = np.zeros(SPARSE.features)
    for _ in range(30):
        w -= 0.5 * run.objective.gradient(w, SPARSE)
    for partition in (Contiguous(), Shuffled(), ByLabel(), Dirichlet(0.05)):
        for downlink in (DenseWeights(), SparseSum()):
            trace = qsim.simulate(replace(run, partition=partition, downlink=downlink))
            np.testing.assert_allclose(trace.weights, w, atol=1e-6)
            assert trace.frame["loss"].iloc[-1] == pytest.approx(run.objective.value(w, SPARSE), rel=1e-8)
    skewed = qsim.simulate(replace(run, partition=Dirichlet(0.05), weighting="workers"))
    assert np.abs(skewed.weights - w).max() > 1e-3  # the plain mean over unequal shards is another objective


def test_a_round_by_hand() -> None:
    """Round 1 from nothing but the data, the oracle of QSGD's levels and the wire: one worker, every step in NumPy."""
    run = replace(BASE, workers=1, rounds=1, partition=Contiguous(), method=qsim.GradientDescent(step=Constant(0.25)))
    trace = qsim.simulate(run)
    g = (0.25 * qsim.LogisticRegression(0.0).gradient(np.zeros(400), SPARSE)).astype(np.float32)
    key = qsim.Key(run.seed).fold(Purpose.QUANTIZE, 0, 0, 0)
    message = qsim.QSGD(2).quantize(g, key)
    agreement = np.abs(trace.weights + message.vectors().to_dense()[0]) < 1e-6
    assert agreement.mean() > 0.99  # float32 sums differ in the last digit, which may move a level now and then
    assert trace.frame["nonzeros"].iloc[1] == pytest.approx(message.nonzeros, abs=2)


@pytest.mark.usefixtures("through_the_exchange")
@pytest.mark.parametrize("downlink", [DenseWeights(), DenseWeights("float64"), SparseSum()])
@pytest.mark.parametrize("compressor", [qsim.QSGD(2), qsim.Identity(), Ternary()])
def test_bits_are_the_bytes_of_packets_and_the_server_sums_what_it_decodes(downlink, compressor, monkeypatch) -> None:
    sent: list[Packets] = []
    headers: list[bytes] = []
    totals: list[np.ndarray] = []
    pack = Line.pack

    def spy(self: Line, v: Vectors, keys: np.ndarray) -> tuple[bytes, Packets, Vectors]:
        header, packets, arrived = pack(self, v, keys)
        sent.append(packets)
        headers.append(header)
        totals.append(arrived.to_dense().astype(np.float64))
        assert arrived == qsim.Channel(compressor).unpack(header, packets, keys)
        return header, packets, arrived

    monkeypatch.setattr(Line, "pack", spy)
    run = replace(BASE, compressor=compressor, downlink=downlink)
    trace = qsim.simulate(run, engine=Serial(block=run.workers))
    bits = [8 * sum(len(packets[row]) for row in range(len(packets))) for packets in sent]
    bits[0] += 8 * run.workers * len(headers[0])
    assert trace.frame["bits_up"].tolist() == [0, *bits]
    assert trace.frame["cumulative_bits_up"].iloc[-1] == sum(bits)
    assert trace.frame["nonzeros"].tolist() == [0, *(int((total != 0).sum()) for total in totals)]
    shards = run.partition.split(SPARSE, run.workers, qsim.Key(0).fold(Purpose.PARTITION))
    w = np.zeros(400)
    for total in totals:
        update = shards.weights @ total
        if isinstance(downlink, SparseSum):
            update = update.astype(np.float32)
        w = (1 - 0.5 * 1e-3) * w - update
    np.testing.assert_allclose(trace.weights, w, rtol=1e-6, atol=1e-9)


def test_dense_downlink_bits() -> None:
    frame = qsim.simulate(BASE).frame
    header = 3 + 2  # version, codec, kind, and n = 400 in two bytes
    assert frame["bits_down"].tolist() == [0, 11 * 8 * (4 * 400 + header), *[11 * 32 * 400] * 5]
    double = qsim.simulate(replace(BASE, downlink=DenseWeights("float64"))).frame
    assert double["bits_down"].iloc[2] == 2 * frame["bits_down"].iloc[2]


@pytest.mark.usefixtures("through_the_exchange")
def test_sparse_sum_lets_workers_follow_the_weights(monkeypatch) -> None:
    """A worker that only ever saw the broadcast sums, and the start, has the server's weights."""
    run = replace(BASE, downlink=SparseSum(), start=qsim.starts.Uniform(0.5))
    replica = run.start.weights(400, qsim.Key(0).fold(Purpose.START))
    aggregate = SparseSum.aggregate

    def follow(self, total, state, key):
        received, bits = aggregate(self, total, state, key)
        replica[:] *= 1 - 0.5 * 1e-3
        replica[received.index] -= received.value
        return received, bits

    monkeypatch.setattr(SparseSum, "aggregate", follow)
    trace = qsim.simulate(run)
    np.testing.assert_allclose(trace.weights, replica, rtol=1e-13)


def test_common_random_numbers(monkeypatch) -> None:
    """Runs that differ in the compressor draw the same batches and the same start."""
    drawn: list[np.ndarray] = []
    draw = qsim.methods.WithReplacement.draw
    monkeypatch.setattr(
        qsim.methods.WithReplacement, "draw", lambda self, *a: (drawn.append(draw(self, *a).index), draw(self, *a))[1]
    )
    run = replace(BASE, method=qsim.SGD(step=Constant(0.1), batch=3), start=qsim.starts.Uniform())
    first = qsim.simulate(run)
    count = len(drawn)
    second = qsim.simulate(replace(run, compressor=qsim.Identity()))
    assert len(drawn) == 2 * count > 0
    assert all(np.array_equal(a, b) for a, b in zip(drawn[:count], drawn[count:], strict=True))
    assert first.frame["loss"][0] == second.frame["loss"][0] != first.frame["loss"][1]
    assert not np.array_equal(first.weights, second.weights)


def test_codecs_do_not_change_trajectories() -> None:
    traces = [
        qsim.simulate(replace(BASE, codec=codec))
        for codec in (
            qsim.codecs.Varint(),
            qsim.codecs.Dense(),
            qsim.codecs.SparseFloats(),
            qsim.codecs.Dense("float64"),
        )
    ]
    assert all(np.array_equal(traces[0].weights, trace.weights) for trace in traces)
    bits = [int(trace.frame["cumulative_bits_up"].iloc[-1]) for trace in traces]
    assert bits[0] < bits[2] < bits[1] < bits[3]
    header = 8 * 11 * 5
    assert bits[1] == 6 * 11 * 32 * 400 + header


def test_a_round_is_unbiased() -> None:
    """500 seeds: the updates' mean is the exact update, in its direction and in 7 others, to 8 standard errors.

    False alarms: Student's t with 499 degrees of freedom exceeds 8 with probability 9e-15; even 1,000 times that, for
    tails that are not quite Gaussian, makes 7e-11 for the eight. Power: a standard error is 0.6% of the update's
    length, so a mean that is off by 5% of it along one of them is found with probability 0.78, by 6% 0.99.
    """
    run = replace(BASE, rounds=1, workers=3, partition=Contiguous(), evaluate_every=10)
    exact = qsim.simulate(replace(run, compressor=qsim.Identity())).weights
    errors = np.stack([qsim.simulate(replace(run, seed=seed)).weights for seed in range(500)]) - exact
    signs = np.random.default_rng(0).choice([-1, 1], (8, 400))
    signs[0] = 1
    along = errors @ (signs * exact).T
    z = along.mean(axis=0) / (along.std(axis=0, ddof=1) / 500**0.5)
    assert np.abs(z).max() < 8


def test_until_stops_when_reached_and_not_before() -> None:
    run = replace(BASE, compressor=qsim.Identity(), rounds=400, evaluate_every=7, optimum=True)
    middle = qsim.simulate(replace(run, rounds=100)).frame.iloc[-1]
    for rule, column in (
        (qsim.stopping.GradientNorm(middle["gradient_norm"]), "gradient_norm"),
        (qsim.stopping.Suboptimality(middle["suboptimality"]), "suboptimality"),
    ):
        frame = qsim.simulate(replace(run, until=rule)).frame
        last = len(frame) - 1
        assert last == 105
        known = frame[column].dropna()
        assert known.iloc[-1] <= rule.bound < known.iloc[-2]
    assert len(qsim.simulate(replace(run, until=qsim.stopping.GradientNorm(1e9))).frame) == 1


def test_evaluation_is_apart_from_training() -> None:
    often, seldom = (qsim.simulate(replace(BASE, evaluate_every=k)) for k in (1, 4))
    assert np.array_equal(often.weights, seldom.weights)
    assert often.frame["bits_up"].equals(seldom.frame["bits_up"])
    assert seldom.frame["loss"].notna().tolist() == [True, False, False, False, True, False, True]
    assert seldom.frame["loss"].dropna().tolist() == often.frame["loss"][[0, 4, 6]].tolist()


def test_frame_columns_and_types() -> None:
    test = qsim.datasets.synthetic(50, 400, 6, seed=6)
    frame = qsim.simulate(replace(BASE, test=test, optimum=True)).frame
    assert frame["round"].tolist() == list(range(7))
    for name in ("nonzeros", "bits_up", "bits_down"):
        assert frame[name].dtype == np.int64
        assert frame[f"cumulative_{name}"].equals(frame[name].cumsum().rename(f"cumulative_{name}"))
    assert (frame["suboptimality"] > 0).all()
    assert frame["test_error"].between(0, 1).all()
    assert np.isnan(qsim.simulate(BASE).frame["suboptimality"]).all()


def test_test_data_do_not_touch_training() -> None:
    test = qsim.datasets.synthetic(50, 400, 6, seed=6)
    assert np.array_equal(qsim.simulate(replace(BASE, test=test)).weights, qsim.simulate(BASE).weights)


def test_trace_saves_and_loads(tmp_path) -> None:
    trace = qsim.simulate(BASE)
    again = qsim.Trace.load(trace.save(tmp_path / "trace.npz"))
    assert same(trace, again)
    assert again.provenance == trace.provenance
    assert eval(again.provenance["run"], {"qsim": qsim}) == BASE
    assert again.provenance["data"]["digest"] == SPARSE.digest
    with pytest.raises(ValueError, match=r"trace\.csv\.npz"):
        trace.save(tmp_path / "trace.csv")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "trace.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match="is torn, or was not written by qsim"):
        qsim.Trace.load(tmp_path / "torn.npz")
    with pytest.raises(FileNotFoundError):
        qsim.Trace.load(tmp_path / "none.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["torn.npz", "trace.npz"]


def test_trace_plots_every_axis() -> None:
    trace = qsim.simulate(replace(BASE, optimum=True))
    for x in ("round", "bits", "bits_up", "bits_down", "nonzeros"):
        ax = trace.plot(x=x, y="suboptimality")
        (line,) = ax.get_lines()
        assert len(line.get_xdata()) == 7
        assert ax.get_xlabel()
        assert ax.get_ylabel() == "suboptimality"
    with pytest.raises(ValueError, match="did you mean 'bits_up'"):
        trace.plot(x="bitsup")


def test_divergence_is_an_error_that_says_where() -> None:
    run = replace(BASE, method=qsim.GradientDescent(step=Constant(1e42)), compressor=qsim.Identity(), rounds=50)
    with pytest.raises(NotFiniteError, match=r"worker \d+, round \d+: .*step"):
        qsim.simulate(replace(run, objective=qsim.LogisticRegression(l2=0.0)))
    with pytest.raises(ValueError, match="must stay below 1"):
        qsim.simulate(replace(run, method=qsim.GradientDescent(step=Constant(1e4))))


@pytest.mark.parametrize("downlink", [DenseWeights(), DenseWeights("float64"), qsim.downlinks.SparsePull()], ids=repr)
@pytest.mark.parametrize("compressor", [qsim.TopK(4), qsim.Identity()], ids=repr)
def test_weights_and_float64_messages_beyond_float32_are_divergence(compressor: Compressor, downlink: Any) -> None:
    """So that a tuning goes on: the weights, or what is sent, leave float32's range before gradients do."""
    quadratics = qsim.datasets.Quadratics((1.0, 8.0, 40.0), mu=0.5)
    parts = {"compressor": compressor, "downlink": downlink, "workers": 3, "rounds": 50, "optimum": False}
    with pytest.raises(NotFiniteError, match="float32.*the usual cause is a step that is too large"):
        qsim.simulate(quadratics, objective=qsim.LeastSquares(l2=0.0), method=qsim.EF21(1e6), **parts)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"workers": 301}, DataError, "301"),
        ({"workers": 0}, ValueError, "workers must be a whole number"),
        ({"rounds": -1}, ValueError, "rounds"),
        ({"seed": -1}, ValueError, "seed"),
        ({"evaluate_every": 0}, ValueError, "evaluate_every"),
        ({"weighting": "row"}, ValueError, "did you mean 'rows'"),
        ({"compressor": "qsgd"}, TypeError, "compressor must be"),
        ({"objective": None}, TypeError, "objective must be"),
        ({"method": "sgd"}, TypeError, "method must be"),
        ({"data": 3}, TypeError, "data must be a Dataset"),
        ({"data": "adlut"}, DataError, "did you mean 'adult'"),
        ({"data": (np.eye(3), [1, 0])}, DataError, "labels"),
        ({"start": np.zeros(3)}, TypeError, "start must be"),
        ({"until": 1e-3}, TypeError, "until must be"),
        ({"downlink": None}, TypeError, "downlink must be"),
        ({"until": qsim.stopping.Suboptimality(0.1)}, ValueError, "needs the optimum"),
        ({"optimum": "no"}, ValueError, "optimum must be True or False"),
        ({"partition": "iid"}, TypeError, "partition must be"),
        ({"test": 3}, TypeError, "test must be"),
        ({"test": "adult"}, DataError, "must have the 400 features"),
        ({"until": qsim.stopping.Seconds(1)}, ValueError, "virtual time"),
        ({"until": qsim.stopping.any_of(qsim.stopping.Suboptimality(0.1))}, ValueError, "needs the optimum"),
    ],
)
def test_bad_arguments_are_refused(change: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        qsim.simulate(replace(BASE, **change))


def test_test_data_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="400 features"):
        qsim.simulate(replace(BASE, test=SAMPLE))


def test_bad_method_options_are_refused() -> None:
    with pytest.raises(TypeError, match="simulate needs objective= and method="):
        qsim.simulate(SAMPLE)
    with pytest.raises(ValueError, match="batch"):
        qsim.SGD(step=Constant(0.5), batch=0)
    with pytest.raises(TypeError, match="sampling"):
        qsim.SGD(step=Constant(0.5), sampling="passes")
    for bad in (0, -1, np.nan, np.inf, "1"):
        with pytest.raises(ValueError, match="step must be a (finite )?number"):
            Constant(bad)
    with pytest.raises(TypeError, match="no argument 'compresor'; did you mean 'compressor'"):
        qsim.simulate(SAMPLE, compresor=qsim.QSGD(4))
    with pytest.raises(TypeError, match="engine must be"):
        qsim.simulate(BASE, engine="serial")
    with pytest.raises(TypeError, match="a Run says it all"):
        qsim.simulate(BASE, rounds=3)
    with pytest.raises(ValueError, match="block"):
        Serial(block=0)


def test_steps() -> None:
    assert [qsim.steps.InverseTime(1.0, halving=2)(t) for t in (0, 2, 6)] == [1.0, 0.5, 0.25]
    assert [qsim.steps.InverseSqrt(1.0, scale=2)(t) for t in (0, 6)] == [1.0, 0.5]


def test_a_compressor_must_define_something() -> None:
    nothing = type("Nothing", (Compressor,), {"emits": Levels})()
    with pytest.raises(TypeError, match="Nothing must define quantize"):
        nothing.quantize([1.0], qsim.Key(0))
    with pytest.raises(TypeError, match="Nothing must define quantize"):
        qsim.simulate(replace(BASE, compressor=nothing))
    with pytest.raises(TypeError, match="Silent must say what it makes"):
        qsim.simulate(
            replace(BASE, compressor=type("Silent", (Compressor,), {"quantize": lambda self, v, key: None})())
        )


def test_a_users_compressor_trains() -> None:
    trace = qsim.simulate(replace(BASE, compressor=Ternary(), rounds=40))
    assert trace.frame["loss"].iloc[-1] < 0.95 * trace.frame["loss"].iloc[0]
    assert "Ternary()" in trace.provenance["run"]
