"""The extreme eigenvalues of X^T X, of rows that are here and of rows that only their workers have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.datasets import Dataset
from qsim.datasets.parts import RowsElsewhere

_MANY = 2000  # columns: their smallest eigenvalue takes a second, and grows with the cube
_Product = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def largest_eigenvalue(data: Dataset | RowsElsewhere, width: int) -> float:
    """Return lambda_max(X^T X), an upper bound to within 1e-6 relative, for an objective with a width."""
    if isinstance(data, Dataset):
        return largest_of_matrix(data.to_scipy())
    if len(data.parts) == 1:
        return _of_one_part("largest eigenvalue", data, width)
    product = _gram_elsewhere(data, width)
    if not product(_start(data.features)).any():
        return 0.0
    if data.features < 3:
        return float(np.linalg.eigvalsh(_columns(product, data.features))[-1])
    return _by_lanczos(product, data.features)


def largest_of_matrix(matrix: Any) -> float:
    """Return lambda_max(X^T X), an upper bound to within 1e-6 relative."""
    matrix = matrix.astype(np.float64)
    small = matrix if matrix.shape[1] <= matrix.shape[0] else matrix.T.tocsr()
    if not matrix.data.any():
        return 0.0
    if small.shape[1] < 3:  # too small for Lanczos
        return float(np.linalg.norm(small.toarray(), 2)) ** 2
    return _by_lanczos(lambda v: small.T @ (small @ v), small.shape[1])


def _by_lanczos(product: _Product, size: int) -> float:
    """Return the largest eigenvalue of a positive semidefinite matrix, not zero, by products with it."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    gram = LinearOperator((size,) * 2, matvec=product, dtype=np.float64)
    (largest,) = eigsh(gram, k=1, which="LA", tol=1e-9, v0=_start(size), return_eigenvectors=False)
    return float(largest) * (1 + 1e-7)


def _start(size: int) -> NDArray[np.float64]:
    """Return a vector that is orthogonal to no eigenvector."""
    return np.random.default_rng(0).standard_normal(size)


def _of_one_part(task: str, data: RowsElsewhere, width: int) -> float:
    """Return what the one worker finds that has all rows: the same as where they are in this process."""
    return float(data.total(task, np.zeros(data.features * width), 1)[0])


def _gram_elsewhere(data: RowsElsewhere, width: int) -> _Product:
    """Return the product of a vector with X^T X, to which the workers contribute that have the rows."""

    def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.zeros((data.features, width))
        whole[:, 0] = v.ravel()  # as the weights of one class
        return data.mean("gram", whole.ravel(), whole.size).reshape(whole.shape)[:, 0] * data.rows

    return product


def _columns(product: _Product, size: int) -> NDArray[np.float64]:
    """Return a symmetric matrix by products with it."""
    return np.stack([product(v) for v in np.eye(size)])


def smallest_eigenvalue(data: Dataset | RowsElsewhere, width: int) -> float:
    """Return lambda_min(X^T X), to within 1e-14 of the largest; 0 for more columns than rows, and for many columns."""
    if data.features > min(data.rows, _MANY):
        return 0.0
    if isinstance(data, Dataset):
        matrix = data.to_scipy().astype(np.float64)
        gram = (matrix.T @ matrix).toarray()
    elif len(data.parts) == 1:
        return _of_one_part("smallest eigenvalue", data, width)
    else:
        gram = _columns(_gram_elsewhere(data, width), data.features)
    return max(0.0, float(np.linalg.eigvalsh(gram)[0]))
