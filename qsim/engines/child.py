"""The program of a process of `Processes`: its workers, until the parent closes it or ends."""

from __future__ import annotations

import os
import signal
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from shutil import rmtree
from threading import Thread
from typing import Any

import numpy as np

from qsim.engines.shared import NoRoomError, SharedFile, SharedPickle, receive, send
from qsim.weights import Replica
from qsim.workers.group import WorkerGroup
from qsim.workers.tasks import Instruction, Job, Order


def serve(
    pipe: Connection,
    inherited: list[Connection],
    job: SharedPickle,
    board: SharedFile,
    mail: SharedFile,
    low: int,
    high: int,
    block: int | None,
    threads: int,
    leftover: str | None,
) -> None:
    """Answer tasks with (True, answer), or (False, the exception); between, say `Compiling`, which may take long."""
    from qsim.kernels._jit import tell_of_compiling

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    Thread(target=end_with_parent, args=(leftover,), daemon=True).start()
    tell_of_compiling(lambda begins: send(pipe, mail, Compiling(begins)))
    for connection in inherited:  # a forked process holds its siblings' pipes, which would hide the parent's end
        connection.close()
    members: _Members | None = None
    while True:
        try:
            task, detail = receive(pipe, mail)
        except (EOFError, OSError):
            return
        if task == "close":
            return
        try:
            members = members or _Members(job.load(), board, mail, low, high, block, threads)
            answer: tuple[bool, Any] = (True, getattr(members, task)(detail))
        except BaseException as error:
            answer = (False, portable(error))
        try:
            send(pipe, mail, answer, members.mail_end if members else 0)
        except NoRoomError as error:
            send(pipe, mail, (False, portable(error)))  # short enough for the pipe
        except OSError:
            return


@dataclass(frozen=True)
class Compiling:
    """A child begins, or ends, to compile a kernel."""

    begins: bool


class _Members:
    """The tasks a child can do."""

    def __init__(
        self, job: Job, board: SharedFile, mail: SharedFile, low: int, high: int, block: int | None, threads: int
    ) -> None:
        self._job, self._low = job, low
        self._group = WorkerGroup(job, low, high, block, threads)
        self._board, self._features = board, job.shards.n
        self._mail = mail
        self.mail_end = 0
        """Where the packets of the last round end in the mail."""

    def warm(self, _: None) -> None:
        """Run one worker once, on its own, so that all kernels are compiled and on disk for the other processes."""
        group = WorkerGroup(self._job, self._low, self._low + 1)
        nowhere = Replica(np.zeros(self._features, np.float32))
        with suppress(Exception, SystemExit):  # it will be said with the round in which it happens
            list(group.run(Order(0, 0, "update", nowhere)))
            if self._job.drops:
                group.on_delivered(np.zeros(self._job.shards.workers, bool))
        group.close()

    def stateful(self, _: None) -> bool:
        return self._group.stateful

    def round(self, instruction: Instruction) -> list[tuple[int, bytes, Any, int, Any]]:
        """Run the workers, at the weights on the board unless an order brings its own; put the packets in the mail."""
        if isinstance(instruction, Order) and not instruction.weights.vector.size:
            vector = np.frombuffer(self._board.map, instruction.weights.vector.dtype)[: self._features]
            instruction = replace(instruction, weights=Replica(vector, instruction.weights.scale))
        shapes, end = [], 0
        for reply in self._group.run(instruction):
            data, offsets = reply.packets.data, reply.packets.offsets
            if end + data.size > len(self._mail.map):
                self._mail.grow(end + data.size)
            np.frombuffer(self._mail.map, np.uint8)[end : end + data.size] = data
            shapes.append((reply.low, reply.header, offsets + end, reply.rows, reply.work))
            end += data.size
        self.mail_end = end
        return shapes

    def on_delivered(self, delivered: Any) -> None:
        self._group.on_delivered(delivered)

    def snapshot(self, _: None) -> Any:
        return self._group.snapshot()

    def sizes(self, _: None) -> dict[str, int]:
        return {name: array.size for name, array in self._group.snapshot().items()}

    def restore(self, snapshot: Any) -> None:
        self._group.restore(snapshot)


def end_with_parent(leftover: str | None = None) -> None:
    """End this process at once when the parent has ended, whatever it is doing; remove a folder of the parent's."""
    parent, above = parent_process(), os.getppid()
    while parent is not None and os.getppid() == above:  # a forked bystander may hold the sentinel open
        if wait([parent.sentinel], timeout=1.0):
            if leftover is not None:
                rmtree(leftover, ignore_errors=True)
            break
    os._exit(1)


def portable(error: BaseException) -> bytes:
    """Return an exception as bytes that carry its traceback as a note, and its text if nothing else can be sent."""
    import cloudpickle

    error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)).rstrip())
    try:
        if not isinstance(error, Exception):
            raise TypeError("a SystemExit in a worker is an error, not the parent's end")
        blob: bytes = cloudpickle.dumps(error)
        cloudpickle.loads(blob)
    except Exception:
        try:
            text = str(error)
        except Exception:
            text = "(its text cannot be made)"
        plain = RuntimeError(f"{type(error).__name__}: {text}")
        for note in error.__notes__:
            plain.add_note(note)
        blob = cloudpickle.dumps(plain)
    return blob
