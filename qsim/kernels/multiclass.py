"""Rows that meet several weights a feature: margins of each, and gradients in the support of their worker.

Weight c of feature j is number j K + c, so that what an entry of a row meets lies side by side. The rows are those of
`kernels.csr`; margins and slopes have shape (rows, K). Softmax regression needs no more than the three last functions.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import trailing_zeros


@kernel
def class_margins(
    indptr: NDArray[np.int64],
    columns: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64] | None,
    weights: NDArray[np.floating],
    out: NDArray[np.floating],
) -> None:
    """Write the K inner products of each row (all if rows is None) with the weights, in the weights' precision."""
    width, one = np.uint64(out.shape[1]), weights.dtype.type(1)
    for r in range(out.shape[0]):
        row = np.uint64(r if rows is None else rows[r])
        out[r] = weights.dtype.type(0)
        for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
            first = np.uint64(columns[k]) * width
            x = one if values is None else weights.dtype.type(values[k])  # read once: stores of sums may not change it
            for c in range(width):
                out[r, c] += weights[first + c] * x


@kernel
def subtract_class_margins(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    support_offsets: NDArray[np.int64],
    moved: NDArray[np.floating],
    out: NDArray[np.floating],
) -> None:
    """Subtract the inner products of each worker's rows with its own vector, which lies on its support.

    Worker b has rows[row_offsets[b] : row_offsets[b + 1]] and moved[K (support_offsets[b] - support_offsets[0]) :].
    """
    width, one = np.uint64(out.shape[1]), moved.dtype.type(1)
    total = np.empty(out.shape[1], moved.dtype)
    for worker in range(row_offsets.size - 1):
        base = np.uint64(support_offsets[worker] - support_offsets[0])
        for r in range(row_offsets[worker], row_offsets[worker + 1]):
            row = np.uint64(rows[r])
            total[:] = moved.dtype.type(0)
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                first = (base + np.uint64(local[k])) * width
                x = one if values is None else moved.dtype.type(values[k])
                for c in range(width):
                    total[c] += moved[first + c] * x
            out[r] -= total


@kernel
def scatter_classes_support(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    slopes: NDArray[np.floating],
    support_offsets: NDArray[np.int64],
    out: NDArray[np.floating],
) -> None:
    """Add slopes times row for each worker's rows, at the places of its columns in its own support.

    Worker b has rows[row_offsets[b] : row_offsets[b + 1]], writes out[K (support_offsets[b] - support_offsets[0]) :].
    """
    width, one = np.uint64(slopes.shape[1]), slopes.dtype.type(1)
    for worker in range(row_offsets.size - 1):
        base = np.uint64(support_offsets[worker] - support_offsets[0])
        for r in range(row_offsets[worker], row_offsets[worker + 1]):
            row = np.uint64(rows[r])
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                first = (base + np.uint64(local[k])) * width
                x = one if values is None else slopes.dtype.type(values[k])
                for c in range(width):
                    out[first + c] += slopes[r, c] * x


@kernel
def scatter_classes_touched(
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
    """Sum slopes times row over each worker's few rows, and write only the K weights of each column that they touch.

    `sums` (K a column) and `marks` (a bit a column) are zeroed scratch for the widest support; they are zero again at
    the end. Returns how many coordinates were written. The cost is K times the non-zeros of the rows, and 1/64 of the
    support.
    """
    width, one = slopes.shape[1], slopes.dtype.type(1)
    written = 0
    out_offsets[0] = 0
    for worker in range(row_offsets.size - 1):
        for r in range(row_offsets[worker], row_offsets[worker + 1]):
            row = np.uint64(rows[r])
            for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
                place = np.uint64(local[k])
                first = place * np.uint64(width)
                x = one if values is None else slopes.dtype.type(values[k])
                for c in range(np.uint64(width)):
                    sums[first + c] += slopes[r, c] * x
                marks[place >> np.uint64(6)] |= np.uint64(1) << (place & np.uint64(63))
        base = support_offsets[worker]
        columns = support_offsets[worker + 1] - base
        for word in range((columns + 63) // 64):
            left = marks[word]
            marks[word] = np.uint64(0)
            while left != np.uint64(0):
                here = np.int64(word) * 64 + np.int64(trailing_zeros(left))
                left &= left - np.uint64(1)
                for c in range(width):
                    out_index[written] = np.int64(support[base + here]) * width + c
                    out_value[written] = sums[here * width + c]
                    sums[here * width + c] = sums.dtype.type(0)
                    written += 1
        out_offsets[worker + 1] = written
    return written


@kernel
def softmax_losses(margin: NDArray[np.floating], labels: NDArray[np.int32], out: NDArray[np.float64]) -> None:
    """Write log(sum_c exp(z_c)) - z_y of each row z of margins, stable for any z."""
    for r in range(out.size):
        top = np.float64(margin[r].max())
        total = 0.0
        for c in range(margin.shape[1]):
            total += math.exp(np.float64(margin[r, c]) - top)
        out[r] = math.log(total) + (top - np.float64(margin[r, labels[r]]))


@kernel
def softmax(margin: NDArray[np.floating]) -> None:
    """Replace each row z of margins by the probabilities exp(z_c) / sum_b exp(z_b), stable for any z."""
    for r in range(margin.shape[0]):
        top = margin[r].max()
        total = margin.dtype.type(0)
        for c in range(margin.shape[1]):
            margin[r, c] = math.exp(margin[r, c] - top)
            total += margin[r, c]
        for c in range(margin.shape[1]):
            margin[r, c] /= total


@kernel
def softmax_hvp(chance: NDArray[np.floating], along: NDArray[np.floating]) -> None:
    """Replace each row v of `along` by (diag(p) - p p^T) v, p the row of probabilities."""
    for r in range(chance.shape[0]):
        mean = along.dtype.type(0)
        for c in range(chance.shape[1]):
            mean += chance[r, c] * along[r, c]
        for c in range(chance.shape[1]):
            along[r, c] = chance[r, c] * (along[r, c] - mean)
