"""The loop over rounds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, overload

from qsim.clients import AllClients, Clients
from qsim.codecs import Codec
from qsim.compressors import Compressor, Identity
from qsim.datasets import Data, Partition, Shuffled
from qsim.downlinks import DenseWeights, Downlink
from qsim.engines import Engine, Serial
from qsim.methods import Method
from qsim.network import Network
from qsim.objectives import Objective
from qsim.options import flag, nearest, whole
from qsim.simulation.checkpoint import Checkpoint
from qsim.simulation.listeners import AfterRound, Listener, ProgressBar, Saving
from qsim.simulation.run import Run
from qsim.simulation.training import Training
from qsim.starts import Start, Zeros
from qsim.stopping import StoppingRule
from qsim.trace import Trace


@overload
def simulate(
    data: Run,
    *,
    engine: Engine | None = None,
    checkpoint: str | Path | None = None,
    every: int = 100,
    progress: bool | None = None,
    after_round: Callable[[int], None] | None = None,
) -> Trace: ...
@overload
def simulate(
    data: Data,
    *,
    objective: Objective,
    method: Method,
    compressor: Compressor = Identity(),
    codec: Codec | None = None,
    downlink: Downlink = DenseWeights(),
    workers: int = 8,
    partition: Partition = Shuffled(),
    clients: Clients = AllClients(),
    network: Network | None = None,
    weighting: Literal["rows", "workers"] = "rows",
    rounds: int = 100,
    until: StoppingRule | None = None,
    start: Start = Zeros(),
    seed: int = 0,
    evaluate_every: int = 1,
    optimum: bool = True,
    test: Data | None = None,
    progressive: bool = False,
    engine: Engine | None = None,
    checkpoint: str | Path | None = None,
    every: int = 100,
    progress: bool | None = None,
    after_round: Callable[[int], None] | None = None,
) -> Trace: ...
def simulate(
    data: Any,
    *,
    engine: Engine | None = None,
    checkpoint: str | Path | None = None,
    every: int = 100,
    progress: bool | None = None,
    after_round: Callable[[int], None] | None = None,
    **options: Any,
) -> Trace:
    """Train with simulated workers and return what happened, round by round.

    Parameters
    ----------
    data : Run, or Dataset, Source, path, or pair of arrays
        A `Run`, which says everything below up to `progressive`; or the training data: a `Dataset` or a source of one,
        the name of a built-in data set or the path of a file (see `qsim.datasets.load`), or a pair (X, y) (see
        `qsim.Dataset.from_arrays`).
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
    engine : Engine, default `qsim.engines.Serial()`
        Where the workers run. It changes the speed, never the numbers.
    checkpoint : path of an .npz file, optional
        Written every `every` rounds. If it exists, the run goes on from there, to the same bits as without the break;
        a finished run is not run again. Keep one file for each run.
    every : int, default 100
        How many rounds there are between two checkpoints.
    progress : bool, optional
        Whether to show a progress bar. By default it is shown on a terminal when a run takes more than two seconds.
    after_round : callable, optional
        Called with the number of rounds done; what it raises ends the run.

    Returns
    -------
    Trace
        The loss, the bits and the rest of every round, and the final weights.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense, and for an objective of one's own whose gradient is not that of its loss.
    qsim.datasets.DataError
        For data that cannot be used.
    qsim.compressors.NotFiniteError
        When training diverges.
    qsim.simulation.CheckpointError
        For the checkpoint of another run.

    Examples
    --------
    >>> import qsim
    >>> trace = qsim.simulate(
    ...     "spark_sample",
    ...     objective=qsim.LogisticRegression(l2=0.1),
    ...     method=qsim.GradientDescent(step=0.1),
    ...     compressor=qsim.QSGD(levels=2),
    ...     rounds=3,
    ... )
    >>> list(trace.frame["round"])
    [0, 1, 2, 3]
    """
    run = _run(data, options)
    if not isinstance(engine, (Engine, type(None))):
        raise TypeError(f"engine must be an engine such as qsim.engines.Processes(), found {engine!r}")
    every = whole("every", every, least=1)
    progress = None if progress is None else flag("progress", progress)
    if after_round is not None and not callable(after_round):
        raise TypeError(f"after_round must be a function of the number of rounds done, found {after_round!r}")
    store = None if checkpoint is None else Checkpoint(checkpoint, run)
    saved = None if store is None else store.load()

    with Training.opened(run, engine or Serial(), saved) as training, ProgressBar(training, progress) as bar:
        listeners: list[Listener] = [bar]
        if after_round is not None:
            listeners.append(AfterRound(after_round))
        if store is not None:
            listeners.append(Saving(store, every))
        while not training.over:
            training.advance(min(listener.due(training.done) for listener in listeners) - training.done)
            for listener in listeners:
                listener(training)
    return training.trace()


def _run(data: Any, options: dict[str, Any]) -> Run:
    """Return the run that the arguments of `simulate` describe."""
    if isinstance(data, Run):
        if options:
            raise TypeError(
                f"a Run says it all: put {', '.join(options)} into it (dataclasses.replace makes a changed copy)"
            )
        return data
    known = [field.name for field in fields(Run)]
    unknown = set(options) - set(known)
    if unknown:
        name = min(unknown)
        raise TypeError(f"simulate has no argument {name!r}{nearest(name, known)}")
    missing = [f.name for f in fields(Run)[1:] if f.default is MISSING and f.name not in options]
    if missing:
        raise TypeError(f"simulate needs {' and '.join(f'{name}=' for name in missing)}")
    return Run(data, **options)


def _signature() -> inspect.Signature:
    """Return the signature that `help` and notebooks show: the fields of a run, and what `simulate` adds."""
    own = inspect.signature(simulate)
    run = inspect.signature(Run).parameters.values()
    spelled = [own.parameters["data"], *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in run)]
    added = [parameter for name, parameter in own.parameters.items() if name not in ("data", "options")]
    return own.replace(parameters=[*(part for part in spelled if part.name != "data" or part is spelled[0]), *added])


simulate.__signature__ = _signature()  # type: ignore[attr-defined]
