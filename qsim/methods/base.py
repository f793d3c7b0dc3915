"""The method contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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
from qsim.steps import Constant, Step, TheoryStep, TimesTheory
from qsim.weights import PlannedWeights, Replica, Weights


@dataclass(frozen=True)
class Task:
    """An instruction to the workers in an exchange.

    Parameters
    ----------
    name : str
        The name that the method gave the task.
    round : int
        The round, counted from 0.
    weights : Replica
        The weights to do it at. Their vector is good until the next task: copy what is kept of it.
    key : Key
        The random stream of the run's data. Fold in the round (and what else it depends on), then take the words of a
        block's workers: `key.fold(round).words(block.low, block.high)`.
    vectors : mapping of str to ndarray, optional
        Vectors that were sent down beside the weights, by name.
    words : ndarray of uint64, shape (workers,), optional
        The words of the keys with which the messages of the workers of this block are made.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> from qsim.weights import Replica
    >>> qsim.methods.Task("gradient", 0, Replica(np.zeros(3, np.float32)), qsim.Key(0)).name
    'gradient'
    """

    name: str
    round: int
    weights: Replica
    key: Key
    vectors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    words: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))


@dataclass(frozen=True)
class Sum:
    """The weighted sum of the messages that arrived at the server.

    The weights of those that arrived are scaled to sum 1.

    Parameters
    ----------
    vector : Vectors
        The sum: one float64 row.
    share : float, default 1.0
        What the weights of those that arrived summed to before; 1 if all arrived.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> qsim.methods.Sum(qsim.batch.Vectors.dense(np.ones(3))).share
    1.0
    """

    vector: Vectors
    share: float = 1.0


class Exchange(Protocol):
    """One trip to the workers and back, as the server of a method sees it.

    `Method.round` is given one, and calls it as often as needed.

    Attributes
    ----------
    round : int
        The round, counted from 0.
    objective : Objective
        The objective of the run.
    key : Key
        The random stream of the method's own random numbers, such as MARINA's coin: fold in the round.
    """

    round: int
    objective: Objective
    key: Key

    def __call__(
        self,
        task: str,
        w: Weights,
        *,
        exact: Literal["float32", "float64"] | None = None,
        length: int | None = None,
        **vectors: NDArray[np.float64],
    ) -> Sum:
        """Have every worker do a task at the weights w.

        Parameters
        ----------
        task : str
            What to do; `Method.work` reads it as `Task.name`.
        w : Weights
            The weights.
        exact : {"float32", "float64"}, optional
            Send dense numbers of this format up, without the compressor; with "float64" also down, and workers compute
            in it.
        length : int, optional
            The length of what is sent up, if not that of the weights.
        **vectors : ndarray of float64
            What is sent down beside the weights, dense, by name.

        Returns
        -------
        Sum
            The weighted sum of what the workers sent.
        """
        ...

    def tell(self, task: str, w: Weights) -> None:
        """Have every worker do a task at the weights w, of which it sends nothing: what `work` returns is left.

        Parameters
        ----------
        task : str
            What to do; `Method.work` reads it as `Task.name`.
        w : Weights
            The weights.
        """
        ...


class Method(ABC):
    """Base class of methods: what workers compute, and what the server does with the sum.

    The state of the server is a dict of arrays, and so is what workers keep in their memory. A method of your own is an
    option (`qsim.option`) with `round` and `work`, and, as needed, the other methods below.

    Attributes
    ----------
    keeps_support : bool, default True
        Whether workers read, send and keep only what is at features of their rows, as long as objective and compressor
        have it so.
    """

    keeps_support: bool = True

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Return instances with usual parameters, which are checked with every shipped method; none by default."""
        return ()

    def resolved(self, problem: Problem) -> Self:
        """Return the method with everything filled in that it leaves to theory, such as the step.

        Parameters
        ----------
        problem : Problem
            The constants of the run.

        Returns
        -------
        Method
            The method that is run; by default the method itself.

        Raises
        ------
        TheoryError
            If theory has no answer.
        ValueError
            If the method cannot be used with the compressor or the clients of the problem.
        """
        return self

    def bound(self, problem: Problem) -> Bound | None:
        """Return the bound of theory on a run by the method, which is resolved.

        Parameters
        ----------
        problem : Problem
            The constants of the run.

        Returns
        -------
        Bound or None
            A bound that falls linearly, to a noise floor; None if theory gives none, as for steps that are not constant
            or are longer than the theorem allows, and for mu = 0.
        """
        return None

    def start(self, w: Weights) -> Arrays:
        """Return what the server keeps beside the weights, as it is before the first round.

        Parameters
        ----------
        w : Weights
            The weights of round 0.

        Returns
        -------
        dict of ndarray
            The state, by name; empty by default.
        """
        return {}

    @abstractmethod
    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        """Do one round on the server.

        Parameters
        ----------
        w : Weights
            The weights, to be changed in place.
        state : dict of ndarray
            What else the server keeps, to be changed in place.
        exchange : Exchange
            Called as often as needed, to have the workers compute.
        """

    @abstractmethod
    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        """Return what each worker of a block sends.

        Parameters
        ----------
        task : Task
            What to do, at which weights.
        objective : Objective
            The objective of the run.
        block : Block
            The workers, and their rows.
        memory : Memory
            What they keep between rounds.

        Returns
        -------
        Vectors
            One row per worker, before compression.
        """

    def plan(self, plan: Plan, memory: Memory) -> None:
        """Plan a round of server and workers, whose memory this is, as `round` and `work` have it.

        Raises NoProgram where that cannot be: the rounds are done one by one.
        """
        raise NoProgram

    def plan_solution(self, plan: Plan) -> PlannedWeights:
        """Return where a plan has the weights that are evaluated, as `solution` has it."""
        if type(self).solution is not Method.solution:
            raise NoProgram
        return plan.weights

    def reads(self, task: Task, block: Block, memory: Memory) -> Rows:
        """Return the rows at whose coordinates `work` will read the weights.

        A downlink that sends only what is asked for calls it before `work`, without weights.

        Parameters
        ----------
        task : Task
            What will be done.
        block : Block
            The workers, and their rows.
        memory : Memory
            What they keep between rounds.

        Returns
        -------
        Rows
            By default all rows of the workers.
        """
        return block.all_rows()

    def memory(self, block: Block, support: Support) -> Memory:
        """Return what the workers of a block keep between rounds, as it is before the first round.

        Parameters
        ----------
        block : Block
            The workers, and their rows.
        support : Support
            The coordinates that their messages can fill, as they arrive: all n if the compressor fills in zeros.

        Returns
        -------
        Memory
            The memory, one row per worker; empty by default.
        """
        return Memory(support, {})

    @property
    def takes_proximal_steps(self) -> bool:
        """Whether `round` ends with a proximal step on the nonsmooth part of an objective: others are refused."""
        return False

    @property
    def learns_delivery(self) -> bool:
        """Whether workers learn what arrived of their messages."""
        return type(self).on_delivered is not Method.on_delivered

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        """Update the memory, given what arrived of the messages just sent.

        Parameters
        ----------
        task : Task
            What was done.
        block : Block
            The workers.
        memory : Memory
            What they keep between rounds, to be changed in place.
        arrived : Vectors
            What the server decoded, one row per worker, zero if the message was dropped.
        delivered : ndarray of bool, shape (workers,)
            Whose messages arrived.
        """
        return None

    def solution(self, w: Weights, state: Arrays) -> NDArray[np.float64]:
        """Return the weights that are evaluated, and in the end returned.

        Parameters
        ----------
        w : Weights
            The weights that are trained.
        state : dict of ndarray
            What else the server keeps.

        Returns
        -------
        ndarray of float64, shape (n,)
            By default the weights that are trained.
        """
        return w.dense()

    def rows_per_round(self, shards: Shards) -> float:
        """Return about how many rows a worker computes with in a round, by which blocks are sized.

        Parameters
        ----------
        shards : Shards
            The rows of the workers.

        Returns
        -------
        float
            By default all rows that a worker has.
        """
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


