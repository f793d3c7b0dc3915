"""Multinomial logistic regression."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets import DataError, Dataset
from qsim.datasets.labels import Labels
from qsim.objectives.linear import MarginModel, Margins
from qsim.objectives.optimum import NoOptimumError, Optimum
from qsim.options import number, option, whole


@final
@option
class MultinomialLogistic(MarginModel):
    r"""Multinomial logistic (softmax) regression with l2 regularisation.

    .. math::

        F(w) = (1/n) \sum_i [\log \sum_c \exp(\langle x_i, w_c \rangle) - \langle x_i, w_{y_i} \rangle]
            + (\lambda/2) \|w\|^2.

    Labels :math:`y_i` are classes 0, ..., :math:`K - 1`, with :math:`K` = `classes`. :math:`w` is one vector of
    :math:`K` numbers for each feature: weight :math:`c` of feature :math:`j` is number :math:`j K + c`, so
    `w.reshape(features, K)` has a column for each class.

    .. math::

        L = \lambda + \lambda_\max(X^T X) / (2 n),

    since the Hessian with respect to the margins is at most :math:`(I - 1 1^T / K) / 2` [1]_.

    Parameters
    ----------
    l2 : float
        The factor :math:`\lambda` of the regulariser, at least 0.
    classes : int
        The number :math:`K` of classes, at least 2.
    intercept : bool, default False
        Whether the data gain a last column of ones, whose weights are regularised like the others.

    Raises
    ------
    ValueError
        If `l2` is negative or not finite, or `classes` is below 2.
    DataError
        For data whose labels are not classes, or are more than `classes`.

    Notes
    -----
    A row touches the :math:`K` weights of each of its features, and an update holds those of the features that its rows
    touch: the cost is :math:`O(\text{non-zeros}\, \cdot K)`. All classes have weights: without `l2` a shift of all of
    them changes nothing, and there is no unique minimum.

    References
    ----------
    .. [1] Boehning, "Multinomial logistic regression algorithm", Annals of the Institute of Statistical Mathematics 44,
           1992.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> data = qsim.Dataset.from_arrays(np.eye(3), [0, 1, 2], kind="classes")
    >>> round(qsim.objectives.MultinomialLogistic(l2=0.1, classes=3).value(np.zeros(9), data), 6)
    1.098612
    """

    l2: float
    classes: int
    intercept: bool = False

    takes = ("classes",)

    def __post_init__(self) -> None:
        number("l2", self.l2, least=0)
        whole("classes", self.classes, least=2)

    @property
    def width(self) -> int:
        """K: a weight a class."""
        return int(self.classes)

    def design(self, data: Dataset) -> Dataset:
        data = super().design(data)
        if data.classes > self.classes:
            raise DataError(f"{data!r} has classes up to {data.classes - 1}: say {_code(self, data.classes)}")
        return data.with_intercept() if self.intercept else data

    def loss(self, margins: Margins, labels: NDArray[Any]) -> NDArray[np.float64]:
        from qsim.kernels.multiclass import softmax_losses

        out = np.empty(labels.size)
        softmax_losses(margins, labels, out)
        return out

    def slope(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        chance = _softmax(margins)
        chance[np.arange(labels.size), labels] -= 1
        return chance

    def margin_hvp(self, margins: Margins, along: Margins, labels: NDArray[Any]) -> Margins:
        from qsim.kernels.multiclass import softmax_hvp

        out = along.copy()
        softmax_hvp(_softmax(margins), out)
        return out

    def curvature_bound(self) -> float:
        """Return 1/2, of two classes that share all the probability."""
        return 0.5

    def error_of_margins(self, margins: Margins, data: Dataset | Labels) -> float:
        """Return the share of rows whose class has not the largest margin.

        Of m classes that share the largest, one is predicted by chance: the row counts as 1 - 1/m if its class is among
        them. So at w = 0 the error is 1 - 1/classes, 1/2 for two classes.
        """
        largest = margins == margins.max(axis=1, keepdims=True)
        return float(np.mean(1 - largest[np.arange(data.rows), data.labels] / largest.sum(axis=1)))

    def _solve(self, data: Dataset) -> Optimum:
        if self.l2 == 0:
            raise NoOptimumError(
                f"{self!r} has no one minimum: a shift of the weights of all classes changes nothing. Use l2 > 0, or"
                " run without: simulate(..., optimum=False)"
            )
        return super()._solve(data)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (
            cls(l2=0.01, classes=4),
            cls(l2=0.1, classes=2, intercept=True),
            cls(l2=0.0, classes=3),
        )


def _softmax(margins: Margins) -> Margins:
    from qsim.kernels.multiclass import softmax

    out = margins.copy()
    softmax(out)
    return out


def _code(objective: MultinomialLogistic, classes: int) -> str:
    """Return the objective for more classes, as code."""
    from dataclasses import replace

    return repr(replace(objective, classes=classes))
