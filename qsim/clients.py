"""Clients: which workers take part in a round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
from numpy.typing import NDArray

from qsim.keys import Key, require_key
from qsim.options import option, whole


class Clients(ABC):
    """Base class of clients: which workers the server invites to a round.

    The others compute, send and receive nothing.
    """

    @abstractmethod
    def draw(self, key: Key, workers: int) -> NDArray[np.bool_] | None:
        """Return which workers take part in a round.

        Parameters
        ----------
        key : Key
            The source of all randomness, another one for every round.
        workers : int
            How many workers there are.

        Returns
        -------
        ndarray of bool, shape (workers,), or None
            Who takes part; None for all.
        """


@final
@option
class AllClients(Clients):
    """Every worker takes part in every round.

    Examples
    --------
    >>> import qsim
    >>> qsim.clients.AllClients().draw(qsim.Key(1), workers=8) is None
    True
    """

    def draw(self, key: Key, workers: int) -> None:
        return None


@final
@option
class SampledClients(Clients):
    """A fixed number of workers, drawn anew for every round without replacement.

    Each set of `count` workers has the same probability. The server takes the mean over those that take part: their
    weights :math:`n_i/n` are scaled to sum 1.

    Parameters
    ----------
    count : int
        How many workers take part in a round.

    Raises
    ------
    ValueError
        If `count` is below 1, and in the simulation if it is above the number of workers.

    Notes
    -----
    The mean is unbiased for equal shards; for unequal ones it is a ratio, whose bias falls as 1/count.

    References
    ----------
    .. [1] McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017.

    Examples
    --------
    >>> import qsim
    >>> qsim.clients.SampledClients(3).draw(qsim.Key(1), workers=8).sum()
    np.int64(3)
    """

    count: int

    def __post_init__(self) -> None:
        whole("count", self.count, least=1)

    def draw(self, key: Key, workers: int) -> NDArray[np.bool_]:
        require_key(key)
        workers = whole("workers", workers, least=1)
        if self.count > workers:
            raise ValueError(f"{self.count} clients cannot be drawn of {workers} workers")
        here: NDArray[np.bool_] = self.draw_each(np.array([key.word], np.uint64), workers)[0]
        return here

    def draw_each(self, words: NDArray[np.uint64], workers: int) -> NDArray[np.bool_]:
        """Return who takes part in rounds, the words of whose keys these are.

        Parameters
        ----------
        words : ndarray of uint64, shape (rounds,)
            The words.
        workers : int
            How many workers there are, at least `count`.

        Returns
        -------
        ndarray of bool, shape (rounds, workers)
            Who takes part in each.
        """
        from qsim.kernels.select import draw_positions

        who, here = np.empty((words.size, self.count), np.int64), np.zeros((words.size, workers), bool)
        draw_positions(words, workers, self.count, who.reshape(-1))
        np.put_along_axis(here, who, True, axis=1)
        return here


__all__ = ["AllClients", "Clients", "SampledClients"]


def __dir__() -> list[str]:
    return __all__
