"""Sessions whose workers live in processes that may end at any time: what ended is started again, to the same bits.

An engine supplies a `Transport`: how tasks get to the places where workers are, and answers back. What a place lost is
made again here, from its last snapshot and the log of what it was told since.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays
from qsim.engines.base import Session
from qsim.engines.replicas import Completer, Shortener
from qsim.weights import Replica
from qsim.workers.tasks import Instruction, Job, Measurement, Order, Reply

_STARTS = 3  # a place that ends this often in one round would end for ever
_LOG_ROUNDS, _LOG_BYTES = 50, 64 << 20  # what is kept for replay, after the first weights, before a new snapshot


class EngineError(RuntimeError):
    """Raised if a process of an engine ended again and again, or could not be started."""


class PlaceEndedError(Exception):
    """A place ended, or was silent for too long; the text says how."""


class Place(ABC):
    """The workers low, ..., high - 1 in another process, seen from the driver.

    It does one task at a time. When its process ends, all that its workers keep is lost.
    """

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    @property
    @abstractmethod
    def machine(self) -> str:
        """The machine that it is on; kernels that one place there has compiled are found by the others."""

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """Its process, if that is on this machine."""

    @abstractmethod
    def start(self) -> None:
        """Have the workers as a job begins with them, in place of those that there were.

        Raises PlaceEndedError if they end meanwhile, EngineError if there is no hope.
        """

    @abstractmethod
    def post(self, message: Any) -> None:
        """Send a message; that the process has ended is found out by `receive`."""

    @abstractmethod
    def receive(self) -> Any:
        """Return the answer to the last message. Raises what the workers raised, or PlaceEndedError."""


class Transport(ABC):
    """The places of a job, and what goes to them."""

    places: Sequence[Place]
    processes_end = True
    """Whether the processes of the places end when they are closed."""
    has_board = False
    """Whether all places read the weights where `message_to_all` writes them, those that were started again too."""

    @abstractmethod
    def message(self, task: str, detail: Any) -> Any:
        """Return what `Place.post` takes: one of the tasks of `Members`, with its argument."""

    def message_to_all(self, task: str, detail: Any) -> Any:
        """Return a message that is posted to every place. It is good until the next one is made."""
        return self.message(task, detail)

    @abstractmethod
    def close(self, patient: bool) -> None:
        """End the places: by themselves if there is time, else at once. Nothing that was started stays."""


class RecoveringSession(Session):
    """The session of a transport. It owns the transport, and closes it."""

    def __init__(self, transport: Transport, job: Job) -> None:
        self._transport, self._places = transport, transport.places
        self._drops = job.drops
        self._saved: list[Arrays | None] = [None] * len(self._places)
        self._log: list[tuple[str, Any]] = []
        self._log_bytes = 0
        self._sent, self._logged = Shortener(), Shortener()
        try:
            for place in self._places:
                with suppress(PlaceEndedError):  # it is started again when it does not answer
                    place.start()
            machines = [place.machine for place in self._places]
            for machine in dict.fromkeys(machines):  # all that compile at once would do the same
                self._answer(machines.index(machine), "warm")
            self._stateful = any(self._answers("stateful"))
        except BaseException:
            self.__exit__(True)
            raise

    def round(self, instruction: Instruction) -> Iterator[Reply]:
        for replies in self._answers("round", instruction):
            yield from replies
        if self._stateful and not isinstance(instruction, Measurement):
            self._keep(instruction)

    def on_delivered(self, delivered: NDArray[np.bool_]) -> None:
        if not self._stateful:  # then there is nothing that could depend on it
            return
        list(self._answers("on_delivered", delivered))
        self._log.append(("on_delivered", delivered))
        self._shorten()

    def snapshot(self) -> Arrays:
        parts = list(self._answers("snapshot"))
        self._saved[:] = parts
        self._forget()
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def restore(self, snapshot: Arrays) -> None:
        sizes = list(self._answers("sizes"))
        for number, size in enumerate(sizes):
            starts = {name: sum(before[name] for before in sizes[:number]) for name in snapshot}
            saved = {name: array[starts[name] : starts[name] + size[name]] for name, array in snapshot.items()}
            self._answer(number, "restore", saved)
            self._saved[number] = saved
        self._forget()

    @property
    def pids(self) -> list[int]:
        return [place.pid for place in self._places if place.pid is not None]

    @property
    def ending_pids(self) -> list[int]:
        return self.pids if self._transport.processes_end else []

    def __exit__(self, *problem: Any) -> None:
        self._transport.close(patient=not any(problem))

    def _answers(self, task: str, detail: Any = None) -> Iterator[Any]:
        """Give all places a task; yield the answers, in their order."""
        shown = detail if self._transport.has_board else self._sent.shortened(detail)
        message = self._transport.message_to_all(task, shown)
        for place in self._places:
            place.post(message)
        for number in range(len(self._places)):
            yield self._until_answered(number, task, detail)

    def _answer(self, number: int, task: str, detail: Any = None) -> Any:
        """Give one place a task; return its answer."""
        self._places[number].post(self._transport.message(task, detail))
        return self._until_answered(number, task, detail)

    def _until_answered(self, number: int, task: str, detail: Any) -> Any:
        """Return the answer to a task that was posted; revive the place and post it again until it comes."""
        place, how = self._places[number], ""
        for attempt in range(_STARTS):
            try:
                if attempt:
                    self._revive(number)
                    place.post(self._transport.message(task, detail))
                return place.receive()
            except PlaceEndedError as error:
                how = str(error)
        raise EngineError(
            f"the process of workers {place.low} to {place.high - 1} ended {_STARTS} times in a row, {how}"
        )

    def _revive(self, number: int) -> None:
        """Start a place again where its last snapshot was, and replay what it was told since."""
        place, saved, completer = self._places[number], self._saved[number], Completer()
        self._sent.forget()  # the place may have other weights now than the rest
        place.start()
        for task, detail in [*([("restore", saved)] if saved is not None else []), *self._log]:
            place.post(self._transport.message(task, completer.whole(detail)))
            place.receive()

    def _keep(self, instruction: Instruction) -> None:
        """Log an instruction for replay."""
        settled = True
        if isinstance(instruction, Order):
            settled = instruction.exact is not None or not self._drops
            instruction = self._copied(instruction)
        self._log.append(("round", instruction))
        if settled:
            self._shorten()

    def _copied(self, order: Order) -> Order:
        """Return an order with weights of its own, as others may be changed in place: what has changed in the log."""
        short: Order = self._logged.shortened(order)
        if short is not order:
            self._log_bytes += 2 * short.weights.vector.nbytes
            return short
        weights = order.weights
        self._log_bytes += weights.vector.nbytes * any(isinstance(detail, Order) for _, detail in self._log)
        return replace(order, weights=Replica(weights.vector.copy(), weights.scale, change=weights.change))

    def _shorten(self) -> None:
        """Take a snapshot before what must be kept for replay takes too much."""
        if len(self._log) >= _LOG_ROUNDS or self._log_bytes > _LOG_BYTES:
            self.snapshot()

    def _forget(self) -> None:
        """Forget what places were told before a snapshot."""
        self._log.clear()
        self._log_bytes = 0
        self._logged.forget()


def shares(workers: int, places: int) -> list[tuple[int, int]]:
    """Spread workers over places, evenly; return the first and the one after the last of each."""
    return [(p * workers // places, (p + 1) * workers // places) for p in range(places)]
