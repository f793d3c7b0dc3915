"""What is sent is what is counted and what takes time: every byte, headers included; and when messages come."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from oracles import link_queue, topologies
from qsim.batch import Vectors
from qsim.clients import AllClients, SampledClients
from qsim.compressors import Identity, RandK, Scaled, Sign, TopK
from qsim.datasets import ByLabel, Synthetic
from qsim.downlinks import CompressedWeights, DenseWeights, Replicated, SignSum, SparsePull, SparseSum
from qsim.methods import EF21, LBFGS, MARINA, SGD, GradientDescent, NewtonCG, SignSGD
from qsim.network import (
    AllGather,
    Backup,
    Clock,
    Exponential,
    Fastest,
    HalvingDoubling,
    Link,
    Load,
    Machines,
    Network,
    ParameterServer,
    Ring,
    Slow,
    Timeout,
    Tree,
    WaitForAll,
)
from qsim.steps import Constant, InverseSqrt
from qsim.workers.tasks import CoordinateRequest

pytestmark = pytest.mark.usefixtures("through_the_exchange")  # where these tests look on

PLAIN = Constant(0.5)
RANDOM = Machines(base=1e-3, per_nonzero=1e-5, delay=Exponential(0.01), speeds=Slow(0.3, 2.0))
RUN = qsim.Run(
    Synthetic(rows=120, features=20, nonzeros_per_row=5, noise=0.2, seed=3),
    qsim.LogisticRegression(l2=0.1),
    SGD(PLAIN, 3),
    qsim.QSGD(2),
    workers=6,
    partition=ByLabel(),
    rounds=5,
    optimum=False,
)  # fmt: skip
CLIENTS = [AllClients(), SampledClients(3)]
RULES = [WaitForAll(), Timeout(0.01), Fastest(2)]


# When messages come.


def test_two_servers_and_late_workers() -> None:
    """S = 2, ready at (0, 2, 2) s, 4, 2 and 2 MB at 1 MB/s: 5 s are needed at least; in order they come at 4, 4, 6."""
    came = ParameterServer(2).arrivals(
        np.array([0.0, 2.0, 2.0]), np.array([4e6, 2e6, 2e6]), Link(8e6, 0.0), qsim.Key(0)
    )
    assert sorted(came.tolist()) == pytest.approx([4, 4, 6])


messages = st.lists(
    st.tuples(st.floats(0, 50), st.floats(1, 1e7)), min_size=1, max_size=16, unique_by=lambda message: message[0]
)
links = st.builds(Link, bandwidth=st.floats(1e4, 1e8), latency=st.floats(0, 3))


@given(messages, st.integers(1, 9), links)
def test_arrivals_at_servers_are_those_of_every_link(sent: list[tuple[float, float]], servers: int, link: Link) -> None:
    ready, sizes = map(list, zip(*sent, strict=True))
    expected = link_queue.server(ready, sizes, servers, link.latency, link.bandwidth)
    found = ParameterServer(servers).arrivals(np.array(ready), np.array(sizes), link, qsim.Key(0))
    assert found == pytest.approx(np.array(expected), rel=1e-9)


@given(messages, st.sampled_from([Ring(), Tree(), HalvingDoubling(), AllGather()]), links, st.sampled_from(
    [WaitForAll(), Fastest(1), Fastest(3), Backup(2), Timeout(20.0)]))  # fmt: skip
def test_collectives_are_those_of_every_transfer(sent, topology, link: Link, rule) -> None:
    """A collective begins when the rule says, whoever is ready when, and ends with the last transfer of all."""
    p = len(sent)
    ready, sizes = np.array(sent).T
    if topology.sums_in_flight:
        sizes[:] = sizes[0]
    sizes = np.round(sizes)
    machines = Machines(base=0.0, per_nonzero=1.0)
    clock = Clock(Network(topology, link, machines, rule), p, qsim.Key(0))
    on_time = clock.up(0, Load(np.arange(p), ready, np.zeros(p), sizes))
    if not on_time.any():
        assert clock.now == rule.seconds
        return
    begin = rule.seconds if isinstance(rule, Timeout) and not on_time.all() else ready[on_time].max()
    if topology == AllGather():
        steps = topologies.all_gather(np.where(on_time, sizes, 0.0).tolist())
    else:
        makes = {Ring(): "ring", Tree(): "tree", HalvingDoubling(): "halving_doubling"}
        steps = getattr(topologies, makes[topology])(p, sizes[0])
    ends = topologies.collective(steps, begin, p, link.latency, link.bandwidth)
    assert clock.now == pytest.approx(begin + topologies.seconds(steps, link.latency, link.bandwidth), rel=1e-9)
    assert ends <= clock.now * (1 + 1e-9)
    if topology != Tree() or p & (p - 1) == 0:  # in another tree a machine may send in its step without waiting for it
        assert clock.now == pytest.approx(ends, rel=1e-9)


# What is counted takes time.


def check(run: qsim.Run, monkeypatch) -> None:
    """After every round, 8 times the bytes that went over links by the clock are the bits of the trace."""
    went, after = [0.0], []
    with monkeypatch.context() as patch:

        def spy(kind: type, name: str, count) -> None:
            real = getattr(kind, name)

            def spying(self, *arguments):
                went.append(count(self, *arguments))
                return real(self, *arguments)

            patch.setattr(kind, name, spying)

        spy(ParameterServer, "arrivals", lambda self, ready, sizes, link, ties: sizes.sum())
        spy(ParameterServer, "broadcast", lambda self, each, total, link: total)
        for kind in (AllGather, Ring, Tree, HalvingDoubling):
            spy(kind, "collect", lambda self, sizes, link: self.sent(sizes))
        trace = qsim.simulate(run, after_round=lambda done: after.append(8 * sum(went)))
    bits = trace.frame["cumulative_bits_up"] + trace.frame["cumulative_bits_down"]
    assert bits[1:].tolist() == np.round(after).tolist()
    assert after[-1] > 0


def network(topology, rule) -> Network:
    return Network(topology, machines=RANDOM, rule=rule)


DOWNLINKS = [
    DenseWeights(),
    DenseWeights("float64"),
    SparsePull(),
    CompressedWeights(TopK(3)),
    CompressedWeights(Scaled(qsim.QSGD(2))),
    SparseSum(),
]
SPECIAL = [
    {"method": LBFGS(), "compressor": Identity()},
    {"method": NewtonCG(), "compressor": Identity()},
    {"method": LBFGS(gradients="compressed")},
    {"method": NewtonCG(gradients="compressed", products=4), "downlink": SparsePull()},
    {"method": NewtonCG(gradients="compressed", products=4), "downlink": CompressedWeights(TopK(3))},
    {"method": LBFGS(gradients="compressed"), "downlink": SparseSum()},
    {"method": MARINA(PLAIN, p=0.5)},
    {"method": EF21(PLAIN), "compressor": TopK(3), "clients": SampledClients(2)},
    {"method": SignSGD(InverseSqrt(0.1)), "compressor": Sign(), "downlink": SignSum(), "clients": SampledClients(2)},
]


@pytest.mark.parametrize("downlink", DOWNLINKS, ids=repr)
@pytest.mark.parametrize("servers", [1, 3])
def test_bits_are_those_that_take_time_with_servers(downlink, servers: int, monkeypatch) -> None:
    for clients, rule in product(CLIENTS, RULES):
        check(
            replace(RUN, downlink=downlink, clients=clients, network=network(ParameterServer(servers), rule)),
            monkeypatch,
        )


@pytest.mark.parametrize("changes", SPECIAL, ids=repr)
def test_bits_are_those_that_take_time_by_every_method(changes, monkeypatch) -> None:
    for rule in RULES:
        check(replace(RUN, network=network(ParameterServer(), rule), **changes), monkeypatch)


@pytest.mark.parametrize("topology", [AllGather(), Ring(), Tree(), HalvingDoubling()], ids=repr)
@pytest.mark.parametrize("compressor", [Identity(), RandK(4, "drawn"), qsim.QSGD(2)], ids=repr)
def test_bits_are_those_that_take_time_without_a_server(topology, compressor, monkeypatch) -> None:
    if compressor == qsim.QSGD(2) and topology != AllGather():
        return
    for clients, rule in product([*CLIENTS, SampledClients(1)], RULES):
        changes = {"clients": clients, "network": network(topology, rule), "downlink": Replicated()}
        check(replace(RUN, compressor=compressor, **changes), monkeypatch)


# Headers.


@pytest.mark.parametrize(("clients", "rule"), [(SampledClients(1), WaitForAll()), (AllClients(), Fastest(1))], ids=repr)
@pytest.mark.parametrize("topology", [AllGather(), Ring(), Tree(), HalvingDoubling()], ids=repr)
def test_everyone_gets_the_sum_without_a_server(topology, clients, rule) -> None:
    """All keep weights of their own, so one message must reach the five others: bits and seconds by the formulas.

    A worker's header goes the same ways with its first message; an all-reduce is one stream, opened in round 1.
    """
    link = Link(1e6, 0.003)
    network = Network(topology, link, rule=rule, timelines=(1, 2, 3, 4, 5))
    changes = {"clients": clients, "network": network, "downlink": Replicated()}
    trace = qsim.simulate(replace(RUN, method=GradientDescent(PLAIN), compressor=Identity(), **changes))
    who = trace.schedule["worker"][np.isfinite(trace.schedule["came"])].tolist()
    assert len(who) == 5
    for t in range(5):
        new = t == 0 or (topology == AllGather() and who[t] not in who[:t])
        one = np.array([80.0 + 4 * new, 0, 0, 0, 0, 0])  # the header: version, codec, kind, n
        assert trace.frame["bits_up"][t + 1] == 8 * topology.sent(one)
        np.testing.assert_allclose(trace.frame["seconds_uplink"][t + 1], topology.collect(one, link), rtol=1e-12)
    assert topology.sent(one) >= 5 * 80


@pytest.mark.parametrize("timed", [False, True])
def test_headers_go_with_a_workers_first_packet_and_the_sum_goes_to_all(timed: bool, monkeypatch) -> None:
    """By hand: of 2 of 6 workers a round, up a header for each that is new, down the sum and one header for all six."""
    sums = []
    aggregate = SparseSum.aggregate

    def listening(self, *arguments):
        total, sent = aggregate(self, *arguments)
        sums.append(sent.bits)
        return total, sent

    monkeypatch.setattr(SparseSum, "aggregate", listening)
    clients = SampledClients(2)
    run = replace(RUN, compressor=Identity(), clients=clients, downlink=SparseSum(), rounds=8)
    trace = qsim.simulate(replace(run, network=Network() if timed else None))
    key, known, up, down = qsim.Key(0), np.zeros(6, bool), [0], [0]
    for t in range(8):
        here = clients.draw(key.fold(qsim.keys.Purpose.CLIENTS, t), 6)
        up.append(2 * 32 * 20 + 8 * 4 * int((here & ~known).sum()))
        down.append(6 * (sums[t] + 8 * 4 * (t == 0)))
        known |= here
    assert trace.frame["bits_up"].tolist() == up
    assert trace.frame["bits_down"].tolist() == down


def test_every_trip_down_has_its_key(monkeypatch) -> None:
    """Weights and sums of every exchange and round; a downlink that draws for both must not draw the same."""
    keys = []
    for name in ("weights", "aggregate"):
        real = getattr(DenseWeights, name)

        def listening(self, *arguments, real=real):
            keys.append(arguments[-1])
            return real(self, *arguments)

        monkeypatch.setattr(DenseWeights, name, listening)
    qsim.simulate(replace(RUN, rounds=3))
    assert len(keys) == len(set(keys)) == 6


def test_a_header_that_changes_is_refused() -> None:
    """It is sent once; a level count that varies from message to message would be sent for nothing."""

    @qsim.option
    class Adaptive(qsim.compressors.Compressor):
        emits = qsim.batch.Levels

        def quantize(self, v, key):
            s = 1 + key.word % 7
            return qsim.batch.Levels.single(np.sign(v), scale=float(np.abs(v).max()), s=int(s))

    one = replace(RUN, compressor=Adaptive(), workers=1)
    with pytest.raises(ValueError, match="was opened with the header .* cannot be in the header"):
        qsim.simulate(one, engine=qsim.engines.Serial())
    with pytest.raises(ValueError, match="those before with"):
        qsim.simulate(replace(one, workers=6), engine=qsim.engines.Serial(block=1))


# Requests, and who is the busiest.


def test_the_busiest_worker_decides_how_long_answers_take() -> None:
    """With a server for each worker: the most that one of them asks for, and gets; headers in the first round."""
    link = Link(8e6, 0.0)
    run = replace(RUN, downlink=SparsePull(), partition=qsim.datasets.Dirichlet(0.3), method=GradientDescent(PLAIN))
    trace = qsim.simulate(replace(run, network=Network(ParameterServer(6), link)))
    dense = qsim.simulate(replace(run, downlink=DenseWeights(), network=Network(ParameterServer(6), link)))
    shards = run.problem().shards
    counts = np.diff(shards.support_offsets)
    assert counts.min() < counts.max()
    np.testing.assert_allclose(trace.frame["seconds_downlink"][2:], 4 * counts.max() / 1e6, rtol=1e-9)
    extra = (trace.frame["seconds_uplink"] - dense.frame["seconds_uplink"])[2:]
    np.testing.assert_allclose(extra, counts.max() / 1e6, rtol=1e-9)  # a byte for each coordinate that is asked for


def test_who_decodes_the_most_in_an_all_gather() -> None:
    """The worker with the shortest message of its own: all others'."""
    assert AllGather().decoded(np.array([5.0, 1.0, 3.0])) == 8


