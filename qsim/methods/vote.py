"""signSGD with majority vote."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Self, final

import numpy as np

from qsim.batch import Arrays, Memory, Vectors
from qsim.block import Block
from qsim.compressors import Sign
from qsim.compressors.signs import TIE
from qsim.methods.base import Exchange, Task
from qsim.methods.sampling import Batched, Sampling, WithReplacement, check_batch
from qsim.objectives import Objective
from qsim.options import option
from qsim.problem import Problem
from qsim.steps import InverseSqrt, Step, take_step
from qsim.weights import Weights


@final
@option
class SignSGD(Batched):
    r"""Signs of gradients, with a majority vote.

    .. math::

        w \leftarrow (1 - a \lambda) w - a \operatorname{sign}(\sum_i \mathrm{weight}_i \operatorname{sign}(g_i)).

    It needs `compressor=qsim.compressors.Sign()`, with :math:`n` bits per message on the uplink; with
    `downlink=qsim.downlinks.SignSum()` the vote comes down, in :math:`n` bits. :math:`\lambda` is the `l2` of the
    objective.

    Parameters
    ----------
    step : Step or float, optional
        The step :math:`a`, a number or a rule of `qsim.steps`. By default :math:`a_t = 1 / \sqrt{n L (1 + t)}`, the
        paper's :math:`1 / \sqrt{\|L\|_1 K}` for :math:`K` rounds so far, with :math:`n L` for the sum of the
        coordinates' :math:`L`.
    batch : int, optional
        The number of rows that a worker draws each round; by default all of them.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.

    Raises
    ------
    ValueError
        In the simulation, for any other compressor.

    Notes
    -----
    In a tie of the vote nothing moves (`SignSum` has no ties: it sends +1). Messages are dense: :math:`O(n)` a worker
    and round, whatever the rows touch. A zero is sent as +1, so a feature that most workers' rows lack is voted down in
    every round, whatever its gradient: on sparse rows weights diverge (on Adult, with batch=1, nearly all of them
    together). The method is for dense rows.

    With a step that decreases as :math:`1/\sqrt{t}`, the mean of :math:`\|\nabla F\|_1` falls as
    :math:`\log(T)/\sqrt{T}` if the noise of every coordinate is symmetric with one mode, and `l2` is 0 (here `l2`
    shrinks the weights beside the vote, and is not part of it); in general it need not converge [2]_.

    References
    ----------
    .. [1] Bernstein, Wang, Azizzadenesheli, Anandkumar, "signSGD", ICML 2018, Algorithm 1 with majority vote, Theorems
           1 (the step) and 2.
    .. [2] Karimireddy et al., ICML 2019 (that it need not converge).

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.SignSGD(step=qsim.steps.InverseSqrt(0.01)).batch is None
    True
    """

    step: Step | float | None = None
    batch: int | None = None
    sampling: Sampling = WithReplacement()

    def __post_init__(self) -> None:
        take_step(self)
        check_batch(self.batch, self.sampling)

    def resolved(self, problem: Problem) -> Self:
        if not isinstance(problem.compressor, Sign):
            raise ValueError(
                f"SignSGD sends signs: compressor=qsim.compressors.Sign(), found {problem.compressor!r}; other"
                " compressors go with SGD or GradientDescent"
            )
        if self.step is not None:
            return self
        return replace(self, step=InverseSqrt(1 / sqrt(problem.n * problem.smoothness)))

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        return objective.update(block, self.reads(task, block, memory), task.weights, 1.0)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert isinstance(self.step, Step)
        step = self.step(exchange.round)
        total = exchange("gradient", w).vector.to_dense()[0]
        vote = np.where(np.abs(total) > TIE, np.sign(total), 0.0)
        exchange.objective.apply_l2_step(w, step)
        w.move(-step * vote)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(InverseSqrt(0.1), batch=3),)
