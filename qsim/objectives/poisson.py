"""Poisson regression."""

from __future__ import annotations

from typing import Any, NoReturn, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets import DataError, Dataset
from qsim.datasets.labels import Labels
from qsim.datasets.parts import are_elsewhere
from qsim.objectives.linear import LinearModel, Margins
from qsim.objectives.optimum import NoOptimumError, NoSmoothnessError, Optimum
from qsim.options import number, option

_MOST = 1e150  # a predicted mean whose square is finite


@final
@option
class Poisson(LinearModel):
    r"""Poisson regression with l2 regularisation, for counts.

    .. math::

        F(w) = (1/n) \sum_i (\exp(\langle x_i, w \rangle) - y_i \langle x_i, w \rangle) + (\lambda/2) \|w\|^2,

    :math:`y_i \geq 0`: the negative log-likelihood of :math:`y_i` ~
    :math:`\mathrm{Poisson}(\exp(\langle x_i, w \rangle))`, without the :math:`\log y_i`! that :math:`w` does not
    change. Convex, :math:`\mu = \lambda`.

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
    DataError
        For targets below 0.

    Notes
    -----
    There is no :math:`L`: the second derivative :math:`\exp(z)` of the loss has no bound. No default step or bound is
    stated; a step that is too long overflows, which is told. `LBFGS` and `NewtonCG`, which search along a line, need
    none.

    The error is the mean of :math:`(\exp(\langle x_i, w \rangle) - y_i)^2`, of means up to 1e150.

    References
    ----------
    .. [1] Nelder, Wedderburn, "Generalized linear models", Journal of the Royal Statistical Society A 135, 1972.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> data = qsim.Dataset.from_arrays(np.eye(2), [1.0, 3.0], kind="targets")
    >>> np.exp(qsim.objectives.Poisson(l2=0).optimum(data).weights).round(6).tolist()
    [1.0, 3.0]
    """

    l2: float

    takes = ("targets",)

    def __post_init__(self) -> None:
        number("l2", self.l2, least=0)

    def design(self, data: Dataset) -> Dataset:
        data = super().design(data)
        if not are_elsewhere(data) and data.labels.min() < 0:
            row = int(np.argmax(data.labels < 0))
            raise DataError(f"{self!r} takes counts, targets of at least 0; row {row} has {data.labels[row]:g}")
        return data

    def loss(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        z = margins.astype(np.float64)
        return np.asarray(_exp(z) - labels * z)

    def slope(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        return np.asarray(_exp(margins) - labels, margins.dtype)

    def curvature(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        return _exp(margins)

    def curvature_bound(self) -> NoReturn:
        """Raise NoSmoothnessError."""
        raise NoSmoothnessError(
            f"{self!r} has no L, since exp bends ever more: no step follows from theory, give the step"
        )

    def error_of_margins(self, margins: Margins, data: Dataset | Labels) -> float:
        """Return the mean of (exp(z) - y)^2."""
        return float(np.mean((np.minimum(_exp(margins), _MOST) - data.labels) ** 2))

    def _solve(self, data: Dataset) -> Optimum:
        design = self.design(data)
        if self.l2 == 0 and (are_elsewhere(design) or _without_end(design)):
            raise NoOptimumError(
                f"{self!r} has no minimum on {data!r}, or it is not known whether it has: weights without end may bring"
                " the means of rows with a count of 0 to 0. Use l2 > 0, or run without: simulate(..., optimum=False)"
            )
        return super()._solve(data)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(l2=0.1),)


def _exp(z: Margins) -> Margins:
    with np.errstate(over="ignore"):  # what is not finite is refused where it is compressed
        return np.exp(z)


def _without_end(design: Dataset) -> bool:
    """Tell whether some u has <x_i, u> = 0 for rows with y_i > 0, at most 0 for all others and less for one.

    Then, and only then, F has no minimum without l2: it falls along u for ever. A linear program.
    """
    from scipy.optimize import linprog

    matrix, labels = design.to_scipy().astype(np.float64), design.labels
    counted, zero = matrix[labels > 0], matrix[labels == 0]
    if not zero.shape[0]:
        return False
    equal: dict[str, Any] = {"A_eq": counted, "b_eq": np.zeros(counted.shape[0])} if counted.shape[0] else {}
    found = linprog(
        np.asarray(zero.sum(axis=0)).ravel(), A_ub=zero, b_ub=np.zeros(zero.shape[0]), bounds=(-1, 1), **equal
    )
    return bool(found.status == 0 and float(found.fun or 0.0) < -1e-7 * max(1.0, float(abs(matrix).max())))