def test_a_share_of_slow_machines_is_rounded_to_the_nearest_number() -> None:
    slow = {share: int((Slow(share, 2.0).factors(9, qsim.Key(0)) == 2.0).sum()) for share in (0.0, 0.3, 0.35, 0.5, 1.0)}
    assert slow == {0.0: 0, 0.3: 3, 0.35: 3, 0.5: 4, 1.0: 9}


def test_exact_exchanges_take_no_time_to_encode() -> None:
    clock = Clock(Network(machines=Machines(encode_per_entry=1.0)), 2, qsim.Key(0))
    work = Load(np.arange(2), *(np.full(2, number) for number in (3, 7, 100)))
    clock.up(0, work, exact=True)
    assert clock.times["encode"] == 0.0
    clock.up(1, work)
    assert clock.times["encode"] == 7.0


# Weights that workers hold.


@qsim.option
class Twice(SGD.__base__):
    """Exchanges twice at one w, and then at changed weights."""

    step: Constant = PLAIN
    momentum: None = None
    spoil: bool = False

    def work(self, task, objective, block, memory) -> Vectors:
        return objective.update(block, block.all_rows(), task.weights, 0.5)

    def round(self, w, state, exchange) -> None:
        first = exchange("a", w).vector
        if self.spoil:
            w.vector[0] += 1.0
        exchange("b", w)
        w.subtract(first)
        exchange("c", w)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_that_are_held_are_not_sent_again(dtype) -> None:
    """Two of three exchanges of round 1 send them, and one later: the third of the round before left w as it is."""
    plain, spoilt = (
        qsim.simulate(replace(RUN, method=Twice(spoil=spoil), downlink=DenseWeights(dtype))) for spoil in (False, True)
    )
    all_of_them = 6 * 20 * int(dtype[-2:])
    assert plain.frame["bits_down"].tolist() == [0, 2 * all_of_them + 6 * 32, *[all_of_them] * 4]
    assert spoilt.frame["bits_down"].tolist() == [0, 3 * all_of_them + 6 * 32, *[2 * all_of_them] * 4]


