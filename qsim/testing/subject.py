"""What is being checked: a compressor, the lengths that it takes, and its answers for many keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Message, Vectors
from qsim.compressors import Compressor
from qsim.keys import Key
from qsim.testing.report import Finding

LENGTHS = (1, 2, 8, 64, 300, 1024, 2000)
"""The lengths that are tried. A compressor may refuse the short ones with a ValueError."""

_CHUNK = 2**18  # numbers held at once
_SHORT, _LARGE = 300, 1000  # up to where most is checked, and from where certificates for large n are
_DRAWS, _LARGE_DRAWS = 2**20, 2**22  # coordinates drawn for one mean, where a batch is compressed in one call
_MOST_KEYS, _PLAIN_KEYS = 100_000, 4_000


class BrokenError(Exception):
    """A promise was broken; the text says how."""


def refuse_unless(good: bool | np.bool_, text: str) -> None:
    """Raise BrokenError with a text unless something holds."""
    if not good:
        raise BrokenError(text)


@dataclass(frozen=True, eq=False)
class Subject:
    """A compressor under check. All randomness of the check comes from the key; means take `effort` times the keys."""

    compressor: Compressor
    key: Key
    effort: int = 1

    @cached_property
    def plain(self) -> bool:
        """Whether rows are compressed one by one, in Python: fewer keys are used then."""
        return _is_plain(self.compressor)

    @cached_property
    def refusals(self) -> dict[int, str]:
        """The lengths that the compressor refuses with a ValueError, and what it says."""
        found = {}
        for n in LENGTHS:
            try:
                self.sent(np.ones((1, n), np.float32), self.words(1, 0))
            except ValueError as error:
                found[n] = str(error)
        return found

    @cached_property
    def lengths(self) -> list[int]:
        """The lengths that it takes, long ones left out unless they are needed."""
        good = [n for n in LENGTHS if n not in self.refusals]
        if not good:
            raise BrokenError(f"vectors of every length are refused: {self.refusals[64]}")
        return good if self.compressor.asymptotic else [n for n in good if n <= _SHORT] or good

    @cached_property
    def certified(self) -> list[int]:
        """The lengths at which its certificate is tested: long ones if it holds as n grows only."""
        long = [n for n in self.lengths if n >= _LARGE] or self.lengths[-1:]
        return long if self.compressor.asymptotic else self.lengths

    @cached_property
    def n(self) -> int:
        """The length at which most is checked: 64 if it can be."""
        return next((n for n in self.certified if n >= 64), self.certified[-1])

    def words(self, count: int, *parts: int) -> NDArray[np.uint64]:
        """Return the words of `count` keys, others for other parts."""
        return self.key.fold(*parts).words(0, count)

    def count(self, n: int) -> int:
        """Return how many keys a mean is taken over."""
        draws = _LARGE_DRAWS if self.compressor.asymptotic else _DRAWS
        return self.effort * (_PLAIN_KEYS if self.plain else min(_MOST_KEYS, draws // n))

    def message(self, rows: NDArray[np.float32], keys: NDArray[np.uint64]) -> Message:
        """Compress dense rows."""
        return self.compressor.compress(Vectors.dense(rows), keys)

    def sent(self, rows: NDArray[np.float32], keys: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Return what the receiver gets of dense rows."""
        found = self.compressor.decompress(self.message(rows, keys), keys).to_dense()
        refuse_unless(found.shape == rows.shape, f"{rows.shape} numbers come back as {found.shape}")
        return found.astype(np.float64)

    def errors(self, v: NDArray[np.float32], keys: NDArray[np.uint64]) -> Iterator[NDArray[np.float64]]:
        """Return Q(v) - v, a row a key, in chunks."""
        size = max(1, _CHUNK // v.size)
        for low in range(0, keys.size, size):
            part = keys[low : low + size]
            with np.errstate(invalid="ignore"):
                yield self.sent(np.tile(v, (part.size, 1)), part) - v.astype(np.float64)

    def bounds(self, n: int) -> dict[str, float]:
        """Return what the certificates allow of E ||Q(v) - v||^2 / ||v||^2, by their names."""
        omega, delta = self.compressor.variance(n), self.compressor.contraction(n)
        found = {}
        if omega is not None:
            refuse_unless(np.isfinite(omega) and omega >= 0, f"variance({n}) is {omega}: it must be 0 or more")
            found["variance"] = float(omega)
        if delta is not None:
            refuse_unless(0 < delta <= 1, f"contraction({n}) is {delta}: it must be above 0 and at most 1")
            found["contraction"] = 1.0 - float(delta)
        return found


def not_made(why: str) -> Finding:
    """Return that a promise is not made."""
    return Finding(None, why)


def _is_plain(compressor: Compressor) -> bool:
    if type(compressor).compress is Compressor.compress:
        return True
    parts = [getattr(compressor, name) for name in getattr(compressor, "__dataclass_fields__", ())]
    return any(_is_plain(part) for part in parts if isinstance(part, Compressor))
