"""The fast Walsh-Hadamard transform, in place, and the random rotations made of it.

The transform of a power of two n does log2(n) levels of n/2 butterflies (a, b) -> (a + b, a - b), at distances 1, 2, 4,
..., n/2. Here a level costs little more than its additions: 64 neighbours go through six levels in registers, then
every pass over the memory does three levels, and the passes stay in a block that fits the cache for as long as they
can. The additions are those of the plain algorithm, in its order, so the results are the same bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from qsim.kernels._jit import kernel

BLOCK = 1 << 12
"""How many float32 are transformed at a time in the first cache."""

LARGE_BLOCK = 1 << 16
"""How many in the second."""

_WIDTH = 8  # numbers in a vector
_STRIP = 64  # neighbours that go through six levels in registers
_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(ir.FloatType(), _WIDTH)


def _across(builder: Any, vectors: list[Any]) -> list[Any]:
    """Generate the levels between vectors: distances 1, 2, 4, ... in the list."""
    distance = 1
    while distance < len(vectors):
        found = list(vectors)
        for k in range(len(vectors)):
            if not k & distance:
                found[k] = builder.fadd(vectors[k], vectors[k + distance])
                found[k + distance] = builder.fsub(vectors[k], vectors[k + distance])
        vectors, distance = found, 2 * distance
    return vectors


def _within(builder: Any, vector: Any) -> Any:
    """Generate the levels inside a vector: distances 1, 2, 4."""
    for distance in (1, 2, 4):
        low = [k & ~distance for k in range(_WIDTH)]
        high = [k | distance for k in range(_WIDTH)]
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        words = ir.VectorType(_I32, _WIDTH)
        a = builder.shuffle_vector(vector, nothing, ir.Constant(words, low))
        b = builder.shuffle_vector(vector, nothing, ir.Constant(words, high))
        choice = [_WIDTH + k if k & distance else k for k in range(_WIDTH)]
        vector = builder.shuffle_vector(builder.fadd(a, b), builder.fsub(a, b), ir.Constant(words, choice))
    return vector


def _places(context: Any, builder: Any, kind: Any, array: Any, start: Any, step: Any, count: int) -> list[Any]:
    """Return the addresses of `count` vectors, the first at array[start], each `step` numbers behind the last."""
    data = context.make_array(kind)(context, builder, array).data
    places = []
    for _ in range(count):
        places.append(builder.bitcast(builder.gep(data, [start]), _VECTOR.as_pointer()))
        start = builder.add(start, step)
    return places


def _is_singles(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.dtype == types.float32 and kind.ndim == 1 and kind.layout == "C"


@intrinsic
def _first_levels(typing: Any, x: Any, start: Any, factor: Any) -> Any:
    """Generate the code of `first_levels`."""
    if not (_is_singles(x) and factor == types.float32):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, start, factor = arguments
        step = ir.Constant(start.type, _WIDTH)
        places = _places(context, builder, signature.args[0], x, start, step, _STRIP // _WIDTH)
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(nothing, factor, _I32(0))
        factors = builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_I32, _WIDTH), None))
        vectors = [builder.fmul(builder.load(place, align=4), factors) for place in places]
        for place, vector in zip(
            places, _across(builder, [_within(builder, vector) for vector in vectors]), strict=True
        ):
            builder.store(vector, place, align=4)
        return context.get_dummy_value()

    return types.none(x, types.int64, factor), generate


first_levels = cast("Callable[[NDArray[np.float32], int, np.float32], None]", _first_levels)
"""Multiply x[start : start + 64] by a factor and do the levels of distances 1 to 32 on it."""


def _levels(count: int) -> Any:
    @intrinsic
    def levels(typing: Any, x: Any, start: Any, distance: Any) -> Any:
        """Generate the code of `eight_apart` and its like."""
        if not _is_singles(x):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, start, distance = arguments
            places = _places(context, builder, signature.args[0], x, start, distance, count)
            vectors = _across(builder, [builder.load(place, align=4) for place in places])
            for place, vector in zip(places, vectors, strict=True):
                builder.store(vector, place, align=4)
            return context.get_dummy_value()

        return types.none(x, types.int64, types.int64), generate

    return levels


_Levels = Callable[[NDArray[np.float32], int, int], None]
two_apart = cast(_Levels, _levels(2))
four_apart = cast(_Levels, _levels(4))
eight_apart = cast(_Levels, _levels(8))


@kernel
def _passes(x: NDArray[np.float32], start: int, distance: int, size: int) -> None:
    """Do the levels of distances from `distance` (a multiple of 8) to size/2 on x[start : start + size]."""
    while distance < size:
        if 8 * distance <= size:
            for block in range(start, start + size, 8 * distance):
                for k in range(block, block + distance, _WIDTH):
                    eight_apart(x, k, distance)
            distance *= 8
        elif 4 * distance <= size:
            for block in range(start, start + size, 4 * distance):
                for k in range(block, block + distance, _WIDTH):
                    four_apart(x, k, distance)
            distance *= 4
        else:
            for k in range(start, start + distance, _WIDTH):
                two_apart(x, k, distance)
            distance *= 2


@kernel
def hadamard(x: NDArray[np.float32]) -> None:
    """Transform x, a power of two long, in place: y_i = n^(-1/2) sum_j (-1)^(ones in i & j) x_j, its own inverse.

    Every number is first multiplied by float32(n^(-1/2)); then come the levels, all in float32.
    """
    n = x.size
    factor = np.float32(1.0 / math.sqrt(n))
    if n < _STRIP:
        _small(x, factor)
        return
    large, small = min(n, LARGE_BLOCK), min(n, BLOCK)
    for outer in range(0, n, large):
        for inner in range(outer, outer + large, small):
            for start in range(inner, inner + small, _STRIP):
                first_levels(x, start, factor)
            _passes(x, inner, _STRIP, small)
        _passes(x, outer, small, large)
    _passes(x, 0, large, n)


@kernel
def _small(x: NDArray[np.float32], factor: np.float32) -> None:
    """Transform fewer than 64 numbers."""
    for k in range(x.size):
        x[k] *= factor
    distance = 1
    while distance < x.size:
        for k in range(x.size):
            if not k & distance:
                a, b = x[k], x[k + distance]
                x[k], x[k + distance] = a + b, a - b
        distance *= 2
