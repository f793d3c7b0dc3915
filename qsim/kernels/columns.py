"""Sums over all rows of workers, column by column: of rows that are met in every round, and so worth another layout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel


@kernel
def count_columns(
    indptr: NDArray[np.int64],
    local: NDArray[np.unsignedinteger],
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    support_offsets: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    """Count the entries of each column of each worker's rows, at the places of its support; counts begin with zeros."""
    for worker in range(row_offsets.size - 1):
        base = np.uint64(support_offsets[worker] - support_offsets[0])
        for r in range(row_offsets[worker], row_offsets[worker + 1]):
            row = np.uint64(rows[r])
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                counts[base + local[k]] += 1


@kernel
def take_columns(
    indptr: NDArray[np.int64],
    local: NDArray[np.unsignedinteger],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    support_offsets: NDArray[np.int64],
    ends: NDArray[np.int64],
    out_rows: NDArray[np.unsignedinteger],
    out_values: NDArray[np.float32] | None,
) -> None:
    """Write the entries of each worker's rows, column by column: their rows, from the worker's first on, and values.

    ends: for each place of the supports, where the entries of its column begin; afterwards, where they end.
    """
    for worker in range(row_offsets.size - 1):
        base = np.uint64(support_offsets[worker] - support_offsets[0])
        for r in range(row_offsets[worker], row_offsets[worker + 1]):
            row = np.uint64(rows[r])
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                at = np.uint64(ends[base + local[k]])
                ends[base + local[k]] += 1
                out_rows[at] = r - row_offsets[worker]
                if values is not None:
                    out_values[at] = values[k]  # type: ignore[index]


@inlined
def _entry(slopes: Any, column_rows: Any, values: Any, k: Any) -> Any:
    """Return slope times an entry."""
    return slopes[column_rows[k]] if values is None else slopes[column_rows[k]] * values[k]


@kernel
def sum_columns(
    starts: NDArray[np.int64],
    column_rows: NDArray[np.unsignedinteger],
    values: NDArray[np.float32] | None,
    places: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    support_offsets: NDArray[np.int64],
    slopes: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write the sum of slope times row for each worker's rows: what `scatter_support` adds to zeros, to the last bit.

    Column c, of those that `take_columns` wrote, has the entries from starts[c] to starts[c + 1] and is written to
    out[places[c]]; the columns of a worker become shorter. Four of them go side by side, each in the order of its rows,
    so that one addition need not wait for the other, and nothing is read that was just written.
    """
    last = np.uint64(0)
    for worker in range(row_offsets.size - 1):
        slope = slopes[row_offsets[worker] : row_offsets[worker + 1]]
        first, last = last, np.uint64(support_offsets[worker + 1] - support_offsets[0])
        for c in range(first, last, np.uint64(4)):
            at0, at1 = np.uint64(starts[c]), np.uint64(starts[min(c + np.uint64(1), last)])
            at2, at3 = np.uint64(starts[min(c + np.uint64(2), last)]), np.uint64(starts[min(c + np.uint64(3), last)])
            end = np.uint64(starts[min(c + np.uint64(4), last)])
            sum0 = sum1 = sum2 = sum3 = np.float32(0)
            for k in range(end - at3):
                sum0 += _entry(slope, column_rows, values, at0 + k)
                sum1 += _entry(slope, column_rows, values, at1 + k)
                sum2 += _entry(slope, column_rows, values, at2 + k)
                sum3 += _entry(slope, column_rows, values, at3 + k)
            for k in range(end - at3, at3 - at2):
                sum0 += _entry(slope, column_rows, values, at0 + k)
                sum1 += _entry(slope, column_rows, values, at1 + k)
                sum2 += _entry(slope, column_rows, values, at2 + k)
            for k in range(at3 - at2, at2 - at1):
                sum0 += _entry(slope, column_rows, values, at0 + k)
                sum1 += _entry(slope, column_rows, values, at1 + k)
            for k in range(at2 - at1, at1 - at0):
                sum0 += _entry(slope, column_rows, values, at0 + k)
            out[places[c]] = sum0
            if c + np.uint64(1) < last:
                out[places[c + np.uint64(1)]] = sum1
            if c + np.uint64(2) < last:
                out[places[c + np.uint64(2)]] = sum2
            if c + np.uint64(3) < last:
                out[places[c + np.uint64(3)]] = sum3
