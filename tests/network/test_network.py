"""Virtual time: topologies against every transfer, laws of delays, rules, the clock by hand, rehearsals."""

from __future__ import annotations

from math import erf, exp, isclose, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from oracles import delays, hashing, topologies
from qsim.keys import Purpose
from qsim.network import (
    PARTS,
    AllGather,
    Backup,
    Clock,
    Delay,
    Equal,
    Exponential,
    Fastest,
    FixedSpeeds,
    HalvingDoubling,
    Link,
    Load,
    LogNormal,
    Machines,
    Network,
    NoDelay,
    ParameterServer,
    Pareto,
    Ring,
    ShiftedExponential,
    Slow,
    Timeout,
    Tree,
    WaitForAll,
    simulate_timing,
)

pytestmark = pytest.mark.quick

KEY = qsim.Key(0)
LINK = Link(bandwidth=3e6, latency=0.01)
REDUCES = {
    Ring(): topologies.ring,
    Tree(): topologies.tree,
    HalvingDoubling(): topologies.halving_doubling,
}
CLOSED = {
    Ring(): lambda p, m, a, b: 2 * (p - 1) * a + 2 * (p - 1) / p * m * b,
    Tree(): lambda p, m, a, b: 2 * np.ceil(np.log2(p)) * (a + m * b),
    HalvingDoubling(): lambda p, m, a, b: 2 * np.log2(p) * a + 2 * (p - 1) / p * m * b,
}
a_size = st.floats(1, 1e7)


# Topologies.


@pytest.mark.parametrize("topology", REDUCES, ids=repr)
@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 7, 8, 9, 16, 21, 32])
def test_all_reduces_against_every_transfer(topology, p: int) -> None:
    """Each stage has the oracle's transfers, and the closed form is what they take."""
    m = 1234.5
    expected = REDUCES[topology](p, m)
    sizes = np.full(p, m)
    found = [
        list(zip(stage.source.tolist(), stage.target.tolist(), stage.size.tolist(), strict=True))
        for stage in topology.stages(sizes)
    ]
    assert [sorted(transfers) for transfers in found] == [sorted(transfers) for transfers in expected]
    took = topologies.seconds(expected, LINK.latency, LINK.bandwidth)
    assert topology.collect(sizes, LINK) == pytest.approx(took, rel=1e-12)
    assert sum(stage.seconds(LINK) for stage in topology.stages(sizes)) == pytest.approx(took, rel=1e-12)
    assert topology.sent(sizes) == pytest.approx(sum(size for step in expected for _, _, size in step), rel=1e-12)
    if p & (p - 1) == 0 or not isinstance(topology, HalvingDoubling):
        closed = CLOSED[topology](p, m, LINK.latency, 8 / LINK.bandwidth)
        assert took == pytest.approx(closed, rel=1e-12)


@given(st.lists(a_size, min_size=1, max_size=20))
def test_all_gather_against_every_transfer(sizes: list[float]) -> None:
    steps, given_ = topologies.all_gather(sizes), np.array(sizes)
    found = [
        list(zip(stage.source.tolist(), stage.target.tolist(), stage.size.tolist(), strict=True))
        for stage in AllGather().stages(given_)
    ]
    assert found == steps
    took = topologies.seconds(steps, LINK.latency, LINK.bandwidth)
    assert AllGather().collect(given_, LINK) == pytest.approx(took, rel=1e-12)
    closed = (len(sizes) - 1) * (LINK.latency + 8 / LINK.bandwidth * max(sizes))
    assert took == pytest.approx(closed, rel=1e-12)
    assert AllGather().sent(given_) == pytest.approx(sum(size for step in steps for _, _, size in step), rel=1e-12)


