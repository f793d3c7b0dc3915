"""EF-BV: error feedback for compressors with a bias and a variance, with EF21 and DIANA at its ends."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Vectors
from qsim.block import Block
from qsim.methods.base import Exchange, Task, constant, refuse_absences, refuse_unfit, step_for
from qsim.methods.sampling import Sampling, WithReplacement, check_batch
from qsim.methods.shifts import ShiftedBatches, Shifts
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.problem import Bound, Problem, TheoryError
from qsim.steps import Step, take_step
from qsim.weights import Weights


@final
@option
class EFBV(ShiftedBatches):
    r"""Error feedback for compressors with a bias and a variance.

    .. math::

        m_i &= C(g_i - h_i), \\
        w &\leftarrow w - a (h + \nu m + \mathrm{l2}\, w), \\
        h_i &\leftarrow h_i + \lambda m_i,

    with :math:`m` and :math:`h` the weighted means of the :math:`m_i` and :math:`h_i`, :math:`\lambda` the `shift` and
    :math:`\nu` the `scale`. With :math:`\lambda = \nu = 1` it is `EF21`, with :math:`\nu = 1` it is `DIANA`.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a`, a number or a rule of `qsim.steps`. The default is described below.
    shift : float, optional
        The step :math:`\lambda` of the shifts, in (0, 1]; the default is described below.
    scale : float, optional
        The factor :math:`\nu` of what arrives, in (0, 1]; the default is described below.
    batch : int, optional
        The number of rows that a worker draws each round; by default all of them. With a batch nothing is promised.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.
    shifts : {"zero", "gradient"}, default "zero"
        The :math:`h_i` of round 0; with "gradient" :math:`g_i(w_0)`, sent exactly by all in round 0.

    Raises
    ------
    ValueError
        If `shift` or `scale` is outside (0, 1], and in the simulation for a compressor with a memory, for `Sign`, and
        for clients who sit out rounds.
    TheoryError
        In the simulation, if the compressor's bias and variance are not known and step, shift and scale are not given.

    Notes
    -----
    :math:`C` has a bias of :math:`\eta` and a variance of :math:`\omega` if
    :math:`\|\mathbb{E} C(v) - v\| \leq \eta \|v\|` and
    :math:`\mathbb{E} \|C(v) - \mathbb{E} C(v)\|^2 \leq \omega \|v\|^2` (`Compressor.bias_and_variance`). Of an unbiased
    compressor :math:`\eta = 0`; of a contraction :math:`\eta = \sqrt{1 - \delta}`, and :math:`\omega = 0` for `TopK`,
    :math:`1 - \delta` for others. `CompK` and `MixK` are the paper's comp-:math:`(k, k')` and mix-:math:`(k, k')`.
    `Compose(TopK(k'), Q)` for an unbiased :math:`Q` has :math:`\eta = \sqrt{1 - k'/n}` and the :math:`\omega` of
    :math:`Q`: with `Bernoulli(k/k')` for :math:`Q` it is comp-:math:`(k, k')` with :math:`k` coordinates in the mean.

    With :math:`\omega_m = \omega/W` (for unequal shards :math:`\omega` times the largest weight),
    :math:`\lambda = \min(1, (1 - \eta) / ((1 - \eta)^2 + \omega))`, :math:`\nu` the same with :math:`\omega_m`,
    :math:`r = (1 - \lambda + \lambda \eta)^2 + \lambda^2 \omega`, :math:`r_m` the same with :math:`\nu` and
    :math:`\omega_m`, :math:`q = \sqrt{(1 + r)/(2 r)} - 1` and :math:`\tilde L^2` the mean of :math:`L_i^2`,
    :math:`a = 1 / (L + \tilde L \sqrt{r_m/r}/q)`. Then :math:`F(w) - F^\star + c` mean of :math:`\|h_i - g_i(w)\|^2`
    falls by a factor of at least :math:`\max(1 - a \mu, (1 + r)/2)` per round, also for nonconvex :math:`F` with the
    Polyak-Lojasiewicz inequality.

    References
    ----------
    .. [1] Condat, Yi, Richtarik, "EF-BV: a unified theory of error feedback and variance reduction mechanisms for
           biased and unbiased compression in distributed optimization", NeurIPS 2022, Theorem 1 (step and rate).

    Examples
    --------
    >>> import qsim
    >>> qsim.EFBV(step=0.1, shift=0.5, scale=0.8).scale
    0.8
    """

    step: Step | float | None = None
    shift: float | None = None
    scale: float | None = None
    batch: int | None = None
    sampling: Sampling = WithReplacement()
    shifts: Shifts = "zero"

    def __post_init__(self) -> None:
        take_step(self)
        check_batch(self.batch, self.sampling)
        self._check_shifts()
        for name in ("shift", "scale"):
            given = getattr(self, name)
            if given is not None:
                number(name, given, above=0)
                if given > 1:
                    raise ValueError(f"{name} must be at most 1, found {given!r}")

    def resolved(self, problem: Problem) -> Self:
        refuse_unfit(self, problem)
        refuse_absences(self, problem, "its theorem is for all workers")
        shift, scale = self.shift, self.scale
        if shift is None or scale is None:
            eta, omega, mean = _certificate(problem)
            shift = _factor(eta, omega) if shift is None else shift
            scale = _factor(eta, mean) if scale is None else scale
        filled = replace(self, shift=shift, scale=scale)
        return replace(filled, step=step_for(filled, problem, filled._longest))

    def bound(self, problem: Problem) -> Bound | None:
        mu = problem.strong_convexity
        if self.batch is not None or not mu or problem.compressor.bias_and_variance(problem.n) is None:
            return None
        left, mean = self._left(problem)
        step = constant(self.step, self._longest(problem)) if left < 1 else None
        if step is None:
            return None
        error = 0.0
        if self.shifts == "zero" and mean:
            late = sqrt((1 + left) / (2 * left)) - 1
            error = step * mean / (2 * left * late * (1 + late)) * problem.mean_square_gradient(problem.start)
        factor = max(1 - step * mu, (1 + left) / 2)
        quantity = "F(w) - F* + c mean of ||h_i - g_i(w)||^2"
        return Bound(factor, problem.suboptimality + error, 0.0, quantity, problem.rounding)

    def _left(self, problem: Problem) -> tuple[float, float]:
        """Return r and r_m: what is left of the error of a shift, and of that of their mean, after a message."""
        eta, omega, mean = _certificate(problem)
        assert self.shift is not None
        assert self.scale is not None
        left = (1 - self.shift + self.shift * eta) ** 2 + self.shift**2 * omega
        return left, (1 - self.scale + self.scale * eta) ** 2 + self.scale**2 * mean

    def _longest(self, problem: Problem) -> float:
        """Return the longest step that the theorem allows."""
        left, mean = self._left(problem)
        if left >= 1:
            raise TheoryError(f"with shift = {self.shift:g} the shifts run away from the gradients: take a smaller one")
        late = sqrt(mean / left) / (sqrt((1 + left) / (2 * left)) - 1) if mean else 0.0
        return 1 / (problem.smoothness + problem.mean_square_smoothness * late)

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
        assert self.scale is not None
        step, shift = self.step(exchange.round), state["shift"]
        if self._begin(w, shift, step, exchange):
            return
        received = exchange("difference", w)
        exchange.objective.apply_l2_step(w, step)
        w.move(-step * shift)
        w.subtract(received.vector.scaled(step * self.scale * received.share))
        received.vector.add_to(shift, self.shift * received.share)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.3, shift=0.5, scale=0.5),)


def _certificate(problem: Problem) -> tuple[float, float, float]:
    """Return eta, omega, and the omega of the weighted mean of what arrives."""
    found = problem.compressor.bias_and_variance(problem.n)
    if found is None:
        raise TheoryError(
            f"bias and variance of {problem.compressor!r} are not known, so no step follows from theory: give step,"
            " shift and scale"
        )
    eta, omega = found
    if not eta:
        return eta, omega, problem.spread
    together = problem.shared or problem.compressor.correlated is not None
    return eta, omega, omega if together else omega * problem.largest_share


def _factor(eta: float, omega: float) -> float:
    """Return the factor of what arrives that leaves least of an error, at most 1."""
    return min(1.0, (1 - eta) / ((1 - eta) ** 2 + omega))
