"""Gradient descent and stochastic gradient descent with compressed updates, plain and with momentum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block, Rows
from qsim.datasets import Shards
from qsim.methods.base import Exchange, Method, Task, constant, step_for
from qsim.methods.sampling import Passes, Sampling, WithReplacement, check_batch, drawn
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.plan import Plan
from qsim.problem import Bound, Problem
from qsim.program import NoProgram, Program, with_plan
from qsim.steps import Step, TheoryStep, take_step
from qsim.weights import Weights


class Momentum(ABC):
    """Base class of momentum: how the server continues in the direction of past steps.

    It costs :math:`O(n)` per round, since past steps change all weights.

    Attributes
    ----------
    beta : float
        The factor by which the velocity shrinks in a round, in [0, 1); anything else raises ValueError.
    """

    beta: float

    @abstractmethod
    def along(self, velocity: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what to subtract from the weights.

        Parameters
        ----------
        velocity : ndarray of float64, shape (n,)
            The new velocity.
        step : ndarray of float64, shape (n,)
            The plain step, regulariser included.

        Returns
        -------
        ndarray of float64, shape (n,)
            The step that is taken.
        """

    def plan_along(
        self, program: Program, velocity: NDArray[np.float64], step: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Have a program do what `along` does; return where."""
        raise NoProgram

    def __post_init__(self) -> None:
        number("beta", self.beta, least=0)
        if self.beta >= 1:
            raise ValueError(f"beta must be below 1, found {self.beta!r}")


@final
@option
class HeavyBall(Momentum):
    r"""Heavy-ball momentum.

    .. math::

        v &\leftarrow \beta v + u, \\
        w &\leftarrow w - v,

    with :math:`u` the plain step (regulariser included).

    Parameters
    ----------
    beta : float
        The factor by which the velocity shrinks in a round, in [0, 1).

    Raises
    ------
    ValueError
        If `beta` is outside [0, 1).

    References
    ----------
    .. [1] Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.HeavyBall(0.9)
    qsim.methods.HeavyBall(beta=0.9)
    """

    beta: float

    def along(self, velocity: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
        return velocity

    def plan_along(
        self, program: Program, velocity: NDArray[np.float64], step: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return velocity


@final
@option
class Nesterov(Momentum):
    r"""Nesterov's momentum.

    .. math::

        v &\leftarrow \beta v + u, \\
        w &\leftarrow w - (u + \beta v),

    with :math:`u` the plain step (regulariser included): the weights are the point at which Nesterov's gradient is
    taken.

    Parameters
    ----------
    beta : float
        The factor by which the velocity shrinks in a round, in [0, 1).

    Raises
    ------
    ValueError
        If `beta` is outside [0, 1).

    References
    ----------
    .. [1] Nesterov, "A method of solving a convex programming problem with convergence rate O(1/k^2)", 1983.
    .. [2] Sutskever, Martens, Dahl, Hinton, ICML 2013 (this form).

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.Nesterov(0.9)
    qsim.methods.Nesterov(beta=0.9)
    """

    beta: float

    def along(self, velocity: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
        return step + self.beta * velocity

    def plan_along(
        self, program: Program, velocity: NDArray[np.float64], step: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        from qsim.kernels.rounds import look_ahead

        along = np.empty_like(step)
        program.call(look_ahead, self.beta, step, velocity, along)
        return along


class _Descent(Method):
    """w <- (1 - a l2) w - sum_i weight_i C(a g_i), with a the step and g_i worker i's gradient of the loss.

    What is compressed is the update a g_i. The regulariser is applied on the server: inside the compressed vector it
    would make it dense. Without momentum a proximal step follows, on what is nonsmooth.
    """

    step: Step | float | None
    momentum: Momentum | None

    def resolved(self, problem: Problem) -> Self:
        step = step_for(self, problem, lambda of: 1 / self._roughness(of))
        return replace(self, step=step)  # type: ignore[type-var]

    def bound(self, problem: Problem) -> Bound | None:
        mu = problem.strong_convexity
        if self.momentum is not None or not mu or not self._unbiased(problem):
            return None
        roughness = self._roughness(problem)
        if problem.objective.composite and roughness != problem.smoothness:
            return None  # a distance to w* bounds no F(w) - F* then
        step = constant(self.step, 1 / roughness)
        if step is None:
            return None
        if roughness == problem.smoothness:  # what arrives is the gradient itself
            return Bound(1 - step * mu, problem.suboptimality, 0.0, "F(w) - F*", problem.rounding)
        half, floor = problem.smoothness / 2, step * self._noise(problem) / mu
        return Bound(1 - step * mu, half * problem.square_distance, half * floor, "||w - w*||^2", problem.rounding)

    @property
    def takes_proximal_steps(self) -> bool:
        return self.momentum is None

    def _unbiased(self, problem: Problem) -> bool:
        """Tell whether the sum of what arrives is an unbiased estimate of the gradient, as the theorem has it."""
        return problem.unbiased_mean and problem.compressor.variance(problem.n) is not None

    def _roughness(self, problem: Problem) -> float:
        """Return A with E ||estimate of grad F||^2 <= 2 A (F(w) - F*) + the noise that is left at w*."""
        spread = problem.spread
        return problem.smoothness + (2 * spread * problem.largest_smoothness if spread else 0.0)

    def _noise(self, problem: Problem) -> float:
        """Return what is left of E ||estimate of grad F||^2 at w*, at most."""
        return 2 * problem.spread * problem.sent_at_optimum if problem.spread else 0.0

    def start(self, w: Weights) -> Arrays:
        return {} if self.momentum is None else {"velocity": np.zeros_like(w.vector)}

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        step = self.step(exchange.round)
        total = exchange("update", w).vector
        if self.momentum is None:
            exchange.objective.apply_l2_step(w, step)
            w.subtract(total)
            exchange.objective.proximal_step(w, step)
            return
        plain = step * exchange.objective.regulariser(w.dense())[1]
        total.add_to(plain)
        velocity = state["velocity"]
        velocity *= self.momentum.beta
        velocity += plain
        w.move(-self.momentum.along(velocity, plain))

    def plan(self, plan: Plan, memory: Memory) -> None:
        from qsim.kernels.rounds import accelerate, add_row, plain_step

        step = plan.begin(self.step)
        _, total, _ = plan.send(plan.update(self._plan_rows(plan, memory), step))
        if self.momentum is None:
            plan.apply_l2_step(step)
            plan.subtract(total)
            return
        if type(plan.objective).regulariser is not Objective.regulariser:
            raise NoProgram
        call, weights, velocity = plan.program.call, plan.weights, plan.state["velocity"]
        plain = np.empty_like(velocity)
        call(plain_step, step, plan.objective.l2 or 0.0, weights.scale, weights.vector, plain)
        call(add_row, total.offsets, total.index, total.value, 1.0, plain)
        call(accelerate, self.momentum.beta, plain, velocity)
        plan.descend(1.0, with_plan(self.momentum).plan_along(plan.program, velocity, plain))

    def _plan_rows(self, plan: Plan, memory: Memory) -> Rows:
        """Return where the rows of a planned round are: all, here."""
        return plan.block.all_rows()

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        assert isinstance(self.step, Step)
        return objective.update(block, self.reads(task, block, memory), task.weights, self.step(task.round))


@final
@option
class GradientDescent(_Descent):
    r"""Full-batch gradient descent with compressed updates.

    Every round each worker sends the update of all its rows:
    :math:`w \leftarrow (1 - a \lambda) w - \sum_i \mathrm{weight}_i C(a \nabla f_i(w))`. With `Identity` and rows as
    weights this is gradient descent on the whole data set, which converges for :math:`a < 2/L`. :math:`\lambda` is the
    `l2` of the objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a`, a number or a rule of `qsim.steps`. By default :math:`a = 1 / (L + 2 s \max_i L_i)` for an
        unbiased :math:`C`, with :math:`s = \omega/W` (`Problem.spread`: more for unequal shards or absent clients),
        which is :math:`1/L` without compression.
    momentum : Momentum, optional
        `HeavyBall` or `Nesterov`; none by default.

    Raises
    ------
    TheoryError
        In the simulation, if a compressor without :math:`\omega` is given no step.

    Notes
    -----
    With the step of theory, and for convex losses, :math:`\mathbb{E} \|w - w^\star\|^2` falls by a factor of at least
    :math:`1 - a \mu` per round, down to a noise floor of :math:`2 a s/\mu` times the mean of :math:`\|g_i(w^\star)\|^2`
    (without noise :math:`F(w) - F^\star` itself falls, to 0). With momentum the step is a starting point, and nothing
    is promised.

    `Sign` loses the magnitude of the update, and the step with it: see `SignSGD`.

    References
    ----------
    .. [1] Khirirat, Feyzmahdavian, Johansson, "Distributed learning with compressed gradients", 2018 (step and floor).
    .. [2] Gorbunov, Hanzely, Richtarik, "A unified theory of SGD", AISTATS 2020 (step and floor, in this form).

    Examples
    --------
    >>> import qsim
    >>> qsim.GradientDescent(step=qsim.steps.Constant(1.0)).step(0)
    1.0
    """

    step: Step | float | None = None
    momentum: Momentum | None = None

    def __post_init__(self) -> None:
        take_step(self)
        check_momentum("momentum", self.momentum)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(), cls(0.5, momentum=Nesterov(0.5))


@final
@option
class Sadiev2024(TheoryStep):
    r"""The steps of a paper on compression with reshuffled passes, of `SGD`, `DIANARR`, `QNASTYA` and `DIANANASTYA`.

    For SGD with `Passes` (:math:`Q`-RR) it is :math:`1 / ((1 + 2 s) L_r)`; the other classes say what it is for them.
    With :math:`s = \omega/W`, :math:`L_r` the largest :math:`L` of a single row's loss, one row a step of SGD,
    :math:`m` rows on each of :math:`W` workers, convex losses, and :math:`\mu > 0` the constant of strong convexity of
    each row's (:math:`\lambda`), after :math:`T` passes

    .. math::

        \mathbb{E} \|w - w^\star\|^2 \leq (1 - a \mu)^{m T} \|w_0 - w^\star\|^2 + a^2 L_r m V/(2 \mu W) + 2 a s Z/\mu,

    :math:`V` the mean variance of the gradient of one row of a worker at :math:`w^\star`, and :math:`Z` the mean of its
    square, without `l2`. Of rounds within a pass nothing is said, so `Run.bound()` is None. (:math:`V` is the paper's
    constant in expectation over the orders, in which rows of different workers meet.)

    References
    ----------
    .. [1] Sadiev, Malinovsky, Gorbunov, Sokolov, Khaled, Burlachenko, Richtarik, "Don't compress gradients in random
           reshuffling: compress gradient differences", NeurIPS 2024, Theorems 2.1 to 2.4.

    Examples
    --------
    >>> import qsim
    >>> qsim.SGD(step=qsim.methods.Sadiev2024(), sampling=qsim.methods.Passes()).batch
    1
    """

    method: ClassVar[str] = "SGD and DIANARR and QNASTYA and DIANANASTYA"

    def longest(self, method: Any, problem: Problem) -> float:
        found: float = method.by_sadiev2024(problem)
        return found


@final
@option
class SGD(_Descent):
    r"""Mini-batch SGD with compressed updates.

    Every round each worker sends the update of `batch` of its rows:
    :math:`w \leftarrow (1 - a_t \lambda) w - \sum_i \mathrm{weight}_i C(a_t g_i)`, with :math:`g_i` the mean gradient
    over the batch of :math:`b` rows. :math:`\lambda` is the `l2` of the objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a_t`, a number, a rule of `qsim.steps`, or for passes `Sadiev2024()`. By default
        :math:`a = 1 / (L + 2 s \max_i L_i + 2 (s + 1/W) L_r/b)`, with :math:`s` as for `GradientDescent` and
        :math:`L_r` the largest :math:`L` of a single row's loss. With :math:`1/L`, the step of full gradients, SGD can
        diverge: rows that share no coordinate each need :math:`1/L_r`.
    batch : int, default 1
        The number :math:`b` of rows that a worker draws each round.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.
    momentum : Momentum, optional
        `HeavyBall` or `Nesterov`; none by default.

    Raises
    ------
    ValueError
        If `batch` is below 1.
    TheoryError
        In the simulation, if a compressor without :math:`\omega` is given no step.

    Notes
    -----
    With the step of theory, draws with replacement and convex losses, :math:`\mathbb{E} \|w - w^\star\|^2` falls by a
    factor of at least :math:`1 - a \mu` per round, down to a noise floor of :math:`2 a/\mu` times (:math:`s` times the
    mean of :math:`\|g_i(w^\star)\|^2`, plus :math:`(s + 1/W)/b` times the mean variance of the gradient of one row at
    :math:`w^\star`). A decreasing step, such as `qsim.steps.Noisy`, gets below the floor.

    References
    ----------
    .. [1] Gorbunov, Hanzely, Richtarik, "A unified theory of SGD", AISTATS 2020 (step and floor of quantized SGD).

    Examples
    --------
    >>> import qsim
    >>> qsim.SGD(step=qsim.steps.Constant(0.5), batch=64).batch
    64
    """

    step: Step | float | None = None
    batch: int = 1
    sampling: Sampling = WithReplacement()
    momentum: Momentum | None = None

    def __post_init__(self) -> None:
        take_step(self)
        check_batch(self.batch, self.sampling)
        if self.batch is None:
            raise ValueError("batch must be a whole number of at least 1, found None: GradientDescent takes all rows")
        check_momentum("momentum", self.momentum)

    def bound(self, problem: Problem) -> Bound | None:
        return super().bound(problem) if isinstance(self.sampling, WithReplacement) else None

    def _roughness(self, problem: Problem) -> float:
        share = problem.spread + problem.largest_share
        return super()._roughness(problem) + 2 * share * problem.row_smoothness / self.batch

    def _noise(self, problem: Problem) -> float:
        share = problem.spread + problem.largest_share
        return super()._noise(problem) + 2 * share * problem.row_noise(problem.optimum) / self.batch

    def by_sadiev2024(self, problem: Problem) -> float:
        """Return the step of Q-RR in the paper."""
        if not isinstance(self.sampling, Passes):
            raise ValueError(f"Sadiev2024 is a theorem about reshuffled passes: say sampling=Passes(), found {self!r}")
        return 1 / ((1 + 2 * problem.spread) * problem.row_smoothness)

    def memory(self, block: Block, support: Support) -> Memory:
        return Memory(support, self.sampling.memory(block))

    def rows_per_round(self, shards: Shards) -> float:
        return self.batch

    def reads(self, task: Task, block: Block, memory: Memory) -> Rows:
        return drawn(self.sampling, block, self.batch, task, memory)

    def _plan_rows(self, plan: Plan, memory: Memory) -> Rows:
        return with_plan(self.sampling).plan(plan, self.batch, memory.arrays)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.5, batch=2),)


def check_momentum(name: str, momentum: object) -> None:
    """Raise TypeError for what is neither a momentum nor None."""
    if not isinstance(momentum, (Momentum, type(None))):
        raise TypeError(f"{name} must be None or a rule such as qsim.methods.HeavyBall(0.9), found {momentum!r}")
