"""Mistakes by the dozen: a kind of mistake, how large it is, and where it begins, planted in QSGD with one level.

One level of the l2 norm scatters more than all others, so that what is found here is found elsewhere.
"""

from __future__ import annotations

import numpy as np

from qsim.batch import Floats, Levels, Vectors
from qsim.compressors import QSGD, Compressor, TopK
from qsim.options import option

THIRDS = {"small": (0, 1 / 3), "middle": (1 / 3, 2 / 3), "large": (2 / 3, 1)}


def third(x: np.ndarray, which: str) -> np.ndarray:
    """Whether entries are in a third of their row by size."""
    size = np.abs(x)
    low, high = (np.quantile(size, q, axis=1, keepdims=True) for q in THIRDS[which])
    return (size >= low) & (size <= high)


def chosen(where: str, x: np.ndarray) -> np.ndarray:
    """Which entries of dense rows a mistake concerns: "all", "n >= 301", "small", "below 1e-3", "odd", "first", ..."""
    n, place = x.shape[1], np.arange(x.shape[1])
    norm = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    word, _, number = where.partition(" ")
    if word == "n":
        return np.full(x.shape, n >= int(number))
    if word == "below":
        return np.abs(x) < float(number) * norm
    if word == "decade":
        return (np.abs(x) < float(number) * norm) & (np.abs(x) >= float(number) / 10 * norm)
    if word in THIRDS:
        return third(x, word)
    if word == "single":
        return np.broadcast_to(place == int(number) % n, x.shape) & (n > abs(int(number)))
    if word == "from":
        return np.broadcast_to(place >= int(number), x.shape)
    signs = {"all": x == x, "negative": x < 0, "positive": x > 0}
    return signs[word] if word in signs else np.broadcast_to(place % 2 == (word == "odd"), x.shape)


def dense(v: Vectors) -> np.ndarray:
    return v.value.reshape(v.rows, v.n) if v.index is None else v.to_dense()


def wrong(where: str, x: np.ndarray) -> np.ndarray:
    """As `chosen`, at once for rows that are all the same."""
    same = len(x) > 1 and (x[0] == x[-1]).all() and (x == x[:1]).all()
    return np.broadcast_to(chosen(where, x[:1]), x.shape) if same else chosen(where, x)


@option
class Factor(Compressor):
    """Numbers at some coordinates come back multiplied by a factor."""

    where: str
    factor: float

    emits = Floats

    def compress(self, v, keys, memory=None):
        x = dense(v)
        found = QSGD(1).compress(v, keys).vectors()
        row = np.repeat(np.arange(v.rows), np.diff(found.offsets))
        off = wrong(self.where, x)[row, found.index]
        return Floats.of(
            Vectors(v.n, found.offsets, found.index, np.where(off, found.value * np.float32(self.factor), found.value))
        )

    def variance(self, n):
        return n**0.5 - 1


