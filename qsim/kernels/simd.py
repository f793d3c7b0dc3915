"""Many numbers at a time, as LLVM vectors, which Numba cannot express.

Sums in lanes that stay in registers, comparisons whose answers are the bits of a word, and keeping what is not zero.
The vectors are generic: LLVM cuts them to what the machine has (AVX2, SSE2, NEON, ...), but for one permutation.
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

from qsim.kernels._jit import inlined
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
_DOUBLES = ir.VectorType(ir.DoubleType(), 4)


def _adder(add: Callable[[Any, Any, Any], Any]) -> Any:
    """Make an intrinsic that adds to lanes which stay in registers, as an array's would not.

    They are vectors of 256 bits: with longer ones AVX-512 reads from beyond the nearest caches a third slower.
    """
    singles = ir.VectorType(ir.FloatType(), 4)

    @intrinsic
    def add_to_lanes(typing: Any, entries: Any, lanes: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds, (entries, lanes) = signature.args, arguments
            there = [pointer(context, builder, kinds[1], lanes, _I64(lane), _DOUBLES) for lane in range(0, LANES, 4)]
            sums = [_CODE.alloca_once_value(builder, builder.load(place, align=4)) for place in there]
            size = context.make_array(kinds[0])(context, builder, entries).nitems
            whole = builder.and_(size, _I64(-LANES))
            with _CODE.for_range_slice(builder, _I64(0), whole, _I64(LANES)) as (start, _):
                for part, total in enumerate(sums):
                    place = builder.add(start, _I64(4 * part))
                    x = builder.load(pointer(context, builder, kinds[0], entries, place, singles), align=4)
                    builder.store(add(builder, builder.load(total), builder.fpext(x, _DOUBLES)), total)
            for place, total in zip(there, sums, strict=True):
                builder.store(builder.load(total), place, align=4)
            return whole

        good = _is_array(entries, types.float32) and _is_array(lanes, types.float64)
        return (types.int64(entries, lanes), generate) if good else None

    return add_to_lanes


@intrinsic
def _fused(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Generate the code of `fused`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()] * 3)
        return builder.call(_CODE.get_or_insert_function(builder.module, kind, "llvm.fmuladd.f64"), arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


fused = cast("Callable[[float, float, float], float]", _fused)
"""Return a b + c, rounded once where the machine can, and otherwise twice."""


def _called(builder: Any, name: str, *arguments: Any) -> Any:
    """Call what LLVM knows by a name, for four doubles."""
    kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * len(arguments))
    return builder.call(_CODE.get_or_insert_function(builder.module, kind, f"llvm.{name}.v4f64"), arguments)


add_squares = cast(
    "Callable[[NDArray[np.float32], NDArray[np.float64]], np.int64]",
    _adder(lambda builder, total, x: _called(builder, "fmuladd", x, x, total)),
)
"""Add the square of entry c to lane c % LANES, for all entries but the last `size % LANES`; return how many were added.

Squares of float32 are exact in float64, so that fused and separate additions agree.
"""

add_magnitudes = cast(
    "Callable[[NDArray[np.float32], NDArray[np.float64]], np.int64]",
    _adder(lambda builder, total, x: builder.fadd(total, _called(builder, "fabs", x))),
)
"""As `add_squares`, the magnitudes."""


@intrinsic
def _at_least(typing: Any, bits: Any, start: Any, bound: Any) -> Any:
    """Generate the code of `at_least`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = ir.VectorType(_I32, STRIP)
        here = pointer(context, builder, signature.args[0], arguments[0], arguments[1], words)
        magnitude = builder.and_(builder.load(here, align=4), ir.Constant(words, [0x7FFFFFFF] * STRIP))
        return builder.bitcast(builder.icmp_signed(">=", magnitude, spread(builder, arguments[2], words)), _I64)

    good = _is_array(bits, types.int32) and bound == types.int32
    return (types.uint64(bits, types.int64, bound), generate) if good else None


at_least = cast("Callable[[NDArray[np.int32], int, np.int32], np.uint64]", _at_least)
"""Return a word whose bit j, from 0 to 63, is set if bits[start + j], without its sign bit, is at least the bound.

Nothing checks that 64 entries are there.
"""


