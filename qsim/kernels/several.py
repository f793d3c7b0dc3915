"""Sparse rows against several weights at a time, which are eight lanes of LLVM vectors: a pass over the rows for all.

Each lane computes, in the same order, what `margins`, `sums` and `scatter_support` of `csr.py`, and `add_rows` of
`vectors.py`, compute for its weights alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model
from numpy.typing import NDArray

from qsim.kernels._jit import kernel

TOGETHER = 8
"""How many weights there are at a time."""

_VECTOR = ir.VectorType(ir.DoubleType(), TOGETHER)
_INT = ir.IntType(64)


class _Lanes(types.Type):
    """The Numba type of a number for each of the weights."""


_TYPE: Any = _Lanes
_LANES = _TYPE("Lanes")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    """Tells Numba how LLVM holds the lanes."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)  # type: ignore[no-untyped-call]


@intrinsic
def _zeros(typing: Any) -> Any:
    """Generate the code of `zeros`."""
    return _LANES(), lambda context, builder, signature, arguments: _VECTOR([0.0] * TOGETHER)


@intrinsic
def _lanes_of(typing: Any, rows: Any, row: Any) -> Any:
    """Generate the code of `lanes_of`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_row(context, builder, signature.args[0], *arguments), align=8)

    return (_LANES(rows, types.uint64), generate) if _are_rows(rows) else None


@intrinsic
def _write_lanes(typing: Any, lanes: Any, rows: Any, row: Any) -> Any:
    """Generate the code of `write_lanes`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[0], _row(context, builder, signature.args[1], *arguments[1:]), align=8)
        return context.get_dummy_value()

    return (types.void(_LANES, rows, types.uint64), generate) if _are_rows(rows) else None


@intrinsic
def _plus(typing: Any, a: Any, b: Any) -> Any:
    """Generate the code of `plus`."""
    return _LANES(_LANES, _LANES), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def _times(typing: Any, lanes: Any, x: Any) -> Any:
    """Generate the code of `times`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, x = arguments
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), x, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), TOGETHER), [0] * TOGETHER)
        return builder.fmul(lanes, builder.shuffle_vector(first, first, everywhere))

    return _LANES(_LANES, types.float64), generate


@intrinsic
def _column(typing: Any, columns: Any, at: Any) -> Any:
    """Generate the code of `column`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.Constant(_VECTOR, ir.Undefined)
        for lane, place in enumerate(_places(context, builder, signature.args[0], *arguments)):
            lanes = builder.insert_element(lanes, builder.load(place), ir.IntType(32)(lane))
        return lanes

    return (_LANES(columns, types.uint64), generate) if _are_rows(columns) else None


