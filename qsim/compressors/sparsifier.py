"""Base of sparsifying compressors: plain numbers at some coordinates, and zero elsewhere."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from qsim.batch import Floats, Vectors
from qsim.compressors.base import Compressor, NotFiniteError, require_finite
from qsim.options import whole

LARGEST = float(np.finfo(np.float32).max)


class Sparsifier(Compressor):
    """A compressor that sends some of the coordinates, as floats. Without entries that are zero.

    Those of vectors in float64 are selected in float32 and sent in float64, if the codec has room for them.
    """

    projects: ClassVar[bool] = False
    """Whether what is kept is sent as it is: Q(v) is v with some coordinates set to zero, not at random."""

    def most_kept(self, n: int) -> int:
        """Return how many coordinates of n are kept at most."""
        return n


def as_precise(message: Floats, v: Vectors, scale: float = 1.0) -> Floats:
    """Return a message of entries of `v`, selected in float32, with the values in float64 where `v` is.

    scale: what entries are multiplied by.
    """
    if v.value.dtype != np.float64:
        return message
    assert message.index is not None
    from qsim.kernels.select import take_entries

    value = np.empty(message.value.size)
    take_entries(v.offsets, v.index, v.value, message.offsets, message.index, scale, value)
    return replace(message, value=value)


def take_kept(sparsifier: Any, name: str = "k") -> None:
    """Check a field of an option: a whole number of at least 1, or a fraction of n, a float in (0, 1)."""
    k = getattr(sparsifier, name)
    if isinstance(k, float) and not 0 < k < 1:
        raise ValueError(
            f"{name} must be a whole number of at least 1, or a fraction of all coordinates above 0 and below 1, found"
            f" {k!r}"
        )
    if not isinstance(k, float):
        whole(name, k, least=1)


def kept_of(k: float, n: int) -> int:
    """Return how many of n coordinates k stands for: k itself, at most n; of a fraction round(k n), at least 1.

    >>> kept_of(3, 2), kept_of(0.01, 1000), kept_of(0.01, 10)
    (2, 10, 1)
    """
    return min(k, n) if isinstance(k, int) else max(1, round(k * n))


def require_scalable(v: Vectors, factor: float) -> None:
    """Refuse a batch with a NaN, an infinity, or a number whose product with the factor is above float32's range."""
    from qsim.kernels.select import first_at_least

    place = first_at_least(v.value, largest_scalable(factor).view(np.int32) + np.int32(1))
    if place >= 0:
        require_finite(v)
        row = int(np.searchsorted(v.offsets, place, side="right")) - 1
        coordinate = place - int(v.offsets[row]) if v.index is None else int(v.index[place])
        raise NotFiniteError(
            f"row {row} of the batch holds {v.value[place]} at coordinate {coordinate}: it could be sent scaled by"
            f" {factor:.6g}, above float32's range (3.4e38)",
            row,
        )


@lru_cache
def largest_scalable(factor: float) -> np.float32:
    """Return the largest float32 whose product with a factor of at least 1 rounds to a finite float32."""
    largest = np.float32(LARGEST / factor)
    with np.errstate(over="ignore"):
        while not np.isfinite(np.float32(float(largest) * factor)):
            largest = np.nextafter(largest, np.float32(0))
    return largest
