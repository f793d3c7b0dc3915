"""Draws of batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from itertools import pairwise
from typing import Any, final

import numpy as np

from qsim.batch import Arrays, Memory, Support
from qsim.block import Block, Rows
from qsim.datasets import Shards
from qsim.datasets.checks import as_array, whole_numbers
from qsim.keys import Key
from qsim.methods.base import Method, Task
from qsim.options import is_shipped, option, shown, whole
from qsim.plan import Plan
from qsim.program import NoProgram, with_plan


class Sampling(ABC):
    """Base class of samplings: how every worker draws a batch of its own rows."""

    @abstractmethod
    def draw(self, block: Block, batch: int, t: int, memory: Arrays, key: Key) -> Rows:
        """Return the rows that each worker of a block draws.

        Parameters
        ----------
        block : Block
            The workers, and their rows.
        batch : int
            How many rows each of them draws.
        t : int
            The round, counted from 0.
        memory : dict of ndarray
            What the rule keeps between rounds, to be changed in place.
        key : Key
            The source of all randomness.

        Returns
        -------
        Rows
            The rows of each worker; a worker without rows draws none.
        """

    def memory(self, block: Block) -> Arrays:
        """Return what `draw` keeps between rounds, as it is before the first round.

        Parameters
        ----------
        block : Block
            The workers, and their rows.

        Returns
        -------
        dict of ndarray
            Arrays by name, one row per worker; empty by default.
        """
        return {}

    def plan(self, plan: Plan, batch: int, memory: Arrays) -> Rows:
        """Have a plan draw as `draw` does; return where the rows are. Raises NoProgram if it cannot."""
        raise NoProgram


@final
@option
class WithReplacement(Sampling):
    """Independent uniform draws.

    The gradient of a batch is an unbiased estimate of the shard's, also given the past.

    Examples
    --------
    >>> import qsim
    >>> qsim.SGD(step=0.5, batch=64, sampling=qsim.methods.WithReplacement()).batch
    64
    """

    def draw(self, block: Block, batch: int, t: int, memory: Arrays, key: Key) -> Rows:
        from qsim.kernels.sampling import draw_with_replacement

        offsets, rows = np.empty(block.workers + 1, np.int64), np.empty(block.workers * batch, np.int64)
        keys = key.fold(t).words(block.low, block.high)
        drawn = draw_with_replacement(keys, block.order, block.offsets, batch, None, offsets, rows)
        return Rows(rows[:drawn], offsets)

    def plan(self, plan: Plan, batch: int, memory: Arrays) -> Rows:
        from qsim.kernels.sampling import draw_with_replacement

        block, rows = plan.block, _drawn_each_round(plan.block, batch)
        keys = plan.data_words()
        data = keys, block.order, block.offsets, batch, plan.present
        drawn = plan.program.call(draw_with_replacement, *data, rows.offsets, rows.index)
        return rows if plan.present is None else replace(rows, drawn=drawn)


@final
@option
class Passes(Sampling):
    """Reshuffled passes: every worker goes through its rows in a random order, drawn anew for every pass.

    A batch that reaches the end of a pass continues in the next one. The gradients are unbiased over a pass, not given
    the past.

    Examples
    --------
    >>> import qsim
    >>> qsim.SGD(step=0.5, batch=64, sampling=qsim.methods.Passes())
    qsim.SGD(step=0.5, batch=64, sampling=qsim.methods.Passes())
    """

    def memory(self, block: Block) -> Arrays:
        """Return the pass each worker is in, and its order: a memo that any round can be started without."""
        size = int(block.offsets[-1] - block.offsets[0])
        return {"shuffled": np.empty(size, np.int64), "passes": np.full(block.workers, -1, np.int64)}

    def draw(self, block: Block, batch: int, t: int, memory: Arrays, key: Key) -> Rows:
        from qsim.kernels.sampling import draw_passes

        offsets, rows = np.empty(block.workers + 1, np.int64), np.empty(block.workers * batch, np.int64)
        keys = key.words(block.low, block.high)
        drawn = draw_passes(
            keys,
            block.order,
            block.offsets,
            batch,
            t * batch,
            None,
            memory["shuffled"],
            memory["passes"],
            offsets,
            rows,
        )
        return Rows(rows[:drawn], offsets)

    def plan(self, plan: Plan, batch: int, memory: Arrays) -> Rows:
        from qsim.kernels.rounds import times
        from qsim.kernels.sampling import draw_passes

        block, rows, memory = plan.block, _drawn_each_round(plan.block, batch), self.memory(plan.block)
        position = plan.program.call(times, plan.turn, batch)
        drawn = plan.program.call(
            draw_passes,
            plan.data_key.words(block.low, block.high),
            block.order,
            block.offsets,
            batch,
            position,
            plan.present,
            memory["shuffled"],
            memory["passes"],
            rows.offsets,
            rows.index,
        )
        return rows if plan.present is None else replace(rows, drawn=drawn)


def _drawn_each_round(block: Block, batch: int) -> Rows:
    """Return room for the rows of a round: `batch` of every worker that has any."""
    counts = np.where(np.diff(block.offsets) > 0, batch, 0)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    return Rows(np.empty(offsets[-1], np.int64), offsets)


def drawn(sampling: Sampling, block: Block, batch: int, task: Task, memory: Memory) -> Rows:
    """Return the rows that workers draw for a task.

    Raises ValueError where a rule of one's own draws rows that are not the worker's: kernels take them as they are.
    """
    rows = sampling.draw(block, batch, task.round, memory.arrays, task.key)
    return rows if is_shipped(sampling) else _sound(rows, sampling, block)


def _sound(rows: Any, sampling: Sampling, block: Block) -> Rows:
    """Return rows that a rule of one's own drew, for kernels that take them as they are."""
    if not isinstance(rows, Rows):
        raise TypeError(f"{sampling!r} must draw Rows(index, offsets), found {shown(rows)}")
    names = (f"the index of what {sampling!r} drew", f"the offsets of what {sampling!r} drew")
    index, offsets = (
        np.ascontiguousarray(whole_numbers(name, as_array(name, part)), np.int64)
        for name, part in zip(names, (rows.index, rows.offsets), strict=True)
    )
    rise = offsets.size == block.workers + 1 and offsets[0] == 0 and offsets[-1] == index.size
    if not rise or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"{names[1]} must rise from 0 to the {index.size} rows drawn in {block.workers} steps, one per worker,"
            f" found {np.array2string(offsets, threshold=8)}"
        )
    spans = zip(pairwise(offsets), pairwise(block.offsets), strict=True)
    if not all(np.isin(index[a:b], block.order[c:d]).all() for (a, b), (c, d) in spans):
        raise ValueError(f"{sampling!r} drew rows that are not those of their worker: take them from block.order")
    return Rows(index, offsets)


class Batched(Method):
    """A method whose workers draw `batch` of their rows each round; None for all of them."""

    batch: int | None
    sampling: Sampling

    def memory(self, block: Block, support: Support) -> Memory:
        return Memory(support, self.sampling.memory(block) if self.batch else {})

    def rows_per_round(self, shards: Shards) -> float:
        return self.batch or super().rows_per_round(shards)

    def reads(self, task: Task, block: Block, memory: Memory) -> Rows:
        if self.batch is None:
            return block.all_rows()
        return drawn(self.sampling, block, self.batch, task, memory)

    def _plan_rows(self, plan: Plan, memory: Memory) -> Rows:
        """Return where the rows of a planned round are."""
        return with_plan(self.sampling).plan(plan, self.batch, memory.arrays) if self.batch else plan.block.all_rows()


def check_batch(batch: int | None, sampling: Sampling) -> None:
    """Raise for what is no batch: None, for all rows, or at least 1; and for what is no sampling."""
    if batch is not None:
        whole("batch", batch, least=1)
    if not isinstance(sampling, Sampling):
        raise TypeError(f"sampling must be WithReplacement() or Passes() of qsim.methods, found {sampling!r}")
