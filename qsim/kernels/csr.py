"""Sparse rows against a weight vector: margins, slopes of the loss, and gradients in the support of their worker.

The rows are CSR (`indptr`, `columns` as unsigned integers, `values` or None for all ones). A gradient is two passes
over the rows, one that reads the weights and one that adds to the gradient: a single fused pass is slower, because
weights and gradient together overflow the cache.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import WORDS, prefetch, take_marked_places
from qsim.kernels.exponentials import all_small, exp64, exponential, log1p64

_TILE = 256  # rows whose slopes or losses are computed by vectors, unless a margin is very large

AHEAD = np.uint64(8)
"""So many rows before a row is read, its entries are fetched: at random places of the data, reading waits for them.

(Written out in every kernel: as a function, even one that is inlined, it makes the loop around it twice as slow.)
"""


@kernel
def margins(
    indptr: NDArray[np.int64],
    columns: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64] | None,
    weights: NDArray[np.floating],
    out: NDArray[np.floating],
) -> None:
    """Write the inner product of each row (all of them if rows is None) with the weights, in the weights' precision."""
    one = np.uint64(1)
    zero = weights.dtype.type(0)
    for r in range(np.uint64(out.size)):
        if rows is not None and r + AHEAD < np.uint64(out.size):
            prefetch(columns, np.uint64(indptr[np.uint64(rows[r + AHEAD])]))
        row = np.uint64(r if rows is None else rows[r])
        k, last = np.uint64(indptr[row]), np.uint64(indptr[row + one])
        even, odd = zero, zero  # two chains of additions overlap, which one cannot
        while k + one < last:
            if values is None:
                even += weights[columns[k]]
                odd += weights[columns[k + one]]
            else:
                even += weights[columns[k]] * values[k]
                odd += weights[columns[k + one]] * values[k + one]
            k += np.uint64(2)
        if k < last:
            even += weights[columns[k]] if values is None else weights[columns[k]] * values[k]
        out[r] = even + odd


@kernel
def margins_of_float64(
    indptr: NDArray[np.int64],
    columns: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64],
    vector: NDArray[np.float64],
    scale: float,
    out: NDArray[np.float32],
) -> None:
    """Write the margins of rows with scale times a vector, each of whose entries is rounded to float32 when it is read.

    To the last bit what `margins` writes for the rounded weights, at no cost for those that are not read.
    """
    one = np.uint64(1)
    for r in range(np.uint64(out.size)):
        if r + AHEAD < np.uint64(out.size):
            prefetch(columns, np.uint64(indptr[np.uint64(rows[r + AHEAD])]))
        row = np.uint64(rows[r])
        k, last = np.uint64(indptr[row]), np.uint64(indptr[row + one])
        even, odd = np.float32(0), np.float32(0)
        while k + one < last:
            if values is None:
                even += np.float32(scale * vector[columns[k]])
                odd += np.float32(scale * vector[columns[k + one]])
            else:
                even += np.float32(scale * vector[columns[k]]) * values[k]
                odd += np.float32(scale * vector[columns[k + one]]) * values[k + one]
            k += np.uint64(2)
        if k < last:
            x = np.float32(scale * vector[columns[k]])
            even += x if values is None else x * values[k]
        out[r] = even + odd


@kernel
def lay_out(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    order: NDArray[np.int64],
    out_indptr: NDArray[np.int64],
    out_local: NDArray[np.unsignedinteger],
    out_values: NDArray[np.float32] | None,
) -> None:
    """Copy rows in an order, one behind the other."""
    written = np.uint64(0)
    out_indptr[0] = 0
    for r in range(order.size):
        row = np.uint64(order[r])
        for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
            out_local[written] = local[k]
            if values is not None:
                out_values[written] = values[k]  # type: ignore[index]
            written += np.uint64(1)
        out_indptr[r + 1] = written


@kernel
def gather(vector: NDArray[np.float64], scale: float, support: NDArray[np.int32], out: NDArray[np.float32]) -> None:
    """Write the weights, scale times a vector, at the coordinates of the supports, rounded to float32."""
    for k in range(out.size):
        out[k] = np.float32(scale * vector[np.uint64(support[k])])


