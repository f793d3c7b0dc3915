"""Rules for stragglers: how long the others wait for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from qsim.keys import Key
from qsim.options import number, option, whole
from qsim.program import NoProgram, Program


class Rule(ABC):
    """Base class of rules for stragglers: which messages are waited for.

    The sum is the weighted mean of the messages that are on time; the others are dropped, and their workers are told.

    Attributes
    ----------
    drops : bool
        Whether the rule may drop a message; a class that never does sets it to False.

    Notes
    -----
    A dropped message counts as sent. Without a server, the collective begins when those that are waited for are ready;
    a late worker contributes nothing to it, but passes on what others send, and gets the sum (a partial collective
    [1]_). What a dropped message held is not lost: error memories keep it, and shifts do not move. A late worker gives
    up what it was doing, and begins the next exchange with the others.

    References
    ----------
    .. [1] Li et al., "Taming unbalanced training workloads in deep learning with partial collective operations", PPoPP
           2020.
    """

    drops: ClassVar[bool] = True

    @abstractmethod
    def close(self, arrivals: NDArray[np.float64], ties: Key) -> tuple[NDArray[np.bool_], float]:
        """Decide which messages are on time, and when the waiting ends.

        Parameters
        ----------
        arrivals : ndarray of float64, shape (count,)
            When each message arrives, in seconds since the workers began.
        ties : Key
            Decides, at random, between messages that arrive at the same time.

        Returns
        -------
        on_time : ndarray of bool, shape (count,)
            Which messages are taken.
        end : float
            When the waiting ends, in seconds since the workers began.
        """

    def plan_close(
        self, program: Program, arrivals: NDArray[np.float64], ties: NDArray[np.uint64], on_time: NDArray[np.bool_]
    ) -> Any:
        """Have a program do what `close` does; return when the waiting ends. Raises NoProgram if there are no calls."""
        raise NoProgram

    def require(self, workers: int) -> None:
        """Refuse a number of workers for which the rule makes no sense.

        Parameters
        ----------
        workers : int
            How many workers there are.

        Raises
        ------
        ValueError
            If it makes none; by default any number does.
        """
        return None


@final
@option
class WaitForAll(Rule):
    r"""Wait for all messages: the slowest worker decides.

    Of exponentially distributed times of :math:`p` workers it takes :math:`H_p = 1 + 1/2 + \ldots + 1/p` times their
    mean.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> on_time, end = qsim.network.WaitForAll().close(np.array([0.5, 2.0, 1.0]), qsim.Key(0))
    >>> on_time.tolist(), float(end)
    ([True, True, True], 2.0)
    """

    drops = False

    def close(self, arrivals: NDArray[np.float64], ties: Key) -> tuple[NDArray[np.bool_], float]:
        return np.ones(arrivals.size, bool), float(arrivals.max(initial=0.0))

    def plan_close(
        self, program: Program, arrivals: NDArray[np.float64], ties: NDArray[np.uint64], on_time: NDArray[np.bool_]
    ) -> Any:
        from qsim.kernels.clock import take_all

        return program.call(take_all, arrivals, on_time)


@final
@option
class Timeout(Rule):
    """Drop messages that arrive too late.

    Parameters
    ----------
    seconds : float
        Seconds, since the workers began, after which a message is dropped, above 0. If all have arrived, the waiting
        ends earlier.

    Raises
    ------
    ValueError
        If `seconds` is not above 0.

    Notes
    -----
    If no message is on time, the sum is zero with share 0: only the regulariser, and what the server of a method does
    from memory (momentum, shifts), changes the weights.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> on_time, end = qsim.network.Timeout(1.5).close(np.array([0.5, 2.0, 1.0]), qsim.Key(0))
    >>> on_time.tolist(), float(end)
    ([True, False, True], 1.5)
    """

    seconds: float

    def __post_init__(self) -> None:
        number("seconds", self.seconds, above=0)

    def close(self, arrivals: NDArray[np.float64], ties: Key) -> tuple[NDArray[np.bool_], float]:
        on_time = arrivals <= self.seconds
        return on_time, float(arrivals.max()) if on_time.all() else self.seconds

    def plan_close(
        self, program: Program, arrivals: NDArray[np.float64], ties: NDArray[np.uint64], on_time: NDArray[np.bool_]
    ) -> Any:
        from qsim.kernels.clock import take_until

        return program.call(take_until, arrivals, self.seconds, on_time)


@final
@option
class Fastest(Rule):
    """Take the first messages, and drop the others.

    Parameters
    ----------
    count : int
        How many messages are waited for (all, if fewer workers take part).

    Raises
    ------
    ValueError
        If `count` is below 1, and in a run if it is above the number of workers.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> on_time, end = qsim.network.Fastest(2).close(np.array([0.5, 2.0, 1.0]), qsim.Key(0))
    >>> on_time.tolist(), float(end)
    ([True, False, True], 1.0)
    """

    count: int

    def __post_init__(self) -> None:
        whole("count", self.count, least=1)

    def close(self, arrivals: NDArray[np.float64], ties: Key) -> tuple[NDArray[np.bool_], float]:
        return _first(arrivals, min(self.count, arrivals.size), ties)

    def plan_close(
        self, program: Program, arrivals: NDArray[np.float64], ties: NDArray[np.uint64], on_time: NDArray[np.bool_]
    ) -> Any:
        from qsim.kernels.clock import take_first

        return program.call(take_first, arrivals, min(self.count, arrivals.size), ties, on_time)

    def require(self, workers: int) -> None:
        if self.count > workers:
            raise ValueError(f"{self!r} waits for more messages than {workers} workers send")


@final
@option
class Backup(Rule):
    """Backup workers: drop the last messages.

    Parameters
    ----------
    count : int
        How many messages are dropped; at least one is waited for.

    Raises
    ------
    ValueError
        If `count` is below 1, and in a run if it leaves no worker.

    References
    ----------
    .. [1] Chen, Monga, Bengio, Jozefowicz, "Revisiting distributed synchronous SGD", 2016.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> on_time, end = qsim.network.Backup(1).close(np.array([0.5, 2.0, 1.0]), qsim.Key(0))
    >>> on_time.tolist(), float(end)
    ([True, False, True], 1.0)
    """

    count: int

    def __post_init__(self) -> None:
        whole("count", self.count, least=1)

    def close(self, arrivals: NDArray[np.float64], ties: Key) -> tuple[NDArray[np.bool_], float]:
        return _first(arrivals, max(arrivals.size - self.count, 1), ties)

    def plan_close(
        self, program: Program, arrivals: NDArray[np.float64], ties: NDArray[np.uint64], on_time: NDArray[np.bool_]
    ) -> Any:
        from qsim.kernels.clock import take_first

        return program.call(take_first, arrivals, max(arrivals.size - self.count, 1), ties, on_time)

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
