"""Methods whose workers compress the difference to a shift that both ends know: DIANA and EF21."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Literal, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.batch.planned import plan_add
from qsim.block import Block
from qsim.compressors import Scaled
from qsim.methods.base import Exchange, Task, constant, refuse_absences, refuse_unfit
from qsim.methods.sampling import Batched, Passes, Sampling, WithReplacement, check_batch
from qsim.objectives import Objective
from qsim.options import number, one_of, option
from qsim.plan import Plan
from qsim.problem import Bound, Problem
from qsim.program import NoProgram
from qsim.steps import Constant, Step, take_step
from qsim.weights import Weights

Shifts = Literal["zero", "gradient"]
"""Where shifts begin."""


class _Shifted(Batched):
    """Workers hold shifts h_i, the server their weighted sum h; what is compressed is the difference to the shift.

    The shifts live on the supports of the shards (everywhere if the compressor fills in zeros), in float64: the server
    adds the same messages to h, so that h stays the sum of the h_i, also over very many rounds. A round costs a worker
    O(support), also with a batch, and the server O(n). Who sits out a round keeps its shift, and so does h its part.

    With `shifts="gradient"` they begin at h_i = g_i(w_0), which all workers send in round 0 as dense float32 (counted,
    and waited for) instead of a message; with "zero" at zero.
    """

    shifts: Shifts

    def _check_shifts(self, problem: Problem | None = None) -> None:
        one_of("shifts", self.shifts, ("zero", "gradient"))
        if problem is not None and self.shifts == "gradient":
            refuse_absences(self, problem, "all shifts begin at gradients, in round 0")

    def _begin(self, w: Weights, shift: NDArray[np.float64], step: float, exchange: Exchange) -> bool:
        """Do round 0 if shifts begin at gradients; tell whether it was done."""
        if self.shifts == "zero" or exchange.round:
            return False
        exchange("begin", w, exact="float32").vector.add_to(shift)
        exchange.objective.apply_l2_step(w, step)
        w.move(-step * shift)
        return True

    def start(self, w: Weights) -> Arrays:
        return {"shift": np.zeros_like(w.vector)}

    def memory(self, block: Block, support: Support) -> Memory:
        kept = super().memory(block, support)
        kept.arrays.update(Memory.zeros(support, "shift", dtype=np.float64).arrays)
        return kept

    def _plan_difference(self, plan: Plan, memory: Memory) -> Vectors:
        """Return where the differences of the gradients to the shifts are, as `Memory.less` makes them."""
        from qsim.kernels.rounds import negative, rounded

        g, support, call = plan.update(self._plan_rows(plan, memory), 1.0), memory.support, plan.program.call
        less, value = np.empty(support.offsets[-1]), np.empty(support.offsets[-1], np.float32)
        call(negative, memory.arrays["shift"], less)
        plan_add(plan.program, support, less, g, 1.0)
        call(rounded, less, value)
        return Vectors(support.n, support.offsets, support.index, value)

    def _gradient(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        """Return the gradients of the loss over the rows of this round."""
        return objective.update(block, self.reads(task, block, memory), task.weights, 1.0)


@final
@option
class DIANA(_Shifted):
    """Compressed differences to shifts that learn the gradients.

    m_i = C(g_i - h_i), h_i <- h_i + shift m_i, w <- w - a (h + m + l2 w), with m and h the weighted means of the m_i
    and h_i. For an unbiased C.

    Parameters
    ----------
    step : Step or float, optional
        The step a, a number or a rule of `qsim.steps`. By default a = 1 / ((1 + 6 s) max_i L_i), s = omega/W
        (`Problem.spread`); with a batch of b rows the denominator also has 2 (s + 1/W) Lr/b, as for `SGD`.
    shift : float, optional
        The step of the shifts, in (0, 1]; by default 1 / (1 + omega).
    batch : int, optional
        The number of rows that a worker draws each round; by default all of them. With a batch the noise of sampling
        remains, and nothing is promised.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.
    shifts : {"zero", "gradient"}, default "zero"
        The shifts of round 0. With "gradient", h_i = g_i(w_0), sent exactly by all in round 0: the bound then begins at
        the mean of ||g_i(w_0) - g_i(w*)||^2 instead of ||g_i(w*)||^2.

    Raises
    ------
    ValueError
        If `shift` is outside (0, 1], and in the simulation for a compressor with a memory (the shift is one), and for
        `Sign`.
    TheoryError
        In the simulation, if a compressor without omega is given no step and shift.

    Notes
    -----
    As the shifts approach the gradients at the optimum, less and less is left to compress, so that the variance of C
    vanishes, even if the workers hold different data: with full gradients it converges linearly to the optimum, where
    compressed gradient descent stops at a noise floor.

    With the defaults, full gradients, convex losses and mu > 0, E ||w - w*||^2 + (4 s a^2/shift) mean of
    ||h_i - g_i(w*)||^2 falls by a factor of at least max(1 - a mu, 1 - shift/2) a round. If k of W workers take part,
    shift k/W stands for shift.

    References
    ----------
    .. [1] Mishchenko, Gorbunov, Takac, Richtarik, "Distributed learning with compressed gradient differences", 2019.
    .. [2] Gorbunov, Hanzely, Richtarik, "A unified theory of SGD", AISTATS 2020 (step and rate, there for DIANA).

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
        return replace(self, step=self.step or Constant(1 / self._roughness(problem)), shift=shift)

    def bound(self, problem: Problem) -> Bound | None:
        mu, omega = problem.strong_convexity, problem.compressor.variance(problem.n)
        if self.batch is not None or not mu or omega is None or not problem.unbiased_mean:
            return None
        if self.shift is None or self.shift > 1 / (1 + omega):
            return None
        step = constant(self.step, 1 / self._roughness(problem))
        if step is None:
            return None
        shift = self.shift * problem.participation
        begin = problem.sent_at_optimum if self.shifts == "zero" else problem.mean_square_change()
        error = 4 * problem.spread * step**2 / shift * begin
        return Bound(
            max(1 - step * mu, 1 - shift / 2),
            problem.smoothness / 2 * (problem.square_distance + error),
            0.0,
            "||w - w*||^2 + c mean of ||h_i - g_i(w*)||^2",
            problem.rounding,
        )

    def _roughness(self, problem: Problem) -> float:
        sampling = 0.0
        if self.batch is not None:
            sampling = 2 * (problem.spread + problem.largest_share) * problem.row_smoothness / self.batch
        return (1 + 6 * problem.spread) * problem.largest_smoothness + sampling

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


