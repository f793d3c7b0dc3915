"""Matrices of low rank: near others, in one step or the best ones; and the products of two factors.

Of a batch, a matrix a row, of `d` rows and `c` columns, row by row. Sums are in float64, in an order that depends on
their length alone (`_dot`), so that bits do not depend on the threads of a library.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel

_SWEEPS = 40
_SMALL = 2.0**-40


@kernel
def subspace_steps(
    value: NDArray[np.float32],
    d: int,
    c: int,
    start: NDArray[np.float64],
    left: NDArray[np.float32],
    right: NDArray[np.float32],
) -> None:
    """Write P, an orthonormal basis of what M makes of the columns of `start`, and M^T P, for every matrix M.

    start: (matrices, r, c), its columns as rows. left: (matrices, d, r), and right: (matrices, c, r). Columns that
    depend on those before are zero.
    """
    rank = start.shape[1]
    p, q = np.empty((rank, d)), np.empty((rank, c))
    for k in range(start.shape[0]):
        matrix = value[k * d * c : (k + 1) * d * c].reshape(d, c)
        _times(matrix, start[k], p)
        for a in range(rank):
            _orthonormalise(p, a)
        _store(p, left[k])
        for a in range(rank):
            for i in range(d):
                p[a, i] = left[k, i, a]
        _transposed_times(matrix, p, q)
        _store(q, right[k])


@kernel
def best_factors(
    value: NDArray[np.float32], d: int, c: int, left: NDArray[np.float32], right: NDArray[np.float32]
) -> None:
    """Write factors whose product is nearest to every matrix, of the rank of their last axis.

    By the eigenvectors of M^T M, or of M M^T if that is smaller. left: (matrices, d, r), and right: (matrices, c, r);
    the shorter factors are orthonormal.
    """
    rank, few, wide = left.shape[2], min(c, d), c > d
    gram, turned = np.empty((few, few)), np.empty((few, few))
    chosen, other = np.empty((rank, few)), np.empty((rank, max(c, d)))
    for k in range(left.shape[0]):
        matrix = value[k * d * c : (k + 1) * d * c].reshape(d, c)
        _gram(matrix, wide, gram)
        _diagonalise(gram, turned)
        for a in range(rank):
            best = 0
            for j in range(few):
                if gram[j, j] > gram[best, best]:
                    best = j
            gram[best, best] = -1.0
            chosen[a] = turned[best]
        if wide:
            _transposed_times(matrix, chosen, other)
            _store(chosen, left[k])
            _store(other, right[k])
        else:
            _times(matrix, chosen, other)
            _store(other, left[k])
            _store(chosen, right[k])


@kernel
def products(left: NDArray[np.float32], right: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write the product of every left factor with the transpose of the right one."""
    d, c, rank = left.shape[1], right.shape[1], left.shape[2]
    rows, total = np.empty((rank, c)), np.empty(c)
    for k in range(left.shape[0]):
        matrix = out[k * d * c : (k + 1) * d * c].reshape(d, c)
        for a in range(rank):
            for j in range(c):
                rows[a, j] = right[k, j, a]
        for i in range(d):
            total[:] = 0.0
            for a in range(rank):
                weight, row = np.float64(left[k, i, a]), rows[a]
                for j in range(c):
                    total[j] += weight * row[j]
            for j in range(c):
                matrix[i, j] = np.float32(total[j])


