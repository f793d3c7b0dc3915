"""Weights on their way to places: of those that a place has already, only what has changed since is sent, or kept.

A vector that follows another says so (`Replica.change`). With millions of features a round changes few of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.weights import Replica
from qsim.workers.tasks import Measurement, Order


@dataclass(frozen=True)
class ChangedReplica(Replica):
    """A replica whose vector has the coordinates that have changed, and no others."""


class Shortener:
    """Shortens orders to what has changed since the one before, which was given, too."""

    def __init__(self) -> None:
        self._at: int | None = None

    def shortened(self, detail: Any) -> Any:
        """Return an order with what has changed of its weights, if that can be; everything else as it is."""
        if not isinstance(detail, Order) or isinstance(detail, Measurement):
            return detail
        before, self._at = self._at, None if detail.weights.change is None else detail.weights.change.after
        return replace(detail, weights=changed(detail.weights)) if follows(detail.weights, before) else detail

    def forget(self) -> None:
        """Take the next weights as a whole."""
        self._at = None


class Completer:
    """Makes orders whole again that were shortened."""

    def __init__(self) -> None:
        self._at: int | None = None
        self._vector: NDArray[Any] = np.zeros(0)
        self._mine = False

    def whole(self, detail: Any) -> Any:
        """Return an order with all of its weights, which are good until the next; everything else as it is."""
        if not isinstance(detail, Order) or isinstance(detail, Measurement):
            return detail
        weights, change = detail.weights, detail.weights.change
        if not isinstance(weights, ChangedReplica):
            self._vector, self._mine = weights.vector, False
            self._at = None if change is None else change.after
            return detail
        assert change is not None
        if change.before != self._at:
            raise RuntimeError(f"weights that follow number {change.before} came after number {self._at}")
        if not self._mine:  # the array that came may be kept by others, to begin from it again
            self._vector, self._mine = self._vector.copy(), True
        self._vector[change.index] = weights.vector
        self._at = change.after
        return replace(detail, weights=Replica(self._vector, weights.scale))


def follows(replica: Replica, before: int | None) -> bool:
    """Tell whether it is known what has changed since the vector of a number."""
    return replica.change is not None and before is not None and replica.change.before == before


def changed(replica: Replica) -> ChangedReplica:
    """Return what has changed, as copies."""
    assert replica.change is not None
    return ChangedReplica(replica.vector[replica.change.index], replica.scale, change=replica.change)
