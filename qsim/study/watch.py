"""Watching a sweep that another process runs: what is stored, how fast it goes, what failed, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from qsim.study.journal import Entry, Sweep, sweeps
from qsim.study.store import Store
from qsim.study.stored import Request, Shelf, key

TUNING = ", tuning"
"""What the name of a sweep ends in whose cells a study chooses by."""
GRACE = 3.0  # seconds between the runs that a study is tuned by and its others, in which nothing is computed


@dataclass(frozen=True)
class State:
    """What a sweep is at.

    Parameters
    ----------
    name : str
        What it is called.
    state : {"waiting", "running", "finished", "stopped"}
        Whether it has not begun, runs, has computed all its cells, or has ended without that.
    cells, done : int
        How many cells there are, and how many are stored (or, of those to choose by, known to diverge).
    failures : mapping of str to str
        The errors of cells that failed, by their names.
    rounds_per_second, cells_per_minute : float
        How fast it goes; 0 if that is not known.
    seconds_left : float, optional
        How long it will take.
    """

    name: str
    state: str
    cells: int = 0
    done: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    rounds_per_second: float = 0.0
    cells_per_minute: float = 0.0
    seconds_left: float | None = None

    @property
    def words(self) -> str:
        """The state in a line."""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        text = f"{self.name}: {self.done} of {self.cells} cells{failed}"
        if self.state != "running":
            return f"{text}, {'not running' if self.state == 'stopped' else self.state}"
        if self.rounds_per_second:
            text += f", {self.rounds_per_second:,.0f} rounds/s, {self.cells_per_minute:,.1f} cells/min"
        if self.seconds_left is not None:
            minutes, seconds = divmod(round(self.seconds_left), 60)
            text += f", about {minutes}:{seconds:02d} left"
        return text

    @property
    def plain(self) -> dict[str, Any]:
        """The state as JSON can hold it."""
        left = None if self.seconds_left is None else round(self.seconds_left, 1)
        return {
            "study": self.name,
            "state": self.state,
            "at": time.time(),
            "cells": self.cells,
            "done": self.done,
            "failed": len(self.failures),
            "rounds_per_second": round(self.rounds_per_second, 1),
            "cells_per_minute": round(self.cells_per_minute, 2),
            "seconds_left": left,
            "failures": dict(self.failures),
        }


@dataclass(frozen=True)
class Cells:
    """Cells by their keys.

    choosing: those to choose by, for which it is an answer to diverge. whole: whether there will be no others.
    """

    entries: Mapping[str, Entry]
    choosing: frozenset[str]
    whole: bool


class Target(Protocol):
    """What is watched."""

    name: str

    def concerns(self, sweep: Sweep) -> bool:
        """Tell whether a sweep is of it."""

    def cells(self, found: Sequence[Sweep]) -> Cells:
        """Return its cells, given its sweeps."""


class OfStudy:
    """The cells of a study: those that it chooses by, and once these are known, those that are shown."""

    def __init__(self, request: Request, shelf: Shelf) -> None:
        self.name, self._request, self._shelf = request.name, request, shelf
        first = _entries(request.first_cells)
        tuned = request.study.tuning is not None
        self._cells = Cells(first, frozenset(first if tuned else ()), not tuned)

    def concerns(self, sweep: Sweep) -> bool:
        return not self._cells.entries.keys().isdisjoint(sweep.cells)

    def cells(self, found: Sequence[Sweep]) -> Cells:
        if not self._cells.whole:
            diverged = {name for sweep in found for name in sweep.diverged}
            if all(name in diverged or self._shelf.store.file(name).exists() for name in self._cells.choosing):
                stored = self._shelf.find(self._request)
                if not stored.choosing:
                    entries = {**self._cells.entries, **_entries(stored.cells)}
                    self._cells = replace(self._cells, entries=entries, whole=True)
        return self._cells


class OfProcess:
    """The cells that a process computes."""

    def __init__(self, sweep: Sweep) -> None:
        self.name, self._process = _study(sweep), sweep.process

    def concerns(self, sweep: Sweep) -> bool:
        return sweep.process == self._process and _study(sweep) == self.name

    def cells(self, found: Sequence[Sweep]) -> Cells:
        entries = {name: entry for sweep in found for name, entry in sweep.cells.items()}
        choosing = {name for sweep in found if sweep.name.endswith(TUNING) for name in sweep.cells}
        return Cells(entries, frozenset(choosing), whole=False)


def _study(sweep: Sweep) -> str:
    return sweep.name.removesuffix(TUNING)


def _entries(cells: Sequence[Any]) -> dict[str, Entry]:
    keys = {key(cell): Entry(cell.name, cell.run.rounds) for cell in cells}
    return {name: entry for name, entry in keys.items() if name is not None}


def states(store: Store, target: Target, *, every: float, wait: float) -> Iterator[State]:
    """Yield the state of what is watched, again and again, until the sweep is over: the last is finished or stopped.

    every: seconds between two looks. wait: seconds to wait for a sweep to begin if none runs.
    """
    idle, ran = time.monotonic(), False
    while True:
        found = [sweep for sweep in sweeps(store) if target.concerns(sweep)]
        running = any(sweep.running for sweep in found)
        state, over = _state(store, target.name, target.cells(found), found)
        if running:
            idle, ran = time.monotonic(), True
        patience = GRACE if ran else wait
        if over or (not running and time.monotonic() - idle >= patience):
            yield replace(state, state="finished" if state.done == state.cells and state.cells else "stopped")
            return
        yield replace(state, state="running" if running or ran else "waiting")
        time.sleep(every)


def newest(store: Store, *, wait: float) -> Sweep | None:
    """Return the sweep that began last of those that run, waiting so many seconds for one; None if none begins."""
    begun = time.monotonic()
    while True:
        running = [sweep for sweep in sweeps(store) if sweep.running]
        if running or time.monotonic() - begun >= wait:
            return running[-1] if running else None
        time.sleep(min(0.5, wait))


def _state(store: Store, name: str, cells: Cells, found: Sequence[Sweep]) -> tuple[State, bool]:
    """Return what is done and failed, and whether nothing more will come: all cells are known, or have failed."""
    running = [sweep for sweep in found if sweep.running]
    errors: dict[str, str | None] = {}
    for sweep in found:  # a later one tries again what failed before
        errors |= {one: sweep.failures.get(one) for one in sweep.cells}
    answered = cells.choosing & {one for sweep in found for one in sweep.diverged}
    done = {one for one in cells.entries if one in answered or store.file(one).exists()}
    failed = {one: error for one, error in errors.items() if error and one in cells.entries and one not in done}
    left = sum(entry.rounds for one, entry in cells.entries.items() if one not in done and one not in failed)
    left -= sum(sweep.rounds for sweep in running)
    rate = sum(sweep.rate for sweep in running)
    state = State(
        name,
        "running",
        len(cells.entries),
        len(done),
        {cells.entries[one].name: error for one, error in failed.items()},
        rate,
        sum(60 * len(sweep.done) / (sweep.seen - sweep.begun) for sweep in running if sweep.rate),
        max(0, left) / rate if rate else None,
    )
    return state, cells.whole and len(done) + len(failed) == len(cells.entries)
