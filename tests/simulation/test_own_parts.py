"""What a user's own parts of a run return: taken if it is sound, else refused by name before it is used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import qsim
from helpers.small_runs import DATA, STEP, masked, read_only, trained
from qsim.block import Block, Rows
from qsim.clients import Clients, SampledClients
from qsim.datasets import ByLabel, Contiguous, DataError, Dataset, Dirichlet, Partition, Shards, Shuffled
from qsim.methods import DIANA, EF21, MARINA, SGD, GradientDescent, LocalSGD, SignSGD
from qsim.network import Delay, Machines, Rule, Slow, Speeds
from qsim.starts import Uniform
from qsim.steps import Step
from qsim.stopping import StoppingRule

# Who holds which rows.


@qsim.option
class Splits(Partition):
    how: Any

    def split(self, dataset, workers, key):
        return self.how(dataset, workers)


def contiguous(dataset: Dataset, workers: int) -> Shards:
    return Contiguous().split(dataset, workers, qsim.Key(0))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda d, w: None, r"must return Shards\(dataset, order, offsets\), found None"),
        (lambda d, w: (np.arange(d.rows), [0, d.rows]), "must return Shards"),
        (lambda d, w: contiguous(d, w - 1), "made 2 shards for 3 workers"),
        (lambda d, w: contiguous(d.take(np.arange(9)), w), "must share out the rows that it is given"),
        (lambda d, w: contiguous(Dataset.from_arrays(-d.to_scipy(), d.labels, empty="keep"), w), "must share out"),
        (lambda d, w: contiguous(d.with_intercept(), w), "must share out the rows that it is given"),
        (lambda d, w: Shards(d, np.arange(d.rows) + 0.5, [0, 1, 2, d.rows]), "order must be whole numbers"),
        (lambda d, w: Shards(d, np.arange(d.rows), [0, 1.9, 2, d.rows]), "offsets must be whole numbers"),
        (lambda d, w: Shards(d, np.arange(d.rows), [0, np.nan, 2, d.rows]), "offsets must be whole numbers"),
        (lambda d, w: Shards(d, ["a"] * d.rows, [0, 1, 2, d.rows]), "order must be whole numbers"),
        (lambda d, w: Shards(d, masked(np.arange(d.rows)), [0, 1, 2, d.rows]), "order is a masked array"),
        (lambda d, w: Shards(d, np.arange(d.rows), [0, 1, 2, d.rows], -1), "width must be a whole number"),
        (lambda d, w: Shards(None, np.arange(3), [0, 3]), "shards are of a Dataset, found None"),
    ],
)  # fmt: skip
def test_what_a_partition_makes(how: Any, told: str) -> None:
    """Shards of another data set were trained on without a word."""
    for call in (
        lambda: trained(partition=Splits(how)),
        lambda: Splits(how).split(DATA, 3, qsim.Key(0)),
    ):
        with pytest.raises((TypeError, ValueError), match=told):
            call()


def test_a_copy_of_the_rows_is_the_same_rows() -> None:
    usual, other = (
        trained(partition=Splits(how))
        for how in (contiguous, lambda d, w: contiguous(Dataset.from_arrays(d.to_scipy(), d.labels, empty="keep"), w))
    )
    assert usual.weights.tolist() == other.weights.tolist()


@pytest.mark.parametrize("key", [0, np.int64(3), None, "a", qsim.Key(0).words(0, 1), qsim.Key(0).word, True], ids=repr)
def test_a_seed_is_no_key(key: Any) -> None:
    for call in (
        *(lambda p=p: p.split(DATA, 3, key) for p in (Contiguous(), Shuffled(), ByLabel(), Dirichlet(1.0))),
        lambda: Splits(contiguous).split(DATA, 3, key),
        lambda: SampledClients(2).draw(key, 4),
        lambda: Slow(0.5, 2.0).factors(4, key),
        lambda: Uniform().weights(4, key),
        lambda: qsim.QSGD(4).quantize(np.ones(4), key),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"^key must be a key such as qsim\.Key\(\d+\), found"):
            call()
    for other in (None, np.eye(3), qsim.datasets.Builtin("spark_sample")):
        with pytest.raises(TypeError, match="a partition splits a Dataset, found"):
            Shuffled().split(other, 3, qsim.Key(0))


# Who takes part, and with which rows.


@qsim.option
class Invites(Clients):
    what: Any

    def draw(self, key, workers):
        return self.what


ALL_BUT_ONE = np.array([True, False, True])


@pytest.mark.parametrize(
    "what",
    [
        *("all", [True, False, True], (True,), np.ones(3), np.ones(3, object), np.ones(4, bool)),
        *(np.ones((3, 1), bool), np.ma.array(ALL_BUT_ONE, mask=[1, 0, 0]), np.array(True), 1),
    ],
    ids=str,
)
def test_who_takes_part(what: Any) -> None:
    for network in (None, qsim.Network()):
        with pytest.raises(
            ValueError, match=r"(?s)who takes part by .*Invites\(.*\), unless it is None, (must be|is a mask)"
        ):
            trained(clients=Invites(what), network=network)


def test_views_of_truth_values_are_as_good() -> None:
    usual, other = (trained(clients=Invites(what)) for what in (ALL_BUT_ONE, np.repeat(ALL_BUT_ONE, 2)[::2]))
    assert usual.weights.tolist() == other.weights.tolist()


@pytest.mark.parametrize("topology", ["ParameterServer", "AllGather", "Ring", "Tree", "HalvingDoubling"])
@pytest.mark.parametrize(
    "rule", [qsim.network.WaitForAll(), qsim.network.Timeout(1.0), qsim.network.Fastest(2)], ids=repr
)
def test_rounds_in_which_nobody_takes_part_take_no_time(topology: str, rule: Rule) -> None:
    made = getattr(qsim.network, topology)()
    downlink = qsim.downlinks.DenseWeights() if made.has_server else qsim.downlinks.Replicated()
    clients, network = Invites(np.zeros(3, bool)), qsim.Network(made, rule=rule)
    trace = trained(clients=clients, network=network, downlink=downlink)
    assert trace.frame[["seconds", "bits_up", "dropped"]].to_numpy().tolist() == [[0, 0, 0]] * 3
    assert trace.frame.loss.nunique() == 1


@qsim.option
class Draws(qsim.methods.Sampling):
    how: Any

    def draw(self, block, batch, t, memory, key):
        return self.how(block)


def firsts(block: Block) -> Rows:
    return Rows(block.order[block.offsets[:-1]], np.arange(block.workers + 1))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda b: None, r"must draw Rows\(index, offsets\), found None"),
        (lambda b: replace(firsts(b), index=firsts(b).index.astype(float)), "index of .* must be whole numbers"),
        (lambda b: replace(firsts(b), index=firsts(b).index.astype(object)), "index of .* must be whole numbers"),
        (lambda b: replace(firsts(b), index=masked(firsts(b).index)), "index of .* is a masked array"),
        (lambda b: replace(firsts(b), offsets=firsts(b).offsets.astype(float)), "offsets of .* must be whole"),
        (lambda b: replace(firsts(b), offsets=firsts(b).offsets[:-1]), "must rise from 0 to the 3 rows"),
        (lambda b: replace(firsts(b), offsets=firsts(b).offsets + 1), "must rise from 0 to the 3 rows"),
        (lambda b: replace(firsts(b), offsets=firsts(b).offsets * 50), "must rise from 0 to the 3 rows"),
        (lambda b: replace(firsts(b), offsets=np.array([0, 2, 1, 3])), "must rise from 0 to the 3 rows"),
        (lambda b: replace(firsts(b), index=firsts(b).index[::-1]), "drew rows that are not those of their worker"),
    ],
)
@pytest.mark.parametrize(
    "method", [SGD(batch=2, step=STEP), DIANA(batch=2, step=STEP), LocalSGD(batch=2, steps=2, step=STEP)]
)
def test_which_rows_are_drawn(method: Any, how: Any, told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        trained(method=replace(method, sampling=Draws(how)))


def test_local_steps_need_as_many_rows_as_they_read() -> None:
    """Kernels read past the end of fewer rows, and the numbers there were taken for rows."""
    with pytest.raises(ValueError, match=r"must draw 4 rows of each worker .* 2 for each of 2 local steps, found 1"):
        trained(method=LocalSGD(batch=2, steps=2, step=STEP, sampling=Draws(firsts)))


def test_rows_in_another_form() -> None:
    def all_of_them(block: Block) -> Rows:
        return replace(
            firsts(block), index=read_only(np.repeat(firsts(block).index, 2))[::2].astype(np.uint16), all=True
        )

    usual, other = (trained(method=SGD(batch=2, step=STEP, sampling=Draws(how))) for how in (firsts, all_of_them))
    assert usual.weights.tolist() == other.weights.tolist()


# How long it takes.


@qsim.option
class Delays(Delay):
    what: Any
    mean = 1.0  # type: ignore[assignment]

    def quantile(self, u):
        return self.what


@qsim.option
class Factors(Speeds):
    what: Any

    def factors(self, workers, key):
        return self.what


NO_TIMES = [None, 1.0, "abc", np.ones(2), np.ones(4), np.ones((3, 1)), np.ones(3, object), np.ones(3) + 1j]
NO_TIMES += [masked(np.ones(3)), -np.ones(3), np.full(3, np.nan), np.full(3, np.inf), np.array(["a"] * 3)]


@pytest.mark.parametrize("what", NO_TIMES, ids=str)
def test_times_of_machines(what: Any) -> None:
    """Factors were not looked at: negative ones and NaN went into the seconds."""
    for machines, told in ((Machines(delay=Delays(what)), "delays"), (Machines(1.0, speeds=Factors(what)), "factors")):
        network = qsim.Network(machines=machines)
        with pytest.raises(ValueError, match=f"(?s)the {told} of .*(must be|is a masked)"):
            trained(network=network)
        with pytest.raises(ValueError, match=f"(?s)the {told} of .*(must be|is a masked)"):
            qsim.network.simulate_timing(network, sizes=[1.0], workers=3, rounds=2)
    with pytest.raises(ValueError, match="must be above 0"):
        trained(network=qsim.Network(machines=Machines(speeds=Factors(np.zeros(3)))))


def test_times_in_another_form() -> None:
    for made in (lambda t: Machines(1.0, speeds=Factors(t)), lambda t: Machines(1.0, delay=Delays(t))):
        traces = [
            trained(network=qsim.Network(machines=made(np_times)))
            for np_times in (np.array([1.0, 2.0, 3.0]), [1, 2, 3], np.array([1, 2, 3], np.uint8), np.float32([1, 2, 3]))
        ]
        assert len({tuple(trace.frame.seconds) for trace in traces}) == 1


@qsim.option
class Closes(Rule):
    how: Any

    def close(self, arrivals, ties):
        return self.how(arrivals)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda a: (a > 0, "1"), "when the waiting ends by .* must be a finite number"),
        (lambda a: (a > 0, np.nan), "when the waiting ends by .* must be a finite number"),
        (lambda a: (np.ones(a.size), 1.0), "what is on time by .* must be an array of truth values"),
        (lambda a: (np.ones(a.size + 1, bool), 1.0), "what is on time by .* must be an array of truth values"),
        (lambda a: ([0], 1.0), "what is on time by .* must be an array of truth values"),
    ],
)
def test_rules_of_ones_own(how: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        trained(network=qsim.Network(rule=Closes(how)))


# How far, and how long.


@qsim.option
class Steps(Step):
    what: Any

    def __call__(self, t):
        return self.what


NO_STEPS = [None, "0.1", -0.1, np.nan, np.inf, 0.1j, True, np.array([0.1]), np.full(40, 0.1), np.ma.masked]


@pytest.mark.parametrize("what", NO_STEPS, ids=str)
@pytest.mark.parametrize("method", [SGD, GradientDescent, DIANA, MARINA, EF21, LocalSGD, SignSGD])
def test_steps_of_ones_own(method: Any, what: Any) -> None:
    """A step of NaN, or a text in LocalSGD, was taken; a negative one climbs."""
    compressor = qsim.compressors.Sign() if method is SignSGD else qsim.Identity()
    more = {"steps": 2} if method is LocalSGD else {}
    more |= {"batch": 2} if method in (SGD, LocalSGD) else {}
    with pytest.raises(
        ValueError, match=r"(?s)the step of round 0 by .*Steps\(.*\) must be a finite number of at least 0"
    ):
        trained(method=method(step=Steps(what), **more), compressor=compressor)


def test_many_steps_of_ones_own() -> None:
    class Many(Steps):
        def many(self, first, count):
            return self.what

    for what in (None, np.ones(3), [0.1, -0.1], [0.1, np.nan], masked(np.ones(2))):
        with pytest.raises(ValueError, match=r"(?s)the steps from round 0 on by .* (must be|is a masked)"):
            trained(method=LocalSGD(batch=2, steps=2, step=Many(what)))
    usual, other = (trained(method=LocalSGD(batch=2, steps=2, step=s)) for s in (Many([0, 1]), Many(np.arange(2))))
    assert usual.weights.tolist() == other.weights.tolist()
    assert Steps(np.float32(0.5))(3) == 0.5


@qsim.option
class Ends(StoppingRule):
    how: Any

    def reached(self, evaluation):
        return self.how(evaluation)


@pytest.mark.parametrize("what", [None, "no", 0, np.nan, np.ones(2, bool), np.array([]), np.ma.masked], ids=repr)
def test_conditions_say_true_or_false(what: Any) -> None:
    with pytest.raises(ValueError, match=r"what reached of .*Ends\(.*\) returns must be True or False, found"):
        trained(until=Ends(lambda seen: what))


def test_conditions_change_nothing() -> None:
    assert trained(until=Ends(lambda seen: np.True_)).frame.shape[0] == 1
    assert trained(until=Ends(lambda seen: np.array(False))).frame.shape[0] == 3
    with pytest.raises(AttributeError, match="mappingproxy"):
        trained(until=Ends(lambda seen: seen.update(loss=0.0)))


def test_more_rounds_than_can_be_counted() -> None:
    with pytest.raises(ValueError, match=r"rounds must be a whole number from 0 to \d+, found 18446744073709551616"):
        trained(rounds=2**64)


def test_data_errors_are_of_data() -> None:
    with pytest.raises(DataError, match="order must be whole numbers, found float64; write order.astype"):
        Shards(DATA, np.arange(60.0), np.array([0, 60]))
