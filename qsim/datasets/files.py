"""Files of data: opened whatever they are compressed with, and kept as arrays that all processes map."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import file_digest, sha256
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path
from shutil import rmtree
from stat import S_ISDIR, S_ISREG
from typing import Any
from uuid import uuid4

import numpy as np

from qsim.datasets.dataset import Dataset, Source
from qsim.datasets.errors import DataError
from qsim.storage import can_write, locked, user_cache

_VERSION = 2  # of what is kept: raised when the same bytes are read to something else
_TICK = 3 * 10**9  # nanoseconds: more than the coarsest clock of a file system, two seconds
_PIECE = 1 << 16  # bytes decompressed at a time
_ARRAYS = ("indptr", "indices", "values", "labels")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}
_SUFFIXES = {".gz", ".bz2", ".xz", ".libsvm", ".svm", ".svmlight", ".txt", ".npz", ".csv", ".tsv", ".parquet"}


@dataclass(frozen=True)
class File:
    """A file as it was at one moment: equal to another if path and content are.

    digest: the SHA-256 of the bytes, as hexadecimal digits.
    mark: what the file system says of it: which file it is, its size, when it was last written, and when anything about
        it last changed. No program can set the last one, but it is no finer than a tick of the clock: only of a file
        that has rested for longer than that, the bytes are not read again while the mark stays.

    Raises DataError if there is none.
    """

    path: str
    digest: str
    mark: tuple[int, ...] = field(compare=False)

    @classmethod
    def at(cls, path: str) -> File:
        """Look at a file."""
        place = expanded(path).absolute()
        if "\0" in path:
            raise DataError(f"there is no file {path!r}")
        try:
            found = place.stat()
            if not S_ISREG(found.st_mode):
                kind = "folder" if S_ISDIR(found.st_mode) else "device"
                raise DataError(f"there is no file {path!r}; it is a {kind}")
            mark = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            rests = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _TICK
            return cls(str(place), _digest_of_mark(place, mark) if rests else _digest(place), mark)
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"there is no file {path!r}") from None
        except OSError as error:
            raise DataError(f"{path!r} can't be read: {error.strerror}") from error

    @contextmanager
    def open(self) -> Iterator[BufferedIOBase]:
        """Give the bytes, decompressed if the first of them are those of gzip, bzip2 or xz."""
        with Path(self.path).open("rb") as raw:
            start = raw.read(6)
            raw.seek(0)
            for magic, module in _COMPRESSED.items():
                if start.startswith(magic):
                    yield from self._decompressed(raw, module)
                    return
            yield raw

    def _decompressed(self, raw: BufferedIOBase, module: str) -> Iterator[BufferedIOBase]:
        from bz2 import BZ2Decompressor
        from gzip import GzipFile
        from lzma import LZMADecompressor, LZMAError
        from zlib import error as ZlibError  # noqa: N812

        try:
            if module == "gzip":
                stream: Any = GzipFile(fileobj=raw, mode="rb")
            else:
                stream = BufferedReader(_Streams(raw, BZ2Decompressor if module == "bz2" else LZMADecompressor))
            with stream:
                yield stream
        except (OSError, EOFError, LZMAError, ZlibError) as error:
            raise DataError(f"{self.path} is torn or damaged: {error}; get the file again") from error


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


@lru_cache(maxsize=64)
def _digest_of_mark(path: Path, mark: tuple[int, ...]) -> str:
    return _digest(path)


class _Streams(RawIOBase):
    """The content of compressed streams, one behind the other, with zeros between at most.

    Python's own readers of bzip2 and xz end without a word where what follows a stream is none, so a damaged one too.
    """

    def __init__(self, raw: BufferedIOBase, make: Callable[[], Any]) -> None:
        self._raw, self._make, self._stream = raw, make, make()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            piece = b""
            if self._stream.eof:
                piece = self._stream.unused_data.lstrip(b"\0")
                while not piece:
                    read = self._raw.read(_PIECE)
                    if not read:
                        return 0
                    piece = read.lstrip(b"\0")
                self._stream = self._make()
            elif self._stream.needs_input:
                piece = self._raw.read(_PIECE)
                if not piece:
                    raise EOFError("it ends in the middle of a stream")
            found = self._stream.decompress(piece, len(buffer))
            if found:
                buffer[: len(found)] = found
                return len(found)


def expanded(path: str) -> Path:
    """Return a path with the home of ~ or ~user in it; one whose home is not known stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def stem(path: str) -> str:
    """Return the name of a file without the endings that say how it is stored, any bytes that are no UTF-8 escaped.

    >>> stem("data/rcv1_train.binary.bz2")
    'rcv1_train.binary'
    """
    name = os.fsencode(Path(path).name).decode("utf-8", "backslashreplace")
    while Path(name).suffix in _SUFFIXES:
        name = Path(name).stem
    return name


def kept(file: File, how: str, source: Source, name: str, make: Callable[[], Dataset]) -> Dataset:
    """Return the data set that `make` reads from a file, its arrays mapped from files of the user's cache.

    They are kept in the folder `datasets` under the file's content and `how` it is read, so that it is read once: by
    the first process, while others that want it wait. Their digest is checked; if they are torn, they are made again,
    with a warning. If they cannot be kept, there is a warning too, and the arrays are this process's own.
    """
    key = sha256(f"{_VERSION} {file.digest} {how}".encode()).hexdigest()[:32]
    folder = user_cache() / "datasets" / key
    found = _mapped(folder, source, name)
    if found is not None:
        return found
    if not can_write(folder.parent):
        _warn(f"{name} is not kept, and will be read again: {folder.parent} cannot be written")
        return _made(file, make)
    with locked(folder.with_suffix(".lock")):
        found = _mapped(folder, source, name)  # another process may have made it meanwhile
        if found is not None:
            return found
        if folder.exists():
            _warn(f"what was kept of {name} in {folder} is torn; {file.path} is read again")
        made = _made(file, make)
        try:
            _keep(folder, made)
        except OSError as error:
            _warn(f"{name} is not kept, and will be read again: {error}")
            return made
        return _mapped(folder, source, name) or made


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def _made(file: File, make: Callable[[], Dataset]) -> Dataset:
    made = make()
    now = File.at(file.path)
    if now != file or now.mark != file.mark:
        raise DataError(f"{file.path} was written to while it was read; try again when that is done")
    return made


def _keep(folder: Path, data: Dataset) -> None:
    """Write the arrays to a new folder, which then takes its place whole."""
    new = folder.with_name(f".{uuid4().hex}")
    try:
        new.mkdir(parents=True)
        for name in _ARRAYS:
            if getattr(data, name) is not None:
                np.save(new / f"{name}.npy", getattr(data, name))
        about = {"features": data.features, "ones": data.values is None, "digest": data.digest, "kind": data.kind}
        about["classes"] = data.classes if data.kind == "classes" else None
        (new / "about.json").write_text(json.dumps(about), encoding="utf-8")
        if folder.exists():
            folder.rename(new.with_suffix(".torn"))
        new.rename(folder)
    finally:
        for rest in (new, new.with_suffix(".torn")):
            rmtree(rest, ignore_errors=True)


def _mapped(folder: Path, source: Source, name: str) -> Dataset | None:
    """Return what is kept in a folder, if it is all there and what it was."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        parts: Any = {
            part: None
            if part == "values" and about["ones"]
            else np.asarray(np.load(folder / f"{part}.npy", mmap_mode="r"))
            for part in _ARRAYS
        }
        told = {part: about[part] for part in ("features", "kind", "classes")}
        data = Dataset(**parts, **told, name=name, source=source)
        return data if data.digest == about["digest"] else None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
