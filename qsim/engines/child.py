"""The program of a process of `Processes`: its workers, until the parent closes it or ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Packets
from qsim.engines.child_process import portable_error
from qsim.engines.members import Compiling, Members, attempted
from qsim.engines.shared import NoRoomError, SharedFile, SharedPickle, receive, send
from qsim.weights import Replica
from qsim.workers.tasks import Instruction, Job, Order, Reply


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
    members: _MailingMembers | None = None

    def do(task: str, detail: Any) -> Any:
        nonlocal members
        members = members or _MailingMembers(job.load(), board, mail, low, high, block, threads)
        return getattr(members, task)(detail)

    while True:
        try:
            task, detail = receive(pipe, mail)
        except (EOFError, OSError):
            return
        if task == "close":
            return
        answer = attempted(partial(do, task, detail))
        try:
            send(pipe, mail, answer, members.mail_end if members else 0)
        except NoRoomError as error:
            send(pipe, mail, (False, portable_error(error)))  # short enough for the pipe
        except OSError:
            return


@dataclass(frozen=True)
class MailedReplies:
    """The replies to a round, whose packets are in the mail."""

    places: list[tuple[int, bytes, NDArray[np.int64], tuple[Any, ...]]]
    """Of each reply: its first worker, its header, where its packets are, and the rest."""

    def taken_from(self, mail: SharedFile) -> Iterator[Reply]:
        """Yield the replies; their packets are views of the mail."""
        if self.places and self.places[-1][2][-1] > len(mail.map):
            mail.grow(0)
        data = np.frombuffer(mail.map, np.uint8)
        for low, header, offsets, rest in self.places:
            yield Reply(low, header, Packets(data[offsets[0] : offsets[-1]], offsets - offsets[0]), *rest)


class _MailingMembers(Members):
    """Workers that read the weights from the board, and put their packets in the mail."""

    def __init__(
        self, job: Job, board: SharedFile, mail: SharedFile, low: int, high: int, block: int | None, threads: int
    ) -> None:
        super().__init__(job, low, high, block, threads)
        self._board, self._features = board, job.shards.n
        self._mail = mail
        self.mail_end = 0
        """Where the packets of the last round end in the mail."""

    def round(self, instruction: Instruction) -> MailedReplies:
        """Run the workers, at the weights on the board unless an order brings its own; put the packets in the mail."""
        if isinstance(instruction, Order) and not instruction.weights.vector.size:
            vector = np.frombuffer(self._board.map, instruction.weights.vector.dtype)[: self._features]
            instruction = replace(instruction, weights=Replica(vector, instruction.weights.scale))
        places, end = [], 0
        for reply in self._group.run(instruction):
            data, offsets = reply.packets.data, reply.packets.offsets
            if end + data.size > len(self._mail.map):
                self._mail.grow(end + data.size)
            np.frombuffer(self._mail.map, np.uint8)[end : end + data.size] = data
            places.append((reply.low, reply.header, offsets + end, (reply.rows, reply.work, reply.scores)))
            end += data.size
        self.mail_end = end
        return MailedReplies(places)
