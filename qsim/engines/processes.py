"""Workers spread over processes of this machine."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from errno import ENOSPC
from multiprocessing.connection import wait
from typing import Any, Literal, NoReturn, final

import numpy as np

from qsim.engines.base import Engine, Session
from qsim.engines.child import MailedReplies, serve
from qsim.engines.child_process import start_child, stop_child
from qsim.engines.members import Compiling, awaited
from qsim.engines.recovery import EngineError, Place, PlaceEndedError, RecoveringSession, Transport, shares
from qsim.engines.replicas import follows
from qsim.engines.shared import NoRoomError, SharedFile, SharedPickle, receive, send
from qsim.options import number, one_of, option, whole
from qsim.weights import Replica
from qsim.workers.tasks import Job, Order


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
        return RecoveringSession(_ChildProcesses(self, job), job)


class _ChildProcesses(Transport):
    """Processes that map the data, read the weights from one board, and have a mail each."""

    has_board = True

    def __init__(self, engine: Processes, job: Job) -> None:
        workers = job.shards.workers
        cores = max(1, (os.cpu_count() or 1) // engine.threads)
        self._board = SharedFile(8 * job.shards.n)
        self._on_board: int | None = None  # the number of the weights there
        self._job = SharedPickle(job)
        self.places: list[_Child] = []
        try:
            for low, high in shares(workers, min(workers, engine.processes or cores)):
                self.places.append(_Child(engine, self._job, self._board, low, high, self.places))
        except BaseException:
            self.close(patient=False)
            raise

    def message(self, task: str, detail: Any) -> Any:
        return task, detail

    def message_to_all(self, task: str, detail: Any) -> Any:
        """Write the weights of an order where all processes read them, instead of sending them to each."""
        if isinstance(detail, Order):
            vector, change = detail.weights.vector, detail.weights.change
            board = np.frombuffer(self._board.map, vector.dtype)[: vector.size]
            if change is not None and follows(detail.weights, self._on_board):
                board[change.index] = vector[change.index]
            else:
                board[:] = vector
            self._on_board = None if change is None else change.after
            detail = replace(detail, weights=Replica(vector[:0], detail.weights.scale))
        return task, detail

    def close(self, patient: bool) -> None:
        for child in self.places:
            child.close()
        for child in self.places:
            child.stop(patient)
            child.mail.close()
        self._job.close()
        self._board.close()


class _Child(Place):
    """A process, seen from its parent."""

    machine = "this one"

    def __init__(
        self,
        engine: Processes,
        job: SharedPickle,
        board: SharedFile,
        low: int,
        high: int,
        siblings: Sequence[_Child],
    ) -> None:
        super().__init__(low, high)
        self.mail = SharedFile(1 << 16)
        self._engine, self._job, self._board, self._siblings = engine, job, board, siblings
        self._process: Any = None
        self._pipe: Any = None
        self._owes = False
        self._unsent: NoRoomError | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Make the process, in place of the one that there was. It needs a moment before it answers."""
        self._end_at_once()
        if self._engine.start == "forkserver":
            mp.set_forkserver_preload(["qsim.engines.child", "qsim.kernels.csr"])
        inherited = [sibling._pipe for sibling in self._siblings if sibling._pipe]
        details = (self._job, self._board, self.mail, self.low, self.high, self._engine.block, self._engine.threads)
        try:
            self._process, self._pipe = start_child(self._engine.start, serve, details, "qsim-workers", inherited)
        except (OSError, EOFError) as error:  # it ended before it had read what it shall do
            raise PlaceEndedError(f"when it was started ({error})") from error

    def post(self, message: Any) -> None:
        if self._owes:  # the answer to a task whose round broke off, by an error of another process
            with suppress(Exception):
                self.receive()
        try:
            if self._pipe is not None:
                send(self._pipe, self.mail, message)
        except NoRoomError as error:  # `receive` raises it
            self._unsent = error
            return
        except OSError:
            pass
        self._owes = True

    def receive(self) -> Any:
        """Return the answer to the last message. Raises what the workers raised, NoRoomError, or PlaceEndedError.

        A process has the engine's patience to answer, without the time in which it compiles.
        """
        if self._unsent is not None:
            error, self._unsent = self._unsent, None
            self._leave_ram_disk(error)
        if self._process is None:
            raise PlaceEndedError("before it was started")
        try:
            answer = awaited(self._next, self._engine.patience)
        except NoRoomError as error:
            self._leave_ram_disk(error)
        return answer.taken_from(self.mail) if isinstance(answer, MailedReplies) else answer

    def _next(self, patience: float | None) -> Any:
        """Return what the process says next."""
        ready = wait([self._pipe, self._process.sentinel], patience)
        try:
            if self._pipe not in ready and not self._pipe.poll():
                raise EOFError
            said = receive(self._pipe, self.mail)
        except (EOFError, OSError):
            self._owes = False
            raise PlaceEndedError(self._end() if ready else f"killed after {patience:g} s without an answer") from None
        self._owes = isinstance(said, Compiling)  # not before: an interrupted wait leaves the answer owed
        return said

    def close(self) -> None:
        """Ask the process to end by itself, after what it is doing."""
        with suppress(OSError, ValueError, AttributeError):  # it may have ended, or never started
            send(self._pipe, self.mail, ("close", None))

    def stop(self, patient: bool) -> None:
        """End the process: by itself if there is time, else at once."""
        if self._process is not None:
            stop_child(self._process, self._pipe, 5.0 if patient else 0.0)

    def _end_at_once(self) -> None:
        self.stop(patient=False)
        self._process, self._pipe, self._owes = None, None, False

    def _leave_ram_disk(self, error: NoRoomError) -> NoReturn:
        """End the process, and have a mail where there may be more room. Raises NoRoomError if it is there already."""
        if not self.mail.on_ram_disk:
            raise NoRoomError.of(2 * len(self.mail.map), OSError(ENOSPC, os.strerror(ENOSPC)))
        self._end_at_once()
        self.mail.close()
        self.mail = SharedFile(1 << 16, ram_disk=False)
        raise PlaceEndedError(f"for want of room ({error})") from error

    def _end(self) -> str:
        """Say how the process ended."""
        self._process.join(1.0)
        code = self._process.exitcode
        why = " (killed for want of memory?)" if code == -signal.SIGKILL else ""
        return f"the last exit code was {code}{why}"