@given(st.lists(a_size, min_size=1, max_size=20), st.integers(1, 30))
def test_a_server_takes_its_busiest_link(sizes: list[float], servers: int) -> None:
    """If all are ready at once, at least A + B max(max m_i, sum m_i / S), and less than a message longer; so down."""
    given_, topology = np.array(sizes), ParameterServer(servers)
    closed = LINK.latency + 8 / LINK.bandwidth * max(max(sizes), sum(sizes) / servers)
    up = topology.arrivals(np.full(len(sizes), 2.5), given_, LINK, KEY).max() - 2.5
    for found in (up, topology.collect(given_, LINK)):
        assert closed * (1 - 1e-9) <= found <= closed + 8 / LINK.bandwidth * max(sizes) * (1 - 1 / servers) + 1e-9
    alike = LINK.seconds(-(-len(sizes) // servers) * max(sizes))
    assert topology.collect(np.full(len(sizes), max(sizes)), LINK) == pytest.approx(alike, rel=1e-12)
    assert topology.broadcast(max(sizes), sum(sizes), LINK) == pytest.approx(closed, rel=1e-12)
    (stage,) = topology.stages(given_)
    assert stage.seconds(LINK) == pytest.approx(closed, rel=1e-12)
    assert np.bincount(stage.source, stage.size, len(sizes))[: len(sizes)] == pytest.approx(given_)
    received = np.bincount(stage.target, stage.size)[len(sizes) :]
    assert received == pytest.approx(np.full(servers, sum(sizes) / servers))
    assert topology.sent(given_) == pytest.approx(stage.size.sum())


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=60), st.integers(0, 9))
def test_words_are_sorted_and_equal_ones_stay(words: list[int], seed: int) -> None:
    from qsim.kernels.link_queue import rising

    order = np.random.default_rng(seed).permutation(len(words))
    found = rising(np.array(words, np.uint64), order)
    assert found.tolist() == sorted(order.tolist(), key=lambda k: words[k])


@given(st.lists(st.floats(0, 1e308), min_size=1, max_size=40))
def test_floats_are_sorted_by_their_bits(numbers: list[float]) -> None:
    from qsim.kernels.link_queue import rising

    array = np.array(numbers)
    found = array[rising((array + 0.0).view(np.uint64), np.arange(array.size))]
    assert found.tolist() == sorted(numbers)


def test_who_is_first_of_equals_is_drawn() -> None:
    """Over 2,000 draws each of 5 workers is first 400 times, to within 6.5 standard deviations (18 each)."""
    first = np.zeros(5)
    for t in range(2000):
        came = ParameterServer().arrivals(np.zeros(5), np.full(5, 1e3), LINK, KEY.fold(t))
        assert len(set(came.tolist())) == 5
        first[came.argmin()] += 1
    assert np.abs(first - 400).max() < 6.5 * 18


@given(st.lists(a_size, min_size=1, max_size=40), st.sampled_from([*REDUCES, AllGather(), ParameterServer(3)]))
def test_every_byte_that_is_sent_is_received_once(sizes: list[float], topology) -> None:
    """Nobody sends to itself, or gets two transfers from one node at a time; all that is sent is counted once."""
    given_ = np.array(sizes) if topology in (AllGather(), ParameterServer(3)) else np.full(len(sizes), sizes[0])
    total = 0.0
    for stage in topology.stages(given_):
        assert (stage.source != stage.target).all()
        pairs = set(zip(stage.source.tolist(), stage.target.tolist(), strict=True))
        assert len(pairs) == stage.source.size == stage.size.size
        total += stage.size.sum()
    assert topology.sent(given_) == pytest.approx(total, rel=1e-12)
    if len(sizes) > 1:
        assert topology.decoded(given_) > 0


def test_what_is_added_where() -> None:
    """Bytes that the busiest node decodes: by hand."""
    sizes = np.full(6, 600.0)
    expected = {Ring(): 500, Tree(): 3 * 600, HalvingDoubling(): 600 + 450, AllGather(): 3000, ParameterServer(2): 1800}
    assert {topology: topology.decoded(sizes) for topology in expected} == expected


# Delays and machines.

LAWS = {
    Exponential(0.5): lambda x: 1 - exp(-x / 0.5),
    ShiftedExponential(0.2, 0.5): lambda x: 1 - exp(-(x - 0.2) / 0.5) if x > 0.2 else 0.0,
    Pareto(0.1, 2.5): lambda x: 1 - delays.pareto_above(0.1, 2.5, x),
    LogNormal(0.3, 0.8): lambda x: (1 + erf(log(x / 0.3) / (0.8 * sqrt(2)))) / 2,
}


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_laws_of_delays(law) -> None:
    """Quantiles invert the distribution; the mean is its integral; drawn ones follow it (Dvoretzky, Kiefer, Wolfowitz).

    The bound on the largest distance of 100,000 draws is exceeded with probability 1e-9; a scale that is 5% off is
    beyond it.
    """
    u = np.linspace(0.001, 0.999, 999)
    assert np.array([LAWS[law](x) for x in law.quantile(u).tolist()]) == pytest.approx(u, rel=1e-12, abs=1e-12)
    grid = (np.arange(10**6) + 0.5) / 10**6
    assert law.quantile(grid).mean() == pytest.approx(law.mean, rel=5e-3)
    from qsim.network.delays import uniforms

    drawn = np.sort(law.quantile(uniforms(qsim.Key(5), 100_000)))
    distance = np.abs(
        np.array([LAWS[law](x) for x in drawn.tolist()]) - np.arange(1, drawn.size + 1) / drawn.size
    ).max()
    bound = sqrt(log(2e9) / (2 * drawn.size))
    assert distance < bound + 1 / drawn.size
    off = np.abs(np.array([LAWS[law](x) for x in (1.05 * drawn).tolist()]) - np.arange(drawn.size) / drawn.size).max()
    assert off > bound


