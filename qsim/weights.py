"""The server's weights, kept as a scale times a vector so that L2 costs one multiplication a round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.program import Cell

_SMALLEST = 2.0**-64
"""The scale is multiplied into the vector below this, long before either could under- or overflow."""


class Weights:
    """w = scale * vector in float64: shrinking all n weights is one multiplication, an update touches what it changes.

    Each operation rounds once, as it would on plain weights, so the two agree to rounding over any number of rounds
    (Bottou 2012, "Stochastic gradient descent tricks", section 5.1).

    `stamp` is replaced by every change: two weights with one stamp are the same.

    >>> w = Weights(np.array([1.0, 2.0]))
    >>> w.shrink(0.5)
    >>> w.subtract(Vectors.dense([0.0, 0.25]))
    >>> w.dense()
    array([0.5 , 0.75])
    """

    def __init__(self, w: NDArray[np.float64], scale: float = 1.0) -> None:
        """Start at scale * w."""
        self.vector = np.array(w, np.float64)
        self.scale = scale
        self.stamp = object()

    def become(self, other: Weights) -> None:
        """Take the values of other weights, and their stamp: who holds those holds these. The vector is not copied."""
        self.vector, self.scale, self.stamp = other.vector, other.scale, other.stamp

    def shrink(self, factor: float) -> None:
        """Multiply all weights by a factor above 0."""
        self.stamp = object()
        self.scale *= factor
        if self.scale < _SMALLEST:
            self.vector *= self.scale
            self.scale = 1.0

    def subtract(self, v: Vectors) -> None:
        """Subtract one row, sparse or dense."""
        from qsim.kernels.vectors import subtract_at

        self.stamp = object()
        if v.index is None:
            self.vector -= v.value.astype(np.float64, copy=False) / self.scale
        else:
            subtract_at(v.index, v.value, self.scale, self.vector)

    def move(self, by: NDArray[np.float64]) -> None:
        """Add a dense vector: O(n)."""
        self.stamp = object()
        self.vector += by / self.scale if self.scale != 1.0 else by

    def dense(self) -> NDArray[np.float64]:
        """Return all n weights."""
        return self.scale * self.vector


@dataclass(frozen=True)
class Replica:
    """The weights as workers hold them, in float32, or float64 in an exact exchange: scale * (vector - moved).

    `moved` is each worker's own way since it received the vector: the rows of a block's workers, on their supports.
    """

    vector: NDArray[np.floating]
    scale: float = 1.0
    moved: NDArray[np.floating] | None = None


@dataclass(frozen=True, eq=False)
class PlannedWeights:
    """The server's weights while a program changes them: scale * vector."""

    vector: NDArray[np.float64]
    scale: Cell


@dataclass(frozen=True, eq=False)
class PlannedReplica:
    """The weights as workers hold them in a program: factor * float32(scale * vector).

    `vector` is rounded where it is read, or float32 already (and the scale one), so that nothing is left to round.
    """

    vector: NDArray[np.float32] | NDArray[np.float64]
    scale: Cell | float = 1.0
    factor: Cell | None = None
    """Multiplied in float32; None: one."""

    def as_it_is(self) -> Replica:
        """Return the weights that workers hold in the round of the program."""
        scale = self.scale.array[0] if isinstance(self.scale, Cell) else self.scale
        vector = self.vector if self.vector.dtype == np.float32 else (scale * self.vector).astype(np.float32)
        return Replica(vector, 1.0 if self.factor is None else float(self.factor.array[0]))
