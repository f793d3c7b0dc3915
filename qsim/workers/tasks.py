"""Messages between the exchange and the workers: a job for a whole run, instructions in it, and replies to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Packets, Vectors
from qsim.channel import Channel
from qsim.datasets import Shards
from qsim.datasets.parts import PartShards
from qsim.keys import Key, Purpose
from qsim.methods import Method
from qsim.objectives import Objective
from qsim.weights import Replica


@dataclass(frozen=True)
class Job:
    """All that a process must know to run its workers.

    shards: the rows of all workers; or what stands for them, `PartShards`, where every process reads its own.
    sampled: whether some workers sit out rounds: a block holds one worker then, so that the others cost nothing.
    timed: whether replies say how much the workers had to do.
    drops: whether messages may be dropped: workers learn what was delivered by `WorkerGroup.on_delivered`, not at once.
    progressive: whether the replies of the first exchange of a round have scores of the rows that were read for it.
    test: the rows of test data that workers hold besides, if any.
    dtype: the format in which workers compute, and keep what would be float32.
    """

    shards: Shards
    objective: Objective
    method: Method
    channel: Channel
    key: Key
    sampled: bool = False
    timed: bool = False
    drops: bool = False
    progressive: bool = False
    test: PartShards | None = None
    dtype: Literal["float32", "float64"] = "float32"


@dataclass(frozen=True)
class Instruction:
    """Base of all instructions: for which exchange of which round, about which task, and to whom.

    participants: which of all workers take part, shape (workers,); None: all of them.
    """

    round: int
    exchange: int
    task: str
    participants: NDArray[np.bool_] | None = field(default=None, kw_only=True)

    def key(self, root: Key) -> Key:
        """Return the key of this exchange: worker i quantizes with its word i, and the receiver knows it too."""
        return root.fold(Purpose.QUANTIZE, self.round, self.exchange)


@dataclass(frozen=True)
class Order(Instruction):
    """Do a task at these weights, and send the result.

    vectors: what else came down, by name.
    silent: whether nothing is sent up.
    exact: the format of an exchange that does without the compressor, or None.
    shared: whether all quantize with the word of worker 0, so that messages can be added on their way.
    numbered: whether all draw together, as compressors with `correlated` workers do; "among those present" if these
    are numbered, and not all.
    """

    weights: Replica
    vectors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    exact: Literal["float32", "float64"] | None = None
    silent: bool = False
    shared: bool = False
    numbered: bool | Literal["among those present"] = False

    def key(self, root: Key) -> Key:
        key = super().key(root)
        if self.numbered == "among those present":
            assert self.participants is not None
            return key.numbered_among(self.participants)
        if self.numbered:
            return key.numbered
        return key.shared if self.shared else key


@dataclass(frozen=True)
class Measurement(Order):
    """Measure all rows at these weights, in float64 and apart from training: nothing of it is counted or kept.

    The tasks are those of `qsim.workers.measurements`. test: whether the rows are those of the test data.
    """

    test: bool = False


@dataclass(frozen=True)
class CoordinateRequest(Instruction):
    """Send the coordinates at which a task will read the weights, by a channel; nothing is computed yet."""

    channel: Channel


@dataclass(frozen=True)
class Reply:
    """The answer of workers low, low + 1, ...: the header of their streams, a packet each, how many rows they read.

    work: for a timed job, two numbers per worker: the non-zeros of those rows, and the entries of the vector behind its
    packet.
    vectors: what the packets stand for, where workers and server are in one process, so that nobody reads them again.
    scores: for progressive validation, three numbers per worker: how many rows those were, and the sums of their losses
    and of their errors at the weights that came down.
    """

    low: int
    header: bytes
    packets: Packets
    rows: int = 0
    work: NDArray[np.int64] | None = None
    scores: NDArray[np.float64] | None = None
    vectors: Vectors | None = None
