"""Methods whose workers compress the difference to a shift that both ends know: DIANA and EF21."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
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


class _Shifted(Method):
    """Workers hold shifts h_i, the server their weighted sum h; what is compressed is the difference to the shift.

    The shifts live on the supports of the shards (everywhere if the compressor fills in zeros). A round costs a worker
    O(support), also with a batch, and the server O(n).
    """

    batch: int | None
    sampling: Sampling

    def start(self, w: Weights) -> Arrays:
        return {"shift": np.zeros_like(w.vector)}

    def memory(self, block: Block, support: Support) -> Memory:
        drawn = self.sampling.memory(block) if self.batch else {}
        return Memory(support, Memory.zeros(support, "shift").arrays | drawn)

    def rows_per_round(self, shards: Shards) -> float:
        return self.batch or super().rows_per_round(shards)

    def _gradient(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        """Return the gradients of the loss over the rows of this round."""
        return objective.update(block, self.reads(task, block, memory), task.weights, 1.0)

    def reads(self, task: Task, block: Block, memory: Memory) -> Rows:
        if self.batch is None:
            return block.all_rows()
        return self.sampling.draw(block, self.batch, task.round, memory.arrays, task.key)


@final
@option
class DIANA(_Shifted):
    """Compresses differences to shifts that learn the gradients: m_i = C(g_i - h_i), h_i <- h_i + shift m_i.

    w <- w - a (h + m + l2 w), with m and h the weighted means of the m_i and h_i. For an unbiased C. As the shifts come
    near the gradients at the optimum, less and less is left to compress, so that the variance of C vanishes, also where
    the workers hold different data: with full gradients it converges linearly to the optimum, where compressed gradient
    descent stops at a noise floor.

    Without a step: a = 1 / ((1 + 6 omega/W) max_i L_i) and shift = 1 / (1 + omega). Then E ||w - w*||^2 plus a multiple
    of the shifts' error falls by a factor of at least max(1 - a mu, 1 - shift/2) a round (full gradients, mu-strongly
    convex).

    batch: rows that a worker draws each round; None for all of them. With a batch the noise of sampling stays.

    Source: Mishchenko, Gorbunov, Takac, Richtarik, "Distributed learning with compressed gradient differences", 2019;
    step and rate as in Gorbunov, Hanzely, Richtarik, "A unified theory of SGD", AISTATS 2020 (there for DIANA).

    >>> import qsim
    >>> qsim.methods.DIANA(step=qsim.steps.Constant(0.1), shift=0.25).shift
    0.25

    Raises ValueError for a shift outside (0, 1], and TheoryError if a compressor without omega gets no step and shift.
    """

    step: Step | None = None
    shift: float | None = None
    batch: int | None = None
    sampling: Sampling = WithReplacement()

    def __post_init__(self) -> None:
        check_step(self.step)
        check_batch(self.batch, self.sampling)
        if self.shift is not None:
            number("shift", self.shift, above=0)
            if self.shift > 1:
                raise ValueError(f"shift must be at most 1, found {self.shift!r}")

    def resolved(self, problem: Problem) -> Self:
        shift = 1 / (1 + problem.omega) if self.shift is None else self.shift
        step = self.step or Constant(1 / ((1 + 6 * problem.omega / problem.workers) * problem.largest_smoothness))
        return replace(self, step=step, shift=shift)

    def rate(self, problem: Problem) -> float | None:
        """Return max(1 - a mu, 1 - shift/2) for the theory's step with full gradients; None for others."""
        if self.batch is not None or self.step is not None:
            return None
        found = self.resolved(problem)
        assert found.step is not None
        assert found.shift is not None
        return max(1 - found.step(0) * problem.strong_convexity, 1 - found.shift / 2)

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        return memory.less(self._gradient(task, objective, block, memory), "shift")

    def settle(self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]) -> None:
        assert self.shift is not None
        memory.add("shift", arrived, self.shift)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert self.step is not None
        assert self.shift is not None
        step, shift = self.step(exchange.round), state["shift"]
        received = exchange("difference", w)
        exchange.objective.regularise(w, step)
        w.move(-step * shift)
        w.subtract(received.vector.scaled(step))
        received.vector.add_to(shift, self.shift * received.share)


