"""Scaffnew: local steps that are corrected, with few exchanges."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block
from qsim.datasets import Shards
from qsim.methods.base import Exchange, Task, constant, refuse_absences, refuse_unfit, step_for
from qsim.methods.own_weights import OwnWeights
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.problem import Bound, Problem, TheoryError
from qsim.steps import Constant, Step, TimesTheory, take_step
from qsim.weights import Weights


@final
@option
class Scaffnew(OwnWeights):
    r"""Scaffnew (ProxSkip): local gradient steps with control variates, and an exchange now and then.

    Between two exchanges every worker does steps :math:`u_i \leftarrow u_i - a (\nabla f_i(u_i) - h_i)` from the common
    weights; after each of them all exchange with probability :math:`p`. Then workers send :math:`C(w - u_i)`, the
    server takes :math:`w` less the mean of what arrives, and :math:`h_i \leftarrow h_i + (p/a) (w - u_i)` with the new
    :math:`w`. A round is an exchange and the steps before it, of which there are :math:`1/p` in the mean.

    Parameters
    ----------
    step : Step or float, optional
        The local step :math:`a` of round :math:`t`, a number or a rule of `qsim.steps`. By default :math:`2 / (L + m)`,
        :math:`L` the largest :math:`L_i` and :math:`m` the strong convexity that all :math:`f_i` have.
    p : float, optional
        The probability of an exchange after a local step, in (0, 1]. By default :math:`\sqrt{1 - c}`,
        :math:`c = \max((1 - a m)^2, (1 - a L)^2)`: with the default step :math:`2 \sqrt{k}/(k + 1)`, :math:`k = L/m`.

    Raises
    ------
    ValueError
        If `p` is outside (0, 1], and in the simulation for clients who sit out rounds, and a compressor with a memory.
    TheoryError
        In the simulation, if a compressor, or :math:`f_i` that are not strongly convex, are given no step and
        :math:`p`.

    Notes
    -----
    The control variates :math:`h_i`, which sum to zero, learn the gradients at the optimum, so that local steps do not
    drift apart, and it converges linearly to the optimum with :math:`\sqrt{L/m}` times fewer exchanges than gradient
    descent has rounds.

    Without compression, the error :math:`\mathbb{E} = \|w - w^\star\|^2 + (a/p)^2` mean of
    :math:`\|h_i - \nabla f_i(w^\star)\|^2` falls by a factor of at least :math:`\max(c, 1 - p^2)` a local step (the
    paper). For a round a factor is derived here, in `docs/theory.md`: E falls by
    :math:`\max(1 - p, 1 - (1 - c)/(1 - c (1 - p) (1 - r)))`, :math:`r = \min(1, (1 - c)/p)`, which is about
    :math:`1 - 1/(1/p + p/(1 - c))`. The paper has :math:`a = 1/L` and :math:`p = 1/\sqrt{k}`.

    With a lossy :math:`C` workers use what arrives of :math:`u_i`; nothing is promised. Messages and weights that
    workers keep (two vectors) are dense, whatever the rows are.

    References
    ----------
    .. [1] Mishchenko, Malinovsky, Stich, Richtarik, "ProxSkip: yes! Local gradient steps provably lead to communication
           acceleration! Finally!", ICML 2022 (the method; rate of a local step).

    Examples
    --------
    >>> import qsim
    >>> qsim.Scaffnew(step=0.5, p=0.1).p
    0.1
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
        refuse_absences(self, problem, "the control variates of those that are there would not sum to zero")
        refuse_unfit(self, problem)
        self._refuse_dense(problem)
        if self.p is not None and not isinstance(self.step, (TimesTheory, type(None))):
            return self
        if problem.compressor.variance(problem.n) != 0:
            raise TheoryError(f"theory of Scaffnew is for exact messages: give step and p for {problem.compressor!r}")
        common = problem.worker_convexity
        if not common:
            raise TheoryError(f"{problem.objective!r} is not strongly convex, so nothing follows: give step and p")
        step = step_for(self, problem, lambda of: 2 / (of.largest_smoothness + common))
        if self.p is not None:
            return replace(self, step=step)
        kept = kept_by_steps(step, problem)
        if kept is None:
            raise TheoryError(f"{step!r} is not constant or above 2/L, so that no p follows: give it")
        return replace(self, step=step, p=sqrt(1 - kept))

    def bound(self, problem: Problem) -> Bound | None:
        step, kept = constant(self.step, float("inf")), kept_by_steps(self.step, problem)
        if step is None or kept is None or problem.compressor.variance(problem.n) != 0:
            return None
        assert self.p is not None
        error = problem.square_distance + (step / self.p) ** 2 * problem.heterogeneity
        quantity = "||w - w*||^2 + (a/p)^2 mean of ||h_i - grad f_i(w*)||^2"
        factor = round_factor(kept, self.p, self.p)
        return Bound(factor, problem.smoothness / 2 * error, 0.0, quantity, problem.rounding)

    def rows_per_round(self, shards: Shards) -> float:
        assert self.p is not None
        return super().rows_per_round(shards) / self.p

    def memory(self, block: Block, support: Support) -> Memory:
        """Keep h_i, what arrived of u_i in the last exchange, and whether it is still to be learnt from."""
        kept = Memory.zeros(support, "control", "end", dtype=np.float64)
        kept.arrays["ended"] = np.zeros(block.workers, np.bool_)
        return kept

    def local_steps(self, task: Task) -> int:
        """Return the number of local steps in a round, which all workers draw alike."""
        assert self.p is not None
        return int(task.key.fold(task.round).generator().geometric(self.p))

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        assert isinstance(self.step, Step)
        assert self.p is not None
        step, known, ended = self.step(task.round), self._known(task, block), memory.arrays["ended"]
        control, end = self._rows(memory, "control", block), self._rows(memory, "end", block)
        if ended.any():
            control[ended] += self.p / self.step(task.round - 1) * (known - end)[ended]
        own, rows = known.copy(), block.all_rows()
        for _ in range(self.local_steps(task)):
            own -= step * (self._gradients(task, objective, block, rows, own) - control)
        end[:], ended[:] = known, False
        return self._away(task, known, own)

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        memory.add("end", arrived, -1.0)
        memory.arrays["ended"][:] = delivered

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        w.subtract(exchange("local", w).vector)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.5, p=0.4),)


def round_factor(kept: float, p: float, gain: float) -> float:
    """Return the factor of a round: c of local steps, exchanges with probability p, in which control variates gain."""
    gone = 1 - kept
    return max(1 - gain, 1 - gone / (1 - kept * (1 - p) * (1 - min(1.0, gone / gain))))


def kept_by_steps(step: Step | float | None, problem: Problem) -> float | None:
    """Return c of the docstring; None where it is not below 1."""
    if not isinstance(step, Constant):
        return None
    common, largest = problem.worker_convexity, problem.largest_smoothness
    kept = max((1 - step.step * common) ** 2, (1 - step.step * largest) ** 2)
    return kept if kept < 1 else None
