"""A group of workers in one process: gradient, update and packets, a block of workers at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from qsim.arrays import arrays_by_name
from qsim.batch import Arrays, Memory, Packets, Support, Vectors, dense_offsets
from qsim.block import Block
from qsim.channel import EXACT, Channel, Line
from qsim.compressors import NotFiniteError
from qsim.datasets import Shards
from qsim.datasets.parts import PartShards
from qsim.keys import Purpose
from qsim.methods import Task
from qsim.options import shown
from qsim.weights import Replica
from qsim.workers.measurements import measured
from qsim.workers.progressive import scored
from qsim.workers.tasks import CoordinateRequest, Instruction, Job, Measurement, Order, Reply

_Block = TypeVar("_Block")
_NO_WEIGHTS = Replica(np.zeros(0, np.float32))
_BLOCK_BYTES = 4 << 20  # what the vectors of a block may take: more leaves the cache, less is spent between kernels
_LINES = 2**20  # numbers for which the lines of all workers have room
_ENTRY_BYTES = 20  # index and value of a vector's entry, index and level of its message's, and the packet


class WorkerGroup:
    """The workers low, ..., high - 1 of a job, in one process.

    They run in blocks, which bounds the memory in use, and blocks on threads (kernels release the GIL). The answers
    depend on neither. `block` is how many workers pass through each stage together; None: as many as fit the cache.
    """

    def __init__(
        self,
        job: Job,
        low: int,
        high: int,
        block: int | None = None,
        threads: int = 1,
        beside_server: bool = False,
    ) -> None:
        """Take the workers of a job; `beside_server`: whether their packets are read in this process."""
        size = 1 if job.sampled else block or _block_size(job, high - low, threads)
        self._job, self._beside_server = job, beside_server
        self._data_key = job.key.fold(Purpose.DATA)
        shards: Any = job.shards
        if isinstance(shards, PartShards):
            spans = shards.blocks(low, high, size)
        else:
            spans = [(first, min(first + size, high)) for first in range(low, high, size)]
        self._blocks = [_Workers(job, first, last) for first, last in spans]
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self.threads = threads
        self.fits_the_cache = block is None and _block_size(job, high - low, 1) >= high - low
        """Whether all workers could be one block, if they were on one thread."""

    @property
    def shards(self) -> Shards:
        """The rows of all workers, also of those in other groups."""
        return self._job.shards

    @property
    def parts(self) -> list[_Workers]:
        """The blocks of workers, and what they keep."""
        return self._blocks

    def joined(self) -> _Workers:
        """Return all workers as one block, of whose arrays those of the blocks are parts from then on."""
        if len(self._blocks) == 1:
            return self._blocks[0]
        whole = _Workers(self._job, self._blocks[0].block.low, self._blocks[-1].block.high)
        for name, array in whole.arrays.items():
            pieces = [part.arrays[name] for part in self._blocks]
            array[:] = np.concatenate(pieces)
            ends = np.cumsum([piece.size for piece in pieces])
            for part, piece in zip(self._blocks, np.split(array, ends[:-1]), strict=True):
                part.keep(name, piece)
        return whole

    @property
    def stateful(self) -> bool:
        """Whether the workers keep anything from round to round."""
        return any(part.arrays for part in self._blocks)

    def on_delivered(self, delivered: NDArray[np.bool_]) -> None:
        """Tell the workers whose messages of the last order were delivered, where a job may drop some.

        delivered: one truth for each of all workers; those that took no part are not looked at.
        """
        waiting = [part for part in self._blocks if part.unsettled is not None]
        list((self._pool.map if self._pool else map)(lambda part: self._settle(part, delivered), waiting))

    def run(self, instruction: Instruction) -> Iterator[Reply]:
        """Follow an instruction; yields the replies of the blocks in the order of the workers.

        Without threads a block computes when its reply is asked for, so that no more than one reply is in memory.
        """
        if isinstance(instruction, Measurement):
            blocks = self._test_blocks if instruction.test else [part.block for part in self._blocks]
            return self._replies(lambda block: measured(self._job.objective, block, instruction), blocks)
        who = instruction.participants
        parts = self._blocks if who is None else [part for part in self._blocks if who[part.block.low]]
        return self._replies(partial(self._reply, instruction=instruction), parts)

    def snapshot(self) -> Arrays:
        """Return what the workers keep: each array for all workers in order, whatever the blocks."""
        if any(part.unsettled is not None and part.arrays for part in self._blocks):
            raise RuntimeError("the workers do not know yet what was delivered: settle the exchange first")
        names = self._blocks[0].arrays
        return {name: np.concatenate([part.arrays[name] for part in self._blocks]) for name in names}

    def restore(self, snapshot: Arrays) -> None:
        """Set what the workers keep to a snapshot of the same workers."""
        for name, saved in snapshot.items():
            ends = np.cumsum([part.arrays[name].size for part in self._blocks])
            for part, piece in zip(self._blocks, np.split(saved, ends[:-1]), strict=True):
                part.arrays[name][:] = piece

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @cached_property
    def _test_blocks(self) -> list[Block]:
        """The rows of test data that these workers hold, a file at a time."""
        low, high = self._blocks[0].block.low, self._blocks[-1].block.high
        test = self._job.test
        assert test is not None
        return [Block(test, *span) for span in test.blocks(low, high, high - low)]

    def _replies(self, answer: Callable[[_Block], Reply], blocks: list[_Block]) -> Iterator[Reply]:
        """Return the answers of blocks, in their order."""
        return map(answer, blocks) if self._pool is None else self._pool.map(answer, blocks)

    def _reply(self, part: _Workers, instruction: Instruction) -> Reply:
        if isinstance(instruction, Order):
            return self._compute(part, instruction)
        assert isinstance(instruction, CoordinateRequest)
        return self._coordinates(part, instruction)

    def _coordinates(self, part: _Workers, request: CoordinateRequest) -> Reply:
        """Return the coordinates at which the workers of a block will read the weights."""
        job, block = self._job, part.block
        if _keeps_support(job):
            task = Task(request.task, request.round, _NO_WEIGHTS, self._data_key)
            coordinates = block.ones(job.method.reads(task, block, part.kept))
        else:
            coordinates = Vectors.dense(np.ones((block.workers, block.n), np.float32))
        keys = request.key(job.key).words(block.low, block.high)
        return Reply(block.low, *request.channel.pack(coordinates, keys))

    def _compute(self, part: _Workers, order: Order) -> Reply:
        """Have the workers of a block do a task, and pack what they send."""
        job, block = self._job, part.block
        if job.timed:
            block.touched = np.zeros(block.workers, np.int64)
        channel = EXACT[order.exact] if order.exact else job.channel
        memory = None if order.exact else part.memory
        keys = order.key(job.key).words(block.low, block.high)
        task = Task(order.task, order.round, order.weights, self._data_key, order.vectors, keys)
        read = block.read
        block.met = [] if job.progressive and order.exchange == 0 else None
        with _located(block, order):
            vectors = job.method.work(task, job.objective, block, part.kept)
            if order.silent:
                return Reply(block.low, b"", Packets.of(*[b""] * block.workers), block.read - read)
            scores = None if block.met is None else scored(job.objective, block, block.met, order.weights)
            arrived = None
            if self._beside_server and isinstance(vectors, Vectors):
                header, packets, arrived = part.line(order.exact, vectors, channel).pack(vectors, keys)
            else:
                header, packets = channel.pack(vectors, keys, memory)
            if memory is not None or job.method.learns_delivery:
                part.unsettled = _Unsettled(order, task, header, packets, arrived)
        if part.unsettled is not None and (order.exact or not job.drops):
            self._settle(part, None)
        work = None
        if block.touched is not None:
            entries = np.diff(vectors.offsets if memory is None else memory.support.offsets)
            filled = not (order.exact or channel.compressor.keeps_sparse)
            work = np.stack([block.touched, np.full_like(entries, vectors.n) if filled else entries], axis=1)
        return Reply(block.low, header, packets, block.read - read, work, scores, arrived)

    def _settle(self, part: _Workers, delivered: NDArray[np.bool_] | None) -> None:
        """Tell the workers of a block what was delivered of their last messages; None: all of it."""
        sent, block, job = part.unsettled, part.block, self._job
        assert sent is not None
        part.unsettled = None
        order = sent.order
        channel = EXACT[order.exact] if order.exact else job.channel
        with _located(block, order):
            arrived, mine = sent.vectors, np.ones(block.workers, bool)
            if arrived is None:
                arrived = channel.unpack(sent.header, sent.packets, sent.task.words)
            if delivered is not None:
                mine = delivered[block.low : block.high]
                arrived = arrived if mine.all() else arrived.only(mine)
            if part.memory is not None and not order.exact:
                channel.compressor.on_delivered(part.memory, arrived)
            job.method.on_delivered(sent.task, block, part.kept, arrived, mine)


@dataclass(frozen=True)
class _Unsettled:
    """Messages of a block, of which it does not know yet whether they were delivered."""

    order: Order
    task: Task
    header: bytes
    packets: Packets
    vectors: Vectors | None
    """What the packets stand for, if that is known."""


class _Workers:
    """A block of workers and what they keep: arrays of the method, and the compressor's memory."""

    def __init__(self, job: Job, low: int, high: int) -> None:
        self.block = Block(job.shards, low, high)
        compressor = job.channel.compressor
        filled = Support(self.block.n, dense_offsets(high - low, self.block.n), None)
        support = self.block.support if _keeps_support(job) else filled
        self.kept = job.method.memory(self.block, support if compressor.keeps_sparse else filled)
        if not isinstance(self.kept, Memory):
            raise TypeError(f"what memory of {job.method!r} returns must be a Memory, found {shown(self.kept)}")
        arrays_by_name(f"the arrays of what memory of {job.method!r} returns", self.kept.arrays)
        self.memory = compressor.memory(support)
        if job.dtype == "float64":
            for held in self._held.values():
                held.update(
                    {name: array.astype(np.float64) for name, array in held.items() if array.dtype == np.float32}
                )
        self.unsettled: _Unsettled | None = None
        self._lines: dict[tuple[str | None, int, bool], Line] = {}
        self._line_room = _LINES * self.block.workers // job.shards.workers

    def line(self, exact: Literal["float32", "float64"] | None, v: Vectors, channel: Channel) -> Line:
        """Return the line for batches like one, of exchanges that are exact or not."""
        kind = exact, v.n, v.index is None
        if kind not in self._lines:
            self._lines[kind] = Line(channel, None if exact else self.memory, self._line_room)
        return self._lines[kind]

    @property
    def arrays(self) -> Arrays:
        """The arrays that the workers keep, by name."""
        return {f"{owner}/{name}": array for owner, held in self._held.items() for name, array in held.items()}

    def keep(self, name: str, array: NDArray[Any]) -> None:
        """Keep what is in an array, there from now on."""
        owner, _, own = name.partition("/")
        self._held[owner][own] = array

    @property
    def _held(self) -> dict[str, Arrays]:
        return {"method": self.kept.arrays, "compressor": {} if self.memory is None else self.memory.arrays}