@option
class Share(Factor):
    """Numbers that should arrive are left out at random, or arrive too often: `factor` times as often."""

    def compress(self, v, keys, memory=None):
        x = dense(v)
        norm = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        place = np.arange(v.n, dtype=np.uint64) + np.uint64(1)
        with np.errstate(over="ignore"):
            word = (keys[:, None] ^ (place * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xBF58476D1CE4E5B9)
            word = (word ^ (word >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
        uniform = (word >> np.uint64(11)) * 2.0**-53
        kept = uniform * norm < np.abs(x) * np.where(wrong(self.where, x), self.factor, 1.0)
        return Floats.of(Vectors.dense((np.sign(x) * kept * norm).astype(np.float32)))


@option
class OneKey(Factor):
    """From some length on the key is not used."""

    def compress(self, v, keys, memory=None):
        return QSGD(1).compress(v, keys if v.n < int(self.factor) else 0 * keys)

    emits = Levels


@option
class Claims(Compressor):
    """Honest messages, and claims that are off from some length on: by these factors."""

    least: int = 0
    omega: float = 1.0
    exact: float = 1.0
    nonzeros: float = 1.0
    delta: float = 0.0

    emits = Levels

    def compress(self, v, keys, memory=None):
        return QSGD(1).compress(v, keys)

    def variance(self, n):
        return (n**0.5 - 1) * (self.omega if n >= self.least else 1.0)

    def exact_variance(self, v):
        return None if self.exact == 1 else QSGD(1).exact_variance(v) * (self.exact if len(v) >= self.least else 1)

    def expected_nonzeros(self, v):
        return (
            None
            if self.nonzeros == 1
            else QSGD(1).expected_nonzeros(v) * (self.nonzeros if len(v) >= self.least else 1)
        )


@option
class Largest(Compressor):
    """Top-10, multiplied by a factor from some length on."""

    least: int
    factor: float

    emits = Floats

    def compress(self, v, keys, memory=None):
        return TopK(min(10, v.n)).compress(v, keys).scaled(self.factor if v.n >= self.least else 1.0)

    def contraction(self, n):
        return min(10, n) / n


@option
class FromLength(Compressor):
    """From some length on: sparse rows are doubled, the wire cannot hold the levels, or -0.0 counts as negative."""

    way: str
    least: int

    emits = Levels

    def compress(self, v, keys, memory=None):
        found = QSGD(1).compress(v, keys)
        if v.n < self.least or (self.way == "sparse" and v.index is None):
            return found
        if self.way == "zeros":
            return found.scaled(-1.0) if np.signbit(v.value[v.value == 0]).any() else found
        return (
            found.scaled(2.0)
            if self.way == "sparse"
            else Levels(found.n, found.offsets, found.index, 2 * found.level, found.scale, 1)
        )


BIAS = ["unbiased"]
SMALL = [
    *((Factor("all", factor), BIAS) for factor in (0.995, 1.005)),
    *((Share("all", factor), BIAS) for factor in (0.98, 0.99, 1.01)),
    *((Factor(f"{part} 0", factor), BIAS) for part in THIRDS for factor in (0.99, 1.005)),
    *((Factor(part, factor), BIAS) for part in ("odd", "even", "positive", "negative") for factor in (0.99, 1.02)),
]
"""Biases of half a percent to two, everywhere or on some coordinates."""

LENGTHS = [
    *(
        (Factor(f"n {n}", factor), BIAS)
        for n in (301, 1025, 4097, 16_000, 65_537, 100_000)
        for factor in (-1.0, 0.0, 0.8, 3.0)
    ),
    *((Factor(f"from {place}", factor), BIAS) for place in (2048, 4096, 65_536) for factor in (0.0, 1.1, 2.0)),
    *((OneKey("", n), BIAS) for n in (301, 5000, 65_537)),
]
"""Mistakes that begin at a length or at a coordinate."""

SIZES = [
    *((Factor(f"below {size}", factor), BIAS) for size in (1e-1, 1e-2, 1e-3, 1e-4) for factor in (-1.0, 0.0, 3.0)),
    *((Factor(f"decade {size}", factor), BIAS) for size in (1e-1, 1e-2, 1e-3) for factor in (-1.0, 0.0, 2.0)),
    *((Factor(f"single {place}", factor), BIAS) for place in (0, -1, 2048, 65_535, 65_536) for factor in (0.0, 2.0)),
]
"""Mistakes on small coordinates, at one decade of sizes, and at one coordinate."""

CLAIMS = [
    (Claims(omega=1 / 1.05), ["variance"]),
    (Claims(4096, omega=1 / 1.05), ["variance"]),
    (Claims(65_537, omega=1 / 1.1), ["variance"]),
    *((Claims(exact=factor), ["exact variance"]) for factor in (0.98, 1.02)),
    (Claims(4096, exact=1.05), ["exact variance"]),
    *((Claims(nonzeros=factor), ["expected non-zeros"]) for factor in (0.98, 1.02)),
    (Claims(4096, nonzeros=0.95), ["expected non-zeros"]),
    *((Largest(n, 3.0), ["contraction"]) for n in (301, 4097, 65_537)),
    *((FromLength("sparse", n), ["the same for dense and sparse input"]) for n in (8, 5000, 100_000)),
    (FromLength("zeros", 8), ["the same for dense and sparse input"]),
    *((FromLength("levels", n), ["the same for dense and sparse input"]) for n in (8, 5000, 100_000)),
]
"""Claims that are off by a little, and messages that go wrong at a length."""

PLANTED = [*SMALL, *LENGTHS, *SIZES, *CLAIMS]
