"""Averages of iterates, for any method."""

from __future__ import annotations

from dataclasses import replace
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block, Rows
from qsim.datasets import Shards
from qsim.methods.base import Exchange, Method, Task
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.plan import Plan
from qsim.problem import Problem
from qsim.program import Cell, with_plan
from qsim.weights import PlannedWeights, Weights

_AVERAGE = "average"


@final
@option
class Averaged(Method):
    r"""The average of the iterates of another method.

    :math:`\bar w_t = (1 - r_t) \bar w_{t-1} + r_t w_t`, with :math:`r_t = (\mathrm{power} + 1)/(t + \mathrm{power})`,
    :math:`t = 1`, 2, ... The average is what is evaluated, and returned as the final weights; the training itself is
    that of the method.

    Parameters
    ----------
    method : Method
        The method that is averaged.
    power : float, default 0
        How much later iterates count: 0 gives the plain mean of all iterates, :math:`p` weights iterate :math:`t` about
        as :math:`t^p`.

    Raises
    ------
    TypeError
        If `method` is not a method.
    ValueError
        If `power` is negative, or the method is averaged already.

    Notes
    -----
    The server needs :math:`O(n)` time per round.

    References
    ----------
    .. [1] Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", 1992 (the mean).
    .. [2] Shamir, Zhang, "Stochastic gradient descent for non-smooth optimization", ICML 2013, section 4 (polynomial
           decay).

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.Averaged(qsim.SGD(step=qsim.steps.InverseSqrt(0.5)), power=2).power
    2.0
    """

    method: Method
    power: float = 0

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):
            raise TypeError(f"method must be a method such as qsim.SGD(batch=64), found {self.method!r}")
        if isinstance(self.method, Averaged):
            raise ValueError(f"method must not be averaged already, found {self.method!r}; give the method inside")
        number("power", self.power, least=0)

    def resolved(self, problem: Problem) -> Self:
        return replace(self, method=self.method.resolved(problem))

    def start(self, w: Weights) -> Arrays:
        return self.method.start(w) | {_AVERAGE: w.dense()}

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        average = state.pop(_AVERAGE)
        self.method.round(w, state, exchange)
        average += self._share(exchange.round + 1) * (w.dense() - average)
        state[_AVERAGE] = average

    def plan(self, plan: Plan, memory: Memory) -> None:
        from qsim.kernels.rounds import add_to_average

        def shares(first: int, count: int) -> NDArray[np.float64]:
            return np.array([self._share(t) for t in range(first + 1, first + count + 1)])

        with_plan(self.method).plan(plan, memory)
        weights, average = plan.weights, plan.state[_AVERAGE]
        share = plan.told(shares, (), np.float64)
        plan.program.call(add_to_average, share, plan.turn, weights.scale, weights.vector, average)

    def plan_solution(self, plan: Plan) -> PlannedWeights:
        return PlannedWeights(plan.state[_AVERAGE], Cell.of(1.0))

    def _share(self, t: int) -> float:
        """Return how much the weights of round t, from 1 on, count in the average up to it."""
        return (self.power + 1) / (t + self.power)

    def solution(self, w: Weights, state: Arrays) -> NDArray[np.float64]:
        return state[_AVERAGE]

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        return self.method.work(task, objective, block, memory)

    def reads(self, task: Task, block: Block, memory: Memory) -> Rows:
        return self.method.reads(task, block, memory)

    def memory(self, block: Block, support: Support) -> Memory:
        return self.method.memory(block, support)

    @property
    def keeps_support(self) -> bool:  # type: ignore[override]
        return self.method.keeps_support

    @property
    def learns_delivery(self) -> bool:
        return self.method.learns_delivery

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        self.method.on_delivered(task, block, memory, arrived, delivered)

    def rows_per_round(self, shards: Shards) -> float:
        return self.method.rows_per_round(shards)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        from qsim.methods.descent import SGD

        return (cls(SGD(0.5, batch=2)),)