@intrinsic
def _draw_strip(typing: Any, coordinates: Any, at: Any, base: Any, word: Any, out: Any, start: Any) -> Any:
    """Generate the code of `draw_strip`."""
    if not (isinstance(coordinates, types.Array) and _is_array(out, types.int32)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        drawn = _drawn(context, builder, signature.args[:4], arguments[:4])
        there = pointer(context, builder, signature.args[4], arguments[4], arguments[5], drawn.type)
        builder.store(drawn, there, align=4)
        return context.get_dummy_value()

    return types.void(coordinates, types.int64, types.int64, _known(word), out, types.int64), generate


draw_strip = cast(
    "Callable[[NDArray[np.signedinteger], int, SupportsIndex, np.uint64, NDArray[np.int32], int], None]", _draw_strip
)
"""Write the draws of STRIP coordinates, base + coordinates[at + j], to out[start + j].

A draw is `uniform24` in the stream of the word, of the sum in the type of `coordinates`. Nothing checks that the
entries are there.
"""


def _comparison(mirrored: bool) -> Any:
    """Make an intrinsic that compares draws, or for x >= 0 what they lack to the largest, with |x| times a factor."""
    singles, words = ir.VectorType(ir.FloatType(), STRIP), ir.VectorType(_I32, STRIP)

    @intrinsic
    def compare(typing: Any, x: Any, start: Any, factor: Any, coordinates: Any, at: Any, base: Any, word: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            drawn = _drawn(context, builder, signature.args[3:], arguments[3:])
            here = pointer(context, builder, signature.args[0], arguments[0], arguments[1], singles)
            values = builder.load(here, align=4)
            if mirrored:
                positive = builder.icmp_signed(">=", builder.bitcast(values, words), ir.Constant(words, [0] * STRIP))
                other = builder.sub(ir.Constant(words, [2**24 - 1] * STRIP), drawn)
                drawn = builder.select(positive, other, drawn)
            kind = ir.FunctionType(singles, [singles])
            absolute = _CODE.get_or_insert_function(builder.module, kind, f"llvm.fabs.v{STRIP}f32")
            bound = builder.fmul(builder.call(absolute, [values]), spread(builder, arguments[2], singles))
            return builder.bitcast(builder.fcmp_ordered("<", builder.sitofp(drawn, singles), bound), _I64)

        known = types.uint64(x, types.int64, factor, coordinates, types.int64, types.int64, _known(word))
        good = _is_array(x, types.float32) and isinstance(coordinates, types.Array) and factor == types.float32
        return (known, generate) if good else None

    return compare


_Comparison = Callable[
    [NDArray[np.float32], int, np.float32, NDArray[np.signedinteger], int, SupportsIndex, np.uint64], np.uint64
]

draws_below = cast(_Comparison, _comparison(mirrored=False))
"""Return a word whose bit j, from 0 to 63, is set if the draw of a coordinate is below |x[start + j]| factor.

The coordinate is base + coordinates[at + j]; coordinates and draws are as in `draw_strip`.
"""

mirrored_draws_below = cast(_Comparison, _comparison(mirrored=True))
"""As `draws_below`, with 2^24 - 1 minus the draw where x has no minus sign."""


def _drawn(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
    """Generate the draws of a strip, all at once, so that the latencies of the hash overlap."""
    coordinates, at, base, word = arguments
    numbers = ir.VectorType(ir.IntType(kinds[0].dtype.bitwidth), STRIP)
    there = builder.load(pointer(context, builder, kinds[0], coordinates, at, numbers), align=4)
    base = spread(builder, _resized(builder, base, numbers.element), numbers)
    return draw24(builder, builder.add(there, base), word, kinds[3])


def _known(word: Any) -> Any:
    """Return the type of a word, of which there are two."""
    return types.uint64 if word == types.uint64 else types.int64


@intrinsic
def _keep_nonzeros(
    typing: Any, level: Any, start: Any, coordinates: Any, at: Any, base: Any, out_index: Any, out_level: Any, kept: Any
) -> Any:
    """Generate the code of `keep_nonzeros`: eight at a time by a permutation if there is AVX2, else one by one."""
    if not (_is_array(level, types.int32) and _is_array(out_level, types.int32)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        level, start, coordinates, at, base, out_index, out_level, kept = arguments
        given, number = (ir.IntType(signature.args[argument].dtype.bitwidth) for argument in (2, 5))
        eight_fit = number == _I32 and "+avx2" in context.codegen().magic_tuple()[2]
        entries, numbers, sources = (ir.VectorType(x, 8) if eight_fit else x for x in (_I32, number, given))
        base = spread(builder, _resized(builder, base, number), numbers)
        place = _CODE.alloca_once_value(builder, kept)
        with _CODE.for_range_slice(builder, _I64(0), _I64(STRIP), _I64(8 if eight_fit else 1)) as (j, _):
            here = pointer(context, builder, signature.args[0], level, builder.add(start, j), entries)
            entry = builder.load(here, align=4)
            here = pointer(context, builder, signature.args[2], coordinates, builder.add(at, j), sources)
            coordinate = builder.add(_resized(builder, builder.load(here, align=4), numbers), base)
            wanted = builder.icmp_signed("!=", entry, ir.Constant(entries, [0] * 8 if eight_fit else 0))
            if eight_fit:
                wanted = builder.bitcast(wanted, _I8)
                order = _order_of_ones(builder, wanted)
                entry, coordinate = (_permuted(builder, x, order) for x in (entry, coordinate))
                wanted = builder.ctpop(wanted)
            for kind, out, x in ((5, out_index, coordinate), (6, out_level, entry)):
                there = pointer(context, builder, signature.args[kind], out, builder.load(place), x.type)
                builder.store(x, there, align=4)
            builder.store(builder.add(builder.load(place), builder.zext(wanted, _I64)), place)
        return builder.load(place)

    whole = types.int64
    return types.uint64(level, whole, coordinates, whole, whole, out_index, out_level, types.uint64), generate


keep_nonzeros = cast(
    "Callable[[NDArray[np.int32], int, NDArray[np.signedinteger], int, SupportsIndex, NDArray[np.signedinteger],"
    " NDArray[np.int32], np.uint64], np.uint64]",
    _keep_nonzeros,
)
"""Write those of STRIP levels that are not zero, and their coordinates, from place `kept` on; return the place behind.

The coordinate of level[start + j] is base + coordinates[at + j], in the type of `out_index`. Nothing checks that there
are STRIP places from `kept` on: in those that are not filled there may be anything.
"""


def _resized(builder: Any, x: Any, kind: Any) -> Any:
    """Return whole numbers with signs, as another type."""
    width, wanted = (getattr(each, "element", each).width for each in (x.type, kind))
    return x if width == wanted else builder.trunc(x, kind) if width > wanted else builder.sext(x, kind)


def _order_of_ones(builder: Any, byte: Any) -> Any:
    """Return the places of the bits that are set in a byte, rising, as eight numbers; the rest are zeros."""
    rows = [[bit for bit in range(8) if number >> bit & 1] for number in range(256)]
    table = ir.Constant(ir.ArrayType(_I8, 2048), [place for row in rows for place in row + [0] * (8 - len(row))])
    data = _CODE.global_constant(builder, "qsim.order_of_ones", table)
    row = builder.gep(data, [_I64(0), builder.mul(builder.zext(byte, _I64), _I64(8))])
    return builder.zext(builder.load(builder.bitcast(row, ir.VectorType(_I8, 8).as_pointer()), align=1), _EIGHT)


def _permuted(builder: Any, x: Any, order: Any) -> Any:
    name, kind = "llvm.x86.avx2.permd", ir.FunctionType(_EIGHT, [_EIGHT, _EIGHT])
    return builder.call(_CODE.get_or_insert_function(builder.module, kind, name), [x, order])


def _is_array(kind: Any, dtype: Any) -> bool:
    return isinstance(kind, types.Array) and kind.dtype == dtype and kind.ndim == 1 and kind.layout == "C"


def pointer(context: Any, builder: Any, kind: Any, array: Any, start: Any, vector: Any) -> Any:
    """Return the address of array[start], as that of a vector."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [start]), vector.as_pointer())


@inlined
def lanes_total(lanes: NDArray[np.float64]) -> float:
    """Add the lanes in halves, which spoils them."""
    half = lanes.size // 2
    while half > 0:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return float(lanes[0])
