"""Workers spread over processes of this machine."""

from __future__ import annotations

import multiprocessing as mp
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from errno import ENOSPC
from multiprocessing.connection import wait
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Packets
from qsim.engines.base import Engine, Session
from qsim.engines.child import serve
from qsim.engines.shared import SharedFile, SharedPickle, receive, send
from qsim.options import number, one_of, option, whole
from qsim.weights import Replica
from qsim.worker import Host, Job, Order, Reply

_STARTS = 3  # a process that ends this often in one round would end for ever
_LOG_ROUNDS, _LOG_BYTES = 50, 64 << 20  # the orders kept for replay before a new snapshot is taken


class EngineError(RuntimeError):
    """A process of an engine ended again and again, or could not be started."""


@final
@option
class Processes(Engine):
    """Runs the workers in `processes` long-lived processes, each with `threads` threads; by default one a core.

    Data are mapped once and shared; packets come back through shared memory. A process that is killed, or silent for
    `patience` seconds, is started again, set to its last snapshot, and given the orders since: the results are the same
    bits as if nothing had happened, and as on any other engine. The processes end with this one, however it ends, and
    leave nothing behind.

    start: how processes are made. "fork" is the fastest, but not safe in a program with threads.
    block: as in `Serial`.

    A class that you define in a script or a notebook works in every process; the script needs no `__main__` guard.

    Raises ValueError for numbers below 1, or for more threads in all than there are cores.
    """

    processes: int | None = None
    threads: int = 1
    start: Literal["forkserver", "spawn", "fork"] = "forkserver"
    block: int | None = None
    patience: float = 600.0

    def __post_init__(self) -> None:
        if self.processes is not None:
            whole("processes", self.processes, least=1)
        whole("threads", self.threads, least=1)
        if self.block is not None:
            whole("block", self.block, least=1)
        one_of("start", self.start, ("forkserver", "spawn", "fork"))
        number("patience", self.patience, above=0)
        cores, wanted = os.cpu_count() or 1, (self.processes or 1) * self.threads
        if self.threads > 1 and wanted > cores:
            raise ValueError(
                f"{self.processes or 1} processes with {self.threads} threads each need {wanted} cores, and there are"
                f" {cores}; take fewer threads"
            )

    def open(self, job: Job) -> Session:
        return _ProcessSession(self, job)


class _ProcessSession(Session):
    def __init__(self, engine: Processes, job: Job) -> None:
        workers = job.shards.workers
        cores = max(1, (os.cpu_count() or 1) // engine.threads)
        count = min(workers, engine.processes or cores)
        _warm(job)
        self._board = SharedFile(8 * job.shards.n)
        self._job = SharedPickle(job)
        self._log: list[tuple[str, Any]] = []
        self._log_bytes = 0
        self._drops = job.drops
        self._children: list[_Child] = []
        try:
            for p in range(count):
                low, high = p * workers // count, (p + 1) * workers // count
                self._children.append(_Child(engine, self._job, self._board, low, high))
            for child in self._children:
                with suppress(_ChildEndedError):  # it is started again when it does not answer
                    child.start(self._children)
            for child in self._children:
                child.post("stateful", None)
            answers = [self._until_answered(child, "stateful", None) for child in self._children]
            self._stateful = any(answers)
        except BaseException:
            self.__exit__(True)
            raise

    def round(self, order: Order) -> Iterator[Reply]:
        vector = order.weights.vector
        np.frombuffer(self._board.map, vector.dtype)[: vector.size] = vector
        on_board = replace(order, weights=Replica(vector[:0], order.weights.scale))
        for child in self._children:
            child.post("round", on_board)
        for child in self._children:
            yield from self._replies(child, order)
        if self._stateful:
            vector = order.weights.vector.copy()
            self._log.append(("round", replace(order, weights=Replica(vector, order.weights.scale))))
            self._log_bytes += vector.nbytes
            if order.exact or not self._drops:
                self._shorten()

    def settle(self, delivered: NDArray[np.bool_]) -> None:
        if not self._stateful:  # then there is nothing that could depend on it
            return
        for child in self._children:
            child.post("settle", delivered)
        for child in self._children:
            self._until_answered(child, "settle", delivered)
        self._log.append(("settle", delivered))
        self._shorten()

    def snapshot(self) -> Arrays:
        parts = [self._answer(child, "snapshot") for child in self._children]
        for child, part in zip(self._children, parts, strict=True):
            child.snapshot = part
        self._forget()
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def restore(self, snapshot: Arrays) -> None:
        sizes = [self._answer(child, "sizes") for child in self._children]
        for p, child in enumerate(self._children):
            starts = {name: sum(size[name] for size in sizes[:p]) for name in snapshot}
            child.snapshot = {
                name: array[starts[name] : starts[name] + sizes[p][name]] for name, array in snapshot.items()
            }
            self._answer(child, "restore", child.snapshot)
        self._forget()

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children]

    def __exit__(self, *problem: Any) -> None:
        for child in self._children:
            child.close()
        for child in self._children:
            child.stop(patient=not any(problem))
            child.mail.close()
        self._job.close()
        self._board.close()

    def _replies(self, child: _Child, order: Order) -> Iterator[Reply]:
        """Return what a child replied to an order; revive it until it does."""
        shapes = self._until_answered(child, "round", order)
        if shapes and shapes[-1][2][-1] > len(child.mail.map):
            child.mail.grow(0)
        data = np.frombuffer(child.mail.map, np.uint8)
        for low, header, offsets, rows, work in shapes:
            yield Reply(low, header, Packets(data[: offsets[-1]], offsets), rows, work)

    def _answer(self, child: _Child, task: str, detail: Any = None) -> Any:
        child.post(task, detail)
        return self._until_answered(child, task, detail)

    def _until_answered(self, child: _Child, task: str, detail: Any) -> Any:
        """Return the answer to a task that was posted; revive the child and post it again until it comes."""
        for attempt in range(_STARTS):
            try:
                if attempt:
                    child.revive(self._children, self._log)
                    child.post(task, detail)
                return child.receive()
            except _ChildEndedError:
                continue
        raise EngineError(
            f"the process of workers {child.low} to {child.high - 1} ended {_STARTS} times in a row"
            f" (killed for want of memory?); the last exit code was {child.exit_code}"
        )

    def _shorten(self) -> None:
        """Take a snapshot before what must be kept for replay takes too much."""
        if len(self._log) >= _LOG_ROUNDS or self._log_bytes > _LOG_BYTES:
            self.snapshot()

    def _forget(self) -> None:
        """Forget the orders before a snapshot."""
        self._log.clear()
        self._log_bytes = 0


