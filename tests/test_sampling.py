"""Batches: from the worker's own rows, as the oracle draws them, uniform, and complete over every pass."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import qsim
from qsim.datasets import Contiguous, Dirichlet, Shuffled
from qsim.datasets.block import Block
from qsim.methods import Passes, WithReplacement

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
                [int(own[oracles.below(oracles.fold(key, q), own.size)]) for q in range(3)] if own.size else []
            )
        for size in (1, 3, 7):
            assert draws(WithReplacement(), shards, 3, t, size) == expected


def test_with_replacement_is_uniform() -> None:
    """10 rows drawn 40,000 times: chi2 with 9 degrees of freedom exceeds 66 with probability below 1e-10.

    A row drawn 5% too often or too seldom gives chi2 of about 100 in this many draws or is all but sure to show at 10%.
    """
    shards = Contiguous().split(DATA, 5, KEY)
    (block,) = blocks(shards, 5)
    rows = WithReplacement().draw(block, 40_000, 0, {}, KEY)
    counts = np.bincount(rows.index[: rows.offsets[1]], minlength=10)
    assert ((counts - 4000) ** 2 / 4000).sum() < 66


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


def test_shuffles_are_uniform() -> None:
    """The 6 orders of 3 rows over 6,000 passes: chi2 (5 degrees of freedom) exceeds 57 with probability below 1e-10."""
    data = qsim.datasets.synthetic(3, 20, 4, seed=2)
    (block,) = blocks(Contiguous().split(data, 1, KEY), 1)
    rows = Passes().draw(block, 18_000, 0, Passes().memory(block), KEY).index.reshape(6000, 3)
    counts = np.bincount(rows @ [9, 3, 1])
    counts = counts[counts > 0]
    assert counts.size == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 57
