"""The method contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block, Rows
from qsim.clients import AllClients
from qsim.compressors import Compressor, Sign
from qsim.datasets import Shards
from qsim.keys import Key
from qsim.objectives import Objective
from qsim.plan import Plan
from qsim.problem import Bound, Problem
from qsim.program import NoProgram
from qsim.steps import Constant, Step
from qsim.weights import Replica, Weights


@dataclass(frozen=True)
class Task:
    """What workers are told to do: a name, the weights to do it at, and what else came down, by name.

    `key` names the stream of the run's data. Fold in the round (and what else it depends on), then take the words of a
    block's workers: `key.fold(round).words(block.low, block.high)`.
    """

    name: str
    round: int
    weights: Replica
    key: Key
    vectors: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sum:
    """What the server got: the weighted sum of what arrived (one float64 row), and the weight of those it came from.

    The weights of those that arrived are scaled to sum 1; `share` is what they summed to before, 1 if all arrived.
    """

    vector: Vectors
    share: float = 1.0


class Exchange(Protocol):
    """One trip to the workers and back, as a method's server sees it."""

    round: int
    """The round, counted from 0."""
    objective: Objective
    key: Key
    """The stream of the method's own random numbers, such as MARINA's coin: fold in the round."""

    def __call__(
        self,
        task: str,
        w: Weights,
        *,
        exact: Literal["float32", "float64"] | None = None,
        length: int | None = None,
        **vectors: NDArray[np.float64],
    ) -> Sum:
        """Have every worker do `task` at the weights w; return the weighted sum of what they sent.

        exact: send dense numbers of this format up, without the compressor; with "float64" also down, and workers
            compute in it.
        length: that of what is sent up, if not that of the weights.
        vectors: what goes down beside the weights, dense.
        """
        ...


class Method(ABC):
    """A way of training. The server's state is a dict of arrays, and so is what workers keep in their memory."""

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Return instances with usual parameters, which are checked with every shipped method; none by default."""
        return ()

    def resolved(self, problem: Problem) -> Self:
        """Return the method with what it leaves to theory filled in: steps from the constants of a problem.

        Raises TheoryError if theory has no answer, ValueError if the method does not go with the problem's compressor
        or clients.
        """
        return self

    def bound(self, problem: Problem) -> Bound | None:
        """Return what theory says of a run by the method, once it is resolved; None: it says nothing that is linear.

        That is so for steps that are not constant, or longer than the theorem allows, and for mu = 0.
        """
        return None

    def start(self, w: Weights) -> Arrays:
        """Return what the server keeps beside the weights, before the first round: arrays, none here."""
        return {}

    @abstractmethod
    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        """Do one round on the server: exchange as often as needed, then change w, and what else the server keeps."""

    @abstractmethod
    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        """Return what each worker of a block wants to send: one row a worker."""

    def plan(self, plan: Plan, memory: Memory) -> None:
        """Plan a round of server and workers, whose memory this is, as `round` and `work` have it.

        Raises NoProgram where that cannot be: the rounds are done one by one.
        """
        raise NoProgram

    def reads(self, task: Task, block: Block, memory: Memory) -> Rows:
        """Return the rows at whose coordinates `work` will read the weights: all of the workers' rows, here.

        A downlink that sends only what is asked for asks it, before `work` and without weights.
        """
        return block.all_rows()

    def memory(self, block: Block, support: Support) -> Memory:
        """Return what the workers of a block keep from round to round, nothing here.

        The support holds what their messages can fill, as they arrive: all n coordinates if the compressor fills in
        zeros.
        """
        return Memory(support, {})

    @property
    def learns_delivery(self) -> bool:
        """Whether workers learn what arrived of their messages."""
        return type(self).on_delivered is not Method.on_delivered

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        """Learn what the server got of the messages just sent. Nothing is learnt here.

        arrived: the vectors as it decoded them, zero where it got none. delivered: whose messages it got.
        """
        return None

    def solution(self, w: Weights, state: Arrays) -> NDArray[np.float64]:
        """Return the weights that are evaluated, and in the end returned: those that are trained, here."""
        return w.dense()

    def rows_per_round(self, shards: Shards) -> float:
        """Return about how many rows a worker computes with in a round (all it has, by default): it sizes blocks."""
        return shards.dataset.rows / shards.workers


def refuse_unfit(method: Method, problem: Problem) -> None:
    """Raise ValueError for what is made for updates, not for gradients: a memory, and signs without a size."""
    name, compressor = type(method).__name__, problem.compressor
    if type(compressor).memory is not Compressor.memory:
        raise ValueError(
            f"{name} must have a compressor without a memory, found {compressor!r}: error feedback is for updates"
            " (GradientDescent, SGD, LocalSGD); give what is inside it"
        )
    if isinstance(compressor, Sign):
        raise ValueError(
            f"{name} needs what comes near a gradient, found Sign, which loses the size: take"
            " qsim.compressors.ScaledSign(), or the method SignSGD"
        )


def refuse_absences(method: Method, problem: Problem, why: str) -> None:
    """Raise ValueError for clients who sit out rounds."""
    if not isinstance(problem.clients, AllClients):
        raise ValueError(
            f"{type(method).__name__} needs every worker in every round, found clients={problem.clients!r}: {why}; take"
            " SGD, LocalSGD, DIANA or EF21"
        )


def constant(step: Step | float | None, most: float) -> float | None:
    """Return the step of a rule that is constant and at most `most`, to rounding; None for other rules."""
    return step.step if isinstance(step, Constant) and step.step <= most * (1 + 1e-12) else None
