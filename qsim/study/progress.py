"""Progress while cells are computed: a bar on a terminal, a line now and then elsewhere, and a log file."""

from __future__ import annotations

import os
import sys
import time
import traceback
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from qsim.storage import user_cache

_KNOWN = 3.0  # seconds of computing before a rate is told
_EVERY = 20.0  # seconds between two lines where there is no terminal


class Log:
    """A file with what happened, and when: one for each invocation, in `logs` in the user's cache folder.

    What cannot be written to it is lost without a word: a study does not stop for its log.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)

    @classmethod
    def new(cls, name: str) -> Log:
        """Return a log that is named by the time, the study and the process."""
        return cls(folder() / f"{datetime.now():%Y-%m-%d-%H%M%S-%f}-{name}-{os.getpid()}.log")

    def write(self, text: str) -> None:
        """Add lines."""
        if self.path is not None:
            with suppress(OSError), self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(f"{datetime.now():%H:%M:%S} {line}\n" for line in text.splitlines()))

    def write_error(self, what: str, error: BaseException) -> None:
        """Add an exception with its traceback."""
        self.write(f"{what}\n{''.join(traceback.format_exception(error))}")


def folder() -> Path:
    """Return where logs are."""
    return user_cache() / "logs"


class Progress:
    """Progress of the cells of a study: cells done of all, those found in the store told apart, rate and time left.

    show: None shows a bar on a terminal, and elsewhere a line every 20 seconds; True always a bar, False nothing.
    """

    def __init__(self, name: str, cells: int, found: int, rounds: int, show: bool | None = None) -> None:
        self._name, self._cells, self._found, self._done = name, cells, found, found
        self._rounds, self._left = 0, rounds
        self._begun = self._said = time.monotonic()
        terminal = show or (show is None and sys.stderr.isatty())
        self._lines = show is None and not terminal
        self._bar: Any = tqdm(
            total=rounds,
            unit=" rounds",
            delay=0 if show else 1,
            disable=not terminal,
            leave=False,
            bar_format="{desc} {bar} {rate_fmt}, {remaining} left",
        )
        self._describe()

    def rounds(self, done: int) -> None:
        """Count rounds of a cell that is not done yet."""
        if not self._rounds:  # processes and kernels are there: now the clock runs
            self._begun = time.monotonic()
            self._bar.unpause()
        self._rounds += done
        self._bar.update(done)
        now = time.monotonic()
        if self._lines and now - self._said >= _EVERY:
            self._said = now
            print(self._line(now), file=sys.stderr, flush=True)

    def cell(self, more: int, found: bool = False) -> None:
        """Count a cell as done, and so many rounds that had not been counted; or found in the store after all."""
        self._done += 1
        self._found += found
        self.rounds(more)
        self._describe()

    def say(self, text: str) -> None:
        """Print a line without tearing the bar."""
        if self._bar.disable:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def _describe(self) -> None:
        self._bar.set_description_str(self._state(), refresh=False)

    def _state(self) -> str:
        found = f" ({self._found} stored before)" if self._found else ""
        return f"{self._name}: {self._done} of {self._cells} cells{found}"

    def _line(self, now: float) -> str:
        if self._rounds == 0 or now - self._begun < _KNOWN:
            return self._state()
        rate = self._rounds / (now - self._begun)
        seconds = int((self._left - self._rounds) / rate)
        return f"{self._state()}, {rate:,.0f} rounds/s, about {seconds // 60}:{seconds % 60:02d} left"
