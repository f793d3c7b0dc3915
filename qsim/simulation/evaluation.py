"""Evaluation of weights: the loss, its gradient and the error on the rows of a run.

There is one definition wherever rows are: each worker adds up what it finds on its own rows, in their order; these sums
are added up in the order of the workers, and divided by the number of all rows. An objective of one's own that looks at
all rows at once is asked for that instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from qsim.block import Block
from qsim.datasets import Dataset, Shards
from qsim.datasets.labels import Labels
from qsim.datasets.parts import RowsElsewhere
from qsim.objectives import Objective
from qsim.objectives.wrapper import innermost
from qsim.options import is_shipped
from qsim.weights import Replica
from qsim.workers.measurements import is_measurable

_MOST = 2**24  # entries of rows that are copied, so that they are read in their order: that takes half the time
LONGEST = 2**17
"""How many numbers weights have that are evaluated together, at most: that takes 25 times their memory, and longer
ones are evaluated as fast one by one."""
TOGETHER = 8
"""How many weights are evaluated at a time, at most."""


class Evaluation(NamedTuple):
    """F at some weights, its gradient, and the error."""

    loss: float
    gradient: NDArray[np.float64]
    error: float


class Score(NamedTuple):
    """The mean loss, without r, and the error."""

    loss: float
    error: float


class Evaluator(Protocol):
    """Evaluates an objective on the rows of a run."""

    def evaluate(self, weights: NDArray[np.float64]) -> list[Evaluation]:
        """Return F, its gradient and the error for each of up to TOGETHER weights, a row each."""

    def score(self, weights: NDArray[np.float64]) -> list[Score]:
        """Return the mean loss, without r, and the error for each of them."""


def evaluator(objective: Objective, data: Dataset | RowsElsewhere, shards: Shards | None) -> Evaluator:
    """Return who evaluates an objective on data, which shards share out if they are here."""
    if shards is not None and is_measurable(objective) and not _has_own_error(objective):
        return RowsHere(objective, shards)
    return AllRows(objective, data)


def _has_own_error(objective: Objective) -> bool:
    """Return whether the error is a user's own, which may be no mean over rows, such as a median."""
    error = getattr(type(innermost(objective)), "error_of_margins", None)
    return not str(getattr(error, "__module__", "")).startswith("qsim.")


class AllRows:
    """Has the objective evaluate all rows: those that are elsewhere, and an objective that has its own way."""

    def __init__(self, objective: Objective, data: Any) -> None:
        self._objective, self._data = objective, data

    def evaluate(self, weights: NDArray[np.float64]) -> list[Evaluation]:
        """Return F, its gradient and the error for each of some weights."""
        return [Evaluation(*self._objective.evaluate(w, self._data)) for w in weights]

    def score(self, weights: NDArray[np.float64]) -> list[Score]:
        """Return the mean loss and the error for each of them."""
        return [Score(*self._objective.loss_and_error(w, self._data)) for w in weights]


class RowsHere:
    """Evaluates rows in this process, to the same bits as their workers do elsewhere, and several weights at once."""

    def __init__(self, objective: Objective, shards: Shards) -> None:
        self._objective, self._inner = objective, innermost(objective)
        self._block, self._count = Block(shards, 0, shards.workers), shards.dataset.rows
        self._rows = self._block.all_rows()

    def evaluate(self, weights: NDArray[np.float64]) -> list[Evaluation]:
        """Return F, its gradient and the error for each of some weights."""
        if self._takes_several(weights):
            return self._several.evaluate(weights)
        return [self._evaluate(w) for w in weights]

    def score(self, weights: NDArray[np.float64]) -> list[Score]:
        """Return the mean loss and the error for each of them."""
        if self._takes_several(weights):
            return self._several.score(weights)
        return [_score(self._inner.score_rows(self._block, self._rows, Replica(w)), self._count) for w in weights]

    def _evaluate(self, w: NDArray[np.float64]) -> Evaluation:
        gradients, *sums = self._inner.evaluate_rows(self._block, self._rows, Replica(w))
        return _whole(self._objective, w, gradients.total() / self._count, _score(sums, self._count))

    def _takes_several(self, weights: NDArray[np.float64]) -> bool:
        """Return whether weights, a row each, are evaluated in one pass over the rows."""
        several, n = weights.shape
        return self._inner.width == 1 and several > 1 and n <= LONGEST and is_shipped(self._inner)

    @cached_property
    def _several(self) -> _SeveralAtOnce:
        return _SeveralAtOnce(self._objective, self._block)


class _SeveralAtOnce:
    """Evaluates up to TOGETHER weights in one pass over the rows, as kernels have as many lanes."""

    def __init__(self, objective: Objective, block: Block) -> None:
        self._objective, self._inner = objective, innermost(objective)
        self._block = block.laid_out() if block.data.nonzeros <= _MOST else block
        self._rows, self._count = self._block.all_rows(), block.data.rows
        self._labels = Labels(self._block.labels[self._rows.index], block.data.kind)
        self._weights = np.zeros((TOGETHER, block.n))
        shape = TOGETHER, self._rows.index.size  # kept: memory that is new to a process is slow to write to
        self._margins, self._numbers = np.empty(shape), np.zeros(shape)

    def evaluate(self, weights: NDArray[np.float64]) -> list[Evaluation]:
        """Return F, its gradient and the error for each of some weights."""
        margins = self._margins_of(weights)
        scores = self._scores_of(margins)
        slopes = self._written(self._inner.slope, margins)
        gradients = self._block.totals_of_several(self._rows, slopes)[: len(weights)]
        gradients /= self._count
        found = zip(weights, gradients, scores, strict=True)
        return [_whole(self._objective, w, gradient, score) for w, gradient, score in found]

    def score(self, weights: NDArray[np.float64]) -> list[Score]:
        """Return the mean loss and the error for each of them."""
        return self._scores_of(self._margins_of(weights))

    def _margins_of(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        self._weights[: len(weights)] = weights
        self._block.margins_of_several(self._rows, self._weights, self._margins)
        return self._margins[: len(weights)]

    def _scores_of(self, margins: NDArray[np.float64]) -> list[Score]:
        """Return the mean loss and the error for each row of margins, which are those of one of several weights."""
        from qsim.kernels.several import sums_of_several

        losses = np.empty((1, TOGETHER))
        sums_of_several(self._rows.offsets, self._written(self._inner.loss, margins), losses)
        errors = [self._inner.error_sums(margin, self._labels, self._rows.offsets) for margin in margins]
        return [_score(sums, self._count) for sums in zip(losses.T, errors, strict=False)]

    def _written(self, function: Callable[..., Any], margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what a function of margins and labels finds for each of some weights, and anything for the others."""
        labels = np.tile(self._labels.labels, len(margins))
        self._numbers[: len(margins)] = function(margins.ravel(), labels).reshape(margins.shape)
        return self._numbers


def _whole(objective: Objective, w: NDArray[np.float64], gradient: NDArray[np.float64], score: Score) -> Evaluation:
    """Return the evaluation, from the mean gradient and loss of the rows."""
    return Evaluation(*objective.completed(w, score.loss, gradient), score.error)


def _score(sums: Iterable[NDArray[np.float64]], count: int) -> Score:
    """Return the means of rows of the workers' sums of losses and of errors, added up in their order."""
    loss, error = (float(np.cumsum(numbers)[-1]) / count for numbers in sums)
    return Score(loss, error)
