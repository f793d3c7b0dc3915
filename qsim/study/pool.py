"""Cells side by side: each in a process that computes on one thread, on data that all processes share."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from qsim.datasets import Dataset, Source
from qsim.engines.child_process import portable_error, start_child, stop_child
from qsim.engines.shared import SharedPickle
from qsim.simulation import Run
from qsim.study.compute_cell import Done, Task, compute
from qsim.study.store import Store

_REPORT = 0.2  # seconds between two reports of a process
_AGAIN = 0.5  # seconds until a cell is asked for again that another program was at
_PATIENCE = 2.0  # seconds that a process has to end by itself
_THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA")
"""Libraries whose threads are set by a variable NAME_NUM_THREADS when they are loaded."""


class ProcessEndedError(RuntimeError):
    """The process that computed a cell ended: killed, for want of memory perhaps, or by a crash of compiled code."""


class Loaded(Source):
    """A source whose data are here already: it prints as the source that it stands for."""

    def __init__(self, source: Source, dataset: Dataset) -> None:
        self.name, self.source, self.dataset = source.name, source, dataset

    def load(self) -> Dataset:
        return self.dataset

    def __repr__(self) -> str:
        return repr(self.source)


def share(tasks: Mapping[int, Task]) -> SharedPickle:
    """Put tasks where processes can map them: every data set is there once, whatever the number of processes.

    Raises what pickling raises for a run that cannot be sent, and OSError where memory cannot be shared.
    """
    return SharedPickle({number: replace(task, run=_with_data(task.run)) for number, task in tasks.items()})


def _with_data(run: Run) -> Run:
    here: dict[str, Any] = {}
    for name in ("data", "test"):
        source = getattr(run, name)
        with suppress(Exception):  # a source that fails will fail in its run, and be reported there
            here |= {name: Loaded(source, source.load())} if isinstance(source, Source) else {}
    return replace(run, **here)


def over_processes(
    job: SharedPickle, order: Sequence[int], store: Store | None, jobs: int, tick: Callable[[int, int], None]
) -> Generator[tuple[int, Done | Exception]]:
    """Compute the tasks of a job, by their numbers in an order; yields each as it is done, or what it raised.

    tick is called with a number and rounds done. When the iterator is closed, all its processes are ended.
    """
    queue, busy, left, asked = deque(order), [], len(order), time.monotonic()
    children: list[_Child] = []
    try:
        while left:
            for child in [child for child in children if child.task is None and not child.alive]:
                child.stop()
                children.remove(child)
            for child in children:
                if child.task is None and queue:
                    child.give(queue.popleft())
            while queue and len(children) < jobs:
                children.append(_Child(job, store))
                children[-1].give(queue.popleft())
            wait([part for child in children for part in child.parts], timeout=_AGAIN)
            for child in children:
                for number, kind, detail in child.answers():
                    if kind == "rounds":
                        tick(number, detail)
                    elif kind == "busy":
                        busy.append(number)
                    else:
                        left -= 1
                        yield number, detail
            if busy and not queue and time.monotonic() - asked > _AGAIN:
                queue.extend(busy)
                busy.clear()
                asked = time.monotonic()
    finally:
        for child in children:
            child.end()
        for child in children:
            child.stop()


class _Child:
    """A process, seen from its parent. It does one task at a time."""

    def __init__(self, job: SharedPickle, store: Store | None) -> None:
        folder = None if store is None else store.folder
        with _one_thread(), _without_interrupts():  # a spawned process reads anew how many threads it may have
            self._process, self._pipe = start_child("spawn", serve, (job, folder), "qsim-cells")
        self.task: int | None = None

    @property
    def alive(self) -> bool:
        return bool(self._process.is_alive())

    @property
    def parts(self) -> list[Any]:
        """The objects to wait for: an answer, or the end of the process while it has a task."""
        return [] if self.task is None else [self._pipe, self._process.sentinel]

    def give(self, number: int) -> None:
        """Give it a task; that the process has ended is found out by `answers`."""
        self.task = number
        with suppress(OSError):
            self._pipe.send(number)

    def answers(self) -> Iterator[tuple[int, str, Any]]:
        """Yield what it has said since: rounds done, that another program is at its task, or the end of it."""
        while self.task is not None:
            number = self.task
            try:
                if not self._pipe.poll():
                    if self.alive or self._pipe.poll():
                        return
                    raise EOFError
                kind, detail = self._pipe.recv()
            except (EOFError, OSError):
                self._process.join()
                self.task = None
                code = self._process.exitcode
                killed = ", killed for want of memory?" if code == -signal.SIGKILL else ""
                yield number, "failed", ProcessEndedError(f"its process ended with exit code {code}{killed}")
                return
            if kind != "rounds":
                self.task = None
            if kind == "failed":
                import cloudpickle

                detail = cloudpickle.loads(detail)
            yield number, kind, detail

    def end(self) -> None:
        """Ask the process to end at once, leaving nothing half-written."""
        if self.alive:
            self._process.terminate()

    def stop(self) -> None:
        """Wait until it has ended, not for long."""
        stop_child(self._process, self._pipe, _PATIENCE)


class _EndedError(BaseException):
    """The parent wants this process to end."""


def serve(pipe: Connection, job: SharedPickle, folder: Path | None) -> None:
    """Compute the tasks whose numbers come through the pipe, until the parent ends this process, or ends itself."""
    signal.signal(signal.SIGTERM, _end)
    store = None if folder is None else Store(folder)
    tasks: dict[int, Task] | None = None
    with suppress(EOFError, OSError, _EndedError):
        while True:
            number = pipe.recv()
            try:
                tasks = tasks or job.load()
                identity = tasks[number].identity
                if identity is not None:
                    identity.require_loaded()
                done = compute(tasks[number], store, _reporter(pipe))
                answer: tuple[str, Any] = ("busy", None) if done is None else ("done", done)
            except Exception as error:
                answer = ("failed", portable_error(error))
            except SystemExit as error:  # of a user's code
                answer = ("failed", portable_error(error))
            pipe.send(answer)


def _end(*_: Any) -> None:
    raise _EndedError


def _reporter(pipe: Connection) -> Callable[[int], None]:
    """Return a function for `after_round` that reports rounds now and then."""
    said, when = 0, time.monotonic()

    def report(done: int) -> None:
        nonlocal said, when
        now = time.monotonic()
        if now - when >= _REPORT:
            pipe.send(("rounds", done - said))
            said, when = done, now

    return report


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start in the block compute on one thread, and say nothing of compiling."""
    wanted = {f"{name}_NUM_THREADS": "1" for name in _THREADS} | {"VECLIB_MAXIMUM_THREADS": "1", "QSIM_QUIET": "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C: a process that is just starting would end with a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
