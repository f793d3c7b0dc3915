"""Random numbers from counters: a 32-bit hash, or Philox, for coordinates; SplitMix64 for keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from qsim.kernels._jit import kernel

NUMBER_BITS = 24  # as in `qsim/keys.py`
_I32 = ir.IntType(32)
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


@intrinsic
def _uniform24(typing: Any, coordinate: Any, word: Any) -> Any:
    """Generate the code of `uniform24`.

    It is an intrinsic because Numba widens uint32 arithmetic to 64 bits, which halves the speed of a vectorised loop.
    """
    if not isinstance(coordinate, types.Integer) or word not in (types.uint64, types.int64):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return draw24(builder, arguments[0], arguments[1], signature.args[1])

    return types.int32(coordinate, word), generate


uniform24 = cast("Callable[[SupportsIndex, np.uint64], np.int32]", _uniform24)
"""Return the 24 random bits of a coordinate, as int32, in the stream that a key's word names.

An unsigned word names the default stream, a signed one Philox; `draw24` says what both are.
"""


def draw24(builder: Any, coordinate: Any, word: Any, kind: Any) -> Any:
    """Generate the code of a draw: the upper 24 bits of `draw32`."""
    mixed = draw32(builder, coordinate, word, kind)
    return builder.lshr(mixed, _constant(mixed.type, 8))


def draw32(builder: Any, coordinate: Any, word: Any, kind: Any) -> Any:
    """Generate the code of 32 random bits, for one coordinate or a vector of them; the word is an i64 of type `kind`.

    The default stream, for an unsigned word: a 32-bit hash of the coordinate. The mixer is "triple32" of the
    hash-prospector project (C. Wellons, 2018), with the low half of the word xored into the coordinate and the high
    half xored in after the first of three rounds.

    The conservative stream, for a signed word: the first number of Philox 4x32-10 (Salmon, Moraes, Dror, Shaw,
    "Parallel random numbers: as easy as 1, 2, 3", SC 2011), whose counter is the coordinate and whose key is the word.

    Of coordinates wider than 32 bits the low 32 count.
    """
    counter = _to_32_bits(builder, coordinate)
    halves = _to_32_bits(builder, word), builder.trunc(builder.lshr(word, _constant(word.type, 32)), _I32)
    key = [spread(builder, half, counter.type) for half in halves]
    return (_philox if kind == types.int64 else _triple32)(builder, counter, key)


def _triple32(builder: Any, counter: Any, key: list[Any]) -> Any:
    word = builder.xor(counter, key[0])
    for shift, factor in ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)):
        word = builder.xor(word, builder.lshr(word, _constant(word.type, shift)))
        if shift == 11:
            word = builder.xor(word, key[1])
        word = builder.mul(word, _constant(word.type, factor))
    return builder.xor(word, builder.lshr(word, _constant(word.type, 14)))


def _philox(builder: Any, counter: Any, key: list[Any]) -> Any:
    zero = _constant(counter.type, 0)
    a, b, c, d = counter, zero, zero, zero
    for turn in range(_ROUNDS):
        low0, high0 = _product(builder, a, _MULTIPLIERS[0])
        low1, high1 = _product(builder, c, _MULTIPLIERS[1])
        key0, key1 = (
            builder.add(half, _constant(half.type, turn * step & 0xFFFFFFFF))
            for half, step in zip(key, _WEYL, strict=True)
        )
        a, b = builder.xor(builder.xor(high1, b), key0), low1
        c, d = builder.xor(builder.xor(high0, d), key1), low0
    return a


def _product(builder: Any, x: Any, factor: int) -> tuple[Any, Any]:
    """Return the low and the high half of x * factor."""
    wide = _like(x.type, 64)
    product = builder.mul(builder.zext(x, wide), _constant(wide, factor))
    return builder.trunc(product, x.type), builder.trunc(builder.lshr(product, _constant(wide, 32)), x.type)


def _to_32_bits(builder: Any, value: Any) -> Any:
    kind, width = _like(value.type, 32), getattr(value.type, "element", value.type).width
    if width == 32:
        return value
    return (builder.trunc if width > 32 else builder.zext)(value, kind)


def _like(kind: Any, width: int) -> Any:
    """Return the integer type of a width, or the vector type of as many of them."""
    number = ir.IntType(width)
    return ir.VectorType(number, kind.count) if hasattr(kind, "count") else number


def _constant(kind: Any, bits: int) -> Any:
    return ir.Constant(kind, [bits] * kind.count if hasattr(kind, "count") else bits)


def spread(builder: Any, value: Any, kind: Any) -> Any:
    """Return a vector of which all elements are the value, or the value itself where no vector is wanted."""
    if not hasattr(kind, "count"):
        return value
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, value, _I32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_I32, kind.count), None))


@kernel
def fold(word: np.uint64, part: np.uint64) -> np.uint64:
    """Mix a part into a key's word, as `Key.fold` does."""
    word = np.uint64(word + np.uint64(0x9E3779B97F4A7C15) * (part + np.uint64(1)))
    word = np.uint64((word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9))
    word = np.uint64((word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB))
    return np.uint64(word ^ (word >> np.uint64(31)))


@kernel
def fold_many(word: np.uint64, low: np.uint64, out: NDArray[np.uint64]) -> None:
    """Write the words of parts low, low + 1, ..."""
    for k in range(np.uint64(out.size)):
        out[k] = fold(word, low + k)


@kernel
def below(word: np.uint64, size: int) -> np.int64:
    """Turn a random word into a whole number in [0, size), each with probability 1/size to within 2^-53."""
    return np.int64(np.float64(word >> np.uint64(11)) * 2.0**-53 * np.float64(size))
