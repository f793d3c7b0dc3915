"""MARINA: compressed differences of two gradients, and full gradients now and then."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.batch.planned import plan_add
from qsim.block import Block
from qsim.keys import Key
from qsim.methods.base import Exchange, Method, Task, constant, refuse_absences, refuse_biased, refuse_unfit, step_for
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.plan import Plan
from qsim.problem import Bound, Problem
from qsim.steps import Step, take_step
from qsim.weights import Weights


@final
@option
class MARINA(Method):
    """Compressed differences of gradients, with full gradients now and then.

    g <- g + mean of C(grad f_i(w) - grad f_i(w_old)), or with probability p the full gradient, uncompressed; w <- w - a
    (g + l2 w). For an unbiased C: the errors of a biased one would accumulate between synchronisations.

    Parameters
    ----------
    step : Step or float, optional
        The step a, a number or a rule of `qsim.steps`. By default a = 1 / (L + Lt sqrt(r)), r = (1 - p) s/p,
        s = omega/W (`Problem.spread`), Lt^2 the mean of L_i^2; if mu > 0 with 2 r for r, and at most p/(2 mu).
    p : float, optional
        The probability of a synchronisation, in (0, 1]. By default 1/(1 + omega), at which synchronisations cost about
        as many numbers as compressed rounds.

    Raises
    ------
    ValueError
        If `p` is outside (0, 1], and in the simulation for a compressor that states no variance or has a memory, and
        for sampled clients (a synchronisation of the others would lose the share of g of the absent).

    Notes
    -----
    The estimate g is biased, but its error is that of differences, which vanish as w converges, so F falls as fast as
    the theory of gradient descent says, up to constants, for nonconvex F too. For mu > 0, F(w) - F* + (a/p) ||g - grad
    F(w)||^2, whose second term is 0 at the start, falls by a factor of at least 1 - a mu a round, in expectation.

    The first round and, by the server's coin, a share p of the others send full gradients as dense float32, and count
    as such. A worker keeps the last gradient that the server has received, on its support, so a round costs one
    gradient and O(support); the step of the server costs O(n). If a message is dropped, that worker's share of g stays
    unchanged: the mean difference counts with the share of those that arrived.

    References
    ----------
    .. [1] Gorbunov, Burlachenko, Li, Richtarik, "MARINA: faster non-convex distributed learning with compression", ICML
           2021, Algorithm 1 and Theorems 2.1 and 2.2 (with Lt for L, which is never below it).
    .. [2] Szlendak, Tyurin, Richtarik, "Permutation compressors for provably faster distributed nonconvex
           optimization", ICLR 2022 (that the proof needs L alone there).

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.MARINA(step=qsim.steps.Constant(0.1), p=0.25).p
    0.25
    """

    step: Step | float | None = None
    p: float | None = None

    def __post_init__(self) -> None:
        take_step(self)
        if self.p is not None:
            number("p", self.p, above=0)
            if self.p > 1:
                raise ValueError(f"p must be at most 1, found {self.p!r}")

    def resolved(self, problem: Problem) -> Self:
        refuse_absences(self, problem, "a synchronisation of those that are there would lose the share of the others")
        refuse_unfit(self, problem)
        refuse_biased(self, problem, "the errors of a biased one add up between synchronisations")
        p = 1 / (1 + problem.omega) if self.p is None else self.p
        return replace(self, p=p, step=step_for(self, problem, lambda of: self._longest(of, p)))

    def bound(self, problem: Problem) -> Bound | None:
        mu = problem.strong_convexity
        if not mu or self.p is None or problem.compressor.variance(problem.n) is None:
            return None
        step = constant(self.step, self._longest(problem, self.p))
        if step is None:
            return None
        rounding = problem.rounding * (1 + problem.spread / self.p)  # compressed too, and summed over 1/p rounds
        return Bound(1 - step * mu, problem.suboptimality, 0.0, "F(w) - F* + c ||g - grad F(w)||^2", rounding)

    def _longest(self, problem: Problem, p: float) -> float:
        """Return the longest step that the theorem allows."""
        mu, ratio = problem.strong_convexity, (1 - p) * problem.spread / p
        step = 1 / (problem.smoothness + problem.mean_square_smoothness * sqrt(2 * ratio if mu > 0 else ratio))
        return min(step, p / (2 * mu)) if mu > 0 else step

    def start(self, w: Weights) -> Arrays:
        return {"estimate": np.zeros_like(w.vector)}

    def memory(self, block: Block, support: Support) -> Memory:
        return Memory.zeros(support, "gradient", "newest")

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        gradient = objective.update(block, block.all_rows(), task.weights, 1.0)
        sent = gradient if task.name == "full" else memory.less(gradient, "gradient")
        memory.arrays["newest"][:] = 0.0
        memory.add("newest", gradient)
        return sent

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        known = np.repeat(delivered, np.diff(memory.support.offsets))
        np.copyto(memory.arrays["gradient"], memory.arrays["newest"], where=known)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        step, estimate = self.step(exchange.round), state["estimate"]
        if self._synchronises(exchange.key, exchange.round):
            estimate[:] = 0.0
            exchange("full", w, exact="float32").vector.add_to(estimate)
        else:
            received = exchange("difference", w)
            received.vector.add_to(estimate, received.share)
        exchange.objective.apply_l2_step(w, step)
        w.move(-step * estimate)

    def _synchronises(self, key: Key, t: int) -> bool:
        """Tell whether full gradients are sent in a round."""
        assert self.p is not None
        return t == 0 or bool(key.fold(t).generator().random() < self.p)

    def plan(self, plan: Plan, memory: Memory) -> None:
        """Plan the rounds between synchronisations."""
        from qsim.kernels.participation import copy_rows, entry
        from qsim.kernels.rounds import add_row, fill, negative

        call, gradient, estimate = plan.program.call, memory.arrays["gradient"], plan.state["estimate"]

        def synchronises(first: int, count: int) -> NDArray[np.bool_]:
            return np.array([self._synchronises(plan.method_key, t) for t in range(first, first + count)])

        full = plan.told(synchronises, (), np.bool_)
        call(entry, full, plan.turn, stop="not zero")
        step = plan.begin(self.step)
        g, newest, change = plan.update(plan.block.all_rows(), 1.0), memory.arrays["newest"], np.empty_like(gradient)
        call(negative, gradient, change)
        plan_add(plan.program, memory.support, change, g, 1.0)
        of = memory.support
        _, total, share = plan.send(Vectors(of.n, of.offsets, of.index, change))
        call(fill, newest, np.float32(0))
        plan_add(plan.program, of, newest, g, 1.0)
        call(copy_rows, of.offsets, plan.delivered, newest, gradient)
        call(add_row, total.offsets, total.index, total.value, share, estimate)
        plan.apply_l2_step(step)
        plan.descend(step, estimate)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.5, p=0.4),)
