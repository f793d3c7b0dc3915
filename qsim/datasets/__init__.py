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
from typing import Literal

from qsim.datasets.builtin import Builtin, names
from qsim.datasets.dataset import DataError, Dataset
from qsim.datasets.download import Fetched, downloadable, fetch
from qsim.datasets.files import expanded
from qsim.datasets.libsvm import LibSVM
from qsim.datasets.npz import Npz, save_npz
from qsim.datasets.partition import ByLabel, Contiguous, Dirichlet, Partition, Shards, Shuffled
from qsim.datasets.quadratics import Quadratics
from qsim.datasets.sources import Source
from qsim.datasets.synthetic import Synthetic
from qsim.options import nearest

__all__ = [
    "Builtin",
    "ByLabel",
    "Contiguous",
    "DataError",
    "Dataset",
    "Dirichlet",
    "Fetched",
    "LibSVM",
    "Npz",
    "Partition",
    "Quadratics",
    "Shards",
    "Shuffled",
    "Source",
    "Synthetic",
    "downloadable",
    "fetch",
    "load",
    "load_libsvm",
    "names",
    "save_npz",
    "synthetic",
]


def load(name: str | PathLike[str], split: str = "train") -> Dataset:
    """Return a data set: a built-in one, the one in a file, or one that was downloaded.

    name: a built-in name (`names()`); else the path of an .npz (see `Npz`) or of a LIBSVM file (see `LibSVM`); else a
        name of `downloadable()` that `fetch` was called with. A file called like a built-in set is ./NAME.
    split: "train" or "test"; a file has no others.

    Raises DataError for an unknown name or split, if there is no such file, and as the sources do.

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
        return Npz(name) if place.suffix == ".npz" else LibSVM(name)
    if name in downloadable():
        return Fetched(name, split)
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
    """Return what is in a LIBSVM file; see `LibSVM`. Raises DataError for a file or a line that cannot be used."""
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
    """Return synthetic data; see `Synthetic`. Raises ValueError for parameters that make no sense.

    >>> synthetic(100, 9, 3).source
    qsim.datasets.Synthetic(rows=100, features=9, nonzeros_per_row=3.0, exponent=1.1, noise=0.05, values='ones', seed=0)
    """
    return Synthetic(rows, features, nonzeros_per_row, exponent, noise, values, seed).load()
