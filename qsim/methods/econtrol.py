"""EControl: error feedback whose strength is controlled, together with shifts."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block
from qsim.methods.base import Exchange, Task, refuse_absences, refuse_unfit, step_for
from qsim.methods.sampling import Sampling, WithReplacement, check_batch
from qsim.methods.shifts import ShiftedBatches, Shifts
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.problem import Problem, TheoryError
from qsim.steps import Step, take_step
from qsim.weights import Weights


@final
@option
class EControl(ShiftedBatches):
    r"""Error feedback with a controlled strength, together with shifts.

    .. math::

        m_i &= C(\eta e_i + g_i - h_i), \\
        e_i &\leftarrow e_i + g_i - h_i - m_i, \\
        h_i &\leftarrow h_i + m_i, \\
        w &\leftarrow w - a (h + \lambda w),

    with :math:`h` the mean of the :math:`h_i` and :math:`e_i` what was left out so far. For a contraction :math:`C`.
    With :math:`\eta = 0` it is `EF21`. :math:`\lambda` is the `l2` of the objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a`, a number or a rule of `qsim.steps`. The default is described below.
    strength : float, optional
        The strength :math:`\eta` of the feedback, in [0, 1]; by default the most for which the proof goes through.
    batch : int, optional
        The number of rows that a worker draws each round; by default all of them.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.
    shifts : {"zero", "gradient"}, default "zero"
        The :math:`h_i` of round 0; with "gradient" :math:`g_i(w_0)`, sent exactly by all in round 0.

    Raises
    ------
    ValueError
        If `strength` is outside [0, 1], and in the simulation for a compressor with a memory, for `Sign`, and for
        clients who sit out rounds.
    TheoryError
        In the simulation, if a compressor without :math:`\delta` is given no step and strength, and for a strength
        above the default one, or 0, without a step.

    Notes
    -----
    What is left out is sent later, as by error feedback, so that the noise of batches averages out as without
    compression; the shifts make it right for workers with different data.

    Strength and step are derived here, in `docs/theory.md`, as the constants of the paper were not at hand: with
    :math:`q = \sqrt{1 - \delta}`, :math:`\eta = \min(1, (1 - q)/(3 q + 1/2))`, and
    :math:`a = \min(1/(2 L), \eta/(6 \tilde L))`, :math:`\tilde L^2` the mean of :math:`L_i^2`. For nonconvex :math:`F`
    and full gradients, the mean of :math:`\|\nabla F\|^2` over :math:`T` rounds is then at most :math:`8/(a T)` times
    :math:`F(w_0) - F^\star + (a^3 L^2/\eta^3)` mean of :math:`\|h_i - g_i(w_0)\|^2`. Nothing linear is promised.

    References
    ----------
    .. [1] Gao, Islamov, Stich, "EControl: fast distributed optimization with compression and error control", ICLR 2024
           (the method).

    Examples
    --------
    >>> import qsim
    >>> qsim.EControl(step=0.1, strength=0.2).strength
    0.2
    """

    step: Step | float | None = None
    strength: float | None = None
    batch: int | None = None
    sampling: Sampling = WithReplacement()
    shifts: Shifts = "zero"

    def __post_init__(self) -> None:
        take_step(self)
        check_batch(self.batch, self.sampling)
        self._check_shifts()
        if self.strength is not None:
            number("strength", self.strength, least=0)
            if self.strength > 1:
                raise ValueError(f"strength must be at most 1, found {self.strength!r}")

    def resolved(self, problem: Problem) -> Self:
        refuse_unfit(self, problem)
        refuse_absences(self, problem, "nothing is known of errors that are kept over rounds")
        filled = self if self.strength is not None else replace(self, strength=_most(problem))
        return replace(filled, step=step_for(filled, problem, filled._longest))

    def _longest(self, problem: Problem) -> float:
        """Return the longest step that the proof allows."""
        strength, most = self.strength, _most(problem)
        assert strength is not None
        if not 0 < strength <= most * (1 + 1e-12):
            raise TheoryError(
                f"no step of theory is known for strength = {strength:g}, but for those above 0 and at most {most:g}:"
                " give the step"
            )
        return min(1 / (2 * problem.smoothness), strength / (6 * problem.mean_square_smoothness))

    def memory(self, block: Block, support: Support) -> Memory:
        kept = super().memory(block, support)
        kept.arrays.update(Memory.zeros(support, "error", dtype=np.float64).arrays)
        return kept

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        assert self.strength is not None
        less = memory.less(self._gradient(task, objective, block, memory), "shift")
        if task.name == "begin":
            return less
        error = memory.arrays["error"]
        sent = (self.strength * error + less.value).astype(less.value.dtype)
        error += less.value
        return replace(less, value=sent)

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        memory.add("shift", arrived)
        if task.name != "begin":
            memory.add("error", arrived, -1.0)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        step, shift = self.step(exchange.round), state["shift"]
        if self._begin(w, shift, step, exchange):
            return
        received = exchange("difference", w)
        received.vector.add_to(shift, received.share)
        exchange.objective.apply_l2_step(w, step)
        w.move(-step * shift)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(0.3, strength=0.3), cls(0.3, strength=0.2, batch=2, shifts="gradient")


def _most(problem: Problem) -> float:
    """Return the largest eta of the proof."""
    kept = sqrt(1 - problem.delta)
    return min(1.0, (1 - kept) / (3 * kept + 0.5))
