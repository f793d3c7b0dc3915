"""Partitions: every row on one worker, in the promised sizes and mix; supports against a plain-Python oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import qsim
from qsim.datasets import (
    ByLabel,
    Contiguous,
    DataError,
    Dataset,
    Dirichlet,
    Partition,
    Shards,
    Shuffled,
    load,
    synthetic,
)
from qsim.keys import Key

EVEN = (Contiguous(), Shuffled(), ByLabel())
ALL = (*EVEN, Dirichlet(0.01), Dirichlet(1.0), Dirichlet(100.0))
datasets = st.tuples(st.integers(1, 12), st.integers(1, 8)).flatmap(
    lambda shape: st.builds(
        lambda dense, labels: Dataset.from_arrays(dense, labels, empty="keep"),
        arrays(np.float32, shape, elements=st.sampled_from([0, 0, 1, 2])),
        arrays(np.int8, shape[0], elements=st.sampled_from([0, 1])),
    )
)
words = st.integers(0, 2**64 - 1)


@given(datasets, st.sampled_from(ALL), st.data(), words)
def test_every_row_is_in_one_shard(dataset: Dataset, partition: Partition, data: Any, word: int) -> None:
    workers = data.draw(st.integers(1, dataset.rows))
    shards = partition.split(dataset, workers, Key(word))
    assert sorted(shards.order.tolist()) == list(range(dataset.rows))
    assert shards.dataset is dataset
    assert shards.workers == workers == shards.sizes.size
    assert shards.sizes.sum() == dataset.rows
    assert shards.weights.sum() == pytest.approx(1)
    assert shards.order.dtype == shards.offsets.dtype == shards.sizes.dtype == np.int64
    if partition in EVEN:
        assert np.ptp(shards.sizes) <= 1
    assert eval(repr(partition), {"qsim": qsim}) == partition


def supports(shards: Shards) -> tuple[list[int], list[int], list[int]]:
    """The oracle: support, offsets and local, from sets and list.index."""
    data, support, offsets = shards.dataset, [], [0]
    local = [-1] * data.nonzeros
    for worker in range(shards.workers):
        rows = shards.order[shards.offsets[worker] : shards.offsets[worker + 1]]
        entries = [k for row in rows for k in range(data.indptr[row], data.indptr[row + 1])]
        columns = sorted({int(data.indices[k]) for k in entries})
        for k in entries:
            local[k] = columns.index(data.indices[k])
        support += columns
        offsets.append(len(support))
    return support, offsets, local


@settings(max_examples=200)
@given(datasets, st.sampled_from(ALL), st.data(), words)
def test_support_is_the_oracles(dataset: Dataset, partition: Partition, data: Any, word: int) -> None:
    shards = partition.split(dataset, data.draw(st.integers(1, dataset.rows)), Key(word))
    support, offsets, local = supports(shards)
    assert shards.support.tolist() == support
    assert shards.support_offsets.tolist() == offsets
    assert shards.local.tolist() == local
    assert shards.support.dtype == dataset.indices.dtype
    assert (shards.support_offsets.dtype, shards.local.dtype) == (np.int64, np.int32)
    assert shards.support is shards.support


def test_support_of_data_with_many_columns_and_workers() -> None:
    data = synthetic(3000, 200_000, 20)
    shards = Dirichlet(0.1).split(data, 500, Key(1))
    assert (shards.sizes == 0).any()
    support, offsets, local = supports(shards)
    assert shards.support.tolist() == support
    assert shards.support_offsets.tolist() == offsets
    assert shards.local.tolist() == local


def test_wide_columns_stay_wide() -> None:
    """A feature number above 2^31 is kept as int64; the scratch of such a run is as long as the features, so it is
    tried on the kernel with few."""
    from qsim.kernels.support import find_support

    place, support, local = np.full(3, -1, np.int32), np.empty(2, np.int64), np.empty(2, np.int32)
    offsets = np.empty(2, np.int64)
    columns = np.array([2, 0], np.uint64)
    starts = np.array([0, 1, 2])
    assert find_support(starts, columns, np.array([0, 1]), np.array([0, 2]), place, support, offsets, local) == 2
    assert (support.tolist(), local.tolist(), place.tolist()) == ([0, 2], [1, 0], [-1, -1, -1])


def test_contiguous_keeps_the_order() -> None:
    shards = Contiguous().split(load("spark_sample"), 5, Key(0))
    assert shards.order.tolist() == list(range(322))
    assert shards.sizes.tolist() == [64, 64, 65, 64, 65]


def test_shuffled_depends_on_the_key_only_and_mixes_the_classes() -> None:
    data = load("adult")
    one, again, other = (Shuffled().split(data, 10, Key(word)).order for word in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).mean() > 0.99
    assert one[:3].tolist() == [28085, 4578, 30230]
    for rows in np.split(one[:32_560], 10):  # hypergeometric: deviation of the share below 0.0076
        assert (data.labels[rows] == 1).mean() == pytest.approx(data.positives / data.rows, abs=6 * 0.0076)


def test_by_label_is_a_stable_sort() -> None:
    data = load("spark_sample")
    order = ByLabel().split(data, 4, Key(0)).order
    assert order.tolist() == sorted(range(322), key=lambda row: (data.labels[row], row))


def _spread(alpha: float, workers: int = 50) -> np.ndarray:
    """The worker's shares of the negative rows of adult, over eight keys."""
    data, shares = load("adult"), []
    for word in range(8):
        shards = Dirichlet(alpha).split(data, workers, Key(word))
        owner = np.repeat(np.arange(workers), shards.sizes)
        counts = np.bincount(owner[data.labels[shards.order] == -1], minlength=workers)
        shares.append(counts / counts.sum())
    return np.array(shares)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_dirichlet_shares_have_the_variance_of_dirichlet(alpha: float) -> None:
    """Var of a share is (W - 1) / (W^2 (W alpha + 1)); the mean of 400 dependent ones is good to 40%."""
    expected = 49 / (50**2 * (50 * alpha + 1))
    assert _spread(alpha).var() == pytest.approx(expected, rel=0.4)