@final
@option
class EF21(_Shifted):
    """Error feedback by shifts.

    c_i = C(g_i - h_i), h_i <- h_i + c_i, w <- w - a (h + l2 w), with h the mean of the h_i. For a contraction C. With
    `momentum` eta, EF21-SGDM: g_i is replaced by v_i <- (1 - eta) v_i + eta g_i, where v_i starts at the first g_i.

    Parameters
    ----------
    step : Step or float, optional
        The step a, a number or a rule of `qsim.steps`. The default is described below.
    momentum : float, optional
        Eta in (0, 1], which makes the method work with batches: without it the noise of a batch is amplified by what C
        leaves out.
    batch : int, optional
        The number of rows that a worker draws each round; by default all of them.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.
    shifts : {"zero", "gradient"}, default "zero"
        The shifts of round 0. With "gradient", as in the experiments of its authors, h_i = g_i(w_0), sent exactly by
        all in round 0, so that the second term of the bound is 0 at first. (They also compress gradients with the
        regulariser in them: `qsim.objectives.WithRegulariser`.)

    Raises
    ------
    ValueError
        If `momentum` is outside (0, 1], and in the simulation for a compressor with a memory (the shift is one) or with
        omega >= 1 (the shifts would diverge), and for `Sign`.
    TheoryError
        In the simulation, if a compressor without delta is given no step.

    Notes
    -----
    The server steps along the shifts of the workers, which approach the gradients as they converge; no error is kept.
    With full gradients it converges linearly if F is mu-strongly convex.

    The step of theory: with delta of C (k/W of it if k of W workers take part), theta = 1 - sqrt(1 - delta),
    beta = (1 - delta)/theta, L of F and Lt^2 the mean of L_i^2, a = 1 / (L + Lt sqrt(beta/theta)), and if mu > 0 the
    smaller of 1 / (L + Lt sqrt(2 beta/theta)) and theta/(2 mu). Then F(w) - F* + (a/theta) mean of ||h_i - g_i(w)||^2
    falls by a factor of at least 1 - a mu a round. With momentum below 1, the step is at most min(delta/(20 Lt), eta/(7
    L)), and nothing linear is promised.

    References
    ----------
    .. [1] Richtarik, Sokolov, Fatkhullin, "EF21", NeurIPS 2021, Theorems 1 and 2.
    .. [2] Fatkhullin, Tyurin, Richtarik, "Momentum provably improves error feedback!", NeurIPS 2023.

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.EF21(step=qsim.steps.Constant(0.1)).momentum is None
    True
    """

    step: Step | float | None = None
    momentum: float | None = None
    batch: int | None = None
    sampling: Sampling = WithReplacement()
    shifts: Shifts = "zero"

    def __post_init__(self) -> None:
        take_step(self)
        check_batch(self.batch, self.sampling)
        self._check_shifts()
        if self.momentum is not None:
            number("momentum", self.momentum, above=0)
            if self.momentum > 1:
                raise ValueError(f"momentum must be at most 1, found {self.momentum!r}")

    def resolved(self, problem: Problem) -> Self:
        refuse_unfit(self, problem)
        self._check_shifts(problem)
        compressor = problem.compressor
        if compressor.contraction(problem.n) is None and (compressor.variance(problem.n) or 0) >= 1:
            raise ValueError(
                f"EF21 needs a contraction, found {compressor!r}, with which its shifts run away: take"
                f" {Scaled(compressor)!r}, or DIANA"
            )
        return self if self.step is not None else replace(self, step=Constant(self._longest(problem)))

    def bound(self, problem: Problem) -> Bound | None:
        mu, delta = problem.strong_convexity, problem.compressor.contraction(problem.n)
        if self.batch is not None or self._averages or not mu or delta is None:
            return None
        step = constant(self.step, self._longest(problem))
        if step is None:
            return None
        delta *= problem.participation
        error = 0.0  # of the shifts after the first message
        if self.shifts == "zero":
            error = (1 - delta) * problem.mean_square_gradient(problem.start)
        start = problem.suboptimality + step / (1 - sqrt(1 - delta)) * error
        return Bound(1 - step * mu, start, 0.0, "F(w) - F* + c mean of ||h_i - g_i(w)||^2", problem.rounding)

    @property
    def _averages(self) -> bool:
        return self.momentum is not None and self.momentum < 1

    def _longest(self, problem: Problem) -> float:
        """Return the longest step that the theorem allows."""
        delta, mu = problem.delta * problem.participation, problem.strong_convexity
        smoothness, spread = problem.smoothness, problem.mean_square_smoothness
        if self._averages:
            assert self.momentum is not None
            return min(delta / (20 * spread), self.momentum / (7 * smoothness))
        theta = 1 - sqrt(1 - delta)
        ratio = (1 - delta) / theta**2
        if mu > 0:
            return min(1 / (smoothness + spread * sqrt(2 * ratio)), theta / (2 * mu))
        return 1 / (smoothness + spread * sqrt(ratio))

    def memory(self, block: Block, support: Support) -> Memory:
        kept = super().memory(block, support)
        if self.momentum is not None:
            kept.arrays.update(Memory.zeros(support, "momentum").arrays, started=np.zeros(block.workers, np.bool_))
        return kept

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        gradient = self._gradient(task, objective, block, memory)
        if self.momentum is None:
            return memory.less(gradient, "shift")
        share = np.where(memory.arrays["started"], self.momentum, 1.0).astype(np.float32)
        memory.arrays["momentum"] *= np.repeat(1 - share, np.diff(memory.support.offsets))
        memory.add("momentum", replace(gradient, value=gradient.value * np.repeat(share, np.diff(gradient.offsets))))
        memory.arrays["started"][:] = True
        return memory.less(memory.vectors("momentum"), "shift")

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        memory.add("shift", arrived)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        step, shift = self.step(exchange.round), state["shift"]
        if self._begin(w, shift, step, exchange):
            return
        received = exchange("difference", w)
        received.vector.add_to(shift, received.share)
        exchange.objective.apply_l2_step(w, step)
        w.move(-step * shift)

    def plan(self, plan: Plan, memory: Memory) -> None:
        from qsim.kernels.rounds import add_row

        step, shift = plan.begin(self.step), plan.state["shift"]
        averages = self.momentum is not None
        arrived, total, share = plan.send((self._plan_average if averages else self._plan_difference)(plan, memory))
        plan_add(plan.program, memory.support, memory.arrays["shift"], arrived, 1.0)
        plan.program.call(add_row, total.offsets, total.index, total.value, share, shift)
        plan.apply_l2_step(step)
        plan.descend(step, shift)

    def _plan_average(self, plan: Plan, memory: Memory) -> Vectors:
        """Return where the differences of the averages to the shifts are, where all workers have begun to average."""
        from qsim.kernels.rounds import average, copy, less

        if plan.present is not None:  # of whom each begins when it first takes part
            raise NoProgram
        assert self.momentum is not None
        call, of, old = plan.program.call, memory.support, memory.arrays["momentum"]
        g, new, value = plan.update(self._plan_rows(plan, memory), 1.0), np.empty_like(old), np.empty_like(old)
        share = replace(g, value=np.empty_like(g.value))
        call(average, np.float32(self.momentum), g.offsets, g.value, old, share.value, new)
        plan_add(plan.program, of, new, share, 1.0)
        call(less, new, memory.arrays["shift"], value)
        plan.at_the_end(copy, new, old)
        return Vectors(of.n, of.offsets, of.index, value)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.5, momentum=0.5, batch=2, sampling=Passes()),)
