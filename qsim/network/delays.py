"""Delays: laws of the time that a machine loses in an exchange."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import exp, inf
from typing import final

import numpy as np
from numpy.typing import NDArray

from qsim.keys import Key
from qsim.options import number, option


def uniforms(key: Key, count: int) -> NDArray[np.float64]:
    """Return a uniform number in (0, 1) for worker 0, 1, ..., count - 1: (52 bits of `key.fold(i)` + 1/2) / 2^52."""
    return ((key.words(0, count) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


class Delay(ABC):
    """A law of delays, in seconds. One of your own is an option with these two methods.

    Every worker draws anew in every exchange, from the run's seed: runs that differ in the compressor see the same
    delays.
    """

    @abstractmethod
    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the delay that is exceeded with probability 1 - u, for each u in (0, 1)."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """The mean delay."""


@final
@option
class NoDelay(Delay):
    """Always zero."""

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros(u.size)

    @property
    def mean(self) -> float:
        return 0.0


@final
@option
class Exponential(Delay):
    """P(delay > x) = exp(-x / scale); its mean is the scale. The mean of the largest of p is H_p times that.

    >>> import qsim
    >>> qsim.network.Exponential(0.5).mean
    0.5

    Raises ValueError for a scale that is not above 0.
    """

    scale: float

    def __post_init__(self) -> None:
        number("scale", self.scale, above=0)

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return -self.scale * np.log1p(-u)

    @property
    def mean(self) -> float:
        return self.scale


@final
@option
class ShiftedExponential(Delay):
    """At least `least`, and an exponential time more: the usual law of a worker's time in the coding literature.

    Source: Lee, Lam, Pedarsani, Papailiopoulos, Ramchandran, "Speeding up distributed machine learning using codes",
    IEEE Trans. Information Theory 2018.

    Raises ValueError for a negative `least`, and a scale that is not above 0.
    """

    least: float
    scale: float

    def __post_init__(self) -> None:
        number("least", self.least, least=0)
        number("scale", self.scale, above=0)

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.least - self.scale * np.log1p(-u)

    @property
    def mean(self) -> float:
        return self.least + self.scale


@final
@option
class Pareto(Delay):
    """P(delay > x) = (least / x)^shape for x above `least`: a heavy tail, of infinite mean for a shape up to 1.

    Raises ValueError for numbers that are not above 0.
    """

    least: float
    shape: float

    def __post_init__(self) -> None:
        number("least", self.least, above=0)
        number("shape", self.shape, above=0)

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.least * (1.0 - u) ** (-1.0 / self.shape)

    @property
    def mean(self) -> float:
        return self.least * self.shape / (self.shape - 1) if self.shape > 1 else inf


@final
@option
class LogNormal(Delay):
    """The logarithm of the delay over its median is normal, with standard deviation `sigma`.

    Raises ValueError for numbers that are not above 0.
    """

    median: float
    sigma: float

    def __post_init__(self) -> None:
        number("median", self.median, above=0)
        number("sigma", self.sigma, above=0)

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        from scipy.special import ndtri

        found: NDArray[np.float64] = self.median * np.exp(self.sigma * ndtri(u))
        return found

    @property
    def mean(self) -> float:
        return self.median * exp(self.sigma**2 / 2)
