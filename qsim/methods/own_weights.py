"""The common part of methods whose workers move weights of their own, all n of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Memory, Vectors
from qsim.block import Block, Rows
from qsim.methods.base import Method, Task
from qsim.objectives import Objective, WithRegulariser
from qsim.problem import Problem
from qsim.weights import Replica


class OwnWeights(Method):
    """Workers take gradients of f_i, regulariser included, at weights of their own, which are dense.

    A local step costs a worker its rows and O(n), and so does what it keeps. Numbers are float64 but for what is sent
    and the gradients of rows.
    """

    keeps_support = False

    @staticmethod
    def _refuse_dense(problem: Problem) -> None:
        """Raise ValueError for a loss whose gradient fills features that its rows lack."""
        inner = _inside(problem.objective)
        if not inner.keeps_support:
            raise ValueError(
                f"local steps are on the features of a worker's rows, but gradients of {inner!r} are dense"
            )

    @staticmethod
    def _known(task: Task, block: Block) -> NDArray[np.float64]:
        """Return the weights that the workers were sent, a row for each, in a new array."""
        held = task.weights.vector * task.weights.vector.dtype.type(task.weights.scale)
        return np.tile(held.astype(np.float64), (block.workers, 1))

    @staticmethod
    def _rows(memory: Memory, name: str, block: Block) -> NDArray[np.float64]:
        """Return what workers keep under a name, a row for each: a view."""
        return memory.arrays[name].reshape(block.workers, block.n)

    @staticmethod
    def _away(task: Task, known: NDArray[np.float64], own: NDArray[np.float64]) -> Vectors:
        """Return how far workers went, as it is sent: in the precision of the weights that they were sent."""
        with np.errstate(over="ignore", invalid="ignore"):
            return Vectors.dense((known - own).astype(task.weights.vector.dtype))

    @staticmethod
    def _gradients(
        task: Task, objective: Objective, block: Block, rows: Rows, own: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the gradient of each worker's f_i over some rows, at weights of its own."""
        objective, of = _inside(objective), block.support
        assert of.index is not None
        worker = np.repeat(np.arange(block.workers), np.diff(of.offsets))
        known = task.weights.vector * task.weights.vector.dtype.type(task.weights.scale)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused where it is compressed
            away = (known.astype(np.float64)[of.index] - own[worker, of.index]).astype(known.dtype)
            if type(objective).regulariser is Objective.regulariser:
                found: NDArray[np.float64] = objective.l2 * own
            else:
                found = np.array([objective.regulariser(u)[1] for u in own])
        g = objective.update(block, rows, Replica(known, 1.0, away), 1.0)
        if g.index is None:
            found += g.to_dense()
            return found
        found[np.repeat(np.arange(g.rows), np.diff(g.offsets)), g.index] += g.value
        return found


def _inside(objective: Objective) -> Objective:
    """Return the objective whose regulariser is beside the rows: here it counts in any case."""
    return objective.objective if isinstance(objective, WithRegulariser) else objective
