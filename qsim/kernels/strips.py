"""Strips of 64 coordinates: what kernels share that work through a row strip by strip, in small arrays that stay near.

The random bits of a strip are drawn, its levels are computed, and those that are not zero are kept: three short loops,
of which the compiler vectorises the first two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import uniform24
from qsim.kernels.lanes import STRIP


@kernel
def draw_run(word: np.uint64, first: int, out: NDArray[np.int32]) -> None:
    """Write the draws of the coordinates from `first` on."""
    for k in range(out.size):
        out[k] = uniform24(first + k, word)


@kernel
def draw_strip(
    index: NDArray[np.int32] | None, first: int, start: int, size: int, word: np.uint64, uniform: NDArray[np.int32]
) -> None:
    """Write the draws of `size` entries (at most STRIP) from `start` on, in a row that lies from `first`.

    Of a dense row a whole strip is drawn, which costs less than asking how many.
    """
    if index is None:
        base = start - first
        for k in range(STRIP):
            uniform[k] = uniform24(base + k, word)
    else:
        coordinates = index[start : start + size]
        for k in range(size):
            uniform[k] = uniform24(coordinates[k], word)


@kernel
def keep_strip(
    level: NDArray[np.int32],
    index: NDArray[np.int32] | None,
    first: int,
    start: int,
    size: int,
    out_index: NDArray[np.int32],
    out_level: NDArray[np.int32],
    kept: np.uint64,
) -> np.uint64:
    """Write the levels that are not zero, with their coordinates, from place `kept` on; return the place behind."""
    for k in range(size):
        out_index[kept] = start - first + k if index is None else index[start + k]
        out_level[kept] = level[k]
        kept += np.uint64(level[k] != 0)
    return kept