@final
@option
class EF21(_Shifted):
    """Error feedback as a shift: c_i = C(g_i - h_i), h_i <- h_i + c_i, w <- w - a (h + l2 w), h the mean of the h_i.

    For a contraction C. What the server steps along is h, the workers' shifts themselves, which come near the gradients
    as they converge; no error is kept. With full gradients it converges linearly where F is mu-strongly convex.

    With `momentum` eta in (0, 1], EF21-SGDM: g_i is replaced by v_i <- (1 - eta) v_i + eta g_i, which makes it work
    with batches (v_i starts at eta g_i).

    Without a step: with delta of C, theta = 1 - sqrt(1 - delta), beta = (1 - delta)/theta, L of F and Lt^2 the mean of
    L_i^2, a = 1 / (L + Lt sqrt(beta/theta)), and if mu > 0 the smaller of 1 / (L + Lt sqrt(2 beta/theta)) and
    theta/(2 mu). Then F(w) - F* plus a multiple of the shifts' error falls by a factor of at least 1 - a mu a round.

    Source: Richtarik, Sokolov, Fatkhullin, "EF21", NeurIPS 2021, Theorems 1 and 2; Fatkhullin, Tyurin, Richtarik,
    "Momentum provably improves error feedback!", NeurIPS 2023.

    >>> import qsim
    >>> qsim.methods.EF21(step=qsim.steps.Constant(0.1)).momentum is None
    True

    Raises ValueError for a momentum outside (0, 1], and TheoryError if a compressor without delta gets no step.
    """

    step: Step | None = None
    momentum: float | None = None
    batch: int | None = None
    sampling: Sampling = WithReplacement()

    def __post_init__(self) -> None:
        check_step(self.step)
        check_batch(self.batch, self.sampling)
        if self.momentum is not None:
            number("momentum", self.momentum, above=0)
            if self.momentum > 1:
                raise ValueError(f"momentum must be at most 1, found {self.momentum!r}")

    def resolved(self, problem: Problem) -> Self:
        if self.step is not None:
            return self
        theta = 1 - sqrt(1 - problem.delta)
        ratio = (1 - problem.delta) / theta**2
        mu, spread = problem.strong_convexity, problem.mean_square_smoothness
        if mu > 0:
            step = min(1 / (problem.smoothness + spread * sqrt(2 * ratio)), theta / (2 * mu))
        else:
            step = 1 / (problem.smoothness + spread * sqrt(ratio))
        return replace(self, step=Constant(step))

    def rate(self, problem: Problem) -> float | None:
        """Return 1 - a mu for the theory's step with full gradients and no momentum; None for others."""
        if self.batch is not None or self.step is not None or self.momentum is not None:
            return None
        step = self.resolved(problem).step
        assert step is not None
        return 1 - step(0) * problem.strong_convexity

    def memory(self, block: Block, support: Support) -> Memory:
        kept = super().memory(block, support)
        if self.momentum is not None:
            kept.arrays.update(Memory.zeros(support, "momentum").arrays)
        return kept

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        gradient = self._gradient(task, objective, block, memory)
        if self.momentum is None:
            return memory.less(gradient, "shift")
        memory.arrays["momentum"] *= np.float32(1 - self.momentum)
        memory.add("momentum", gradient, self.momentum)
        return memory.less(memory.vectors("momentum"), "shift")

    def settle(self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]) -> None:
        memory.add("shift", arrived)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert self.step is not None
        step, shift = self.step(exchange.round), state["shift"]
        received = exchange("difference", w)
        received.vector.add_to(shift, received.share)
        exchange.objective.regularise(w, step)
        w.move(-step * shift)
