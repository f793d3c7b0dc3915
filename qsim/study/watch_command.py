"""The command `qsim study watch`."""

from __future__ import annotations

import json
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from qsim.study.catalog import RequestError
from qsim.study.report import page, parts
from qsim.study.report.command import request, require_folder
from qsim.study.report.page import Live, Part
from qsim.study.store import Store
from qsim.study.stored import Request, Shelf
from qsim.study.watch import GRACE, OfProcess, OfStudy, State, Target, newest, states

_EVERY_LINE = 20.0  # seconds between two lines where there is no terminal and nothing has happened


class Display(Protocol):
    """Where states are shown."""

    def show(self, state: State) -> None:
        """Show a state."""

    def close(self) -> None:
        """Show the last state for good."""


def watch(options: Namespace) -> int:
    """Show a sweep until it is over; returns 1 if cells are missing then."""
    if len(options.names) > 1:
        raise RequestError(f"watch takes the name of one study, found {' '.join(options.names)}")
    if not options.every > 0 or options.wait < 0:
        raise RequestError("--every must be above 0 and --wait at least 0 seconds")
    shelf, wanted = Shelf(Store()), None
    if options.html is not None:
        page.require()
        require_folder(options.html)
    if options.names:
        wanted = request(options.names[0], options)
        if not wanted.keeps_cells:
            raise RequestError(f"{wanted.name} stores no cells, so there is nothing to watch")
        target: Target = OfStudy(wanted, shelf)
        seen = states(shelf.store, target, every=options.every, wait=options.wait)
    elif options.html is not None:
        raise RequestError("--html needs the name of the study: qsim study watch NAME --html FILE")
    else:
        seen = _running(shelf.store, options)
    displays: list[Display] = [_display(options)]
    if wanted is not None and options.html is not None:
        displays.append(Page(options.html, wanted, shelf, options.every))
    return _follow(seen, displays, wanted)


def _running(store: Store, options: Namespace) -> Iterator[State]:
    """Return the states of the sweep that began last. Raises RequestError if none runs."""
    sweep = newest(store, wait=options.wait)
    if sweep is None:
        raise RequestError("no sweep is running; with the name of a study, watch says what is stored of it")
    return states(store, OfProcess(sweep), every=options.every, wait=GRACE)


def _follow(seen: Iterator[State], displays: list[Display], wanted: Request | None) -> int:
    with ExitStack() as stack:
        for display in displays:
            stack.callback(display.close)
        try:
            for state in seen:
                for display in displays:
                    display.show(state)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the sweep itself goes on") from None
    if state.state == "finished":
        return 0
    for name, error in state.failures.items():
        print(f"{name}: {error}", file=sys.stderr)
    if wanted is not None:
        print(
            f"{state.cells - state.done} cells are missing; to run them: {shlex.join(wanted.command)}", file=sys.stderr
        )
    return 1


def _display(options: Namespace) -> Display:
    if options.json:
        return Lines(lambda state: json.dumps(state.plain), every=0.0)
    return Bar() if sys.stdout.isatty() else Lines(lambda state: state.words, every=_EVERY_LINE)


class Lines:
    """A line for every state in which something has happened, and now and then for another."""

    def __init__(self, line: Callable[[State], str], every: float) -> None:
        self._line, self._every = line, every
        self._shown: object = None
        self._when = 0.0

    def show(self, state: State) -> None:
        now, what = time.monotonic(), (state.state, state.cells, state.done, len(state.failures))
        if what != self._shown or now - self._when >= self._every:
            self._shown, self._when = what, now
            print(self._line(state), flush=True)

    def close(self) -> None:
        """Nothing is left to do."""


class Bar:
    """A bar on a terminal, a line for each cell that fails, and one that stays in the end."""

    def __init__(self) -> None:
        self._bar: Any = tqdm(total=0, file=sys.stdout, bar_format="{desc} {bar}", dynamic_ncols=True, leave=False)
        self._failed: set[str] = set()
        self._words = ""

    def show(self, state: State) -> None:
        for name in state.failures.keys() - self._failed:
            self._bar.write(f"{name} failed: {state.failures[name]}", file=sys.stdout)
        self._failed |= state.failures.keys()
        self._bar.total, self._bar.n = state.cells, state.done
        self._words = state.words
        self._bar.set_description_str(state.words)

    def close(self) -> None:
        self._bar.close()
        print(self._words)


class Page:
    """A page that is written anew when something has happened, and so often that one sees that it is watched."""

    def __init__(self, path: Path, wanted: Request, shelf: Shelf, every: float) -> None:
        self._path, self._wanted, self._shelf, self._every = path, wanted, shelf, max(every, 2.0)
        self._state: State | None = None
        self._part: tuple[tuple[bool, int], Part] | None = None
        self._when = 0.0

    def show(self, state: State) -> None:
        over = state.state in ("finished", "stopped")
        happened = self._state is None or (state.done, state.failures) != (self._state.done, self._state.failures)
        self._state = state
        if over or happened or time.monotonic() - self._when >= self._every:
            self._write(state.words, None if over else self._every)

    def close(self) -> None:
        """Have the page say that it is not watched any more, if the sweep is not over."""
        if self._state is not None and self._state.state not in ("finished", "stopped"):
            self._write(f"{self._state.words}. It is not watched any more, so this page stays as it is", None)

    def _write(self, words: str, every: float | None) -> None:
        stored = self._shelf.find(self._wanted)
        count = (stored.choosing, len(stored.missing))
        if self._part is None or self._part[0] != count:
            self._part = count, parts.of_stored(stored)
        failures = [] if self._state is None else [f"{name}: {error}" for name, error in self._state.failures.items()]
        live = Live(f"{words} ({time.strftime('%H:%M:%S')}).", failures, every)
        page.write(self._path, [self._part[1]], live)
        self._when = time.monotonic()
