"""Means of samples, and how far they can be from the truth."""

from __future__ import annotations

from math import log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

FALSE_ALARM = 1e-10
"""The largest probability with which one promise that is kept is reported as broken; all of them: below 1e-9."""


class Sums:
    """The mean, the variance and the largest magnitude of each column, of rows that come in chunks."""

    def __init__(self) -> None:
        self.count = 0
        self._total: Any = 0.0
        self._squares: Any = 0.0
        self.most: Any = 0.0

    def add(self, rows: NDArray[np.float64]) -> None:
        """Take a chunk of rows."""
        self.count += len(rows)
        self._total = self._total + rows.sum(axis=0)
        self._squares = self._squares + (rows**2).sum(axis=0)
        self.most = np.maximum(self.most, np.abs(rows).max(axis=0))

    @property
    def mean(self) -> Any:
        """The mean of each column."""
        return self._total / self.count

    @property
    def variance(self) -> Any:
        """The sample variance of each column."""
        centred = np.maximum(self._squares - self.count * self.mean**2, 0.0)
        rounding = 2.0**-48 * self._squares  # of the difference of two large sums
        return np.where(centred > rounding, centred, 0.0) / (self.count - 1)


def margin(variance: Any, spread: Any, count: int, tests: int) -> Any:
    """Return how far the mean of a sample is from the truth at most, but for FALSE_ALARM over all `tests` means.

    sqrt(2 V L / K) + 7 M L / (3 (K - 1)), L = log(4 tests / FALSE_ALARM), for K numbers with sample variance V in an
    interval of length M: the empirical Bernstein bound of Maurer and Pontil, COLT 2009, Theorem 4. It holds for any
    distribution on the interval, where a normal approximation would fail for values that are rare and large.
    """
    chance = log(4 * tests / FALSE_ALARM)
    return np.sqrt(variance) * sqrt(2 * chance / count) + 7 * spread * chance / (3 * (count - 1))
