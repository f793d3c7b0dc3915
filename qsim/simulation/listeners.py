"""Listeners of a run: they are called after its rounds, and change nothing in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tqdm.auto import tqdm

from qsim.simulation.checkpoint import Checkpoint
from qsim.simulation.training import Training

_CHUNK = 10_000  # rounds that a bar is not told of at most, where many are done at once: a part of a second


class Listener(Protocol):
    """Is called with the training after rounds."""

    def due(self, done: int) -> int:
        """Return the number of rounds after which it must be called next, `done` of them being done."""

    def __call__(self, training: Training) -> None:
        """Look at the training, after `training.done` rounds: those that it waits for, and maybe others."""


class AfterRound(Listener):
    """Calls a user's function with the number of rounds done."""

    def __init__(self, function: Callable[[int], None]) -> None:
        self._function = function

    def due(self, done: int) -> int:
        return done + 1

    def __call__(self, training: Training) -> None:
        self._function(training.done)


class Saving(Listener):
    """Writes a checkpoint every `every` rounds, and at the end."""

    def __init__(self, store: Checkpoint, every: int) -> None:
        self._store, self._every = store, every

    def due(self, done: int) -> int:
        return (done // self._every + 1) * self._every

    def __call__(self, training: Training) -> None:
        if training.over or training.done % self._every == 0:
            self._store.save(training.snapshot())


class ProgressBar(Listener, AbstractContextManager["ProgressBar"]):
    """Shows a bar of rounds: on a terminal (None), always (True) or never (False)."""

    def __init__(self, training: Training, shown: bool | None) -> None:
        self._bar: Any = tqdm(
            initial=training.done,
            total=training.run.rounds,
            unit="round",
            delay=0 if shown else 2,
            leave=False,
            disable=None if shown is None else not shown,
        )

    def due(self, done: int) -> int:
        return done + _CHUNK

    def __call__(self, training: Training) -> None:
        self._bar.update(training.done - self._bar.n)

    def __exit__(self, *problem: Any) -> None:
        self._bar.close()
