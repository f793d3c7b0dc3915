"""Machines: how long workers compute, encode and decode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
from numpy.typing import NDArray

from qsim.keys import Key, require_key
from qsim.network.delays import Delay, NoDelay
from qsim.options import number, option


class Speeds(ABC):
    """Base class of speeds: how many times as long as usual each worker takes, in the whole run."""

    @abstractmethod
    def factors(self, workers: int, key: Key) -> NDArray[np.float64]:
        """Return the factor of each worker.

        Parameters
        ----------
        workers : int
            How many workers there are.
        key : Key
            The source of all randomness.

        Returns
        -------
        ndarray of float64, shape (workers,)
            By how much computing and encoding take longer, above 0.
        """


@final
@option
class Equal(Speeds):
    """Machines that are all alike.

    Examples
    --------
    >>> import qsim
    >>> qsim.network.Equal().factors(3, qsim.Key(0)).tolist()
    [1.0, 1.0, 1.0]
    """

    def factors(self, workers: int, key: Key) -> NDArray[np.float64]:
        return np.ones(workers)


@final
@option
class Slow(Speeds):
    """A share of the workers is slow.

    share times the number of workers, rounded to a whole number of them and drawn once a run, take `factor` times as
    long as the others.

    Parameters
    ----------
    share : float
        The share of the workers, from 0 to 1.
    factor : float
        How many times as long they take, above 0.

    Raises
    ------
    ValueError
        If `share` is outside [0, 1], or `factor` is not above 0.

    Examples
    --------
    >>> import qsim
    >>> qsim.network.Slow(share=0.25, factor=4.0).factors(8, qsim.Key(0)).tolist()
    [1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 4.0]
    """

    share: float
    factor: float

    def __post_init__(self) -> None:
        number("share", self.share, least=0)
        if self.share > 1:
            raise ValueError(f"share must be at most 1, found {self.share!r}")
        number("factor", self.factor, above=0)

    def factors(self, workers: int, key: Key) -> NDArray[np.float64]:
        require_key(key)
        found = np.ones(workers)
        slow = np.argsort(key.words(0, workers), kind="stable")[: round(self.share * workers)]
        found[slow] = self.factor
        return found


@final
@option
class FixedSpeeds(Speeds):
    """A given factor for each worker.

    Parameters
    ----------
    values : tuple of float
        The factor of worker 0, 1, ..., above 0; as many as there are workers.

    Raises
    ------
    ValueError
        If a factor is not above 0, and in a run if there are not as many as workers.

    Examples
    --------
    >>> import qsim
    >>> qsim.network.FixedSpeeds((1.0, 2.5)).factors(2, qsim.Key(0)).tolist()
    [1.0, 2.5]
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        for place, value in enumerate(self.values):
            number(f"values[{place}]", value, above=0)

    def factors(self, workers: int, key: Key) -> NDArray[np.float64]:
        if len(self.values) != workers:
            raise ValueError(f"{len(self.values)} factors are given for {workers} workers; there must be one for each")
        return np.array(self.values, np.float64)


@final
@option
class Machines:
    """The time that a machine takes for its work in an exchange.

    In seconds::

        compute = factor (base + per_nonzero x non-zeros of the rows that met the weights, as often as they did + delay)
        encode = factor (encode_per_entry x entries of the vector that is compressed)
        decode = decode_per_byte x bytes that the busiest node decodes and adds, when the last message has come

    The factor is that of the worker (`speeds`).

    Parameters
    ----------
    base : float, default 0.0
        Seconds of every exchange, at least 0.
    per_nonzero : float, default 5e-09
        Seconds for a non-zero of a row.
    delay : Delay, default `NoDelay()`
        Drawn anew by each worker in each exchange.
    speeds : Speeds, default `Equal()`
        Factors of the workers.
    encode_per_entry : float, default 0.0
        Seconds for an entry of the vector that is compressed.
    decode_per_byte : float, default 0.0
        Seconds for a byte.

    Raises
    ------
    TypeError
        If `delay` or `speeds` is of another type.
    ValueError
        If a number is negative.

    Notes
    -----
    Exact exchanges (floats sent unchanged) take no time to encode. What the server computes, and evaluation, takes
    none.

    Encoding costs are those of one compressor on one kind of machine; `python -m qsim.calibrate` measures them on
    yours. They are numbers in the repr of the run: whose message is dropped decides the weights, so nothing is measured
    while a run goes on.

    Examples
    --------
    >>> import qsim
    >>> qsim.network.Machines(base=1e-3, delay=qsim.network.Exponential(0.1)).per_nonzero
    5e-09
    """

    base: float = 0.0
    per_nonzero: float = 5e-9
    delay: Delay = NoDelay()
    speeds: Speeds = Equal()
    encode_per_entry: float = 0.0
    decode_per_byte: float = 0.0

    def __post_init__(self) -> None:
        for name in ("base", "per_nonzero", "encode_per_entry", "decode_per_byte"):
            number(name, getattr(self, name), least=0)
        if not isinstance(self.delay, Delay):
            raise TypeError(f"delay must be a law such as qsim.network.Exponential(0.1), found {self.delay!r}")
        if not isinstance(self.speeds, Speeds):
            raise TypeError(f"speeds must be such as qsim.network.Slow(share=0.1, factor=4.0), found {self.speeds!r}")
