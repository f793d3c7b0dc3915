"""The workers in a process of an engine, and the tasks that the driver can give them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays
from qsim.engines.child_process import portable_error
from qsim.engines.replicas import Completer
from qsim.weights import Replica
from qsim.workers.group import WorkerGroup
from qsim.workers.tasks import Instruction, Job, Order


class Members:
    """The workers low, ..., high - 1 of a job. What they can do takes one argument each."""

    def __init__(self, job: Job, low: int, high: int, block: int | None, threads: int) -> None:
        self._job, self._low = job, low
        self._group = WorkerGroup(job, low, high, block, threads)
        self._completer = Completer()

    def warm(self, _: None) -> None:
        """Run one worker once, on its own, so that all kernels are compiled and on disk for the other processes."""
        group = WorkerGroup(self._job, self._low, self._low + 1)
        nowhere = Replica(np.zeros(self._job.shards.n, np.float32))
        with suppress(Exception, SystemExit):  # it will be said with the round in which it happens
            list(group.run(Order(0, 0, "update", nowhere)))
            if self._job.drops:
                group.on_delivered(np.zeros(self._job.shards.workers, bool))
        group.close()

    def stateful(self, _: None) -> bool:
        return self._group.stateful

    def round(self, instruction: Instruction) -> Any:
        """Return the replies."""
        return list(self._group.run(self._completer.whole(instruction)))

    def on_delivered(self, delivered: NDArray[np.bool_]) -> None:
        self._group.on_delivered(delivered)

    def snapshot(self, _: None) -> Arrays:
        return self._group.snapshot()

    def sizes(self, _: None) -> dict[str, int]:
        return {name: array.size for name, array in self._group.snapshot().items()}

    def restore(self, snapshot: Arrays) -> None:
        self._group.restore(snapshot)

    def end(self) -> None:
        self._group.close()


@dataclass(frozen=True)
class Compiling:
    """The workers begin, or end, to compile a kernel."""

    begins: bool


def attempted(work: Callable[[], Any]) -> tuple[bool, Any]:
    """Do something; return (True, what it returns), or (False, the exception as bytes)."""
    try:
        return True, work()
    except BaseException as error:
        return False, portable_error(error)


def answering(job: bytes, low: int, high: int, block: int | None, threads: int) -> Callable[[bytes], bytes]:
    """Return a function that does the tasks of some workers, all pickled: a task with its argument, its outcome."""
    members: Members | None = None

    def do(message: bytes) -> Any:
        nonlocal members
        members = members or Members(pickle.loads(job), low, high, block, threads)
        task, detail = pickle.loads(message)
        return getattr(members, task)(detail)

    return lambda message: pickle.dumps(attempted(partial(do, message)), protocol=5)


def outcome(answer: tuple[bool, Any]) -> Any:
    """Return what was returned elsewhere, or raise what was raised there."""
    good, found = answer
    if good:
        return found
    import cloudpickle

    raise cloudpickle.loads(found)


def awaited(receive: Callable[[float | None], Any], patience: float) -> Any:
    """Return the outcome of a task, which may take so many seconds, without those in which kernels are compiled.

    receive: returns the next object that came, or raises, after so many seconds or never.
    """
    left: float | None = patience
    while isinstance(said := receive(left), Compiling):
        if said.begins:
            from qsim.kernels._jit import announce

            announce()
        left = None if said.begins else patience
    return outcome(said)
