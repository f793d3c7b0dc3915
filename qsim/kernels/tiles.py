"""Runs of 512 coordinates: what kernels share that work through a row run by run, in small arrays that stay near.

The random bits of a run are drawn, its levels are computed, and those that are not zero are kept: three short loops, of
which the compiler vectorises the first two. (The calls cost as much as some 64 coordinates.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.hashing import uniform24
from qsim.kernels.simd import STRIP, draw_strip, keep_nonzeros

RUN = 8 * STRIP
"""How many coordinates are worked on at a time."""

FEW = 6
"""Up to so many levels of a strip are cheaper one by one."""


@kernel
def draw_run(word: np.uint64, first: int, out: NDArray[np.int32]) -> None:
    """Write the draws of the coordinates from `first` on."""
    for k in range(out.size):
        out[k] = uniform24(first + k, word)


@kernel
def draw_entries(
    ramp: NDArray[np.int32],
    index: NDArray[np.signedinteger] | None,
    first: int,
    start: int,
    size: int,
    word: np.uint64,
    uniform: NDArray[np.int32],
) -> None:
    """Write the draws of `size` entries (at most RUN) from `start` on, in a row that lies from `first`.

    Of a dense row whole strips are drawn, which costs less than asking how many. `ramp` is `strip_ramp()`.
    """
    if index is None:
        for strip in range(0, size, STRIP):
            draw_strip(ramp, 0, start - first + strip, word, uniform, strip)
    else:
        whole = size // STRIP * STRIP
        for strip in range(0, whole, STRIP):
            draw_strip(index, start + strip, 0, word, uniform, strip)
        for k in range(whole, size):
            uniform[np.uint64(k)] = np.int32(index[start + k])
        if whole < size:
            draw_strip(uniform, whole, 0, word, uniform, whole)


@kernel
def keep_entries(
    level: NDArray[np.int32],
    ramp: NDArray[np.int32],
    index: NDArray[np.signedinteger] | None,
    first: int,
    start: int,
    size: int,
    out_index: NDArray[np.signedinteger],
    out_level: NDArray[np.int32],
    kept: np.uint64,
) -> np.uint64:
    """Write the levels that are not zero, with their coordinates, from place `kept` on; return the place behind.

    They are those of `size` entries from `start` on, in a row that lies from `first`; `ramp` is `strip_ramp()`.
    """
    whole = size // STRIP * STRIP
    for strip in range(0, whole, STRIP):
        if index is None:
            kept = keep_nonzeros(level, strip, ramp, 0, start - first + strip, out_index, out_level, kept)
        else:
            kept = keep_nonzeros(level, strip, index, start + strip, 0, out_index, out_level, kept)
    for k in range(whole, size):
        out_index[kept] = start - first + k if index is None else index[start + k]
        out_level[kept] = level[k]
        kept += np.uint64(level[k] != 0)
    return kept


@inlined
def strip_ramp() -> NDArray[np.int32]:
    """Return 0, 1, ..., STRIP - 1."""
    return np.arange(STRIP).astype(np.int32)
