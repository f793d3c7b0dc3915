"""Random numbers from counters: a 32-bit hash for coordinates, SplitMix64 for keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qsim.kernels._jit import kernel

_I32 = ir.IntType(32)


@intrinsic
def _uniform24(typing: Any, counter: Any, low: Any, high: Any) -> Any:
    """Generate the code of `uniform24`.

    It is an intrinsic because Numba widens uint32 arithmetic to 64 bits, which halves the speed of a vectorised loop.
    """
    if not all(isinstance(kind, types.Integer) for kind in (counter, low, high)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return mix24(builder, *(_to_32_bits(builder, argument) for argument in arguments))

    return types.int32(counter, low, high), generate


uniform24 = cast("Callable[[SupportsIndex, SupportsIndex, SupportsIndex], np.int32]", _uniform24)
"""Return 24 random bits as int32: the top bits of a 32-bit hash of a counter, keyed by two words, low and high.

The mixer is "lowbias32" as improved in the hash-prospector project (C. Wellons, 2018; constants 21f0aaad and 735a2d97),
with the first key word xored into the counter and the second added between the two rounds. Of arguments wider than 32
bits the low 32 count.
"""


def _to_32_bits(builder: Any, value: Any) -> Any:
    if value.type.width > 32:
        return builder.trunc(value, _I32)
    return builder.zext(value, _I32) if value.type.width < 32 else value


def mix24(builder: Any, counter: Any, low: Any, high: Any) -> Any:
    """Generate the code of the hash, for one counter or a vector of them: three values of one 32-bit type."""

    def constant(bits: int) -> Any:
        return ir.Constant(counter.type, [bits] * counter.type.count if hasattr(counter.type, "count") else bits)

    word = builder.xor(counter, low)
    word = builder.xor(word, builder.lshr(word, constant(16)))
    word = builder.mul(word, constant(0x21F0AAAD))
    word = builder.xor(word, builder.lshr(word, constant(15)))
    word = builder.add(word, high)
    word = builder.mul(word, constant(0x735A2D97))
    word = builder.xor(word, builder.lshr(word, constant(15)))
    return builder.lshr(word, constant(8))


@kernel
def fold(word: np.uint64, part: np.uint64) -> np.uint64:
    """Mix a part into a key's word, as `Key.fold` does."""
    word = np.uint64(word + np.uint64(0x9E3779B97F4A7C15) * (part + np.uint64(1)))
    word = np.uint64((word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9))
    word = np.uint64((word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB))
    return np.uint64(word ^ (word >> np.uint64(31)))


@kernel
def below(word: np.uint64, size: int) -> np.int64:
    """Turn a random word into a whole number in [0, size), each with probability 1/size to within 2^-53."""
    return np.int64(np.float64(word >> np.uint64(11)) * 2.0**-53 * np.float64(size))
