"""Engines whose places are in this process, and are lost when a test says so."""

from __future__ import annotations

import pickle
from functools import partial

from qsim.engines import Engine, Session
from qsim.engines.members import Members, attempted, outcome
from qsim.engines.recovery import Place, PlaceEndedError, RecoveringSession, Transport, shares
from qsim.workers.tasks import Job


class Fragile(Place):
    """Workers in this process, which are lost at some of the messages: before, or right after they have done them."""

    machine, pid = "here", None

    def __init__(self, job: Job, low: int, high: int, losses: dict[int, str]) -> None:
        super().__init__(low, high)
        self._job, self.losses = job, losses
        self.posted, self.starts = 0, 0
        self._members: Members | None = None
        self._answer: tuple[bool, object] | None = None

    def start(self) -> None:
        self.starts += 1
        self._members = Members(self._job, self.low, self.high, None, 1)

    def post(self, message: bytes) -> None:
        loss = self.losses.get(self.posted)
        self.posted += 1
        self._answer = None
        task, detail = pickle.loads(message)
        if loss != "before" and self._members is not None:
            self._answer = attempted(partial(getattr(self._members, task), detail))
        if loss is not None:
            self._members = self._answer = None

    def receive(self) -> object:
        if self._answer is None:
            raise PlaceEndedError("lost")
        return outcome(self._answer)


class Loose(Transport):
    def __init__(self, job: Job, losses: dict[int, str]) -> None:
        self.places = [
            Fragile(job, low, high, losses if low == 0 else {}) for low, high in shares(job.shards.workers, 3)
        ]
        self.closed = False
        self.sizes: list[int] = []  # of the messages, in bytes

    def message(self, task: str, detail: object) -> bytes:
        blob = pickle.dumps((task, detail))
        self.sizes.append(len(blob))
        return blob

    def close(self, patient: bool) -> None:
        self.closed = True


class LooseEngine(Engine):
    """Three places, the first of which is lost at some of its messages."""

    def __init__(self, losses: dict[int, str] | None = None) -> None:
        self.losses = losses or {}

    def open(self, job: Job) -> Session:
        self.transport = Loose(job, self.losses)
        return RecoveringSession(self.transport, job)
