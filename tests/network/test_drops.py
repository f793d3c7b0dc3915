"""Runs on a network: real sizes become seconds, late messages are dropped, and nothing of what they held is lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from qsim.batch import Memory
from qsim.compressors import ErrorFeedback, Identity, RandK, Scaled, ScaledSign, Sign, TopK
from qsim.datasets import ByLabel, Dirichlet, Synthetic
from qsim.downlinks import Replicated, SignSum, SparseSum
from qsim.engines import Processes, Serial
from qsim.methods import (
    DASHA,
    DIANA,
    EF21,
    LBFGS,
    MARINA,
    PAGE,
    SGD,
    EControl,
    GradientDescent,
    HeavyBall,
    LocalSGD,
    NewtonCG,
    Passes,
    SignSGD,
)
from qsim.network import (
    PARTS,
    AllGather,
    Backup,
    Exponential,
    Fastest,
    HalvingDoubling,
    Link,
    Machines,
    Network,
    ParameterServer,
    Ring,
    Slow,
    Timeout,
    Tree,
    WaitForAll,
)
from qsim.steps import Constant, InverseSqrt, InverseTime
from qsim.weights import Replica
from qsim.workers.group import WorkerGroup
from qsim.workers.tasks import Job, Order

L2 = 0.1
DATA = Synthetic(rows=120, features=20, nonzeros_per_row=5, noise=0.2, seed=3)
RANDOM = Machines(base=1e-3, per_nonzero=1e-5, delay=Exponential(0.01), speeds=Slow(0.3, 2.0))
EVERY_ROUND = tuple(range(1, 40))
PLAIN = Constant(0.5)
RUN = qsim.Run(
    DATA, qsim.LogisticRegression(l2=L2), GradientDescent(PLAIN), workers=6, partition=ByLabel(), rounds=12,
    network=Network(machines=RANDOM, rule=Timeout(0.01), timelines=EVERY_ROUND),
)  # fmt: skip


def on(rule, topology=None) -> Network:
    return replace(RUN.network, rule=rule, topology=topology or ParameterServer())


def came(trace: qsim.Trace) -> np.ndarray:
    """Whose messages came, of the one exchange of every round: shape (rounds, workers)."""
    return np.isfinite(trace.schedule["came"]).reshape(-1, RUN.workers)


def shards_of(run: qsim.Run) -> qsim.datasets.Shards:
    return run.partition.split(DATA.load(), run.workers, qsim.Key(run.seed).fold(qsim.keys.Purpose.PARTITION))


# What is dropped.


@pytest.mark.parametrize("rule", [Timeout(0.01), Fastest(2), Backup(1), Timeout(0.006)], ids=repr)
@pytest.mark.parametrize("topology", [ParameterServer(), AllGather(), Ring()], ids=repr)
def test_the_mean_is_over_those_that_came(rule, topology) -> None:
    """Against gradient descent in NumPy, over the workers whose messages came; all bits count as sent to a server."""
    downlink = qsim.downlinks.DenseWeights() if topology.has_server else Replicated()
    trace = qsim.simulate(replace(RUN, network=on(rule, topology), downlink=downlink))
    data, shards, arrived = DATA.load(), shards_of(RUN), came(trace)
    assert 0 < arrived.mean() < 1
    assert trace.frame["dropped"].tolist() == [0, *(~arrived).sum(axis=1)]
    x, y, w = data.to_scipy().toarray().astype(float), data.labels.astype(float), np.zeros(20)
    for mask in arrived:
        total = np.zeros(20)
        for worker in np.flatnonzero(mask):
            rows = shards.order[shards.offsets[worker] : shards.offsets[worker + 1]]
            gradient = x[rows].T @ (-y[rows] / (1 + np.exp(y[rows] * (x[rows] @ w)))) / rows.size
            total += shards.weights[worker] / shards.weights[mask].sum() * gradient
        w = (1 - 0.5 * L2) * w - 0.5 * total
    np.testing.assert_allclose(trace.weights, w, atol=2e-6)
    p, message = arrived.sum(axis=1), 32 * 20
    sent = {
        ParameterServer(): np.full(12, 6 * message),
        AllGather(): p * 5 * message,  # each message that came goes to the five others, also to those who were late
        Ring(): 2 * 5 * message * (p > 0),
    }
    seen = np.maximum.accumulate(arrived, axis=0)  # whose first message has come
    header = {  # of 4 bytes; at a server streams open in round 1, from round 2 on there is none
        ParameterServer(): np.zeros(11),
        AllGather(): 8 * 4 * 5 * np.diff(seen.sum(axis=1)),  # to the five others
        Ring(): 8 * 4 * 2 * 5 * np.diff(seen.any(axis=1).astype(int)),  # with the first sum
    }[topology]
    assert trace.frame["bits_up"].tolist()[2:] == (sent[topology][1:] + header).tolist()
    assert (trace.frame["bits_down"].iloc[2:] == (6 * 32 * 20 if topology.has_server else 0)).all()


def test_nobody_comes_and_only_the_regulariser_moves() -> None:
    start = qsim.starts.Uniform()
    for method, compressor, downlink in [
        (GradientDescent(PLAIN), qsim.QSGD(2), SparseSum()),
        (SignSGD(PLAIN), Sign(), SignSum()),
        (GradientDescent(PLAIN), ErrorFeedback(TopK(2)), qsim.downlinks.DenseWeights()),
    ]:
        run = replace(
            RUN, method=method, compressor=compressor, downlink=downlink, start=start, network=on(Timeout(1e-6))
        )
        trace = qsim.simulate(run)
        first = qsim.simulate(replace(run, rounds=0)).weights
        np.testing.assert_allclose(trace.weights, (1 - 0.5 * L2) ** 12 * first, rtol=1e-12)
        assert (trace.frame["dropped"][1:] == 6).all()
        assert np.abs(first).max() > 0


def test_exact_exchanges_wait_for_all() -> None:
    trace = qsim.simulate(replace(RUN, method=LBFGS(), compressor=Identity(), network=on(Fastest(1)), rounds=4))
    assert (trace.frame["dropped"] == 0).all()
    assert np.isfinite(trace.schedule["came"]).all()
    alone = qsim.simulate(replace(RUN, method=LBFGS(), compressor=Identity(), network=None, rounds=4))
    assert trace.weights.tobytes() == alone.weights.tobytes()


def test_time_changes_no_number_where_all_are_waited_for() -> None:
    for changes in ({}, {"clients": qsim.clients.SampledClients(3)}, {"method": SGD(PLAIN, 4)}):
        run = replace(RUN, compressor=qsim.QSGD(2), network=Network(machines=RANDOM), **changes)
        timed, alone = qsim.simulate(run), qsim.simulate(replace(run, network=None))
        assert timed.frame[alone.frame.columns].equals(alone.frame)
        assert timed.weights.tobytes() == alone.weights.tobytes()
        assert not {"seconds", "dropped"} & set(alone.frame)


def test_a_rule_that_drops_nobody_changes_no_bit() -> None:
    """The weights of these 19 workers sum to 1 but for a rounding, which must not come into the mean."""
    run = replace(RUN, workers=19, partition=Dirichlet(1.0), rounds=3, seed=1)
    assert run.problem().weights.sum() != 1.0
    same(*(qsim.simulate(replace(run, network=on(rule))) for rule in (Timeout(1e6), WaitForAll())))


def test_runs_that_differ_in_the_compressor_see_the_same_delays() -> None:
    traces = [qsim.simulate(replace(RUN, compressor=c)) for c in (Identity(), qsim.QSGD(1), ErrorFeedback(TopK(1)))]
    delays = [trace.schedule["computed"] - trace.schedule["began"] for trace in traces]
    for other in delays[1:]:
        np.testing.assert_allclose(other, delays[0], rtol=1e-9)
    assert np.unique(delays[0]).size == delays[0].size


def test_a_rule_and_sampled_clients_go_together() -> None:
    clients = qsim.clients.SampledClients(4)
    trace = qsim.simulate(replace(RUN, clients=clients, network=on(Fastest(3)), compressor=ErrorFeedback(TopK(2))))
    assert (trace.frame["dropped"][1:] == 1).all()
    for t in range(12):
        here = np.flatnonzero(clients.draw(qsim.Key(0).fold(qsim.keys.Purpose.CLIENTS, t), 6))
        assert trace.schedule["worker"][4 * t : 4 * t + 4].tolist() == here.tolist()


# Nothing is lost.


@pytest.mark.parametrize("clients", [qsim.clients.AllClients(), qsim.clients.SampledClients(3)], ids=repr)
@pytest.mark.parametrize("rule", [Timeout(0.012), Fastest(2), Timeout(0.004)], ids=repr)
@pytest.mark.parametrize(
    ("method", "compressor", "name"),
    [
        (DIANA(PLAIN, shift=0.3, batch=4), qsim.QSGD(2), "shift"),
        (EF21(PLAIN), TopK(3), "shift"),
        (EF21(PLAIN, momentum=0.5), ScaledSign(), "shift"),
    ],
    ids=lambda x: repr(x)[:20],
)
def test_the_servers_shift_is_the_mean_of_the_workers(method, compressor, name, rule, clients, tmp_path) -> None:
    path = tmp_path / "run.npz"
    run = replace(RUN, method=method, compressor=compressor, network=on(rule), clients=clients)
    trace = qsim.simulate(run, checkpoint=path)
    assert trace.frame["dropped"].sum() > 0
    server, mean = kept(path, f"server/{name}", f"workers/method/{name}")
    np.testing.assert_allclose(server, mean, atol=1e-6)
    assert np.abs(server).max() > 0.01


def kept(path, server: str, workers: str) -> tuple[np.ndarray, np.ndarray]:
    """What the server keeps, and the weighted mean of what the workers do."""
    with np.load(path) as saved:
        ours, theirs = saved[server], saved[workers]
    shards, mean = shards_of(RUN), np.zeros(20)
    if theirs.size == 20 * RUN.workers:
        return ours, shards.weights @ theirs.reshape(RUN.workers, 20)
    np.add.at(mean, shards.support, theirs * np.repeat(shards.weights, np.diff(shards.support_offsets)))
    return ours, mean


def test_marinas_estimate_is_the_mean_of_gradients_that_came(tmp_path) -> None:
    """Uncompressed: differences to the last gradient that came add up to the next."""
    path, marina = tmp_path / "run.npz", MARINA(Constant(0.2), p=0.05)
    trace = qsim.simulate(replace(RUN, method=marina, network=on(Fastest(2)), rounds=15), checkpoint=path)
    assert (trace.frame["dropped"] == 4).sum() > 10
    server, mean = kept(path, "server/estimate", "workers/method/gradient")
    np.testing.assert_allclose(server, mean, atol=1e-6)
    _, newest = kept(path, "server/estimate", "workers/method/newest")
    assert np.abs(newest - mean).max() > 1e-3


@pytest.mark.parametrize("size", [1, 2, 5])
def test_arrivals_and_memories_make_the_sum_of_updates(size: int) -> None:
    """Of every worker of a host, in blocks of a size, where some messages are not delivered."""
    data = qsim.datasets.synthetic(40, 30, 4, seed=3)
    shards = Dirichlet(0.3).split(data, 5, qsim.Key(2))
    channel = qsim.Channel(ErrorFeedback(Scaled(qsim.QSGD(2))))
    method, objective = SGD(step=InverseTime(1.0), batch=3), qsim.LogisticRegression(0.0)
    key, w = qsim.Key(8), np.random.default_rng(1).standard_normal(30).astype(np.float32)
    host = WorkerGroup(Job(shards, objective, method, channel, key, drops=True), 0, 5, block=size)
    block = qsim.block.Block(shards, 0, 5)
    arrived, wanted = np.zeros((5, 30)), np.zeros((5, 30))
    for t in range(8):
        rows = method.sampling.draw(block, 3, t, {}, key.fold(2))
        wanted += objective.update(block, rows, Replica(w), method.step(t)).to_dense()
        order, delivered = Order(t, 0, "update", Replica(w)), np.random.default_rng(t).random(5) < 0.5
        keys = order.key(key).words(0, 5)
        for reply in host.run(order):
            rows = slice(reply.low, reply.low + len(reply.packets))
            sent = channel.unpack(reply.header, reply.packets, keys[rows]).to_dense()
            arrived[rows] += np.where(delivered[rows, None], sent, 0)
        with pytest.raises(RuntimeError, match="settle the exchange first"):
            host.snapshot()
        host.on_delivered(delivered)
    error = Memory(block.support, {"error": host.snapshot()["compressor/error"]}).vectors("error").to_dense()
    np.testing.assert_allclose(arrived + error, wanted, atol=1e-5)
    assert np.abs(error).max() > 0.01


# The same bits everywhere.

EVERY = [
    (GradientDescent(PLAIN, HeavyBall(0.5)), ErrorFeedback(TopK(2)), on(Timeout(0.012)), {}),
    (DIANA(PLAIN, batch=2), qsim.QSGD(2), on(Fastest(2)), {"clients": qsim.clients.SampledClients(4)}),
    (EF21(PLAIN, momentum=0.5, batch=2, sampling=Passes()), TopK(3), on(Backup(2)), {}),
    (MARINA(PLAIN, p=0.4), RandK(4), on(Timeout(0.01)), {}),
    (DASHA(Constant(0.2), PAGE(2, p=0.3), shifts="zero"), RandK(4), on(Timeout(0.01)), {}),
    (EControl(PLAIN, strength=0.2, batch=2), TopK(3), on(Fastest(3)), {}),
    (LocalSGD(PLAIN, steps=3, batch=2), qsim.QSGD(2), on(Timeout(0.01), AllGather()), {"downlink": Replicated()}),
    (SignSGD(InverseSqrt(0.1)), Sign(), on(Timeout(0.01)), {"downlink": SignSum(), "weighting": "workers"}),
    (SGD(PLAIN, 2), RandK(4, "drawn"), on(Fastest(3), HalvingDoubling()), {"downlink": Replicated()}),
    (LBFGS(gradients="compressed"), qsim.QSGD(8), on(Backup(1)), {"downlink": SparseSum()}),
]


@pytest.mark.parametrize(("method", "compressor", "network", "changes"), EVERY, ids=lambda x: repr(x)[:30])
def test_the_bytes_that_take_time_are_those_that_are_counted(method, compressor, network, changes) -> None:
    """Once headers are sent: what went over the links by the clock, in all exchanges, makes the bits of the trace."""
    trace = qsim.simulate(replace(RUN, method=method, compressor=compressor, network=network, rounds=7, **changes))
    rows, bits = trace.schedule, np.zeros(8)
    exchanges = set(zip(rows["round"].tolist(), rows["exchange"].tolist(), strict=True))
    for t, exchange in exchanges:
        here = (rows["round"] == t) & (rows["exchange"] == exchange)
        if not network.topology.has_server:
            here &= np.isfinite(rows["came"])
        sizes = np.zeros(RUN.workers)
        sizes[rows["worker"][here]] = rows["bytes"][here]
        bits[t] += 8 * network.topology.sent(sizes)
    assert trace.frame["bits_up"].tolist()[2:] == np.round(bits[2:]).tolist()
    assert bits.max() > 0


@pytest.mark.parametrize(("method", "compressor", "network", "changes"), EVERY, ids=lambda x: repr(x)[:30])
def test_blocks_threads_and_resumption_change_nothing(method, compressor, network, changes, tmp_path) -> None:
    case = replace(RUN, method=method, compressor=compressor, network=network, rounds=7, evaluate_every=3, **changes)
    expected = qsim.simulate(case, engine=Serial(block=1))
    assert expected.frame["dropped"].sum() > 0

    class StopError(Exception):
        pass

    def stop(done: int) -> None:
        if done == 5:
            raise StopError

    path = tmp_path / "run.npz"
    with pytest.raises(StopError):
        qsim.simulate(case, checkpoint=path, every=2, after_round=stop, engine=Serial(block=4, threads=2))
    for found in (qsim.simulate(case, checkpoint=path), qsim.simulate(case, engine=Serial())):
        same(found, expected)


@qsim.option
class Deaf(GradientDescent):
    def on_delivered(self, task, block, memory, arrived, delivered) -> None:
        return None


@pytest.mark.parametrize("engine", [Serial(), Processes(2)], ids=repr)
def test_who_keeps_nothing_can_be_told(engine, tmp_path) -> None:
    """A user's method that wants to know what was delivered."""
    run = replace(RUN, method=Deaf(PLAIN), rounds=3)
    trace = qsim.simulate(run, checkpoint=tmp_path / "run.npz", every=1, engine=engine)
    assert trace.weights.tobytes() == qsim.simulate(replace(RUN, rounds=3)).weights.tobytes()


