"""Logistic regression."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.block import Block, Rows
from qsim.datasets import Dataset
from qsim.datasets.parts import are_elsewhere
from qsim.l2_decay import L2Decay
from qsim.objectives.linear import LinearModel, Margins
from qsim.objectives.optimum import NoOptimumError, Optimum
from qsim.options import number, option
from qsim.program import Cell, Program, with_plan
from qsim.weights import PlannedReplica, Replica


class Logistic(LinearModel):
    """Base of objectives with the loss log(1 + exp(-y z)) of a margin z. Exact to rounding for any margin."""

    def loss(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        from qsim.kernels.csr import logistic_losses

        out = margins.astype(np.float64)
        logistic_losses(out, labels)
        return out

    def slope(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        from qsim.kernels.csr import logistic_slopes

        out = margins.copy()
        logistic_slopes(out, labels, None)
        return out

    def probability(self, margins: Margins) -> Margins:
        """Return 1 / (1 + exp(-z)) of the margins z, which is the slope of the loss for the label -1."""
        return self.slope(margins, np.full(margins.shape, -1, np.int8))

    def curvature(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        from qsim.kernels.csr import logistic_curvatures

        out = margins.copy()
        logistic_curvatures(out)
        return out

    def curvature_bound(self) -> float:
        """Return 1/4, the curvature at a margin of zero."""
        return 0.25

    def local_steps(
        self,
        block: Block,
        rows: Rows,
        batch: int | None,
        weights: Replica,
        steps: NDArray[np.float64],
        decay: L2Decay,
    ) -> Vectors:
        """Have every worker do steps of SGD, all in one kernel."""
        return block.local_steps(rows, batch, weights, steps, self.l2, decay.kernel)

    def plan_local_steps(
        self,
        program: Program,
        block: Block,
        rows: Rows,
        batch: int,
        weights: PlannedReplica,
        steps: NDArray[np.float64],
        decay: L2Decay,
    ) -> Vectors:
        return block.plan_local_steps(program, rows, batch, weights, steps, self.l2, with_plan(decay).kernel)

    def plan(
        self,
        program: Program,
        block: Block,
        rows: Rows,
        weights: PlannedReplica,
        step: Cell | float,
    ) -> Vectors:
        from qsim.kernels.csr import logistic_slopes
        from qsim.kernels.rounds import scale_by_count

        margin = block.plan_margins(program, rows, weights)
        program.call(logistic_slopes, rows.some(margin), block.labels, block.numbers_of(rows))
        program.call(scale_by_count, rows.offsets, step, margin)
        return block.plan_spread(program, rows, margin)

    def _slopes(self, block: Block, rows: Rows, weights: Replica) -> Margins:
        from qsim.kernels.csr import logistic_slopes

        margin = block.margins(rows, weights)
        logistic_slopes(margin, block.labels, rows.index)
        return margin


@final
@option
class LogisticRegression(Logistic):
    r"""Logistic regression with l2 regularisation.

    .. math::

        F(w) = (1/n) \sum_i \log(1 + \exp(-y_i \langle x_i, w \rangle)) + (\lambda/2) \|w\|^2,

    :math:`y_i` in {-1, +1}. :math:`L = \lambda + \lambda_\max(X^T X) / (4 n)`, :math:`\mu = \lambda`.

    Parameters
    ----------
    l2 : float
        The factor :math:`\lambda` of the regulariser, at least 0.
    intercept : bool, default False
        Whether the data gain a last column of ones, whose weight is regularised like the others (as in LIBLINEAR).

    Raises
    ------
    ValueError
        If `l2` is negative or not finite.

    Notes
    -----
    Values are stable for any margin: at +-1e4 they are exact to rounding.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> data = qsim.datasets.load("spark_sample")
    >>> round(qsim.LogisticRegression(l2=0.1).value(np.zeros(16), data), 6)
    0.693147
    """

    l2: float
    intercept: bool = False

    def __post_init__(self) -> None:
        number("l2", self.l2, least=0)

    def design(self, data: Dataset) -> Dataset:
        data = super().design(data)
        return data.with_intercept() if self.intercept else data

    def _solve(self, data: Dataset) -> Optimum:
        design = self.design(data)
        if self.l2 == 0 and are_elsewhere(design):
            raise NoOptimumError(
                f"whether {self!r} has a minimum on {data!r} is not known: it has none if a plane separates the"
                " classes, and to tell takes all rows in one place. Use l2 > 0, or run without:"
                " simulate(..., optimum=False)"
            )
        if self.l2 == 0 and _separable(design.to_scipy().astype(np.float64), design.labels):
            raise NoOptimumError(
                f"{self!r} has no minimum on {data!r}: a plane separates the classes (or all but rows on it), so"
                " that ever larger weights are ever better. Use l2 > 0, or run without: simulate(..., optimum=False)"
            )
        return super()._solve(data)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(l2=1e-3), cls(l2=0.1, intercept=True)


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
