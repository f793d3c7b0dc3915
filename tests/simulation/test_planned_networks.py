"""Planned rounds with a network: the same times, drops and numbers as through the exchange."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from helpers.planned import differences, small
from qsim.clients import AllClients, SampledClients
from qsim.downlinks import CompressedWeights, DenseWeights, SparseSum
from qsim.methods import SGD, HeavyBall, Passes
from qsim.network import (
    AllGather,
    Backup,
    Exponential,
    Fastest,
    Link,
    LogNormal,
    Machines,
    ParameterServer,
    Pareto,
    ShiftedExponential,
    Slow,
    Timeout,
)  # fmt: skip

LINK = Link(bandwidth=1e6, latency=1e-3)
MACHINES = Machines(1e-3, 1e-6, Exponential(0.01), Slow(0.3, 3.0), encode_per_entry=1e-6, decode_per_byte=1e-7)
NETWORKS = [
    qsim.Network(link=LINK),
    qsim.Network(link=LINK, rule=Fastest(2)),  # all are ready at once, so that lots decide
    qsim.Network(link=LINK, machines=MACHINES),
    qsim.Network(link=LINK, machines=MACHINES, rule=Timeout(0.02)),
    qsim.Network(ParameterServer(2), LINK, replace(MACHINES, delay=Pareto(1e-3, 1.5)), rule=Backup(1)),
    qsim.Network(link=LINK, machines=replace(MACHINES, delay=LogNormal(0.01, 1.0)), rule=Timeout(0.03), timelines=(9,)),
    qsim.Network(link=LINK, machines=replace(MACHINES, delay=ShiftedExponential(0.01, 0.01)), rule=Fastest(1)),
]
METHODS = [
    SGD(0.3, batch=1),
    SGD(0.3, batch=2, sampling=Passes(), momentum=HeavyBall(0.5)),
    qsim.DIANA(0.1, shift=0.3, batch=2),
    qsim.EF21(0.1),
    qsim.EF21(0.1, batch=3, momentum=0.4),
    qsim.methods.MARINA(0.1, p=0.1),
]
LEAST = qsim.objectives.LeastSquares(l2=0.02)
DOWNLINKS = [DenseWeights(), SparseSum(), CompressedWeights(qsim.TopK(5))]


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_times_and_drops_are_those_of_the_clock(
    method: qsim.methods.Method, network: qsim.Network, count: list[int]
) -> None:
    """With sampled clients too, and with rules that end the run in the middle of what is run at once."""
    wrong = []
    compressors = {qsim.EF21: (qsim.TopK(3),), qsim.methods.MARINA: (qsim.QSGD(4), qsim.RandK(3))}
    for compressor in compressors.get(type(method), (qsim.ErrorFeedback(qsim.TopK(3)), qsim.QSGD(4))):
        for number, clients in enumerate((AllClients(), SampledClients(3))):
            run = qsim.Run(
                small(True),
                qsim.LogisticRegression(l2=0.02),
                method,
                compressor,
                workers=5,
                rounds=60,
                clients=clients,
                network=network,
                downlink=DOWNLINKS[(METHODS.index(method) + NETWORKS.index(network) + number) % 3],
                until=qsim.stopping.Seconds(0.5) if number else None,
                evaluate_every=25,
                optimum=False,
            )
            wrong += differences(run)
    assert not wrong
    assert sum(count) > 20


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_rounds_in_which_nothing_arrives_are_done_once(method: qsim.methods.Method, count: list[int]) -> None:
    """The exchange does them, from what was there before."""
    run = qsim.Run(
        small(True), qsim.LogisticRegression(l2=0.02), method, qsim.Identity(), workers=2, rounds=60, optimum=False,
        network=qsim.Network(machines=Machines(delay=Exponential(0.01)), rule=Timeout(0.008)),
    )  # fmt: skip
    assert not differences(run)
    dropped = qsim.simulate(run).frame["dropped"]
    assert (dropped == 2).sum() > 5
    assert sum(count) > 20


@pytest.mark.parametrize("servers", [1, 3, 9])
def test_a_packet_to_all_takes_as_long_as_the_busiest_link(servers: int, count: list[int]) -> None:
    """Which is a worker's own where there are more servers than workers."""
    run = qsim.Run(
        small(True), qsim.LogisticRegression(l2=0.02), METHODS[0], qsim.TopK(3), workers=5, rounds=9,
        network=qsim.Network(ParameterServer(servers), LINK, timelines=()), downlink=DOWNLINKS[2], optimum=False,
    )  # fmt: skip
    assert not differences(run)
    assert sum(count) == 8


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, 128, 129, 136, 1000, 4097])
def test_sums_are_added_in_the_order_of_numpy(size: int) -> None:
    from qsim.kernels.participation import pairwise_sum

    rng = np.random.default_rng(size)
    for _ in range(20):
        x = rng.normal(size=size) * 10.0 ** rng.integers(-8, 8, size)
        assert pairwise_sum(x) == x.sum()


