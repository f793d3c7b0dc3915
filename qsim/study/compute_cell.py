"""Computing a cell: once, by whichever process claims it first, and stored at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import pairwise
from time import perf_counter
from typing import Any

from qsim.engines import Engine, Serial
from qsim.identity import Identity, identify
from qsim.methods import Averaged
from qsim.simulation import Run, simulate
from qsim.study.store import Store
from qsim.trace import Trace

_SECONDS_A_ROUND, _SECONDS_A_NONZERO = 3e-4, 1e-8  # measured to a factor of two


@dataclass(frozen=True)
class Task:
    """A run to compute, where its workers run, and what it is known by (None: its trace is not stored)."""

    run: Run
    engine: Engine = field(default_factory=Serial)
    identity: Identity | None = None


@dataclass(frozen=True)
class Done:
    """A trace; how long each of its rounds took, nothing if it was found in the store."""

    trace: Trace
    seconds: list[float]
    found: bool = False


def compute(task: Task, store: Store | None, after_round: Callable[[int], None]) -> Done | None:
    """Compute a run and store its trace before anything else happens.

    Returns None if another process is computing it; what another has stored since is taken.
    """
    if store is None or task.identity is None:
        return _simulate(task, after_round)
    with store.claim(task.identity.key) as mine:
        if not mine:
            return None
        found = store.load(task.identity.key)
        if found is not None:
            return Done(found, [], found=True)
        done = _simulate(task, after_round)
        store.save(task.identity, done.trace)
        return done


def _simulate(task: Task, after_round: Callable[[int], None]) -> Done:
    times = [perf_counter()]

    def clocked(done: int) -> None:
        times.append(perf_counter())
        after_round(done)

    trace = simulate(task.run, engine=task.engine, progress=False, after_round=clocked)
    return Done(trace, [end - start for start, end in pairwise(times)])


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_seconds() -> float:
    """Return the seconds of processors that this process has spent, and those that it started and that have ended."""
    return sum(os.times()[:4])


def seconds(run: Run) -> float:
    """Estimate how long a run takes on one thread, with shipped parts; with a user's it may take far longer."""
    try:
        nonzeros = run.load().nonzeros
    except Exception:  # the run itself will say it
        return 0.0
    method = run.method.method if isinstance(run.method, Averaged) else run.method
    batch = getattr(method, "batch", None)
    read = nonzeros if batch is None else min(nonzeros, nonzeros * batch * run.workers / max(1, run.load().rows))
    return run.rounds * (_SECONDS_A_ROUND + _SECONDS_A_NONZERO * (read + nonzeros / run.evaluate_every))


def cost(runs: Sequence[Run]) -> str:
    """Say beforehand what runs cost, in words."""
    rounds, work = sum(run.rounds for run in runs), sum(map(seconds, runs))
    return f"{rounds:,} rounds in all, about {work:,.{0 if work >= 10 else 1}f} s of one core"


def prepare(tasks: Iterable[Task]) -> None:
    """Solve for the optima, and compile the kernels of shipped parts: many processes would all do the same.

    What fails here fails again in the run that it belongs to, and is reported there.
    """
    from qsim.kernels._jit import cache_folder

    solved = set()
    folder = cache_folder() / "warm"
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
    for task in tasks:
        run = task.run
        with suppress(Exception):
            data = run.load()
            if run.optimum and (run.objective, data.digest) not in solved:
                run.objective.optimum(data)
                solved.add((run.objective, data.digest))
            kind = folder / sha256(_kind(run).encode()).hexdigest()[:16]
            if not kind.exists() and not identify(run).modules:  # a user's part is not run here: it may do anything
                simulate(replace(run, rounds=min(run.rounds, 2), until=None, optimum=False), progress=False)
                kind.touch()


def _kind(run: Run) -> str:
    """Return what decides which kernels a run needs, and for which types of numbers."""
    data = run.load()
    parts: list[Any] = [run.objective, run.method, run.compressor, run.codec, run.downlink, run.start, run.weighting]
    return repr([*parts, run.test is None, str(data.indices.dtype), data.values is None, data.kind, data.features])
