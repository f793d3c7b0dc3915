"""Symmetric matrices as vectors: the upper triangle, column by column, with the Frobenius norm as its norm."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray


def triangle_length(n: int) -> int:
    """Return how many numbers the triangle of a matrix with n rows has."""
    return n * (n + 1) // 2


def column_starts(n: int) -> NDArray[np.int64]:
    """Return where each column begins."""
    return np.arange(n) * (np.arange(n) + 1) // 2


@lru_cache(maxsize=4)
def places(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and columns of the upper triangle, column by column."""
    column = np.repeat(np.arange(n), np.arange(1, n + 1))
    return np.arange(column.size) - column_starts(n)[column], column


@lru_cache(maxsize=4)
def sizes(n: int) -> NDArray[np.float64]:
    """Return 1 on the diagonal, sqrt(2) off it, where numbers stand for two."""
    row, column = places(n)
    return np.where(row == column, 1.0, sqrt(2))


def triangle_of(matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the triangles of symmetric matrices, shape (..., n, n), of which the upper halves are read."""
    row, column = places(matrix.shape[-1])
    found: NDArray[np.float64] = matrix[..., row, column] * sizes(matrix.shape[-1])
    return found


def matrix_of(triangle: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the symmetric matrices of n rows of triangles, shape (..., n (n + 1)/2)."""
    matrix, (row, column) = np.empty((*triangle.shape[:-1], n, n)), places(n)
    matrix[..., row, column] = matrix[..., column, row] = triangle / sizes(n)
    return matrix
