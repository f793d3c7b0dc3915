"""Rotated numbers rounded at random to a table, with a dither that both ends know, and the large ones as they are.

Pieces, rotations and their draws are as in `rotations`. The table has 2^b H numbers, which rise, for b bits and H = 2^l
dithers: level p and dither h stand for number p H + h. The H numbers from number w on are window w; the grid has their
means. Every dither picks one number of a window, so a window is a level for each dither.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import fold
from qsim.kernels.rotations import piece_offsets, rotate, rotate_back
from qsim.kernels.tiles import draw_run

_LARGEST = float(np.finfo(np.float32).max)
_LEAST = 2.0**-149


@kernel
def _is_too_large(scale: float, size: int, table: NDArray[np.float32]) -> bool:
    """Tell whether what is decoded may not fit float32: by the norm that a piece has if all is as large as can be."""
    return scale * math.sqrt(size * (np.float64(table[-1]) ** 2 + 1.0)) > _LARGEST


@kernel
def round_quicfl(
    pieces: NDArray[np.int64],
    value: NDArray[np.float32],
    norms: NDArray[np.float64],
    keys: NDArray[np.uint64],
    rounds: int,
    shared_bits: int,
    table: NDArray[np.float32],
    grid: NDArray[np.float64],
    cells: NDArray[np.int32],
    level: NDArray[np.int32],
    scale: NDArray[np.float64],
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger],
    exact: NDArray[np.float32],
) -> None:
    """Rotate every piece over its scale, its root mean square in float32, and round what is inside of the grid.

    A number z in [grid_j, grid_(j+1)) takes window j + 1 with the probability (z - grid_j) / (grid_(j+1) - grid_j), and
    else window j. Its draw, of fold(word, 0), has 24 bits: the dither h is the upper `shared_bits`, and window j + 1 is
    taken if the rest, over 2^(24 - shared_bits), is below that probability. The level of window w is that p for which
    p H + h is in [w, w + H). It is counted from -s up, without 0.

    `cells` has, for the start of each of many even parts of the grid, the last j with grid_j up to it.

    What is outside of the grid is written, times the scale, to `exact` with its coordinate; its level is that of the
    end.
    `offsets` are those of the rows. The scale is 0 with a piece that is zero, or so small that float32 has none for it,
    whose levels are not filled in, and infinity where what is decoded may not fit float32.
    """
    each = norms.size // max(keys.size, 1)
    last, low, parts = grid.size - 2, grid[0], (cells.size - 1) / (grid[-1] - grid[0])
    rest, dithers = 24 - shared_bits, 1 << shared_bits
    slope = np.float64(1 << rest) / np.diff(grid)
    mask, upper = (1 << rest) - 1, dithers - 1
    s = table.size >> (shared_bits + 1)
    longest = 0
    for piece in range(norms.size):
        longest = max(longest, pieces[piece + 1] - pieces[piece])
    room, draws_room = np.empty((2, longest), np.float32), np.empty(longest, np.int32)
    kept = 0
    offsets[0] = 0
    for piece in range(norms.size):
        size, start = pieces[piece + 1] - pieces[piece], pieces[piece]
        unit = np.float64(np.float32(norms[piece] / math.sqrt(size)))
        scale[piece] = np.inf if _is_too_large(unit, size, table) else unit
        if 0.0 < scale[piece] < np.inf:
            word, first = np.uint64(keys[piece // each]), start - pieces[piece - piece % each]
            x, spare, draws = room[0, :size], room[1, :size], draws_room[:size]
            draw_run(word, first, draws)
            over = 1.0 / unit
            for k in range(size):
                x[k] = np.float64(value[start + k]) * over
            rotate(x, spare, draws, rounds, word)
            draw_run(fold(word, np.uint64(0)), first, draws)
            signed = level[start : start + size]
            for k in range(size):
                z = np.float64(x[k])
                if abs(z) > grid[-1]:
                    index[kept] = first + k
                    exact[kept] = z * unit
                    kept += 1
                    signed[k] = s if z > 0.0 else -s
                else:
                    j = np.int64(cells[np.uint64(np.int64((z - low) * parts))])
                    while j > 0 and z < grid[np.uint64(j)]:
                        j -= 1
                    while j < last and z >= grid[np.uint64(j + 1)]:
                        j += 1
                    draw = np.int64(draws[k])
                    up = np.float64(draw & mask) < (z - grid[np.uint64(j)]) * slope[np.uint64(j)]
                    p = (j + np.int64(up) + upper - (draw >> rest)) >> shared_bits
                    signed[k] = p - s + np.int64(p >= s)
        if (piece + 1) % each == 0:
            offsets[(piece + 1) // each] = kept


@kernel
def values_of_quicfl(
    n: int,
    chunk: int,
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger],
    level: NDArray[np.int32],
    scale: NDArray[np.float32],
    exact_offsets: NDArray[np.int64],
    exact_index: NDArray[np.signedinteger],
    exact: NDArray[np.float32],
    keys: NDArray[np.uint64],
    rounds: int,
    shared_bits: int,
    table: NDArray[np.float32],
    out: NDArray[np.float32],
) -> int:
    """Put the numbers in their places, those that are exact over the scale, rotate back, and multiply by the scale.

    Returns the first row that `round_quicfl` cannot have made, or -1: with a scale so large that it is infinite there,
    or with an exact number of more than twice the norm of its piece.
    """
    pieces, scales, rest = piece_offsets(1, n, chunk), -(-n // chunk), 24 - shared_bits
    s = table.size >> (shared_bits + 1)
    longest = pieces[-1] - pieces[-2]
    room, draws_room = np.empty(longest, np.float32), np.empty(longest, np.int32)
    for row in range(offsets.size - 1):
        k, last, word = offsets[row], offsets[row + 1], np.uint64(keys[row])
        e, end = exact_offsets[row], exact_offsets[row + 1]
        for piece in range(pieces.size - 1):
            first, size = pieces[piece], pieces[piece + 1] - pieces[piece]
            unit = np.float64(scale[row * scales + piece])
            if _is_too_large(unit, size, table):
                return row
            x, draws = out[row * n + first : row * n + first + size], draws_room[:size]
            x[:] = np.float32(0.0)
            before, k = k, k + np.searchsorted(index[k : min(last, k + size)], first + size)
            draw_run(fold(word, np.uint64(0)), first, draws)
            for entry in range(before, k):
                at = np.uint64(index[entry] - first)
                p = np.int64(level[entry]) + s - np.int64(level[entry] > 0)
                x[at] = table[np.uint64((p << shared_bits) + (np.int64(draws[at]) >> rest))]
            most = 2.0 * math.sqrt(size) * (unit + _LEAST)
            while e < end and exact_index[e] < first + size:
                if not abs(np.float64(exact[e])) <= most:
                    return row
                if unit > 0.0:
                    x[np.uint64(exact_index[e] - first)] = np.float64(exact[e]) / unit
                e += 1
            if unit > 0.0:
                draw_run(word, first, draws)
                rotate_back(x, room[:size], draws, rounds, word)
                for j in range(size):
                    x[j] *= np.float32(unit)
    return -1
