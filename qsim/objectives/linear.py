"""Objectives over linear models: a loss of the margin <x, w> and the label of each row."""

from __future__ import annotations

import sys
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.datasets import Dataset, Shards
from qsim.datasets.block import Block, Rows
from qsim.objectives.base import NoOptimumError, Objective, Optimum
from qsim.weights import Replica

_TOLERANCE = 1e-10
_CACHE_VERSION = 2

Margins = NDArray[np.floating]


class LinearModel(Objective):
    """F(w) = (1/n) sum_i loss(<x_i, w>, y_i) + (l2/2) ||w||^2.

    An objective of your own is an `@option` with four methods, in plain NumPy, of margins and labels of equal shape:

    >>> import numpy as np, qsim
    >>> @qsim.option
    ... class SquaredHinge(qsim.objectives.LinearModel):
    ...     l2: float
    ...     def loss(self, margins, labels):
    ...         return 0.5 * np.maximum(0, 1 - labels * margins) ** 2
    ...     def slope(self, margins, labels):
    ...         return -labels * np.maximum(0, 1 - labels * margins)
    ...     def curvature(self, margins, labels):
    ...         return (labels * margins < 1).astype(margins.dtype)
    ...     def most_curved(self):
    ...         return 1.0
    >>> data = qsim.datasets.load("spark_sample")
    >>> float(SquaredHinge(l2=0.1).value(np.zeros(16), data))
    0.5
    """

    @abstractmethod
    def loss(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        """Return the loss of every row."""

    @abstractmethod
    def slope(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        """Return the derivative of the loss in the margin, of every row."""

    @abstractmethod
    def curvature(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        """Return the second derivative of the loss in the margin, of every row."""

    @abstractmethod
    def most_curved(self) -> float:
        """Return a bound on the curvature, whatever the margin."""

    def design(self, data: Dataset) -> Dataset:
        return data

    def value_and_gradient(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64]]:
        """Return F(w) and its gradient: w has shape (features,) of the design."""
        data = self.design(data)
        margin = margins_of(data, w)
        penalty, slope = self.regulariser(np.asarray(w, np.float64))
        value = float(self.loss(margin, data.labels).sum()) / data.rows + penalty
        return value, back(data, self.slope(margin, data.labels) / data.rows) + slope

    def error_rate(self, w: NDArray[np.float64], data: Dataset) -> float:
        """Return the share of rows with y <x, w> <= 0: a margin of zero predicts nothing, and counts as wrong."""
        data = self.design(data)
        return float(np.mean(margins_of(data, w) * data.labels <= 0))

    def smoothness(self, data: Dataset) -> float:
        """Return L = l2 + most_curved lambda_max(X^T X) / n, an upper bound to within 1e-6 relative."""
        data = self.design(data)
        return self.l2 + self.most_curved() * _largest_eigenvalue(data.to_scipy()) / data.rows

    def smoothnesses(self, shards: Shards) -> NDArray[np.float64]:
        matrix, bound = shards.dataset.to_scipy(), np.full(shards.workers, self.l2)
        for worker, (low, high) in enumerate(zip(shards.offsets[:-1], shards.offsets[1:], strict=True)):
            if low < high:
                bound[worker] += self.most_curved() * _largest_eigenvalue(matrix[shards.order[low:high]]) / (high - low)
        return bound

    def row_smoothness(self, shards: Shards) -> float:
        """Return l2 + most_curved max ||x||^2 over the rows x."""
        rows = shards.dataset.to_scipy().astype(np.float64)
        return self.l2 + self.most_curved() * float(rows.multiply(rows).sum(axis=1).max())

    def update(self, block: Block, rows: Rows, weights: Replica, step: float) -> Vectors:
        return block.spread(rows, self._mean(self._slopes(block, rows, weights), rows, step))

    def losses(self, block: Block, rows: Rows, weights: Replica) -> Vectors:
        from qsim.kernels.csr import sums

        margin = block.margins(rows, weights)
        losses = self.loss(margin, block.labels[rows.index])
        value = sums(rows.offsets, self._mean(losses, rows, 1.0).astype(np.float64, copy=False))
        return Vectors(1, np.arange(block.workers + 1), None, value)

    def curved(self, block: Block, rows: Rows, weights: Replica, direction: NDArray[np.floating]) -> Vectors:
        along = block.margins(rows, Replica(direction))
        along *= self.curvature(block.margins(rows, weights), block.labels[rows.index])
        return block.spread(rows, self._mean(along, rows, 1.0))

    def optimum(self, data: Dataset) -> Optimum:
        """Return the minimiser to ||grad F|| <= 1e-10, cached on disk under the data's digest.

        Raises NoOptimumError if that is not reached.
        """
        from qsim.storage import replacing

        path = self._path(data)
        found = None if path is None else self._recall(path, data)
        if found is None:
            if sys.stderr.isatty():
                print(f"qsim: solving for the optimum of {data.name} (cached for later runs) ...", file=sys.stderr)
            found = self._solve(data)
            if path is None:
                return found
            try:
                with replacing(path) as temporary:
                    np.savez(temporary, weights=found.weights)
            except OSError as error:
                warnings.warn(f"the optimum is not cached, and will be solved for again: {error}", stacklevel=2)
        return found

    def _slopes(self, block: Block, rows: Rows, weights: Replica) -> Margins:
        """Return the slopes of rows, in the precision of the weights."""
        margin = block.margins(rows, weights)
        return np.ascontiguousarray(self.slope(margin, block.labels[rows.index]), margin.dtype)

    def _mean(self, numbers: Margins, rows: Rows, step: float) -> Margins:
        """Return numbers of rows times step / (how many rows their worker has)."""
        counts = np.diff(rows.offsets)
        with np.errstate(over="ignore"):  # an infinite step is refused where the update is compressed
            numbers *= np.repeat((step / np.maximum(counts, 1)).astype(numbers.dtype), counts)
        return numbers

    def _path(self, data: Dataset) -> Path | None:
        """Return where the optimum is kept: only for the shipped objectives, whose code the version stands for."""
        from hashlib import sha256

        from qsim.storage import user_cache

        if not type(self).__module__.startswith("qsim."):
            return None
        name = sha256(repr(self).encode()).hexdigest()[:16]
        return user_cache() / "optima" / f"{name}-{data.digest}-{_CACHE_VERSION}.npz"

    def _recall(self, path: Path, data: Dataset) -> Optimum | None:
        """Return the optimum stored at `path` if it can be read and is one."""
        from qsim.storage import read_arrays

        try:
            found = self._judge(read_arrays(path)["weights"], data)
        except (OSError, ValueError, KeyError):
            return None
        return found if found.gradient_norm <= _TOLERANCE else None

    def _judge(self, w: NDArray[np.float64], data: Dataset) -> Optimum:
        value, gradient = self.value_and_gradient(w, data)
        return Optimum(w, value, float(np.linalg.norm(gradient)))

    def _solve(self, data: Dataset) -> Optimum:
        """Come near with L-BFGS, then finish with Newton steps, each solved by conjugate gradients."""
        from scipy.optimize import minimize
        from scipy.sparse.linalg import cg

        design = self.design(data)
        matrix = design.to_scipy().astype(np.float64)
        near = minimize(
            self.value_and_gradient,
            np.zeros(design.features),
            args=(data,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 2000, "maxfun": 4000, "maxcor": 30, "gtol": 1e-8, "ftol": 0.0},
        )
        found = self._judge(near.x, data)
        for _ in range(50):
            if found.gradient_norm <= _TOLERANCE:
                return found
            curvature = self.curvature(matrix @ found.weights, design.labels) / design.rows
            hessian = product_with(matrix, curvature, self.l2)
            direction, _ = cg(hessian, -self.gradient(found.weights, data), rtol=1e-4, maxiter=10 * design.features)
            better = self._line(found, direction, data)
            if better is None:
                break
            found = better
        raise NoOptimumError(
            f"no minimum of {self!r} was found on {data!r}: the gradient norm stays at {found.gradient_norm:.1e},"
            f" above {_TOLERANCE:.0e}. Use a larger l2, or run without the optimum: simulate(..., optimum=False)"
        )

    def _line(self, found: Optimum, direction: NDArray[np.float64], data: Dataset) -> Optimum | None:
        """Halve a Newton step until the gradient norm falls."""
        for halvings in range(30):
            trial = self._judge(found.weights + 0.5**halvings * direction, data)
            if trial.gradient_norm < found.gradient_norm:
                return trial
        return None


def margins_of(data: Dataset, w: Any) -> NDArray[np.float64]:
    """Return <x_i, w> for every row, in float64. Raises ValueError if w has the wrong shape."""
    from qsim.kernels.csr import margins

    weights = np.ascontiguousarray(w, np.float64)
    if weights.shape != (data.features,):
        raise ValueError(f"w must have shape ({data.features},) for {data!r}, found {weights.shape}")
    out = np.empty(data.rows)
    margins(data.indptr, data.indices.view(f"u{data.indices.itemsize}"), data.values, None, weights, out)
    return out


def back(data: Dataset, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return X^T slopes, in float64."""
    from qsim.kernels.csr import scatter

    out = np.zeros(data.features)
    scatter(data.indptr, data.indices.view(f"u{data.indices.itemsize}"), data.values, slopes, out)
    return out


def product_with(matrix: Any, curvature: NDArray[np.float64], l2: float) -> Any:
    """Return X^T diag(curvature) X + l2 I, as products with vectors."""
    from scipy.sparse.linalg import LinearOperator

    def product(v: NDArray[np.float64]) -> Any:
        return matrix.T @ (curvature * (matrix @ v)) + l2 * v

    return LinearOperator((matrix.shape[1],) * 2, matvec=product, dtype=np.float64)


def _largest_eigenvalue(matrix: Any) -> float:
    """Return lambda_max(X^T X), an upper bound to within 1e-6 relative."""
    from scipy.sparse.linalg import eigsh

    matrix = matrix.astype(np.float64)
    small = matrix if matrix.shape[1] <= matrix.shape[0] else matrix.T.tocsr()
    if not matrix.data.any():
        return 0.0
    if small.shape[1] < 3:  # too small for Lanczos
        return float(np.linalg.norm(small.toarray(), 2)) ** 2
    start = np.random.default_rng(0).standard_normal(small.shape[1])  # orthogonal to no eigenvector
    gram = product_with(small, np.ones(small.shape[0]), 0.0)
    (largest,) = eigsh(gram, k=1, which="LA", tol=1e-9, v0=start, return_eigenvectors=False)
    return float(largest) * (1 + 1e-7)
