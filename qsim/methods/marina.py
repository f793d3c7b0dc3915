"""MARINA: compressed differences of two gradients, and full gradients now and then."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.datasets.block import Block
from qsim.methods.base import Exchange, Method, Task
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.problem import Problem
from qsim.steps import Constant, Step, check_step
from qsim.weights import Weights


@final
@option
class MARINA(Method):
    """g <- g + mean of C(grad f_i(w) - grad f_i(w_old)), or with probability p all of grad f; w <- w - a (g + l2 w).

    For an unbiased C. The estimate g is biased, but its error is that of differences, which vanish as w converges, so
    F falls as fast as the theory of gradient descent says but for constants, also for nonconvex F.

    The first round and, by the server's coin, a share p of the others send full gradients as dense float32: what a
    synchronisation costs is counted as such. A worker keeps the last gradient of which the server has heard, on its
    support, so a round costs one gradient and O(support); the server's step costs O(n). Where only some take part, or
    a message is dropped, the others' share of g stays as it is: the mean difference counts with the share of those that
    arrived.

    Without p: the share at which synchronisations cost about as many numbers as compressed rounds, 1/(1 + omega).
    Without a step: a = 1 / (Lt (1 + sqrt(r))), r = (1 - p) omega / (p W), Lt^2 the mean of L_i^2; if mu > 0 with 2 r
    for r, and at most p/(2 mu). Then F(w) - F* falls by a factor of at least 1 - a mu a round, in expectation and up to
    a constant.

    Source: Gorbunov, Burlachenko, Li, Richtarik, "MARINA: faster non-convex distributed learning with compression",
    ICML 2021, Algorithm 1 and Theorems 2.1 and 2.2.

    >>> import qsim
    >>> qsim.methods.MARINA(step=qsim.steps.Constant(0.1), p=0.25).p
    0.25

    Raises ValueError for p outside (0, 1], and TheoryError if a compressor without omega gets no step and p.
    """

    step: Step | None = None
    p: float | None = None

    def __post_init__(self) -> None:
        check_step(self.step)
        if self.p is not None:
            number("p", self.p, above=0)
            if self.p > 1:
                raise ValueError(f"p must be at most 1, found {self.p!r}")

    def resolved(self, problem: Problem) -> Self:
        p = 1 / (1 + problem.omega) if self.p is None else self.p
        if self.step is not None:
            return replace(self, p=p)
        mu, scale = problem.strong_convexity, problem.mean_square_smoothness
        spread = (1 - p) * problem.omega / (p * problem.workers)
        step = 1 / (scale * (1 + sqrt(2 * spread if mu > 0 else spread)))
        return replace(self, p=p, step=Constant(min(step, p / (2 * mu)) if mu > 0 else step))

    def rate(self, problem: Problem) -> float | None:
        """Return 1 - a mu for the theory's step; None for others."""
        if self.step is not None:
            return None
        step = self.resolved(problem).step
        assert step is not None
        return 1 - step(0) * problem.strong_convexity

    def start(self, w: Weights) -> Arrays:
        return {"estimate": np.zeros_like(w.vector)}

    def memory(self, block: Block, support: Support) -> Memory:
        return Memory.zeros(block.support, "gradient", "newest")

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        gradient = objective.update(block, block.all_rows(), task.weights, 1.0)
        sent = gradient if task.name == "full" else memory.less(gradient, "gradient")
        memory.arrays["newest"][:] = gradient.value
        return sent

    def settle(self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]) -> None:
        known = np.repeat(delivered, np.diff(memory.support.offsets))
        np.copyto(memory.arrays["gradient"], memory.arrays["newest"], where=known)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert self.step is not None
        assert self.p is not None
        step, estimate = self.step(exchange.round), state["estimate"]
        if exchange.round == 0 or exchange.key.fold(exchange.round).generator().random() < self.p:
            estimate[:] = 0.0
            exchange("full", w, exact="float32").vector.add_to(estimate)
        else:
            received = exchange("difference", w)
            received.vector.add_to(estimate, received.share)
        exchange.objective.regularise(w, step)
        w.move(-step * estimate)