def test_delays_of_a_worker_are_its_own() -> None:
    """Against plain Python: a function of seed, round, exchange and worker, whoever else takes part."""
    network = Network(machines=Machines(per_nonzero=0.0, delay=Exponential(2.0)), timelines=(4,))
    clock = Clock(network, 6, qsim.Key(9))
    clock.begin(3)
    for who in ([0, 1, 2, 3, 4, 5], [1, 4]):
        clock.up(2, load(np.array(who)))
        for worker, found in zip(who, computed(clock), strict=True):
            word = hashing.key(9)
            for part in (int(Purpose.DELAY), 3, 2, worker):
                word = hashing.fold(word, part)
            assert found == pytest.approx(delays.exponential(2.0, delays.uniform(word)), rel=1e-12)


def load(who, nonzeros=0, entries=0, sizes=100) -> Load:
    return Load(who, *(np.full(who.size, column) if np.isscalar(column) else np.array(column)
                       for column in (nonzeros, entries, sizes)))  # fmt: skip


def computed(clock: Clock) -> list[float]:
    rows = clock.schedule[-1]
    return (rows[:, 7] - rows[:, 6]).tolist()


@pytest.mark.parametrize(
    ("topology", "sizes", "decoded"),
    [
        (ParameterServer(), [5.0, 1.0, 3.0], 9.0),
        (ParameterServer(servers=3), [5.0, 1.0, 3.0], 3.0),
        (AllGather(), [5.0, 1.0, 3.0], 8.0),  # all but its own message, by who sent the shortest
        (Ring(), [5.0, 1.0, 3.0], 5 * 2 / 3),
        (Tree(), [5.0, 1.0, 3.0], 2 * 5.0),
        (Tree(), [5.0] * 9, 4 * 5.0),
        (HalvingDoubling(), [5.0] * 8, 5 * 7 / 8),
        (HalvingDoubling(), [5.0] * 6, 5 * 3 / 4 + 5),  # two of six fold their messages into others' first
    ],
    ids=repr,
)
def test_bytes_that_the_busiest_node_decodes(topology, sizes: list[float], decoded: float) -> None:
    assert topology.decoded(np.array(sizes)) == pytest.approx(decoded)
    if not topology.has_server:
        assert topology.broadcast(9.0, 27.0, LINK) == 0.0  # nothing goes down


def test_a_share_of_slow_workers_is_rounded_to_the_nearest_number() -> None:
    for workers in range(1, 40):
        for share in (0.0, 0.07, 0.3, 0.55, 1.0):
            slow = Slow(share, 5.0).factors(workers, KEY) == 5.0
            assert abs(slow.sum() - share * workers) <= 0.5 + 1e-9


def test_slow_machines_stay_slow() -> None:
    factors = Slow(0.3, 5.0).factors(10, KEY)
    assert sorted(factors) == [1.0] * 7 + [5.0] * 3
    assert (Slow(0.3, 5.0).factors(10, KEY) == factors).all()
    assert any((Slow(0.3, 5.0).factors(10, qsim.Key(seed)) != factors).any() for seed in range(1, 9))
    assert Equal().factors(3, KEY).tolist() == [1.0] * 3
    network = Network(machines=Machines(base=1.0, speeds=FixedSpeeds((1, 2.5, 1))))
    clock = Clock(network, 3, KEY)
    for _ in range(2):
        clock.up(0, load(np.arange(3)))
        assert computed(clock) == [1.0, 2.5, 1.0]


