"""Memory that processes share: a file without a name, so that nothing is left behind however they end."""

from __future__ import annotations

import mmap
import os
import pickle
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

_RAM_DISK = Path("/dev/shm")
_ALIGNMENT = 64
_SMALL = 1 << 14  # bytes, well below what a pipe holds unread


class SharedFile:
    """Bytes in a file that has no name, mapped into every process that it is passed to.

    The file is removed as soon as it is made: the kernel frees it with the last process that maps it, also after kill
    -9. It can grow; the others see that with `grow(0)`.
    """

    def __init__(self, size: int) -> None:
        if sys.platform == "win32":
            raise OSError("shared files without a name need POSIX; on Windows use qsim.engines.Serial(threads=...)")
        try:
            self._make(size, _RAM_DISK if os.access(_RAM_DISK, os.W_OK) else None)
        except OSError:  # a RAM disk may be small (64 MB in a container)
            self._make(size, None)

    def _make(self, size: int, folder: Path | None) -> None:
        with TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))  # now, rather than a bus error later
            self._attach(os.dup(file.fileno()))

    def _attach(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.map = mmap.mmap(descriptor, 0)

    def grow(self, size: int) -> None:
        """Make room for so many bytes, or map what another process made. Views of the old map stay valid."""
        if size > os.fstat(self._descriptor).st_size:
            os.posix_fallocate(self._descriptor, 0, size)
        self.map = mmap.mmap(self._descriptor, 0)

    def put(self, blob: bytes, start: int) -> None:
        """Write bytes at a place, growing as needed."""
        if start + len(blob) > len(self.map):
            self.grow(2 * (start + len(blob)))
        self.map[start : start + len(blob)] = blob

    def take(self, start: int, size: int) -> bytes:
        """Read bytes that another process may have grown the file for."""
        if start + size > len(self.map):
            self.grow(0)
        return self.map[start : start + size]

    def close(self) -> None:
        """Give up this process's hold. Views that are still in use keep the memory until they go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __reduce__(self) -> Any:
        return _rebuild, (DupFd(self._descriptor),)


def _rebuild(descriptor: Any) -> SharedFile:
    shared = SharedFile.__new__(SharedFile)
    shared._attach(descriptor.detach())
    return shared


def send(pipe: Connection, mail: SharedFile, thing: object, start: int = 0) -> None:
    """Send an object: through the pipe if it is small, else in the mail from `start` on, so that no pipe ever fills."""
    blob = pickle.dumps(thing, protocol=5)
    if len(blob) > _SMALL:
        mail.put(blob, start)
        blob = pickle.dumps(_InMail(start, len(blob)))
    pipe.send_bytes(blob)


def receive(pipe: Connection, mail: SharedFile) -> Any:
    """Receive what `send` sent."""
    thing = pickle.loads(pipe.recv_bytes())
    return pickle.loads(mail.take(thing.start, thing.size)) if isinstance(thing, _InMail) else thing


@dataclass(frozen=True)
class _InMail:
    """Where in the mail an object lies."""

    start: int
    size: int


class SharedPickle:
    """An object in a shared file: its arrays are mapped, not copied, into each process that loads it."""

    def __init__(self, thing: object) -> None:
        import cloudpickle

        buffers: list[Any] = []
        self._blob = cloudpickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        self._parts: list[tuple[int, int, bool]] = []
        end = 0
        for part in raw:
            self._parts.append((end, part.nbytes, part.readonly))
            end = -(-(end + part.nbytes) // _ALIGNMENT) * _ALIGNMENT
        self._file = SharedFile(end)
        for (start, size, _), part in zip(self._parts, raw, strict=True):
            self._file.map[start : start + size] = part

    def load(self) -> Any:
        """Return the object. Its arrays are views of the shared file, writable where the original's were."""
        whole = memoryview(self._file.map)
        views = [whole[start : start + size] for start, size, _ in self._parts]
        kept = [view.toreadonly() if part[2] else view for view, part in zip(views, self._parts, strict=True)]
        return pickle.loads(self._blob, buffers=kept)

    def close(self) -> None:
        """Give up this process's hold on the file."""
        self._file.close()


def pickle_by_value_if_hidden(part: Any) -> None:
    """Let the classes of a module that no other process could import (a file loaded by path) travel by value."""
    import cloudpickle

    name = type(part).__module__
    if name != "__main__" and name in sys.modules and not _importable(name.partition(".")[0]):
        cloudpickle.register_pickle_by_value(sys.modules[name])
    for field in getattr(part, "__dataclass_fields__", ()):
        pickle_by_value_if_hidden(getattr(part, field))


def _importable(name: str) -> bool:
    """Tell whether a process that has not imported a module yet could."""
    return any(finder.find_spec(name, None) is not None for finder in sys.meta_path)