@kernel
def margins_on_support(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint16],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64] | None,
    row_offsets: NDArray[np.int64],
    support_offsets: NDArray[np.int64],
    held: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write the margins of each worker's rows with the weights on its support: what `margins` writes for all weights.

    Worker b has rows[row_offsets[b] : row_offsets[b + 1]] and held[support_offsets[b] - support_offsets[0] :]. Without
    `rows`, these are the rows from row_offsets[b] to row_offsets[b + 1].
    """
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for worker in range(row_offsets.size - 1):
        own = held[support_offsets[worker] - support_offsets[0] : support_offsets[worker + 1] - support_offsets[0]]
        for r in range(row_offsets[worker], row_offsets[worker + 1]):
            row = np.uint64(r if rows is None else rows[r])
            k, last = np.uint64(indptr[row]), np.uint64(indptr[row + one])
            even, odd = np.float32(0), np.float32(0)
            while k + three < last:  # four at a time
                if values is None:
                    even += own[local[k]]
                    odd += own[local[k + one]]
                    even += own[local[k + two]]
                    odd += own[local[k + three]]
                else:
                    even += own[local[k]] * values[k]
                    odd += own[local[k + one]] * values[k + one]
                    even += own[local[k + two]] * values[k + two]
                    odd += own[local[k + three]] * values[k + three]
                k += np.uint64(4)
            while k + one < last:
                if values is None:
                    even += own[local[k]]
                    odd += own[local[k + one]]
                else:
                    even += own[local[k]] * values[k]
                    odd += own[local[k + one]] * values[k + one]
                k += two
            if k < last:
                even += own[local[k]] if values is None else own[local[k]] * values[k]
            out[r] = even + odd


@kernel
def single_rows(
    indptr: NDArray[np.int64],
    columns: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    slopes: NDArray[np.float32],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
    out_value: NDArray[np.float32],
) -> None:
    """Write slope times row for workers with one row each, or none: what `scatter_touched` sums then."""
    written = np.uint64(0)
    out_offsets[0] = 0
    for worker in range(row_offsets.size - 1):
        for r in range(row_offsets[worker], row_offsets[worker + 1]):
            row, slope = np.uint64(rows[r]), slopes[r]
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                out_index[written] = columns[k]
                out_value[written] = np.float32(0) + (slope if values is None else slope * values[k])
                written += np.uint64(1)
        out_offsets[worker + 1] = written


@kernel
def subtract_margins(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    support_offsets: NDArray[np.int64],
    moved: NDArray[np.floating],
    out: NDArray[np.floating],
) -> None:
    """Subtract the inner product of each worker's rows with its own vector, which lies on its support.

    Worker b has rows[row_offsets[b] : row_offsets[b + 1]] and moved[support_offsets[b] - support_offsets[0] :].
    """
    for worker in range(row_offsets.size - 1):
        base = np.uint64(support_offsets[worker] - support_offsets[0])
        for r in range(row_offsets[worker], row_offsets[worker + 1]):
            row = np.uint64(rows[r])
            total = moved.dtype.type(0)
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                total += moved[base + local[k]] if values is None else moved[base + local[k]] * values[k]
            out[r] -= total


@kernel
def nonzeros_of(indptr: NDArray[np.int64], rows: NDArray[np.int64]) -> int:
    """Return how many non-zeros the rows have together."""
    total = 0
    for r in range(rows.size):
        row = np.uint64(rows[r])
        total += indptr[row + np.uint64(1)] - indptr[row]
    return total


@kernel
def logistic_slopes(margin: NDArray[np.floating], labels: NDArray[np.int8], rows: NDArray[np.int64] | None) -> None:
    """Replace each margin z by the derivative of log(1 + exp(-y z)), which is -y / (1 + exp(y z))."""
    one = margin.dtype.type(1)
    signs = np.empty(min(_TILE, margin.size), margin.dtype)
    for low in range(0, margin.size, _TILE):
        part = margin[low : low + _TILE]
        for r in range(part.size):
            signs[r] = labels[low + r if rows is None else rows[low + r]]
        if all_small(part):
            for r in range(part.size):
                part[r] = -signs[r] / (one + exponential(signs[r] * part[r]))
        else:
            for r in range(part.size):
                part[r] = -signs[r] / (one + math.exp(signs[r] * part[r]))


@kernel
def logistic_losses(margin: NDArray[np.float64], labels: NDArray[np.int8]) -> None:
    """Replace each margin z by log(1 + exp(-y z)), stable for any z."""
    small = np.empty(min(_TILE, margin.size))
    for low in range(0, margin.size, _TILE):
        part, signs = margin[low : low + _TILE], labels[low : low + _TILE]
        vectors = all_small(part)
        for r in range(part.size):
            part[r] *= signs[r]
        if vectors:  # two loops need fewer registers than one
            for r in range(part.size):
                small[r] = exp64(-abs(part[r]))
            for r in range(part.size):
                part[r] = max(-part[r], 0.0) + log1p64(small[r])
        else:
            for r in range(part.size):
                part[r] = max(-part[r], 0.0) + math.log1p(math.exp(-abs(part[r])))


@kernel
def logistic_curvatures(margin: NDArray[np.floating]) -> None:
    """Replace each margin z by the second derivative of log(1 + exp(-y z)): p (1 - p) with p = 1/(1 + exp(z))."""
    one = margin.dtype.type(1)
    for r in range(margin.size):
        small = math.exp(-abs(margin[r]))
        margin[r] = small / ((one + small) * (one + small))


@kernel
def wrong_sums(
    offsets: NDArray[np.int64], margin: NDArray[np.float64], labels: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Return how many rows of each run have a margin without the sign of their label; one of zero counts as half.

    NaN if a margin of the run is not a number.
    """
    out = np.zeros(offsets.size - 1)
    for b in range(out.size):
        halves, unknown = 0, False
        for r in range(np.uint64(offsets[b]), np.uint64(offsets[b + 1])):
            m = margin[r] * labels[r]
            halves += 2 * int(m < 0.0) + int(m == 0.0)
            unknown |= m != m
        out[b] = np.nan if unknown else halves / 2.0
    return out