@kernel
def _times(matrix: NDArray[np.float32], columns: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write the matrix times columns, which are rows of `columns` and of `out`."""
    row = np.empty(matrix.shape[1])
    for i in range(matrix.shape[0]):
        for j in range(row.size):
            row[j] = matrix[i, j]
        for a in range(columns.shape[0]):
            out[a, i] = _dot(row, columns[a])


@kernel
def _transposed_times(matrix: NDArray[np.float32], columns: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write the transpose of the matrix times columns, which are rows of `columns` and of `out`, row after row."""
    out[:] = 0.0
    for i in range(matrix.shape[0]):
        entries = matrix[i]
        for a in range(columns.shape[0]):
            weight, row = columns[a, i], out[a]
            for j in range(row.size):
                row[j] += np.float64(entries[j]) * weight


@kernel
def _gram(matrix: NDArray[np.float32], wide: bool, out: NDArray[np.float64]) -> None:
    """Write M M^T if it is wide, and otherwise M^T M."""
    out[:] = 0.0
    if wide:
        rows = matrix.astype(np.float64)
        for i in range(out.shape[0]):
            for j in range(i + 1):
                out[i, j] = out[j, i] = _dot(rows[i], rows[j])
        return
    row = np.empty(matrix.shape[1])
    for i in range(matrix.shape[0]):
        for j in range(row.size):
            row[j] = matrix[i, j]
        for a in range(row.size):
            weight, sums = row[a], out[a]
            for j in range(row.size):
                sums[j] += weight * row[j]


@kernel
def _diagonalise(a: NDArray[np.float64], turned: NDArray[np.float64]) -> None:
    """Make a symmetric matrix diagonal, by Jacobi's rotations of two rows and columns; write its eigenvectors as rows.

    Each rotation makes one entry off the diagonal zero.
    """
    n = a.shape[0]
    turned[:] = 0.0
    for i in range(n):
        turned[i, i] = 1.0
    for _ in range(_SWEEPS):
        some = False
        for i in range(n):
            for j in range(i + 1, n):
                if np.abs(a[i, j]) > 2.0**-52 * np.sqrt(np.abs(a[i, i] * a[j, j])):
                    some = True
                    zeta = (a[j, j] - a[i, i]) / (2.0 * a[i, j])
                    tangent = np.copysign(1.0, zeta) / (np.abs(zeta) + np.hypot(1.0, zeta))
                    cosine = 1.0 / np.hypot(1.0, tangent)
                    sine = cosine * tangent
                    for m in range(n):
                        x, y = a[i, m], a[j, m]
                        a[i, m], a[j, m] = cosine * x - sine * y, sine * x + cosine * y
                    for m in range(n):
                        x, y = a[m, i], a[m, j]
                        a[m, i], a[m, j] = cosine * x - sine * y, sine * x + cosine * y
                    for m in range(n):
                        x, y = turned[i, m], turned[j, m]
                        turned[i, m], turned[j, m] = cosine * x - sine * y, sine * x + cosine * y
        if not some:
            break


@kernel
def _orthonormalise(p: NDArray[np.float64], a: int) -> None:
    """Take the rows before out of row a, twice, and give it length 1; or 0, if next to nothing is left."""
    row, before = p[a], 0.0
    for i in range(row.size):
        before = max(before, np.abs(row[i]))
    if before > 0.0:
        for i in range(row.size):
            row[i] /= before
        first = np.sqrt(_dot(row, row))
        for _ in range(2):
            for b in range(a):
                part, other = _dot(row, p[b]), p[b]
                for i in range(row.size):
                    row[i] -= part * other[i]
        length = np.sqrt(_dot(row, row))
        if length > _SMALL * first:
            for i in range(row.size):
                row[i] /= length
        else:
            row[:] = 0.0


@kernel
def _dot(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the inner product: eight sums of every eighth term, what is behind the last eight with the first."""
    a, b, c, d, e, f, g, h = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = x.size // 8 * 8
    for j in range(0, whole, 8):
        a += x[j] * y[j]
        b += x[j + 1] * y[j + 1]
        c += x[j + 2] * y[j + 2]
        d += x[j + 3] * y[j + 3]
        e += x[j + 4] * y[j + 4]
        f += x[j + 5] * y[j + 5]
        g += x[j + 6] * y[j + 6]
        h += x[j + 7] * y[j + 7]
    for j in range(whole, x.size):
        a += x[j] * y[j]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@kernel
def _store(rows: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    """Write rows as columns."""
    for a in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            out[i, a] = np.float32(rows[a, i])
