"""Batches: from the worker's own rows, as the oracle draws them, uniform, and complete over every pass."""

from __future__ import annotations

import numpy as np
import pytest

import qsim
from oracles import hashing
from qsim.block import Block
from qsim.datasets import Contiguous, Dirichlet, Shuffled
from qsim.methods import Passes, WithReplacement

pytestmark = pytest.mark.quick

DATA = qsim.datasets.synthetic(50, 20, 4, seed=2)
KEY = qsim.Key(7)


def blocks(shards, size: int) -> list[Block]:
    return [Block(shards, low, min(low + size, shards.workers)) for low in range(0, shards.workers, size)]


def draws(sampling, shards, batch: int, t: int, size: int) -> list[list[int]]:
    """The rows of every worker, drawn in blocks of a size."""
    out = []
    for block in blocks(shards, size):
        rows = sampling.draw(block, batch, t, sampling.memory(block), KEY)
        out += [rows.index[a:b].tolist() for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)]
    return out


@pytest.mark.parametrize("partition", [Contiguous(), Shuffled(), Dirichlet(0.05)])
def test_with_replacement_is_the_oracle(partition) -> None:
    shards = partition.split(DATA, 7, KEY)
    for t in (0, 5):
        expected = []
        for worker in range(7):
            own = shards.order[shards.offsets[worker] : shards.offsets[worker + 1]]
            key = KEY.fold(t, worker).word
            expected.append(
                [int(own[hashing.below(hashing.fold(key, q), own.size)]) for q in range(3)] if own.size else []
            )
        for size in (1, 3, 7):
            assert draws(WithReplacement(), shards, 3, t, size) == expected


def test_with_replacement_is_uniform() -> None:
    """10 rows, 2,000,000 draws: chi2 with 9 degrees of freedom exceeds 66 with probability 9.2e-11.

    Power: one row drawn 1% too often or too seldom is found with probability 0.003, 2% with 0.96, 2.5% with 0.9999.
    """
    data = qsim.datasets.synthetic(10, 20, 4, seed=2)
    (block,) = blocks(Contiguous().split(data, 1, KEY), 1)
    counts = np.bincount(WithReplacement().draw(block, 2_000_000, 0, {}, KEY).index, minlength=10)
    assert ((counts - 200_000) ** 2 / 200_000).sum() < 66


@pytest.mark.parametrize("batch", [1, 3, 8, 25])
def test_passes_visit_every_row_once_a_pass(batch: int) -> None:
    shards = Dirichlet(0.3).split(DATA, 4, KEY)
    (block,) = blocks(shards, 4)
    memory = Passes().memory(block)
    seen: list[list[int]] = [[] for _ in range(4)]
    for t in range(60):
        rows = Passes().draw(block, batch, t, memory, KEY)
        for worker in range(4):
            seen[worker] += rows.index[rows.offsets[worker] : rows.offsets[worker + 1]].tolist()
    orders = set()
    for worker, sequence in enumerate(seen):
        own = shards.order[shards.offsets[worker] : shards.offsets[worker + 1]].tolist()
        if not own:
            assert sequence == []
            continue
        assert len(sequence) == 60 * batch
        for start in range(0, len(sequence) - len(own) + 1, len(own)):
            one_pass = sequence[start : start + len(own)]
            assert sorted(one_pass) == sorted(own)
            orders.add((worker, tuple(one_pass)))
    assert len(orders) > 4  # passes are reshuffled


def test_passes_do_not_depend_on_memory_or_blocks() -> None:
    """Any round can be drawn from nothing, as after a restart, in blocks of any size."""
    shards = Shuffled().split(DATA, 7, KEY)
    (block,) = blocks(shards, 7)
    memory = Passes().memory(block)
    for t in range(12):
        rows = Passes().draw(block, 3, t, memory, KEY)
        expected = [rows.index[a:b].tolist() for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)]
        for size in (1, 3, 7):
            assert draws(Passes(), shards, 3, t, size) == expected


def test_a_memo_of_a_later_round_does_not_change_an_earlier_one() -> None:
    shards = Shuffled().split(DATA, 7, KEY)
    (block,) = blocks(shards, 7)
    memory = Passes().memory(block)
    for t in (11, 2, 7, 0, 0, 30, 1):
        rows = Passes().draw(block, 3, t, memory, KEY)
        expected = Passes().draw(block, 3, t, Passes().memory(block), KEY)
        assert rows.index.tolist() == expected.index.tolist()


def test_shuffles_are_uniform() -> None:
    """The 6 orders of 3 rows over 60,000 passes: chi2 (5 degrees of freedom) exceeds 57 with probability 5.1e-11.

    Power: one order that is off by 5% is found with probability 0.04, by 8% with 0.93, by 10% with 0.9998.
    """
    data = qsim.datasets.synthetic(3, 20, 4, seed=2)
    (block,) = blocks(Contiguous().split(data, 1, KEY), 1)
    rows = Passes().draw(block, 180_000, 0, Passes().memory(block), KEY).index.reshape(60_000, 3)
    counts = np.bincount(rows @ [9, 3, 1])
    counts = counts[counts > 0]
    assert counts.size == 6
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 57
