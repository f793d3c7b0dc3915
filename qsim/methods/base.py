"""The method contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from qsim.batch import Arrays, Vectors
from qsim.datasets import Shards
from qsim.datasets.block import Block
from qsim.keys import Key
from qsim.objectives import Objective
from qsim.weights import Replica, Weights


class Exchange(Protocol):
    """One trip to the workers and back, as a method's server sees it."""

    round: int
    """The round, counted from 0."""
    objective: Objective

    def __call__(self, task: str, w: Weights) -> Vectors:
        """Have every worker do `task` at the weights w; return the weighted sum of what they sent, one float64 row."""
        ...


class Method(ABC):
    """A way of training. The server's state and each block's memory are dicts of arrays."""

    @abstractmethod
    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        """Do one round on the server: exchange as often as needed, then change w, and what else the server keeps."""

    @abstractmethod
    def work(
        self,
        task: str,
        t: int,
        objective: Objective,
        block: Block,
        weights: Replica,
        memory: Arrays,
        key: Key,
    ) -> Vectors:
        """Return what each worker of a block wants to send in round t: one float32 row a worker.

        `key` names the stream of this run's data; fold in the round (and what else it depends on), then take the words
        of the block's workers: `key.fold(t).words(block.low, block.high)`.
        """

    def rows(self, task: str, t: int, shards: Shards) -> int:
        """Return of how many rows all workers together compute a gradient when they do `task` in round t.

        All rows, by default; a row counts as often as it is used. It measures passes over the data (`Trace`).
        """
        return shards.dataset.rows

    def rows_per_round(self, shards: Shards) -> float:
        """Return about how many rows a worker computes with in a round (all it has, by default): it sizes blocks."""
        return shards.dataset.rows / shards.workers

    def memory(self, block: Block) -> Arrays:
        """Return what the workers of a block keep from round to round: arrays, empty here."""
        return {}
