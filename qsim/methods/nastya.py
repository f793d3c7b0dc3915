"""NASTYA: reshuffled passes on the workers, and compressed means of the gradients met on the way."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from math import expm1, log1p
from typing import ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block
from qsim.datasets import Shards
from qsim.l2_decay import GlobalScale
from qsim.methods.base import Exchange, Method, Task, constant, refuse_unfit, step_for
from qsim.methods.local import refuse_own_regulariser
from qsim.methods.sampling import Passes, drawn
from qsim.objectives import Objective
from qsim.options import number, option, whole
from qsim.problem import Bound, Problem, TheoryError
from qsim.steps import Step, take_step
from qsim.weights import Weights

_PASSES = Passes()


class _Nastya(Method):
    """A worker's message is about its mean gradient over a pass of m local steps c: (p w - u_m) / (c m).

    p = (1 - c l2)^m: what l2 alone does is known to the server, which takes the step a (1 - p)/(c m) w by itself.
    """

    step: Step | float | None
    local_step: float | None
    steps: int | None
    batch: int

    _drift: ClassVar[int]
    """1/(c m Lr) of the default local step."""
    _compression: ClassVar[int]
    """How often s counts in the step."""

    def __post_init__(self) -> None:
        take_step(self)
        if self.local_step is not None:
            number("local_step", self.local_step, above=0)
        if self.steps is not None:
            whole("steps", self.steps, least=1)
        whole("batch", self.batch, least=1)

    def memory(self, block: Block, support: Support) -> Memory:
        return Memory(support, _PASSES.memory(block))

    def rows_per_round(self, shards: Shards) -> float:
        assert self.steps is not None
        return self.steps * self.batch

    def resolved(self, problem: Problem) -> Self:
        refuse_unfit(self, problem)
        refuse_own_regulariser(self, problem)
        found: Self = self
        if self.steps is None:
            found = replace(self, steps=self._whole_pass(problem))  # type: ignore[type-var]
        if found.local_step is None:
            found._whole_pass(problem)
            assert found.steps is not None
            local_step = 1 / (self._drift * found.steps * problem.row_smoothness)
            found = replace(found, local_step=local_step)  # type: ignore[type-var]
        return replace(found, step=step_for(found, problem, found._longest))  # type: ignore[type-var]

    def _whole_pass(self, problem: Problem) -> int:
        """Return the number of local steps in a pass; raise TheoryError where there is no such number."""
        sizes = problem.shards.sizes
        steps = int(sizes[0]) // self.batch
        if (sizes != max(steps, 1) * self.batch).any() or self.steps not in (None, steps):
            raise TheoryError(
                f"{type(self).__name__} in theory is for rounds that are whole passes over shards of one size, found"
                f" {sizes.min():,} to {sizes.max():,} rows, batch = {self.batch}, steps = {self.steps}: give step,"
                " local_step and steps"
            )
        return steps

    def _late(self, problem: Problem) -> tuple[float, float]:
        """Return what drift leaves of the rate, and c^2 times its noise, of `docs/theory.md`."""
        assert self.steps is not None
        assert self.local_step is not None
        theta = (self.local_step * problem.row_smoothness * self.steps) ** 2
        if theta >= 0.4 * (1 + 1e-12):
            return 0.0, float("inf")
        best = problem.optimum
        rows = problem.row_noise(best) / self.batch
        noise = self.steps**2 * problem.heterogeneity + (self.steps + 1) * rows / 2
        return 1 - theta / (1 - 1.5 * theta), self.local_step**2 * problem.row_smoothness * noise / (1 - 1.5 * theta)

    def _longest(self, problem: Problem) -> float:
        """Return the longest step that the theorem allows."""
        self._whole_pass(problem)
        return 1 / ((1 + self._compression * problem.spread) * problem.row_smoothness)

    def _uneven(self, problem: Problem) -> float:
        """Return what is left of the rows' noise in a mean of a pass, as l2 has shrunk the first steps the most."""
        if self.steps == 1:
            return 0.0
        assert self.steps is not None
        rows = problem.row_noise(problem.optimum) / self.batch
        return self._left(problem.objective)[0] ** 2 * rows / (4 * (self.steps - 1))

    def _left(self, objective: Objective) -> tuple[float, float]:
        """Return 1 - p, and c m."""
        assert self.local_step is not None
        assert self.steps is not None
        shrink = self.local_step * float(objective.l2 or 0.0)
        if shrink >= 1:
            raise ValueError(f"local_step * l2 = {shrink:g}: it must stay below 1; take a smaller local_step")
        return -expm1(self.steps * log1p(-shrink)), self.local_step * self.steps

    def _gradients(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        """Return what each worker's pass says of its gradient."""
        assert self.steps is not None
        assert self.local_step is not None
        rows = drawn(_PASSES, block, self.steps * self.batch, task, memory)
        steps = np.full(self.steps, self.local_step)
        moved = objective.local_steps(block, rows, self.batch, task.weights, steps, GlobalScale())
        return moved.scaled(1 / self._left(objective)[1])

    def _shrink(self, w: Weights, step: float, objective: Objective) -> None:
        """Take the part of a step that l2 makes."""
        gone, far = self._left(objective)
        if gone:
            factor = 1 - step * gone / far
            if factor <= 0:
                raise ValueError(f"step * l2 = {step * gone / far:g}: it must stay below 1; take a smaller step")
            w.shrink(factor)

    @abstractmethod
    def by_sadiev2024(self, problem: Problem) -> float:
        """Return the step of the paper."""


@final
@option
class QNASTYA(_Nastya):
    r"""Q-NASTYA: compressed means of the gradients of a reshuffled pass.

    Every worker does a pass of :math:`m` local steps over its rows in a random order, :math:`u_0 = w`,
    :math:`u_{j+1} = u_j - c (g_{ij}(u_j) + \lambda u_j)`, and sends :math:`C(v_i)`, :math:`v_i = (p w - u_m)/(c m)`,
    :math:`p = (1 - c \lambda)^m`. The server takes :math:`w \leftarrow w - a` (mean of
    :math:`C(v_i) + (1 - p)/(c m) w`). For an unbiased :math:`C`. The local steps :math:`c` may be far shorter than the
    server's :math:`a`. :math:`\lambda` is the `l2` of the objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a` of the server, a number, a rule of `qsim.steps`, or that of the paper, `Sadiev2024()`. By
        default :math:`1 / ((1 + 2 s) L_r)`, :math:`s = \omega/W` (`Problem.spread`), :math:`L_r` the largest :math:`L`
        of a single row's loss.
    local_step : float, optional
        The step :math:`c` of the workers; by default :math:`1/(5 m L_r)`.
    steps : int, optional
        The number :math:`m` of local steps in a round; by default a pass over the shard, all shards having one size.
    batch : int, default 1
        The number of rows of each local step.

    Raises
    ------
    ValueError
        If a number is out of range, and in the simulation for a compressor with a memory, for `Sign`, and for an
        objective whose regulariser is not l2.
    TheoryError
        In the simulation, if a compressor without :math:`\omega` is given no step, or shards of several sizes no steps.

    Notes
    -----
    :math:`v_i` is the mean of the gradients along the way, but for `l2`, whose part the server knows: messages stay as
    sparse as rows. (As in the paper, with `l2` in it, it is for `WithRegulariser(objective)`.) With :math:`a = c m` it
    is `LocalSGD` with passes.

    The step is derived here, in `docs/theory.md`, for rounds that are whole passes and convex losses of rows; the
    paper's, :math:`1 / (16 (1 + s) L_r)`, is `Sadiev2024()`. With :math:`t = (c m L_r)^2 \leq 2/5`,
    :math:`\mathbb{E} \|w - w^\star\|^2` falls by a factor of at least :math:`1 - a \mu (1 - t/(1 - 1.5 t))` per round,
    to a floor: with :math:`z^2` the mean of :math:`\|\nabla f_i(w^\star)\|^2`, :math:`v^2` that of the variance of the
    gradient of a row (over batch) there, and :math:`y^2` of :math:`\|g_i(w^\star)\|^2`, the sum of
    :math:`a L_r c^2 (m^2 z^2 + (m + 1) v^2/2)/(1 - 1.5 t)`, which short local steps make small, and of
    :math:`2 a^2 s (y^2 + (1 - p)^2 v^2/(4 (m - 1)))`, which is the noise of :math:`C`, over
    :math:`a \mu (1 - t/(1 - 1.5 t))`.

    References
    ----------
    .. [1] Sadiev, Malinovsky, Gorbunov, Sokolov, Khaled, Burlachenko, Richtarik, "Don't compress gradients in random
           reshuffling: compress gradient differences", NeurIPS 2024, Theorem 2.3 (the method; local step).
    .. [2] Malinovsky, Mishchenko, Richtarik, "Server-side stepsizes and sampling without replacement provably help in
           federated optimization", 2022 (without compression).

    Examples
    --------
    >>> import qsim
    >>> qsim.QNASTYA(step=0.5, local_step=0.01, steps=20)
    qsim.QNASTYA(step=0.5, local_step=0.01, steps=20)
    """

    step: Step | float | None = None
    local_step: float | None = None
    steps: int | None = None
    batch: int = 1

    _drift, _compression = 5, 2

    def bound(self, problem: Problem) -> Bound | None:
        mu, omega = problem.strong_convexity, problem.compressor.variance(problem.n)
        if not mu or omega is None or not problem.unbiased_mean:
            return None
        step = constant(self.step, self._longest(problem))
        rate, drift = self._late(problem)
        if step is None or not rate:
            return None
        noise = 2 * step**2 * problem.spread * (problem.sent_at_optimum + self._uneven(problem))
        half = problem.smoothness / 2
        floor = half * (step * drift + noise) / (step * mu * rate)
        return Bound(1 - step * mu * rate, half * problem.square_distance, floor, "||w - w*||^2", problem.rounding)

    def by_sadiev2024(self, problem: Problem) -> float:
        return 1 / (16 * (1 + problem.spread) * problem.row_smoothness)

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        return self._gradients(task, objective, block, memory)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        step = self.step(exchange.round)
        total = exchange("pass", w).vector
        self._shrink(w, step, exchange.objective)
        w.subtract(total.scaled(step))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.5, local_step=0.1, steps=3),)


