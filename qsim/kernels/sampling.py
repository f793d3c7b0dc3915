"""Mini-batches: which rows every worker draws, as a pure function of its key."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import below, fold


@kernel
def draw_with_replacement(
    keys: NDArray[np.uint64],
    order: NDArray[np.int64],
    offsets: NDArray[np.int64],
    batch: int,
    present: NDArray[np.bool_] | None,
    row_offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> int:
    """Draw `batch` rows of every worker, independently and uniformly; one that has none, or is not present, none."""
    drawn = 0
    row_offsets[0] = 0
    for worker in range(keys.size):
        first, size = offsets[worker], offsets[worker + 1] - offsets[worker]
        if size > 0 and (present is None or present[worker]):
            for draw in range(batch):
                rows[drawn] = order[first + below(fold(keys[worker], np.uint64(draw)), size)]
                drawn += 1
        row_offsets[worker + 1] = drawn
    return drawn


@kernel
def draw_passes(
    keys: NDArray[np.uint64],
    order: NDArray[np.int64],
    offsets: NDArray[np.int64],
    batch: int,
    position: int,
    present: NDArray[np.bool_] | None,
    shuffled: NDArray[np.int64],
    passes: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> int:
    """Draw the rows at positions [position, position + batch) of each present worker's endless shuffled passes.

    Pass p of a worker is a Fisher-Yates shuffle of its rows, keyed by fold(key, p). `shuffled` holds the pass that
    `passes` names for each worker (-1: none yet): a memo, not a state, since any pass can be made again at any time.
    """
    drawn = 0
    row_offsets[0] = 0
    base = offsets[0]
    for worker in range(keys.size):
        first, size = offsets[worker], offsets[worker + 1] - offsets[worker]
        if size > 0 and (present is None or present[worker]):
            here = shuffled[first - base : first - base + size]
            for place in range(position, position + batch):
                if place // size != passes[worker]:
                    passes[worker] = place // size
                    here[:] = order[first : first + size]
                    _shuffle(fold(keys[worker], np.uint64(passes[worker])), here)
                rows[drawn] = here[place % size]
                drawn += 1
        row_offsets[worker + 1] = drawn
    return drawn


@kernel
def _shuffle(key: np.uint64, items: NDArray[np.int64]) -> None:
    for last in range(items.size - 1, 0, -1):
        other = below(fold(key, np.uint64(last)), last + 1)
        items[last], items[other] = items[other], items[last]
