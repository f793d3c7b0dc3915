"""The objective contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.datasets import Dataset, Shards
from qsim.datasets.block import Block, Rows
from qsim.weights import Replica, Weights


class NoOptimumError(ValueError):
    """The minimum was not reached: the problem may have none."""


@dataclass(frozen=True)
class Optimum:
    """The minimiser of an objective over a data set, to a gradient norm of 1e-10."""

    weights: NDArray[np.float64]
    value: float
    gradient_norm: float


class Objective(ABC):
    """F(w) = (1/n) sum_i loss_i(w) + r(w) over the n rows of a data set, r the regulariser: (l2/2) ||w||^2 here.

    The driver computes in float64. Workers compute the loss of their rows, without r, in the precision of the weights
    that they are given: float32, or float64 in an exact exchange.
    """

    l2: float

    @abstractmethod
    def design(self, data: Dataset) -> Dataset:
        """Return the data set whose rows meet the weights, with an intercept's column if there is one."""

    @abstractmethod
    def value_and_gradient(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64]]:
        """Return F(w) and its gradient, in one pass over the margins, in float64."""

    @abstractmethod
    def error_rate(self, w: NDArray[np.float64], data: Dataset) -> float:
        """Return the share of rows that are predicted wrongly."""

    @abstractmethod
    def smoothness(self, data: Dataset) -> float:
        """Return L, with ||grad F(u) - grad F(w)|| <= L ||u - w||."""

    @abstractmethod
    def smoothnesses(self, shards: Shards) -> NDArray[np.float64]:
        """Return L_i for every worker: as `smoothness`, of its own rows. A worker without rows has that of r alone."""

    def row_smoothness(self, shards: Shards) -> float:
        """Return the largest L of the loss of a single row, with r: at least every L_i, as those are means of rows."""
        rows = Shards(shards.dataset, shards.order, np.arange(shards.dataset.rows + 1))  # a worker for every row
        return float(self.smoothnesses(rows).max())

    def strong_convexity(self, data: Dataset) -> float:
        """Return mu >= 0, with F(u) >= F(w) + <grad F(w), u - w> + (mu/2) ||u - w||^2: at least l2."""
        return self.l2

    @abstractmethod
    def optimum(self, data: Dataset) -> Optimum:
        """Return the minimiser, from the disk if it was found before. Raises NoOptimumError if it is not found."""

    @abstractmethod
    def update(self, block: Block, rows: Rows, weights: Replica, step: float) -> Vectors:
        """Return for each worker: step times the mean over its rows of the gradient of the loss (without r).

        A worker without rows has a zero row. Only the coordinates that the rows touch.
        """

    @abstractmethod
    def losses(self, block: Block, rows: Rows, weights: Replica) -> Vectors:
        """Return for each worker the mean loss of its rows, as a vector of length 1; 0 for a worker without rows."""

    @abstractmethod
    def curved(self, block: Block, rows: Rows, weights: Replica, direction: NDArray[np.floating]) -> Vectors:
        """Return for each worker the mean Hessian of the loss over its rows (without r) times a direction."""

    def value(self, w: NDArray[np.float64], data: Dataset) -> float:
        """Return F(w)."""
        return self.value_and_gradient(w, data)[0]

    def gradient(self, w: NDArray[np.float64], data: Dataset) -> NDArray[np.float64]:
        """Return the gradient of F at w."""
        return self.value_and_gradient(w, data)[1]

    def regulariser(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return r(w) and its gradient."""
        return 0.5 * self.l2 * float(w @ w), self.l2 * w

    def regularised(self, w: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Hessian of r at w times a direction."""
        return self.l2 * direction

    def regularise(self, w: Weights, step: float) -> None:
        """Do a step on r alone: w <- w - step grad r(w). For l2 it is one multiplication, whatever the length of w.

        Raises ValueError for step * l2 >= 1, which would throw the weights past zero.
        """
        if self.l2:
            shrink = 1.0 - step * self.l2
            if shrink <= 0.0:
                raise ValueError(
                    f"step * l2 = {step * self.l2:g}: it must stay below 1, or the regulariser throws the weights past"
                    " zero; take a smaller step"
                )
            w.shrink(shrink)
