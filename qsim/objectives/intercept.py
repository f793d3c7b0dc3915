"""An intercept that is not regularised."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets import Dataset
from qsim.datasets.parts import are_elsewhere
from qsim.objectives.base import Objective
from qsim.objectives.logistic import Logistic, LogisticRegression
from qsim.objectives.multinomial import MultinomialLogistic
from qsim.objectives.optimum import NoOptimumError, Optimum, Product
from qsim.objectives.wrapper import Wrapper
from qsim.options import option
from qsim.weights import Weights


@final
@option
class WithIntercept(Wrapper):
    r"""An objective with an intercept that is not regularised.

    The data gain a last column of ones, and :math:`r` leaves out the weights of that column: it is the other's
    :math:`r` with the last ones put to zero. Rows, messages and steps stay as sparse as they are.

    Parameters
    ----------
    objective : Objective
        The objective, without an intercept of its own and not in another wrapper.

    Raises
    ------
    TypeError
        If it is not an objective.
    ValueError
        If it has an intercept already, or is in another wrapper, which goes around this one.

    Notes
    -----
    :math:`L`, :math:`L_i` and the :math:`L` of rows are those of the data with the column, and of an :math:`r` on all
    weights: upper bounds. :math:`F` is as convex along the intercept as its loss, so that of :math:`\mu` only what
    exceeds `l2` is left: 0 for logistic regression, with which no bound is stated. `LocalSGD`, which takes the
    regulariser for `l2` on all weights, refuses it.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> data, objective = qsim.datasets.load("spark_sample"), qsim.WithIntercept(qsim.LogisticRegression(l2=0.1))
    >>> w = np.zeros(17)
    >>> w[-1] = 2.0  # 2 more in every margin, at no cost in r
    >>> objective.regulariser(w)[0], objective.strong_convexity(data)
    (0.0, 0.0)
    """

    objective: Objective

    place = 0

    def __post_init__(self) -> None:
        Wrapper.__post_init__(self)
        if getattr(self.objective, "intercept", False):
            raise ValueError(f"{self.objective!r} has an intercept already, which is regularised: leave that one out")

    @property
    def free(self) -> int:
        return self.width

    def _inside(self, data: Dataset) -> Dataset:
        return data.with_intercept()

    def _whole(
        self, w: NDArray[np.float64], value: float, gradient: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]]:
        w = np.asarray(w, np.float64)
        every, own = self.objective.regulariser(w), self.regulariser(w)
        return value + (own[0] - every[0]), gradient + (own[1] - every[1])

    def strong_convexity(self, data: Dataset) -> float:
        """Return the other's mu less l2, or 0: F is the other's F less (l2/2) times the square of the intercept."""
        return max(0.0, super().strong_convexity(data) - self.l2)

    def _solve(self, data: Dataset) -> Optimum:
        if not self.l2:  # nothing is regularised
            return self.objective.optimum(self._inside(data))
        design = self.design(data)
        known = isinstance(self.innermost, (Logistic, MultinomialLogistic)) and not are_elsewhere(design)
        if known and np.unique(design.labels).size < max(2, self.width):
            raise NoOptimumError(
                f"{self!r} has no minimum on {data!r}: a class without rows is the less likely, the lower its"
                " intercept. Leave it out, or run without: simulate(..., optimum=False)"
            )
        return super()._solve(data)

    def hessian(self, w: NDArray[np.float64], data: Dataset) -> Product:
        product = super().hessian(w, data)

        def without(v: NDArray[np.float64]) -> NDArray[np.float64]:
            return product(v) + (self.regulariser_hvp(w, v) - self.objective.regulariser_hvp(w, v))

        return without

    def regulariser(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = self.objective.regulariser(self._regularised(w))
        return value, self._regularised(gradient)

    def regulariser_hvp(self, w: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._regularised(self.objective.regulariser_hvp(self._regularised(w), self._regularised(direction)))

    def apply_l2_step(self, w: Weights, step: float) -> None:
        last = np.arange(w.size - self.free, w.size)
        own = w.at(last)
        w.put(last, np.zeros(self.free))
        self.objective.apply_l2_step(w, step)
        w.put(last, own)

    def _regularised(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a vector with zeros for the intercept."""
        found = v.copy()
        found[v.size - self.free :] = 0.0
        return found

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(LogisticRegression(l2=0.1)),)
