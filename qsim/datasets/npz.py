"""NumPy archives of a sparse matrix and labels."""

from __future__ import annotations

from dataclasses import field
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets.dataset import Dataset, Source
from qsim.datasets.errors import DataError
from qsim.datasets.files import File, expanded, kept, stem
from qsim.options import option
from qsim.storage import replacing

_ADVICE = "write it with qsim.datasets.save_npz(path, qsim.Dataset.from_arrays(matrix, labels))"


@final
@option
class Npz(Source):
    """An .npz file with a sparse matrix and labels.

    It holds the arrays that `scipy.sparse.save_npz` stores, in any of its formats, and one more, `labels`: -1 and 1, or
    0 and 1, one for each row; with an array `kind`, "classes" or "targets" (see `Dataset`), those, and an array
    `classes` says how many classes there are. Rows and columns may be without entries. `save_npz` writes such files.

    Parameters
    ----------
    path : str or path-like
        The file.

    Raises
    ------
    DataError
        When loaded: for a file that is missing or torn, that lacks the matrix or the labels, and as
        `Dataset.from_arrays` does.

    Notes
    -----
    A file is read once, and mapped from then on (`docs/data.md` says where); if it changes, it is read again.

    Examples
    --------
    >>> import qsim
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "tiny.npz"
    ...     save_npz(path, qsim.Dataset.from_arrays(np.array([[0.5, 0.0], [0.0, 1.0]]), [1, 0]))
    ...     Npz(path).load()
    Dataset('tiny', 2 x 2, 2 non-zeros, 1 positive)
    """

    path: str | PathLike[str]
    name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", fspath(self.path))
        object.__setattr__(self, "name", stem(fspath(self.path)))

    def load(self) -> Dataset:
        return _load(self, File.at(fspath(self.path)))


def save_npz(path: str | PathLike[str], data: Dataset) -> None:
    """Write a data set to a file that `Npz` reads; `scipy.sparse.load_npz` reads the matrix in it.

    Parameters
    ----------
    path : str or path-like
        The file, which must end in .npz.
    data : Dataset
        The data set.

    Raises
    ------
    ValueError
        For another ending.

    Examples
    --------
    >>> import qsim
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "sample.npz"
    ...     save_npz(path, qsim.datasets.load("spark_sample"))
    ...     qsim.datasets.load(path)
    Dataset('sample', 322 x 16, 1,787 non-zeros, 162 positive)
    """
    place = expanded(fspath(path))
    if place.suffix != ".npz":
        raise ValueError(f"the path must end in .npz, found {fspath(path)!r}")
    matrix = data.to_scipy()
    kind: dict[str, Any] = {} if data.kind == "signs" else {"kind": np.array(data.kind)}
    if data.kind == "classes":
        kind["classes"] = np.array(data.classes)
    with replacing(place) as temporary:
        np.savez_compressed(
            temporary,
            format=np.array(b"csr"),
            shape=np.array(matrix.shape),
            data=matrix.data,
            indices=matrix.indices,
            indptr=matrix.indptr,
            labels=data.labels,
            **kind,
        )


@lru_cache(maxsize=8)
def _load(source: Npz, file: File) -> Dataset:
    def make() -> Dataset:
        matrix, labels, kind, classes = _read(file)
        try:
            data = Dataset.from_arrays(matrix, labels, empty="keep", kind=kind, classes=classes)
        except ValueError as error:
            raise DataError(f"{file.path}: {error}") from None
        parts = (data.indptr, data.indices, data.values, data.labels, data.features)
        return Dataset(*parts, source.name, source, kind, classes)

    return kept(file, "npz", source, source.name, make)


def _read(file: File) -> tuple[Any, NDArray[Any], Any, Any]:
    """Return the matrix, the labels, their kind, and how many classes there are."""
    import zlib
    from zipfile import BadZipFile

    from scipy.sparse import load_npz

    with Path(file.path).open("rb") as stream:  # np.load would leave a torn file open
        try:
            with np.load(stream, allow_pickle=False) as stored:
                names = set(stored)
                labels = stored["labels"] if "labels" in names else None
                kind = stored["kind"].tolist() if "kind" in names else "signs"
                classes = stored["classes"].tolist() if "classes" in names else None
            stream.seek(0)
            matrix = load_npz(stream) if "format" in names else None
        except (ValueError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
            raise DataError(f"{file.path} is torn, or no .npz of arrays ({error})") from error
        except (BadZipFile, zlib.error, OSError) as error:
            raise DataError(f"{file.path} is torn ({error})") from error
    if matrix is None:
        found = ", ".join(sorted(names)) or "nothing"
        raise DataError(f"{file.path} holds no sparse matrix, but {found}; {_ADVICE}")
    if labels is None:
        raise DataError(f"{file.path} holds a matrix without the array 'labels'; {_ADVICE}")
    return matrix, labels, kind, classes
