"""Rules for stragglers: how long the others wait for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from qsim.keys import Key
from qsim.options import number, option, whole


class Rule(ABC):
    """Which messages are waited for. The sum is the weighted mean of those; the others are dropped, and workers told.

    A dropped message counts as sent. Without a server, the collective begins when those that are waited for are ready;
    who is late adds nothing to it, but passes on what others send, and gets the sum (a partial collective: Li et al.,
    "Taming unbalanced training workloads in deep learning with partial collective operations", PPoPP 2020). What a
    message held is not forgotten: error memories keep it, shifts do not move. A worker that was late gives up what it
    was doing, and begins the next exchange with the others.
    """

    drops: ClassVar[bool] = True
    """Whether it may leave a message out."""

    @abstractmethod
    def close(self, arrivals: NDArray[np.float64], ties: Key) -> tuple[NDArray[np.bool_], float]:
        """Return which messages are on time, and when the waiting ends, in seconds since the workers began.

        `ties` decides, at random, between messages that come at one time.
        """

    def require(self, workers: int) -> None:
        """Raise ValueError if the rule makes no sense for so many workers."""
        return None


@final
@option
class WaitForAll(Rule):
    """The slowest decides. Of exponential times of p workers it takes H_p = 1 + 1/2 + ... + 1/p times their mean."""

    drops = False

    def close(self, arrivals: NDArray[np.float64], ties: Key) -> tuple[NDArray[np.bool_], float]:
        return np.ones(arrivals.size, bool), float(arrivals.max(initial=0.0))


@final
@option
class Timeout(Rule):
    """What comes later than `seconds` after the workers began is dropped. If all have come, nobody waits longer.

    Where nobody comes in time, the sum is zero with share 0: only the regulariser, and what a method's server does from
    memory (momentum, shifts), moves the weights.

    Raises ValueError for seconds that are not above 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        number("seconds", self.seconds, above=0)

    def close(self, arrivals: NDArray[np.float64], ties: Key) -> tuple[NDArray[np.bool_], float]:
        on_time = arrivals <= self.seconds
        return on_time, float(arrivals.max()) if on_time.all() else self.seconds


@final
@option
class Fastest(Rule):
    """The `count` messages that come first are taken (all, if fewer take part).

    Raises ValueError for a count below 1, and in a run for one above the number of workers.
    """

    count: int

    def __post_init__(self) -> None:
        whole("count", self.count, least=1)

    def close(self, arrivals: NDArray[np.float64], ties: Key) -> tuple[NDArray[np.bool_], float]:
        return _first(arrivals, min(self.count, arrivals.size), ties)

    def require(self, workers: int) -> None:
        if self.count > workers:
            raise ValueError(f"{self!r} waits for more messages than {workers} workers send")


@final
@option
class Backup(Rule):
    """All but the last `count` messages are taken: so many workers are there in reserve (at least one is waited for).

    Source: Chen, Monga, Bengio, Jozefowicz, "Revisiting distributed synchronous SGD", 2016.

    Raises ValueError for a count below 1, and in a run for one that leaves no worker.
    """

    count: int

    def __post_init__(self) -> None:
        whole("count", self.count, least=1)

    def close(self, arrivals: NDArray[np.float64], ties: Key) -> tuple[NDArray[np.bool_], float]:
        return _first(arrivals, max(arrivals.size - self.count, 1), ties)

    def require(self, workers: int) -> None:
        if self.count >= workers:
            raise ValueError(f"{self!r} leaves none of {workers} workers; take a count of at most {workers - 1}")


def _first(arrivals: NDArray[np.float64], count: int, ties: Key) -> tuple[NDArray[np.bool_], float]:
    """Return which `count` come first, and when the last of them does."""
    last = float(np.partition(arrivals, count - 1)[count - 1])
    on_time = arrivals < last
    equal = np.flatnonzero(arrivals == last)
    lots = np.argsort(ties.words(0, arrivals.size)[equal]) if equal.size > 1 else [0]
    on_time[equal[lots][: count - int(on_time.sum())]] = True
    return on_time, last
