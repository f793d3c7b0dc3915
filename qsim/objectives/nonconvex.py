"""The nonconvex regulariser of the usual nonconvex test problem, around any objective."""

from __future__ import annotations

from typing import NoReturn, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets import Dataset, Shards
from qsim.objectives.base import Objective
from qsim.objectives.optimum import NoOptimumError
from qsim.objectives.others import LeastSquares, bounded_penalty, bounded_penalty_curvature
from qsim.objectives.wrapper import Wrapper
from qsim.options import number, option
from qsim.weights import Weights


@final
@option
class WithNonconvex(Wrapper):
    r"""An objective with a nonconvex regulariser beside its own.

    :math:`F(w) = f(w) + \mathrm{weight}\, \sum_j w_j^2 / (1 + w_j^2)`, :math:`f` the other's :math:`F`; the sum is over
    all weights but those of a `WithIntercept`.

    Parameters
    ----------
    objective : Objective
        The objective.
    weight : float
        The factor :math:`\lambda` of the regulariser, at least 0.

    Raises
    ------
    TypeError
        If it is not an objective.
    ValueError
        If `weight` is negative or not finite, or if the objective is in a wrapper that goes around this one.

    Notes
    -----
    With `LogisticRegression(l2=0)` it is `NonconvexLogistic`, whose notes hold here: the second derivative of the
    regulariser lies in [-weight/2, 2 weight], so :math:`L`, :math:`L_i` and that of rows grow by 2 weight; a step on it
    costs :math:`O(n)`; no optimum is known.

    References
    ----------
    .. [1] E.g. Richtarik, Sokolov, Fatkhullin, "EF21", NeurIPS 2021, section 5 (nonconvex logistic regression).

    Examples
    --------
    >>> import numpy as np, qsim
    >>> data = qsim.Dataset.from_arrays(np.eye(3), [1.0, 2.0, 3.0], kind="targets")
    >>> objective = qsim.WithNonconvex(qsim.LeastSquares(l2=0), weight=0.1)
    >>> round(objective.value(np.ones(3), data) - qsim.LeastSquares(l2=0).value(np.ones(3), data), 6)
    0.15
    """

    objective: Objective
    weight: float

    place = 1

    def __post_init__(self) -> None:
        Wrapper.__post_init__(self)
        number("weight", self.weight, least=0)

    def _whole(
        self, w: NDArray[np.float64], value: float, gradient: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]]:
        penalty, pull = self._penalty(w)
        return value + penalty, gradient + pull

    def _penalty(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return what this regulariser adds to value and gradient."""
        value, gradient = bounded_penalty(w[: w.size - self.free], self.weight)
        return value, np.append(gradient, np.zeros(self.free))

    def regulariser(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return self._whole(w, *self.objective.regulariser(w))

    def regulariser_hvp(self, w: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.objective.regulariser_hvp(w, direction) + self._curvature(w) * direction

    def _curvature(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.append(bounded_penalty_curvature(w[: w.size - self.free], self.weight), np.zeros(self.free))

    def apply_l2_step(self, w: Weights, step: float) -> None:
        pull = self._penalty(w.dense())[1]
        self.objective.apply_l2_step(w, step)
        w.move(-step * pull)

    def smoothness(self, data: Dataset) -> float:
        """Return the other's L and 2 weight."""
        return super().smoothness(data) + 2 * self.weight

    def worker_smoothness(self, shards: Shards) -> NDArray[np.float64]:
        return super().worker_smoothness(shards) + 2 * self.weight

    def row_smoothness(self, shards: Shards) -> float:
        return super().row_smoothness(shards) + 2 * self.weight

    def strong_convexity(self, data: Dataset) -> float:
        """Return 0: it is not convex."""
        return 0.0

    def optimum(self, data: Dataset) -> NoReturn:
        """Raise NoOptimumError."""
        raise NoOptimumError(f"{self!r} is not convex, so no minimum is known: run with simulate(..., optimum=False)")

    def hessian(self, w: NDArray[np.float64], data: Dataset) -> NoReturn:
        """Raise NoOptimumError."""
        raise NoOptimumError(f"{self!r} is not convex, so no minimum is known: run with simulate(..., optimum=False)")

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(LeastSquares(l2=0.1), weight=0.1),)
