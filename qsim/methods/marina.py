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
from qsim.datasets import Shards
from qsim.keys import Key
from qsim.methods.base import Exchange, Method, Task, constant, refuse_absences, refuse_biased, refuse_unfit, step_for
from qsim.methods.estimators import held, now_and_before, on_support
from qsim.methods.sampling import Sampling, WithReplacement, check_batch, drawn
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.plan import Plan
from qsim.problem import Bound, Problem
from qsim.program import NoProgram
from qsim.steps import Step, take_step
from qsim.weights import Weights


@final
@option
class MARINA(Method):
    r"""Compressed differences of gradients, with full gradients now and then.

    :math:`g \leftarrow g + \sum_i p_i C(\nabla f_i(w) - \nabla f_i(w'))`, with :math:`w'` the weights of the round
    before and :math:`p_i` the weights of the workers, or with probability :math:`p` the full gradient, uncompressed;
    :math:`w \leftarrow w - a (g + \lambda w)`. For an unbiased :math:`C`: the errors of a biased one would accumulate
    between synchronisations. With a `batch` the difference is that of gradients over the same few rows (VR-MARINA).
    :math:`\lambda` is the `l2` of the objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a`, a number or a rule of `qsim.steps`. By default :math:`a = 1 / (L + \tilde L \sqrt{r})`,
        :math:`r = (1 - p) s/p`, :math:`s = \omega/W` (`Problem.spread`), :math:`\tilde L^2` the mean of :math:`L_i^2`;
        if :math:`\mu > 0` with :math:`2 r` for :math:`r`, and at most :math:`p/(2 \mu)`. With `PermK` it is longer: the
        notes say how.
    p : float, optional
        The probability of a synchronisation, in (0, 1]. By default :math:`1/(1 + \omega)`, at which synchronisations
        cost about as many numbers as compressed rounds; with a batch of :math:`b` rows the smaller of that and
        :math:`b/(b + m)` for :math:`m` rows per worker, in the mean.
    batch : int, optional
        The number of rows that a worker draws each round; by default all of them.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.

    Raises
    ------
    ValueError
        If `p` is outside (0, 1], and in the simulation for a compressor that states no variance or has a memory, and
        for sampled clients (a synchronisation of the others would lose the share of :math:`g` of the absent).

    Notes
    -----
    The estimate :math:`g` is biased, but its error is that of differences, which vanish as :math:`w` converges, so
    :math:`F` falls as fast as the theory of gradient descent says, up to constants, for nonconvex :math:`F` too. For
    :math:`\mu > 0`, :math:`F(w) - F^\star + (a/p) \|g - \nabla F(w)\|^2`, whose second term is 0 at the start, falls by
    a factor of at least :math:`1 - a \mu` per round, in expectation.

    For workers that draw together, :math:`s \tilde L^2` is :math:`(s - B) \tilde L^2 + B L_{pm}^2`, with :math:`A` and
    :math:`B` of `Compressor.joint_variance` and :math:`L_{pm}` the Hessian variance (`Problem.hessian_variance`): it is
    :math:`L_{pm}^2` for `PermK` with equal shards. :math:`L_{pm}` is known for `LeastSquares`; elsewhere it is
    :math:`\tilde L`, the safe choice. Its proof is in `docs/theory.md`.

    With a batch it is :math:`s \tilde L^2 + (s + 1/W) L_r^2/b`, if rows are drawn with replacement, :math:`L_r` being
    the largest :math:`L` of a single row's loss (derived here, in `docs/theory.md`; the largest weight stands for
    :math:`1/W`).

    The first round and, by the server's coin, a share :math:`p` of the others send full gradients as dense float32, and
    count as such. A worker keeps the last gradient that the server has received, on its support, so a round costs one
    gradient and :math:`O(\mathrm{support})`; the step of the server costs :math:`O(n)`. If a message is dropped, that
    worker's share of :math:`g` stays unchanged: the mean difference counts with the share of those that arrived.

    References
    ----------
    .. [1] Gorbunov, Burlachenko, Li, Richtarik, "MARINA: faster non-convex distributed learning with compression", ICML
           2021, Algorithms 1 and 2, and Theorems 2.1 and 2.2 (with Lt for L, which is never below it).
    .. [2] Szlendak, Tyurin, Richtarik, "Permutation compressors for provably faster distributed nonconvex
           optimization", ICLR 2022 (that the proof needs L alone there, and the step for `PermK`).

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.MARINA(step=qsim.steps.Constant(0.1), p=0.25).p
    0.25
    """

    step: Step | float | None = None
    p: float | None = None
    batch: int | None = None
    sampling: Sampling = WithReplacement()

    def __post_init__(self) -> None:
        take_step(self)
        check_batch(self.batch, self.sampling)
        if self.p is not None:
            number("p", self.p, above=0)
            if self.p > 1:
                raise ValueError(f"p must be at most 1, found {self.p!r}")

    def resolved(self, problem: Problem) -> Self:
        refuse_absences(self, problem, "a synchronisation of those that are there would lose the share of the others")
        refuse_unfit(self, problem)
        refuse_biased(self, problem, "the errors of a biased one add up between synchronisations")
        p = self.p
        if p is None:
            p = 1 / (1 + problem.omega)
            if self.batch is not None:
                p = min(p, self.batch / (self.batch + problem.shards.dataset.rows / problem.workers))
        return replace(self, p=p, step=step_for(self, problem, lambda of: self._longest(of, p)))

    def bound(self, problem: Problem) -> Bound | None:
        mu = problem.strong_convexity
        if not mu or self.p is None or problem.compressor.variance(problem.n) is None:
            return None
        if self.batch is not None and not isinstance(self.sampling, WithReplacement):
            return None
        step = constant(self.step, self._longest(problem, self.p))
        if step is None:
            return None
        spread = problem.spread + (0.0 if self.batch is None else problem.largest_share)
        rounding = problem.rounding * (1 + spread / self.p)  # compressed too, and summed over 1/p rounds
        return Bound(1 - step * mu, problem.suboptimality, 0.0, "F(w) - F* + c ||g - grad F(w)||^2", rounding)

    def _longest(self, problem: Problem, p: float) -> float:
        """Return the longest step that the theorem allows."""
        mu, square = problem.strong_convexity, _error(problem)
        if self.batch is not None:
            square += (problem.spread + problem.largest_share) * problem.row_smoothness**2 / self.batch
        step = 1 / (problem.smoothness + sqrt((2 if mu > 0 else 1) * (1 - p) / p * square))
        return min(step, p / (2 * mu)) if mu > 0 else step

    def start(self, w: Weights) -> Arrays:
        return {"estimate": np.zeros_like(w.vector)}

    def memory(self, block: Block, support: Support) -> Memory:
        if self.batch is None:
            return Memory.zeros(support, "gradient", "newest")
        kept = Memory.zeros(support, "weights", "newest", dtype=np.float64)
        kept.arrays.update(self.sampling.memory(block))
        return kept

    def rows_per_round(self, shards: Shards) -> float:
        return self.batch or super().rows_per_round(shards)

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        if self.batch is not None:
            return self._with_batch(task, objective, block, memory)
        gradient = objective.update(block, block.all_rows(), task.weights, 1.0)
        sent = gradient if task.name == "full" else memory.less(gradient, "gradient")
        memory.arrays["newest"][:] = 0.0
        memory.add("newest", gradient)
        return sent

    def _with_batch(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        """Return full gradients, or differences over a batch to those at the last weights whose message arrived."""
        assert self.batch is not None
        of = memory.support
        memory.arrays["newest"][:] = held(task.weights, of)
        if task.name == "full":
            return objective.update(block, block.all_rows(), task.weights, 1.0)
        rows = drawn(self.sampling, block, self.batch, task, memory)
        change = on_support(memory, *now_and_before(rows, task, objective, block, memory))
        return Vectors(of.n, of.offsets, of.index, change.astype(task.weights.vector.dtype))

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        known = np.repeat(delivered, np.diff(memory.support.offsets))
        last = memory.arrays["gradient" if self.batch is None else "weights"]
        np.copyto(last, memory.arrays["newest"], where=known)

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

        if self.batch is not None:
            raise NoProgram
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
        return cls(0.5, p=0.4), cls(0.5, p=0.4, batch=2)


def _error(problem: Problem) -> float:
    """Return s with E ||sum of the errors of compressed changes of gradients||^2 <= s ||change of the weights||^2."""
    joint, whole = problem.compressor.joint_variance(problem.n), problem.mean_square_smoothness**2
    kept = 0.0 if joint is None else joint[1]
    return (problem.spread - kept) * whole + kept * problem.hessian_variance**2
