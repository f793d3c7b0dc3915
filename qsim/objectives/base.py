"""The objective contract, and what objectives over a linear model share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.datasets import Dataset
from qsim.datasets.block import Block, Rows
from qsim.weights import Replica


class NoOptimumError(ValueError):
    """The minimum was not reached: the problem may have none."""


@dataclass(frozen=True)
class Optimum:
    """The minimiser of an objective over a data set, to a gradient norm of 1e-10."""

    weights: NDArray[np.float64]
    value: float
    gradient_norm: float


class Objective(ABC):
    """F(w) = (1/n) sum_i loss(<x_i, w>, y_i) + (l2/2) ||w||^2 over the n rows of a data set."""

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
    def optimum(self, data: Dataset) -> Optimum:
        """Return the minimiser, from the disk if it was found before. Raises NoOptimumError if it is not found."""

    @abstractmethod
    def update(self, block: Block, rows: Rows, weights: Replica, step: float) -> Vectors:
        """Return for each worker: step times the mean over its rows of the gradient of the loss (without l2).

        A worker without rows has a zero row. float32; only the coordinates that the rows touch.
        """

    def value(self, w: NDArray[np.float64], data: Dataset) -> float:
        """Return F(w)."""
        return self.value_and_gradient(w, data)[0]

    def gradient(self, w: NDArray[np.float64], data: Dataset) -> NDArray[np.float64]:
        """Return the gradient of F at w."""
        return self.value_and_gradient(w, data)[1]


def margins_of(data: Dataset, w: Any) -> NDArray[np.float64]:
    """Return <x_i, w> for every row, in float64. Raises ValueError if w has the wrong shape."""
    from qsim.kernels.csr import margins

    weights = np.ascontiguousarray(w, np.float64)
    if weights.shape != (data.features,):
        raise ValueError(f"w must have shape ({data.features},) for {data!r}, found {weights.shape}")
    out = np.empty(data.rows)
    margins(data.indptr, data.indices.view(f"u{data.indices.itemsize}"), data.values, None, weights, out)
    return out


def back(data: Dataset, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return X^T slopes, in float64."""
    from qsim.kernels.csr import scatter

    out = np.zeros(data.features)
    scatter(data.indptr, data.indices.view(f"u{data.indices.itemsize}"), data.values, slopes, out)
    return out
