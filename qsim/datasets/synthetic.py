"""Synthetic data: as sparse and as skewed as clicks or text, of any size, with known true weights."""

from __future__ import annotations

from dataclasses import field
from functools import lru_cache
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets.dataset import Dataset, Source
from qsim.keys import Key, Purpose
from qsim.options import number, one_of, option, whole

_MARGIN = 3.0  # root mean square of the true margins: most labels are clear, some are not
_TOP_RATE = 8.0  # how often a feature may occur in a row, on average; it is absent from exp(-8) of the rows


@final
@option
class Synthetic(Source):
    r"""Synthetic data: rows of power-law features, with labels of a known logistic model.

    The data are as sparse and as skewed as clicks or text.

    Parameters
    ----------
    rows : int
        How many rows, at least 1.
    features : int
        How many features, at least 2.
    nonzeros_per_row : float
        How many different features a row has on average, from 1 to features/2.
    exponent : float, default 1.1
        How skewed the popularity of features is, at least 0: 0 makes all equally popular, 1.1 is usual for words and
        clicks.
    noise : float, default 0.05
        The share of labels that are flipped, from 0 to 1/2.
    values : {"ones", "tfidf"}, default "ones"
        "ones", as for clicks: an entry is 1. "tfidf", as for text: an entry is (1 + log count) log(1 + rows/(rows with
        the feature)), and each row is scaled to unit l2 length.
    seed : int, default 0
        The seed of everything; runs that differ only in `noise` or `values` share the features.

    Raises
    ------
    ValueError
        For other numbers.

    Notes
    -----
    The :math:`j`-th most popular feature :math:`(j = 1, 2, \ldots)` occurs :math:`\mathrm{Poisson}(\mathrm{rate}_j)`
    times in a row, independently, with :math:`\mathrm{rate}_j = \min(c j^{-\mathrm{exponent}}, 8)`; a row in which none
    occurs gets one, drawn in proportion to the rates. :math:`c` is solved for, so that a row has `nonzeros_per_row`
    different features on average. A random permutation spreads the popular features over the columns.

    A label is +1 with probability :math:`1/(1 + \exp(-\langle x, w \rangle))`, and then flipped with probability
    `noise`. The true weights :math:`w` are independent normal numbers, scaled so that :math:`\langle x, w \rangle` has
    a root mean square of 3 over the rows. There is no intercept, but popular features act like one, so the classes need
    not be balanced.

    Examples
    --------
    >>> Synthetic(rows=1000, features=50, nonzeros_per_row=5).load()
    Dataset('synthetic-1000x50', 1,000 x 50, 4,964 non-zeros, 385 positive)
    """

    rows: int
    features: int
    nonzeros_per_row: float
    exponent: float = 1.1
    noise: float = 0.05
    values: Literal["ones", "tfidf"] = "ones"
    seed: int = 0
    name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        whole("rows", self.rows, least=1, most=2**31)
        whole("features", self.features, least=2, most=2**31)
        number("nonzeros_per_row", self.nonzeros_per_row, least=1)
        if self.nonzeros_per_row > self.features / 2:
            raise ValueError(
                f"nonzeros_per_row must be at most half of the {self.features} features, found {self.nonzeros_per_row}"
            )
        number("exponent", self.exponent, least=0)
        number("noise", self.noise, least=0)
        if self.noise > 0.5:
            raise ValueError(f"noise must be at most 0.5, found {self.noise}")
        one_of("values", self.values, ("ones", "tfidf"))
        whole("seed", self.seed, least=0, most=2**64 - 1)
        object.__setattr__(self, "name", f"synthetic-{self.rows}x{self.features}")

    def load(self) -> Dataset:
        return _make(self)[0]

    def weights(self) -> NDArray[np.float64]:
        """Return the true weights w, shape (features,)."""
        return _make(self)[1]


@lru_cache(maxsize=4)
def _make(source: Synthetic) -> tuple[Dataset, NDArray[np.float64]]:
    generator = Key(source.seed).fold(Purpose.SYNTHETIC).generator()
    indptr, indices, counts = _entries(source, generator)
    values = None if source.values == "ones" else _tfidf(indptr, indices, counts, source.features)
    weights, margins = _weights(source.features, indptr, indices, values, generator)
    chance, flip = generator.random(source.rows), generator.random(source.rows)
    positive = (chance * (1 + np.exp(-margins)) < 1) ^ (flip < source.noise)
    for array in (indptr, indices, weights):
        array.flags.writeable = False
    return Dataset(indptr, indices, values, positive, source.features, source.name, source), weights


def _entries(
    source: Synthetic, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Return indptr, indices, and how often the feature of each entry occurs in its row.

    If a feature's occurrences over all rows are Poisson(rows * rate), and each falls on a uniformly random row, then
    the counts of the rows are independent and Poisson(rate).
    """
    n, d = source.rows, source.features
    rates = _rates(d, source.exponent, source.nonzeros_per_row)
    column = generator.permutation(d)
    occurrences = generator.poisson(n * rates)
    row = generator.integers(0, n, occurrences.sum())
    empty = np.flatnonzero(np.bincount(row, minlength=n) == 0)
    chosen = np.searchsorted(np.cumsum(rates), generator.random(empty.size) * rates.sum(), side="right")
    cells = np.concatenate((row * d + np.repeat(column, occurrences), empty * d + column[np.minimum(chosen, d - 1)]))
    cells.sort()
    first = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1])))
    counts = np.diff(first, append=cells.size)
    rows, indices = np.divmod(cells[first], d)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=n))))
    return indptr, indices.astype(np.int32), counts


def _rates(features: int, exponent: float, nonzeros_per_row: float) -> NDArray[np.float64]:
    """Return how often each feature occurs in a row on average, most popular first."""
    popularity = rates = np.arange(1, features + 1, dtype=np.float64) ** -float(exponent)

    low, high = np.log(1e-9 / features), np.log(_TOP_RATE / popularity[-1])  # from 1 non-zero per row to all features
    for _ in range(60):
        middle = (low + high) / 2
        rates = np.minimum(np.exp(middle) * popularity, _TOP_RATE)
        mean = -np.expm1(-rates).sum() + np.exp(-rates.sum())  # an empty row gets one feature
        low, high = (middle, high) if mean < nonzeros_per_row else (low, middle)
    return rates


def _tfidf(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], counts: NDArray[np.int64], features: int
) -> NDArray[np.float32]:
    rows_with = np.bincount(indices, minlength=features)
    values = (1 + np.log(counts)) * np.log1p((indptr.size - 1) / np.maximum(rows_with, 1))[indices]
    lengths = np.sqrt(np.add.reduceat(values**2, indptr[:-1]))
    scaled: NDArray[np.float32] = (values / np.repeat(lengths, np.diff(indptr))).astype(np.float32)
    return scaled


def _weights(
    features: int,
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32] | None,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the true weights, and the margin <x, w> of each row (none is empty, as reduceat needs)."""
    weights = generator.standard_normal(features)
    products = weights[indices] if values is None else weights[indices] * values
    margins = np.add.reduceat(products, indptr[:-1])
    scale = _MARGIN / np.sqrt(np.mean(margins**2))
    return weights * scale, margins * scale