@pytest.mark.parametrize("p", [1, 2, 10, 300])
def test_the_slowest_of_exponentials_takes_h_p(p: int) -> None:
    """The mean of the largest of p is H_p. It is a sum of exponentials E_k / k, sub-gamma with factors sum 1/k^2 and 1:

    P(|mean of R - H_p| > sqrt(2 v x / R) + x / R) <= 2 exp(-x), below 1e-9 for x = 21.5. With R = 4,000 a mean that is
    0.2 off fails.
    """
    rounds = 4000
    network = Network(Ring(), Link(latency=0.0), Machines(per_nonzero=0.0, delay=Exponential(1.0)))
    found = simulate_timing(network, sizes=0, workers=p, rounds=rounds)["seconds"].mean()
    harmonic, v = sum(1 / k for k in range(1, p + 1)), sum(1 / k**2 for k in range(1, p + 1))
    margin = sqrt(2 * v * 21.5 / rounds) + 21.5 / rounds
    assert margin < 0.2
    assert abs(found - harmonic) < margin


def test_the_fastest_of_exponentials() -> None:
    """The k-th of p takes H_p - H_(p-k) on average: as above, with v = sum of 1/j^2 over j = p - k + 1, ..., p."""
    rounds, p = 4000, 20
    for rule, k in ((Fastest(15), 15), (Backup(2), 18)):
        network = Network(Ring(), Link(latency=0.0), Machines(per_nonzero=0.0, delay=Exponential(1.0)), rule)
        frame = simulate_timing(network, sizes=0, workers=p, rounds=rounds)
        mean, v = (sum(1 / j**n for j in range(p - k + 1, p + 1)) for n in (1, 2))
        assert abs(frame["seconds"].mean() - mean) < sqrt(2 * v * 21.5 / rounds) + 21.5 / rounds < 0.1
        assert (frame["arrived"] == k).all()


def test_a_timeout_takes_the_share_that_the_law_says() -> None:
    """1 - exp(-T) of exponential times come: Hoeffding's bound on 80,000 of them is exceeded with probability 1e-9."""
    machines = Machines(per_nonzero=0.0, delay=Exponential(1.0))
    frame = simulate_timing(
        Network(Ring(), Link(latency=0.0), machines, Timeout(1.2)), sizes=0, workers=20, rounds=4000
    )
    assert abs(frame["arrived"].mean() / 20 - (1 - exp(-1.2))) < sqrt(log(2e9) / (2 * 80_000)) < 0.012
    assert (frame["seconds"] <= 1.2 * (1 + 1e-12)).all()


@qsim.option
class Alternating(Delay):
    """A law of a user's own: 1 or 3 seconds."""

    def quantile(self, u):
        return np.where(u < 0.5, 1.0, 3.0)

    @property
    def mean(self):
        return 2.0


def test_a_law_of_ones_own() -> None:
    frame = simulate_timing(Network(machines=Machines(delay=Alternating())), sizes=0, workers=1, rounds=50)
    assert set(frame["compute"]) == {1.0, 3.0}


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_law_whose_times_have_no_end_is_found() -> None:
    """Those of a user's own are in `test_own_parts.py`."""
    with pytest.raises(ValueError, match=r"delays of .*Pareto.*found inf"):
        simulate_timing(Network(machines=Machines(delay=Pareto(1.0, 1e-3))), sizes=0, workers=3, rounds=1)


# Rules.


@given(st.lists(st.floats(0.0, 9.0), min_size=1, max_size=12), st.integers(1, 12), st.floats(0.5, 9.0))
def test_rules_against_their_words(came: list[float], count: int, seconds: float) -> None:
    arrivals = np.array(came)
    assert WaitForAll().close(arrivals, KEY)[0].all()
    assert WaitForAll().close(arrivals, KEY)[1] == max(came)
    on_time, close = Timeout(seconds).close(arrivals, KEY)
    assert on_time.tolist() == [x <= seconds for x in came]
    assert close == (max(came) if all(on_time) else seconds)
    for rule, k in ((Fastest(count), min(count, len(came))), (Backup(count), max(len(came) - count, 1))):
        on_time, close = rule.close(arrivals, KEY)
        assert on_time.sum() == k
        assert close == sorted(came)[k - 1]
        assert arrivals[on_time].max() <= min([*arrivals[~on_time], 99.0])


def test_equals_are_dropped_by_lot() -> None:
    """As above: each of 5 is taken in 2/5 of 2,000 draws, 800 with a standard deviation of 22."""
    taken = sum(Fastest(2).close(np.zeros(5), KEY.fold(t))[0].astype(int) for t in range(2000))
    assert np.abs(taken - 800).max() < 6.5 * 22


# The clock.


