"""Local SGD: workers go several steps on their own, and send how far they came."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block, Rows
from qsim.datasets import Shards
from qsim.l2_decay import GlobalScale, L2Decay
from qsim.methods.base import Exchange, Method, Task
from qsim.methods.descent import Momentum
from qsim.methods.sampling import Passes, Sampling, WithReplacement, check_batch, drawn
from qsim.methods.server import Adam, Adaptive, check_server, server_state, step_of_server
from qsim.objectives import Objective, WithRegulariser
from qsim.objectives.regularised import is_l2_alone
from qsim.options import number, option, whole
from qsim.plan import Plan
from qsim.problem import Problem, TheoryError
from qsim.program import NoProgram, with_plan
from qsim.steps import InverseTime, Step, take_step
from qsim.weights import Weights


@final
@option
class LocalSGD(Method):
    r"""Local SGD: several steps on each worker between two exchanges.

    Every worker does :math:`H` = `steps` steps from the common weights, :math:`u_0 = w`,
    :math:`u_{h+1} = (1 - a_h \lambda) u_h - a_h g_i(u_h)`, and sends :math:`d_i = C(p w - u_H)`, with :math:`p` the
    product of all :math:`1 - a_h \lambda`. With :math:`d` the mean of the :math:`d_i` the server takes
    :math:`w \leftarrow p w - b d`, :math:`b` being `server_step`, or goes by the rule `server` along
    :math:`(1 - p) w + d`. With a compressor this is FedPAQ, without one FedAvg; with steps=1 it is `SGD`.
    :math:`\lambda` is the `l2` of the objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a_h = \mathrm{step}(t H + h)` of local step :math:`h` of round :math:`t`, a number or a rule of
        `qsim.steps`. By default, for :math:`\mu > 0`, :math:`\mathrm{step}(k) = 4 / (\mu (s + k))`,
        :math:`s = \max(16 L/\mu, H) + 1`, with :math:`L` the largest smoothness that a local step meets (of a row, or
        without a batch of a worker's :math:`f_i`).
    steps : int, default 8
        The number :math:`H` of local steps in a round.
    batch : int or None, default 1
        The number of rows of each local step; None for all of them.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.
    server_step : float, default 1.0
        The step of the server along the mean, above 0.
    decay : L2Decay, default `qsim.l2_decay.GlobalScale()`
        How the local steps apply l2: it changes the rounding and the time, not the method.
    server : Momentum or Adaptive, optional
        What the server does with the mean: `HeavyBall` or `Nesterov` (FedAvgM), `Adam`, `Yogi` or `Adagrad` (FedOpt).

    Raises
    ------
    ValueError
        If `steps` or `batch` is below 1, and in the simulation for an objective whose regulariser is not l2.
    TheoryError
        In the simulation, if a compressor, a server with a rule, or an objective without strong convexity, is given no
        step.

    Notes
    -----
    With the step of theory, without compression, for workers with the same distribution and bounded gradients, the
    average over all local steps :math:`k` of the workers' mean iterate, with weights :math:`(s + k)^2`, has
    :math:`\mathbb{E} F - F^\star = O(1 / (\mu W H T))` as the number :math:`T` of rounds grows. (`Averaged` has the
    weights :math:`w` of each round only.)

    The regulariser's part of :math:`u_H`, :math:`p w`, is known to the server and left out, so that what is sent stays
    in the coordinates of the worker's rows. A round costs a worker
    :math:`O(\text{non-zeros of its batches} + \mathrm{support})`. Logistic regression does all steps of a round in one
    kernel.

    Workers with different data drift apart over the steps: with constant steps the limit is off by :math:`O(a (H - 1))`
    on skewed shards.

    References
    ----------
    .. [1] McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017.
    .. [2] Stich, "Local SGD converges fast and communicates little", ICLR 2019, Theorem 2.2 (the step).
    .. [3] Reisizadeh et al., "FedPAQ", AISTATS 2020 (compressed differences).
    .. [4] Reddi et al., "Adaptive federated optimization", ICLR 2021 (rules of the server).

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.LocalSGD(step=qsim.steps.Constant(0.1), steps=8, batch=16).steps
    8
    """

    step: Step | float | None = None
    steps: int = 8
    batch: int | None = 1
    sampling: Sampling = WithReplacement()
    server_step: float = 1.0
    decay: L2Decay = GlobalScale()
    server: Momentum | Adaptive | None = None

    def __post_init__(self) -> None:
        take_step(self)
        whole("steps", self.steps, least=1)
        check_batch(self.batch, self.sampling)
        number("server_step", self.server_step, above=0)
        check_server(self.server)
        if not isinstance(self.decay, L2Decay):
            raise TypeError(f"decay must be one of qsim.l2_decay, such as GlobalScale(), found {self.decay!r}")

    def start(self, w: Weights) -> Arrays:
        return server_state(self.server, w.vector.size)

    def memory(self, block: Block, support: Support) -> Memory:
        return Memory(support, self.sampling.memory(block) if self.batch else {})

    def rows_per_round(self, shards: Shards) -> float:
        return self.steps * (self.batch or super().rows_per_round(shards))

    def resolved(self, problem: Problem) -> Self:
        refuse_own_regulariser(self, problem)
        if self.step is not None:
            return self
        mu = problem.strong_convexity
        if self.server is not None:
            raise TheoryError(f"no step of theory is known for a server with {self.server!r}: give LocalSGD a step")
        if problem.compressor.variance(problem.n) != 0:
            raise TheoryError(
                f"LocalSGD's step of theory is for exact differences: give a step for {problem.compressor!r}"
            )
        if mu == 0:
            raise TheoryError(f"{problem.objective!r} is not strongly convex, so no step follows: give LocalSGD a step")
        rough = problem.largest_smoothness if self.batch is None else problem.row_smoothness
        shift = max(16 * rough / mu, self.steps) + 1
        return replace(self, step=InverseTime(4 / (mu * shift), halving=shift))

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        steps, _ = self._steps(task.round, objective)
        rows = block.all_rows()
        if self.batch is not None:
            rows = drawn(self.sampling, block, self.steps * self.batch, task, memory)
            self._require_drawn(rows)
        return objective.local_steps(block, rows, self.batch, task.weights, steps, self.decay)

    def _require_drawn(self, rows: Rows) -> None:
        """Refuse too few or too many rows, as a sampling of one's own may draw: kernels take `batch` for each step."""
        assert self.batch is not None
        counts, wanted = np.diff(rows.offsets), self.steps * self.batch
        wrong = counts[(counts != 0) & (counts != wanted)]
        if wrong.size:
            raise ValueError(
                f"{self.sampling!r} must draw {wanted} rows of each worker that has any, {self.batch} for each of"
                f" {self.steps} local steps, found {wrong[0]}"
            )

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        _, shrink = self._steps(exchange.round, exchange.objective)
        total = exchange("local", w).vector
        if self.server is not None:
            way = (1 - shrink) * w.dense()
            total.add_to(way)
            w.move(-step_of_server(self.server, self.server_step, way, state))
            return
        if shrink != 1.0:
            w.shrink(shrink)
        w.subtract(total.scaled(self.server_step) if self.server_step != 1.0 else total)

    def plan(self, plan: Plan, memory: Memory) -> None:
        from qsim.kernels.participation import take_entry
        from qsim.kernels.rounds import shrink_by

        if self.batch is None or self.server is not None:
            raise NoProgram
        objective, many = plan.objective, (self.steps,)
        told = plan.told(lambda first, count: self._told(first, count, objective, 0), many, np.float64)
        shrink = plan.told(lambda first, count: self._told(first, count, objective, 1), (), np.float64)
        plan.begin(None)
        call, weights, steps = plan.program.call, plan.weights, np.empty(self.steps)
        call(take_entry, told, plan.turn, steps)
        rows = with_plan(self.sampling).plan(plan, self.steps * self.batch, memory.arrays)
        _, total, _ = plan.send(plan.local_steps(rows, self.batch, steps, self.decay))
        call(shrink_by, shrink, plan.turn, weights.scale.array, weights.vector)
        plan.subtract(total, self.server_step)

    def _told(self, first: int, count: int, objective: Objective, which: int) -> NDArray[np.float64]:
        """Return the steps of some rounds, or their products: of those before the first in which steps are too long."""
        found: list[Any] = []
        for t in range(first, first + count):
            try:
                found.append(self._steps(t, objective)[which])
            except Exception:  # of steps of one's own, too: the exchange raises it in its round
                break
        return np.array(found, np.float64).reshape(len(found), *((self.steps,) if which == 0 else ()))

    def _steps(self, round: int, objective: Objective) -> tuple[NDArray[np.float64], float]:
        """Return the local steps of a round, and what all of them together multiply the weights by."""
        assert isinstance(self.step, Step)
        steps = self.step.many(round * self.steps, self.steps)
        shrink = 1.0 - steps * objective.l2
        if shrink.min() <= 0.0:
            worst = steps.max() * objective.l2
            raise ValueError(f"step * l2 = {worst:g}: it must stay below 1; take a smaller step")
        return steps, float(np.prod(shrink))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(0.5, steps=3, batch=2, sampling=Passes()), cls(0.5, steps=2, server_step=0.1, server=Adam())


def refuse_own_regulariser(method: Method, problem: Problem) -> None:
    """Raise ValueError for an objective whose regulariser is not l2."""
    objective = problem.objective
    if isinstance(objective, WithRegulariser):
        objective = objective.objective
    if not is_l2_alone(objective):
        raise ValueError(
            f"{type(method).__name__} leaves out of its messages what l2 alone does to the weights, but {objective!r}"
            " has a regulariser of its own"
        )
