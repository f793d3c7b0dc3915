"""Sums over all rows of workers, column by column: those that are added row by row, to the last bit."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from oracles import csr
from qsim.block import Block
from qsim.datasets import Dataset
from qsim.datasets.partition import Shards
from qsim.kernels.columns import sum_columns


def block_of(sizes: list[int], values: bool, seed: int, low: int = 0) -> tuple[Block, list[list[dict[int, float]]]]:
    """Return workers low, ... with so many rows each, of 0 to 9 non-zeros, and the rows as dicts."""
    rng = np.random.default_rng(seed)
    n, rows = 12, sum(sizes)
    lengths = rng.integers(0, 10, rows)
    indices = np.concatenate([np.sort(rng.choice(n, size, replace=False)) for size in lengths]).astype(np.int32)
    numbers = rng.choice(np.float32([1, -1, 2, 1e-30, 0.1]), indices.size) if values else None
    indptr = np.concatenate([[0], lengths.cumsum()])
    data = Dataset(indptr, indices, numbers, rng.random(rows) < 0.5, n)
    order, offsets = rng.permutation(rows), np.concatenate([[0], np.cumsum(sizes)])
    each = np.ones(indices.size) if numbers is None else numbers
    dicts = [dict(zip(indices[a:b].tolist(), each[a:b].tolist(), strict=True)) for a, b in pairwise(indptr)]
    of_workers = [[dicts[r] for r in order[a:b]] for a, b in pairwise(offsets[low:])]
    return Block(Shards(data, order, offsets), low, len(sizes)), of_workers


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("is_laid_out", [True, False])
@pytest.mark.parametrize(("sizes", "low"), [([7, 0, 1, 30], 0), ([3, 9, 2], 1), ([1], 0), ([0, 5], 0)])
def test_columns_add_up_to_the_sums_of_rows(sizes: list[int], low: int, is_laid_out: bool, values: bool) -> None:
    for seed in range(20):
        block, rows = block_of(sizes, values, seed, low)
        found, slopes = sums_by_column(block.laid_out() if is_laid_out else block, seed)
        right = csr.sums_of_rows(
            [[(row, s) for row, s in zip(*pair, strict=True)] for pair in zip(rows, slopes, strict=True)]
        )
        assert list(map(repr, found)) == list(map(repr, right)), seed


def test_numbers_of_rows_of_more_than_16_bits() -> None:
    rows = 70_000
    data = Dataset(np.arange(rows + 1), np.arange(rows) % 3, None, np.arange(rows) % 2 == 0, 3)
    block = Block(Shards(data, np.arange(rows), np.array([0, rows])), 0, 1).laid_out()
    ((found,), ((slopes),)) = sums_by_column(block, seed=1)
    right = csr.sums_of_rows([[({r % 3: 1.0}, s) for r, s in enumerate(slopes)]])
    assert [found] == right


def sums_by_column(block: Block, seed: int) -> tuple[list[dict[int, float]], list[Any]]:
    """Return each worker's sum of slope times row, in its support, and the slopes that were drawn."""
    rows = block.all_rows()
    slopes = np.random.default_rng(seed).choice(np.float32([0.0, -0.0, 1, -1, 0.3, 1e-30]), rows.index.size)
    of, offsets = block.support, block.support.offsets
    assert of.index is not None
    out = np.full(offsets[-1], np.nan, np.float32)
    sum_columns(*block._columns_of(rows), rows.offsets, block._support_offsets, slopes, out)
    found = [dict(zip(of.index[a:b].tolist(), out[a:b].tolist(), strict=True)) for a, b in pairwise(offsets)]
    return found, [slopes[a:b] for a, b in pairwise(rows.offsets)]
