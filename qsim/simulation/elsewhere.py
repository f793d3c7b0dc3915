"""Rows that the driver does not have: what it must know of them is measured by the workers that have them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.channel import Channel
from qsim.compressors import Identity
from qsim.datasets.parts import Parts, PartShards
from qsim.engines import Engine, Session
from qsim.keys import Key
from qsim.methods import GradientDescent
from qsim.objectives import Objective
from qsim.weights import Replica
from qsim.workers.measurements import entries
from qsim.workers.tasks import Job, Measurement


def count_rows(parts: Parts, objective: Objective, engine: Engine) -> None:
    """Have an engine's workers read the files and count their rows, unless these are known."""
    files = parts.files()
    if parts.is_known(files):
        return
    with engine.open(_job(PartShards(parts.sources(files), len(files), None), objective)) as session:
        order = Measurement(0, 0, "count", Replica(np.zeros(1)))
        parts.remember(files, [counts for reply in session.round(order) for _, counts in entries(reply)])


class OneSession(AbstractContextManager["OneSession"]):
    """Sessions of an engine, opened when they are first used, and one at a time: a cluster may have room for one."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._stack = engine, ExitStack()
        self._job: Job | None = None

    def of(self, job: Job) -> Session:
        """Return a session of a job: the open one, if it is of this job, which is ended otherwise."""
        if job is not self._job:
            self._stack.close()
            self._session, self._job = self._stack.enter_context(self._engine.open(job)), job
        return self._session

    def __exit__(self, *problem: Any) -> None:
        self._stack.__exit__(*problem)


class RowsReader:
    """Has the workers of a session measure their rows, which costs no bits: sums in float64, in their order."""

    def __init__(self, shards: PartShards, session: Callable[[], Session], test: bool = False) -> None:
        self._shares, self._session, self._test = shards.weights, session, test

    @classmethod
    def on(cls, sessions: OneSession, objective: Objective, shards: PartShards) -> RowsReader:
        """Return a reader with workers of its own."""
        job = _job(shards, objective)
        return cls(shards, lambda: sessions.of(job))

    def mean(self, task: str, w: NDArray[np.float64], length: int, **vectors: NDArray[Any]) -> NDArray[np.float64]:
        """Return sum_i n_i/n v_i over the workers i, in their order, of v_i that the task finds at w."""
        return self.total(task, w, length, self._shares, **vectors)

    def total(
        self,
        task: str,
        w: NDArray[np.float64],
        length: int,
        factors: NDArray[np.float64] | None = None,
        **vectors: NDArray[Any],
    ) -> NDArray[np.float64]:
        """Return the same with other factors than n_i/n, 1 by default."""
        factors = np.ones(self._shares.size) if factors is None else factors
        total, left = np.zeros(length), iter(factors.tolist())
        for reply in self._session().round(self._order(task, w, vectors)):
            for where, numbers in entries(reply):
                total[where] += next(left) * numbers
        return total

    def each(self, task: str, *points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a number for each worker."""
        w, *others = points or (np.zeros(0),)
        replies = self._session().round(self._order(task, w, dict(zip(["other"], others, strict=False))))
        return np.concatenate([number for reply in replies for _, number in entries(reply)])

    def _order(self, task: str, w: NDArray[np.float64], vectors: dict[str, NDArray[Any]]) -> Measurement:
        return Measurement(0, 0, task, Replica(np.ascontiguousarray(w, np.float64)), vectors, test=self._test)


def _job(shards: Any, objective: Objective) -> Job:
    """Return the job of workers that measure."""
    return Job(shards, objective, GradientDescent(1.0), Channel(Identity()), Key(0))
