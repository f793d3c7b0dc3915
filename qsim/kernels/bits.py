"""Words of 64 bits: how many zeros lead and trail, how many ones, words at any byte of an array; what an entry is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.decode_status import DOUBLES, FLOATS

WORDS = 64
"""So many words of marks are gone through at a time, so that what was found is still near."""

MAGNITUDE = np.int32(0x7FFFFFFF)
"""The bits of a float32 without its sign: they rise with the magnitude, those of NaN behind those of infinity."""

_CODE: Any = cgutils  # untyped
_I64 = ir.IntType(64)


@intrinsic
def _trailing_zeros(typing: Any, word: Any) -> Any:
    """Generate the code of `trailing_zeros`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return (types.uint64(word), generate) if word == types.uint64 else None


trailing_zeros = cast("Callable[[np.uint64], np.uint64]", _trailing_zeros)
"""Return the place of a word's lowest set bit (64 if there is none)."""


@intrinsic
def _leading_zeros(typing: Any, word: Any) -> Any:
    """Generate the code of `leading_zeros`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return (types.uint64(word), generate) if word == types.uint64 else None


leading_zeros = cast("Callable[[np.uint64], np.uint64]", _leading_zeros)
"""Return how many zeros stand before a word's highest set bit (64 if there is none)."""


@inlined
def bit_length(number: int) -> np.uint64:
    """Return how many bits a number from 0 has."""
    return np.uint64(64) - leading_zeros(np.uint64(number))


@intrinsic
def _ones(typing: Any, word: Any) -> Any:
    """Generate the code of `ones`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return (types.int64(word), generate) if word == types.uint64 else None


ones = cast("Callable[[np.uint64], np.int64]", _ones)
"""Return how many bits of a word are set."""


@intrinsic
def _product_high(typing: Any, one: Any, other: Any) -> Any:
    """Generate the code of `product_high`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        one, other = (builder.zext(argument, wide) for argument in arguments)
        return builder.trunc(builder.lshr(builder.mul(one, other), ir.Constant(wide, 64)), _I64)

    return (types.uint64(one, other), generate) if one == other == types.uint64 else None


product_high = cast("Callable[[np.uint64, np.uint64], np.uint64]", _product_high)
"""Return the upper 64 of the 128 bits of a product."""


