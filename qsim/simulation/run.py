"""Runs: what is simulated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qsim.channel import Channel
from qsim.clients import AllClients, Clients, SampledClients
from qsim.codecs import Codec
from qsim.compressors import Compressor, Identity
from qsim.datasets import Contiguous, Data, DataError, Dataset, Partition, Shuffled, Source, as_data
from qsim.datasets.parts import Parts, RowsElsewhere
from qsim.downlinks import Broadcast, CompressedSum, CompressedWeights, DenseWeights, Downlink, SignSum, SparsePull
from qsim.engines import Engine, Serial
from qsim.keys import Key, Purpose
from qsim.methods import EF21, LBFGS, MARINA, TAMUNA, Averaged, FedNL, Method, NewtonCG, SignSGD
from qsim.network import Network
from qsim.notebooks import html_table
from qsim.objectives import NoOptimumError, NoSmoothnessError, Objective
from qsim.options import number, one_of, option, refuse_masked, shown, whole
from qsim.problem import Bound, Problem, TheoryError
from qsim.simulation.elsewhere import OneSession, RowsReader, count_rows
from qsim.starts import Start, Zeros
from qsim.stopping import AnyOf, Seconds, StoppingRule, Suboptimality
from qsim.workers.measurements import require_measurable


@option
class Run:
    """Everything that decides the answer of a simulation.

    `eval(repr(run)) == run` if its data have a source.

    Parameters
    ----------
    data : Dataset, Source, path, or pair of arrays
        The training data: a `Dataset` or a source of one; a name or a path (see `qsim.datasets.load`); or (X, y) (see
        `Dataset.from_arrays`).
    objective : Objective
        What is minimised.
    method : Method
        How it is minimised.
    compressor : Compressor, default `Identity()`
        The compressor of the uplink.
    codec : Codec, optional
        The codec of the uplink; the compressor's usual one by default.
    downlink : Broadcast or SparsePull, default `DenseWeights()`
        What the server sends to each worker, counted in `bits_down`.
    workers : int, default 8
        How many workers there are.
    partition : Partition, default `Shuffled()`
        Which rows each worker holds.
    clients : Clients, default `AllClients()`
        Which workers take part in a round.
    network : Network, optional
        The cluster whose virtual time is computed, and whose rule may drop late messages; by default there is no time.
    weighting : {"rows", "workers"}, default "rows"
        "rows" weights worker :math:`i`'s message by :math:`n_i/n`, so that the sum estimates the gradient over all
        rows, for unequal shards too; "workers" takes the plain mean.
    rounds : int, default 100
        How many rounds there are, unless `until` ends the run before.
    until : StoppingRule, optional
        When to stop early.
    start : Start, default `Zeros()`
        The weights of round 0.
    seed : int, default 0
        The seed of all randomness, from 0 to :math:`2^{64} - 1`. Runs that differ only in the compressor, the codec or
        the downlink see the same partition, start and batches.
    evaluate_every : int, default 1
        The driver evaluates the objective in float64 at the start, once in this many rounds, and at the end. That
        costs no bits.
    optimum : bool, default True
        Whether to solve for the minimum, too (cached on disk), so that suboptimality is known.
    test : Dataset, Source, path, or pair of arrays, optional
        Data whose loss (without the regulariser) and error are evaluated, too; of `qsim.datasets.Parts` by the workers.
    progressive : bool, default False
        Whether the rows that workers learn from in a round are scored before, at the weights that they have then (the
        columns `progressive_loss` and `progressive_error`). It changes no bit of the answer and costs no bits, but
        time: the rounds are not planned.

    Raises
    ------
    TypeError
        For a part of another type.
    ValueError
        For a number that makes no sense, and for parts that cannot be used together.

    Examples
    --------
    >>> import qsim
    >>> run = qsim.Run("spark_sample", qsim.LogisticRegression(l2=0.1), qsim.GradientDescent(step=0.1), rounds=3)
    >>> len(qsim.simulate(run).frame)
    4
    """

    data: Data
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
    until: StoppingRule | None = None
    start: Start = Zeros()
    seed: int = 0
    evaluate_every: int = 1
    optimum: bool = True
    test: Data | None = None
    progressive: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", as_data("data", self.data))
        if self.test is not None:
            object.__setattr__(self, "test", as_data("test", self.test))
        for name, kind, example in _KINDS:
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} must be {example}, found {getattr(self, name)!r}")
        if isinstance(self.data, Parts) and self.partition not in (Shuffled(), Contiguous()):
            raise ValueError(f"the rows of {self.data!r} stay in their files: leave out partition={self.partition!r}")
        if isinstance(self.data, Parts) or isinstance(self.test, Parts):
            require_measurable(self.objective)
        whole("workers", self.workers, least=1)
        one_of("weighting", self.weighting, ("rows", "workers"))
        whole("rounds", self.rounds, least=0, most=2**62)
        number(f"l2 of {self.objective!r}", getattr(self.objective, "l2", 0.0), least=0)
        whole(f"width of {self.objective!r}", self.objective.width, least=1)
        whole("seed", self.seed, least=0, most=2**64 - 1)
        whole("evaluate_every", self.evaluate_every, least=1)
        for rule in self.until.rules if isinstance(self.until, AnyOf) else (self.until,):
            if isinstance(rule, Suboptimality) and not self.optimum:
                raise ValueError(f"until={self.until!r} needs the optimum: leave optimum=True")
            if isinstance(rule, Seconds) and self.network is None:
                raise ValueError(f"until={self.until!r} needs virtual time: give the run network=qsim.Network()")
        if self.objective.composite and not self.method.takes_proximal_steps:
            raise ValueError(
                f"{self.method!r} takes no proximal steps, so it cannot minimise {self.objective!r}, which is not"
                f" smooth: take {_PROXIMAL}, without momentum, or {self.objective.smooth_part!r}"
            )
        channel = Channel(self.compressor, self.codec)  # refuses what does not fit
        together = self.compressor.correlated
        taking_part = self.clients.count if isinstance(self.clients, SampledClients) else self.workers
        if together not in (None, self.workers, taking_part):
            raise ValueError(
                f"{self.compressor!r} is for {together} workers, found workers={self.workers}, clients={self.clients!r}"
            )
        inner = self.method.method if isinstance(self.method, Averaged) else self.method
        if self.compressor.three_point(1) is not None and not isinstance(inner, EF21):
            raise ValueError(
                f"{self.compressor!r} follows the shifts of EF21, found method={self.method!r}: take qsim.EF21(), or"
                " one of the two compressors inside"
            )
        if isinstance(self.downlink, CompressedSum) and isinstance(inner, (FedNL, MARINA, SignSGD, LBFGS, NewtonCG)):
            raise ValueError(
                f"CompressedSum keeps what it leaves out for later, but {self.method!r} does not add up what comes:"
                " take qsim.downlinks.CompressedWeights(...)"
            )
        if isinstance(self.downlink, SignSum) and not isinstance(inner, SignSGD):
            raise ValueError(
                f"SignSum sends the vote of SignSGD, found method={self.method!r}: take qsim.downlinks.SparseSum()"
            )
        if self.network is not None and self.network.rule.drops and isinstance(inner, TAMUNA):
            raise ValueError(
                f"TAMUNA takes the mean over a few messages per coordinate, but {self.network.rule!r} drops messages;"
                " take a rule that waits for all, or clients=qsim.clients.SampledClients(k)"
            )
        if self.network is not None:
            _require_carried(self.network, channel, self.downlink, self.workers)
        elif self.downlink.replicated:
            raise ValueError(f"{self.downlink!r} needs a network without a server, such as {_SERVERLESS}")

    def _repr_html_(self) -> str:
        """Show the fields that are not their defaults, in a notebook."""
        changed = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        return html_table("Run", {name: value for name, value in changed.items() if value != defaults[name]})

    def load(self) -> Dataset:
        """Return the training data."""
        return _load(self.data)

    def load_test(self) -> Dataset | None:
        """Return the test data, if any.

        Returns
        -------
        Dataset or None
            The data.

        Raises
        ------
        DataError
            If they do not have the features of the training data.
        """
        if self.test is None:
            return None
        data, test = self.load(), _load(self.test)
        if test.features != data.features:
            raise DataError(f"test data must have the {data.features} features of {data!r}, found {test!r}")
        return test

    def problem(self) -> Problem:
        """Return the problem that is solved, with the constants of theory (L, L_i, mu, omega, ...).

        Those of `Parts` are measured in this process, which reads the files for it; `measured_on` has an engine do it.

        Returns
        -------
        Problem
            The problem.

        Examples
        --------
        >>> import qsim
        >>> method = qsim.GradientDescent(step=qsim.steps.Constant(0.1))
        >>> run = qsim.Run(qsim.datasets.Builtin("spark_sample"), qsim.LogisticRegression(l2=0.1), method, workers=4)
        >>> problem = run.problem()
        >>> problem.workers, problem.omega, problem.strong_convexity
        (4, 0.0, 0.1)
        """
        return self._problem(OneSession(Serial()))

    @contextmanager
    def measured_on(self, engine: Engine) -> Iterator[Problem]:
        """Give the problem, with constants that the workers of an engine measure if the rows are in `Parts`.

        Parameters
        ----------
        engine : Engine
            Where the workers are, while the `with` block is left open.

        Yields
        ------
        Problem
            The problem.
        """
        for parts in (self.data, self.test):
            if isinstance(parts, Parts):
                count_rows(parts, self.objective, engine)
        with OneSession(engine) as sessions:
            yield self._problem(sessions)

    def _problem(self, sessions: OneSession) -> Problem:
        """Return the problem, whose constants are measured in these sessions."""
        data: Any = self.load()
        key, objective = Key(self.seed), self.objective
        design: Any = objective.design(data)
        shards: Any
        reader = None
        if isinstance(design, RowsElsewhere):
            shards = design.shared_out(self.workers, objective.width)
            reader = RowsReader.on(sessions, objective, shards)
            by_file = reader
            if self.workers != len(design.parts):
                by_file = RowsReader.on(sessions, objective, design.shared_out(len(design.parts), objective.width))
            data = replace(data, reader=by_file)
        else:
            shards = self.partition.split(design, self.workers, key.fold(Purpose.PARTITION))
            shards = shards.of_width(objective.width)
        start = _first_weights(self.start, shards.n, key.fold(Purpose.START))
        weights = shards.weights if self.weighting == "rows" else np.full(self.workers, 1.0 / self.workers)
        shared = self.network is not None and self.network.topology.sums_in_flight
        down = self.downlink.compressor if isinstance(self.downlink, CompressedSum) else None
        return Problem(objective, data, shards, self.compressor, weights, start, self.clients, shared, reader, down)

    def bound(self, engine: Engine | None = None) -> Bound | None:
        """Return the bound of theory on the expected suboptimality, round by round.

        Parameters
        ----------
        engine : Engine, default `qsim.engines.Serial()`
            Where the rows of `Parts` are read.

        Returns
        -------
        Bound or None
            The bound; None if there is none. The docstrings of methods say what it is.

        Notes
        -----
        There is one for steps that are constant and no longer than the theorem of the method allows (without a step,
        the method takes the longest), and mu > 0. There is none if the server's downlink is lossy, if the network drops
        messages, if workers are not weighted by their rows, or if some of them are drawn whose shards are unequal
        (except for `EF21`, which has no ratio to take): then the theorem does not cover this run.

        Examples
        --------
        >>> import qsim
        >>> run = qsim.Run(qsim.datasets.Builtin("spark_sample"), qsim.LogisticRegression(l2=0.1), qsim.methods.EF21(),
        ...     compressor=qsim.compressors.TopK(4))
        >>> bound = run.bound()
        >>> bound.quantity, bound.floor
        ('F(w) - F* + c sum of weight_i/l_i ||h_i - g_i(w)||^2', 0.0)
        >>> bound([0, 1000]).round(3).tolist()
        [0.055, 0.008]
        """
        if isinstance(self.downlink, CompressedSum) and not isinstance(self.method, EF21):
            return None
        if isinstance(self.downlink, CompressedWeights) or (self.network is not None and self.network.rule.drops):
            return None
        with self.measured_on(Serial() if engine is None else engine) as problem:
            if not np.array_equal(problem.weights, problem.shards.weights):
                return None
            method = self.method.resolved(problem)
            try:
                return method.bound(problem)
            except (TheoryError, NoOptimumError, NoSmoothnessError):  # of clients or an objective
                return None


_KINDS: tuple[tuple[str, Any, str], ...] = (
    ("objective", Objective, "an objective such as qsim.LogisticRegression(l2=1e-4)"),
    ("method", Method, "a method such as qsim.GradientDescent(step=qsim.steps.Constant(0.5))"),
    ("downlink", (Broadcast, SparsePull), "a downlink such as qsim.downlinks.DenseWeights()"),
    ("partition", Partition, "a partition such as qsim.datasets.Shuffled()"),
    ("until", (StoppingRule, type(None)), "None or a rule such as qsim.stopping.GradientNorm(1e-6)"),
    ("clients", Clients, "who takes part, such as qsim.clients.SampledClients(8)"),
    ("network", (Network, type(None)), "None or a network such as qsim.Network(rule=qsim.network.Timeout(0.5))"),
    ("start", Start, "a start such as qsim.starts.Zeros()"),
)


_PROXIMAL = "GradientDescent, SGD, DIANA or EF21"
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


def _first_weights(start: Start, n: int, key: Key) -> NDArray[np.float64]:
    """Return the weights that a start gives, which may be a user's own."""
    found = start.weights(n, key)
    refuse_masked(f"what {start!r} returns", found)
    weights = np.asarray(found)
    if weights.shape != (n,) or weights.dtype.kind not in "fiu" or not np.isfinite(weights).all():
        raise ValueError(f"{start!r} must return {n} finite numbers, found {shown(found)}")
    return weights.astype(np.float64)


def _load(data: Data) -> Dataset:
    assert isinstance(data, Dataset | Source)
    return data if isinstance(data, Dataset) else data.load()
