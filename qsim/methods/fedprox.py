"""FedProx: local steps that are held near the common weights."""

from __future__ import annotations

from typing import Self, final

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block
from qsim.datasets import Shards
from qsim.methods.base import Exchange, Task
from qsim.methods.own_weights import OwnWeights
from qsim.methods.sampling import Sampling, WithReplacement, check_batch, drawn
from qsim.objectives import Objective
from qsim.options import number, option, whole
from qsim.problem import Problem
from qsim.steps import Step, take_given_step
from qsim.weights import Weights


@final
@option
class FedProx(OwnWeights):
    r"""FedProx: local SGD with a proximal term.

    Every worker does :math:`K` steps :math:`u \leftarrow u - a (\nabla f_i(u) + \mathrm{strength}\, (u - w))` from the
    common weights :math:`w`, over its rows or a batch, and sends :math:`C(w - u)`; the server takes :math:`w` less the
    mean of what arrives.

    Parameters
    ----------
    step : Step or float
        The local step :math:`a` of a round, a number or a rule of `qsim.steps`.
    strength : float
        The strength of the proximal term, at least 0; with 0 it is `LocalSGD`.
    steps : int, default 8
        The number :math:`K` of local steps in a round.
    batch : int, optional
        The number of rows of each local step; by default all of them.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Step and strength are tuned in practice: no step is filled in, and nothing is promised. The proximal term keeps
    workers with different data from drifting apart, at the price of shorter ways. (The paper lets workers solve their
    problems as well as they can; here all do :math:`K` steps.)

    References
    ----------
    .. [1] Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated optimization in heterogeneous networks", MLSys 2020.

    Examples
    --------
    >>> import qsim
    >>> qsim.FedProx(step=0.1, strength=0.5).steps
    8
    """

    step: Step | float
    strength: float
    steps: int = 8
    batch: int | None = None
    sampling: Sampling = WithReplacement()

    def __post_init__(self) -> None:
        take_given_step(self)
        number("strength", self.strength, least=0)
        whole("steps", self.steps, least=1)
        check_batch(self.batch, self.sampling)

    def resolved(self, problem: Problem) -> Self:
        self._refuse_dense(problem)
        return self

    def rows_per_round(self, shards: Shards) -> float:
        return self.steps * (self.batch or super().rows_per_round(shards))

    def memory(self, block: Block, support: Support) -> Memory:
        return Memory(support, self.sampling.memory(block) if self.batch else {})

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        assert isinstance(self.step, Step)
        step, known, rows = self.step(task.round), self._known(task, block), block.all_rows()
        if self.batch:
            rows = drawn(self.sampling, block, self.steps * self.batch, task, memory)
        own = known.copy()
        for h in range(self.steps):
            some = rows.step(h, self.batch) if self.batch else rows
            own -= step * (self._gradients(task, objective, block, some, own) + self.strength * (own - known))
        return self._away(task, known, own)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        w.subtract(exchange("local", w).vector)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.3, strength=0.5, steps=3),)
