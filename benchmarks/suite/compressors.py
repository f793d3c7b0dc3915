"""Compressors against their NumPy forms, and the Walsh-Hadamard transform against SciPy's real Fourier transform.

A compressor is a line of `LINES`; QSGD with the l2 norm is in `quantizer`. All are at n = 10^6, from one dense vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

import qsim
from benchmarks.case import Case, Claim, Timed
from benchmarks.rotations import rotated_and_rounded, rotated_signs, small_coefficients
from qsim.batch import SharedSupport, Signs, Vectors, WithOutliers
from qsim.compressors import (
    DRIVE,
    EDEN,
    NUQSGD,
    QSGD,
    QUICFL,
    Bernoulli,
    Bucketed,
    CompK,
    Compose,
    Compressor,
    CorrelatedQuantization,
    CountSketch,
    HardThreshold,
    Kashin,
    MixK,
    NaturalCompression,
    NaturalDithering,
    OneBit,
    PermK,
    Philox,
    PowerSGD,
    RandK,
    RandSeqK,
    RankR,
    RoundedFloats,
    ScaledSign,
    Sign,
    SubtractiveDither,
    TernGrad,
    TopK,
    TopLEK,
    Wangni,
)

Vector = NDArray[np.float32]
generator = np.random.default_rng(0)


def rounded(norm: float, s: int) -> Callable[[Vector], Any]:
    """Round |v| s / norm up or down at random, to int8."""

    def form(v: Vector) -> Any:
        t = np.abs(v)
        size = t.max() if norm == np.inf else np.power(t, np.float32(norm)).sum() ** (1 / norm)
        t *= np.float32(s / size)
        t += generator.random(v.size, np.float32)
        return np.copysign(np.floor(t, out=t), v, out=t).astype(np.int8)

    return form


def dithered(v: Vector) -> Any:
    """Add a dither to 4 v / ||v|| and round to int8."""
    t = v * np.float32(4 / np.sqrt(np.dot(v, v)))
    t += generator.random(v.size, np.float32)
    t -= np.float32(0.5)
    return np.rint(t, out=t).astype(np.int8)


def truncated(v: Vector, dropped: int) -> NDArray[np.uint32]:
    """Add random bits below those that are kept, and cut them off: rounding at random."""
    noise = generator.integers(0, 1 << dropped, v.size, np.uint32)
    noise += v.view(np.uint32)
    noise &= np.uint32(-(1 << dropped) & 0xFFFFFFFF)
    return noise


def powers(s: int) -> Callable[[Vector], Any]:
    """Round |v| / norm to 0 or to a power of two from 2^(1-s) to 1."""
    least = np.float32(2.0 ** (1 - s))

    def form(v: Vector) -> Any:
        t = v / np.sqrt(np.dot(v, v))
        small = np.abs(t) < least
        up = generator.random(v.size, np.float32) * least < np.abs(t)
        level = (truncated(t, 23) >> 23 & 255).astype(np.int8)
        level[small] = up[small]
        return level

    return form


def nearest_bfloat16(v: Vector) -> Any:
    """Round to the nearest bfloat16, ties to even."""
    bits = v.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def drawn(k: int) -> Callable[[Vector], Any]:
    """Keep k numbers drawn at random."""

    def form(v: Vector) -> Any:
        places = np.sort(generator.choice(v.size, k, replace=False, shuffle=False))
        return v[places] * np.float32(v.size / k)

    return form


def in_a_row(k: int) -> Callable[[Vector], Any]:
    """Keep k numbers in a row, from a random one on."""

    def form(v: Vector) -> Any:
        start, factor = int(generator.integers(v.size)), np.float32(v.size / k)
        row = v[start : start + k] * factor
        return row if row.size == k else np.concatenate([row, v[: k - row.size] * factor])

    return form


def largest(k: int) -> Callable[[Vector], Any]:
    """Keep the k largest magnitudes."""

    def form(v: Vector) -> Any:
        places = np.argpartition(np.abs(v), v.size - k)[v.size - k :]
        return v[places]

    return form


def largest_with_energy(k: int) -> Callable[[Vector], Any]:
    """Keep the fewest of the k largest magnitudes that have a share k/n of the squares, or one fewer."""

    def form(v: Vector) -> Any:
        places = np.argpartition(np.abs(v), v.size - k)[v.size - k :]
        order = places[np.argsort(-np.abs(v[places]))]
        sums = np.cumsum(np.square(v[order], dtype=np.float64))
        wanted = np.dot(v, v) * (k / v.size)
        last = np.searchsorted(sums, wanted)
        chance = (wanted - (sums[last - 1] if last else 0.0)) / (sums[last] - (sums[last - 1] if last else 0.0))
        return v[order[: last + int(generator.random() < chance)]]

    return form


def some_of_the_largest(k: int, among: int) -> Callable[[Vector], Any]:
    """Keep k of the largest magnitudes."""

    def form(v: Vector) -> Any:
        places = np.argpartition(np.abs(v), v.size - among)[v.size - among :]
        return v[generator.choice(places, k, replace=False, shuffle=False)] * np.float32(among / k)

    return form


def largest_and_others(k: int, others: int) -> Callable[[Vector], Any]:
    """Keep the k largest magnitudes, and some of the others."""

    def form(v: Vector) -> Any:
        order = np.argpartition(np.abs(v), v.size - k)
        drawn = generator.choice(v.size - k, others, replace=False, shuffle=False)
        return v[np.concatenate([order[v.size - k :], order[drawn]])]

    return form


def two_means(v: Vector) -> Any:
    """Take the signs and the mean on either side."""
    positive = v >= 0
    return positive, v[positive].mean(), v[~positive].mean()


def in_buckets(size: int, s: int) -> Callable[[Vector], Any]:
    """Round each run of `size` numbers to s levels of its norm."""

    def form(v: Vector) -> Any:
        t = (
            v.reshape(-1, size)
            * (s / np.sqrt(np.einsum("ij,ij->i", v.reshape(-1, size), v.reshape(-1, size))))[:, None]
        )
        floor = np.floor(np.abs(t))
        floor += generator.random(t.shape, np.float32) < np.abs(t) - floor
        return np.copysign(floor, t).astype(np.int8).reshape(-1)

    return form


def in_proportion(k: int) -> Callable[[Vector], Any]:
    """Keep numbers with probabilities min(1, |v_i| / t) of sum k, t found by a few rounds of setting aside."""

    def form(v: Vector) -> Any:
        size = np.abs(v)
        t = size.sum() / k
        for _ in range(3):
            large = size >= t
            t = size[~large].sum() / (k - np.count_nonzero(large))
        p = np.minimum(size / t, 1)
        kept = np.flatnonzero(generator.random(v.size, np.float32) < p)
        return v[kept] / p[kept]

    return form


def largest_rounded(k: int, s: int) -> Callable[[Vector], Any]:
    """Round the k largest magnitudes to s levels of their norm."""

    def form(v: Vector) -> Any:
        return rounded(2, s)(largest(k)(v))

    return form


def in_a_stratum(workers: int) -> Callable[[Vector], Any]:
    """Round to two numbers, by uniforms in a stratum that is drawn for each coordinate."""

    def form(v: Vector) -> Any:
        place = v * np.float32(0.5 / np.abs(v).max())
        place += np.float32(0.5)
        uniform = generator.random(v.size, np.float32)
        uniform += generator.integers(0, workers, v.size, np.int32)
        uniform *= np.float32(1 / workers)
        return np.where(uniform < place, np.int8(1), np.int8(-1))

    return form


def sketched(cells: int) -> Callable[[Vector], Any]:
    """Sum coordinates with random signs in random cells."""

    def form(v: Vector) -> Any:
        signs = generator.integers(0, 2, v.size, np.int32) * 2 - 1
        return np.bincount(generator.integers(0, cells, v.size), signs * v, cells)

    return form


def one_step(rank: int, columns: int) -> Callable[[Vector], Any]:
    """Make the factors of a step of subspace iteration, by BLAS and LAPACK."""

    def form(v: Vector) -> Any:
        matrix = v.reshape(-1, columns)
        left, _ = np.linalg.qr(matrix @ generator.standard_normal((columns, rank), np.float32))
        return np.concatenate([left.reshape(-1), (matrix.T @ left).reshape(-1)])

    return form


def largest_singular(rank: int, columns: int) -> Callable[[Vector], Any]:
    """Make the factors of the largest singular values."""

    def form(v: Vector) -> Any:
        left, size, right = np.linalg.svd(v.reshape(-1, columns), full_matrices=False)
        return np.concatenate([(left[:, :rank] * size[:rank]).reshape(-1), right[:rank].reshape(-1)])

    return form


@dataclass(frozen=True)
class Line:
    """A compressor, its NumPy form, and how many times as fast it is to be."""

    compressor: Compressor
    form: Callable[[Vector], Any]
    target: float | None = 5.0
    bound: Callable[[Vector], Any] | None = None
    """What it must read and write at least, if that is what it is compared with too."""
    near: float = 0.7
    """How near to the bound it is to come."""


def one_read(v: Vector) -> Any:
    """Read the numbers."""
    return np.dot(v, v)


def two_reads_and_signs(v: Vector) -> Any:
    """Read the numbers twice, and write a coordinate and a level for each."""
    np.dot(v, v)
    np.dot(v, v)
    index, level = np.empty(v.size, np.int32), np.empty(v.size, np.int32)
    index.fill(1)
    level.fill(1)
    return index, level


LINES = [
    Line(QSGD(4, norm="max"), rounded(np.inf, 4)),
    Line(QSGD(4, norm=1), rounded(1, 4)),
    Line(QSGD(4, norm=2.7), rounded(2.7, 4)),
    Line(TernGrad(), rounded(np.inf, 1)),
    Line(NaturalCompression(), lambda v: truncated(v, 23).view(np.float32)),
    Line(NaturalDithering(8), powers(8)),
    Line(NUQSGD(7), powers(8)),
    Line(SubtractiveDither(4), dithered),
    Line(RoundedFloats("float16"), lambda v: truncated(v, 13).view(np.float32).astype(np.float16)),
    Line(RoundedFloats("float16", "nearest"), lambda v: v.astype(np.float16)),
    Line(RoundedFloats("bfloat16"), lambda v: (truncated(v, 16) >> 16).astype(np.uint16)),
    Line(RoundedFloats("bfloat16", "nearest"), nearest_bfloat16),
    Line(Bernoulli(0.01), lambda v: v[np.flatnonzero(generator.random(v.size, np.float32) < 0.01)] * np.float32(100)),
    Line(RandK(1_000), drawn(1_000), 1.0, one_read),
    Line(RandK(100_000), drawn(100_000)),
    Line(RandSeqK(100_000), in_a_row(100_000), None, one_read),
    Line(TopK(1_000), largest(1_000), 2.0),
    Line(TopK(10_000), largest(10_000), 2.0),
    Line(TopK(100_000), largest(100_000), 2.0),
    Line(TopLEK(10_000), largest_with_energy(10_000)),
    Line(CompK(1_000, 10_000), some_of_the_largest(1_000, 10_000)),
    Line(MixK(1_000, 10_000), largest_and_others(1_000, 10_000)),
    Line(HardThreshold(2.5), lambda v: v[np.flatnonzero(np.abs(v) >= 2.5)], 5.0, one_read),
    Line(ScaledSign(), lambda v: (v >= 0, np.abs(v).mean()), None, two_reads_and_signs),
    Line(Sign(), lambda v: v >= 0),
    Line(OneBit(), two_means),
    Line(Wangni(1_000), in_proportion(1_000)),
    Line(Bucketed(QSGD(4), 500), in_buckets(500, 4)),
    Line(Compose(TopK(1_000), QSGD(4)), largest_rounded(1_000, 4)),
    Line(CorrelatedQuantization(10), in_a_stratum(10)),
    Line(CountSketch(1, 10_000), sketched(10_000)),
    Line(RankR(2, 10), largest_singular(2, 10)),
    Line(PowerSGD(4, 1_000), one_step(4, 1_000), None),
    Line(DRIVE(), rotated_signs),
    Line(EDEN(4), rotated_signs),
    Line(QUICFL(4), rotated_and_rounded(4, 4)),
    Line(Kashin(2), small_coefficients),
    Line(Philox(QSGD(4, norm="max")), rounded(np.inf, 4), 1.0),
]


def cases(quick: bool) -> Iterator[Case]:
    """Yield every line, then the transforms."""
    v = np.random.default_rng(1).standard_normal(2 * 10**5 if quick else 10**6).astype(np.float32)
    for line in LINES:
        yield _case(line, v)
    yield _shared_out(v, 10)
    yield _read(v.size, 10_000)
    for power in (10,) if quick else (13, 20):
        yield _transform(power)


def _case(line: Line, v: Vector) -> Case:
    batch, keys = Vectors.dense(v), qsim.Key(1).words(0, 1)
    return Case(
        f"{line.compressor!r}, n = {v.size:.0e}".replace("qsim.", "").replace("compressors.", ""),
        "vector",
        [
            Timed("qsim", lambda: line.compressor.compress(batch, keys)),
            Timed("NumPy", lambda: line.form(v)),
            *([] if line.bound is None else [Timed("the memory", partial(line.bound, v))]),
        ],
        [
            Claim("qsim", "NumPy", line.target),
            *([] if line.bound is None else [Claim("qsim", "the memory", line.near)]),
        ],
        _check,
    )


def _check(results: Mapping[str, Any]) -> None:
    """As many numbers are sent, to 7 deviations of the difference."""
    message, other = results["qsim"], results["NumPy"]
    if isinstance(message, SharedSupport):
        assert np.count_nonzero(message.value) == np.count_nonzero(other)
        return
    if isinstance(message, Signs):
        return
    if isinstance(message, WithOutliers):
        outliers, found = message.outliers.value.size, other[1].size
        assert abs(outliers - found) <= 10 * max(outliers, 1) ** 0.5, (outliers, found)
        return
    ours = message.vectors().value
    theirs = other[0] if isinstance(other, tuple) else other
    if theirs.dtype == bool:
        assert np.array_equal(ours > 0, theirs)
    else:
        ours, theirs = np.count_nonzero(message.index if message.index is not None else ours), np.count_nonzero(theirs)
        assert abs(ours - theirs) <= 10 * max(ours, 1) ** 0.5, (ours, theirs)


def _shared_out(v: Vector, workers: int) -> Case:
    """Make the case of workers that share out coordinates: by one permutation, or by one that each makes for itself."""
    rows, keys, k = np.tile(v, (workers, 1)), qsim.Key(1).numbered.words(0, workers), v.size // workers
    batch = Vectors.dense(rows)

    def by_one() -> Any:
        places = generator.permutation(v.size)
        return np.stack([rows[i][places[i * k : (i + 1) * k]] * np.float32(workers) for i in range(workers)])

    def by_their_own() -> Any:
        blocks = [np.random.default_rng(5).permutation(v.size)[i * k : (i + 1) * k] for i in range(workers)]
        return np.stack([row[places] * np.float32(workers) for row, places in zip(rows, blocks, strict=True)])

    compressor = PermK(workers)
    return Case(
        f"{compressor!r}, n = {v.size:.0e}".replace("qsim.", ""),
        "batch",
        [
            Timed("qsim", lambda: compressor.compress(batch, keys)),
            Timed("NumPy", by_one),
            Timed("NumPy, a permutation each", by_their_own),
            Timed("the memory", partial(one_read, rows.reshape(-1))),
        ],
        [
            Claim("qsim", "NumPy", None),
            Claim("qsim", "NumPy, a permutation each", 5.0),
            Claim("qsim", "the memory", None),
        ],
        _check,
    )


def _read(n: int, cells: int) -> Case:
    """Make the case of a count sketch that is read."""
    compressor, keys = CountSketch(1, cells), qsim.Key(1).words(0, 1)
    sums = np.random.default_rng(1).standard_normal(cells).astype(np.float32)
    message = SharedSupport(n, np.array([0, cells]), cells, sums)

    def form() -> Any:
        signs = generator.integers(0, 2, n, np.int32) * 2 - 1
        return sums[generator.integers(0, cells, n)] * signs.astype(np.float32)

    return Case(
        f"{compressor!r} read, n = {n:.0e}".replace("qsim.", ""),
        "vector",
        [Timed("qsim", lambda: compressor.decompress(message, keys).value), Timed("NumPy", form)],
        [Claim("qsim", "NumPy", 5.0)],
        lambda results: _as_many(results["qsim"], results["NumPy"]),
    )


def _as_many(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    assert one.size == other.size
    assert set(np.abs(one).tolist()) == set(np.abs(other).tolist())


def _transform(power: int) -> Case:
    from qsim.kernels.hadamard import hadamard

    x = np.random.default_rng(1).standard_normal(2**power).astype(np.float32)
    there = x.copy()
    return Case(
        f"Walsh-Hadamard, n = 2^{power}",
        "transform",
        [Timed("qsim", lambda: hadamard(there)), Timed("scipy.fft.rfft", lambda: scipy.fft.rfft(x))],
        [Claim("qsim", "scipy.fft.rfft", 1.0)],
        lambda results: _returns(there, x),
    )


def _returns(there: Vector, x: Vector) -> None:
    """Check that the transform is its own inverse."""
    from qsim.kernels.hadamard import hadamard

    hadamard(there)
    assert np.allclose(there, x, atol=1e-4)
