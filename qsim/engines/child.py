"""The program of a process of `Processes`: its workers, until the parent closes it or ends."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from qsim.engines.child_process import portable_error
from qsim.engines.shared import NoRoomError, SharedFile, SharedPickle, receive, send
from qsim.weights import Replica
from qsim.workers.group import WorkerGroup
from qsim.workers.tasks import Instruction, Job, Order


def serve(
    pipe: Connection,
    job: SharedPickle,
    board: SharedFile,
    mail: SharedFile,
    low: int,
    high: int,
    block: int | None,
    threads: int,
) -> None:
    """Answer tasks with (True, answer), or (False, the exception); between, say `Compiling`, which may take long."""
    from qsim.kernels._jit import tell_of_compiling

    tell_of_compiling(lambda begins: send(pipe, mail, Compiling(begins)))
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
            answer = (False, portable_error(error))
        try:
            send(pipe, mail, answer, members.mail_end if members else 0)
        except NoRoomError as error:
            send(pipe, mail, (False, portable_error(error)))  # short enough for the pipe
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
