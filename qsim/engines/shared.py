"""Memory that processes share: a file without a name, so that nothing is left behind however they end."""

from __future__ import annotations

import mmap
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryFile, gettempdir
from typing import Any

from qsim.object_loader import INSTALLED

_RAM_DISK = Path("/dev/shm")
_ALIGNMENT = 64
_SMALL = 1 << 14  # bytes, well below what a pipe holds unread


class NoRoomError(OSError):
    """There is no room for a shared file, or for more of it."""

    @classmethod
    def of(cls, size: int, error: OSError) -> NoRoomError:
        """Say how much was wanted, and how much there is."""
        folders = [_RAM_DISK] if _RAM_DISK.is_dir() else []
        with suppress(OSError):
            folders.append(Path(gettempdir()))
        free = ", ".join(f"{disk_usage(folder).free / 1e6:,.1f} MB in {folder}" for folder in folders)
        return cls(
            error.errno,
            f"no room for {size / 1e6:,.1f} MB that processes share ({error.strerror or error}; there are {free});"
            " set TMPDIR to a folder with more, or use qsim.engines.Serial",
        )


class SharedFile:
    """Bytes in a file that has no name, mapped into every process that it is passed to.

    The file is removed as soon as it is made: the kernel frees it with the last process that maps it, also after kill
    -9. It can grow; the others see that with `grow(0)`.

    ram_disk: whether to try there first; it may be small (64 MB in a container), and then the temporary folder is used.

    Raises NoRoomError where there is no room; of a file that cannot grow, `on_ram_disk` says whether another might.
    """

    def __init__(self, size: int, ram_disk: bool = True) -> None:
        self.on_ram_disk = ram_disk and os.access(_RAM_DISK, os.W_OK)
        if self.on_ram_disk:
            try:
                self._make(size, _RAM_DISK)
                return
            except OSError:
                self.on_ram_disk = False
        try:
            self._make(size, None)
        except OSError as error:
            raise NoRoomError.of(size, error) from error

    def _make(self, size: int, folder: Path | None) -> None:
        with TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))  # now, rather than a bus error later
            self._attach(os.dup(file.fileno()))

    def _attach(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.map = mmap.mmap(descriptor, 0)

    def grow(self, size: int) -> None:
        """Make room for at least `size` bytes, or map what another process made. Views of the old map stay valid."""
        if size > os.fstat(self._descriptor).st_size:
            try:
                os.posix_fallocate(self._descriptor, 0, 2 * size)  # room to grow, if there is any
            except OSError:
                try:
                    os.posix_fallocate(self._descriptor, 0, size)
                except OSError as error:
                    raise NoRoomError.of(size, error) from error
        self.map = mmap.mmap(self._descriptor, 0)

    def put(self, blob: bytes, start: int) -> None:
        """Write bytes at a place, growing as needed."""
        if start + len(blob) > len(self.map):
            self.grow(start + len(blob))
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
        return _rebuild, (DupFd(self._descriptor), self.on_ram_disk)


def _rebuild(descriptor: Any, on_ram_disk: bool) -> SharedFile:
    shared = SharedFile.__new__(SharedFile)
    shared.on_ram_disk = on_ram_disk
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
        with _hidden_modules_by_value():
            blob = cloudpickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
        raw = [*(buffer.raw() for buffer in buffers), memoryview(blob)]  # the blob too: no pipe could take a long one
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
        return pickle.loads(kept.pop(), buffers=kept)

    def close(self) -> None:
        """Give up this process's hold on the file."""
        self._file.close()


def portable(thing: object) -> bytes:
    """Pickle an object so that any Python process on this machine can load it."""
    import cloudpickle

    with _hidden_modules_by_value():
        pickled: bytes = cloudpickle.dumps(thing, protocol=5)
    return pickled


@contextmanager
def _hidden_modules_by_value() -> Iterator[None]:
    """Let what modules define travel by value where another process would not find it, or would find another file."""
    import cloudpickle

    known = cloudpickle.list_registry_pickle_by_value()
    hidden = [module for name, module in list(sys.modules.items()) if name not in known and _is_hidden(name, module)]
    for module in hidden:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in hidden:
            cloudpickle.unregister_pickle_by_value(module)


def _is_hidden(name: str, module: Any) -> bool:
    """Tell whether an import of the name would not lead to the file of the module."""
    file = getattr(module, "__file__", None)
    if file is None or name in ("__main__", "__mp_main__") or str(file).startswith(INSTALLED):
        return False
    if getattr(module, "__name__", None) != name:  # known under a second name
        return False
    package, _, _ = name.rpartition(".")
    path = getattr(sys.modules.get(package), "__path__", ()) if package else None
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # a finder that cannot tell
            continue
        if spec is not None:
            return spec.origin is None or os.path.realpath(spec.origin) != os.path.realpath(file)
    return True
