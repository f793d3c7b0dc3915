"""Runs: what is simulated, and the loop over rounds that simulates it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from qsim.batch import Arrays
from qsim.channel import Channel
from qsim.checkpoint import Checkpoint
from qsim.clients import AllClients, Clients
from qsim.codecs import Codec
from qsim.compressors import Compressor, Identity
from qsim.datasets import DataError, Dataset, Partition, Shuffled, Source
from qsim.downlinks import Broadcast, CompressedWeights, DenseWeights, Downlink, SignSum, SparsePull
from qsim.engines import Engine, Serial, Session
from qsim.exchange import WireExchange
from qsim.keys import Key, Purpose
from qsim.methods import Averaged, Method, SignSGD
from qsim.network import Clock, Network
from qsim.objectives import NoOptimumError, Objective
from qsim.objectives.derivative import refuse_wrong_gradient
from qsim.options import flag, nearest, number, one_of, option, refuse_masked, shown, whole
from qsim.problem import Problem, Promise, TheoryError
from qsim.solo import Solo
from qsim.starts import Start, Zeros
from qsim.trace import Recorder, Trace
from qsim.until import Suboptimality, Until
from qsim.weights import Weights
from qsim.worker import Job

_NEVER = 2**62  # the round to go on with when a run is over


@option
class Run:
    """Everything that decides the answer of a simulation. `eval(repr(run)) == run` when its data have a source.

    data: a `Dataset`, or a source of one, such as `qsim.datasets.Builtin("adult")`.
    objective, method: what is minimised, and how.
    compressor, codec: the way up; without a codec, the compressor's usual one.
    downlink: what the server sends to each worker, counted in `bits_down`.
    workers, partition: how many workers, and which rows each of them holds.
    clients: which of them take part in a round: all, or some that are drawn.
    network: the cluster whose virtual time is told, and whose rule may drop late messages; None: no time is.
    weighting: "rows" weights worker i's message by n_i/n, so that the sum estimates the gradient over all rows, also
        for unequal shards; "workers" takes the plain mean.
    rounds, until: how many rounds, unless a rule ends the run before.
    start, seed: the first weights; the seed of all randomness. Runs that differ only in the compressor, the codec or
        the downlink see the same partition, start and batches.
    evaluate_every: the driver evaluates the objective in float64 at the start, every so many rounds, and at the end.
        That costs no bits.
    optimum: also solve for the minimum (cached on disk), so that suboptimality is known.
    test: data whose error is evaluated too.
    """

    data: Dataset | Source
    objective: Objective
    method: Method
    compressor: Compressor = Identity()
    codec: Codec | None = None
    downlink: Downlink = DenseWeights()
    workers: int = 8
    partition: Partition = Shuffled()
    clients: Clients = AllClients()
    network: Network | None = None
    weighting: Literal["rows", "workers"] = "rows"
    rounds: int = 100
    until: Until | None = None
    start: Start = Zeros()
    seed: int = 0
    evaluate_every: int = 1
    optimum: bool = True
    test: Dataset | Source | None = None

    def __post_init__(self) -> None:
        for name, kind, example in _KINDS:
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} must be {example}, found {getattr(self, name)!r}")
        for name in ("data", "test"):  # a data set that knows its source prints as that
            data = getattr(self, name)
            if isinstance(data, Dataset) and data.source is not None:
                object.__setattr__(self, name, data.source)
        whole("workers", self.workers, least=1)
        one_of("weighting", self.weighting, ("rows", "workers"))
        whole("rounds", self.rounds, least=0, most=_NEVER - 1)
        number(f"l2 of {self.objective!r}", getattr(self.objective, "l2", 0.0), least=0)
        whole(f"width of {self.objective!r}", self.objective.width, least=1)
        whole("seed", self.seed, least=0, most=2**64 - 1)
        whole("evaluate_every", self.evaluate_every, least=1)
        if isinstance(self.until, Suboptimality) and not self.optimum:
            raise ValueError(f"until={self.until!r} needs the optimum: leave optimum=True")
        channel = Channel(self.compressor, self.codec)  # refuses what does not fit
        inner = self.method.method if isinstance(self.method, Averaged) else self.method
        if isinstance(self.downlink, SignSum) and not isinstance(inner, SignSGD):
            raise ValueError(
                f"SignSum sends the vote of SignSGD, found method={self.method!r}: take qsim.downlinks.SparseSum()"
            )
        if self.network is not None:
            _require_carried(self.network, channel, self.downlink, self.workers)
        elif self.downlink.replicated:
            raise ValueError(f"{self.downlink!r} needs a network without a server, such as {_SERVERLESS}")

    def load(self) -> Dataset:
        """Return the training data."""
        return _load(self.data)

    def problem(self) -> Problem:
        """Return the problem that is solved, with the constants of theory (L, L_i, mu, omega, ...).

        >>> import qsim
        >>> method = qsim.GradientDescent(step=qsim.steps.Constant(0.1))
        >>> run = qsim.Run(qsim.datasets.Builtin("spark_sample"), qsim.LogisticRegression(l2=0.1), method, workers=4)
        >>> problem = run.problem()
        >>> problem.workers, problem.omega, problem.strong_convexity
        (4, 0.0, 0.1)
        """
        data, key = self.load(), Key(self.seed)
        design = self.objective.design(data)
        shards = self.partition.split(design, self.workers, key.fold(Purpose.PARTITION)).of_width(self.objective.width)
        start = _first_weights(self.start, shards.n, key.fold(Purpose.START))
        weights = shards.weights if self.weighting == "rows" else np.full(self.workers, 1.0 / self.workers)
        shared = self.network is not None and self.network.topology.sums_in_flight
        return Problem(self.objective, data, shards, self.compressor, weights, start, self.clients, shared)

    def promise(self) -> Promise | None:
        """Return the bound that theory gives for the expected suboptimality, round by round; None if it gives none.

        It does for steps that are constant and no longer than the theorem of the method allows (without a step, the
        method takes the longest), and mu > 0. None also if the server's way down is lossy, if the network drops
        messages, if workers are not weighted by their rows, or if some of them are drawn whose shards are unequal (but
        for `EF21`, which has no ratio to take): then the theorem is not about this run. The docstrings of methods say
        what it is.

        >>> import qsim
        >>> run = qsim.Run(qsim.datasets.Builtin("spark_sample"), qsim.LogisticRegression(l2=0.1), qsim.methods.EF21(),
        ...     compressor=qsim.compressors.TopK(4))
        >>> promise = run.promise()
        >>> promise.falls, promise.floor
        ('F(w) - F* + c mean of ||h_i - g_i(w)||^2', 0.0)
        >>> promise([0, 1000]).round(3).tolist()
        [0.055, 0.009]
        """
        problem = self.problem()
        if isinstance(self.downlink, CompressedWeights) or (self.network is not None and self.network.rule.drops):
            return None
        if not np.array_equal(problem.weights, problem.shards.weights):
            return None
        method = self.method.resolved(problem)
        try:
            return method.promise(problem)
        except (TheoryError, NoOptimumError):  # of clients or an objective of one's own
            return None


_KINDS: tuple[tuple[str, Any, str], ...] = (
    ("data", (Dataset, Source), 'a Dataset or a source of one, such as qsim.datasets.load("adult")'),
    ("objective", Objective, "an objective such as qsim.LogisticRegression(l2=1e-4)"),
    ("method", Method, "a method such as qsim.GradientDescent(step=qsim.steps.Constant(0.5))"),
    ("downlink", (Broadcast, SparsePull), "a downlink such as qsim.downlinks.DenseWeights()"),
    ("partition", Partition, "a partition such as qsim.datasets.Shuffled()"),
    ("until", (Until, type(None)), "None or a rule such as qsim.until.GradientNorm(1e-6)"),
    ("clients", Clients, "who takes part, such as qsim.clients.SampledClients(8)"),
    ("network", (Network, type(None)), "None or a network such as qsim.Network(rule=qsim.network.Timeout(0.5))"),
    ("start", Start, "a start such as qsim.starts.Zeros()"),
    ("test", (Dataset, Source, type(None)), "None, a Dataset or a source of one"),
)


def simulate(
    data: Dataset | Source | Run,
    *,
    engine: Engine | None = None,
    checkpoint: str | Path | None = None,
    every: int = 100,
    progress: bool | None = None,
    after_round: Callable[[int], None] | None = None,
    **options: Any,
) -> Trace:
    """Train with simulated workers and return what happened, round by round.

    Takes a `Run`, or the arguments of one (see there). The rest changes where and how it runs, never the numbers:

    engine: where the workers run; `qsim.engines.Serial()` by default.
    checkpoint, every: an .npz file written every so many rounds. If it exists, the run goes on from there, to the same
        bits as without the break; a finished run is not run again. Keep one file for each run.
    progress: a progress bar, shown on a terminal when a run takes more than two seconds; True or False overrides that.
    after_round: called with the number of rounds done; what it raises ends the run.

    Raises ValueError and TypeError for arguments that make no sense, ValueError for an objective of one's own whose
    gradient is not that of its loss, `qsim.datasets.DataError` for data that can't be used,
    `qsim.compressors.NotFiniteError` when training diverges, `qsim.checkpoint.CheckpointError` for the file of another
    run.

    >>> import qsim
    >>> data = qsim.datasets.load("spark_sample")
    >>> trace = qsim.simulate(
    ...     data,
    ...     objective=qsim.LogisticRegression(l2=0.1),
    ...     method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
    ...     compressor=qsim.QSGD(levels=2),
    ...     rounds=3,
    ... )
    >>> list(trace.frame["round"])
    [0, 1, 2, 3]
    """
    if isinstance(data, Run) and options:
        raise TypeError(
            f"a Run says it all: put {', '.join(options)} into it (dataclasses.replace makes a changed copy)"
        )
    unknown = set(options) - {field.name for field in fields(Run)}
    if unknown:
        name = min(unknown)
        raise TypeError(f"simulate has no argument {name!r}{nearest(name, [field.name for field in fields(Run)])}")
    if not isinstance(engine, (Engine, type(None))):
        raise TypeError(f"engine must be an engine such as qsim.engines.Processes(), found {engine!r}")
    run = data if isinstance(data, Run) else Run(data, **options)
    every = whole("every", every, least=1)
    progress = None if progress is None else flag("progress", progress)
    if after_round is not None and not callable(after_round):
        raise TypeError(f"after_round must be a function of the number of rounds done, found {after_round!r}")
    store = None if checkpoint is None else Checkpoint(checkpoint, run)
    saved = None if store is None else store.load()

    channel, key = Channel(run.compressor, run.codec), Key(run.seed)
    _require_affordable(run, channel, run.objective.design(run.load()).features * run.objective.width)
    problem = run.problem()
    shards, weights = problem.shards, problem.weights
    if saved is None:
        refuse_wrong_gradient(run.objective, problem.data, problem.start)
    recorder = Recorder(run, run.load(), _test_data(run))
    method = run.method.resolved(problem)
    network, clients = run.network, run.clients
    timed, drops = network is not None, network is not None and network.rule.drops
    job = Job(shards, run.objective, method, channel, key, not isinstance(clients, AllClients), timed, drops)
    with (engine or Serial()).open(job) as session:
        w = Weights(problem.start)
        clock = None if network is None else Clock(network, run.workers, key)
        exchange = WireExchange(session, run.objective, channel, run.downlink, weights, w, key, clients, clock)
        training = Training(method, w, method.start(w), session, exchange, recorder)
        solo = None
        if engine is None and after_round is None and network is None:
            solo = Solo.of(run.objective, method, channel, run.downlink, run.clients, shards, key)
        t = training.begin() if saved is None else training.restore(saved)
        with _bar(t, run.rounds, progress) as bar:
            while t < run.rounds:
                counted = None
                if solo is not None and exchange.streams.opened:
                    stop = min(run.rounds, _next(t, run.evaluate_every), _next(t, every if store else _SOLO))
                    counted = solo.rounds(training.w, t, stop)
                if counted is None:
                    exchange.begin(t)
                    method.round(training.w, training.state, exchange)
                    counted = exchange.counted
                t += len(counted)
                bar.update(len(counted))
                over = recorder.record(t, training.solution, counted, clock) or t == run.rounds
                if after_round is not None:
                    after_round(t)
                if store is not None and (over or t % every == 0):
                    store.save(training.snapshot(t))
                if over:
                    break
    return recorder.trace(training.solution, clock)


@dataclass
class Training:
    """All that changes while a run goes on."""

    method: Method
    w: Weights
    state: Arrays
    session: Session
    exchange: WireExchange
    recorder: Recorder

    def begin(self) -> int:
        """Record the start; returns the round to go on with."""
        return _NEVER if self.recorder.start(self.solution) else 0

    def solution(self) -> NDArray[np.float64]:
        """Return the weights that are evaluated."""
        return self.method.solution(self.w, self.state)

    def snapshot(self, done: int) -> Arrays:
        """Return everything as arrays, after so many rounds."""
        clock = self.exchange.clock
        parts = {
            "server": self.state,
            "clock": {} if clock is None else clock.snapshot(),
            "downlink": self.exchange.shared,
            "streams": self.exchange.streams.snapshot(),
            "held": self.exchange.held.snapshot(self.w),
            "workers": self.session.snapshot(),
            "recorder": self.recorder.snapshot(),
        }
        arrays = {f"{part}/{name}": array for part, named in parts.items() for name, array in named.items()}
        return arrays | {
            "done": np.array(done),
            "w/vector": self.w.vector,
            "w/scale": np.array(self.w.scale),
        }

    def restore(self, saved: Arrays) -> int:
        """Go back to a snapshot; returns the round to go on with."""
        self.w = Weights(saved["w/vector"], float(saved["w/scale"]))
        self.state = _part(saved, "server/")
        self.exchange.shared = _part(saved, "downlink/")
        self.exchange.streams.restore(_part(saved, "streams/"))
        self.exchange.held.restore(self.w, _part(saved, "held/"))
        if self.exchange.clock is not None:
            self.exchange.clock.restore(_part(saved, "clock/"))
        self.session.restore(_part(saved, "workers/"))
        return _NEVER if self.recorder.restore(_part(saved, "recorder/")) else int(saved["done"])


_SOLO = 10_000  # rounds that are done at once at most, a part of a second


def _next(t: int, period: int) -> int:
    """Return the next multiple of a period after t."""
    return (t // period + 1) * period


def _part(saved: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in saved.items() if name.startswith(prefix)}


_SERVERLESS = "qsim.Network(qsim.network.AllGather())"


def _require_carried(network: Network, channel: Channel, downlink: Downlink, workers: int) -> None:
    """Refuse a network that cannot work with the rest of a run."""
    topology = network.topology
    if topology.sums_in_flight and not channel.sums_in_flight:
        raise ValueError(
            f"{topology!r} adds messages on their way, but those of {channel.compressor!r} by {channel.codec!r} have no"
            " sum as short as they are; take qsim.network.AllGather() or qsim.network.ParameterServer(), or a"
            ' compressor such as qsim.Identity() or qsim.RandK(k, "drawn")'
        )
    if topology.has_server and downlink.replicated:
        raise ValueError(f"{topology!r} has a server that sends down: take another downlink than {downlink!r}")
    if not topology.has_server and not downlink.replicated:
        raise ValueError(
            f"{topology!r} has no server that could send down {downlink!r}: take downlink=qsim.downlinks.Replicated()"
        )
    network.rule.require(workers)


def _require_affordable(run: Run, channel: Channel, n: int) -> None:
    """Refuse a round of dense packets of more than half of this machine's memory: processes hold a round at once."""
    size = 4 * n * run.workers
    if channel.dense and size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2:
        raise ValueError(
            f"{run.workers:,} workers that send {n:,} dense coordinates each are {size / 1e9:,.0f} GB a round;"
            " send non-zeros only: codec=qsim.codecs.SparseFloats(), or a sparse compressor such as qsim.QSGD(levels=4)"
        )


def _first_weights(start: Start, n: int, key: Key) -> NDArray[np.float64]:
    """Return the weights that a start gives, which may be a user's own."""
    found = start.weights(n, key)
    refuse_masked(f"what {start!r} returns", found)
    weights = np.asarray(found)
    if weights.shape != (n,) or weights.dtype.kind not in "fiu" or not np.isfinite(weights).all():
        raise ValueError(f"{start!r} must return {n} finite numbers, found {shown(found)}")
    return weights.astype(np.float64)


def _load(data: Dataset | Source) -> Dataset:
    return data if isinstance(data, Dataset) else data.load()


def _test_data(run: Run) -> Dataset | None:
    if run.test is None:
        return None
    data, test = run.load(), _load(run.test)
    if test.features != data.features:
        raise DataError(f"test data must have the {data.features} features of {data!r}, found {test!r}")
    return test


def _bar(first: int, rounds: int, progress: bool | None) -> Any:
    """Return a bar of rounds: on a terminal (None), always (True) or never (False)."""
    disable = None if progress is None else not progress
    return tqdm(
        initial=min(first, rounds),
        total=rounds,
        unit="round",
        delay=0 if progress else 2,
        leave=False,
        disable=disable,
    )
