"""An objective whose regulariser the workers take into what they send."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.block import Block, Rows
from qsim.datasets import Dataset
from qsim.l2_decay import L2Decay
from qsim.objectives.base import Objective
from qsim.objectives.optimum import Optimum
from qsim.objectives.wrapper import Wrapper
from qsim.options import option
from qsim.weights import Replica, Weights


@final
@option
class WithRegulariser(Wrapper):
    r"""An objective whose workers compress gradients with the regulariser in them.

    :math:`F` is the same. By default the regulariser :math:`r` stays on the server, and messages stay as sparse as
    rows. Here every gradient, loss and Hessian-vector product of a worker includes that of :math:`r`, as often in
    papers, and so do the ways that local steps went. (A nonsmooth part, as of `WithL1`, stays on the server.)

    Parameters
    ----------
    objective : Objective
        The objective.

    Raises
    ------
    TypeError
        If it is not an objective.
    ValueError
        If it is in a `WithRegulariser` already, which goes around all other wrappers.

    Notes
    -----
    What is compressed is dense, whatever the rows are, and costs a worker :math:`O(n)` per round, in time and in what
    it keeps (shifts, error memories). Without compression nothing changes but rounding. Steps and bounds are those of
    the same theorems, with :math:`g_i = \nabla f_i`.

    Examples
    --------
    >>> import qsim
    >>> objective = qsim.objectives.WithRegulariser(qsim.LogisticRegression(l2=0.1))
    >>> objective.strong_convexity(qsim.datasets.load("spark_sample"))
    0.1
    """

    objective: Objective

    place = 3
    l2 = 0.0
    keeps_support = False

    @property
    def smooth_part(self) -> Objective:
        return replace(self, objective=self.objective.smooth_part)

    def optimum(self, data: Dataset) -> Optimum:
        return self.objective.optimum(data)

    def update(self, block: Block, rows: Rows, weights: Replica, step: float) -> Vectors:
        pull = step * self.objective.regulariser(_held(weights))[1]
        return _plus(self.objective.update(block, rows, weights, step), pull)

    def losses(self, block: Block, rows: Rows, weights: Replica) -> Vectors:
        penalty = self.objective.regulariser(_held(weights))[0]
        return _plus(self.objective.losses(block, rows, weights), penalty)

    def hvp(self, block: Block, rows: Rows, weights: Replica, direction: NDArray[np.floating]) -> Vectors:
        margin_hvp = self.objective.regulariser_hvp(_held(weights), direction.astype(np.float64))
        return _plus(self.objective.hvp(block, rows, weights, direction), margin_hvp)

    def local_steps(
        self,
        block: Block,
        rows: Rows,
        batch: int | None,
        weights: Replica,
        steps: NDArray[np.float64],
        decay: L2Decay,
    ) -> Vectors:
        """Return w - u_H: what l2 alone does is in it. Raises ValueError for another regulariser than l2."""
        if not is_l2_alone(self.objective):
            raise ValueError(f"local steps take l2 alone, but {self.objective!r} has a regulariser of its own")
        moved = self.objective.local_steps(block, rows, batch, weights, steps, decay)
        shrink = 1.0 - float(np.prod(1.0 - steps * self.objective.l2))
        return _plus(moved, shrink * _held(weights))

    def regulariser(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return zeros: nothing is left for the server."""
        return 0.0, np.zeros_like(w)

    def regulariser_hvp(self, w: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros_like(direction)

    def apply_l2_step(self, w: Weights, step: float) -> None:
        return None


def is_l2_alone(objective: Objective) -> bool:
    """Return whether the regulariser of an objective is l2/2 ||w||^2 over all weights."""
    return type(objective).apply_l2_step is Objective.apply_l2_step


def _held(weights: Replica) -> NDArray[np.float64]:
    """Return the weights that workers hold."""
    if weights.moved is not None:
        raise ValueError("with WithRegulariser workers do no steps of their own: take the objective inside it")
    return weights.vector.astype(np.float64) * weights.scale


def _plus(v: Vectors, added: Any) -> Vectors:
    """Return rows, made dense, with the same added to each."""
    dense = v.to_dense()
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused where it is compressed
        dense += np.asarray(added).astype(dense.dtype)
    return Vectors.dense(dense)
