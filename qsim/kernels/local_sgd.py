"""Many small steps of SGD on logistic regression with l2, one after the other, at the cost of the rows' non-zeros.

Each worker steps on the coordinates of its own support: u <- (1 - a_h l2) u - a_h mean_r slope_r x_r, for every step h
over its next rows. The three kernels take the same steps and differ in how the weights shrink. All are given the start
u_0 on the supports, and write prod_h (1 - a_h l2) u_0 - u_H: what the rows did, exactly zero where no row was.

`steps` holds a_h, float64. Worker b's rows are rows[row_offsets[b] : row_offsets[b + 1]]: `batch` for every step, or,
with batch 0, all of them for every step. `start` is used up.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel

_SMALLEST = 2.0**-32
"""A global scale below this is multiplied into the weights: float32 keeps its digits up to 2^127."""

_LEAST = 2.0**-900
"""A product of shrinkings below this is begun anew: its inverse is still a number."""


@inlined
def _slope(z: np.float32, label: np.int8) -> np.float32:
    """Return the derivative of log(1 + exp(-y z)) in z."""
    y = np.float32(label)
    return np.float32(-y / (np.float32(1.0) + math.exp(y * z)))


@inlined
def _margin(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    row: np.uint64,
    v: NDArray[np.float32],
    apart: np.uint64,
) -> np.float32:
    """Return <x, v> for one row, in four chains of additions, which overlap; v's entries lie 2^apart apart."""
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    k, last = np.uint64(indptr[row]), np.uint64(indptr[row + one])
    a, b, c, d = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    while k + three < last:
        if values is None:
            a += v[np.uint64(local[k]) << apart]
            b += v[np.uint64(local[k + one]) << apart]
            c += v[np.uint64(local[k + two]) << apart]
            d += v[np.uint64(local[k + three]) << apart]
        else:
            a += v[np.uint64(local[k]) << apart] * values[k]
            b += v[np.uint64(local[k + one]) << apart] * values[k + one]
            c += v[np.uint64(local[k + two]) << apart] * values[k + two]
            d += v[np.uint64(local[k + three]) << apart] * values[k + three]
        k += four
    while k < last:
        x = v[np.uint64(local[k]) << apart]
        a += x if values is None else x * values[k]
        k += one
    return (a + b) + (c + d)


@inlined
def _dot(values: NDArray[np.float32] | None, base: np.uint64, read: NDArray[np.float32], size: np.uint64) -> np.float32:
    """Return <x, read> for a row x of `size` entries from `base` on, in four chains of additions."""
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    k = np.uint64(0)
    a, b, c, d = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    while k + three < size:
        if values is None:
            a += read[k]
            b += read[k + one]
            c += read[k + two]
            d += read[k + three]
        else:
            a += read[k] * values[base + k]
            b += read[k + one] * values[base + k + one]
            c += read[k + two] * values[base + k + two]
            d += read[k + three] * values[base + k + three]
        k += four
    while k < size:
        a += read[k] if values is None else read[k] * values[base + k]
        k += one
    return (a + b) + (c + d)


@inlined
def _subtract(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    row: np.uint64,
    by: np.float32,
    v: NDArray[np.float32],
    apart: np.uint64,
) -> None:
    """Subtract by x from v for one row x; v's entries lie 2^apart apart."""
    for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + np.uint64(1)])):
        v[np.uint64(local[k]) << apart] -= by if values is None else by * values[k]


@inlined
def _place(support_offsets: NDArray[np.int64], worker: int) -> tuple[int, int]:
    """Return where a worker's support lies among those of its block."""
    return support_offsets[worker] - support_offsets[0], support_offsets[worker + 1] - support_offsets[0]


@inlined
def _rows_of(row_offsets: NDArray[np.int64], worker: int, batch: int, h: int) -> tuple[int, int]:
    """Return where the rows of a worker's step h begin, and how many they are."""
    first, last = row_offsets[worker], row_offsets[worker + 1]
    if batch == 0 or first == last:
        return first, last - first
    return first + h * batch, batch


@inlined
def _most_rows(row_offsets: NDArray[np.int64], batch: int) -> int:
    """Return how many rows a step of any worker has at most."""
    if batch > 0:
        return batch
    most = 0
    for worker in range(row_offsets.size - 1):
        most = max(most, row_offsets[worker + 1] - row_offsets[worker])
    return most