@intrinsic
def _as_float(typing: Any, word: Any) -> Any:
    """Generate the code of `as_float`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return (types.float64(word), generate) if word == types.uint64 else None


as_float = cast("Callable[[np.uint64], np.float64]", _as_float)
"""Return the float64 that has the bits of a word."""


@kernel
def take_marked_places(marks: NDArray[np.uint64], word: int, end: int, places: NDArray[np.int64]) -> int:
    """Write the numbers of the bits that are set in the words from `word` to `end` - 1, rising, and clear them.

    Returns how many there are; `places` has room for 64 a word, and 4 more. Four are written at a time, there or
    not, since how many a word has can't be foretold.
    """
    found, one = np.uint64(0), np.uint64(1)
    for at in range(np.uint64(word), np.uint64(end)):
        left, first = marks[at], np.int64(at << np.uint64(6))
        if left == np.uint64(0):
            continue
        marks[at] = np.uint64(0)
        behind = found + np.uint64(ones(left))
        while found < behind:
            for k in range(4):
                places[found + np.uint64(k)] = first + np.int64(trailing_zeros(left))
                left &= left - one
            found += np.uint64(4)
        found = behind
    return int(found)


@intrinsic
def _prefetch(typing: Any, array: Any, at: Any) -> Any:
    """Generate the code of `prefetch`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        here, number = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer()), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [here.type, number, number, number])
        call = _CODE.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(call, [here, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return (types.void(array, types.uint64), generate) if isinstance(array, types.Array) else None


prefetch = cast("Callable[[NDArray[Any], np.uint64], None]", _prefetch)
"""Have the entry of an array brought near, which will be read soon. Any place will do: nothing is read."""


def _loader(arrange: Callable[[Any, Any], Any]) -> Any:
    """Make an intrinsic that loads eight bytes from any place."""

    @intrinsic
    def load(typing: Any, data: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return arrange(builder, builder.load(_address(context, builder, signature, arguments), align=1))

        return (types.uint64(data, types.uint64), generate) if _is_bytes(data) else None

    return load


def _storer(arrange: Callable[[Any, Any], Any]) -> Any:
    """Make an intrinsic that stores eight bytes at any place."""

    @intrinsic
    def store(typing: Any, data: Any, at: Any, word: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            target = _address(context, builder, signature, arguments)
            builder.store(arrange(builder, arguments[2]), target, align=1)
            return context.get_dummy_value()

        return (types.void(data, types.uint64, types.uint64), generate) if _is_bytes(data) else None

    return store


def _first_lowest(builder: Any, word: Any) -> Any:
    return word if sys.byteorder == "little" else _swapped(builder, word)


def _first_highest(builder: Any, word: Any) -> Any:
    return word if sys.byteorder == "big" else _swapped(builder, word)


def _swapped(builder: Any, word: Any) -> Any:
    swap = _CODE.get_or_insert_function(builder.module, ir.FunctionType(_I64, [_I64]), "llvm.bswap.i64")
    return builder.call(swap, [word])


load = cast("Callable[[NDArray[np.uint8], np.uint64], np.uint64]", _loader(_first_highest))
"""Return the eight bytes from data[at] on as a word, the first byte highest. Nothing checks that they are there."""

store = cast("Callable[[NDArray[np.uint8], np.uint64, np.uint64], None]", _storer(_first_highest))
"""Write a word to the eight bytes from data[at] on, its highest byte first. Nothing checks that they are there."""

load_low = cast("Callable[[NDArray[np.uint8], np.uint64], np.uint64]", _loader(_first_lowest))
"""As `load`, the first byte lowest."""

store_low = cast("Callable[[NDArray[np.uint8], np.uint64, np.uint64], None]", _storer(_first_lowest))
"""As `store`, the lowest byte first."""


@intrinsic
def _store_four(typing: Any, out: Any, at: Any, word: Any, base: Any) -> Any:
    """Generate the code of `store_four`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, at, word, base = arguments
        number = ir.IntType(signature.args[0].dtype.bitwidth)
        four, quarters = ir.VectorType(number, 4), ir.VectorType(ir.IntType(16), 4)
        base = base if number == _I64 else builder.trunc(base, number)
        bases = builder.insert_element(ir.Constant(four, ir.Undefined), base, ir.IntType(32)(0))
        bases = builder.shuffle_vector(bases, bases, ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4))
        parts = builder.sext(builder.bitcast(word, quarters), four)
        order = [0, 1, 2, 3] if sys.byteorder == "little" else [3, 2, 1, 0]
        parts = builder.shuffle_vector(parts, parts, ir.Constant(ir.VectorType(ir.IntType(32), 4), order))
        numbers = builder.add(parts, bases)
        data = context.make_array(signature.args[0])(context, builder, out).data
        builder.store(numbers, builder.bitcast(builder.gep(data, [at]), four.as_pointer()), align=4)
        return context.get_dummy_value()

    good = isinstance(out, types.Array) and out.dtype in (types.int32, types.int64) and out.layout == "C"
    return (types.void(out, types.uint64, types.uint64, types.int64), generate) if good else None


store_four = cast("Callable[[NDArray[np.signedinteger], np.uint64, np.uint64, SupportsIndex], None]", _store_four)
"""Write the four numbers of 16 bits, with signs, that a word consists of, each plus a base, from out[at] on.

The lowest comes first. Nothing checks that there are four places.
"""


def _is_bytes(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.dtype == types.uint8 and kind.ndim == 1 and kind.layout == "C"


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(data, [arguments[1]]), _I64.as_pointer())


@inlined
def is_entry(index: np.int64, previous: np.int64, word: np.int64, n: int, s: int, payload: int) -> bool:
    """Tell whether the index rises and stays below n, and the word is a level up to s or a finite float."""
    if payload == FLOATS:
        return bool(previous < index < n and (word & 0x7F800000) != 0x7F800000)
    if payload == DOUBLES:
        return bool(previous < index < n and (word & 0x7FF0000000000000) != 0x7FF0000000000000)
    return bool(previous < index < n and word != 0 and -s <= word <= s)


@inlined
def put(
    data: NDArray[np.uint8], at: np.uint64, bits: np.uint64, held: np.uint64, word: np.uint64, length: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Append 1 to 56 bits to the up to 7 held ones; whole bytes are written. Returns the new (at, bits, held)."""
    held += length
    bits |= word << (np.uint64(64) - held)
    store(data, at, bits)
    whole = held >> np.uint64(3)
    return at + whole, bits << (whole << np.uint64(3)), held & np.uint64(7)


@inlined
def window(data: NDArray[np.uint8], at: np.uint64) -> np.uint64:
    """Return the bits from bit `at` of the data on, the first highest; 57 of them at least."""
    return load(data, at >> np.uint64(3)) << (at & np.uint64(7))
