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
    """How many times as long as usual each worker takes, in the whole run."""

    @abstractmethod
    def factors(self, workers: int, key: Key) -> NDArray[np.float64]:
        """Return a factor for each worker. All randomness comes from the key."""


@final
@option
class Equal(Speeds):
    """All machines are alike."""

    def factors(self, workers: int, key: Key) -> NDArray[np.float64]:
        return np.ones(workers)


@final
@option
class Slow(Speeds):
    """A share of the workers, rounded to a whole number of them and drawn once a run, takes `factor` times as long.

    >>> import qsim
    >>> qsim.network.Slow(share=0.25, factor=4.0).factors(8, qsim.Key(0)).tolist()
    [1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 4.0]

    Raises ValueError for a share outside [0, 1], and a factor that is not above 0.
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
    """A factor for each worker, as many as there are.

    Raises ValueError for a factor that is not above 0, and in a run for another number of them than of workers.
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
    """What a machine takes for its work in an exchange, in seconds.

    compute = factor (base + per_nonzero x non-zeros of the rows that met the weights, as often as they did + delay),
    encode = factor (encode_per_entry x entries of the vector that is compressed),
    decode = decode_per_byte x bytes that the busiest node decodes and adds, when the last message has come.

    factor: that of the worker (`speeds`). delay: drawn anew by each worker in each exchange. Exact exchanges (floats as
    they are) take no time to encode. What the server computes beside, and evaluation, takes none.

    Encoding costs are those of one compressor on one kind of machine; `python -m qsim.calibrate` measures them here.
    They are numbers in the run's repr: who is dropped decides the weights, so nothing is measured while a run goes on.

    Raises ValueError for negative numbers.
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
