"""Support vector machines: the hinge loss and its square."""

from __future__ import annotations

from typing import Any, NoReturn, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets import Dataset
from qsim.objectives.linear import LinearModel, Margins
from qsim.objectives.optimum import NoOptimumError, NoSmoothnessError, Optimum
from qsim.options import number, option


@final
@option
class SquaredHinge(LinearModel):
    r"""Support vector machine with the squared hinge loss (L2-SVM) and l2 regularisation.

    .. math::

        F(w) = (1/n) \sum_i \max(0, 1 - y_i \langle x_i, w \rangle)^2 + (\lambda/2) \|w\|^2,

    :math:`y_i` in {-1, +1}. :math:`L = \lambda + 2 \lambda_\max(X^T X) / n`, :math:`\mu = \lambda`.

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
    The gradient is continuous, with a kink at margins :math:`y z = 1`; the second derivative counts as 0 there, 2 below
    and 0 above (the generalised Hessian of Newton's method for it [1]_).

    References
    ----------
    .. [1] Mangasarian, "A finite Newton method for classification", Optimization Methods and Software 17, 2002.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> data = qsim.datasets.load("spark_sample")
    >>> float(qsim.objectives.SquaredHinge(l2=0.1).value(np.zeros(16), data))
    1.0
    """

    l2: float

    def __post_init__(self) -> None:
        number("l2", self.l2, least=0)

    def loss(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        return np.asarray(_short(margins.astype(np.float64), labels) ** 2)

    def slope(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        return -2 * labels * _short(margins, labels)

    def curvature(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        return 2 * (_short(margins, labels) > 0).astype(margins.dtype)

    def curvature_bound(self) -> float:
        """Return 2."""
        return 2.0

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(l2=0.1),)


@final
@option
class Hinge(LinearModel):
    r"""Support vector machine with the hinge loss (L1-SVM) and l2 regularisation.

    .. math::

        F(w) = (1/n) \sum_i \max(0, 1 - y_i \langle x_i, w \rangle) + (\lambda/2) \|w\|^2,

    :math:`y_i` in {-1, +1}; convex, :math:`\mu = \lambda`, not smooth.

    Parameters
    ----------
    l2 : float
        The factor :math:`\lambda` of the regulariser, at least 0.

    Raises
    ------
    ValueError
        If `l2` is negative or not finite.
    NoSmoothnessError
        For :math:`L` and :math:`L_i`, which do not exist, and so for a method without a step.

    Notes
    -----
    Its gradient is a subgradient: the mean of :math:`-y x` over rows with :math:`y z < 1`, and 0 for the others, also
    at the kink :math:`y z = 1`. It need not be small near the minimum, so the gradient norm of a trace does not tell
    how near that is, and steps must fall, as `qsim.steps.InverseTime` does. No default step or bound is stated. There
    is no product with a Hessian, so NewtonCG refuses it, and no way to the minimum: run with optimum=False.
    `SquaredHinge` is smooth.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> data = qsim.datasets.load("spark_sample")
    >>> float(qsim.objectives.Hinge(l2=0.1).value(np.zeros(16), data))
    1.0
    """

    l2: float

    def __post_init__(self) -> None:
        number("l2", self.l2, least=0)

    def loss(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        return _short(margins.astype(np.float64), labels)

    def slope(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        return np.asarray(-labels * (_short(margins, labels) > 0), margins.dtype)

    def curvature(self, margins: Margins, labels: NDArray[Any]) -> NoReturn:
        """Raise NotImplementedError."""
        raise NotImplementedError(f"{self!r} is not smooth, so it has no Hessian: take LBFGS, or SquaredHinge")

    def curvature_bound(self) -> NoReturn:
        """Raise NoSmoothnessError."""
        raise NoSmoothnessError(
            f"{self!r} is not smooth, so there is no L, and no step follows from theory: give the step"
        )

    def optimum(self, data: Dataset) -> Optimum:
        """Raise NoOptimumError."""
        raise NoOptimumError(f"{self!r} is not smooth, and knows no way to its minimum: simulate(..., optimum=False)")

    def hessian(self, w: NDArray[np.float64], data: Dataset) -> NoReturn:
        """Raise NoOptimumError."""
        raise NoOptimumError(f"{self!r} is not smooth, and knows no way to its minimum: simulate(..., optimum=False)")

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(l2=0.1),)


def _short(margins: Margins, labels: NDArray[Any]) -> Margins:
    """Return what margins lack to 1, in their precision."""
    return np.maximum(1 - labels * margins, margins.dtype.type(0))
