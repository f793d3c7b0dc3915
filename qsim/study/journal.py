"""The journal of a sweep: what it is at, written beside its cells, so that another process can watch it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from uuid import uuid4

from qsim.compressors import NotFiniteError
from qsim.study.store import Store

_EVERY = 1.0  # seconds between two reports of rounds
_SILENT = 60.0  # seconds after which a journal that cannot be locked is taken for that of a process that has ended


@dataclass(frozen=True)
class Entry:
    """A cell of a sweep: its name, and how many rounds it has."""

    name: str
    rounds: int


class Journal:
    """A file of lines of JSON, one for each thing that happens while cells are computed.

    The file is locked until it is closed, by the end of the process at the latest: so a reader knows whether the sweep
    goes on. What cannot be written is lost without a word, as with a log: a study does not stop for it.

    Parameters
    ----------
    store : Store, optional
        Where the cells are kept; the journal is in its folder `sweeps`. None: nothing is written.
    name : str
        What the sweep is called.
    cells : mapping of str to Entry
        The cells that are to be computed, by their keys.
    """

    def __init__(self, store: Store | None, name: str, cells: Mapping[str, Entry]) -> None:
        self._cells, self._at_work, self._said = cells, dict[str, int](), 0.0
        self._file: IO[str] | None = None
        if store is None or not cells:
            return
        with suppress(OSError):
            folder = _folder(store)
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{time.time():.3f}-{uuid4().hex[:8]}.jsonl"
            self._file = path.open("w", encoding="utf-8", errors="backslashreplace")
            _lock(self._file)
        about = {"sweep": name, "process": os.getpid(), "host": socket.gethostname()}
        self._write(about | {"cells": {key: [cell.name, cell.rounds] for key, cell in cells.items()}})

    def rounds(self, key: str | None, done: int) -> None:
        """Note rounds of a cell that is not done yet."""
        if key is not None and key in self._cells:
            self._at_work[key] = self._at_work.get(key, 0) + done
            if time.monotonic() - self._said >= _EVERY:
                self._said = time.monotonic()
                self._write({"rounds": sum(self._at_work.values())})

    def done(self, key: str | None) -> None:
        """Note that a cell is computed."""
        self._end_of(key, {"done": key})

    def failed(self, key: str | None, error: BaseException) -> None:
        """Note with which error a cell failed."""
        said = {"failed": key, "error": f"{type(error).__name__}: {error}"}
        self._end_of(key, said | ({"diverged": True} if isinstance(error, NotFiniteError) else {}))

    def __enter__(self) -> Self:
        """Keep the file open and locked while the block runs."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Say how the sweep ended."""
        self._write({"end": "done" if kind is None else kind.__name__})
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def _end_of(self, key: str | None, what: dict[str, Any]) -> None:
        if key is not None and key in self._cells:
            self._at_work.pop(key, None)
            self._write(what | {"rounds": sum(self._at_work.values())})

    def _write(self, what: dict[str, Any]) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.write(json.dumps({"at": time.time()} | what) + "\n")
                self._file.flush()


@dataclass(frozen=True)
class Sweep:
    """What a journal says.

    Parameters
    ----------
    name : str
        What the sweep is called.
    process : str
        Which process computes it: host and number.
    running : bool
        Whether the process that writes it is there.
    begun, seen : float
        When it began to compute, and when it last wrote, in seconds since 1970.
    cells : mapping of str to Entry
        The cells that it computes, by their keys.
    done : frozenset of str
        The keys of those that are done.
    failures : mapping of str to str
        The errors of those that failed, by key.
    diverged : frozenset of str
        Those that failed as their numbers ceased to be finite: for a study that is tuned, an answer.
    rounds : int
        The rounds of cells that are not done yet.
    end : str, optional
        "done", or the name of the exception that ended it; None while it runs, or if it was killed.
    """

    name: str
    process: str
    running: bool
    begun: float
    seen: float
    cells: Mapping[str, Entry]
    done: frozenset[str] = frozenset()
    failures: Mapping[str, str] = field(default_factory=dict)
    diverged: frozenset[str] = frozenset()
    rounds: int = 0
    end: str | None = None

    @property
    def computed(self) -> int:
        """The rounds that the sweep has computed so far."""
        return self.rounds + sum(self.cells[key].rounds for key in self.done)

    @property
    def rate(self) -> float:
        """Rounds in a second since the first was reported; 0 if nothing is known yet."""
        return self.computed / (self.seen - self.begun) if self.seen - self.begun >= _EVERY else 0.0


def sweeps(store: Store) -> list[Sweep]:
    """Return what all journals of a store say, in the order in which the sweeps began."""
    read = (_read(path) for path in sorted(_folder(store).glob("*.jsonl"), key=lambda path: path.name))
    return [found for found in read if found is not None]


def remove_old(store: Store, before: float) -> int:
    """Remove the journals of sweeps that are over and last wrote before a time; return how many."""
    old = [path for path in _folder(store).glob("*.jsonl") if path.stat().st_mtime <= before and not _locked(path)]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def _folder(store: Store) -> Path:
    return store.folder / "sweeps"


def _read(path: Path) -> Sweep | None:
    """Return what a journal says now; None if it has no first line yet, or is no journal."""
    running = _locked(path)  # before it is read: a sweep that ends in between has said so
    try:
        stat = path.stat()
        found = _parsed(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return replace(found, running=running)


@lru_cache(maxsize=256)
def _parsed(path: Path, *_: int) -> Sweep:
    """Return what a journal that was written at a time, with a size, says."""
    first, *others = _lines(path)
    cells = {key: Entry(str(cell), int(rounds)) for key, (cell, rounds) in first["cells"].items()}
    begun = float((others or [first])[0]["at"])  # processes are there, and kernels compiled: now the clock runs
    done, failures, diverged = set[str](), dict[str, str](), set[str]()
    rounds, end, seen = 0, None, begun
    for line in others:
        seen, rounds, end = float(line["at"]), int(line.get("rounds", rounds)), line.get("end", end)
        if line.get("done") in cells:
            done.add(line["done"])
        if line.get("failed") in cells:
            failures[line["failed"]] = str(line["error"])
            diverged |= {line["failed"]} if line.get("diverged") else set()
    name, process = str(first["sweep"]), f"{first['host']} {first['process']}"
    return Sweep(name, process, False, begun, seen, cells, frozenset(done), failures, frozenset(diverged), rounds, end)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # the last one may not be whole yet
            yield json.loads(line)


def _lock(file: IO[str]) -> None:
    """Lock an open file. Without POSIX, or on a file system without locks, nothing is locked."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _locked(path: Path) -> bool:
    """Tell whether a file is locked by another."""
    try:
        import fcntl

        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except (ImportError, OSError):  # nothing is locked: what has just been written to is taken for locked
        return time.time() - path.stat().st_mtime < _SILENT
    return False
