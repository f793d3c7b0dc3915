"""DASHA: compressed differences that forget what compression left out, without synchronisations."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block
from qsim.methods.base import Exchange, Task, constant, refuse_absences, refuse_biased, refuse_unfit, step_for
from qsim.methods.estimators import MVR, PAGE, Estimator, check_estimator, on_support
from qsim.methods.shifts import Shifted, Shifts
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.problem import Bound, Problem, TheoryError
from qsim.steps import Step, take_step
from qsim.weights import Weights


@final
@option
class DASHA(Shifted):
    r"""Compressed differences of gradients, and a share of what compression left out before.

    .. math::

        m_i &= C(k_i - k_i' - r (h_i - k_i')), \\
        h_i &\leftarrow h_i + m_i, \\
        w &\leftarrow w - a (h + \lambda w),

    with :math:`k_i` the gradient of worker :math:`i`'s rows, or an estimate of it, :math:`k_i'` that of the round
    before, and :math:`h` the mean of the :math:`h_i`. For an unbiased :math:`C`. Unlike `MARINA` it needs no
    synchronisations: no full gradient is sent after the first round. :math:`\lambda` is the `l2` of the objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a`, a number or a rule of `qsim.steps`. The default is described below.
    estimator : Estimator, optional
        `PAGE(...)` or `MVR(...)`, which read few rows in most rounds: DASHA-PAGE and DASHA-MVR. By default :math:`k_i`
        is the gradient of all rows.
    forget : float, optional
        The share :math:`r`, in (0, 1]; by default :math:`1/(2 \omega + 1)`.
    shifts : {"zero", "gradient"}, default "gradient"
        The :math:`h_i` of round 0: :math:`g_i(w_0)`, which all send exactly as dense float32 in round 0, as in the
        experiments of its authors, or zero.

    Raises
    ------
    ValueError
        If `forget` is outside (0, 1], and in the simulation for a compressor that states no variance or has a memory,
        and for sampled clients.

    Notes
    -----
    The step and the bound are derived here, in `docs/theory.md`. With :math:`s = \omega/W` (`Problem.spread`),
    :math:`\tilde L^2` the mean of :math:`L_i^2` and :math:`r = 1/(2 \omega + 1)`,
    :math:`a = 1 / (L + \tilde L \sqrt{2 s (2 \omega + 1)})`; for :math:`\mu > 0` the smaller of
    :math:`1 / (L + \tilde L \sqrt{4 s (2 \omega + 1)})` and :math:`r/(2 \mu)`, with which
    :math:`F(w) - F^\star + c_1 \|h - \nabla F\|^2 + c_2` mean of :math:`\|h_i - g_i\|^2` falls by a factor of at least
    :math:`1 - a \mu` per round. (From memory, the paper has 16 for the 2, and 40 for the 4.) With an estimator the step
    is that for nonconvex :math:`F`, in `docs/theory.md`, and nothing linear is promised.

    A round costs a worker its rows and :math:`O(\mathrm{support})`, and the server :math:`O(n)`. A worker keeps
    :math:`h_i` and :math:`k_i` on its support in float64, and with an estimator the last weights.

    References
    ----------
    .. [1] Tyurin, Richtarik, "DASHA: distributed nonconvex optimization with communication compression and optimal
           oracle complexity", ICLR 2023 (the methods).

    Examples
    --------
    >>> import qsim
    >>> qsim.DASHA(step=0.1).shifts
    'gradient'
    """

    step: Step | float | None = None
    estimator: Estimator | None = None
    forget: float | None = None
    shifts: Shifts = "gradient"

    def __post_init__(self) -> None:
        take_step(self)
        check_estimator(self.estimator)
        self._check_shifts()
        if self.forget is not None:
            number("forget", self.forget, above=0)
            if self.forget > 1:
                raise ValueError(f"forget must be at most 1, found {self.forget!r}")

    def resolved(self, problem: Problem) -> Self:
        refuse_absences(self, problem, "what they left out is forgotten by all together")
        refuse_unfit(self, problem)
        refuse_biased(self, problem, "the errors of a biased one add up")
        forget = 1 / (2 * problem.omega + 1) if self.forget is None else self.forget
        estimator = None if self.estimator is None else self.estimator.resolved(problem)
        filled = replace(self, forget=forget, estimator=estimator)
        return replace(filled, step=step_for(filled, problem, filled._longest))

    def bound(self, problem: Problem) -> Bound | None:
        mu, omega = problem.strong_convexity, problem.compressor.variance(problem.n)
        if self.estimator is not None or not mu or omega is None or not self._forgets_slowly(omega):
            return None
        step = constant(self.step, self._longest(problem))
        if step is None:
            return None
        assert self.forget is not None
        spread, error = problem.spread, 0.0
        if self.shifts == "zero":
            weight = step / (2 * self.forget * (1.5 - self.forget))
            error = weight * (1 + 4 * spread * self.forget) * problem.mean_square_gradient(problem.start)
        rounding = problem.rounding * (1 + 8 * spread / self.forget)  # compressed too, and carried on
        quantity = "F(w) - F* + c_1 ||h - grad F(w)||^2 + c_2 mean of ||h_i - g_i(w)||^2"
        return Bound(1 - step * mu, problem.suboptimality + error, 0.0, quantity, rounding)

    def _forgets_slowly(self, omega: float) -> bool:
        assert self.forget is not None
        return self.forget <= (1 + 1e-12) / (2 * omega + 1)

    def _longest(self, problem: Problem) -> float:
        """Return the longest step that the theorem allows."""
        omega, mu, forget = problem.omega, problem.strong_convexity, self.forget
        assert forget is not None
        if not self._forgets_slowly(omega):
            raise TheoryError(
                f"for forget = {forget:g}, above 1/(2 omega + 1), no step follows from theory: give the step"
            )
        if self.estimator is not None:
            change, late, total = self.estimator.error(problem)
            times = 2 * problem.spread * (1 + 2 * omega * forget) / (forget * (2 - forget))
            return 1 / (problem.smoothness + sqrt(2 * (times * (change + late) + total)))
        if mu > 0:
            times = problem.spread * (1 + 4 * omega * forget) / (forget * (1.5 - forget))
        else:
            times = problem.spread * (1 + 2 * omega * forget) / (forget * (2 - forget))
        longest = 1 / (problem.smoothness + problem.mean_square_smoothness * sqrt(2 * times))
        return min(longest, forget / (2 * mu)) if mu > 0 else longest

    def memory(self, block: Block, support: Support) -> Memory:
        kept = super().memory(block, support)
        if self.estimator is None:
            kept.arrays.update(Memory.zeros(support, "estimate", dtype=np.float64).arrays)
        else:
            kept.arrays.update(self.estimator.start(block, support))
        return kept

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        assert self.forget is not None
        if self.estimator is None:
            new = on_support(memory, objective.update(block, block.all_rows(), task.weights, 1.0))
        else:
            new = self.estimator.estimate(task, objective, block, memory)
        old, of = memory.arrays["estimate"], memory.support
        if task.name == "begin":
            sent = new
        else:
            before = new if task.round == 0 else old
            sent = new - before - self.forget * (memory.arrays["shift"] - before)
        memory.arrays["estimate"] = new
        return Vectors(of.n, of.offsets, of.index, sent.astype(task.weights.vector.dtype))

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        memory.add("shift", arrived)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        step, shift = self.step(exchange.round), state["shift"]
        if self._begin(w, shift, step, exchange):
            return
        received = exchange("difference" if self.estimator is None else self.estimator.task(exchange), w)
        received.vector.add_to(shift, received.share)
        exchange.objective.apply_l2_step(w, step)
        w.move(-step * shift)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(0.5), cls(0.3, PAGE(2, p=0.5), shifts="zero"), cls(0.3, MVR(2, 0.5))
