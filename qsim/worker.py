"""The workers of one process: gradient, update and packets, a block of workers at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Packets
from qsim.channel import Channel
from qsim.compressors import NotFiniteError
from qsim.datasets import Shards
from qsim.datasets.block import Block
from qsim.keys import Key, Purpose
from qsim.methods import Method
from qsim.objectives import Objective


@dataclass(frozen=True)
class Job:
    """All that a process must know to run its workers."""

    shards: Shards
    objective: Objective
    method: Method
    channel: Channel
    key: Key


@dataclass(frozen=True)
class Order:
    """What the workers shall do now."""

    round: int
    exchange: int
    task: str
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Reply:
    """What workers low, low + 1, ... answer: the header of their streams, and a packet each."""

    low: int
    header: bytes
    packets: Packets


class Host:
    """The workers of one process.

    They run in blocks, which bounds the memory in use; the answers do not depend on the block size.
    """

    def __init__(self, job: Job, low: int, high: int, block: int) -> None:
        """Take over the workers low, ..., high - 1, `block` at a time."""
        self._job = job
        self._blocks = [Block(job.shards, first, min(first + block, high)) for first in range(low, high, block)]
        self._memories = [job.method.memory(block) for block in self._blocks]
        self._data_key = job.key.fold(Purpose.DATA)
        self._quantize_key = job.key.fold(Purpose.QUANTIZE)

    def run(self, order: Order) -> Iterator[Reply]:
        """Carry out an order; yields the replies of the blocks in the order of the workers."""
        job, keys = self._job, self._quantize_key.fold(order.round, order.exchange)
        for block, memory in zip(self._blocks, self._memories, strict=True):
            vectors = job.method.work(
                order.task, order.round, job.objective, block, order.weights, memory, self._data_key
            )
            try:
                header, packets = job.channel.pack(vectors, keys.words(block.low, block.high))
            except NotFiniteError as error:
                raise NotFiniteError(f"round {order.round}, workers {block.low} to {block.high - 1}: {error}") from None
            yield Reply(block.low, header, packets)
