"""Random rotations made of Hadamard transforms, and levels of rotated numbers.

A row is cut into pieces of `chunk` coordinates (a power of two), and what is left over joins the last piece. A piece is
rotated `rounds` times, each time by random signs and then the transform. The signs of coordinate c are the bits of its
draw, round t takes bit t.

A last piece whose size m is not a power of two is first put in another order in every round, number i of the new order
being number (a i + b) mod m of the old, a and b random and a prime to m; after the signs, the transform goes over
blocks, which are the powers of two that m is made of, the largest first. So small blocks hold other numbers in every
round, and all numbers get the same mean square.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hadamard import hadamard
from qsim.kernels.hashing import below, fold
from qsim.kernels.simd import LANES, lanes_total
from qsim.kernels.tiles import draw_run

MOST_ROUNDS = 23
"""How many rounds have signs of their own: the bits of a draw, but for the highest, which decides ties."""

TIE = np.float32(2.0**-16)
"""A rotated number below this is a tie: of a sum that is zero only rounding is left, and it follows the vector.

With v = (1, 1/2, 0, ...), where 0.36/sqrt(n) of the numbers are ties, that made a bias of some 0.2/sqrt(n) of the norm.
"""

_LARGEST = float(np.finfo(np.float32).max)


@kernel
def flip(x: NDArray[np.float32], bits: NDArray[np.int32], turn: int) -> None:
    """Change the sign of every number whose bit `turn` is set."""
    words = x.view(np.int32)
    up = np.int32(31 - turn)
    for k in range(words.size):
        words[k] ^= np.int32(bits[k] << up) & np.int32(-(2**31))


@kernel
def _order(word: np.uint64, turn: int, size: int) -> tuple[int, int]:
    """Draw a and b of a round's order: b = below(w_0, m), a the first below(w_j, m), j >= 1, that is prime to m.

    w_j is the word of the key folded with (round, j).
    """
    word = fold(np.uint64(word), np.uint64(turn))
    j = 1
    while True:
        a = below(fold(word, np.uint64(j)), size)
        x, y = a, np.int64(size)
        while y != 0:
            x, y = y, x % y
        if x == 1:
            return int(a), int(below(fold(word, np.uint64(0)), size))
        j += 1


@kernel
def _blocks(x: NDArray[np.float32]) -> None:
    """Transform the powers of two that the size is made of, the largest first."""
    at = 0
    block = 1
    while 2 * block <= x.size:
        block *= 2
    while at < x.size:
        if block <= x.size - at:
            hadamard(x[at : at + block])
            at += block
        block //= 2


@kernel
def rotate(
    x: NDArray[np.float32], spare: NDArray[np.float32], bits: NDArray[np.int32], rounds: int, word: np.uint64
) -> None:
    """Rotate a piece; `spare` and `bits` are of its size."""
    size = x.size
    for turn in range(rounds):
        if size & (size - 1) == 0:
            flip(x, bits, turn)
            hadamard(x)
        else:
            a, place = _order(word, turn, size)
            for k in range(size):
                spare[k] = x[np.uint64(place)]
                place += a
                place -= size if place >= size else 0
            flip(spare, bits, turn)
            _blocks(spare)
            x[:] = spare


@kernel
def rotate_back(
    x: NDArray[np.float32], spare: NDArray[np.float32], bits: NDArray[np.int32], rounds: int, word: np.uint64
) -> None:
    """Undo `rotate`: both a transform and a flip of signs undo themselves."""
    size = x.size
    for turn in range(rounds - 1, -1, -1):
        if size & (size - 1) == 0:
            hadamard(x)
            flip(x, bits, turn)
        else:
            a, place = _order(word, turn, size)
            _blocks(x)
            flip(x, bits, turn)
            for k in range(size):
                spare[np.uint64(place)] = x[k]
                place += a
                place -= size if place >= size else 0
            x[:] = spare


@kernel
def piece_offsets(rows: int, n: int, chunk: int) -> NDArray[np.int64]:
    """Return where the pieces of dense rows begin, and the end of the last."""
    pieces = max(1, n // chunk)
    offsets = np.empty(rows * pieces + 1, np.int64)
    for k in range(rows * pieces):
        offsets[k] = (k // pieces) * n + (k % pieces) * chunk
    offsets[-1] = rows * n
    return offsets


@kernel
def round_rotated(
    pieces: NDArray[np.int64],
    value: NDArray[np.float32],
    norms: NDArray[np.float64],
    keys: NDArray[np.uint64],
    rounds: int,
    centroids: NDArray[np.float32],
    level: NDArray[np.int32],
    scale: NDArray[np.float64],
) -> None:
    """Rotate every piece, normalised to mean square 1, and round to the nearest of +-centroids, which rise.

    `level` is the place of the centroid, from 1, with the sign, which is drawn for a tie; midpoints go up. The scale is
    ||x||^2 / <R x, c(R x)>, in float64; 0 with a piece that is zero, whose levels are not filled in, and infinity where
    what is decoded may not fit float32: where the norm of the decoded piece does not.
    """
    each = norms.size // max(keys.size, 1)
    longest = 0
    for piece in range(norms.size):
        longest = max(longest, pieces[piece + 1] - pieces[piece])
    room, bits_room = np.empty((2, longest), np.float32), np.empty(longest, np.int32)
    middle = np.empty(centroids.size - 1, np.float32)
    for k in range(middle.size):
        middle[k] = 0.5 * (np.float64(centroids[k]) + np.float64(centroids[k + 1]))
    for piece in range(norms.size):
        scale[piece] = 0.0
        if norms[piece] > 0.0:
            word, start, size = keys[piece // each], pieces[piece], pieces[piece + 1] - pieces[piece]
            x, spare, bits = room[0, :size], room[1, :size], bits_room[:size]
            entries, signed = value[start : start + size], level[start : start + size]
            draw_run(word, start - pieces[piece - piece % each], bits)
            unit = math.sqrt(size) / norms[piece]
            for k in range(size):
                x[k] = np.float64(entries[k]) * unit
            rotate(x, spare, bits, rounds, word)
            product, square = _round(x, bits, middle, centroids, signed)
            found = norms[piece] * math.sqrt(size) / product
            scale[piece] = found if found * math.sqrt(square) <= _LARGEST else np.inf


@kernel
def _round(
    x: NDArray[np.float32],
    bits: NDArray[np.int32],
    middle: NDArray[np.float32],
    centroids: NDArray[np.float32],
    level: NDArray[np.int32],
) -> tuple[float, float]:
    """Fill in the levels; return <x, c(x)> and ||c(x)||^2, summed in float64 with number k in lane k % 32."""
    products, squares = np.zeros(LANES, np.float64), np.zeros(LANES, np.float64)
    for k in range(x.size):
        level[k] = 1
    for j in range(middle.size):
        for k in range(x.size):
            level[k] += np.int32(abs(x[k]) >= middle[j])
    whole = x.size - x.size % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            c = np.float64(centroids[np.uint64(level[start + lane] - 1)])
            products[lane] += c * abs(np.float64(x[start + lane]))
            squares[lane] += c * c
    for k in range(whole, x.size):
        c = np.float64(centroids[np.uint64(level[k] - 1)])
        products[k - whole] += c * abs(np.float64(x[k]))
        squares[k - whole] += c * c
    words = x.view(np.int32)
    for k in range(x.size):
        word = np.int32(bits[k] << np.int32(31 - MOST_ROUNDS)) if abs(x[k]) < TIE else words[k]
        negative = np.int32(word >> np.int32(31))  # -1 or 0
        level[k] = np.int32(level[k] ^ negative) - negative
    return lanes_total(products), lanes_total(squares)


@kernel
def values_of_rotated(
    n: int,
    chunk: int,
    offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    level: NDArray[np.int32],
    scale: NDArray[np.float32],
    keys: NDArray[np.uint64],
    rounds: int,
    centroids: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Put the centroids of the levels in their places, rotate back, and multiply by the scale of the piece."""
    rows = offsets.size - 1
    pieces = piece_offsets(1, n, chunk)
    longest = pieces[-1] - pieces[-2]
    spare_room, bits_room = np.empty(longest, np.float32), np.empty(longest, np.int32)
    scales = -(-n // chunk)
    for row in range(rows):
        k, last = offsets[row], offsets[row + 1]
        for piece in range(pieces.size - 1):
            first, size = pieces[piece], pieces[piece + 1] - pieces[piece]
            x = out[row * n + first : row * n + first + size]
            x[:] = 0.0
            before, k = k, k + np.searchsorted(index[k : min(last, k + size)], first + size)
            for entry in range(before, k):
                c = centroids[np.uint64(abs(level[entry]) - 1)]
                x[np.uint64(index[entry] - first)] = c * np.float32(1 - 2 * (level[entry] < 0))  # a branch is slower
            if k > before:
                bits = bits_room[:size]
                draw_run(keys[row], first, bits)
                rotate_back(x, spare_room[:size], bits, rounds, keys[row])
                factor = scale[row * scales + piece]
                for j in range(size):
                    x[j] *= factor