@contextmanager
def _located(block: Block, order: Order) -> Iterator[None]:
    """Have an exception say which worker it is of, and in which round."""
    try:
        yield
    except Exception as error:
        row = getattr(error, "row", None)
        who = f"workers {block.low} to {block.high - 1}" if row is None else f"worker {block.low + row}"
        where = f"{who}, round {order.round}"
        if isinstance(error, NotFiniteError):
            raise NotFiniteError(f"{where}: {error}") from None
        error.add_note(f"in {where} of the simulation")
        raise


def _block_size(job: Job, workers: int, threads: int) -> int:
    """Return how many workers' vectors fit the cache, leaving each thread a few blocks to even out their times."""
    fit = int(_BLOCK_BYTES / (_ENTRY_BYTES * max(_entries(job), 1.0)))
    fair = workers if threads == 1 else -(-workers // (4 * threads))
    return max(1, min(fit, fair))


def _keeps_support(job: Job) -> bool:
    """Tell whether workers read and send only what is at features of their rows."""
    return job.objective.keeps_support and job.method.keeps_support


def _entries(job: Job) -> float:
    """Return how many coordinates pass through the stages for a worker, on average."""
    shards, data = job.shards, job.shards.dataset
    supports = float(np.diff(shards.support_offsets).mean()) * shards.width
    if job.channel.dense or not _keeps_support(job):
        return shards.n
    if job.channel.compressor.memory(Support(shards.n, np.zeros(1, np.int64), np.zeros(0, np.int32))) is not None:
        return supports
    return min(supports, job.method.rows_per_round(shards) * data.nonzeros / data.rows * shards.width)
