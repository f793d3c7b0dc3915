"""Memory that processes share: a file without a name, so that nothing is left behind however they end."""

from __future__ import annotations

import mmap
import os
import sys
from multiprocessing.reduction import DupFd
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

_RAM_DISK = Path("/dev/shm")
_ALIGNMENT = 64


class SharedFile:
    """Bytes in a file that has no name, mapped into every process that it is passed to.

    The file is removed as soon as it is made: the kernel frees it with the last process that maps it, also after kill
    -9. It can grow; the others see that with `grow(0)`.
    """

    def __init__(self, size: int) -> None:
        if sys.platform == "win32":
            raise OSError("shared files without a name need POSIX; on Windows use qsim.engines.Serial(threads=...)")
        with TemporaryFile(dir=_RAM_DISK if os.access(_RAM_DISK, os.W_OK) else None) as file:
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
        import pickle

        whole = memoryview(self._file.map)
        views = [whole[start : start + size] for start, size, _ in self._parts]
        kept = [view.toreadonly() if part[2] else view for view, part in zip(views, self._parts, strict=True)]
        return pickle.loads(self._blob, buffers=kept)

    def close(self) -> None:
        """Give up this process's hold on the file."""
        self._file.close()