def test_processes_give_the_same_bits() -> None:
    for method, compressor, network, changes in (EVERY[0], EVERY[1], EVERY[3]):
        case = replace(RUN, method=method, compressor=compressor, network=network, rounds=5, **changes)
        same(qsim.simulate(case, engine=Processes(2)), qsim.simulate(case))


def test_check_engine_finds_an_engine_that_takes_all_for_delivered() -> None:
    class Optimistic(Serial):
        def open(self, job):
            session = super().open(job)
            settle = session.on_delivered
            session.on_delivered = lambda delivered: settle(np.ones_like(delivered))
            return session

    report = qsim.testing.check_engine(Optimistic())
    kept = {promise: good for promise, good, _ in report.lines}
    assert not kept["the same bits as Serial"]
    assert kept["closing leaves no process"]


def same(one: qsim.Trace, other: qsim.Trace) -> None:
    assert one.frame.equals(other.frame)
    assert one.weights.tobytes() == other.weights.tobytes()
    assert list(one.schedule) == list(other.schedule)
    assert all((one.schedule[name] == other.schedule[name]).all() for name in one.schedule)


# Seconds.


def test_seconds_of_real_messages() -> None:
    """All workers are ready at once, so a round is A + B x bytes each way, and the work: by the trace's own bits."""
    link, machines = Link(1e6, 0.003), Machines(base=0.25, per_nonzero=0.0, decode_per_byte=1e-6)
    for method in (GradientDescent(PLAIN), DIANA(PLAIN)):
        run = replace(RUN, method=method, compressor=qsim.QSGD(2), network=Network(link=link, machines=machines))
        frame = qsim.simulate(run).frame
        carried, decoded = (frame["bits_up"] + frame["bits_down"]) / 1e6, 1e-6 * frame["bits_up"] / 8
        np.testing.assert_allclose(frame["seconds"][1:], (2 * 0.003 + 0.25 + carried + decoded)[1:], rtol=1e-9)
        assert frame["seconds"][0] == 0
        parts = frame[[f"seconds_{part}" for part in PARTS]].sum(axis=1)
        np.testing.assert_allclose(frame["seconds"], parts, rtol=1e-12)
        assert frame["cumulative_seconds"].tolist() == np.cumsum(frame["seconds"]).tolist()