@final
@option
class DIANANASTYA(_Nastya):
    r"""DIANA-NASTYA: compressed differences of the mean gradients of reshuffled passes to shifts that learn them.

    As `QNASTYA`, but workers send :math:`m_i = C(v_i - h_i)`, :math:`h_i \leftarrow h_i + \mathrm{shift}\, m_i`, and
    the server steps along the mean of :math:`h_i + m_i`. For an unbiased :math:`C`. :math:`\lambda` is the `l2` of the
    objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a` of the server, a number, a rule of `qsim.steps`, or that of the paper, `Sadiev2024()`. By
        default :math:`1 / ((1 + 7 s) L_r)`, :math:`s = \omega/W` (`Problem.spread`), :math:`L_r` the largest :math:`L`
        of a single row's loss.
    local_step : float, optional
        The step :math:`c` of the workers; by default :math:`1/(16 m L_r)`.
    shift : float, optional
        The step of the shifts, in (0, 1]; by default :math:`1 / (1 + \omega)`.
    steps : int, optional
        The number :math:`m` of local steps in a round; by default a pass over the shard, all shards having one size.
    batch : int, default 1
        The number of rows of each local step.

    Raises
    ------
    ValueError
        If a number is out of range, and in the simulation for a compressor with a memory, for `Sign`, and for an
        objective whose regulariser is not l2.
    TheoryError
        In the simulation, if a compressor without :math:`\omega` is given no step, or shards of several sizes no steps.

    Notes
    -----
    The floor that the noise of :math:`C` leaves `QNASTYA` goes, and what passes leave is as :math:`c^2`: with short
    local steps it converges as far as one likes, however few bits :math:`C` takes.

    The step is derived here, in `docs/theory.md`, for rounds that are whole passes and convex losses of rows; the
    paper's, :math:`\min(\mathrm{shift}/(2 \mu), 1 / (16 (1 + 9 s) L_r))`, is `Sadiev2024()`. With the symbols of
    `QNASTYA`, :math:`\mathbb{E} \|w - w^\star\|^2 + (4 s a^2/\mathrm{shift})` mean of
    :math:`\|h_i - k g_i(w^\star)\|^2`, :math:`k` the mean of :math:`(1 - c \lambda)^j`, :math:`j < m`, falls by a
    factor of at least :math:`\max(1 - a \mu (1 - t/(1 - 1.5 t)), 1 - \mathrm{shift}/2)` per round, to a floor of
    :math:`a L_r c^2 (m^2 z^2 + (m + 1) v^2/2)/(1 - 1.5 t) + 22 a^2 s (1 - p)^2 v^2/(4 (m - 1))` over one minus that
    factor.

    References
    ----------
    .. [1] Sadiev, Malinovsky, Gorbunov, Sokolov, Khaled, Burlachenko, Richtarik, "Don't compress gradients in random
           reshuffling: compress gradient differences", NeurIPS 2024, Theorem 2.4 (the method; local step).

    Examples
    --------
    >>> import qsim
    >>> qsim.DIANANASTYA(step=0.5, local_step=0.01, shift=0.2, steps=20).shift
    0.2
    """

    step: Step | float | None = None
    local_step: float | None = None
    shift: float | None = None
    steps: int | None = None
    batch: int = 1

    _drift, _compression = 16, 7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shift is not None:
            number("shift", self.shift, above=0)
            if self.shift > 1:
                raise ValueError(f"shift must be at most 1, found {self.shift!r}")

    def resolved(self, problem: Problem) -> Self:
        shift = 1 / (1 + problem.omega) if self.shift is None else self.shift
        return _Nastya.resolved(replace(self, shift=shift), problem)

    def start(self, w: Weights) -> Arrays:
        return {"shift": np.zeros_like(w.vector)}

    def bound(self, problem: Problem) -> Bound | None:
        mu, omega = problem.strong_convexity, problem.compressor.variance(problem.n)
        if not mu or omega is None or not problem.unbiased_mean:
            return None
        if self.shift is None or self.shift > 1 / (1 + omega):
            return None
        step = constant(self.step, self._longest(problem))
        rate, drift = self._late(problem)
        if step is None or not rate:
            return None
        shift, spread, half = self.shift * problem.participation, problem.spread, problem.smoothness / 2
        factor = max(1 - step * mu * rate, 1 - shift / 2)
        error = 4 * spread * step**2 / shift * problem.sent_at_optimum
        floor = half * (step * drift + 22 * step**2 * spread * self._uneven(problem)) / (1 - factor)
        quantity = "||w - w*||^2 + c mean of ||h_i - k g_i(w*)||^2"
        return Bound(factor, half * (problem.square_distance + error), floor, quantity, problem.rounding)

    def by_sadiev2024(self, problem: Problem) -> float:
        longest = 1 / (16 * (1 + 9 * problem.spread) * problem.row_smoothness)
        mu = problem.strong_convexity
        assert self.shift is not None
        return min(self.shift / (2 * mu), longest) if mu else longest

    def memory(self, block: Block, support: Support) -> Memory:
        kept = super().memory(block, support)
        kept.arrays.update(Memory.zeros(support, "shift", dtype=np.float64).arrays)
        return kept

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        return memory.less(self._gradients(task, objective, block, memory), "shift")

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        assert self.shift is not None
        memory.add("shift", arrived, self.shift)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        assert self.shift is not None
        step, shift = self.step(exchange.round), state["shift"]
        received = exchange("difference", w)
        self._shrink(w, step, exchange.objective)
        w.move(-step * shift)
        w.subtract(received.vector.scaled(step))
        received.vector.add_to(shift, self.shift * received.share)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.5, local_step=0.1, shift=0.3, steps=3),)