def test_a_round_by_hand() -> None:
    """Three workers and a server of 1 MB a second: two messages queue, the third is late."""
    machines = Machines(
        base=1.0, per_nonzero=0.1, speeds=FixedSpeeds((1, 1, 4)), encode_per_entry=0.01, decode_per_byte=1e-7
    )
    network = Network(ParameterServer(), Link(bandwidth=8e6, latency=0.5), machines, Timeout(5.5))
    clock = Clock(network, 3, KEY)
    clock.down(1e6, 3e6)
    assert clock.times["downlink"] == 3.5
    on_time = clock.up(
        0, Load(np.arange(3), np.array([0, 5, 0]), np.array([20, 0, 50]), np.array([10**6, 10**6, 10**6]))
    )
    # ready at 1.2, 1.5, 6; through the server's link at 2.2, 3.2, 7; there at 2.7, 3.7, 7.5
    assert on_time.tolist() == [True, True, False]
    expected = {"downlink": 3.5, "compute": 1.25, "encode": 0.0, "uplink": 2.2, "decode": 0.2, "wait": 0.25 + 1.8}
    assert clock.times == pytest.approx(expected, rel=1e-12)
    assert clock.now == pytest.approx(3.5 + 5.5 + 0.2)
    assert clock.dropped == 1
    rows = clock.timelines()
    assert rows["began"].tolist() == [3.5] * 3
    assert rows["computed"] == pytest.approx([4.5, 5.0, 7.5])
    assert rows["encoded"] == pytest.approx([4.7, 5.0, 9.5])
    assert rows["came"] == pytest.approx([6.2, 7.2, np.inf])
    assert rows["end"] == pytest.approx([9.2] * 3)
    assert clock.up(1, load(np.arange(3), entries=50), exact=True).all()  # the third takes 4 s and is waited for
    rows = clock.timelines()
    assert (rows["encoded"] == rows["computed"])[3:].all()  # vectors as they are: nothing is encoded


def test_a_collective_begins_when_the_last_is_ready() -> None:
    """Who is late adds nothing, but is in it: it gets the sum, too."""
    machines = Machines(base=1.0, per_nonzero=0.0, speeds=FixedSpeeds((1, 2, 9)), decode_per_byte=1e-3)
    for topology in (Ring(), AllGather()):
        clock = Clock(Network(topology, LINK, machines, Fastest(2)), 3, KEY)
        assert clock.up(0, load(np.arange(3), sizes=1000)).tolist() == [True, True, False]
        three = np.full(3, 1000.0) if topology == Ring() else np.array([1000.0, 1000.0, 0.0])
        uplink, decode = topology.collect(three, LINK), 1e-3 * topology.decoded(three)
        expected = dict.fromkeys(PARTS, 0.0) | {"compute": 1.5, "wait": 0.5, "uplink": uplink, "decode": decode}
        assert clock.times == pytest.approx(expected, rel=1e-12)
        rows = clock.timelines()
        assert rows["came"] == pytest.approx([2 + uplink, 2 + uplink, np.inf])
        assert rows["encoded"].tolist() == [1.0, 2.0, 9.0]


def test_whole_numbers_of_seconds() -> None:
    """Options may be whole numbers, and a zero; what is recorded is not changed by the clock."""
    machines = Machines(base=1, per_nonzero=0, speeds=FixedSpeeds((1, 2)), encode_per_entry=2)
    work, clock = load(np.arange(2), nonzeros=[3, 4], entries=[1, 5]), Clock(Network(Ring(), machines=machines), 2, KEY)
    for _ in range(2):
        clock.up(0, work)
        assert computed(clock) == [1.0, 2.0]
        assert (clock.schedule[-1][:, 8] - clock.schedule[-1][:, 7]).tolist() == pytest.approx([2.0, 20.0])
    assert (work.nonzeros.tolist(), work.entries.tolist()) == ([3, 4], [1, 5])


def test_nobody_comes() -> None:
    clock = Clock(Network(machines=Machines(base=2.0), rule=Timeout(1.5)), 4, KEY)
    assert not clock.up(0, load(np.arange(4))).any()
    assert clock.times == dict.fromkeys(PARTS, 0.0) | {"wait": 1.5}
    assert clock.dropped == 4


