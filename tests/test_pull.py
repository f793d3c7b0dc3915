"""Sparse pull: workers ask for the weights that their rows read, and get these alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from oracles import hashing, varint
from qsim.datasets import Synthetic
from qsim.downlinks import DenseWeights, SparsePull
from qsim.engines import Processes, Serial
from qsim.keys import Key, Purpose
from qsim.methods import DIANA, EF21, LBFGS, MARINA, SGD, Averaged, GradientDescent, LocalSGD, Passes, SignSGD
from qsim.steps import Constant

N, WORKERS, BATCH = 400, 5, 3
RUN = qsim.Run(
    Synthetic(rows=60, features=N, nonzeros_per_row=6, values="tfidf", seed=2),
    qsim.LogisticRegression(l2=1e-2),
    SGD(Constant(0.5), batch=BATCH),
    compressor=qsim.QSGD(2),
    downlink=SparsePull(),
    workers=WORKERS,
    rounds=6,
    optimum=False,
)


def test_every_bit_by_hand() -> None:
    """A request is a message of ones without their scale, an answer 32 bits for each; headers once, to and from all."""
    trace, dense = qsim.simulate(RUN), qsim.simulate(replace(RUN, downlink=DenseWeights()))
    data, key = RUN.load(), Key(RUN.seed)
    shards = RUN.partition.split(data, WORKERS, key.fold(Purpose.PARTITION))
    up, down = [], []
    for t in range(RUN.rounds):
        asked = answered = 0
        for worker in range(WORKERS):
            first, last = shards.offsets[worker : worker + 2]
            word = hashing.fold(hashing.fold(key.fold(Purpose.DATA).word, t), worker)
            drawn = [shards.order[first + hashing.below(hashing.fold(word, i), last - first)] for i in range(BATCH)]
            touched = {int(c) for i in drawn for c in data.indices[data.indptr[i] : data.indptr[i + 1]]}
            asked += 8 * len(varint.packet(np.float32(1), dict.fromkeys(sorted(touched), 1), 1)[4:])
            answered += 32 * len(touched)
        up.append(asked)
        down.append(answered)
    header_up = 8 * len(SparsePull().requests.pack(qsim.batch.Vectors.dense(np.ones(N, np.float32)), KEYS)[0])
    assert header_up == 8 * (3 + 2 + 1 + 1 + 4)  # n = 400, s = 1, the bucket, and the scale
    up[0] += WORKERS * header_up
    down[0] += WORKERS * 8 * len(qsim.channel.EXACT["float32"].pack(qsim.batch.Vectors.dense(np.ones(4)), KEYS)[0])
    assert (trace.frame["bits_up"] - dense.frame["bits_up"]).tolist() == [0, *up]
    assert trace.frame["bits_down"].tolist() == [0, *down]
    assert trace.frame["bits_down"].sum() < dense.frame["bits_down"].sum() / 10


KEYS = Key(0).words(0, 1)


def test_who_asks_for_nothing_gets_no_header() -> None:
    @qsim.option
    class AllToTheSecond(qsim.datasets.Partition):
        def split(self, data, workers, key):
            return qsim.datasets.Shards(data, np.arange(data.rows), np.array([0, 0, *[data.rows] * (workers - 1)]))

    frame = qsim.simulate(replace(RUN, method=GradientDescent(Constant(0.5)), partition=AllToTheSecond())).frame
    asked = 32 * np.unique(RUN.load().indices).size
    header = 8 * len(qsim.channel.EXACT["float32"].pack(qsim.batch.Vectors.dense(np.ones(4)), KEYS)[0])
    assert frame["bits_down"].tolist() == [0, asked + header, *[asked] * (RUN.rounds - 1)]


@pytest.mark.parametrize(
    ("method", "compressor"),
    [
        (SGD(Constant(0.5), batch=BATCH, sampling=Passes()), qsim.QSGD(2)),
        (GradientDescent(Constant(0.5)), qsim.ErrorFeedback(qsim.TopK(5))),
        (LocalSGD(Constant(0.5), steps=4), qsim.QSGD(2)),
        (DIANA(Constant(0.2), batch=2), qsim.QSGD(30)),
        (EF21(Constant(0.2)), qsim.TopK(5)),
        (MARINA(Constant(0.2), p=0.3), qsim.RandK(40)),
        (SignSGD(Constant(0.01), batch=4), qsim.Sign()),
        (Averaged(SGD(Constant(0.5), batch=2)), qsim.QSGD(2)),
        (LBFGS(gradients="compressed"), qsim.QSGD(2)),
    ],
    ids=repr,
)
def test_weights_are_those_of_dense_ones(method, compressor) -> None:
    """To the last bit, also where workers sit out; a weight that nobody asked for would be no number."""
    for clients in (qsim.clients.AllClients(), qsim.clients.SampledClients(2)):
        if isinstance(clients, qsim.clients.SampledClients) and not isinstance(method, SGD):
            continue
        run = replace(RUN, method=method, compressor=compressor, clients=clients)
        dense, pulled = qsim.simulate(replace(run, downlink=DenseWeights())), qsim.simulate(run)
        assert pulled.weights.tobytes() == dense.weights.tobytes()
        assert pulled.frame["loss"].equals(dense.frame["loss"])
        assert np.isfinite(pulled.weights).all()


def test_several_weights_a_feature() -> None:
    data = RUN.load()
    classes = qsim.datasets.Dataset(
        data.indptr, data.indices, data.values, np.arange(data.rows) % 3, data.features, kind="classes"
    )
    run = replace(RUN, data=classes, objective=qsim.objectives.MultinomialLogistic(l2=1e-2, classes=3))
    dense, pulled = qsim.simulate(replace(run, downlink=DenseWeights())), qsim.simulate(run)
    assert pulled.weights.tobytes() == dense.weights.tobytes()
    assert pulled.frame["bits_down"].sum() < dense.frame["bits_down"].sum() / 10


def test_the_same_bits_on_every_engine() -> None:
    plain = qsim.simulate(RUN)
    for engine in (Serial(block=1), Serial(threads=2, block=2), Processes(2)):
        found = qsim.simulate(RUN, engine=engine)
        assert found.weights.tobytes() == plain.weights.tobytes()
        assert found.frame.equals(plain.frame)


def test_what_a_method_forgets_to_ask_for_is_found() -> None:
    """Its work meets weights that are not numbers."""

    @qsim.option
    class Forgetful(GradientDescent.__base__):
        step: qsim.steps.Step = Constant(0.5)
        momentum: None = None

        def reads(self, task, block, memory):
            rows = block.all_rows()
            return qsim.block.Rows(rows.index[:1], np.minimum(rows.offsets, 1))

        def work(self, task, objective, block, memory):
            return objective.update(block, block.all_rows(), task.weights, 0.5)

    with pytest.raises(qsim.compressors.NotFiniteError, match="workers? 0.*round 0"):
        qsim.simulate(replace(RUN, method=Forgetful()))


@qsim.option
class DenseHinge(qsim.objectives.MeanLoss):
    """A hinge by dense algebra, 0 times the weights that are not there: its slope would be zero, as NaN < 1 is not."""

    l2: float = 0.1

    def loss_and_gradient(self, w, data):
        x, y = data.to_scipy().toarray(), data.labels
        margin = y * (x @ w)
        return np.mean(np.maximum(0, 1 - margin)), -x.T @ (y * (margin < 1)) / y.size

    def error(self, w, data):
        return 0.0


def test_an_objective_that_reads_all_weights_is_told_so() -> None:
    run = replace(RUN, objective=DenseHinge(), optimum=False)
    assert np.isfinite(qsim.simulate(replace(run, downlink=DenseWeights())).weights).all()
    with pytest.raises(ValueError, match=r"DenseHinge\(\) reads weights .* did not ask for.*DenseWeights\(\)"):
        qsim.simulate(run)


def test_codecs_of_requests() -> None:
    """Other codes ask for the same; what carries no levels is refused."""
    plain = qsim.simulate(RUN)
    for codec in (qsim.codecs.Elias("gamma"), qsim.codecs.GolombRice(), qsim.codecs.Bitmap()):
        found = qsim.simulate(replace(RUN, downlink=SparsePull(codec, dtype="float64")))
        assert found.weights.tobytes() == plain.weights.tobytes()
        assert found.frame["bits_up"].sum() != plain.frame["bits_up"].sum()
    with pytest.raises(ValueError, match=r"codec must carry levels.*Dense"):
        SparsePull(qsim.codecs.Dense("float32"))
    with pytest.raises(ValueError, match="dtype must be one of"):
        SparsePull(dtype="float16")


def test_requests_and_answers_take_time() -> None:
    """All requests go up at once, then all answers down: the sums over the server's link, at 8 Mbit/s, no latency."""
    network = qsim.Network(link=qsim.network.Link(bandwidth=8e6, latency=0.0))
    pulled, dense = (qsim.simulate(replace(RUN, network=network, downlink=d)) for d in (SparsePull(), DenseWeights()))
    asked = (pulled.frame["bits_up"] - dense.frame["bits_up"]).to_numpy() / 8e6
    extra = (pulled.frame["seconds_uplink"] - dense.frame["seconds_uplink"]).to_numpy()
    np.testing.assert_allclose(extra[1:], asked[1:], rtol=1e-9)
    np.testing.assert_allclose(pulled.frame["seconds_downlink"], pulled.frame["bits_down"] / 8e6, rtol=1e-12)
    with pytest.raises(ValueError, match="has no server that could send down"):
        replace(RUN, network=qsim.Network(qsim.network.AllGather()))