def test_the_way_down_of_the_sum_is_a_trip_of_its_own() -> None:
    network = Network(ParameterServer(3), Link(1e6, 0.003), Machines(base=0.25, per_nonzero=0.0))
    frame = qsim.simulate(replace(RUN, compressor=qsim.QSGD(2), downlink=SparseSum(), network=network)).frame
    np.testing.assert_allclose(frame["seconds_downlink"][1:], 0.003 + frame["bits_down"][1:] / 3 / 1e6, rtol=1e-9)


@pytest.mark.parametrize("method", [GradientDescent(PLAIN), SGD(PLAIN, 7), LocalSGD(PLAIN, steps=2, batch=3)], ids=repr)
def test_work_is_what_was_read(method) -> None:
    """Rows have 20 non-zeros each here: 20 times the rows of `passes`; entries are those of the update."""
    data = qsim.Dataset.from_arrays(1.0 + np.eye(120, 20), DATA.load().labels)
    network = replace(RUN.network, rule=Network().rule, machines=Machines(per_nonzero=1e-3, encode_per_entry=1e-2))
    trace = qsim.simulate(replace(RUN, data=data, method=method, network=network, compressor=qsim.QSGD(2)))
    nonzeros = trace.schedule["nonzeros"].reshape(-1, 6).sum(axis=1)
    assert nonzeros.tolist() == np.round(20 * 120 * trace.frame["passes"][1:]).tolist()
    assert trace.schedule["nonzeros"].min() > 0
    first = trace.schedule["entries"][:6]
    if isinstance(method, GradientDescent):
        sparse = qsim.simulate(replace(RUN, method=method, network=network, compressor=qsim.QSGD(2)))
        assert sparse.schedule["entries"][:6].tolist() == np.diff(shards_of(RUN).support_offsets).tolist()
    computed, encoded = trace.schedule["computed"][:6], trace.schedule["encoded"][:6]
    np.testing.assert_allclose(encoded - computed, 1e-2 * first, rtol=1e-9)
    np.testing.assert_allclose(computed - trace.schedule["began"][:6], 1e-3 * trace.schedule["nonzeros"][:6], rtol=1e-9)
    filled = qsim.simulate(replace(RUN, method=method, network=network, compressor=ScaledSign()))
    assert (filled.schedule["entries"] == 20).all()


