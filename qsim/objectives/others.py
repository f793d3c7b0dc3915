"""Least squares, and logistic regression with a nonconvex regulariser."""

from __future__ import annotations

from typing import Any, NoReturn, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets import Dataset
from qsim.objectives.eigenvalues import smallest_eigenvalue
from qsim.objectives.linear import LinearModel, Margins
from qsim.objectives.logistic import Logistic
from qsim.objectives.optimum import NoOptimumError, Optimum
from qsim.options import number, option
from qsim.weights import Weights


@final
@option
class LeastSquares(LinearModel):
    r"""Least squares with l2 regularisation (ridge regression).

    .. math::

        F(w) = (1/2n) \sum_i (\langle x_i, w \rangle - y_i)^2 + (\lambda/2) \|w\|^2,

    :math:`y_i` any targets, or the signs -1 and +1. The Hessian is constant:
    :math:`L = \lambda + \lambda_\max(X^T X) / n`, :math:`\mu = \lambda + \lambda_\min(X^T X) / n`.

    Parameters
    ----------
    l2 : float
        The factor :math:`\lambda` of the regulariser, at least 0.

    Raises
    ------
    ValueError
        If `l2` is negative or not finite.

    Notes
    -----
    The error on targets is the mean of :math:`(\langle x_i, w \rangle - y_i)^2`, without the half; on signs it is the
    share of wrong ones.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> data = qsim.datasets.load("spark_sample")
    >>> float(qsim.objectives.LeastSquares(l2=0.1).value(np.zeros(16), data))
    0.5
    """

    l2: float

    takes = ("signs", "targets")

    def __post_init__(self) -> None:
        number("l2", self.l2, least=0)

    def loss(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        return np.asarray(0.5 * (margins.astype(np.float64) - labels) ** 2)

    def slope(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        return np.asarray(margins - labels)

    def curvature(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        return np.ones_like(margins)

    def curvature_bound(self) -> float:
        """Return 1."""
        return 1.0

    def strong_convexity(self, data: Dataset) -> float:
        """Return mu = l2 + lambda_min(X^T X) / n, to rounding; l2 for more than 2,000 features."""
        data = self.design(data)
        return self.l2 + smallest_eigenvalue(data, self.width) / data.rows

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(l2=0.0),)


@final
@option
class NonconvexLogistic(Logistic):
    r"""Logistic regression with a nonconvex regulariser; `WithNonconvex` puts it around other objectives.

    .. math::

        F(w) = (1/n) \sum_i \log(1 + \exp(-y_i \langle x_i, w \rangle)) + \mathrm{weight}\, \sum_j w_j^2 / (1 + w_j^2),

    the usual nonconvex test problem.

    Parameters
    ----------
    weight : float
        The factor :math:`\lambda` of the regulariser, at least 0.

    Raises
    ------
    ValueError
        If `weight` is negative or not finite.

    Notes
    -----
    The regulariser acts on small weights as :math:`(2 \mathrm{weight}/2) \|w\|^2` does, and hardly on large ones; its
    second derivative lies in [-weight/2, 2 weight], so :math:`L` grows by 2 weight. A step on it costs :math:`O(n)`. No
    optimum is known: run with optimum=False, and look at the gradient norm.

    References
    ----------
    .. [1] E.g. Richtarik, Sokolov, Fatkhullin, "EF21", NeurIPS 2021, section 5 (nonconvex logistic regression).

    Examples
    --------
    >>> import numpy as np, qsim
    >>> data = qsim.datasets.load("spark_sample")
    >>> objective = qsim.objectives.NonconvexLogistic(weight=0.1)
    >>> round(objective.value(np.ones(16), data) - qsim.LogisticRegression(l2=0).value(np.ones(16), data), 6)
    0.8
    """

    weight: float

    l2 = 0.0

    def __post_init__(self) -> None:
        number("weight", self.weight, least=0)

    def regulariser(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return bounded_penalty(w, self.weight)

    def regulariser_hvp(self, w: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        return bounded_penalty_curvature(w, self.weight) * direction

    def apply_l2_step(self, w: Weights, step: float) -> None:
        w.move(-step * self.regulariser(w.dense())[1])

    def smoothness(self, data: Dataset) -> float:
        """Return L = 2 weight + lambda_max(X^T X) / (4 n)."""
        return super().smoothness(data) + 2 * self.weight

    def worker_smoothness(self, shards: Any) -> NDArray[np.float64]:
        return super().worker_smoothness(shards) + 2 * self.weight

    def row_smoothness(self, shards: Any) -> float:
        return super().row_smoothness(shards) + 2 * self.weight

    def strong_convexity(self, data: Dataset) -> float:
        """Return 0: it is not convex."""
        return 0.0

    def optimum(self, data: Dataset) -> Optimum:
        """Raise NoOptimumError."""
        raise NoOptimumError(f"{self!r} is not convex, so no minimum is known: run with simulate(..., optimum=False)")

    def hessian(self, w: NDArray[np.float64], data: Dataset) -> NoReturn:
        """Raise NoOptimumError."""
        raise NoOptimumError(f"{self!r} is not convex, so no minimum is known: run with simulate(..., optimum=False)")

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(weight=0.1),)


def bounded_penalty(w: NDArray[np.float64], weight: float) -> tuple[float, NDArray[np.float64]]:
    """Return weight sum_j w_j^2 / (1 + w_j^2), and its gradient."""
    square = w * w
    return weight * float((square / (1 + square)).sum()), weight * 2 * w / (1 + square) ** 2


def bounded_penalty_curvature(w: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Return the second derivatives of `bounded_penalty`, from -weight/2 (at 1) to 2 weight (at 0)."""
    square = w * w
    return np.asarray(weight * 2 * (1 - 3 * square) / (1 + square) ** 3)
