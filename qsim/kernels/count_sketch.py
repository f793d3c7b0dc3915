"""Count sketches: sums of the coordinates that fall into one cell, each with a random sign; and means of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import fold, uniform24

_TILE = 2048


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
    for row in range(keys.size):
        first = offsets[row]
        for table in range(tables):
            word, here = fold(np.uint64(keys[row]), np.uint64(table)), out[row, table]
            for entry in range(first, offsets[row + 1]):
                coordinate = entry - first if index is None else np.int64(index[entry])
                bits = np.int64(uniform24(coordinate, word))
                x = np.float64(value[entry])
                here[(bits >> 1) * cells >> 23] += -x if bits & 1 else x


@kernel
def read_sketch(
    keys: NDArray[np.uint64], n: int, tables: int, cells: int, sums: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Write the mean over the tables of the cell of each coordinate, with its sign; sums: (rows, tables, cells)."""
    total = np.empty(_TILE)
    for row in range(keys.size):
        for first in range(0, n, _TILE):
            end = min(n, first + _TILE)
            total[:] = 0.0
            for table in range(tables):
                word, here = fold(np.uint64(keys[row]), np.uint64(table)), sums[row, table]
                for coordinate in range(first, end):
                    bits = np.int64(uniform24(coordinate, word))
                    x = np.float64(here[(bits >> 1) * cells >> 23])
                    total[coordinate - first] += -x if bits & 1 else x
            for coordinate in range(first, end):
                out[row * n + coordinate] = np.float32(total[coordinate - first] / tables)
