"""Gradient descent and stochastic gradient descent with compressed updates."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import numpy as np

from qsim.batch import Arrays, Vectors
from qsim.datasets import Shards
from qsim.datasets.block import Block, Rows
from qsim.keys import Key
from qsim.methods.base import Exchange, Method
from qsim.methods.sampling import Sampling, WithReplacement
from qsim.objectives import Objective
from qsim.options import option, whole
from qsim.steps import Step
from qsim.weights import Replica, Weights


class _Descent(Method):
    """w <- (1 - a l2) w - sum_i weight_i C(a g_i), with a the step and g_i worker i's gradient of the loss.

    What is compressed is the update a g_i. The regulariser is applied on the server: inside the compressed vector it
    would make it dense.
    """

    step: Step

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        shrink = 1.0 - self.step(exchange.round) * exchange.objective.l2
        if shrink <= 0.0:
            raise ValueError(
                f"step * l2 = {1.0 - shrink:g} in round {exchange.round}: it must stay below 1, or the regulariser"
                " throws the weights past zero; take a smaller step"
            )
        total = exchange("update", w)
        w.shrink(shrink)
        w.subtract(total)

    def work(
        self,
        task: str,
        t: int,
        objective: Objective,
        block: Block,
        weights: Replica,
        memory: Arrays,
        key: Key,
    ) -> Vectors:
        return objective.update(block, self._rows(t, block, memory, key), weights, self.step(t))

    @abstractmethod
    def _rows(self, t: int, block: Block, memory: Arrays, key: Key) -> Rows:
        """Return the rows that each worker computes with in round t."""


def _check_step(step: object) -> None:
    if not isinstance(step, Step):
        raise TypeError(f"step must be a rule such as qsim.steps.Constant({step!r}), found {step!r}")


@final
@option
class GradientDescent(_Descent):
    """Full-batch gradient descent: every round each worker sends the update of its whole partition.

    w <- (1 - a l2) w - sum_i weight_i C(a grad f_i(w)). With `Identity` and rows as weights this is gradient descent on
    the whole data set, which converges for a < 2/L.

    >>> import qsim
    >>> qsim.GradientDescent(step=qsim.steps.Constant(1.0)).step(0)
    1.0
    """

    step: Step

    def __post_init__(self) -> None:
        _check_step(self.step)

    def _rows(self, t: int, block: Block, memory: Arrays, key: Key) -> Rows:
        return block.all_rows()


@final
@option
class SGD(_Descent):
    """Mini-batch SGD: every round each worker sends the update of `batch` of its rows.

    w <- (1 - a_t l2) w - sum_i weight_i C(a_t g_i), g_i the mean gradient over the batch.

    >>> import qsim
    >>> qsim.SGD(step=qsim.steps.Constant(0.5), batch=64).batch
    64
    """

    step: Step
    batch: int = 1
    sampling: Sampling = WithReplacement()

    def __post_init__(self) -> None:
        _check_step(self.step)
        whole("batch", self.batch, least=1)
        if not isinstance(self.sampling, Sampling):
            raise TypeError(f"sampling must be WithReplacement() or Passes() of qsim.methods, found {self.sampling!r}")

    def memory(self, block: Block) -> Arrays:
        return self.sampling.memory(block)

    def rows(self, task: str, t: int, shards: Shards) -> int:
        return self.batch * int(np.count_nonzero(np.diff(shards.offsets)))  # a worker without rows draws none

    def rows_per_round(self, shards: Shards) -> float:
        return self.batch

    def _rows(self, t: int, block: Block, memory: Arrays, key: Key) -> Rows:
        return self.sampling.draw(block, self.batch, t, memory, key)
