"""Thinning: the short cut through blocks of a row in which hardly any coordinate is drawn.

Where every level is 1 with a probability t of at most 2^-j, and else 0, j fair coins a coordinate come first, and only
candidates, whose coins all show heads, are drawn: with probability t 2^j. Coins are the bits of words, so that one
number from the stream is a coin of 32 coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import MAGNITUDE, trailing_zeros
from qsim.kernels.hashing import draw32, spread
from qsim.kernels.simd import LANES, STRIP, keep_nonzeros, pointer

BLOCK = 32 * STRIP
"""How many coordinates, from a multiple of this on, have the same number of coins: each in a bit of STRIP words."""

LEAST = BLOCK // 4
"""A block with fewer numbers that are not zero is not thinned: the coins would cost more than they save."""

RARE = np.float32(2.0**-6)
"""A block with a larger t is not thinned: most candidates would be kept."""

_MOST_COINS = 24
_CODE: Any = cgutils  # untyped
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_MANY = ir.VectorType(_I32, LANES)


@intrinsic
def _toss(typing: Any, word: Any, base: Any, coins: Any, out: Any) -> Any:
    """Generate the code of `toss`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, base, coins, out = arguments
        for start in range(0, STRIP, LANES):
            first = spread(builder, builder.trunc(builder.add(base, _I64(start)), _I32), _MANY)
            counter = _CODE.alloca_once_value(builder, builder.add(first, ir.Constant(_MANY, list(range(LANES)))))
            heads = _CODE.alloca_once_value(builder, ir.Constant(_MANY, [-1] * LANES))
            with _CODE.for_range(builder, coins):
                number = builder.load(counter)
                drawn = draw32(builder, number, word, signature.args[0])
                builder.store(builder.and_(builder.load(heads), drawn), heads)
                builder.store(builder.add(number, ir.Constant(_MANY, [STRIP] * LANES)), counter)
            there = pointer(context, builder, signature.args[3], out, _I64(start), _MANY)
            builder.store(builder.load(heads), there, align=4)
        return context.get_dummy_value()

    known = types.uint64 if word == types.uint64 else types.int64
    return types.void(known, types.int64, types.int64, out), generate


toss = cast("Callable[[np.uint64, SupportsIndex, SupportsIndex, NDArray[np.int32]], None]", _toss)
"""Toss a number of coins for each coordinate of the block from `base` on; a bit of out[i] is set where all show heads.

Bit b of out[i] is for coordinate base + 32 i + b. Its coin l is bit b of the 32 random bits (`draw32`) of base + 64 l +
i, in the stream of the word.
"""


@kernel
def largest_of_many(bits: NDArray[np.int32]) -> np.float32:
    """Return the largest magnitude of a block, or infinity if fewer than LEAST are not zero."""
    largest, found, start = np.int32(0), np.int64(0), 0
    for k in range(bits.size):
        largest = max(largest, np.int32(bits[k] & MAGNITUDE))
    while found < LEAST and start < bits.size:  # the first of them are enough, where few are zero
        zeros, part = np.int32(0), bits[start : start + LEAST]
        for k in range(part.size):
            zeros = np.int32(zeros + np.int32(part[k] & MAGNITUDE == np.int32(0)))
        found += part.size - zeros
        start += LEAST
    return np.int32(largest).view(np.float32) if found >= LEAST else np.float32(np.inf)


@kernel
def next_block(index: NDArray[np.signedinteger] | None, place: int, last: int) -> tuple[int, int]:
    """Return where the next block with at least LEAST entries begins and ends, from entry `place` of a row on.

    `place` is the first entry of a block, of a row that ends at `last`; (last, last): there is no such block.
    """
    if index is None:
        return (place, min(place + BLOCK, last)) if last - place >= LEAST else (last, last)
    first, half = place, LEAST // 2
    while place + half < last:  # of LEAST entries in a row, two are `half` apart, counted from anywhere
        block = index[place] // BLOCK
        if index[place + half] // BLOCK == block:
            begin, end = place, place + half
            while begin > first and index[begin - 1] // BLOCK == block:
                begin -= 1
            while end < last and index[end] // BLOCK == block:
                end += 1
            if end - begin >= LEAST:
                return begin, end
        place += half
    return last, last


@kernel
def candidates(
    word: np.uint64,
    base: int,
    largest: np.float32,
    ramp: NDArray[np.int32],
    heads: NDArray[np.int32],
    where: NDArray[np.int32],
    out: NDArray[np.int64],
) -> tuple[int, int]:
    """Write which coordinates of the block from `base` on are candidates; return how many, and the number j of coins.

    2^-j is the least power of two that is at least `largest`, the largest t; j is at most 24. The arrays `heads`, of
    2 STRIP, and `where`, of STRIP, are scratch.
    """
    bits: np.int32 = np.float32(largest).view(np.int32)
    coins, words = min(126 - (int(bits) - 1 >> 23), _MOST_COINS), heads[STRIP:]
    toss(word, base, coins, heads)
    filled = keep_nonzeros(heads, 0, ramp, 0, 0, where, words, np.uint64(0))
    found = np.uint64(0)
    for i in range(filled):
        left, first = np.uint64(np.uint32(words[i])), base + 32 * np.int64(where[i])
        while left != np.uint64(0):
            out[found] = first + np.int64(trailing_zeros(left))
            found += np.uint64(1)
            left &= left - np.uint64(1)
    return int(found), coins
