"""Workers spread over processes of this machine."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from errno import ENOSPC
from multiprocessing.connection import wait
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Packets
from qsim.engines.base import Engine, Session
from qsim.engines.child import Compiling, serve
from qsim.engines.child_process import start_child, stop_child
from qsim.engines.shared import NoRoomError, SharedFile, SharedPickle, receive, send
from qsim.options import number, one_of, option, whole
from qsim.weights import Replica
from qsim.workers.tasks import Instruction, Job, Order, Reply

_STARTS = 3  # a process that ends this often in one round would end for ever
_LOG_ROUNDS, _LOG_BYTES = 50, 64 << 20  # the orders kept for replay before a new snapshot is taken


class EngineError(RuntimeError):
    """Raised if a process of an engine ended again and again, or could not be started."""


@final
@option
class Processes(Engine):
    """Workers spread over long-lived processes of this machine.

    Parameters
    ----------
    processes : int, optional
        How many processes; by default one a core.
    threads : int, default 1
        How many threads each of them has.
    start : {"forkserver", "spawn", "fork"}, default "forkserver"
        How processes are started. "fork" is the fastest, but not safe in a program with threads.
    block : int, optional
        How many workers pass through each stage together; chosen by default so that a block fits the cache.
    patience : float, default 600.0
        Seconds without a sign of life after which a process is replaced.

    Raises
    ------
    ValueError
        For numbers below 1, and for more threads in all than there are cores.

    Notes
    -----
    Data are mapped once and shared; packets come back through shared memory. A process that is killed, or silent for
    `patience` seconds, is started again, set to its last snapshot, and given the instructions since: the results are
    the same bits as if nothing had happened, and as on any other engine. The processes end with this one, however it
    ends, and leave nothing behind.

    A class that you define in a script or a notebook works in every process; the script needs no `__main__` guard.

    Examples
    --------
    >>> import qsim
    >>> qsim.engines.Processes(processes=2)
    qsim.engines.Processes(processes=2)
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
        if mp.current_process().daemon:
            raise EngineError(
                "Processes can't start processes from a daemonic one, such as those of multiprocessing.Pool; take"
                " qsim.engines.Serial() there, or a concurrent.futures.ProcessPoolExecutor as the pool"
            )
        return _ProcessSession(self, job)


