"""Clients: which workers take part in a round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
from numpy.typing import NDArray

from qsim.keys import Key, require_key
from qsim.options import option, whole


class Clients(ABC):
    """A rule by which the server invites workers to a round. The others compute, send and receive nothing."""

    @abstractmethod
    def draw(self, key: Key, workers: int) -> NDArray[np.bool_] | None:
        """Return who takes part, shape (workers,), or None for all. All randomness comes from the key."""


@final
@option
class AllClients(Clients):
    """Every worker takes part in every round."""

    def draw(self, key: Key, workers: int) -> None:
        return None


@final
@option
class SampledClients(Clients):
    """`count` workers take part in a round, drawn without replacement, each set with the same probability.

    The server takes the mean over those that take part: their weights n_i/n are scaled to sum 1. That is unbiased for
    equal shards; for unequal ones it is a ratio, whose bias falls as 1/count.

    Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017.

    >>> import qsim
    >>> qsim.clients.SampledClients(3).draw(qsim.Key(1), workers=8).sum()
    np.int64(3)

    Raises ValueError for a count below 1, and in the simulation for one above the number of workers.
    """

    count: int

    def __post_init__(self) -> None:
        whole("count", self.count, least=1)

    def draw(self, key: Key, workers: int) -> NDArray[np.bool_]:
        require_key(key)
        workers = whole("workers", workers, least=1)
        if self.count > workers:
            raise ValueError(f"{self.count} clients cannot be drawn of {workers} workers")
        here = np.zeros(workers, bool)
        here[key.generator().choice(workers, self.count, replace=False)] = True
        return here


__all__ = ["AllClients", "Clients", "SampledClients"]


def __dir__() -> list[str]:
    return __all__
