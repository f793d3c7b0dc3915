"""Count sketches: sums of the coordinates that fall into one cell, each with a random sign; and means of them.

Cells and signs of a tile of coordinates are drawn first, which vectorises, and then gone through one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.hashing import fold, uniform24

_TILE = 2048


@inlined
def _cell(bits: np.int64, cells: int) -> np.int32:
    """Return the cell that 24 bits stand for: their upper 23 as a fraction of all cells."""
    return np.int32((bits >> 1) * cells >> 23)


@kernel
def sketch(
    keys: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.float32],
    tables: int,
    cells: int,
    out: NDArray[np.float64],
) -> None:
    """Add every entry with its sign to its cell in each table; out: (rows, tables, cells).

    In table j a coordinate falls into the cell, and gets the sign, of the 24 bits of fold(word, j): of their upper 23
    as a fraction of all cells, and of the lowest, - if it is 1.
    """
    out[:] = 0.0
    cell, signed = np.empty(_TILE, np.int32), np.empty(_TILE, np.float32)
    for row in range(keys.size):
        first, last = offsets[row], offsets[row + 1]
        for table in range(tables):
            word, here = fold(np.uint64(keys[row]), np.uint64(table)), out[row, table]
            for start in range(first, last, _TILE):
                entries = value[start : min(start + _TILE, last)]
                for k in range(entries.size):
                    coordinate = start - first + k if index is None else np.int64(index[start + k])
                    bits = np.int64(uniform24(coordinate, word))
                    cell[k] = _cell(bits, cells)
                    signed[k] = -entries[k] if bits & 1 else entries[k]
                for k in range(entries.size):
                    here[np.uint32(cell[k])] += np.float64(signed[k])


@kernel
def read_sketch(
    keys: NDArray[np.uint64], n: int, tables: int, cells: int, sums: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Write the mean over the tables of the cell of each coordinate, with its sign; sums: (rows, tables, cells)."""
    total, cell, sign = np.empty(_TILE), np.empty(_TILE, np.int32), np.empty(_TILE, np.float32)
    for row in range(keys.size):
        for first in range(0, n, _TILE):
            found = out[row * n + first : row * n + min(n, first + _TILE)]
            total[:] = 0.0
            for table in range(tables):
                word, here = fold(np.uint64(keys[row]), np.uint64(table)), sums[row, table]
                for k in range(found.size):
                    bits = np.int64(uniform24(first + k, word))
                    cell[k] = _cell(bits, cells)
                    sign[k] = np.float32(-1.0) if bits & 1 else np.float32(1.0)
                if tables == 1:  # the same without a sum
                    for k in range(found.size):
                        found[k] = here[np.uint32(cell[k])] * sign[k] + np.float32(0.0)
                else:
                    for k in range(found.size):
                        total[k] += np.float64(here[np.uint32(cell[k])] * sign[k])
            if tables > 1:
                for k in range(found.size):
                    found[k] = total[k] / tables