@kernel
def sums(offsets: NDArray[np.int64], numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of each run numbers[offsets[b] : offsets[b + 1]], added up in order."""
    out = np.zeros(offsets.size - 1)
    for b in range(out.size):
        for k in range(offsets[b], offsets[b + 1]):
            out[b] += numbers[k]
    return out


@kernel
def scatter(
    indptr: NDArray[np.int64],
    columns: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    slopes: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Add slope times row to `out`, for every row of the data: X^T slopes."""
    for r in range(slopes.size):
        slope = slopes[r]
        for k in range(np.uint64(indptr[r]), np.uint64(indptr[r + 1])):
            out[columns[k]] += slope if values is None else slope * values[k]


@kernel
def scatter_support(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    slopes: NDArray[np.floating],
    support_offsets: NDArray[np.int64],
    out: NDArray[np.floating],
) -> None:
    """Add slope times row for each worker's rows, at the places of its columns in its own support.

    Worker b has rows[row_offsets[b] : row_offsets[b + 1]] and writes out[support_offsets[b] - support_offsets[0] :].
    """
    for worker in range(row_offsets.size - 1):
        base = np.uint64(support_offsets[worker] - support_offsets[0])
        for r in range(np.uint64(row_offsets[worker]), np.uint64(row_offsets[worker + 1])):
            if r + AHEAD < np.uint64(rows.size):
                prefetch(local, np.uint64(indptr[np.uint64(rows[r + AHEAD])]))
            row = np.uint64(rows[r])
            slope = slopes[r]
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                out[base + local[k]] += slope if values is None else slope * values[k]


@kernel
def scatter_touched(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    slopes: NDArray[np.floating],
    support: NDArray[np.int32],
    support_offsets: NDArray[np.int64],
    sums: NDArray[np.floating],
    marks: NDArray[np.uint64],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
    out_value: NDArray[np.floating],
) -> int:
    """Sum slope times row over each worker's few rows, and write only the coordinates that they touch, in order.

    `sums` and `marks` (a bit a coordinate) are zeroed scratch for the widest support; they are zero again at the end.
    Returns how many coordinates were written. The cost is the non-zeros of the rows and 1/64 of the support.
    """
    end = np.uint64(row_offsets[row_offsets.size - 1])
    written, places = np.uint64(0), np.empty(64 * WORDS + 4, np.int64)
    out_offsets[0] = 0
    for worker in range(row_offsets.size - 1):
        for r in range(np.uint64(row_offsets[worker]), np.uint64(row_offsets[worker + 1])):
            if r + AHEAD < end:
                prefetch(local, np.uint64(indptr[np.uint64(rows[r + AHEAD])]))
            row = np.uint64(rows[r])
            slope = slopes[r]
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                place = np.uint64(local[k])
                sums[place] += slope if values is None else slope * values[k]
                marks[place >> np.uint64(6)] |= np.uint64(1) << (place & np.uint64(63))
        base = np.uint64(support_offsets[worker])
        words = (support_offsets[worker + 1] - support_offsets[worker] + 63) // 64
        for word in range(0, words, WORDS):
            for k in range(take_marked_places(marks, word, min(word + WORDS, words), places)):
                here = np.uint64(places[k])
                out_index[written] = support[base + here]
                out_value[written] = sums[here]
                sums[here] = sums.dtype.type(0)
                written += np.uint64(1)
        out_offsets[worker + 1] = written
    return int(written)


@kernel
def scatter_short(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    slopes: NDArray[np.floating],
    support: NDArray[np.int32],
    support_offsets: NDArray[np.int64],
    sums: NDArray[np.floating],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
    out_value: NDArray[np.floating],
) -> int:
    """As `scatter_touched`, for rows with more non-zeros than their worker's support has coordinates.

    `sums` holds negative zeros, to which nothing was added yet, and holds them again at the end. So there is nothing to
    mark: what is added is never a negative zero, as 0.0 is added to it first. The cost is non-zeros and support.
    """
    written = np.uint64(0)
    untouched, zero = sums.dtype.type(-0.0), sums.dtype.type(0.0)
    out_offsets[0] = 0
    for worker in range(row_offsets.size - 1):
        for r in range(row_offsets[worker], row_offsets[worker + 1]):
            row = np.uint64(rows[r])
            slope = slopes[r]
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                sums[local[k]] += zero + (slope if values is None else slope * values[k])
        base = np.uint64(support_offsets[worker])
        for here in range(np.uint64(support_offsets[worker + 1]) - base):
            total = sums[here]
            out_index[written] = support[base + here]
            out_value[written] = total
            sums[here] = untouched
            written += np.uint64(total != untouched or not np.signbit(total))
        out_offsets[worker + 1] = written
    return int(written)