@given(
    st.lists(st.tuples(st.integers(0, 9**6), st.integers(0, 9**6), st.integers(0, 10**7)), min_size=1, max_size=12),
    st.sampled_from([WaitForAll(), Timeout(0.3), Timeout(3.0), Fastest(1), Fastest(3), Backup(2)]),
    st.sampled_from([Ring(), AllGather(), ParameterServer(), ParameterServer(4)]),
    st.integers(0, 99),
)
def test_parts_sum_to_the_round_and_none_is_negative(work, rule, topology, seed: int) -> None:
    nonzeros, entries, sizes = (np.array(column) for column in zip(*work, strict=True))
    machines = Machines(0.01, 1e-6, Exponential(0.5), Slow(0.2, 3.0), 1e-6, 1e-8)
    clock = Clock(Network(topology, LINK, machines, rule), len(work), qsim.Key(seed))
    on_time = clock.up(0, Load(np.arange(len(work)), nonzeros, entries, sizes))
    assert all(part >= 0 for part in clock.times.values())
    rows = clock.timelines()
    last = rows["came"][on_time].max() if on_time.any() else 0.0
    if topology.has_server:
        closed = rule.seconds if isinstance(rule, Timeout) and not on_time.all() else last
        decode = machines.decode_per_byte * topology.decoded(sizes[on_time].astype(float))
        assert isclose(clock.now, closed + decode, rel_tol=1e-12)
    assert (rows["end"] == clock.now).all()


# Options and rehearsals.


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Link(bandwidth=0), "bandwidth must be a finite number above 0, found 0"),
        (lambda: Link(latency=-1), "latency must be a finite number of at least 0, found -1"),
        (lambda: ParameterServer(0), "servers must be a whole number of at least 1, found 0"),
        (lambda: Timeout(0), "seconds must be a finite number above 0"),
        (lambda: Fastest(0), "count must be a whole number"),
        (lambda: Backup(0), "count must be a whole number"),
        (lambda: Fastest(9).require(8), r"Fastest\(count=9\) waits for more messages than 8 workers send"),
        (lambda: Backup(8).require(8), "leaves none of 8 workers; take a count of at most 7"),
        (lambda: Exponential(0), "scale must be"),
        (lambda: ShiftedExponential(-1, 1), "least must be"),
        (lambda: Pareto(1, 0), "shape must be"),
        (lambda: LogNormal(1, -1), "sigma must be"),
        (lambda: Slow(1.5, 2), "share must be at most 1, found 1.5"),
        (lambda: Slow(0.5, 0), "factor must be"),
        (lambda: FixedSpeeds((1, 0)), r"values\[1\] must be"),
        (lambda: FixedSpeeds((1, 2)).factors(3, KEY), "2 factors are given for 3 workers"),
        (lambda: Machines(per_nonzero=-1), "per_nonzero must be"),
        (lambda: Network(timelines=(0,)), r"timelines\[0\] must be"),
        (lambda: FixedSpeeds(3), "values must be a tuple of numbers, found 3"),
        (lambda: Network(timelines=3), "timelines must be a tuple of whole numbers, found 3"),
        (
            lambda: simulate_timing(Network(), sizes=[1, 2], nonzeros=[1, 2, 3], workers=2, rounds=1),
            "columns of one length",
        ),
        (lambda: simulate_timing(Network(), sizes=[], workers=2, rounds=1), "columns of one length"),
        (
            lambda: simulate_timing(Network(), sizes=[3, -1], workers=2, rounds=1),
            r"sizes must be .* at least 0, found -1.0",
        ),
        (lambda: simulate_timing(Network(), sizes=[3, np.nan], workers=2, rounds=1), "sizes must be .*, found nan"),
        (
            lambda: simulate_timing(Network(), sizes=1, nonzeros=np.inf, workers=2, rounds=1),
            "nonzeros must be .*, found inf",
        ),
        (lambda: simulate_timing(Network(), sizes="a", workers=2, rounds=1), "sizes must be numbers, found 'a'"),
        (lambda: simulate_timing(Network(), sizes=1, down=-1, workers=2, rounds=1), "down must be a finite number"),
        (
            lambda: simulate_timing(Network(Ring()), sizes=1, down=9, workers=2, rounds=1),
            r"Ring\(\) has no server .*down=0",
        ),
        (lambda: simulate_timing(Network(Tree()), sizes=[1, 2], workers=2, rounds=1), "all of one size, found 1 to 2"),
        (lambda: simulate_timing(Network(), sizes=1, workers=0, rounds=1), "workers must be"),
    ],
)
def test_what_makes_no_sense_is_refused(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_networks_print_as_code() -> None:
    for delay in (NoDelay(), *LAWS):
        for topology in (*REDUCES, AllGather(), ParameterServer(3)):
            machines = Machines(delay=delay, speeds=Slow(0.1, 2.0))
            network = Network(topology, Link(1e8, 0.0), machines, Backup(1), (1, 5))
            assert eval(repr(network)) == network
