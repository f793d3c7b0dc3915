"""Kashin's representation: a vector by twice as many coefficients as it has coordinates, none of them large.

Pieces and draws are as in `rotations`, with other rotations: random signs and the transform of the first B numbers of a
piece, B the largest power of two, then of the last B if there are more. The signs of the first are the lowest bits of
the draws, those of the second the bits above. Both are orthonormal, so that with two of them, R_0 and R_1,
v = R_0' a_0 + R_1' a_1 for a_i = R_i v/2; of all such coefficients those with a small maximum are sought.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hadamard import hadamard
from qsim.kernels.hashing import fold, uniform24
from qsim.kernels.rotations import flip, piece_offsets
from qsim.kernels.simd import LANES, lanes_total
from qsim.kernels.tiles import draw_run

STEPS = 8
"""How many times coefficients are truncated."""

_LARGEST = float(np.finfo(np.float32).max)


@kernel
def _first(size: int) -> int:
    """Return the largest power of two up to the size."""
    block = 1
    while 2 * block <= size:
        block *= 2
    return block


@kernel
def _rotate(x: NDArray[np.float32], bits: NDArray[np.int32]) -> None:
    """Rotate a piece, in place."""
    block = _first(x.size)
    rest = x.size - block
    flip(x[:block], bits[:block], 0)
    hadamard(x[:block])
    if rest > 0:
        flip(x[rest:], bits[rest:], 1)
        hadamard(x[rest:])


@kernel
def _rotate_back(x: NDArray[np.float32], bits: NDArray[np.int32]) -> None:
    """Undo `_rotate`."""
    block = _first(x.size)
    rest = x.size - block
    if rest > 0:
        hadamard(x[rest:])
        flip(x[rest:], bits[rest:], 1)
    hadamard(x[:block])
    flip(x[:block], bits[:block], 0)


@kernel
def _analyse(x: NDArray[np.float32], bits: NDArray[np.int32], out: NDArray[np.float32]) -> None:
    """Write R_0 x/2 and R_1 x/2; bits and out: (2, size)."""
    for basis in range(2):
        for k in range(x.size):
            out[basis, k] = np.float32(0.5) * x[k]
        _rotate(out[basis], bits[basis])


@kernel
def _mean_square(x: NDArray[np.float32]) -> float:
    """Return the mean of squares of a matrix, number k of a row in lane k % 32."""
    squares = np.zeros(LANES, np.float64)
    for basis in range(2):
        for start in range(0, x.shape[1], LANES):
            for lane in range(min(LANES, x.shape[1] - start)):
                y = np.float64(x[basis, start + lane])
                squares[lane] += y * y
    return lanes_total(squares) / x.size


@kernel
def _peak(x: NDArray[np.float32]) -> float:
    """Return the largest magnitude of a matrix."""
    found = np.float32(0.0)
    for basis in range(2):
        for k in range(x.shape[1]):
            found = max(found, abs(x[basis, k]))
    return np.float64(found)


@kernel
def _represent(
    x: NDArray[np.float32],
    bits: NDArray[np.int32],
    rest: NDArray[np.float32],
    part: NDArray[np.float32],
    total: NDArray[np.float32],
) -> float:
    """Fill in the coefficients `total`; return the largest magnitude, never above that of R_0 x/2 and R_1 x/2.

    `rest` is what is not represented yet, at first x. Its coefficients are truncated at their root mean square and
    added to all others, STEPS times; the last are added as they are.
    """
    rest[:] = x
    total[:] = np.float32(0.0)
    plain = 0.0
    for step in range(STEPS):
        _analyse(rest, bits, part)
        if step == 0:
            plain = _peak(part)
        limit = np.float32(math.sqrt(_mean_square(part)))
        for basis in range(2):
            here = part[basis]
            for k in range(x.size):
                here[k] = min(max(here[k], -limit), limit)
                total[basis, k] += here[k]
            _rotate_back(here, bits[basis])
            for k in range(x.size):
                rest[k] -= here[k]
    _analyse(rest, bits, part)
    for basis in range(2):
        for k in range(x.size):
            total[basis, k] += part[basis, k]
    found = _peak(total)
    if found > plain:
        _analyse(x, bits, total)
        return plain
    return found


@kernel
def round_kashin(
    pieces: NDArray[np.int64],
    value: NDArray[np.float32],
    norms: NDArray[np.float64],
    keys: NDArray[np.uint64],
    top: int,
    level: NDArray[np.int32],
    scale: NDArray[np.float64],
) -> None:
    """Represent every piece, and round both coefficients of a coordinate at random to -scale, ..., scale.

    These are top + 1 points, a power of two, counted from 0. A coefficient is rounded up if its draw, over 2^24, is
    below its place between two points. Points p_0 and p_1 are p = (top + 1) p_0 + p_1, and the level is p - h for the
    lower half of all h + h, p - h + 1 for the upper. R_i has the draws of fold(word, i), rounding those of
    fold(word, 2 + i). The scale is 0 with a piece that is zero, or so small that float32 has none for it, whose levels
    are not filled in, and infinity where what is decoded may not fit float32.
    """
    each = norms.size // max(keys.size, 1)
    half, base = np.float64(top) / 2, top + 1
    middle = base * base // 2
    for piece in range(norms.size):
        scale[piece] = 0.0
        if norms[piece] > 0.0:
            word, start, size = np.uint64(keys[piece // each]), pieces[piece], pieces[piece + 1] - pieces[piece]
            first = start - pieces[piece - piece % each]
            x, rest, bits = np.empty(size, np.float32), np.empty(size, np.float32), np.empty((2, size), np.int32)
            part, total = np.empty((2, size), np.float32), np.empty((2, size), np.float32)
            for basis in range(2):
                draw_run(fold(word, np.uint64(basis)), first, bits[basis])
            unit = math.sqrt(size) / norms[piece]
            for k in range(size):
                x[k] = np.float64(value[start + k]) * unit
            largest = _represent(x, bits, rest, part, total) / unit
            if largest * math.sqrt(2.0 * size) > _LARGEST:
                scale[piece] = np.inf
            else:
                kept = np.float64(np.float32(largest))
                scale[piece] = kept
                if kept > 0.0:
                    slope, words = half / kept / unit, (fold(word, np.uint64(2)), fold(word, np.uint64(3)))
                    for k in range(size):
                        both = np.int64(0)
                        for basis in range(2):
                            uniform = uniform24(first + k, words[basis])
                            place = np.float64(total[basis, k]) * slope + half
                            point = min(max(np.floor(place), 0.0), np.float64(top - 1))
                            up = np.float64(uniform) * 2.0**-24 < place - point
                            both = both * base + np.int64(point) + np.int64(up)
                        level[start + k] = both - middle + (1 if both >= middle else 0)


@kernel
def values_of_kashin(
    n: int,
    chunk: int,
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger],
    level: NDArray[np.int32],
    scale: NDArray[np.float32],
    keys: NDArray[np.uint64],
    top: int,
    out: NDArray[np.float32],
) -> None:
    """Rotate both points of every coordinate back, as whole numbers from -top to top; add up, times scale/top."""
    pieces, base = piece_offsets(1, n, chunk), top + 1
    middle, scales = base * base // 2, -(-n // chunk)
    for row in range(offsets.size - 1):
        k, last, word = offsets[row], offsets[row + 1], np.uint64(keys[row])
        for piece in range(pieces.size - 1):
            first, size = pieces[piece], pieces[piece + 1] - pieces[piece]
            found = out[row * n + first : row * n + first + size]
            found[:] = np.float32(0.0)
            before, k = k, k + np.searchsorted(index[k : min(last, k + size)], first + size)
            if k > before:
                x, bits = np.zeros((2, size), np.float32), np.empty(size, np.int32)
                for entry in range(before, k):
                    both = np.int64(level[entry]) + middle - (1 if level[entry] > 0 else 0)
                    at = np.uint64(index[entry] - first)
                    x[0, at] = np.float32(2 * (both // base) - top)
                    x[1, at] = np.float32(2 * (both % base) - top)
                factor = np.float32(np.float64(scale[row * scales + piece]) / top)
                for basis in range(2):
                    draw_run(fold(word, np.uint64(basis)), first, bits)
                    _rotate_back(x[basis], bits)
                for j in range(size):
                    found[j] = (x[0, j] + x[1, j]) * factor