class _ProcessSession(Session):
    def __init__(self, engine: Processes, job: Job) -> None:
        workers = job.shards.workers
        cores = max(1, (os.cpu_count() or 1) // engine.threads)
        count = min(workers, engine.processes or cores)
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
            self._answer(self._children[0], "warm")  # all that compile at once would do the same
            for child in self._children:
                child.post("stateful", None)
            answers = [self._until_answered(child, "stateful", None) for child in self._children]
            self._stateful = any(answers)
        except BaseException:
            self.__exit__(True)
            raise

    def round(self, instruction: Instruction) -> Iterator[Reply]:
        posted = self._on_board(instruction)
        for child in self._children:
            child.post("round", posted)
        for child in self._children:
            yield from self._replies(child, instruction)
        if self._stateful:
            self._keep(instruction)

    def _on_board(self, instruction: Instruction) -> Instruction:
        """Write the weights of an order where all processes read them, instead of sending them to each."""
        if not isinstance(instruction, Order):
            return instruction
        vector = instruction.weights.vector
        np.frombuffer(self._board.map, vector.dtype)[: vector.size] = vector
        return replace(instruction, weights=Replica(vector[:0], instruction.weights.scale))

    def _keep(self, instruction: Instruction) -> None:
        """Log an instruction for replay."""
        settled = True
        if isinstance(instruction, Order):
            settled = instruction.exact is not None or not self._drops
            vector = instruction.weights.vector.copy()  # it may be changed in place meanwhile
            self._log_bytes += vector.nbytes
            instruction = replace(instruction, weights=Replica(vector, instruction.weights.scale))
        self._log.append(("round", instruction))
        if settled:
            self._shorten()

    def on_delivered(self, delivered: NDArray[np.bool_]) -> None:
        if not self._stateful:  # then there is nothing that could depend on it
            return
        for child in self._children:
            child.post("on_delivered", delivered)
        for child in self._children:
            self._until_answered(child, "on_delivered", delivered)
        self._log.append(("on_delivered", delivered))
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

    def _replies(self, child: _Child, instruction: Instruction) -> Iterator[Reply]:
        """Return what a child replied to an instruction; revive it until it does."""
        shapes = self._until_answered(child, "round", instruction)
        if shapes and shapes[-1][2][-1] > len(child.mail.map):
            child.mail.grow(0)
        data = np.frombuffer(child.mail.map, np.uint8)
        for low, header, offsets, rows, work in shapes:
            yield Reply(low, header, Packets(data[offsets[0] : offsets[-1]], offsets - offsets[0]), rows, work)

    def _answer(self, child: _Child, task: str, detail: Any = None) -> Any:
        child.post(task, detail)
        return self._until_answered(child, task, detail)

    def _until_answered(self, child: _Child, task: str, detail: Any) -> Any:
        """Return the answer to a task that was posted; revive the child and post it again until it comes."""
        how = ""
        for attempt in range(_STARTS):
            try:
                if attempt:
                    child.revive(self._children, self._log)
                    child.post(task, detail)
                return child.receive()
            except _ChildEndedError as error:
                how = str(error)
            except NoRoomError:
                child.leave_ram_disk()
        raise EngineError(
            f"the process of workers {child.low} to {child.high - 1} ended {_STARTS} times in a row, {how}"
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
        self._process: Any = None
        self._pipe: Any = None
        self._owes = False
        self._unsent: NoRoomError | None = None

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def start(self, siblings: list[_Child]) -> None:
        """Make the process. It needs a moment before it answers."""
        if self._engine.start == "forkserver":
            mp.set_forkserver_preload(["qsim.engines.child", "qsim.kernels.csr"])
        inherited = [sibling._pipe for sibling in siblings if sibling._pipe]
        details = (self._job, self._board, self.mail, self.low, self.high, self._engine.block, self._engine.threads)
        try:
            self._process, self._pipe = start_child(self._engine.start, serve, details, "qsim-workers", inherited)
        except (OSError, EOFError) as error:  # it ended before it had read what it shall do
            raise _ChildEndedError(f"when it was started ({error})") from error

    def revive(self, siblings: list[_Child], log: list[tuple[str, Any]]) -> None:
        """Start again where the last snapshot was, and replay the orders since."""
        self.stop(patient=False)
        self._process, self._pipe, self._owes = None, None, False
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
            if self._pipe is not None:
                send(self._pipe, self.mail, (task, detail))
        except NoRoomError as error:  # `receive` raises it
            self._unsent = error
            return
        except OSError:
            pass
        self._owes = True

    def receive(self) -> Any:
        """Return the answer to the last task. Raises what the worker raised, NoRoomError, or _ChildEndedError.

        A process has the engine's patience to answer, without the time in which it compiles.
        """
        if self._unsent is not None:
            error, self._unsent = self._unsent, None
            raise error
        if self._process is None:
            raise _ChildEndedError("before it was started")
        patience: float | None = self._engine.patience
        while True:
            ready = wait([self._pipe, self._process.sentinel], patience)
            try:
                if self._pipe not in ready and not self._pipe.poll():
                    raise EOFError
                said = receive(self._pipe, self.mail)
            except (EOFError, OSError):
                self._owes = False
                raise _ChildEndedError(
                    self._end() if ready else f"killed after {patience:g} s without an answer"
                ) from None
            if not isinstance(said, Compiling):
                break
            if said.begins:
                from qsim.kernels._jit import announce

                announce()
            patience = None if said.begins else self._engine.patience
        good, answer = said
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
        if self._process is not None:
            stop_child(self._process, self._pipe, 5.0 if patient else 0.0)

    def leave_ram_disk(self) -> None:
        """Have the mail where there may be more room. Raises NoRoomError if it is there already."""
        if not self.mail.on_ram_disk:
            raise NoRoomError.of(2 * len(self.mail.map), OSError(ENOSPC, os.strerror(ENOSPC)))
        self.mail.close()
        self.mail = SharedFile(1 << 16, ram_disk=False)

    def _end(self) -> str:
        """Say how the process ended."""
        self._process.join(1.0)
        code = self._process.exitcode
        why = " (killed for want of memory?)" if code == -signal.SIGKILL else ""
        return f"the last exit code was {code}{why}"
