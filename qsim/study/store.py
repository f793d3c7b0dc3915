"""The cell store: the trace of every finished run, on disk before the next begins, found again by what made it."""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsim.identity import Identity, environment, identify
from qsim.simulation import Run
from qsim.storage import can_write, user_cache
from qsim.trace import Trace

_ABANDONED = 3600.0  # seconds after which a temporary file is what a killed process has left


class StoreError(RuntimeError):
    """Raised if a finished cell cannot be stored: the disk is full, or the folder cannot be written."""


@dataclass(frozen=True)
class Removed:
    """The cells and files that `Store.clean` removed."""

    cells: int
    leftovers: int
    bytes: int


class Store:
    """Traces on disk, in files named by the key of their run (see `qsim.identity.Identity`).

    Parameters
    ----------
    folder : Path, optional
        By default `cells` in the user's cache folder (`QSIM_CACHE_DIR` moves that).

    Notes
    -----
    Files are FOLDER/ab/abcd....npz. A file is written whole or not at all, and each can be read by `qsim.Trace.load`.
    Any number of processes may use a store at once.

    Examples
    --------
    >>> import qsim
    >>> from qsim.study import catalog
    >>> _, study = catalog.find("s_sweep")
    >>> Store().path(study.cells(study.defaults)[0].run).suffix
    '.npz'
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = user_cache() / "cells" if folder is None else Path(folder)

    def path(self, run: Run) -> Path:
        """Return the file of a run, whether it is there yet or not."""
        return self.file(identify(run).key)

    def file(self, key: str) -> Path:
        """Return the file of a key."""
        return self.folder / key[:2] / f"{key}.npz"

    def load(self, key: str) -> Trace | None:
        """Return the trace of a key.

        Parameters
        ----------
        key : str
            The key.

        Returns
        -------
        Trace or None
            The trace; None if it is not there, or cannot be read now (with a warning). A torn file is removed; one that
            the system refuses (too many open files, say) may be good, and stays.
        """
        path = self.file(key)
        try:
            trace = Trace.load(path)
            found = trace.provenance.pop("cell")["key"]
            if found != key:
                raise ValueError(f"{path} holds the cell {found[:8]}...")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"a stored cell can't be read and is computed again: {error}", stacklevel=2)
            if not isinstance(error, OSError):
                with suppress(OSError):
                    path.unlink()
            return None
        trace.provenance |= environment()  # what draws it is of now; what made it is the same, by the key
        return trace

    def save(self, identity: Identity, trace: Trace) -> Path:
        """Store the trace of a run.

        Parameters
        ----------
        identity : Identity
            The identity of the run.
        trace : Trace
            Its trace.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        StoreError
            If it cannot be written; the message says where, how much was wanted and how much is free.
        """
        path = self.file(identity.key)
        provenance = trace.provenance | {"cell": identity.about()}
        try:
            return Trace(trace.columns, trace.weights, provenance, trace.schedule).save(path)
        except OSError as error:
            size = sum(array.nbytes for array in (trace.weights, *trace.columns.values(), *trace.schedule.values()))
            raise StoreError(
                f"{error.strerror or error}: a cell of up to {size:,} bytes can't be stored in {self.folder}"
                f" ({free(self.folder)}). Make room there (qsim study clean), set QSIM_CACHE_DIR to a folder"
                " on another disk, or run with --no-cache"
            ) from error

    def require_writable(self) -> None:
        """Refuse a folder that no cell could be written to, before one is computed.

        Raises
        ------
        StoreError
            For such a folder.
        """
        if not can_write(self.folder):
            raise StoreError(
                f"no cell can be stored in {self.folder}, as it can't be written; set QSIM_CACHE_DIR to another folder,"
                " or run with --no-cache"
            )

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Keep a key to oneself while the block runs; yields False if another process has it.

        A claim is let go by the end of the process, however it comes. Without POSIX locks every claim is given: then
        two processes may do the same, which harms nothing.
        """
        try:
            import fcntl

            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / "claims").open("a")
        except (ImportError, OSError):
            yield True
            return
        with file:  # a byte of this file stands for a key: its lock is let go when the file is closed
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(key[:15], 16))
            except BlockingIOError:
                yield False
                return
            except OSError:  # a file system without locks
                pass
            yield True

    def cells(self) -> list[Path]:
        """Return the files of all cells."""
        return sorted(path for path in self.folder.glob("??/*.npz") if not path.name.startswith("."))

    def stale(self) -> list[Path]:
        """Return the files that are of other sources, versions or machines than here and now, or torn."""
        return [path for path in self.cells() if _is_stale(path)]

    def clean(self, everything: bool = False) -> Removed:
        """Remove the stale cells, or all; and what killed processes left half-written."""
        cells = self.cells() if everything else self.stale()
        past = time.time() - _ABANDONED
        leftovers = [path for path in self.folder.glob("??/.*.npz") if _stat(path).st_mtime < past]
        size = sum(_stat(path).st_size for path in [*cells, *leftovers])
        for path in [*cells, *leftovers]:
            path.unlink(missing_ok=True)
        return Removed(len(cells), len(leftovers), size)

    def size(self) -> int:
        """Return how many bytes the cells take."""
        return sum(_stat(path).st_size for path in self.cells())


def _is_stale(path: Path) -> bool:
    try:
        with np.load(path, allow_pickle=False) as stored:
            about: dict[str, Any] = json.loads(str(stored["provenance"]))["cell"]
        return Identity(**about).stale
    except FileNotFoundError:
        return False
    except Exception:  # whatever a torn file can raise
        return True


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:  # another process has just removed it
        return os.stat_result((0,) * 10)


def free(folder: Path) -> str:
    """Say how much room there is in a folder, or in the nearest above it that there is."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    return "its disk is not there" if there is None else f"{shutil.disk_usage(there).free:,} bytes are free"
