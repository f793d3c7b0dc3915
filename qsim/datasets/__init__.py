"""Data sets, where they come from, and how their rows are shared out to workers.

>>> import qsim
>>> data = qsim.datasets.load("adult")
>>> data
Dataset('adult', 32,561 x 121, 451,592 non-zeros, 7,841 positive)
>>> qsim.datasets.Shuffled().split(data, workers=32, key=qsim.Key(0))
Shards(32,561 rows of 'adult' on 32 workers, 1,017 to 1,018 each)
"""

from __future__ import annotations

from typing import Literal

from qsim.datasets.builtin import Builtin, names
from qsim.datasets.dataset import DataError, Dataset
from qsim.datasets.partition import ByLabel, Contiguous, Dirichlet, Partition, Shards, Shuffled
from qsim.datasets.sources import Source
from qsim.datasets.synthetic import Synthetic

__all__ = [
    "Builtin",
    "ByLabel",
    "Contiguous",
    "DataError",
    "Dataset",
    "Dirichlet",
    "Partition",
    "Shards",
    "Shuffled",
    "Source",
    "Synthetic",
    "load",
    "names",
    "synthetic",
]


def load(name: str, split: str = "train") -> Dataset:
    """Return a built-in data set; see `Builtin`. Raises DataError for an unknown name or split.

    >>> load("spark_sample")
    Dataset('spark_sample', 322 x 16, 1,787 non-zeros, 162 positive)
    """
    return Builtin(name, split).load()


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

    >>> synthetic(1000, 50, 5).source
    qsim.datasets.Synthetic(rows=1000, features=50, nonzeros_per_row=5, exponent=1.1, noise=0.05, values='ones', seed=0)
    """
    return Synthetic(rows, features, nonzeros_per_row, exponent, noise, values, seed).load()
