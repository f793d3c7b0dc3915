"""The l1 norm, on which methods take proximal steps."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets import Dataset
from qsim.objectives.base import Objective
from qsim.objectives.logistic import LogisticRegression
from qsim.objectives.optimum import NoOptimumError, Optimum, finished
from qsim.objectives.wrapper import Wrapper
from qsim.options import number, option
from qsim.weights import Weights

_ROUNDS, _STEPS = 20, 200


@final
@option
class WithL1(Wrapper):
    r"""An objective with the l1 norm beside its own regulariser: the lasso, and with l2 the elastic net.

    .. math::

        F(w) = f(w) + l_1 \sum_j |w_j|,

    :math:`f` the other's :math:`F`; the sum is over all weights but those of a `WithIntercept`.

    Parameters
    ----------
    objective : Objective
        The objective :math:`f`.
    l1 : float
        The factor of the norm, at least 0.

    Raises
    ------
    TypeError
        If it is not an objective.
    ValueError
        If `l1` is negative or not finite, or if the objective is in a wrapper that goes around this one; in a run, for
        a method that takes no proximal steps.

    Notes
    -----
    The server does the proximal step, :math:`u_j = \operatorname{sign}(w_j) \max(0, |w_j| - a\, l_1)` with :math:`a`
    the step, exactly, at :math:`O(n)` per round: workers and messages are those of :math:`f`. So do `GradientDescent`,
    `SGD`, `DIANA` and `EF21`; other methods refuse it.

    :math:`L`, :math:`L_i` and :math:`\mu` are those of :math:`f`. As the gradient of :math:`F` counts the subgradient
    of least norm: of coordinate :math:`j` that of :math:`f` plus :math:`l_1 \operatorname{sign}(w_j)`, and where
    :math:`w_j = 0` that of :math:`f`, pulled towards zero by :math:`l_1`. It is zero at minimisers only. Its norm, the
    `gradient_norm` of a trace, is at least that of every prox-gradient mapping
    :math:`(w - \operatorname{prox}(w - a \nabla f(w)))/a` (proof in `docs/theory.md`).

    References
    ----------
    .. [1] Tibshirani, "Regression shrinkage and selection via the lasso", Journal of the Royal Statistical Society B
           58, 1996.
    .. [2] Zou, Hastie, "Regularization and variable selection via the elastic net", ibid. 67, 2005.

    Examples
    --------
    >>> import qsim
    >>> data, objective = qsim.datasets.load("spark_sample"), qsim.WithL1(qsim.LogisticRegression(l2=0.01), l1=0.02)
    >>> optimum = objective.optimum(data)
    >>> optimum.gradient_norm <= 1e-10, int((optimum.weights == 0).sum())
    (True, 8)
    """

    objective: Objective
    l1: float

    place = 2

    def __post_init__(self) -> None:
        Wrapper.__post_init__(self)
        number("l1", self.l1, least=0)

    @property
    def composite(self) -> bool:
        return True

    @property
    def smooth_part(self) -> Objective:
        return self.objective

    def _whole(
        self, w: NDArray[np.float64], value: float, gradient: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]]:
        w, pull = np.asarray(w, np.float64), self._factors(w.size)
        least = np.where(w == 0, _shrunk(gradient, pull), gradient + pull * np.sign(w))
        return value + self.nonsmooth(w), least

    def nonsmooth(self, w: NDArray[np.float64]) -> float:
        return self.l1 * float(np.abs(w[: w.size - self.free]).sum())

    def proximal_step(self, w: Weights, step: float) -> None:
        w.replace(_shrunk(w.dense(), step * self._factors(w.size)))

    def _factors(self, n: int) -> NDArray[np.float64]:
        """Return l1 for every weight that counts in the norm, and 0 for others."""
        return np.where(np.arange(n) < n - self.free, self.l1, 0.0)

    def _solve(self, data: Dataset) -> Optimum:
        """Come near with L-BFGS on w = u - v, u and v at least 0, then take proximal and Newton steps in turns."""
        from scipy.optimize import minimize

        n, smooth = self.design(data).features * self.width, self.smooth_part
        smooth.hessian(np.zeros(n), data)  # which raises where no minimum is known
        pull, step = self._factors(n), 1 / smooth.smoothness(data)

        def split(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            value, gradient = smooth.value_and_gradient(x[:n] - x[n:], data)
            return value + float(pull @ (x[:n] + x[n:])), np.concatenate([gradient + pull, pull - gradient])

        options: Any = {"maxiter": 2000, "maxfun": 4000, "maxcor": 30, "gtol": 1e-8, "ftol": 0.0}
        bounds: Any = [(0, None)] * 2 * n
        found: Any = minimize(
            split, np.zeros(2 * n), args=(), jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        w = Weights(found.x[:n] - found.x[n:])
        for last in range(_ROUNDS - 1, -1, -1):
            try:
                return finished(self, w.dense(), data, free=lambda w: (w != 0) | (pull == 0))
            except NoOptimumError:
                if not last:
                    raise
            for _ in range(_STEPS):
                w.move(-step * smooth.gradient(w.dense(), data))
                self.proximal_step(w, step)
        raise AssertionError

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(LogisticRegression(l2=0.01), l1=0.01),)


def _shrunk(v: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers moved towards zero by so much, and no further."""
    return np.asarray(np.sign(v) * np.maximum(np.abs(v) - by, 0.0))
