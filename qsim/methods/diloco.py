"""DiLoCo: many local steps of AdamW, and Nesterov's momentum on the server."""

from __future__ import annotations

from typing import Self, final

import numpy as np

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block
from qsim.datasets import Shards
from qsim.methods.base import Exchange, Task
from qsim.methods.descent import Momentum, Nesterov
from qsim.methods.own_weights import OwnWeights
from qsim.methods.sampling import Sampling, WithReplacement, check_batch, drawn
from qsim.methods.server import Adaptive, check_server, server_state, step_of_server
from qsim.objectives import Objective
from qsim.options import number, option, whole
from qsim.problem import Problem
from qsim.steps import Step, take_given_step
from qsim.weights import Weights


@final
@option
class DiLoCo(OwnWeights):
    r"""DiLoCo: local steps of AdamW, and Nesterov's momentum along what they add up to.

    Every worker does :math:`H` steps from the common weights :math:`w`, over its rows or a batch: with
    :math:`g = \nabla f_i(u)`, :math:`m \leftarrow \beta_1 m + (1 - \beta_1) g` and
    :math:`v \leftarrow \beta_2 v + (1 - \beta_2) g^2`,
    :math:`u \leftarrow u - a (m'/(\sqrt{v'} + \varepsilon) + \mathrm{weight\_decay}\, u)`, :math:`m'` and :math:`v'`
    being :math:`m` and :math:`v` over :math:`1 - \beta^k` after :math:`k` steps. It sends :math:`C(w - u)`, and keeps
    :math:`m` and :math:`v` for the next round. The server goes by its rule along the mean of what arrives.

    Parameters
    ----------
    step : Step or float
        The local step :math:`a` of a round, a number or a rule of `qsim.steps`.
    steps : int, default 500
        The number :math:`H` of local steps in a round.
    batch : int, optional
        The number of rows of each local step; by default all of them.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.
    server : Momentum or Adaptive, default `Nesterov(beta=0.9)`
        The rule of the server: `Nesterov`, `HeavyBall`, `Adam`, ...; None for plain means.
    server_step : float, default 0.7
        The step of the server, above 0.
    beta1 : float, default 0.9
        How much of :math:`m` stays, in [0, 1).
    beta2 : float, default 0.999
        How much of :math:`v` stays, in [0, 1).
    eps : float, default 1e-08
        What is added to :math:`\sqrt{v'}`, at least 0; a coordinate that had no gradient yet does not move.
    weight_decay : float, default 0.0
        The decay of AdamW, at least 0, beside the regulariser of the objective.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Steps are tuned in practice: no local step is filled in, and nothing is promised. :math:`H`, the server's rule and
    its step are the paper's, from memory; the betas and :math:`\varepsilon` are AdamW's usual ones. A worker keeps two
    vectors, all dense.

    References
    ----------
    .. [1] Douillard et al., "DiLoCo: distributed low-communication training of language models", 2023.
    .. [2] Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019 (AdamW).

    Examples
    --------
    >>> import qsim
    >>> qsim.DiLoCo(step=1e-3, steps=50, batch=4).server
    qsim.methods.Nesterov(beta=0.9)
    """

    step: Step | float
    steps: int = 500
    batch: int | None = None
    sampling: Sampling = WithReplacement()
    server: Momentum | Adaptive | None = Nesterov(0.9)
    server_step: float = 0.7
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        take_given_step(self)
        whole("steps", self.steps, least=1)
        check_batch(self.batch, self.sampling)
        check_server(self.server)
        number("server_step", self.server_step, above=0)
        for name in ("beta1", "beta2"):
            number(name, getattr(self, name), least=0)
            if getattr(self, name) >= 1:
                raise ValueError(f"{name} must be below 1, found {getattr(self, name)!r}")
        number("eps", self.eps, least=0)
        number("weight_decay", self.weight_decay, least=0)

    def resolved(self, problem: Problem) -> Self:
        self._refuse_dense(problem)
        return self

    def rows_per_round(self, shards: Shards) -> float:
        return self.steps * (self.batch or super().rows_per_round(shards))

    def start(self, w: Weights) -> Arrays:
        return server_state(self.server, w.vector.size)

    def memory(self, block: Block, support: Support) -> Memory:
        """Keep m and v, and the number of steps that went into them."""
        kept = Memory.zeros(support, "moment", "square", dtype=np.float64)
        kept.arrays["taken"] = np.zeros(block.workers, np.int64)
        if self.batch:
            kept.arrays.update(self.sampling.memory(block))
        return kept

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        assert isinstance(self.step, Step)
        step, known, rows = self.step(task.round), self._known(task, block), block.all_rows()
        if self.batch:
            rows = drawn(self.sampling, block, self.steps * self.batch, task, memory)
        first, second = self._rows(memory, "moment", block), self._rows(memory, "square", block)
        own, taken = known.copy(), memory.arrays["taken"]
        for h in range(self.steps):
            some = rows.step(h, self.batch) if self.batch else rows
            g = self._gradients(task, objective, block, some, own)
            with np.errstate(over="ignore", invalid="ignore"):
                first += (1 - self.beta1) * (g - first)
                second += (1 - self.beta2) * (g**2 - second)
                taken += 1
                grown, squares = (1 - beta ** taken[:, None] for beta in (self.beta1, self.beta2))
                size = np.sqrt(second / squares) + self.eps
                along = np.divide(first / grown, size, out=np.zeros_like(own), where=size > 0)
                own -= step * (along + self.weight_decay * own)
        return self._away(task, known, own)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        total = exchange("local", w).vector
        if self.server is None:
            w.subtract(total.scaled(self.server_step))
        else:
            w.move(-step_of_server(self.server, self.server_step, total.to_dense()[0], state))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.02, steps=3),)
