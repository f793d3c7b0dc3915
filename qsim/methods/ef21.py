"""EF21: error feedback by shifts, with and without momentum."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.batch.planned import plan_add
from qsim.block import Block
from qsim.compressors import Scaled
from qsim.methods.base import Exchange, Task, constant, refuse_absences, refuse_unfit, step_for
from qsim.methods.descent import HeavyBall, Momentum, check_momentum
from qsim.methods.ef21_steps import RareFeatures, followed, of_owners, plain_step, theta_of
from qsim.methods.estimators import PAGE, Estimator, check_estimator
from qsim.methods.sampling import Passes, Sampling, WithReplacement, check_batch
from qsim.methods.shifts import ShiftedBatches, Shifts
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.plan import Plan
from qsim.problem import Bound, Problem, TheoryError
from qsim.program import NoProgram
from qsim.steps import Step, TheoryStep, take_step
from qsim.weights import Weights


@final
@option
class EF21(ShiftedBatches):
    r"""Error feedback by shifts.

    .. math::

        c_i &= C(g_i - h_i), \\
        h_i &\leftarrow h_i + c_i, \\
        w &\leftarrow w - a (h + \lambda w),

    with :math:`h` the mean of the :math:`h_i`. For a contraction :math:`C`. With `momentum` :math:`\eta`, EF21-SGDM:
    :math:`g_i` is replaced by :math:`v_i \leftarrow (1 - \eta) v_i + \eta g_i`, where :math:`v_i` starts at the first
    :math:`g_i`. :math:`\lambda` is the `l2` of the objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a`, a number, a rule of `qsim.steps`, or that of a theorem: `RareFeatures()`, the longest on
        sparse rows; of a paper, `Richtarik2021()`, `Richtarik2024()`, with momentum `Fatkhullin2023()`. The default is
        described below.
    momentum : float, optional
        :math:`\eta` in (0, 1], which makes the method work with batches: without it the noise of a batch is amplified
        by what :math:`C` leaves out.
    batch : int, optional
        The number of rows that a worker draws each round; by default all of them.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.
    shifts : {"zero", "gradient"}, default "zero"
        The shifts of round 0. With "gradient", as in the experiments of its authors, :math:`h_i = g_i(w_0)`, sent
        exactly by all in round 0, so that the second term of the bound is 0 at first. (They also compress gradients
        with the regulariser in them: `qsim.objectives.WithRegulariser`.)
    server_momentum : Momentum, optional
        `HeavyBall(beta)` or `Nesterov(beta)` on the server, along :math:`h + \lambda w`: with the first EF21-HB. None
        by default.
    estimator : Estimator, optional
        `PAGE(...)` or `MVR(...)`, which stand for the gradient of all rows, with few of them: with the first EF21-PAGE.
        Instead of `momentum` and `batch`.

    Raises
    ------
    ValueError
        If `momentum` is outside (0, 1], for an estimator beside `momentum` or `batch`, and in the simulation for a
        compressor with a memory (the shift is one) or with :math:`\omega \geq 1` (the shifts would diverge), for
        `Sign`, and for an estimator with clients who sit out rounds.
    TheoryError
        In the simulation, if a compressor without :math:`\delta` is given no step.

    Notes
    -----
    The server steps along the shifts of the workers, which approach the gradients as they converge; no error is kept.
    The step of theory is derived here, in `docs/theory.md`. Let :math:`l_i` be the smoothness of :math:`g_i`
    (:math:`L_i` less `l2`, which is not compressed) and :math:`M` the largest sum, over the features, of weight times
    :math:`l_i` over the workers whose rows touch the feature (`Problem.feature_smoothness`): at most the mean of
    :math:`L_i` of `Richtarik2024`, and less if no feature is in the rows of all workers. With :math:`\delta` of
    :math:`C` (:math:`k/W` of it if :math:`k` of :math:`W` workers take part), :math:`\theta = 1 - \sqrt{1 - \delta}`,
    :math:`\beta = (1 - \delta)/\theta` and :math:`L` of :math:`F`, :math:`a = 1 / (L + M \sqrt{\beta/\theta})`, and if
    :math:`\mu > 0` the smaller of :math:`1 / (L + M \sqrt{2 \beta/\theta})` and :math:`\theta/(2 \mu)`. Then
    :math:`F(w) - F^\star + (a/\theta) M` sum of :math:`\mathrm{weight}_i/l_i \|h_i - g_i(w)\|^2` falls by a factor of
    at least :math:`1 - a \mu` per round.

    Clients who sit out rounds (EF21-PP) are clients of the run: who is absent sends nothing, which is a contraction
    with :math:`P \delta`, :math:`P` the share that takes part, so that the same step and bound hold. Sums that come
    down compressed (EF21-BC) are those of `downlink=qsim.downlinks.CompressedSum(...)`: the server steps along
    :math:`g`, and :math:`g \leftarrow g + C_M(h - g)`. With :math:`R = \beta/\theta`, and :math:`R_M` and
    :math:`\theta_M` those of :math:`C_M`, :math:`q = \sqrt{1 - \delta}`,
    :math:`a = 1 / (L + M \sqrt{2 R + 4 (1 + q)^2 R_M (1 + R)})`, and if :math:`\mu > 0` the smaller of
    :math:`1 / (L + M \sqrt{4 R + 8 (1 + q)^2 R_M (1 + 2 R)})` and :math:`\min(\theta, \theta_M)/(2 \mu)`, with a bound
    of the same kind (derived in `docs/theory.md`).
    With momentum below 1, :math:`r = (1 - \eta)^2/\eta^2` and if all take part, :math:`a = 1 / (L + \sqrt{X})`,
    :math:`X = 4 R \eta^2 M^2 + 2 r (L^2 + 2 R \eta^2 M^2)`, and if :math:`\mu > 0` the smaller of that with
    :math:`X = 8 R \eta^2 M^2 + 4 r (L^2 + 4 R \eta^2 M^2)` and :math:`\min(\theta, \eta)/(2 \mu)`: with full gradients,
    :math:`F(w) - F^\star` then falls linearly, too. (Derived here. If a share :math:`P` takes part,
    :math:`1 - \sqrt{1 - P (2 \eta - \eta^2)}` stands for :math:`\eta` in :math:`r` and in the minimum, :math:`P \theta`
    for :math:`\theta` there, and :math:`M` for :math:`L` in :math:`X`, once all have taken part; no bound is stated.)

    With a nonsmooth part of :math:`F` and proximal steps (EF21-Prox), :math:`a = 1 / (2 (L + M \sqrt{\beta/\theta}))`:
    the mean over :math:`T` rounds of the squared norm of the prox-gradient mapping is at most :math:`8/(a T)` times
    what :math:`F` and the error of the shifts begin at. (With momentum or an estimator give the step.) With heavy ball,
    :math:`a = (1 - \beta) / (L + \sqrt{2 L^2 \beta^2/(1 - \beta)^2 + 2 R M^2})`; with an estimator the step is in
    `docs/theory.md`. Both are derived there for nonconvex :math:`F`, and nothing linear is promised. Of all together,
    and of Nesterov's, no step is known.

    References
    ----------
    .. [1] Richtarik, Sokolov, Fatkhullin, "EF21", NeurIPS 2021 (the method; rate).
    .. [2] Richtarik, Gasanov, Burlachenko, "Error feedback reloaded", ICLR 2024, Theorem 3 (the mean of L_i).
    .. [3] Fatkhullin, Tyurin, Richtarik, "Momentum provably improves error feedback!", NeurIPS 2023 (momentum).
    .. [4] Fatkhullin et al., "EF21 with bells and whistles", JMLR 2025 (absent clients, heavy ball, PAGE).

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
    server_momentum: Momentum | None = None
    estimator: Estimator | None = None

    def __post_init__(self) -> None:
        take_step(self)
        check_batch(self.batch, self.sampling)
        check_momentum("server_momentum", self.server_momentum)
        check_estimator(self.estimator)
        if self.estimator is not None and (self.momentum is not None or self.batch is not None):
            raise ValueError(
                f"an estimator draws rows and averages itself: leave out momentum and batch, found {self!r}"
            )
        self._check_shifts()
        if self.momentum is not None:
            number("momentum", self.momentum, above=0)
            if self.momentum > 1:
                raise ValueError(f"momentum must be at most 1, found {self.momentum!r}")

    def resolved(self, problem: Problem) -> Self:
        self._check_shifts(problem)
        compressor = problem.compressor
        if compressor.three_point(problem.n) is None:
            refuse_unfit(self, problem)
        if compressor.contraction(problem.n) is None and (compressor.variance(problem.n) or 0) >= 1:
            raise ValueError(
                f"EF21 needs a contraction, found {compressor!r}, with which its shifts run away: take"
                f" {Scaled(compressor)!r}, or DIANA"
            )
        if problem.objective.composite and isinstance(self.step, TheoryStep):
            raise TheoryError(f"{self.step!r} is about smooth objectives, found {problem.objective!r}: leave it out")
        if self.estimator is not None:
            refuse_absences(self, problem, "an estimate is of this round and the one before")
            estimated = replace(self, estimator=self.estimator.resolved(problem))
            return replace(estimated, step=step_for(self, problem, estimated._longest))
        return replace(self, step=step_for(self, problem, self._longest))

    def bound(self, problem: Problem) -> Bound | None:
        mu, compressor = problem.strong_convexity, problem.compressor
        delta, constants = compressor.contraction(problem.n), compressor.three_point(problem.n)
        if self.batch is not None or self.estimator is not None or self.server_momentum is not None:
            return None
        if not mu or (delta is None and constants is None) or problem.objective.composite:
            return None
        if self._averages and problem.participation < 1:
            return None
        step = constant(self.step, self._longest(problem))
        if step is None:
            other = self.is_more or problem.down is not None or constants is not None
            return None if other else self._bound_of_owners(problem)
        theta, _ = followed(problem, problem.participation)
        error = 0.0  # of the shifts after the first message
        if self.shifts == "zero":
            left = 1 - problem.delta * problem.participation if constants is None else constants[1]
            error = left * problem.sent_energy(problem.start)
        if problem.down is not None:
            start = problem.suboptimality + step * self._both_ways(problem)[1] * problem.sent_energy(problem.start)
            quantity = "F(w) - F* + c_1 sum of weight_i/l_i ||h_i - g_i(w)||^2 + c_2 ||g - h||^2"
            return Bound(1 - step * mu, start, 0.0, quantity, problem.rounding)
        start = problem.suboptimality + (2 if self._averages else 1) * step / theta * error
        quantity = "F(w) - F* + c sum of weight_i/l_i ||h_i - g_i(w)||^2"
        return Bound(1 - step * mu, start, 0.0, quantity, problem.rounding)

    def _bound_of_owners(self, problem: Problem) -> Bound | None:
        """Return the bound of `RareFeatures`."""
        step = constant(self.step, RareFeatures().longest(self, problem))
        if step is None:
            return None
        error, (several, _, left) = 0.0, of_owners(problem)
        if self.shifts == "zero":
            error = several * problem.scaled_energy(problem.start, left)
        quantity = "F(w) - F* + sum of c_i ||h_i - g_i(w)||^2"
        mu = problem.strong_convexity
        return Bound(1 - step * mu, problem.suboptimality + step * error, 0.0, quantity, problem.rounding)

    @property
    def takes_proximal_steps(self) -> bool:
        return self.server_momentum is None

    @property
    def is_more(self) -> bool:
        """Whether there is a moving average, a momentum of the server or an estimator beside the shifts."""
        return self._averages or self.server_momentum is not None or self.estimator is not None

    @property
    def _averages(self) -> bool:
        return self.momentum is not None and self.momentum < 1

    def _longest(self, problem: Problem) -> float:
        """Return the longest step that the theorem of the docstring allows."""
        smoothness = problem.feature_smoothness
        if problem.objective.composite:
            return self._with_proximal_steps(problem)
        if problem.down is not None:
            return self._both_ways(problem)[0]
        if self.server_momentum is not None:
            return self._with_heavy_ball(problem)
        if self.estimator is not None:
            change, late, total = self.estimator.error(problem)
            _, ratio = followed(problem, 1.0)
            return 1 / (problem.smoothness + sqrt(2 * (ratio * (change + late) + total)))
        if not self._averages:
            return plain_step(problem, smoothness)
        assert self.momentum is not None
        mu, share, eta = problem.strong_convexity, problem.participation, self.momentum
        theta, ratio = followed(problem, 1.0)
        sent, forgets = ratio * (eta * smoothness) ** 2, 1 - sqrt(1 - share * (2 * eta - eta**2))
        whole = (problem.smoothness if share == 1 else smoothness) ** 2
        late = (1 / forgets - 1) ** 2
        if mu > 0:
            longest = 1 / (problem.smoothness + sqrt(8 * sent + 4 * late * (whole + 4 * sent)))
            return min(longest, min(share * theta, forgets) / (2 * mu))
        return 1 / (problem.smoothness + sqrt(4 * sent + 2 * late * (whole + 2 * sent)))

    def _with_proximal_steps(self, problem: Problem) -> float:
        if self._averages or self.estimator is not None or problem.down is not None:
            raise TheoryError(f"no step of theory is known for {self!r} with proximal steps: give the step")
        _, ratio = followed(problem, problem.participation)
        return 1 / (2 * problem.smoothness + 2 * problem.feature_smoothness * sqrt(ratio))

    def _both_ways(self, problem: Problem) -> tuple[float, float]:
        """Return the longest step where the sum comes down compressed, and what times it and M E is at the start."""
        down = None if problem.down is None else problem.down.contraction(problem.n)
        plain = not self.is_more and problem.compressor.three_point(problem.n) is None
        if down is None or not plain or problem.objective.composite:
            raise TheoryError(
                f"no step of theory is known for {self!r} with sums compressed by {problem.down!r}: give it"
            )
        mu, delta = problem.strong_convexity, problem.delta * problem.participation
        (theta, ratio), (late, late_ratio) = theta_of(delta), theta_of(down)
        size = (1 + sqrt(1 - delta)) ** 2  # of messages, in parts of what is compressed
        reach, strong = size * late_ratio, 2 if mu > 0 else 1
        root = sqrt(2 * strong * ratio + 4 * strong * reach * (1 + strong * ratio))
        step = 1 / (problem.smoothness + problem.feature_smoothness * root)
        begin = strong * (1 + 2 * strong * reach) / theta * (1 - delta) if self.shifts == "zero" else 0.0
        begin += strong / late * (1 - down) * (size if self.shifts == "zero" else 1.0)
        return (min(step, min(theta, late) / (2 * mu)) if mu > 0 else step), begin

    def _with_heavy_ball(self, problem: Problem) -> float:
        if not isinstance(self.server_momentum, HeavyBall) or self._averages or self.estimator is not None:
            raise TheoryError(f"no step of theory is known for {self!r}: give the step")
        beta = self.server_momentum.beta
        _, ratio = followed(problem, problem.participation)
        late = (problem.smoothness * beta / (1 - beta)) ** 2
        return (1 - beta) / (problem.smoothness + sqrt(2 * (late + ratio * problem.feature_smoothness**2)))

    def start(self, w: Weights) -> Arrays:
        velocity = {} if self.server_momentum is None else {"velocity": np.zeros_like(w.vector)}
        return super().start(w) | velocity

    def memory(self, block: Block, support: Support) -> Memory:
        kept = super().memory(block, support)
        if self.estimator is not None:
            kept.arrays.update(self.estimator.start(block, support))
        if self.momentum is not None:
            kept.arrays.update(Memory.zeros(support, "momentum").arrays, started=np.zeros(block.workers, np.bool_))
        return kept

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        if self.estimator is not None:
            found, of = self.estimator.estimate(task, objective, block, memory), memory.support
            memory.arrays["estimate"] = found
            sent = (found - memory.arrays["shift"]).astype(task.weights.vector.dtype)
            return Vectors(of.n, of.offsets, of.index, sent)
        gradient = self._gradient(task, objective, block, memory)
        if self.momentum is None:
            return memory.less(gradient, "shift")
        share = np.where(memory.arrays["started"], self.momentum, 1.0).astype(memory.arrays["momentum"].dtype)
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
        if self.shifts == "gradient" and not exchange.round:
            exchange("begin", w, exact="float32").vector.add_to(shift)
        else:
            received = exchange("difference" if self.estimator is None else self.estimator.task(exchange), w)
            received.vector.add_to(shift, received.share)
        if self.server_momentum is None:
            exchange.objective.apply_l2_step(w, step)
            w.move(-step * shift)
            exchange.objective.proximal_step(w, step)
            return
        plain, velocity = step * (shift + exchange.objective.regulariser(w.dense())[1]), state["velocity"]
        velocity *= self.server_momentum.beta
        velocity += plain
        w.move(-self.server_momentum.along(velocity, plain))

    def plan(self, plan: Plan, memory: Memory) -> None:
        from qsim.kernels.rounds import add_row

        if self.estimator is not None or self.server_momentum is not None:
            raise NoProgram
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
        averaged = cls(0.5, momentum=0.5, batch=2, sampling=Passes())
        return averaged, cls(0.5, server_momentum=HeavyBall(0.5)), cls(0.3, estimator=PAGE(2, p=0.5))