def refuse_biased(method: Method, problem: Problem, why: str) -> None:
    """Raise ValueError for a compressor that states no variance."""
    if problem.compressor.variance(problem.n) is None:
        raise ValueError(
            f"{type(method).__name__} needs an unbiased compressor, found {problem.compressor!r}, which states no"
            f" variance: {why}. Take EF21, or state variance(n) of your own"
        )


def refuse_absences(method: Method, problem: Problem, why: str) -> None:
    """Raise ValueError for clients who sit out rounds."""
    if not isinstance(problem.clients, AllClients):
        raise ValueError(
            f"{type(method).__name__} needs every worker in every round, found clients={problem.clients!r}: {why}; take"
            " SGD, LocalSGD, DIANA or EF21"
        )


def step_for(method: Any, problem: Problem, best: Callable[[Problem], float]) -> Step:
    """Return the step of a method in a run: its own; of a theorem, the number; without a step, what is best."""
    step: Step | None = method.step
    if isinstance(step, TimesTheory):
        longest = best(problem) if step.theorem is None else step.theorem.longest(method, problem)
        return Constant(step.multiple * longest)
    if isinstance(step, TheoryStep):
        return Constant(step.longest(method, problem))
    return Constant(best(problem)) if step is None else step


def constant(step: Step | float | None, most: float) -> float | None:
    """Return the step of a rule that is constant and at most `most`, to rounding; None for other rules."""
    return step.step if isinstance(step, Constant) and step.step <= most * (1 + 1e-12) else None
