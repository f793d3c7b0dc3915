"""The subject of a check: a compressor, the lengths that it takes, and its answers for many keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Message, Vectors
from qsim.compressors import Compressor
from qsim.keys import Key
from qsim.testing.report import BrokenError, refuse_unless

LENGTHS = (1, 2, 8, 64, 300, 1024, 2000)
"""The lengths that are tried. A compressor may refuse the short ones with a ValueError."""

LONG_LENGTHS = (301, 1000, 1025, 2049, 4096, 4097, 8193, 16_385, 32_769, 65_537, 100_000)
"""Longer ones, at which large mistakes are looked for: where memory, indices and blocks grow, and beyond."""

ASYMPTOTIC_SLACK = 0.05
"""The slack of a certificate that holds as n grows: this part of the bound, and a bias of this part of the norm."""

_CHUNK = 2**20  # numbers held at once
_SHORT, _LARGE = 300, 1000  # up to where most is checked, and from where certificates for large n are
_DRAWS, _LARGE_DRAWS = 2**20, 2**22  # coordinates drawn for one mean, where a batch is compressed in one call
_MOST_KEYS, _PLAIN_KEYS = 100_000, 6_000


Sums = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]
"""Sums of errors (rows, directions), relative squared errors (rows), counts of what is not zero (rows)."""


@dataclass(frozen=True, eq=False)
class CompressorUnderTest:
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
        for n in (*LENGTHS, *LONG_LENGTHS):
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
    def ladder(self) -> list[int]:
        """The longer lengths that it takes."""
        least = _LARGE if self.compressor.asymptotic else 0
        return [n for n in LONG_LENGTHS if n >= least and n not in self.refusals]

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
        found = self.compressor.decompress(self.message(rows, keys), keys)
        self._require_shape(found, *rows.shape)
        return found.to_dense().astype(np.float64)

    def errors(self, v: NDArray[np.float32], keys: NDArray[np.uint64]) -> Iterator[NDArray[np.float64]]:
        """Return Q(v) - v, a row a key, in chunks."""
        size = max(1, _CHUNK // v.size)
        for low in range(0, keys.size, size):
            part = keys[low : low + size]
            with np.errstate(invalid="ignore"):
                yield self.sent(np.tile(v, (part.size, 1)), part) - v.astype(np.float64)

    def arrivals(self, v: NDArray[np.float32], keys: NDArray[np.uint64]) -> Iterator[Vectors]:
        """Return Q(v), a row a key, in chunks, as the compressor makes it: sparse or dense."""
        size = max(1, _CHUNK // v.size)
        rows = np.tile(v, (min(size, keys.size), 1))
        for low in range(0, keys.size, size):
            part = keys[low : low + size]
            found = self.compressor.decompress(self.message(rows[: part.size], part), part)
            self._require_shape(found, part.size, v.size)
            refuse_unless(np.isfinite(found.value).all(), "what comes back holds numbers that are not finite")
            yield found

    def sums(self, v: NDArray[np.float32], directions: NDArray[np.float64], keys: NDArray[np.uint64]) -> Iterator[Sums]:
        """Return `sums_of` the arrivals."""
        for found in self.arrivals(v, keys):
            yield sums_of(found, v, directions)

    def _require_shape(self, found: Vectors, rows: int, n: int) -> None:
        shape = (found.rows, found.n)
        refuse_unless(shape == (rows, n), f"{(rows, n)} numbers come back as {shape}")

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

    def allowed(self, n: int) -> dict[str, float]:
        """Return `bounds(n)` with float32's slack: levels s of a norm gain 1 + s 2^-20, where s^2 <= n / (4 omega).

        And values are rounded to float32 twice, by 2^-24 each.
        """
        asymptotic = 1 + ASYMPTOTIC_SLACK * self.compressor.asymptotic
        return {
            kind: bound * asymptotic * (1 + 2.0**-20) + 2.0**-21 * (bound * n) ** 0.5 + 2.0**-44
            for kind, bound in self.bounds(n).items()
        }

    @cached_property
    def deterministic(self) -> bool:
        """Whether all keys give the same message."""
        v = np.random.default_rng(self.key.fold(9).word).standard_normal((1, self.n)).astype(np.float32)
        sent = self.sent(np.repeat(v, 512, axis=0), self.words(512, 9))
        return bool((sent == sent[0]).all())


def sums_of(found: Vectors, v: NDArray[np.float32], directions: NDArray[np.float64]) -> Sums:
    """Return for each row of Q(v): <Q(v) - v, d> for all d, ||Q(v) - v||^2 / ||v||^2, and how many are not zero.

    The directions d are columns. Sparse rows cost as much as they are long.
    """
    from scipy.sparse import csr_array

    exact, value = v.astype(np.float64), found.value.astype(np.float64)
    norm, shape = float(exact @ exact), (found.rows, found.n)
    if found.index is None or 4 * value.size > found.rows * found.n:
        dense = found.to_dense()
        errors = dense - exact
        return errors @ directions, (errors**2).sum(axis=1) / norm, np.count_nonzero(dense, axis=1)
    row, place = np.repeat(np.arange(found.rows), np.diff(found.offsets)), exact[found.index]
    more = np.bincount(row, (value - place) ** 2 - place**2, found.rows)
    sums = csr_array((value, found.index, found.offsets), shape) @ directions - exact @ directions
    return sums, 1.0 + more / norm, np.bincount(row[value != 0], minlength=found.rows)


def _is_plain(compressor: Compressor) -> bool:
    if type(compressor).compress is Compressor.compress:
        return True
    parts = [getattr(compressor, name) for name in getattr(compressor, "__dataclass_fields__", ())]
    return any(_is_plain(part) for part in parts if isinstance(part, Compressor))
