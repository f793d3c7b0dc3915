"""The server's weights, kept as a scale times a vector so that L2 costs one multiplication a round."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.program import Cell

_SMALLEST = 2.0**-64
"""The scale is multiplied into the vector below this, long before either could under- or overflow."""
_NUMBERS = count()


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
        self._vector = np.array(w, np.float64)
        self.scale = scale
        self.stamp = object()
        self._replica: Replica | None = None
        self._changed: list[NDArray[np.integer]] | None = None  # where, since the replica was made; None: anywhere

    @property
    def vector(self) -> NDArray[np.float64]:
        """The vector that is scaled. Whoever takes it may write into it, and must not do so later."""
        self._changed = None
        return self._vector

    @vector.setter
    def vector(self, vector: NDArray[np.float64]) -> None:
        self._changed = None
        self._vector = vector

    @property
    def size(self) -> int:
        """How many weights there are."""
        return self._vector.size

    def at(self, index: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the weights at some coordinates."""
        found: NDArray[np.float64] = self.scale * self._vector[index]
        return found

    def replica(self) -> Replica:
        """Return the weights in float32, beside their scale, as workers have them who do what the server does.

        Its vector is good until the next call, which rounds only what may have changed since.
        """
        before, changed = self._replica, self._changed
        self._changed = []
        if before is None or changed is None or sum(index.size for index in changed) > self._vector.size:
            self._replica = Replica(self._vector.astype(np.float32), self.scale, change=Change.anew())
            return self._replica
        assert before.change is not None
        index = np.concatenate([np.zeros(0, np.int32), *changed])
        before.vector[index] = self._vector[index]
        self._replica = Replica(before.vector, self.scale, change=before.change.then(index))
        return self._replica

    def become(self, other: Weights) -> None:
        """Take the values of other weights, and their stamp: who holds those holds these. The vector is not copied."""
        self.vector, self.scale, self.stamp = other.vector, other.scale, other.stamp

    def shrink(self, factor: float) -> None:
        """Multiply all weights by a factor above 0."""
        self.stamp = object()
        self.scale *= factor
        if self.scale < _SMALLEST:
            self._changed = None
            self._vector *= self.scale
            self.scale = 1.0

    def subtract(self, v: Vectors) -> None:
        """Subtract one row, sparse or dense."""
        from qsim.kernels.vectors import subtract_at

        self.stamp = object()
        if v.index is None:
            self._changed = None
            self._vector -= v.value.astype(np.float64, copy=False) / self.scale
        else:
            subtract_at(v.index, v.value, self.scale, self._vector)
            if self._changed is not None:
                self._changed.append(v.index.copy())

    def move(self, by: NDArray[np.float64]) -> None:
        """Add a dense vector: O(n)."""
        self.stamp = object()
        self._changed = None
        self._vector += by / self.scale if self.scale != 1.0 else by

    def put(self, index: NDArray[np.integer], values: NDArray[np.float64]) -> None:
        """Set the weights at some coordinates."""
        self.stamp = object()
        self._vector[index] = values / self.scale
        if self._changed is not None:
            self._changed.append(index)

    def replace(self, w: NDArray[np.float64]) -> None:
        """Set all weights: what is zero is so exactly."""
        self.stamp = object()
        self._changed = None
        self._vector, self.scale = np.array(w, np.float64), 1.0

    def dense(self) -> NDArray[np.float64]:
        """Return all n weights."""
        return self.scale * self._vector


@dataclass(frozen=True, eq=False)
class Change:
    """Where a vector differs from another: those of the numbers `after` and `before`, which no others have here."""

    index: NDArray[np.integer]
    before: int
    after: int

    @classmethod
    def anew(cls) -> Change:
        """Return the change to a vector from one that nobody has."""
        return cls(np.zeros(0, np.int32), -1, next(_NUMBERS))

    def then(self, index: NDArray[np.integer]) -> Change:
        """Return a further change."""
        return Change(index, self.after, next(_NUMBERS))


@dataclass(frozen=True)
class Replica:
    """The weights as workers hold them, in float32, or float64 in an exact exchange: scale * (vector - moved).

    `moved` is each worker's own way since it received the vector: the rows of a block's workers, on their supports.
    `change` says where the vector differs from an earlier one, if that is known.
    """

    vector: NDArray[np.floating]
    scale: float = 1.0
    moved: NDArray[np.floating] | None = None
    change: Change | None = None


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
