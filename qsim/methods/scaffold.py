"""SCAFFOLD: local SGD with control variates."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block
from qsim.datasets import Shards
from qsim.methods.base import Exchange, Task, constant, refuse_unfit, step_for
from qsim.methods.own_weights import OwnWeights
from qsim.methods.sampling import Sampling, WithReplacement, check_batch, drawn
from qsim.objectives import Objective
from qsim.options import number, option, whole
from qsim.problem import Bound, Problem, TheoryError
from qsim.steps import Step, TimesTheory, take_step
from qsim.weights import Weights


@final
@option
class SCAFFOLD(OwnWeights):
    r"""SCAFFOLD: local steps with control variates, which take out how the workers' data differ.

    Every worker does :math:`K` steps :math:`u \leftarrow u - a (\nabla f_i(u) - c_i + c)` from the common weights
    :math:`w`, with :math:`f_i` over its rows or a batch, and sends two vectors: :math:`C(w - u)`, and :math:`C` of the
    change of :math:`c_i \leftarrow c_i - c + (w - u)/(K a)`. The server takes :math:`w` less `server_step` times the
    mean of the first, and keeps :math:`c`, the mean of the :math:`c_i`, by the second. Both go down.

    Parameters
    ----------
    step : Step or float, optional
        The local step :math:`a` of a round, a number or a rule of `qsim.steps`. By default, for full gradients and all
        clients, :math:`2 / ((1 + \sqrt{13 - 12/K}) K L)`, :math:`L` the largest :math:`L_i`.
    steps : int, default 8
        The number :math:`K` of local steps in a round.
    batch : int, optional
        The number of rows of each local step; by default all of them.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.
    server_step : float, default 1.0
        The step of the server along the mean, above 0.

    Raises
    ------
    ValueError
        If `steps` or `batch` is below 1, and in the simulation for a compressor with a memory, and for `Sign`.
    TheoryError
        In the simulation without a step: for a lossy compressor, batches, clients who sit out rounds, and a server_step
        that is not 1.

    Notes
    -----
    :math:`c_i` learns the mean gradient of worker :math:`i` along its way, so that local steps with full gradients stay
    at the optimum, however skewed shards are, where those of `LocalSGD` are pulled apart. Clients who sit out rounds
    keep their :math:`c_i`; among drawn ones :math:`c` is that of all. This is the paper's second option for
    :math:`c_i`.

    The step and the bound are derived here, in `docs/theory.md`: for convex :math:`f_i`, full gradients, exact messages
    and :math:`r = K a \leq 2 / ((1 + \sqrt{13 - 12/K}) L)`, :math:`\|w - w^\star\|^2 + 2 (1 - 1/K) r^3 L` mean of
    :math:`\|c_i - \nabla f_i(w^\star)\|^2` falls by a factor of at least :math:`\max(1 - r \mu, 1/2)` per round. (From
    memory, the paper has :math:`1/(81 L)`, and covers batches and drawn clients.)

    A round sends two vectors up and two down, all dense, whatever the rows are; a worker keeps one. (Without
    compression the server could compute the second, from the first: it is sent, as in the paper.)

    References
    ----------
    .. [1] Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: stochastic controlled averaging for federated
           learning", ICML 2020, Algorithm 1.

    Examples
    --------
    >>> import qsim
    >>> qsim.SCAFFOLD(step=0.1, steps=4).batch is None
    True
    """

    step: Step | float | None = None
    steps: int = 8
    batch: int | None = None
    sampling: Sampling = WithReplacement()
    server_step: float = 1.0

    def __post_init__(self) -> None:
        take_step(self)
        whole("steps", self.steps, least=1)
        check_batch(self.batch, self.sampling)
        number("server_step", self.server_step, above=0)

    def resolved(self, problem: Problem) -> Self:
        refuse_unfit(self, problem)
        self._refuse_dense(problem)
        if not isinstance(self.step, (TimesTheory, type(None))):
            return self
        if not self._covered(problem):
            raise TheoryError(
                "SCAFFOLD's step of theory is for full gradients, exact messages, all clients and a server_step of 1:"
                " give the step"
            )
        return replace(self, step=step_for(self, problem, self._longest))

    def bound(self, problem: Problem) -> Bound | None:
        mu = problem.strong_convexity
        step = constant(self.step, self._longest(problem))
        if not mu or step is None or not self._covered(problem):
            return None
        far, largest = self.steps * step, problem.largest_smoothness
        error = problem.square_distance + 2 * (1 - 1 / self.steps) * far**3 * largest * problem.heterogeneity
        quantity = "||w - w*||^2 + c mean of ||c_i - grad f_i(w*)||^2"
        factor = max(1 - far * mu, 0.5 if self.steps > 1 else 0.0)
        return Bound(factor, problem.smoothness / 2 * error, 0.0, quantity, problem.rounding)

    def _covered(self, problem: Problem) -> bool:
        """Tell whether the theorem is about this run."""
        exact = problem.compressor.variance(problem.n) == 0 and self.batch is None
        return exact and problem.participation == 1 and self.server_step == 1

    def _longest(self, problem: Problem) -> float:
        """Return the longest step that the theorem allows."""
        return 2 / ((1 + sqrt(13 - 12 / self.steps)) * self.steps * problem.largest_smoothness)

    def rows_per_round(self, shards: Shards) -> float:
        return self.steps * (self.batch or super().rows_per_round(shards))

    def start(self, w: Weights) -> Arrays:
        return {"control": np.zeros_like(w.vector)}

    def memory(self, block: Block, support: Support) -> Memory:
        """Keep c_i, and what changes in it, until that is sent."""
        kept = Memory.zeros(support, "control", "change", dtype=np.float64)
        if self.batch:
            kept.arrays.update(self.sampling.memory(block))
        return kept

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        assert isinstance(self.step, Step)
        change = self._rows(memory, "change", block)
        if task.name == "control":
            return Vectors.dense(change.astype(task.weights.vector.dtype))
        step, known, rows = self.step(task.round), self._known(task, block), block.all_rows()
        if self.batch:
            rows = drawn(self.sampling, block, self.steps * self.batch, task, memory)
        common, own = task.vectors["control"].astype(np.float64), known.copy()
        correction = common - self._rows(memory, "control", block)
        for h in range(self.steps):
            some = rows.step(h, self.batch) if self.batch else rows
            own -= step * (self._gradients(task, objective, block, some, own) + correction)
        change[:] = (known - own) / (self.steps * step) - common
        return self._away(task, known, own)

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        if task.name == "control":
            memory.add("control", arrived)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        control = state["control"]
        total = exchange("local", w, control=control).vector
        learnt = exchange("control", w)
        learnt.vector.add_to(control, learnt.share)
        w.subtract(total.scaled(self.server_step) if self.server_step != 1.0 else total)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(0.3, steps=3), cls(0.3, steps=2, batch=2)