@intrinsic
def _write_column(typing: Any, lanes: Any, columns: Any, at: Any) -> Any:
    """Generate the code of `write_column`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for lane, place in enumerate(_places(context, builder, signature.args[1], *arguments[1:])):
            builder.store(builder.extract_element(arguments[0], ir.IntType(32)(lane)), place)
        return context.get_dummy_value()

    return (types.void(_LANES, columns, types.uint64), generate) if _are_rows(columns) else None


def _are_rows(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.dtype == types.float64 and kind.ndim == 2 and kind.layout == "C"


def _row(context: Any, builder: Any, kind: Any, rows: Any, row: Any) -> Any:
    """Return the address of a row of TOGETHER numbers."""
    data = context.make_array(kind)(context, builder, rows).data
    return builder.bitcast(builder.gep(data, [builder.mul(row, _INT(TOGETHER))]), _VECTOR.as_pointer())


def _places(context: Any, builder: Any, kind: Any, columns: Any, at: Any) -> list[Any]:
    """Return the addresses of column `at` of TOGETHER rows."""
    array = context.make_array(kind)(context, builder, columns)
    length = builder.extract_value(array.shape, 1)
    return [builder.gep(array.data, [builder.add(at, builder.mul(length, _INT(j)))]) for j in range(TOGETHER)]


_Rows = NDArray[np.float64]
zeros = cast("Callable[[], Any]", _zeros)
lanes_of = cast("Callable[[_Rows, SupportsIndex], Any]", _lanes_of)
"""Read a row of an array of shape (any, TOGETHER). Nothing checks that it is there."""
write_lanes = cast("Callable[[Any, _Rows, SupportsIndex], None]", _write_lanes)
"""Write a row of an array of shape (any, TOGETHER)."""
column = cast("Callable[[_Rows, SupportsIndex], Any]", _column)
"""Read a column of an array of shape (TOGETHER, any)."""
write_column = cast("Callable[[Any, _Rows, SupportsIndex], None]", _write_column)
"""Write a column of an array of shape (TOGETHER, any)."""
plus = cast("Callable[[Any, Any], Any]", _plus)
times = cast("Callable[[Any, Any], Any]", _times)
"""Multiply each lane by a number."""


@kernel
def margins_of_several(
    indptr: NDArray[np.int64],
    local: NDArray[np.unsignedinteger],
    values: NDArray[np.float32] | None,
    order: NDArray[np.int64],
    offsets: NDArray[np.int64],
    support: NDArray[np.int32],
    support_offsets: NDArray[np.int64],
    weights: NDArray[np.float64],
    held: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write the margins of rows with several weights; both have TOGETHER rows.

    order, offsets: worker b has the rows order[offsets[b] : offsets[b + 1]]. local: the places of their entries on the
        support of b, support[support_offsets[b] : support_offsets[b + 1]]. held: room for the largest support, shape
        (entries, TOGETHER).
    """
    one = np.uint64(1)
    for b in range(offsets.size - 1):
        first = np.uint64(support_offsets[b])
        for at in range(first, np.uint64(support_offsets[b + 1])):
            write_lanes(column(weights, np.uint64(support[at])), held, at - first)
        for r in range(np.uint64(offsets[b]), np.uint64(offsets[b + 1])):
            row = np.uint64(order[r])
            k, last = np.uint64(indptr[row]), np.uint64(indptr[row + one])
            even, odd = zeros(), zeros()
            while k + one < last:
                x, y = lanes_of(held, np.uint64(local[k])), lanes_of(held, np.uint64(local[k + one]))
                even = plus(even, x if values is None else times(x, values[k]))
                odd = plus(odd, y if values is None else times(y, values[k + one]))
                k += np.uint64(2)
            if k < last:
                x = lanes_of(held, np.uint64(local[k]))
                even = plus(even, x if values is None else times(x, values[k]))
            write_column(plus(even, odd), out, r)


@kernel
def sums_of_several(offsets: NDArray[np.int64], numbers: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write the sum over workers, in their order, of the sums of numbers offsets[b], ..., offsets[b + 1] - 1.

    numbers: shape (TOGETHER, rows). out: shape (1, TOGETHER).
    """
    total = zeros()
    for b in range(offsets.size - 1):
        own = zeros()
        for r in range(np.uint64(offsets[b]), np.uint64(offsets[b + 1])):
            own = plus(own, column(numbers, r))
        total = plus(total, own)
    write_lanes(total, out, np.uint64(0))


@kernel
def scatter_several(
    indptr: NDArray[np.int64],
    local: NDArray[np.unsignedinteger],
    values: NDArray[np.float32] | None,
    order: NDArray[np.int64],
    offsets: NDArray[np.int64],
    support: NDArray[np.int32],
    support_offsets: NDArray[np.int64],
    slopes: NDArray[np.float64],
    own: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Add, worker after worker, the sum of slope times row to `out`, which has TOGETHER rows, as slopes do.

    The rest is as in `margins_of_several`; slopes lie in the order of the rows. own: zeros, as much as `held` there.
    """
    for b in range(offsets.size - 1):
        for r in range(np.uint64(offsets[b]), np.uint64(offsets[b + 1])):
            slope, row = column(slopes, r), np.uint64(order[r])
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                x, at = slope if values is None else times(slope, values[k]), np.uint64(local[k])
                write_lanes(plus(lanes_of(own, at), x), own, at)
        first = np.uint64(support_offsets[b])
        for k in range(first, np.uint64(support_offsets[b + 1])):
            at = np.uint64(support[k])
            write_column(plus(column(out, at), lanes_of(own, k - first)), out, at)
            write_lanes(zeros(), own, k - first)