@kernel
def steps_with_global_scale(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    labels: NDArray[np.int8],
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    batch: int,
    support_offsets: NDArray[np.int64],
    steps: NDArray[np.float64],
    l2: float,
    start: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Walk with u = scale * v: to shrink all weights is one multiplication."""
    change = np.empty(_most_rows(row_offsets, batch), np.float32)
    for worker in range(row_offsets.size - 1):
        low, high = _place(support_offsets, worker)
        v, first = out[low:high], start[low:high]
        v[:] = first
        scale = 1.0
        for h in range(steps.size):
            if scale < _SMALLEST:
                for j in range(v.size):
                    v[j] *= np.float32(scale)
                    first[j] *= np.float32(scale)
                scale = 1.0
            at, count = _rows_of(row_offsets, worker, batch, h)
            after = scale * (1.0 - steps[h] * l2)
            factor = np.float32(steps[h] / (max(count, 1) * after))
            for r in range(count):
                row = np.uint64(rows[np.uint64(at + r)])
                z = np.float32(scale) * _margin(indptr, local, values, row, v, np.uint64(0))
                by = factor * _slope(z, labels[row])
                if count == 1:  # without a way through memory
                    _subtract(indptr, local, values, row, by, v, np.uint64(0))
                else:
                    change[np.uint64(r)] = by
            if count > 1:
                for r in range(count):
                    row = np.uint64(rows[np.uint64(at + r)])
                    _subtract(indptr, local, values, row, change[np.uint64(r)], v, np.uint64(0))
            scale = after
        for j in range(v.size):
            v[j] = np.float32(scale) * (first[j] - v[j])


@kernel
def steps_with_lazy_decay(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    labels: NDArray[np.int8],
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    batch: int,
    support_offsets: NDArray[np.int64],
    steps: NDArray[np.float64],
    l2: float,
    start: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Walk with every weight as it was when it was last touched: it catches up when it is read.

    The catch-up from step g to step h is the quotient of the products of all shrinkings up to h and up to g, begun anew
    before they underflow. A weight and its step lie side by side, so that they come with one read from memory.
    """
    change = np.empty(_most_rows(row_offsets, batch), np.float32)
    product, inverse = np.empty(steps.size + 1), np.empty(steps.size + 1)
    one, read = np.uint64(1), np.empty(64, np.float32)
    for worker in range(row_offsets.size - 1):
        low, high = _place(support_offsets, worker)
        first = start[low:high]
        u = np.empty(2 * first.size, np.float32)
        touched = u.view(np.int32)
        for i in range(first.size):
            u[2 * i], touched[2 * i + 1] = first[i], 0
        product[0] = inverse[0] = 1.0
        for h in range(steps.size):
            at, count = _rows_of(row_offsets, worker, batch, h)
            now, here, shrink = np.int32(h), product[h], 1.0 - steps[h] * l2
            product[h + 1] = here * shrink
            inverse[h + 1] = 1.0 / product[h + 1]
            # What is subtracted now shrinks with the rest when it catches up: it is divided by this step's shrinking.
            factor = np.float32(steps[h] / (max(count, 1) * shrink))
            if count == 1:  # its weights are read once, and written once
                row = np.uint64(rows[np.uint64(at)])
                base, size = np.uint64(indptr[row]), np.uint64(indptr[row + one] - indptr[row])
                if size > np.uint64(read.size):
                    read = np.empty(2 * int(size), np.float32)
                for i in range(size):
                    j = np.uint64(local[base + i]) << one
                    read[i] = np.float32(u[j] * (here * inverse[np.uint64(touched[j + one])]))
                by = factor * _slope(_dot(values, base, read, size), labels[row])
                for i in range(size):
                    j = np.uint64(local[base + i]) << one
                    u[j] = read[i] - (by if values is None else by * values[base + i])
                    touched[j + one] = now
            else:
                for r in range(count):
                    row = np.uint64(rows[np.uint64(at + r)])
                    for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + one])):
                        j = np.uint64(local[k]) << one
                        last = touched[j + one]
                        if last != now:
                            u[j] = np.float32(u[j] * (here * inverse[np.uint64(last)]))
                            touched[j + one] = now
                    z = _margin(indptr, local, values, row, u, one)
                    change[np.uint64(r)] = factor * _slope(z, labels[row])
                for r in range(count):
                    row = np.uint64(rows[np.uint64(at + r)])
                    _subtract(indptr, local, values, row, change[np.uint64(r)], u, one)
            if product[h + 1] < _LEAST:
                for i in range(first.size):
                    u[2 * i] = np.float32(u[2 * i] * (product[h + 1] * inverse[touched[2 * i + 1]]))
                    first[i] = np.float32(first[i] * product[h + 1])
                    touched[2 * i + 1] = h + 1
                product[h + 1] = inverse[h + 1] = 1.0
        end = product[steps.size]
        for i in range(first.size):
            u[2 * i] = np.float32(u[2 * i] * (end * inverse[touched[2 * i + 1]]))
            out[low + i] = np.float32(first[i] * end) - u[2 * i]


@kernel
def steps_with_dense_decay(
    indptr: NDArray[np.int64],
    local: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    labels: NDArray[np.int8],
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    batch: int,
    support_offsets: NDArray[np.int64],
    steps: NDArray[np.float64],
    l2: float,
    start: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Walk as it is written: every step shrinks all weights of the support."""
    slope = np.empty(_most_rows(row_offsets, batch), np.float32)
    for worker in range(row_offsets.size - 1):
        low, high = _place(support_offsets, worker)
        u, first = out[low:high], start[low:high]
        u[:] = first
        for h in range(steps.size):
            at, count = _rows_of(row_offsets, worker, batch, h)
            for r in range(count):
                row = np.uint64(rows[np.uint64(at + r)])
                slope[np.uint64(r)] = _slope(_margin(indptr, local, values, row, u, np.uint64(0)), labels[row])
            shrink = np.float32(1.0 - steps[h] * l2)
            for j in range(u.size):
                u[j] *= shrink
                first[j] *= shrink
            factor = np.float32(steps[h] / max(count, 1))
            for r in range(count):
                row = np.uint64(rows[np.uint64(at + r)])
                _subtract(indptr, local, values, row, factor * slope[np.uint64(r)], u, np.uint64(0))
        for j in range(u.size):
            u[j] = first[j] - u[j]
