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
    """Base class of delays: the distribution of the time, in seconds, that a machine loses in an exchange.

    A delay of your own is an option (`qsim.option`) with the two methods below.

    Notes
    -----
    Every worker draws anew in every exchange, from the seed of the run: runs that differ in the compressor see the same
    delays.
    """

    @abstractmethod
    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return quantiles of the delay.

        Parameters
        ----------
        u : ndarray of float64
            Probabilities in (0, 1).

        Returns
        -------
        ndarray of float64, shape of u
            The delay, in seconds, that is exceeded with probability 1 - u.
        """

    @property
    @abstractmethod
    def mean(self) -> float:
        """The mean delay, in seconds."""


@final
@option
class NoDelay(Delay):
    """No delay.

    Examples
    --------
    >>> import qsim
    >>> qsim.network.NoDelay().mean
    0.0
    """

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros(u.size)

    @property
    def mean(self) -> float:
        return 0.0


@final
@option
class Exponential(Delay):
    r"""Exponentially distributed delays.

    .. math::

        P(\mathrm{delay} > x) = \exp(-x / \mathrm{scale}).

    The mean of the largest of :math:`p` delays is :math:`H_p` scale, with :math:`H_p = 1 + 1/2 + \ldots + 1/p`.

    Parameters
    ----------
    scale : float
        The mean, in seconds, above 0.

    Raises
    ------
    ValueError
        If `scale` is not above 0.

    Examples
    --------
    >>> import qsim
    >>> qsim.network.Exponential(0.5).mean
    0.5
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
    r"""A least delay, and an exponentially distributed one on top.

    .. math::

        P(\mathrm{delay} > x) = \exp(-(x - \mathrm{least}) / \mathrm{scale})

    for :math:`x > \mathrm{least}`: the usual distribution of a worker's time in the coding literature.

    Parameters
    ----------
    least : float
        The least delay, in seconds, at least 0.
    scale : float
        The mean of what exceeds it, in seconds, above 0.

    Raises
    ------
    ValueError
        If `least` is negative, or `scale` is not above 0.

    References
    ----------
    .. [1] Lee, Lam, Pedarsani, Papailiopoulos, Ramchandran, "Speeding up distributed machine learning using codes",
           IEEE Trans. Information Theory 2018.

    Examples
    --------
    >>> import qsim
    >>> qsim.network.ShiftedExponential(least=0.25, scale=0.5).mean
    0.75
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
    r"""Pareto-distributed delays, which have a heavy tail.

    .. math::

        P(\mathrm{delay} > x) = (\mathrm{least} / x)^{\mathrm{shape}}

    for :math:`x > \mathrm{least}`. The mean is infinite for a shape of at most 1.

    Parameters
    ----------
    least : float
        The least delay, in seconds, above 0.
    shape : float
        The exponent of the tail, above 0.

    Raises
    ------
    ValueError
        If one of them is not above 0.

    Examples
    --------
    >>> import qsim
    >>> qsim.network.Pareto(least=0.5, shape=2.0).mean
    1.0
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
    r"""Log-normally distributed delays.

    log(delay / median) is normal, with mean 0 and standard deviation :math:`\sigma`.

    Parameters
    ----------
    median : float
        The median, in seconds, above 0.
    sigma : float
        The standard deviation of the logarithm, above 0.

    Raises
    ------
    ValueError
        If one of them is not above 0.

    Examples
    --------
    >>> import qsim
    >>> round(qsim.network.LogNormal(median=1.0, sigma=0.5).mean, 4)  # median exp(sigma^2 / 2)
    1.1331
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
