"""Strips of 64 coordinates: what kernels share that work through a row strip by strip, in small arrays that stay near.

A strip is drawn (coordinates and random bits), its levels are computed, and those that are not zero are kept: three
short loops, each of which the compiler vectorises as far as it goes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import uniform24


@kernel
def draw_strip(
    index: NDArray[np.int32] | None,
    first: int,
    start: int,
    size: int,
    key: np.uint64,
    coordinates: NDArray[np.int64],
    uniform: NDArray[np.int32],
) -> None:
    """Write the coordinates of the entries from `start` on, in a row that lies from `first`, and their 24 bits."""
    low, high = np.int64(key & np.uint64(0xFFFFFFFF)), np.int64(key >> np.uint64(32))
    for k in range(size):
        coordinates[k] = start - first + k if index is None else index[start + k]
    for k in range(size):
        uniform[k] = uniform24(coordinates[k], low, high)


@kernel
def keep_strip(
    level: NDArray[np.int32],
    coordinates: NDArray[np.int64],
    size: int,
    out_index: NDArray[np.int32],
    out_level: NDArray[np.int32],
    kept: np.uint64,
) -> np.uint64:
    """Write the levels that are not zero, with their coordinates, from place `kept` on; return the place behind."""
    for k in range(size):
        out_index[kept] = coordinates[k]
        out_level[kept] = level[k]
        kept += np.uint64(level[k] != 0)
    return kept
