"""Objectives that change something about another."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.block import Block, Rows
from qsim.datasets import Dataset, Shards
from qsim.datasets.labels import Kind
from qsim.objectives.base import Objective
from qsim.objectives.optimum import Optimum, Product, kept, minimum
from qsim.weights import Replica, Weights


class Wrapper(Objective):
    """Base class of objectives that change something about another; all else is as the other has it.

    From the inside out: `WithIntercept`, `WithNonconvex`, `WithL1`, `WithRegulariser`, each at most once.
    """

    objective: Objective
    place: ClassVar[int]
    """Where the wrapper goes among the others."""

    def __post_init__(self) -> None:
        inside = self.objective
        if not isinstance(inside, Objective):
            raise TypeError(f"objective must be such as qsim.LogisticRegression(l2=1e-4), found {inside!r}")
        if isinstance(inside, Wrapper) and inside.place == self.place:
            raise ValueError(f"{inside!r} has a {type(self).__name__} inside already")
        if isinstance(inside, Wrapper) and inside.place > self.place:
            raise ValueError(
                f"{type(self).__name__} goes inside {type(inside).__name__}, found {inside!r}: put it around"
                f" {inside.objective!r}"
            )

    @property
    def innermost(self) -> Objective:
        """The objective whose loss this is."""
        inside = self.objective
        return inside.innermost if isinstance(inside, Wrapper) else inside

    @property
    def free(self) -> int:
        """How many of the last weights belong to an intercept that nothing regularises."""
        return self.objective.free if isinstance(self.objective, Wrapper) else 0

    @property
    def l2(self) -> float:  # type: ignore[override]
        """The factor of the regulariser."""
        return self.objective.l2

    @property
    def takes(self) -> tuple[Kind, ...]:  # type: ignore[override]
        """The kinds of labels that the objective takes."""
        return self.objective.takes

    @property
    def keeps_support(self) -> bool:  # type: ignore[override]
        """Whether a worker's gradients are zero for features that its rows lack."""
        return self.objective.keeps_support

    @property
    def width(self) -> int:
        return self.objective.width

    @property
    def composite(self) -> bool:
        return self.objective.composite

    def design(self, data: Dataset) -> Dataset:
        return self.objective.design(self._inside(data))

    def _inside(self, data: Dataset) -> Dataset:
        """Return the data that the other objective is given."""
        return data

    def _whole(
        self, w: NDArray[np.float64], value: float, gradient: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]]:
        """Return F(w) and its gradient, given those of the other objective."""
        return value, gradient

    def value_and_gradient(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64]]:
        return self._whole(w, *self.objective.value_and_gradient(w, self._inside(data)))

    def evaluate(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64], float]:
        value, gradient, error = self.objective.evaluate(w, self._inside(data))
        return *self._whole(w, value, gradient), error

    def completed(
        self, w: NDArray[np.float64], loss: float, gradient: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]]:
        return self._whole(w, *self.objective.completed(w, loss, gradient))

    def error(self, w: NDArray[np.float64], data: Dataset) -> float:
        return self.objective.error(w, self._inside(data))

    def loss_and_error(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, float]:
        return self.objective.loss_and_error(w, self._inside(data))

    def smoothness(self, data: Dataset) -> float:
        return self.objective.smoothness(self._inside(data))

    def worker_smoothness(self, shards: Shards) -> NDArray[np.float64]:
        return self.objective.worker_smoothness(shards)

    def row_smoothness(self, shards: Shards) -> float:
        return self.objective.row_smoothness(shards)

    def strong_convexity(self, data: Dataset) -> float:
        return self.objective.strong_convexity(self._inside(data))

    def optimum(self, data: Dataset) -> Optimum:
        return kept(self, data, self._solve)

    def _solve(self, data: Dataset) -> Optimum:
        return minimum(self, data)

    def hessian(self, w: NDArray[np.float64], data: Dataset) -> Product:
        return self.objective.hessian(w, self._inside(data))

    def update(self, block: Block, rows: Rows, weights: Replica, step: float) -> Vectors:
        return self.objective.update(block, rows, weights, step)

    def losses(self, block: Block, rows: Rows, weights: Replica) -> Vectors:
        return self.objective.losses(block, rows, weights)

    def hvp(self, block: Block, rows: Rows, weights: Replica, direction: NDArray[np.floating]) -> Vectors:
        return self.objective.hvp(block, rows, weights, direction)

    def regulariser(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return self.objective.regulariser(w)

    def regulariser_hvp(self, w: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.objective.regulariser_hvp(w, direction)

    def apply_l2_step(self, w: Weights, step: float) -> None:
        self.objective.apply_l2_step(w, step)

    def nonsmooth(self, w: NDArray[np.float64]) -> float:
        return self.objective.nonsmooth(w)

    def proximal_step(self, w: Weights, step: float) -> None:
        self.objective.proximal_step(w, step)


def innermost(objective: Any) -> Any:
    """Return the objective inside all wrappers: its loss, of the margins of the design, is that of the whole."""
    return objective.innermost if isinstance(objective, Wrapper) else objective
