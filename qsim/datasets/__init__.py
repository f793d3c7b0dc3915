"""Data sets, where they come from, and how their rows are shared out to workers.

>>> import qsim
>>> data = qsim.datasets.load("adult")
>>> data
Dataset('adult', 32,561 x 121, 451,592 non-zeros, 7,841 positive)
>>> qsim.datasets.Shuffled().split(data, workers=32, key=qsim.Key(0))
Shards(32,561 rows of 'adult' on 32 workers, 1,017 to 1,018 each)
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any, Literal

from qsim.datasets.builtin import Builtin, names
from qsim.datasets.clicks import save_clicks
from qsim.datasets.dataset import Dataset, Source
from qsim.datasets.download import Fetched, downloadable, fetch
from qsim.datasets.errors import DataError
from qsim.datasets.files import expanded
from qsim.datasets.hashed_text import CLICK_LOG, HashedText, TextColumns
from qsim.datasets.libsvm import LibSVM
from qsim.datasets.npz import Npz, save_npz
from qsim.datasets.partition import ByLabel, Contiguous, Dirichlet, Partition, Shards, Shuffled
from qsim.datasets.parts import Parts
from qsim.datasets.quadratics import Quadratics
from qsim.datasets.synthetic import Synthetic
from qsim.datasets.table import Table, table_suffix
from qsim.options import nearest, shown

__all__ = [
    "CLICK_LOG",
    "Builtin",
    "ByLabel",
    "Contiguous",
    "Data",
    "DataError",
    "Dataset",
    "Dirichlet",
    "Fetched",
    "HashedText",
    "LibSVM",
    "Npz",
    "Partition",
    "Parts",
    "Quadratics",
    "Shards",
    "Shuffled",
    "Source",
    "Synthetic",
    "Table",
    "TextColumns",
    "downloadable",
    "fetch",
    "load",
    "load_libsvm",
    "names",
    "save_clicks",
    "save_npz",
    "synthetic",
]


Data = Dataset | Source | str | PathLike[str] | tuple[Any, Any]
"""The forms of data: themselves, where they come from, what `load` takes, or features and labels, (X, y)."""


def as_data(name: str, data: Any) -> Dataset | Source:
    """Return the data set, or the source of one, that an argument stands for.

    Raises TypeError for anything else, DataError for data that cannot be used.
    """
    if isinstance(data, Dataset):
        return data if data.source is None else data.source  # so that it prints as code that loads it
    if isinstance(data, Source):
        return data
    if isinstance(data, str | PathLike):
        return _source(fspath(data), "train")
    if isinstance(data, tuple) and len(data) == 2:
        return Dataset.from_arrays(*data)
    raise TypeError(
        f'{name} must be a Dataset or a source of one, the name of one such as "adult", the path of a file, or a pair'
        f" (X, y) of features and labels, found {shown(data)}"
    )


def load(name: str | PathLike[str], split: str = "train") -> Dataset:
    """Return a data set: a built-in one, the one in a file, or one that was downloaded.

    Parameters
    ----------
    name : str or path-like
        A built-in name (`names()`); else the path of an .npz (see `Npz`), of a table (.csv, .tsv, .parquet, see
        `Table`) or of a LIBSVM file (see `LibSVM`); else a name of `downloadable()` that `fetch` was called with. A
        file called like a built-in set is ./NAME.
    split : {"train", "test"}, default "train"
        Which part; a file has no others.

    Returns
    -------
    Dataset
        The data set.

    Raises
    ------
    DataError
        For an unknown name or split, if there is no such file, and as the sources do.

    Examples
    --------
    >>> load("spark_sample")
    Dataset('spark_sample', 322 x 16, 1,787 non-zeros, 162 positive)
    """
    return _source(fspath(name), split).load()


def _source(name: str, split: str) -> Source:
    if name in names():
        return Builtin(name, split)
    place = expanded(name)
    try:
        here = place.exists()
    except OSError:
        here = True  # what is wrong with it is said when it is read
    if here:
        if split != "train":
            raise DataError(f"a file has no split {split!r}; load the file of that split: {name!r} is one")
        if table_suffix(name) is not None:
            return Table(name)
        return Npz(name) if place.suffix == ".npz" else LibSVM(name)
    if name in downloadable():
        return Fetched(name, split)
    if "*" in name:
        raise DataError(f"there is no file {name!r}; many files are qsim.datasets.Parts({name!r})")
    beside = map(str, place.parent.glob("*"))
    raise DataError(
        f"there is no built-in data set {name!r}, and no such file{nearest(name, [*names(), *downloadable(), *beside])}"
        f" (built in: {', '.join(names())}; qsim.datasets.fetch knows {', '.join(downloadable())})"
    )


def load_libsvm(
    path: str | PathLike[str],
    *,
    features: int | None = None,
    zero_based: bool = False,
    positive: float | None = None,
    classes: Sequence[float] | None = None,
    targets: bool = False,
) -> Dataset:
    r"""Return what is in a LIBSVM file; see `LibSVM`.

    Parameters
    ----------
    path : str or path-like
        The file.
    features, zero_based, positive, classes, targets : options
        As in `LibSVM`.

    Returns
    -------
    Dataset
        The data set.

    Raises
    ------
    DataError
        For a file or a line that cannot be used.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "tiny.svm"
    ...     _ = path.write_text("+1 1:0.5 3:2\n-1 2:1e-3\n")
    ...     load_libsvm(path, features=9)
    Dataset('tiny', 2 x 9, 3 non-zeros, 1 positive)
    """
    return LibSVM(path, features, zero_based, positive, classes, targets).load()


def synthetic(
    rows: int,
    features: int,
    nonzeros_per_row: float,
    *,
    exponent: float = 1.1,
    noise: float = 0.05,
    values: Literal["ones", "tfidf"] = "ones",
    seed: int = 0,
) -> Dataset:
    """Return synthetic data; see `Synthetic`.

    Parameters
    ----------
    rows, features, nonzeros_per_row, exponent, noise, values, seed : options
        As in `Synthetic`.

    Returns
    -------
    Dataset
        The data set.

    Raises
    ------
    ValueError
        For numbers that make no sense.

    Examples
    --------
    >>> synthetic(100, 9, 3).source
    qsim.datasets.Synthetic(rows=100, features=9, nonzeros_per_row=3.0)
    """
    return Synthetic(rows, features, nonzeros_per_row, exponent, noise, values, seed).load()


def __dir__() -> list[str]:
    return __all__
