"""What Numba has no word for: many numbers at a time, as LLVM vectors.

Sums in lanes that stay in registers, and comparisons whose answers are the bits of a word. The vectors are generic:
LLVM cuts them to what the machine has (AVX2, SSE2, NEON, ...).
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

from qsim.kernels.hashing import draw24, spread

LANES = 32
"""A norm is summed in 32 lanes, coordinate c in lane c % 32: enough to fill the registers of AVX2, and of AVX-512."""

STRIP = 64
"""How many coordinates share a random comparison: the bits of a word."""

_CODE: Any = cgutils  # untyped
_I8 = ir.IntType(8)
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_EIGHT = ir.VectorType(_I32, 8)


@intrinsic
def _add_squares(typing: Any, entries: Any, lanes: Any) -> Any:
    """Generate the code of `add_squares`."""
    if not (_is_array(entries, types.float32) and _is_array(lanes, types.float64)):
        return None
    doubles = ir.VectorType(ir.DoubleType(), 4)

    def add(builder: Any, sums: Any, x: Any) -> Any:
        wide = builder.fpext(x, doubles)
        kind = ir.FunctionType(doubles, [doubles] * 3)
        return builder.call(_CODE.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v4f64"), [wide, wide, sums])

    return types.int64(entries, lanes), _fold_into_lanes(ir.FloatType(), doubles, add)


add_squares = cast("Callable[[NDArray[np.float32], NDArray[np.float64]], np.int64]", _add_squares)
"""Add the square of entry c to lane c % LANES, for all entries but the last `size % LANES`; return how many were added.

Squares of float32 are exact in float64, so that fused and separate additions agree.
"""


@intrinsic
def _max_bits(typing: Any, entries: Any, lanes: Any) -> Any:
    """Generate the code of `max_bits`."""
    if not (_is_array(entries, types.int32) and _is_array(lanes, types.int32)):
        return None
    return types.int64(entries, lanes), _fold_into_lanes(_I32, _EIGHT, larger_magnitude)


max_bits = cast("Callable[[NDArray[np.int32], NDArray[np.int32]], np.int64]", _max_bits)
"""As `add_squares`, but a lane keeps the largest of its entries without their sign bits."""


def larger_magnitude(builder: Any, largest: Any, x: Any) -> Any:
    """Generate the code of max(largest, x without its sign bit)."""
    magnitude = builder.and_(x, ir.Constant(x.type, [0x7FFFFFFF] * x.type.count))
    return builder.select(builder.icmp_signed(">", magnitude, largest), magnitude, largest)


def _fold_into_lanes(entry: Any, vector: Any, step: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """Return what generates a loop over contiguous entries; the lanes stay in registers, which an array's would not.

    They are vectors of 256 bits: with longer ones AVX-512 reads from beyond the nearest caches a third slower.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        entries = context.make_array(signature.args[0])(context, builder, arguments[0])
        places = [_I64(lane) for lane in range(0, LANES, vector.count)]
        lanes = [pointer(context, builder, signature.args[1], arguments[1], place, vector) for place in places]
        folded = [_CODE.alloca_once_value(builder, builder.load(lane, align=4)) for lane in lanes]
        strips = builder.sdiv(entries.nitems, _I64(LANES))
        with _CODE.for_range(builder, strips) as loop:
            start = builder.mul(loop.index, _I64(LANES))
            for place, part in zip(places, folded, strict=True):
                here = builder.gep(entries.data, [builder.add(start, place)])
                here = builder.bitcast(here, ir.VectorType(entry, vector.count).as_pointer())
                builder.store(step(builder, builder.load(part), builder.load(here, align=4)), part)
        for lane, part in zip(lanes, folded, strict=True):
            builder.store(builder.load(part), lane, align=4)
        return builder.mul(strips, _I64(LANES))

    return generate


@intrinsic
def _draws_below(typing: Any, x: Any, start: Any, factor: Any, coordinates: Any, at: Any, base: Any, word: Any) -> Any:
    """Generate the code of `draws_below`: a strip of vectors is hashed at once, so that the latencies overlap."""
    if not (_is_array(x, types.float32) and isinstance(coordinates, types.Array) and factor == types.float32):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, start, factor, coordinates, at, base, word = arguments
        singles = ir.VectorType(ir.FloatType(), STRIP)
        width, kind = signature.args[3].dtype.bitwidth, signature.args[6]
        numbers = ir.VectorType(ir.IntType(width), STRIP)
        absolute = _CODE.get_or_insert_function(
            builder.module, ir.FunctionType(singles, [singles]), f"llvm.fabs.v{STRIP}f32"
        )
        values = builder.load(pointer(context, builder, signature.args[0], x, start, singles), align=4)
        there = builder.load(pointer(context, builder, signature.args[3], coordinates, at, numbers), align=4)
        base = base if width == 64 else builder.trunc(base, numbers.element)
        there = builder.add(there, spread(builder, base, numbers))
        uniform = builder.sitofp(draw24(builder, there, word, kind), singles)
        bound = builder.fmul(builder.call(absolute, [values]), spread(builder, factor, singles))
        return builder.bitcast(builder.fcmp_ordered("<", uniform, bound), _I64)

    known = types.uint64 if word == types.uint64 else types.int64
    return types.uint64(x, types.int64, factor, coordinates, types.int64, types.int64, known), generate


draws_below = cast(
    "Callable[[NDArray[np.float32], int, np.float32, NDArray[np.signedinteger], int, SupportsIndex, np.uint64],"
    " np.uint64]",
    _draws_below,
)
"""Return a word whose bit j, from 0 to 63, is set if the draw of a coordinate is below |x[start + j]| factor.

The coordinate is base + coordinates[at + j], in the type of `coordinates`, and its draw is `uniform24` of it in the
stream of the word. Nothing checks that 64 entries are there.
"""


def _is_array(kind: Any, dtype: Any) -> bool:
    return isinstance(kind, types.Array) and kind.dtype == dtype and kind.ndim == 1 and kind.layout == "C"


def pointer(context: Any, builder: Any, kind: Any, array: Any, start: Any, vector: Any) -> Any:
    """Return the address of array[start], as that of a vector."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [start]), vector.as_pointer())
