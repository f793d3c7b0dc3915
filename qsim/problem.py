"""The constants of a problem that theory speaks of: what step-size rules and promised rates are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qsim.compressors import Compressor
from qsim.datasets import Dataset, Shards
from qsim.objectives import Objective


class TheoryError(ValueError):
    """A constant is asked for that is not known: the compressor states none, or the objective has none."""


@dataclass(frozen=True, eq=False)
class Problem:
    """An objective over the shards of data, with workers that send by a compressor.

    Constants are computed when they are asked for. `weights` are those of the workers in the sum, n_i / n.
    """

    objective: Objective
    data: Dataset
    shards: Shards
    compressor: Compressor
    weights: NDArray[np.float64]

    @property
    def n(self) -> int:
        """The length of the weight vector."""
        return self.shards.n

    @property
    def workers(self) -> int:
        """W."""
        return self.shards.workers

    @cached_property
    def smoothness(self) -> float:
        """L of the whole objective."""
        return self.objective.smoothness(self.data)

    @cached_property
    def smoothnesses(self) -> NDArray[np.float64]:
        """L_i of every worker's own."""
        return self.objective.smoothnesses(self.shards)

    @property
    def largest_smoothness(self) -> float:
        """The largest L_i."""
        return float(self.smoothnesses.max())

    @property
    def mean_square_smoothness(self) -> float:
        """The root of the mean of L_i^2, with the weights of the workers."""
        return float(np.sqrt(self.weights @ self.smoothnesses**2))

    @cached_property
    def strong_convexity(self) -> float:
        """The mu of the objective."""
        return self.objective.strong_convexity(self.data)

    @property
    def omega(self) -> float:
        """The compressor's variance at length n. Raises TheoryError if it states none."""
        omega = self.compressor.variance(self.n)
        if omega is None:
            raise TheoryError(f"{self.compressor!r} states no variance, so no step follows from theory: give the step")
        return omega

    @property
    def delta(self) -> float:
        """The compressor's contraction at length n. Raises TheoryError if it states none."""
        delta = self.compressor.contraction(self.n)
        if delta is None:
            raise TheoryError(
                f"{self.compressor!r} is no contraction that is known, so no step follows from theory: give the step"
                " (an unbiased compressor becomes a contraction as qsim.Scaled(...))"
            )
        return delta
