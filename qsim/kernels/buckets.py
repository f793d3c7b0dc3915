"""Rows cut into buckets of `size` coordinates, each a row of its own, and put together again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import fold


@kernel
def fold_buckets(keys: NDArray[np.uint64], buckets: int) -> NDArray[np.uint64]:
    """Return fold(key, 0), ..., fold(key, buckets - 1) of every key, one behind the other."""
    folded = np.empty(keys.size * buckets, keys.dtype)
    for row in range(keys.size):
        for bucket in range(buckets):
            folded[row * buckets + bucket] = fold(np.uint64(keys[row]), np.uint64(bucket))
    return folded


@kernel
def split_rows(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    size: int,
    buckets: int,
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
) -> None:
    """Write where the entries of every bucket lie, and their coordinates in it. O(entries + buckets)."""
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        k, last = offsets[row], offsets[row + 1]
        for bucket in range(buckets):
            begin, end = bucket * size, (bucket + 1) * size
            while k < last and np.int64(index[k]) < end:
                out_index[k] = np.int64(index[k]) - begin
                k += 1
            out_offsets[row * buckets + bucket + 1] = k


@kernel
def join_buckets(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    entry: NDArray[np.generic],
    size: int,
    buckets: int,
    n: int,
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
    out_entry: NDArray[np.generic],
) -> int:
    """Undo `split_rows`, for the entries too, and leave out what is past coordinate n; return how many are kept."""
    kept = 0
    out_offsets[0] = 0
    for row in range(out_offsets.size - 1):
        for bucket in range(buckets):
            at = row * buckets + bucket
            for k in range(offsets[at], offsets[at + 1]):
                coordinate = bucket * size + np.int64(index[k])
                if coordinate < n:
                    out_index[kept] = coordinate
                    out_entry[kept] = entry[k]
                    kept += 1
        out_offsets[row + 1] = kept
    return kept