def test_who_sat_out_does_not_hold_the_weights() -> None:
    clients = SampledClients(2)
    trace = qsim.simulate(replace(RUN, method=Twice(), clients=clients, rounds=8))
    here = [clients.draw(qsim.Key(0).fold(qsim.keys.Purpose.CLIENTS, t), 6) for t in range(8)]
    known = np.zeros(6, bool)
    for t in range(8):
        lacking = 2 if t == 0 else int((here[t] & ~here[t - 1]).sum())
        headers = int((here[t] & ~known).sum())
        known |= here[t]
        assert trace.frame["bits_down"][t + 1] == (lacking + 2) * 20 * 32 + headers * 32


@pytest.mark.parametrize("downlink", [DenseWeights(), SparsePull(), CompressedWeights(TopK(5)), SparseSum()], ids=repr)
@pytest.mark.parametrize(
    ("method", "compressor"),
    [
        (LBFGS(), Identity()),
        (NewtonCG(), Identity()),
        (LBFGS(gradients="compressed"), qsim.QSGD(8)),
        (NewtonCG(gradients="compressed", products=5), qsim.QSGD(8)),
    ],
    ids=repr,
)
def test_second_order_sends_weights_for_trials_only(method, compressor, downlink, tmp_path) -> None:
    """Down go 64 n bits a trial (and for the first loss), and the directions; the same on processes and resumed."""
    run = replace(RUN, method=method, compressor=compressor, downlink=downlink, rounds=6, evaluate_every=2)
    tasks = []

    class Counting(qsim.engines.Serial):
        def open(self, job):
            session = super().open(job)
            work = session.round
            session.round = lambda order: (
                tasks.append((order.round, order.task, isinstance(order, CoordinateRequest))),
                work(order),
            )[1]
            return session

    trace = qsim.simulate(run, engine=Counting())
    assert not any(pull for _, _, pull in tasks)
    if not isinstance(downlink, SparseSum):
        for t in range(1, 6):
            losses, products = (sum(r == t and name == task for r, task, _ in tasks) for name in ("loss", "curvature"))
            width = 64 if method.gradients == "exact" else 32
            headers = trace.frame["bits_down"][t + 1] - 6 * 20 * (64 * losses + width * products)
            gradients = sum(r == t and task == "gradient" for r, task, _ in tasks)
            assert headers == 0 or gradients == 0 or t == 1, "no step helped in the round before"

    class StopError(Exception):
        pass

    def stop(done: int) -> None:
        if done == 3:
            raise StopError

    path = tmp_path / "run.npz"
    with pytest.raises(StopError):
        qsim.simulate(run, checkpoint=path, every=1, after_round=stop)
    assert qsim.simulate(run, checkpoint=path).frame.equals(trace.frame)
    if isinstance(method, NewtonCG) and downlink == DenseWeights():
        assert qsim.simulate(run, engine=qsim.engines.Processes(2)).frame.equals(trace.frame)