class _ChildEndedError(Exception):
    """A child process ended, or was silent for too long."""


class _Child:
    """A process, seen from its parent."""

    def __init__(self, engine: Processes, job: SharedPickle, board: SharedFile, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.snapshot: Arrays | None = None
        self.mail = SharedFile(1 << 16)
        self._engine, self._job, self._board = engine, job, board
        self._context: Any = mp.get_context(engine.start)
        self._process: Any = None
        self._pipe: Any = None
        self._owes = False
        self.exit_code: int | None = None

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def start(self, siblings: list[_Child]) -> None:
        """Make the process. It needs a moment before it answers."""
        self._pipe, theirs = self._context.Pipe()
        inherited = [sibling._pipe for sibling in siblings if sibling._pipe] if self._engine.start == "fork" else []
        details = (theirs, inherited, self._job, self._board, self.mail, self.low, self.high)
        process = self._context.Process(
            target=serve, args=(*details, self._engine.block, self._engine.threads), daemon=True, name="qsim-workers"
        )
        if self._engine.start == "forkserver":
            self._context.set_forkserver_preload(["qsim.engines.child", "qsim.kernels.csr"])
        try:
            with without_main():
                process.start()
        except (OSError, EOFError) as error:  # it ended before it had read what it shall do
            raise _ChildEndedError from error
        self._process = process
        theirs.close()

    def revive(self, siblings: list[_Child], log: list[tuple[str, Any]]) -> None:
        """Start again where the last snapshot was, and replay the orders since."""
        self.stop(patient=False)
        self._pipe, self._owes = None, False
        self.start(siblings)
        if self.snapshot is not None:
            self.ask("restore", self.snapshot)
        for task, detail in log:
            self.ask(task, detail)

    def ask(self, task: str, detail: Any = None) -> Any:
        """Post a task and receive its answer."""
        self.post(task, detail)
        return self.receive()

    def post(self, task: str, detail: Any) -> None:
        """Send a task; that the process has ended is found out by `receive`."""
        if self._owes:  # the answer to a task whose round broke off, by an error of another process
            with suppress(Exception):
                self.receive()
        try:
            send(self._pipe, self.mail, (task, detail))
        except OSError as error:
            if error.errno == ENOSPC:
                raise
        self._owes = True

    def receive(self) -> Any:
        """Return the answer to the last task. Raises what the worker raised, or _ChildEndedError."""
        if self._process is None:
            raise _ChildEndedError
        ready = wait([self._pipe, self._process.sentinel], self._engine.patience)
        try:
            if self._pipe not in ready and not self._pipe.poll():
                raise EOFError
            good, answer = receive(self._pipe, self.mail)
        except (EOFError, OSError):
            self._owes = False
            raise _ChildEndedError from None
        self._owes = False  # not before: an interrupted wait leaves the answer owed
        if good:
            return answer
        import cloudpickle

        raise cloudpickle.loads(answer)

    def close(self) -> None:
        """Ask the process to end by itself, after what it is doing."""
        with suppress(OSError, ValueError, AttributeError):  # it may have ended, or never started
            send(self._pipe, self.mail, ("close", None))

    def stop(self, patient: bool) -> None:
        """End the process: by itself if there is time, else at once."""
        if self._process is None:  # it was never started
            return
        self._process.join(5.0 if patient else 0.0)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self.exit_code = self._process.exitcode
        self._pipe.close()


@contextmanager
def without_main() -> Iterator[None]:
    """Start a process that does not run the user's script again: what it needs of it comes with the job, by value."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def _warm(job: Job) -> None:
    """Run one worker once, so that all kernels are compiled and on disk: processes that compile at once may clash."""
    host = Host(job, 0, 1)
    nowhere = Replica(np.zeros(job.shards.n, np.float32))
    with suppress(Exception, SystemExit):  # the process of this worker will say it, with the round in which it happens
        list(host.run(Order(0, 0, "update", nowhere)))
        if job.drops:
            host.settle(np.zeros(job.shards.workers, bool))
    host.close()
