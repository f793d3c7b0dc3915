"""DIANA-RR: reshuffled passes, with a shift for every part of the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block, Rows
from qsim.datasets import Shards
from qsim.methods.base import Exchange, Method, Task, refuse_unfit, step_for
from qsim.objectives import Objective
from qsim.options import number, option, whole
from qsim.problem import Problem, TheoryError
from qsim.steps import Step, take_step
from qsim.weights import Weights


@final
@option
class DIANARR(Method):
    r"""DIANA with random reshuffling: a shift for every part of a worker's rows.

    Every worker's rows are split into :math:`m` parts, by default of one row each, that stay the same. A pass of
    :math:`m` rounds goes through them in a random order, drawn anew for every pass and common to all workers. In the
    round of part :math:`j` workers send :math:`m_i = C(g_{ij} - h_{ij})`, with :math:`g_{ij}` the mean gradient over
    the part, and :math:`h_{ij} \leftarrow h_{ij} + \mathrm{shift}\, m_i`; the server takes
    :math:`w \leftarrow w - a (h_j + m + \lambda w)`, with :math:`m` and :math:`h_j` the weighted means. For an unbiased
    :math:`C`. :math:`\lambda` is the `l2` of the objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a`, a number or a rule of `qsim.steps`. By default, or as `Sadiev2024()`, the smaller of
        :math:`\mathrm{shift}/(2 m \mu)` and :math:`1 / ((1 + 6 s) L_r)`, with :math:`s = \omega/W` (`Problem.spread`),
        :math:`L_r` the largest :math:`L` of a single row's loss, and :math:`\mu` the strong convexity that every row
        has (:math:`\lambda`); for :math:`\mu = 0` the second.
    shift : float, optional
        The step of the shifts, in (0, 1]; by default :math:`1 / (1 + \omega)`.
    parts : int, optional
        The number :math:`m` of parts; by default the number of a worker's rows, all shards having one size.

    Raises
    ------
    ValueError
        If a number is out of range, and in the simulation for a compressor with a memory, and for `Sign`.
    TheoryError
        In the simulation, without a step: if a compressor states no :math:`\omega`, if some clients sit out rounds, and
        if the parts are not of one size; without parts, for shards of several sizes.

    Notes
    -----
    The noise of :math:`C` vanishes, as the shift of a part learns its gradient at the optimum. For convex losses of
    rows, after :math:`T` passes,

    .. math::

        \mathbb{E} \|w - w^\star\|^2 \leq (1 - a \mu)^{m T} B + (2 a^2/\mu) (L_r m/4) V,

    :math:`B = \|w_0 - w^\star\|^2 + (4 s a^2/\mathrm{shift})` times the sum over the parts of the mean of
    :math:`\|h_{ij} - g_{ij}(w^\star)\|^2`, and :math:`V` the mean over the parts of
    :math:`\|\sum_i p_i \nabla f_{ij}(w^\star)\|^2`, :math:`p_i` the weights of the workers. Of rounds within a pass
    nothing is said, so `Run.bound()` is None. (:math:`L_r m V/4` is a bound on the paper's shuffling radius.)

    The order is common since the server must know the sum of the shifts that workers use. It keeps :math:`m n` numbers,
    and a worker :math:`m` times its support, in float64. Where the sizes of parts differ (by one at most), rows of
    larger parts count less; a worker with fewer rows than parts takes rows several times.

    References
    ----------
    .. [1] Sadiev, Malinovsky, Gorbunov, Sokolov, Khaled, Burlachenko, Richtarik, "Don't compress gradients in random
           reshuffling: compress gradient differences", NeurIPS 2024, Theorem 2.2.

    Examples
    --------
    >>> import qsim
    >>> qsim.DIANARR(step=0.1, shift=0.25, parts=10).parts
    10
    """

    step: Step | float | None = None
    shift: float | None = None
    parts: int | None = None

    def __post_init__(self) -> None:
        take_step(self)
        if self.shift is not None:
            number("shift", self.shift, above=0)
            if self.shift > 1:
                raise ValueError(f"shift must be at most 1, found {self.shift!r}")
        if self.parts is not None:
            whole("parts", self.parts, least=1)

    def resolved(self, problem: Problem) -> Self:
        refuse_unfit(self, problem)
        parts, sizes = self.parts, problem.shards.sizes
        if parts is None:
            if np.ptp(sizes):
                raise TheoryError(
                    "DIANARR takes the number of a worker's rows as the number of parts, found shards of"
                    f" {sizes.min():,} to {sizes.max():,} rows: give parts"
                )
            parts = int(sizes[0])
        shift = 1 / (1 + problem.omega) if self.shift is None else self.shift
        found = replace(self, shift=shift, parts=parts)
        return replace(found, step=step_for(found, problem, found.by_sadiev2024))

    def by_sadiev2024(self, problem: Problem) -> float:
        """Return the step of the paper."""
        assert self.shift is not None
        assert self.parts is not None
        sizes = problem.shards.sizes
        if np.ptp(sizes) or sizes[0] % self.parts or problem.participation < 1:
            raise TheoryError(
                "no step of theory is known for DIANARR with parts or shards of several sizes, or clients who sit out"
                " rounds: give the step"
            )
        mu = min(float(problem.objective.l2 or 0.0), problem.strong_convexity)
        longest = 1 / ((1 + 6 * problem.spread) * problem.row_smoothness)
        return min(self.shift / (2 * self.parts * mu), longest) if mu else longest

    def rows_per_round(self, shards: Shards) -> float:
        assert self.parts is not None
        return super().rows_per_round(shards) / self.parts

    def start(self, w: Weights) -> Arrays:
        assert self.parts is not None
        return {"shifts": np.zeros((self.parts, w.vector.size))}

    def memory(self, block: Block, support: Support) -> Memory:
        """Keep of each worker a row for each part, one behind the other."""
        assert self.parts is not None
        return Memory(support, {"shifts": np.zeros(self.parts * support.offsets[-1])})

    def reads(self, task: Task, block: Block, memory: Memory) -> Rows:
        assert self.parts is not None
        part, sizes = _part(task), np.diff(block.offsets)
        low = part * sizes // self.parts
        counts = np.where(sizes > 0, np.maximum((part + 1) * sizes // self.parts, low + 1) - low, 0)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        places = np.arange(offsets[-1]) + np.repeat(block.offsets[:-1] + low - offsets[:-1], counts)
        return Rows(block.order[places], offsets)

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        gradient = objective.update(block, self.reads(task, block, memory), task.weights, 1.0)
        return self._of_part(task, memory)[0].less(gradient, "shift")

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        assert self.shift is not None
        shift, places = self._of_part(task, memory)
        shift.add("shift", arrived, self.shift)
        memory.arrays["shifts"][places] = shift.arrays["shift"]

    def _of_part(self, task: Task, memory: Memory) -> tuple[Memory, NDArray[np.int64]]:
        """Return a copy of the shifts of the round's part, and where they are kept."""
        assert self.parts is not None
        of = memory.support.offsets
        sizes = np.diff(of)
        places = np.arange(of[-1]) + np.repeat((self.parts - 1) * of[:-1] + _part(task) * sizes, sizes)
        return Memory(memory.support, {"shift": memory.arrays["shifts"][places]}), places

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        assert self.shift is not None
        assert self.parts is not None
        turn, place = divmod(exchange.round, self.parts)
        part = exchange.key.fold(turn).generator().permutation(self.parts)[place]
        step, shift = self.step(exchange.round), state["shifts"][part]
        received = exchange(f"part {part}", w)
        exchange.objective.apply_l2_step(w, step)
        w.move(-step * shift)
        w.subtract(received.vector.scaled(step))
        received.vector.add_to(shift, self.shift * received.share)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.5, shift=0.3, parts=2),)


def _part(task: Task) -> int:
    """Return the part that a task is about."""
    return int(task.name.removeprefix("part "))