def test_dirichlet_limits() -> None:
    data = load("adult")
    assert np.ptp(Dirichlet(1e12).split(data, 10, Key(0)).sizes) <= 4
    lonely = Dirichlet(1e-9).split(data, 10, Key(0)).sizes
    assert np.count_nonzero(lonely) <= 2


def test_dirichlet_draws_each_class_apart_and_shuffles_inside() -> None:
    data = load("adult")
    shards = Dirichlet(0.3).split(data, 5, Key(4))
    shares = [(data.labels[part] == 1).mean() for part in np.split(shards.order, shards.offsets[1:-1]) if part.size]
    assert np.ptp(shares) > 0.1
    negative = [p[data.labels[p] == -1] for p in np.split(shards.order, shards.offsets[1:-1])]
    means = [rows.mean() for rows in negative if rows.size > 1000]
    assert np.ptp(means) < 0.1 * data.rows


@pytest.mark.parametrize("partition", ALL)
def test_more_workers_than_rows_and_none_are_refused(partition: Partition) -> None:
    data = load("spark_sample")
    with pytest.raises(DataError, match=r"323 workers.*322 rows"):
        partition.split(data, 323, Key(0))
    with pytest.raises(ValueError, match="found 0"):
        partition.split(data, 0, Key(0))


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), 1e300, "1"])
def test_bad_alpha_is_refused(alpha: Any) -> None:
    with pytest.raises(ValueError, match=f"alpha.*found {alpha!r}".replace("+", r"\+")):
        Dirichlet(alpha)


@pytest.mark.parametrize(
    ("order", "offsets", "told"),
    [
        ([0, 0, 1], [0, 3], "row 2 is missing"),
        ([0, 1], [0, 3], "row 2 is missing"),
        ([0, 1, 2, 2], [0, 3], r"shape \(4,\)"),
        ([0, 1, 2], [0, 2], "0 to the 3 rows, found 0 to 2"),
        ([0, 1, 2], [0, 2, 1, 3], "after worker 1"),
        ([0, 1, 2], [3], r"shape \(1,\)"),
    ],
)
def test_shards_that_miss_or_repeat_rows_are_refused(order: list[int], offsets: list[int], told: str) -> None:
    data = Dataset([0, 1, 1, 1], [0], None, [1, 0, 1], 1)
    with pytest.raises(DataError, match=told):
        Shards(data, np.array(order), np.array(offsets))
