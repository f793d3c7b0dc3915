"""Logistic regression."""

from __future__ import annotations

import sys
import warnings
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.datasets import Dataset
from qsim.datasets.block import Block, Rows
from qsim.objectives.base import NoOptimumError, Objective, Optimum, back, margins_of
from qsim.options import number, option
from qsim.weights import Replica

_TOLERANCE = 1e-10
_CACHE_VERSION = 1


@final
@option
class LogisticRegression(Objective):
    """F(w) = (1/n) sum_i log(1 + exp(-y_i <x_i, w>)) + (l2/2) ||w||^2, y_i in {-1, +1}.

    With `intercept` the data gain a last column of ones, whose weight is regularised like the others (as LIBLINEAR
    does). Values are stable for any margin: at +-1e4 they are exact to rounding.

    >>> import numpy as np, qsim
    >>> data = qsim.datasets.load("spark_sample")
    >>> round(qsim.LogisticRegression(l2=0.1).value(np.zeros(16), data), 6)
    0.693147

    Raises ValueError if l2 is negative or not finite.
    """

    l2: float
    intercept: bool = False

    def __post_init__(self) -> None:
        number("l2", self.l2, least=0)

    def design(self, data: Dataset) -> Dataset:
        return data.with_intercept() if self.intercept else data

    def value_and_gradient(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64]]:
        """Return F(w) and its gradient: w has shape (features,), or (features + 1,) with an intercept."""
        from qsim.kernels.csr import logistic_loss, logistic_slopes

        data = self.design(data)
        margin = margins_of(data, w)
        value = logistic_loss(margin, data.labels) / data.rows + 0.5 * self.l2 * float(w @ w)
        logistic_slopes(margin, data.labels, None)
        margin /= data.rows
        return value, back(data, margin) + self.l2 * w

    def error_rate(self, w: NDArray[np.float64], data: Dataset) -> float:
        """Return the share of rows with y <x, w> <= 0: a margin of zero predicts nothing, and counts as wrong."""
        data = self.design(data)
        return float(np.mean(margins_of(data, w) * data.labels <= 0))

    def smoothness(self, data: Dataset) -> float:
        """Return L = l2 + lambda_max(X^T X) / (4 n), an upper bound to within 1e-6 relative."""
        from scipy.sparse.linalg import eigsh

        data = self.design(data)
        matrix = data.to_scipy().astype(np.float64)
        small = matrix if matrix.shape[1] <= matrix.shape[0] else matrix.T.tocsr()
        if not matrix.data.any():
            largest = 0.0
        elif small.shape[1] < 3:  # too small for Lanczos
            largest = float(np.linalg.norm(small.toarray(), 2)) ** 2
        else:
            start = np.random.default_rng(0).standard_normal(small.shape[1])  # orthogonal to no eigenvector
            gram = _hessian(small, np.ones(small.shape[0]), 0.0)
            (largest,) = eigsh(gram, k=1, which="LA", tol=1e-9, v0=start, return_eigenvectors=False)
        return self.l2 + float(largest) * (1 + 1e-7) / (4 * data.rows)

    def optimum(self, data: Dataset) -> Optimum:
        """Return the minimiser to ||grad F|| <= 1e-10, cached on disk under the data's digest.

        Raises NoOptimumError if that is not reached, as with l2 = 0 on separable data.
        """
        from qsim.storage import replacing, user_cache

        name = f"logistic-{data.digest}-{float(self.l2).hex()}-{int(self.intercept)}-{_CACHE_VERSION}.npz"
        path = user_cache() / "optima" / name
        found = self._recall(path, data)
        if found is None:
            if sys.stderr.isatty():
                print(f"qsim: solving for the optimum of {data.name} (cached for later runs) ...", file=sys.stderr)
            found = self._solve(data)
            try:
                with replacing(path) as temporary:
                    np.savez(temporary, weights=found.weights)
            except OSError as error:
                warnings.warn(f"the optimum is not cached, and will be solved for again: {error}", stacklevel=2)
        return found

    def update(self, block: Block, rows: Rows, weights: Replica, step: float) -> Vectors:
        from qsim.kernels.csr import logistic_slopes

        slopes = block.margins(rows, weights)
        logistic_slopes(slopes, block.labels, rows.index)
        counts = np.diff(rows.offsets)
        with np.errstate(over="ignore"):  # an infinite step is refused where the update is compressed
            slopes *= np.repeat((step / np.maximum(counts, 1)).astype(np.float32), counts)
        return block.spread(rows, slopes)

    def _recall(self, path: Any, data: Dataset) -> Optimum | None:
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
        if self.l2 == 0 and _separable(matrix, design.labels):
            raise NoOptimumError(
                f"{self!r} has no minimum on {data!r}: a plane separates the classes (or all but rows on it), so"
                " that ever larger weights are ever better. Use l2 > 0, or run without: simulate(..., optimum=False)"
            )
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
            probability = 1.0 / (1.0 + np.exp(-np.clip(matrix @ found.weights, -700, 700)))
            hessian = _hessian(matrix, probability * (1.0 - probability) / design.rows, self.l2)
            gradient = self.gradient(found.weights, data)
            direction, _ = cg(hessian, -gradient, rtol=1e-4, maxiter=10 * design.features)
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


def _hessian(matrix: Any, curvature: NDArray[np.float64], l2: float) -> Any:
    """Return X^T diag(curvature) X + l2 I, as products with vectors."""
    from scipy.sparse.linalg import LinearOperator

    def product(v: NDArray[np.float64]) -> Any:
        return matrix.T @ (curvature * (matrix @ v)) + l2 * v

    return LinearOperator((matrix.shape[1],) * 2, matvec=product, dtype=np.float64)


def _separable(matrix: Any, labels: NDArray[np.int8]) -> bool:
    """Tell whether some u has y_i <x_i, u> >= 0 for all rows and > 0 for one: a linear program.

    Then, and only then, logistic regression without l2 has no minimum (Albert and Anderson, Biometrika 1984).
    """
    from scipy.optimize import linprog
    from scipy.sparse import diags_array

    signed = diags_array(labels.astype(np.float64)) @ matrix
    found = linprog(
        -np.asarray(signed.sum(axis=0)).ravel(), A_ub=-signed, b_ub=np.zeros(signed.shape[0]), bounds=(-1, 1)
    )
    return bool(found.status == 0 and float(found.fun or 0.0) < -1e-7 * max(1.0, float(abs(signed).max())))
