"""DIANA: compressed differences to shifts that learn the gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Vectors
from qsim.batch.planned import plan_add
from qsim.block import Block
from qsim.methods.base import Exchange, Task, constant, refuse_unfit, step_for
from qsim.methods.sampling import Sampling, WithReplacement, check_batch
from qsim.methods.shifts import ShiftedBatches, Shifts
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.plan import Plan
from qsim.problem import Bound, Problem
from qsim.steps import Step, TheoryStep, take_step
from qsim.weights import Weights


@final
@option
class Gorbunov2020(TheoryStep):
    r"""The step of DIANA in the unified theory of SGD, shorter than the default.

    :math:`a = 1 / ((1 + 6 s) \max_i L_i)`.

    With a batch of :math:`b` rows the denominator also has :math:`2 (s + 1/W) L_r/b`, as for `SGD`; see `DIANA` for the
    symbols.

    References
    ----------
    .. [1] Gorbunov, Hanzely, Richtarik, "A unified theory of SGD", AISTATS 2020.

    Examples
    --------
    >>> import qsim
    >>> qsim.DIANA(step=qsim.methods.Gorbunov2020()).step
    qsim.methods.Gorbunov2020()
    """

    method: ClassVar[str] = "DIANA"

    def longest(self, method: DIANA, problem: Problem) -> float:
        sampling = 0.0
        if method.batch is not None:
            sampling = 2 * (problem.spread + problem.largest_share) * problem.row_smoothness / method.batch
        return 1 / ((1 + 6 * problem.spread) * problem.largest_smoothness + sampling)


@final
@option
class DIANA(ShiftedBatches):
    r"""Compressed differences to shifts that learn the gradients.

    .. math::

        m_i &= C(g_i - h_i), \\
        h_i &\leftarrow h_i + \mathrm{shift}\, m_i, \\
        w &\leftarrow w - a (h + m + \lambda w),

    with :math:`m` and :math:`h` the weighted means of the :math:`m_i` and :math:`h_i`. For an unbiased :math:`C`.
    :math:`\lambda` is the `l2` of the objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a`, a number, a rule of `qsim.steps`, or `Gorbunov2020()`. By default, for `l2` as the
        regulariser, :math:`a = 2 / (L + \mu + 6 s (\max_i L_i - \mu))`, :math:`s = \omega/W` (`Problem.spread`); the
        notes have the rest.
    shift : float, optional
        The step of the shifts, in (0, 1]; by default :math:`1 / (1 + \omega)`.
    batch : int, optional
        The number of rows that a worker draws each round; by default all of them. With a batch the noise of sampling
        remains, and nothing is promised.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.
    shifts : {"zero", "gradient"}, default "zero"
        The shifts of round 0. With "gradient", :math:`h_i = g_i(w_0)`, sent exactly by all in round 0: the bound then
        begins at the mean of :math:`\|g_i(w_0) - g_i(w^\star)\|^2` instead of :math:`\|g_i(w^\star)\|^2`.

    Raises
    ------
    ValueError
        If `shift` is outside (0, 1], and in the simulation for a compressor with a memory (the shift is one), and for
        `Sign`.
    TheoryError
        In the simulation, if a compressor without :math:`\omega` is given no step and shift.

    Notes
    -----
    As the shifts approach the gradients at the optimum, less and less is left to compress, so that the variance of
    :math:`C` vanishes, even if the workers hold different data: with full gradients it converges linearly to the
    optimum, where compressed gradient descent stops at a noise floor.

    The step and the bound are derived here, in `docs/theory.md`. Let every :math:`f_i` be :math:`m`-strongly convex
    (:math:`m = \mu` if `l2` is all that makes :math:`F` so) and every :math:`g_i` is :math:`k`-strongly convex and
    :math:`l`-smooth (:math:`k = m - \lambda`, :math:`l = \max_i L_i - \lambda`: the regulariser is not compressed;
    `WithRegulariser` has :math:`\lambda = 0` here). With :math:`B = L + m + 6 s (l + k)` and
    :math:`C = m^2 + 6 s k^2 + B (\mu - m)`, full gradients, convex losses, :math:`\mu > 0` and a step :math:`a` of at
    most :math:`2/B`, :math:`\mathbb{E} \|w - w^\star\|^2 + (4 s a^2/\mathrm{shift})` mean of
    :math:`\|h_i - g_i(w^\star)\|^2` falls by a factor of at least
    :math:`\max(1 - 2 a \mu + a^2 C, 1 - \mathrm{shift}/2)` per round. The default is the :math:`a` that makes the first
    least, :math:`2/B` if :math:`m = \mu`; for :math:`\mu = 0` it is :math:`1/B`. If :math:`k` of :math:`W` workers take
    part, shift :math:`k/W` stands for shift. With a batch of :math:`b` rows :math:`B` also has
    :math:`2 (5 s + 1/W) L_r/b`.

    References
    ----------
    .. [1] Mishchenko, Gorbunov, Takac, Richtarik, "Distributed learning with compressed gradient differences", 2019
           (the method).
    .. [2] Gorbunov, Hanzely, Richtarik, "A unified theory of SGD", AISTATS 2020 (a step of at most half the length).

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.DIANA(step=qsim.steps.Constant(0.1), shift=0.25).shift
    0.25
    """

    step: Step | float | None = None
    shift: float | None = None
    batch: int | None = None
    sampling: Sampling = WithReplacement()
    shifts: Shifts = "zero"

    def __post_init__(self) -> None:
        take_step(self)
        check_batch(self.batch, self.sampling)
        self._check_shifts()
        if self.shift is not None:
            number("shift", self.shift, above=0)
            if self.shift > 1:
                raise ValueError(f"shift must be at most 1, found {self.shift!r}")

    def resolved(self, problem: Problem) -> Self:
        refuse_unfit(self, problem)
        self._check_shifts(problem)
        shift = 1 / (1 + problem.omega) if self.shift is None else self.shift
        return replace(self, step=step_for(self, problem, self._best), shift=shift)

    def bound(self, problem: Problem) -> Bound | None:
        mu, omega = problem.strong_convexity, problem.compressor.variance(problem.n)
        if self.batch is not None or not mu or omega is None or not problem.unbiased_mean:
            return None
        if problem.objective.composite:  # a distance to w* bounds no F(w) - F* then
            return None
        if self.shift is None or self.shift > 1 / (1 + omega):
            return None
        rough, bend = self._constants(problem)
        step = constant(self.step, 2 / rough)
        if step is None:
            return None
        shift = self.shift * problem.participation
        begin = problem.sent_at_optimum if self.shifts == "zero" else problem.mean_square_change()
        error = 4 * problem.spread * step**2 / shift * begin
        factor = max(1 - 2 * step * mu + step**2 * bend, 1 - shift / 2)
        start = problem.smoothness / 2 * (problem.square_distance + error)
        quantity = "||w - w*||^2 + c mean of ||h_i - g_i(w*)||^2"
        return Bound(factor, start, 0.0, quantity, problem.rounding) if factor < 1 else None

    def _best(self, problem: Problem) -> float:
        """Return the step that makes the bound fall fastest; for mu = 0 the one that is best for the mean of F - F*."""
        mu = problem.strong_convexity
        rough, bend = self._constants(problem)
        return min(2 / rough, mu / bend) if mu else 1 / rough

    def _constants(self, problem: Problem) -> tuple[float, float]:
        """Return B and C of the docstring."""
        spread, mu, common = problem.spread, problem.strong_convexity, problem.worker_convexity
        inside = max(common - float(problem.objective.l2 or 0.0), 0.0)
        rough = problem.smoothness + common + 6 * spread * (float(problem.sent_smoothness.max()) + inside)
        if self.batch is not None:
            rough += 2 * (5 * spread + problem.largest_share) * problem.row_smoothness / self.batch
        return rough, common**2 + 6 * spread * inside**2 + rough * (mu - common)

    @property
    def takes_proximal_steps(self) -> bool:
        return True

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        return memory.less(self._gradient(task, objective, block, memory), "shift")

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        assert self.shift is not None
        memory.add("shift", arrived, 1.0 if task.name == "begin" else self.shift)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        assert self.shift is not None
        step, shift = self.step(exchange.round), state["shift"]
        if self._begin(w, shift, step, exchange):
            return
        received = exchange("difference", w)
        exchange.objective.apply_l2_step(w, step)
        w.move(-step * shift)
        w.subtract(received.vector.scaled(step))
        exchange.objective.proximal_step(w, step)
        received.vector.add_to(shift, self.shift * received.share)

    def plan(self, plan: Plan, memory: Memory) -> None:
        from qsim.kernels.rounds import add_row

        assert self.shift is not None
        step, shift = plan.begin(self.step), plan.state["shift"]
        arrived, total, share = plan.send(self._plan_difference(plan, memory))
        plan_add(plan.program, memory.support, memory.arrays["shift"], arrived, self.shift)
        plan.apply_l2_step(step)
        plan.descend(step, shift)
        plan.subtract(total, step)
        plan.program.call(add_row, total.offsets, total.index, total.value, plan.times(self.shift, share), shift)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)