def test_weights_of_those_who_arrive_sum_to_one() -> None:
    """Of all, weights are as they are, though their sum is one only up to rounding: as the server has it."""
    from qsim.kernels.participation import weights_of

    of_workers, weights = np.full(6, 1 / 6), np.empty(6)
    assert of_workers.sum() != 1.0
    assert weights_of(of_workers, np.ones(6, bool), weights) == 1.0
    assert weights.tolist() == of_workers.tolist()
    some = np.arange(6) % 3 > 0
    assert weights_of(of_workers, some, weights) == of_workers[some].sum()
    assert weights.tolist() == np.where(some, of_workers / of_workers[some].sum(), 0.0).tolist()


def test_a_message_in_the_last_instant_is_on_time() -> None:
    from qsim.kernels.clock import take_until

    arrivals, on_time = np.array([0.5, 1.5, 1.0]), np.zeros(3, bool)
    for seconds in (1.0, 1.5, 0.1):
        right, end = Timeout(seconds).close(arrivals, qsim.Key(0))
        assert take_until(arrivals, seconds, on_time) == end
        assert on_time.tolist() == right.tolist() == (arrivals <= seconds).tolist()


def test_other_networks_go_through_the_exchange(count: list[int]) -> None:
    @qsim.option
    class Late(qsim.network.Timeout):
        def close(self, arrivals, ties):
            return super().close(arrivals / 2, ties)

    @qsim.option
    class Double(Exponential):
        def quantile(self, u):
            return 2 * super().quantile(u)

    gathered = qsim.Network(AllGather(), LINK)
    for network in (
        gathered,
        qsim.Network(link=LINK, rule=Late(0.02)),
        qsim.Network(link=LINK, machines=replace(MACHINES, delay=Double(0.01))),
    ):
        run = qsim.Run(
            small(True),
            qsim.LogisticRegression(l2=0.02),
            METHODS[0],
            qsim.TopK(3),
            workers=5,
            rounds=6,
            network=network,
            downlink=qsim.downlinks.Replicated() if network is gathered else DenseWeights(),
            optimum=False,
        )
        assert not differences(run)
    assert count == []


@settings(max_examples=40)
@given(
    method=st.sampled_from(METHODS),
    compressor=st.sampled_from(
        [qsim.QSGD(4), qsim.TopK(3), qsim.RandK(3, "drawn"), qsim.Identity(), qsim.compressors.Sign(),
         qsim.ErrorFeedback(qsim.TopK(2)), qsim.ErrorFeedback(qsim.compressors.ScaledSign())]
    ),
    codec=st.sampled_from([None, qsim.codecs.Varint(), qsim.codecs.RANS(), qsim.codecs.Auto(), qsim.codecs.Dense()]),
    downlink=st.sampled_from([*DOWNLINKS, qsim.downlinks.SparsePull()]),
    network=st.sampled_from([None, *NETWORKS]),
    clients=st.sampled_from([AllClients(), SampledClients(2)]),
    objective=st.sampled_from([qsim.LogisticRegression(0.02), qsim.LogisticRegression(0.0, intercept=True), LEAST]),
    partition=st.sampled_from([qsim.datasets.Shuffled(), qsim.datasets.ByLabel(), qsim.datasets.Dirichlet(0.1)]),
    workers=st.sampled_from([2, 5, 30]),
    values=st.booleans(),
    until=st.sampled_from([None, qsim.stopping.Bits(60_000), qsim.stopping.GradientNorm(0.3), qsim.stopping.Passes(4)]),
    weighting=st.sampled_from(["rows", "workers"]),
    seed=st.integers(0, 3),
)  # fmt: skip
def test_parts_of_all_kinds_together(values: bool, **parts: Any) -> None:
    """Any combination that is not refused, drawn anew in every run of the tests: more workers than rows among them."""
    try:
        run = qsim.Run(small(values), rounds=25, evaluate_every=4, optimum=False, **parts)
    except (ValueError, TypeError):
        return
    assert not differences(run)


def test_a_header_of_sums_that_comes_late_is_counted() -> None:
    """The two fastest have no rows in the first rounds, so that nothing goes down until another is among them."""
    run = qsim.Run(
        small(False),
        qsim.LogisticRegression(l2=0.02),
        qsim.SGD(0.3),
        qsim.QSGD(4),
        downlink=qsim.downlinks.SparseSum(),
        network=qsim.Network(qsim.network.ParameterServer(), link=qsim.network.Link(1e6, 0.001), rule=Fastest(2)),
        partition=qsim.datasets.Dirichlet(0.1),
        workers=5,
        rounds=25,
        evaluate_every=4,
        optimum=False,
    )
    assert qsim.simulate(run).frame["bits_down"].iloc[1] == 0
    assert differences(run) == []