def test_traces_keep_time(tmp_path) -> None:
    trace = qsim.simulate(RUN)
    same(qsim.Trace.load(trace.save(tmp_path / "trace.npz")), trace)
    assert trace.axis("seconds").tolist() == trace.frame["cumulative_seconds"].tolist()
    assert trace.plot(x="seconds").get_xlabel() == "virtual seconds"
    with pytest.raises(ValueError, match=r"no virtual time: give the run a network, such as network=qsim.Network\(\)"):
        qsim.simulate(replace(RUN, network=None)).axis("seconds")


def test_timelines() -> None:
    trace = qsim.simulate(replace(RUN, network=replace(RUN.network, timelines=(2, 4))))
    assert sorted(set(trace.schedule["round"])) == [2, 4]
    ax = trace.timeline(4)
    late = int((~np.isfinite(trace.schedule["came"][6:])).sum())
    assert late == trace.frame["dropped"][4] > 0
    (crosses,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert crosses.get_xdata().size == late
    assert not crosses.get_clip_on()  # they stand at the end of the round, where the picture ends
    spans = [bar.get_width() for container in ax.containers for bar in container]
    assert min(spans) >= 0
    assert max(bar.get_x() + bar.get_width() for container in ax.containers for bar in container) <= (
        trace.frame["seconds"][4] * (1 + 1e-12)
    )
    with pytest.raises(ValueError, match=r"round 3 was not kept \(rounds 2, 4\).*timelines=\(3,\)"):
        trace.timeline(3)


def test_timelines_of_many_workers_show_the_slowest() -> None:
    run = replace(RUN, workers=60, partition=qsim.datasets.Shuffled(), rounds=1, network=on(Timeout(0.05)))
    trace = qsim.simulate(run)
    ax = trace.timeline()
    assert ax.get_ylabel() == "worker (40 of 60)"
    assert [len(container) for container in ax.containers if container.get_label() == "compute"] == [40]  # none twice
    slowest = np.argsort(trace.schedule["encoded"])[-1]
    assert str(slowest) in [label.get_text() for label in ax.get_yticklabels()] or len(ax.get_yticks()) == 9


# What cannot work.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": Network(Ring())}, r"Ring\(\) has no server.*downlink=qsim.downlinks.Replicated\(\)"),
        (
            {"network": Network(Tree()), "compressor": qsim.QSGD(2), "downlink": Replicated()},
            r"Tree\(\) adds messages on their way, but those of qsim.QSGD.*take qsim.network.AllGather\(\)",
        ),
        ({"network": Network(Ring()), "compressor": Sign(), "downlink": Replicated()}, "no sum as short"),
        ({"network": Network(), "downlink": Replicated()}, "has a server that sends down"),
        ({"network": None, "downlink": Replicated()}, "needs a network without a server"),
        ({"network": Network(rule=Fastest(7))}, "waits for more messages than 6 workers send"),
        ({"network": Network(rule=Backup(6))}, "leaves none of 6 workers"),
    ],
)
def test_pairs_that_cannot_work_are_refused(changes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(RUN, **changes)
    with pytest.raises(TypeError, match=r"network must be None or a network such as"):
        replace(RUN, network=ParameterServer())


@pytest.mark.parametrize("compressor", [Identity(), RandK(5, "drawn"), ErrorFeedback(Scaled(RandK(5, "drawn")))])
def test_what_can_be_added_goes_through_a_ring(compressor) -> None:
    """SharedSupport places are those of worker 0 for all, so that numbers can be added."""
    run = replace(RUN, network=Network(Ring()), compressor=compressor, downlink=Replicated(), rounds=3)
    trace = qsim.simulate(run)
    assert trace.frame["bits_up"][2] == 2 * 5 * 32 * (20 if isinstance(compressor, Identity) else 5)
    if compressor == RandK(5, "drawn"):
        one = qsim.simulate(replace(run, rounds=1)).weights
        assert np.count_nonzero(one) <= 5
        assert np.count_nonzero(qsim.simulate(replace(run, rounds=1, network=None, downlink=SparseSum())).weights) > 5


def test_nothing_goes_down_to_replicas() -> None:
    """Neither in exact exchanges, nor the vectors beside the weights; the numbers are those with a server."""
    for method in (LBFGS(history=3), NewtonCG()):
        run = replace(
            RUN, method=method, compressor=Identity(), network=Network(Tree()), downlink=Replicated(), rounds=3
        )
        trace = qsim.simulate(run)
        assert (trace.frame["bits_down"] == 0).all()
        assert (trace.frame["seconds_downlink"] == 0).all()
        assert (trace.frame["bits_up"][1:] > 0).all()
        alone = qsim.simulate(replace(run, network=None, downlink=qsim.downlinks.DenseWeights()))
        assert trace.weights.tobytes() == alone.weights.tobytes()


def test_seconds_are_an_axis_of_studies() -> None:
    from qsim.study import AxisSpec, Cell, Results, Settings

    cells = [Cell(name, replace(RUN, compressor=c, seed=seed)) for name, c in (("a", Identity()), ("b", qsim.QSGD(2)))
             for seed in range(2)]  # fmt: skip
    traces = [qsim.simulate(cell.run) for cell in cells]
    results = Results(Settings("adult", 6, 12, 2), cells, traces)
    table = results.numbers(AxisSpec("seconds", ("loss",), log=False))
    rows = table[(table["curve"] == "a") & (table["axis"] == "round")]
    means = np.mean([trace.frame["cumulative_seconds"] for trace in traces[:2]], axis=0)
    np.testing.assert_allclose(rows["cumulative_seconds"], means)
    assert table.loc[table["axis"] == "seconds", "loss"].notna().all()
    assert results.reach("a", 0.69, "loss", axis="seconds").reached == 2
    alone = Results(Settings("adult", 6, 12, 1), cells[:1], [qsim.simulate(replace(RUN, network=None))])
    assert "cumulative_seconds" not in alone.numbers()


def test_replicas_compute_what_a_server_does() -> None:
    """Without a server the numbers are those of sums that go down exactly."""
    run = replace(RUN, compressor=qsim.QSGD(2), network=Network(AllGather()), downlink=Replicated())
    with_server = replace(run, network=Network(), downlink=SparseSum())
    np.testing.assert_allclose(qsim.simulate(run).weights, qsim.simulate(with_server).weights, atol=1e-6)
