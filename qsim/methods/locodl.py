"""LoCoDL: local steps with control variates, and compressed differences to a model that all know."""

from __future__ import annotations

from dataclasses import replace
from math import isclose, sqrt
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block
from qsim.datasets import Shards
from qsim.methods.base import Exchange, Task, constant, refuse_absences, refuse_biased, refuse_unfit, step_for
from qsim.methods.own_weights import OwnWeights
from qsim.methods.scaffnew import round_factor
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.problem import Bound, Problem, TheoryError
from qsim.steps import Constant, Step, take_step
from qsim.weights import Weights

_KEPT = ("own", "common", "dual", "common dual", "sent")


@final
@option
class LoCoDL(OwnWeights):
    r"""LoCoDL: local steps and compression, both with linear convergence.

    :math:`F` is the mean of :math:`f_i - (c/2) \|w\|^2`, plus :math:`g = (c/2) \|w\|^2`. Every worker has weights
    :math:`x_i` of its own, and all know those of :math:`g`, :math:`y`. A local step is
    :math:`x_i \leftarrow x_i - a (\nabla f_i(x_i) - c x_i - u_i)`, :math:`y \leftarrow y - a (c y - v)`. After each of
    them, with probability :math:`p`, workers send :math:`d_i = C(x_i - y)`, and with :math:`d` half of the mean of the
    :math:`d_i`, :math:`x_i \leftarrow (1 - r) x_i + r (y + d)`, :math:`y \leftarrow y + r d`,
    :math:`u_i \leftarrow u_i + (e/a) (d - d_i)`, :math:`v \leftarrow v + (e/a) d`. A round is such an exchange and the
    local steps before it. For an unbiased :math:`C`. What is evaluated is :math:`y`.

    Parameters
    ----------
    step : Step or float, optional
        The local step :math:`a` of a round, a number or a rule of `qsim.steps`; by default :math:`2/L`, :math:`L` the
        largest :math:`L_i`.
    p : float, optional
        The probability of an exchange after a local step, in (0, 1]. By default, for a constant step,
        :math:`\min(1, \sqrt{(1 - k) (1 + 2 \omega) (1 + s)})`, :math:`k = \max((1 - a c)^2, (1 - a (L - c))^2)`.
    share : float, optional
        The share :math:`c` of the strong convexity that goes to :math:`g`, at least 0; by default half of that which
        all :math:`f_i` have.
    mixing : float, optional
        The share :math:`r` of what comes that goes into the weights, in (0, 1]; by default :math:`1/(1 + s)`,
        :math:`s = \omega/W` (`Problem.spread`).
    learning : float, optional
        The share :math:`e` of what comes that goes into the control variates, in (0, 1]; by default
        :math:`p/((1 + 2 \omega) (1 + s))`.

    Raises
    ------
    ValueError
        If a number is out of range, and in the simulation for a compressor that states no variance or has a memory, and
        for clients who sit out rounds.
    TheoryError
        In the simulation, if :math:`f_i` that are not strongly convex are given no :math:`p` or share.

    Notes
    -----
    With :math:`r` and :math:`e` as by default, the sum of the mean of :math:`\|x_i - w^\star\|^2`, of
    :math:`\|y - w^\star\|^2` and of (:math:`a^2/(p e)`) (mean of :math:`\|u_i - u_i^\star\|^2 + \|v - v^\star\|^2`)
    falls by a factor of at least :math:`\max(k, 1 - e p)` a local step, and of
    :math:`\max(1 - e, 1 - (1 - k)/(1 - k (1 - p) (1 - \min(1, (1 - k)/e))))` per round. Both are derived here, in
    `docs/theory.md`; the first is the paper's, from memory.

    Workers keep five vectors, all dense, whatever the rows are. They know :math:`d` from the weights that come down.

    References
    ----------
    .. [1] Condat, Maranjyan, Richtarik, "LoCoDL: communication-efficient distributed learning with local training and
           compression", ICLR 2025 (the method).

    Examples
    --------
    >>> import qsim
    >>> qsim.LoCoDL(step=0.5, p=0.2).p
    0.2
    """

    step: Step | float | None = None
    p: float | None = None
    share: float | None = None
    mixing: float | None = None
    learning: float | None = None

    def __post_init__(self) -> None:
        take_step(self)
        for name in ("p", "mixing", "learning"):
            if (value := getattr(self, name)) is not None:
                number(name, value, above=0)
                if value > 1:
                    raise ValueError(f"{name} must be at most 1, found {value!r}")
        if self.share is not None:
            number("share", self.share, least=0)

    def resolved(self, problem: Problem) -> Self:
        refuse_absences(self, problem, "all know y by what all send")
        refuse_unfit(self, problem)
        refuse_biased(self, problem, "its errors would not average out")
        self._refuse_dense(problem)
        common = problem.worker_convexity
        if not common and (self.share is None or self.p is None):
            raise TheoryError(f"{problem.objective!r} is not strongly convex, so nothing follows: give p and share")
        share = common / 2 if self.share is None else self.share
        found = replace(self, share=share, step=step_for(self, problem, lambda of: 2 / of.largest_smoothness))
        mixing = 1 / (1 + problem.spread) if self.mixing is None else self.mixing
        if found.p is None:
            kept = found._kept(problem)
            if kept is None:
                raise TheoryError(f"no p follows for {found!r}, whose k is not below 1, or not known: give it")
            found = replace(found, p=min(1.0, sqrt((1 - kept) * (1 + 2 * problem.omega) * (1 + problem.spread))))
        assert found.p is not None
        learning = found.p * mixing / (1 + 2 * problem.omega) if self.learning is None else self.learning
        return replace(found, mixing=mixing, learning=learning)

    def bound(self, problem: Problem) -> Bound | None:
        step, kept, share = constant(self.step, float("inf")), self._kept(problem), self.share
        if step is None or kept is None or share is None or None in (self.p, self.mixing, self.learning):
            return None
        assert self.p is not None
        assert self.mixing is not None
        assert self.learning is not None
        mixing = 1 / (1 + problem.spread)
        learning = self.p * mixing / (1 + 2 * problem.omega)
        if not (isclose(self.mixing, mixing) and isclose(self.learning, learning)):
            return None
        duals = problem.heterogeneity + 2 * share**2 * float(np.sum(problem.optimum**2))
        error = 2 * problem.square_distance + step**2 / (learning * self.p) * duals
        quantity = "mean of ||x_i - w*||^2 + ||y - w*||^2 + c (mean of ||u_i - u_i*||^2 + ||v - v*||^2)"
        factor = round_factor(kept, self.p, learning)
        return Bound(factor, problem.smoothness / 2 * error, 0.0, quantity, problem.rounding)

    def _kept(self, problem: Problem) -> float | None:
        """Return k of the docstring; None where it is not below 1."""
        assert self.share is not None
        if not isinstance(self.step, Constant):
            return None
        least, step = min(self.share, problem.worker_convexity - self.share), self.step.step
        largest = max(problem.largest_smoothness - self.share, self.share)
        kept = max((1 - step * least) ** 2, (1 - step * largest) ** 2)
        return kept if kept < 1 else None

    def rows_per_round(self, shards: Shards) -> float:
        assert self.p is not None
        return super().rows_per_round(shards) / self.p

    def start(self, w: Weights) -> Arrays:
        return {"dual of y": np.zeros_like(w.vector)}

    def memory(self, block: Block, support: Support) -> Memory:
        """Keep x_i, y, u_i, v, and what arrived of d_i in the last exchange."""
        return Memory.zeros(support, *_KEPT, dtype=np.float64)

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        assert isinstance(self.step, Step)
        assert self.mixing is not None
        assert self.learning is not None
        known = self._known(task, block)
        own, common, dual, common_dual, sent = (self._rows(memory, name, block) for name in _KEPT)
        if task.round == 0:
            own[:] = known
        else:
            mean, rate = (known - common) / self.mixing, self.learning / self.step(task.round - 1)
            own += self.mixing * (common + mean - own)
            dual += rate * (mean - sent)
            common_dual += rate * mean
        step, share, rows = self.step(task.round), self._share, block.all_rows()
        common[:] = known
        for _ in range(_local_steps(task.name)):
            own -= step * (self._gradients(task, objective, block, rows, own) - share * own - dual)
            common -= step * (share * common - common_dual)
        sent[:] = 0.0
        return self._away(task, own, common)

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        memory.add("sent", arrived)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        assert self.p is not None
        assert self.mixing is not None
        assert self.learning is not None
        steps = int(exchange.key.fold(exchange.round).generator().geometric(self.p))
        received, step, dual = exchange(f"{steps} local", w), self.step(exchange.round), state["dual of y"]
        y, before = w.dense(), w.dense()
        for _ in range(steps):
            y -= step * (self._share * y - dual)
        mean = np.zeros_like(y)
        received.vector.add_to(mean, received.share / 2)
        w.move(y + self.mixing * mean - before)
        dual += self.learning / step * mean

    @property
    def _share(self) -> float:
        assert self.share is not None
        return self.share

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.5, p=0.4),)


def _local_steps(name: str) -> int:
    """Return the number of local steps that a task says."""
    return int(name.removesuffix(" local"))
