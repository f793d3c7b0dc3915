"""Rounding at random by uniform numbers of which the workers have one each in every stratum.

A batch is as in `quantize`, and dense. Numbered words are as in `drawn`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import NUMBER_BITS, fold, uniform24
from qsim.kernels.select import scaled_up


@kernel
def round_correlated(
    keys: NDArray[np.uint64],
    workers: int,
    n: int,
    value: NDArray[np.float32],
    scale: NDArray[np.float32],
    top: int,
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.signedinteger],
    out_level: NDArray[np.int32],
) -> int:
    """Round every row to the points -scale, ..., scale of a grid of top + 1, an even number: -1 and 1 are next to zero.

    A coordinate is rounded up if (stratum + u)/workers is below its place between its points, where u are 24 bits of
    fold(word, 0), and the stratum is the worker's in a permutation of all, moved by so much for each coordinate, modulo
    `workers`: both by the word without the number. Rows of scale 0 have no entries. Returns how many there are.
    """
    low, half, middle = np.uint64(2**NUMBER_BITS - 1), np.float64(top) / 2, (top + 1) // 2
    order, own = np.empty(workers, np.int32), np.empty(n, np.int32)
    written, drawn, step = np.uint64(0), np.uint64(0), 1.0 / np.float64(workers)
    out_offsets[0] = 0
    for row in range(keys.size):
        word = np.uint64(keys[row])
        if row == 0 or word & ~low != drawn:
            drawn = word & ~low
            _permute(fold(drawn, np.uint64(1)), order)
        if scale[row] > np.float32(0.0):
            moved, mine = fold(drawn, np.uint64(2)), fold(word, np.uint64(0))
            here = np.int64(order[(word & low) % np.uint64(workers)])
            entries, slope = value[row * n : (row + 1) * n], half / np.float64(scale[row])
            index, level = out_index[written : written + n], out_level[written : written + n]
            for k in range(n):
                own[k] = here + (np.int64(uniform24(k, moved)) * workers >> 24)
            for k in range(n):
                stratum = own[k] - (workers if own[k] >= workers else 0)
                uniform = (np.float64(stratum) + np.float64(uniform24(k, mine)) * 2.0**-24) * step
                place = np.float64(entries[k]) * slope + half
                point = min(max(np.floor(place), 0.0), np.float64(top - 1))
                chosen = np.int32(point) + np.int32(uniform < place - point)
                index[k] = k
                level[k] = chosen - middle + (1 if chosen >= middle else 0)
            written += np.uint64(n)
        out_offsets[row + 1] = written
    return int(written)


@kernel
def _permute(key: np.uint64, order: NDArray[np.int32]) -> None:
    """Shuffle 0, 1, ...: Fisher and Yates's algorithm, from the last one down."""
    for k in range(order.size):
        order[k] = k
    for last in range(order.size - 1, 0, -1):
        other = np.int64(scaled_up(fold(key, np.uint64(last)), np.uint64(last + 1)))
        order[last], order[other] = order[other], order[last]
