"""Estimates of a worker's gradient from few of its rows that get better as the weights converge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block, Rows
from qsim.keys import Key
from qsim.methods.base import Exchange, Task
from qsim.methods.sampling import Sampling, WithReplacement, check_batch, drawn
from qsim.objectives import Objective
from qsim.options import number, option, whole
from qsim.problem import Problem
from qsim.weights import Replica


class Estimator(ABC):
    """Base class of estimators: what stands for the gradient of a worker's rows in `DASHA` and `EF21`.

    A worker keeps its estimate :math:`k_i` and the weights of the round before, on its support. All workers must take
    part in every round. What is kept is float64: estimates are sums of many differences.
    """

    batch: int
    sampling: Sampling

    def resolved(self, problem: Problem) -> Self:
        """Return the estimator with everything filled in that it leaves to theory."""
        return self

    @abstractmethod
    def error(self, problem: Problem) -> tuple[float, float, float]:
        r"""Return what the proof of `docs/theory.md` asks of the estimator, over the squared change of the weights.

        Parameters
        ----------
        problem : Problem
            The constants of the run.

        Returns
        -------
        change : float
            What the mean of :math:`\|k_i - k_i'\|^2` is at most, :math:`k_i'` being those of the round before, but for
            what was wrong with these.
        late : float
            What is added to that for what was wrong with the :math:`k_i`, summed over the rounds in which it lasts.
        sum : float
            What :math:`\|\sum_i p_i (k_i - g_i)\|^2` adds up to over the rounds, :math:`p_i` the weights of the
            workers.
        """

    def task(self, exchange: Exchange) -> str:
        """Return the name of the task of a round."""
        return "difference"

    def start(self, block: Block, support: Support) -> Arrays:
        """Return what workers keep: estimates and old weights, and what the sampling keeps."""
        return Memory.zeros(support, "estimate", "weights", dtype=np.float64).arrays | self.sampling.memory(block)

    def estimate(self, task: Task, objective: Objective, block: Block, memory: Memory) -> NDArray[np.float64]:
        """Return the new estimates of the workers, on their supports, and keep the weights they were made at."""
        if task.round == 0:
            found = on_support(memory, self._gradient(block.all_rows(), task, objective, block, task.weights))
        else:
            found = self._next(task, objective, block, memory)
        memory.arrays["weights"][:] = held(task.weights, memory.support)
        return found

    @abstractmethod
    def _next(self, task: Task, objective: Objective, block: Block, memory: Memory) -> NDArray[np.float64]:
        """Return the estimates of a round after the first."""

    def _gradient(self, rows: Rows, task: Task, objective: Objective, block: Block, at: Replica) -> Vectors:
        return objective.update(block, rows, at, 1.0)

    def _drawn(self, task: Task, objective: Objective, block: Block, memory: Memory) -> tuple[Vectors, Vectors]:
        return now_and_before(drawn(self.sampling, block, self.batch, task, memory), task, objective, block, memory)


def now_and_before(
    rows: Rows, task: Task, objective: Objective, block: Block, memory: Memory
) -> tuple[Vectors, Vectors]:
    """Return the gradients over some rows, at the weights and at those that workers keep of a round before."""
    now, of = task.weights, memory.support
    if of.index is None:
        before = Replica(memory.arrays["weights"][: of.n].astype(now.vector.dtype))
    else:
        moved = held(now, of) - memory.arrays["weights"]
        before = Replica(now.vector * now.vector.dtype.type(now.scale), 1.0, moved.astype(now.vector.dtype))
    return objective.update(block, rows, now, 1.0), objective.update(block, rows, before, 1.0)


def on_support(memory: Memory, *parts: Vectors, signs: tuple[float, ...] = (1.0, -1.0)) -> NDArray[np.float64]:
    """Return a sum of vectors, with these factors, on the supports of a memory."""
    total = Memory.zeros(memory.support, "", dtype=np.float64)
    for part, sign in zip(parts, signs, strict=False):
        total.add("", part, sign)
    return total.arrays[""]


def held(weights: Replica, support: Support) -> NDArray[np.float64]:
    """Return the weights that the workers hold, on their supports."""
    vector = weights.vector.astype(np.float64) * weights.scale
    return np.tile(vector, support.offsets.size - 1) if support.index is None else vector[support.index]


@final
@option
class PAGE(Estimator):
    r"""Differences of gradients over a few rows, and by a coin of the server all rows.

    :math:`k_i \leftarrow g_i(w)` with probability :math:`p`, and :math:`k_i + g_{i,B}(w) - g_{i,B}(w')` otherwise, with
    :math:`w'` the weights of the round before and :math:`B` the same :math:`b` rows for both.

    Parameters
    ----------
    batch : int
        The number :math:`b` of rows that a worker draws.
    p : float, optional
        The probability of all rows, in (0, 1]; by default :math:`b/(b + m)` for :math:`m` rows per worker, in the mean,
        at which both kinds of rounds read about as many rows.
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.

    Raises
    ------
    ValueError
        If `batch` is below 1, or `p` outside (0, 1].

    References
    ----------
    .. [1] Li, Bao, Zhang, Richtarik, "PAGE: a simple and optimal probabilistic gradient estimator", ICML 2021.

    Examples
    --------
    >>> import qsim
    >>> qsim.DASHA(step=0.1, estimator=qsim.methods.PAGE(batch=8)).estimator.batch
    8
    """

    batch: int
    p: float | None = None
    sampling: Sampling = WithReplacement()

    def __post_init__(self) -> None:
        _check(self)
        if self.p is not None:
            number("p", self.p, above=0)
            if self.p > 1:
                raise ValueError(f"p must be at most 1, found {self.p!r}")

    def resolved(self, problem: Problem) -> Self:
        if self.p is not None:
            return self
        return replace(self, p=self.batch / (self.batch + problem.shards.dataset.rows / problem.workers))

    def error(self, problem: Problem) -> tuple[float, float, float]:
        assert self.p is not None
        rows = (1 - self.p) * problem.row_smoothness**2 / self.batch
        change = (1 + self.p) * problem.mean_square_smoothness**2 + rows
        return change, 2 * rows, problem.largest_share * rows / self.p

    def task(self, exchange: Exchange) -> str:
        return "full" if self._coin(exchange.key, exchange.round) else "difference"

    def _coin(self, key: Key, t: int) -> bool:
        assert self.p is not None
        return bool(key.fold(t).generator().random() < self.p)

    def _next(self, task: Task, objective: Objective, block: Block, memory: Memory) -> NDArray[np.float64]:
        if task.name == "full":
            return on_support(memory, self._gradient(block.all_rows(), task, objective, block, task.weights))
        return memory.arrays["estimate"] + on_support(memory, *self._drawn(task, objective, block, memory))


@final
@option
class MVR(Estimator):
    r"""Momentum-based variance reduction (STORM): an average that is moved along with the weights.

    :math:`k_i \leftarrow g_{i,B}(w) + (1 - b) (k_i - g_{i,B}(w'))`, with :math:`w'` the weights of the round before and
    :math:`B` the same rows for both; :math:`b = 1` is the gradient of the batch.

    Parameters
    ----------
    batch : int
        The number of rows that a worker draws each round.
    momentum : float
        The share :math:`b` of the new gradient, in (0, 1].
    sampling : Sampling, default `WithReplacement()`
        How rows are drawn: `WithReplacement()` or `Passes()`.

    Raises
    ------
    ValueError
        If `batch` is below 1, or `momentum` outside (0, 1].

    Notes
    -----
    The first estimate is the gradient of all rows. What remains of the noise of batches is about :math:`b` times as
    large as without variance reduction.

    References
    ----------
    .. [1] Cutkosky, Orabona, "Momentum-based variance reduction in non-convex SGD", NeurIPS 2019.

    Examples
    --------
    >>> import qsim
    >>> qsim.DASHA(step=0.1, estimator=qsim.methods.MVR(batch=8, momentum=0.1)).estimator.momentum
    0.1
    """

    batch: int
    momentum: float
    sampling: Sampling = WithReplacement()

    def __post_init__(self) -> None:
        _check(self)
        number("momentum", self.momentum, above=0)
        if self.momentum > 1:
            raise ValueError(f"momentum must be at most 1, found {self.momentum!r}")

    def error(self, problem: Problem) -> tuple[float, float, float]:
        rows = 2 * (1 - self.momentum) ** 2 * problem.row_smoothness**2 / self.batch
        change = 2 * problem.mean_square_smoothness**2 + rows
        return change, 2 * self.momentum * rows, problem.largest_share * rows / self.momentum

    def _next(self, task: Task, objective: Objective, block: Block, memory: Memory) -> NDArray[np.float64]:
        keep = 1 - self.momentum
        new = on_support(memory, *self._drawn(task, objective, block, memory), signs=(1.0, -keep))
        return keep * memory.arrays["estimate"] + new


def check_estimator(estimator: object) -> None:
    """Raise TypeError for what is neither an estimator nor None."""
    if not isinstance(estimator, (Estimator, type(None))):
        raise TypeError(f"estimator must be None or such as qsim.methods.PAGE(batch=16), found {estimator!r}")


def _check(estimator: Estimator) -> None:
    whole("batch", estimator.batch, least=1)
    check_batch(estimator.batch, estimator.sampling)
