"""Where qsim keeps files of its own, and how it writes any file: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from numpy.typing import NDArray


def user_cache() -> Path:
    """Return the folder for things that can be made again: `QSIM_CACHE_DIR`, else the platform's cache folder."""
    chosen = os.environ.get("QSIM_CACHE_DIR")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("qsim")


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz file. Raises FileNotFoundError, and ValueError for a file that is torn or another."""
    import zlib
    from zipfile import BadZipFile

    import numpy as np

    with Path(path).open("rb") as file:  # np.load would leave a torn file open
        try:
            with np.load(file, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored}
        except (ValueError, EOFError, KeyError, AttributeError, BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be read as .npz: {error}") from error


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
