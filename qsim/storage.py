"""The folders of qsim's own files, and writing any file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from stat import S_ISDIR
from tempfile import gettempdir
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4
from zipfile import ZipFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEAL = 64  # hexadecimal digits of a SHA-256
_BLOCK = 1 << 20


def user_cache() -> Path:
    """Return the folder for things that can be made again: `QSIM_CACHE_DIR`, else the platform's cache folder.

    A user without a home has it in `private_temporary`. Raises OSError where there is no such folder either.
    """
    chosen = os.environ.get("QSIM_CACHE_DIR")
    try:
        if chosen:
            return Path(chosen).expanduser().absolute()
        from platformdirs import user_cache_path

        folder = user_cache_path("qsim")
    except RuntimeError as error:  # nobody knows where the home is
        if chosen:
            raise OSError(f"QSIM_CACHE_DIR={chosen!r} can't be found: {error}") from None
        return private_temporary()
    return folder if folder.is_absolute() else private_temporary()


def private_temporary(inside: str | None = None) -> Path:
    """Return a folder for temporary files that belongs to this user alone: compiled code is run as it is found.

    Raises OSError if others can write to it, or if it can't be made.
    """
    user = getattr(os, "getuid", int)()
    folder = Path(inside or gettempdir()) / f"qsim-{user}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and (found.st_uid != user or found.st_mode & 0o022)):
        raise OSError(f"{folder} is not a folder that this user alone can write to; remove it, or set QSIM_CACHE_DIR")
    return folder


def can_write(folder: Path) -> bool:
    """Make a folder, and tell whether files can be written to it."""
    probe = folder / f".{uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file: one process (and one thread) at a time runs the block. Without POSIX, no lock is held."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file is closed, also by the process's end
        yield


def write_arrays(file: IO[bytes], arrays: Mapping[str, NDArray[Any]], compressed: bool = False) -> None:
    """Write arrays to an open file, empty and readable too, as an .npz that `read_arrays` can tell to be whole.

    Its last bytes, a comment in terms of zip files, are the SHA-256 of all those before them.
    """
    import numpy as np

    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise TypeError(f"only arrays of numbers and texts can be stored, but {', '.join(objects)} hold Python objects")
    (np.savez_compressed if compressed else np.savez)(file, **arrays)  # type: ignore[arg-type]
    with ZipFile(file, "a") as archive:
        archive.comment = b"0" * _SEAL
    size = file.seek(-_SEAL, os.SEEK_END)
    seal = _digest(file, size)
    file.seek(size)
    file.write(seal)


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file that `write_arrays` made.

    Raises FileNotFoundError, and ValueError for any other file, and for one of which a single bit is not as written.
    """
    import numpy as np

    with Path(path).open("rb") as file:  # np.load would leave a torn file open
        size = file.seek(0, os.SEEK_END) - _SEAL
        if size < 0 or _digest(file, size) != file.read(_SEAL):
            raise ValueError(f"{path} is torn, or was not written by qsim")
        file.seek(0)
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored}


def _digest(file: IO[bytes], size: int) -> bytes:
    """Return the SHA-256 of the first bytes of a file, in hexadecimal digits; the file is then behind them."""
    file.seek(0)
    digest = sha256()
    for low in range(0, size, _BLOCK):
        digest.update(file.read(min(_BLOCK, size - low)))
    return digest.hexdigest().encode()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends well, remove it otherwise.

    The temporary name keeps the suffix, since some writers choose their format by it. A reader sees the old file or
    the new one, never a part of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
