"""Gradient descent and stochastic gradient descent with compressed updates, plain and with momentum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.datasets import Shards
from qsim.datasets.block import Block, Rows
from qsim.methods.base import Exchange, Method, Task
from qsim.methods.sampling import Sampling, WithReplacement, check_batch
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.problem import Problem
from qsim.steps import Constant, Step, check_step
from qsim.weights import Weights


class Momentum(ABC):
    """How the server goes on in the direction of past steps. It costs O(n) a round: past steps touch all weights."""

    beta: float

    @abstractmethod
    def along(self, velocity: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what to subtract from the weights, given the new velocity and the plain step."""

    def __post_init__(self) -> None:
        number("beta", self.beta, least=0)
        if self.beta >= 1:
            raise ValueError(f"beta must be below 1, found {self.beta!r}")


@final
@option
class HeavyBall(Momentum):
    """v <- beta v + u, w <- w - v, with u the plain step (regulariser included).

    Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

    >>> import qsim
    >>> qsim.methods.HeavyBall(0.9)
    qsim.methods.HeavyBall(beta=0.9)
    """

    beta: float

    def along(self, velocity: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
        return velocity


@final
@option
class Nesterov(Momentum):
    """v <- beta v + u, w <- w - (u + beta v): the weights are the point at which Nesterov's gradient is taken.

    Source: Nesterov, "A method of solving a convex programming problem with convergence rate O(1/k^2)", 1983, in the
    form of Sutskever, Martens, Dahl, Hinton, ICML 2013.

    >>> import qsim
    >>> qsim.methods.Nesterov(0.9)
    qsim.methods.Nesterov(beta=0.9)
    """

    beta: float

    def along(self, velocity: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
        return step + self.beta * velocity


class _Descent(Method):
    """w <- (1 - a l2) w - sum_i weight_i C(a g_i), with a the step and g_i worker i's gradient of the loss.

    What is compressed is the update a g_i. The regulariser is applied on the server: inside the compressed vector it
    would make it dense.
    """

    step: Step | None
    momentum: Momentum | None

    def resolved(self, problem: Problem) -> Self:
        if self.step is not None:
            return self
        spread = 2 * problem.omega * problem.largest_smoothness / problem.workers if problem.omega else 0.0
        return replace(self, step=Constant(1 / (problem.smoothness + spread)))  # type: ignore[type-var]

    def start(self, w: Weights) -> Arrays:
        return {} if self.momentum is None else {"velocity": np.zeros_like(w.vector)}

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert self.step is not None
        step = self.step(exchange.round)
        total = exchange("update", w).vector
        if self.momentum is None:
            exchange.objective.regularise(w, step)
            w.subtract(total)
            return
        plain = step * exchange.objective.regulariser(w.dense())[1]
        total.add_to(plain)
        velocity = state["velocity"]
        velocity *= self.momentum.beta
        velocity += plain
        w.move(-self.momentum.along(velocity, plain))

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        assert self.step is not None
        return objective.update(block, self.reads(task, block, memory), task.weights, self.step(task.round))


@final
@option
class GradientDescent(_Descent):
    """Full-batch gradient descent: every round each worker sends the update of its whole partition.

    w <- (1 - a l2) w - sum_i weight_i C(a grad f_i(w)). With `Identity` and rows as weights this is gradient descent on
    the whole data set, which converges for a < 2/L.

    Without a step: a = 1 / (L + 2 omega max_i L_i / W) for an unbiased C, 1/L without compression. Then E ||w - w*||^2
    falls by a factor of at least 1 - a mu a round, down to a noise floor of 2 a omega / (mu W) times the mean of
    ||grad f_i(w*)||^2 (none without compression).

    Source of step and floor: Khirirat, Feyzmahdavian, Johansson, "Distributed learning with compressed gradients",
    2018; in this form Gorbunov, Hanzely, Richtarik, "A unified theory of SGD", AISTATS 2020.

    >>> import qsim
    >>> qsim.GradientDescent(step=qsim.steps.Constant(1.0)).step(0)
    1.0
    """

    step: Step | None = None
    momentum: Momentum | None = None

    def __post_init__(self) -> None:
        check_step(self.step)
        _check_momentum(self.momentum)

    def rate(self, problem: Problem) -> float | None:
        """Return 1 - a mu, down to the noise floor, for the theory's step without momentum; None for others."""
        if self.step is not None or self.momentum is not None:
            return None
        step = self.resolved(problem).step
        assert step is not None
        return 1 - step(0) * problem.strong_convexity


@final
@option
class SGD(_Descent):
    """Mini-batch SGD: every round each worker sends the update of `batch` of its rows.

    w <- (1 - a_t l2) w - sum_i weight_i C(a_t g_i), g_i the mean gradient over the batch. The step of theory is that of
    `GradientDescent`, which leaves the noise of sampling to the floor.

    >>> import qsim
    >>> qsim.SGD(step=qsim.steps.Constant(0.5), batch=64).batch
    64
    """

    step: Step | None = None
    batch: int = 1
    sampling: Sampling = WithReplacement()
    momentum: Momentum | None = None

    def __post_init__(self) -> None:
        check_step(self.step)
        check_batch(self.batch, self.sampling)
        if self.batch is None:
            raise ValueError("batch must be a whole number of at least 1, found None: GradientDescent takes all rows")
        _check_momentum(self.momentum)

    def memory(self, block: Block, support: Support) -> Memory:
        return Memory(support, self.sampling.memory(block))

    def rows_per_round(self, shards: Shards) -> float:
        return self.batch

    def reads(self, task: Task, block: Block, memory: Memory) -> Rows:
        return self.sampling.draw(block, self.batch, task.round, memory.arrays, task.key)


def _check_momentum(momentum: object) -> None:
    if not isinstance(momentum, (Momentum, type(None))):
        raise TypeError(f"momentum must be None or a rule such as qsim.methods.HeavyBall(0.9), found {momentum!r}")
