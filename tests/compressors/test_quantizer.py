"""QSGD: bit for bit against the oracle, unbiased, within its bounds, right at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom

import qsim
from helpers.vectors import sparse
from oracles import quantize
from qsim.batch import Vectors
from qsim.compressors import NotFiniteError
from qsim.keys import of_word

pytestmark = pytest.mark.quick

NORMS = ("l2", "max")
floats = st.floats(-(2.0**100), 2.0**100, width=32)
scaled = st.builds(lambda x, e: np.float32(math.ldexp(x, e)), st.integers(-64, 64), st.integers(-30, 20))
vectors = arrays(np.float32, st.integers(1, 80), elements=st.one_of(st.just(np.float32(0)), scaled, floats))
levels = st.one_of(st.integers(1, 20), st.sampled_from([127, 128, 1000, 2**16, 2**23]))
words = st.integers(0, 2**64 - 1)


@given(vectors, levels, st.sampled_from(NORMS), words)
def test_message_is_the_oracles(v: np.ndarray, s: int, norm: str, word: int) -> None:
    message = qsim.QSGD(s, norm).quantize(v, of_word(word))
    scale, expected = quantize.qsgd(list(range(v.size)), v, s, word, norm)
    assert message.scale.tolist() == [float(scale)]
    assert dict(zip(message.index.tolist(), message.level.tolist(), strict=True)) == expected


@given(st.lists(vectors, min_size=1, max_size=4), levels, st.sampled_from(NORMS), words, st.data())
def test_dense_and_sparse_alone_or_in_a_batch_give_one_message(rows, s, norm, word, data) -> None:
    n = max(v.size for v in rows)
    block = np.zeros((len(rows), n), np.float32)
    for row, v in zip(block, rows, strict=True):
        row[: v.size] = v
    keys = of_word(word).words(0, len(rows))
    compressor = qsim.QSGD(s, norm)
    together = compressor.compress(Vectors.dense(block), keys)
    parts = []
    for row, key in zip(block, keys, strict=True):
        extra = data.draw(arrays(np.bool_, n))  # stored zeros change nothing
        kept = np.flatnonzero((row != 0) | extra)
        parts.append(compressor.compress(sparse(row, kept), np.array([key], np.uint64)))
    assert together == qsim.batch.Levels.join(parts)


def test_one_key_one_message_at_large_coordinates() -> None:
    """Above 65,536, and beyond 2^32, where the coordinate's hash sees its low 32 bits in lanes of 32."""
    v = np.zeros(300_000, np.float32)
    kept = np.array([3, 65_535, 65_536, 65_537, 131_072, 299_999])
    v[kept] = [1, -2, 3, -4, 5, 6]
    for word in range(20):
        key = of_word(word)
        message = qsim.QSGD(2).quantize(v, key)
        assert message == qsim.QSGD(2).compress(sparse(v, kept), np.array([word], np.uint64))
        assert set(message.index.tolist()) <= set(kept.tolist())


@given(vectors.filter(lambda v: np.any(v)), levels)
def test_the_norm_on_the_wire_is_at_least_the_norm(v: np.ndarray, s: int) -> None:
    """Rounded up, so that every ratio stays at most 1, and by less than one step of float32 and the sum's rounding."""
    for norm, order in (("l2", 2), ("max", np.inf)):
        true = np.linalg.norm(v.astype(np.float64), order)
        scale = float(qsim.QSGD(s, norm).quantize(v, qsim.Key(0)).scale[0])
        assert true * (1 - 1e-14) <= scale <= true * (1 + 2**-23 + 1e-14) + 2**-149


# Unbiasedness: exactly over the discrete uniforms, then over the random stream.


@given(vectors.filter(lambda v: np.abs(v).max() > 1e-25), levels, st.sampled_from(NORMS))
def test_exact_mean_over_the_uniforms_is_within_the_stated_bound(v: np.ndarray, s: int, norm: str) -> None:
    """P(level = floor + 1) = #{u < part 2^24} / 2^24, so the mean is known without drawing anything."""
    scale = qsim.QSGD(s, norm).quantize(v, qsim.Key(0)).scale[0]
    for x in v.tolist():
        t = float(quantize.position(x, scale, s))
        floor = math.floor(t)
        up = math.ceil((t - floor) * 2**24) / 2**24
        mean = math.copysign((floor + up) * float(scale) / s, x)
        assert abs(mean - x) <= 2**-22 * abs(x) + 2**-24 * float(scale) / s


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("s", [1, 3, 200])
def test_levels_are_drawn_with_their_probabilities(s: int, norm: str) -> None:
    """20,000 keys: how often each of 64 coordinates is rounded up is binomial, with a probability known exactly.

    False alarms: each count is outside its bounds with probability below 1e-12, one of the 64 in these 6 tests with
    below 4e-10. Power: a probability of 1/2 that is off by 0.03 is found with probability 0.91, by 0.04 with 0.99998;
    one of 0.01 that is off by 0.006 with 0.73, by 0.008 with 0.997. With the probabilities, the mean and the variance
    are right: they follow exactly.
    """
    keys = 20_000
    v = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    v[:8] = [0, 0, 1, 1, -1, 1e-3, -1e-3, 4]
    compressor = qsim.QSGD(s, norm)
    batch = Vectors.dense(np.tile(v, (keys, 1)))
    found = compressor.compress(batch, qsim.Key(11).fold(qsim.keys.Purpose.QUANTIZE, 5).words(0, keys))
    drawn = np.zeros((keys, v.size), np.int64)
    drawn[np.repeat(np.arange(keys), np.diff(found.offsets)), found.index] = found.level
    t = np.array([float(quantize.position(x, found.scale[0], s)) for x in v])
    floor = np.floor(t)
    up = np.ceil((t - floor) * 2**24) / 2**24
    ups = drawn * np.where(v < 0, -1, 1) - floor.astype(np.int64)
    assert np.isin(ups, (0, 1)).all()
    counts = ups.sum(axis=0)
    assert (binom.cdf(counts, keys, up) > 5e-13).all()
    assert (binom.sf(counts - 1, keys, up) > 5e-13).all()
    unit = float(found.scale[0]) / s
    assert compressor.exact_variance(v) == pytest.approx(unit**2 * (up * (1 - up)).sum(), rel=1e-5)
    assert compressor.expected_nonzeros(v) == pytest.approx(np.where(floor > 0, 1, up).sum(), rel=1e-5)
    assert compressor.exact_variance(v) <= compressor.variance(v.size) * float(v @ v)


# The variance bound: never exceeded, and attained.


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-1, 1)), levels, st.sampled_from(NORMS))
def test_variance_is_within_omega(v: np.ndarray, s: int, norm: str) -> None:
    compressor = qsim.QSGD(s, norm)
    assert compressor.exact_variance(v) <= (compressor.variance(v.size) * (1 + 2**-20) + 1e-12) * float(v @ v)


@given(st.integers(2, 400), st.integers(1, 30))
def test_omega_of_the_max_norm_is_attained(n: int, s: int) -> None:
    """By one coordinate at the norm and all others at the same fraction of a level, for the best fraction."""
    compressor = qsim.QSGD(s, "max")
    omega = compressor.variance(n)
    best = 0.0
    for t in np.linspace(1e-4, 0.5, 4000):
        v = np.full(n, t / s)
        v[0] = 1.0
        best = max(best, compressor.exact_variance(v) / float(v @ v))
    assert 0.999 * omega <= best <= omega * (1 + 1e-9)


@given(st.integers(1, 20), st.integers(0, 400))
def test_omega_of_the_l2_norm_is_attained_by_constant_vectors(s: int, more: int) -> None:
    n = 4 * s * s + more
    compressor = qsim.QSGD(s)
    v = np.ones(n)
    assert compressor.exact_variance(v) == pytest.approx(compressor.variance(n) * n, rel=1e-9)


@settings(max_examples=30)
@given(st.integers(1, 12), st.data())
def test_omega_of_the_l2_norm_is_nearly_attained_below(s: int, data) -> None:
    """For n < 4 s^2: levels k + 1/2 with sum of squares s^2, as nearly as whole k allow, found by a greedy search."""
    n = data.draw(st.integers(max(2, 2 * s), 4 * s * s))
    compressor = qsim.QSGD(s)
    t = np.full(n, 0.5)
    while True:
        room = s * s - float(t @ t)
        growth = 2 * t + 1
        fits = np.flatnonzero(growth <= room)
        if not fits.size:
            break
        t[fits[np.argmax(growth[fits])]] += 1
    v = t if abs(float(t @ t) - s * s) < 1e-9 else np.append(t, math.sqrt(max(s * s - float(t @ t), 0.0)))
    ratio = compressor.exact_variance(v) / float(v @ v)
    assert ratio <= compressor.variance(v.size) * (1 + 1e-9)
    assert ratio >= 0.9 * n / (4 * s * s) * (1 - 1e-9) or n < 8


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-1, 1).map(lambda x: round(x, 6))), st.integers(1, 50))
def test_expected_nonzeros_are_bounded(v: np.ndarray, s: int) -> None:
    expected = qsim.QSGD(s).expected_nonzeros(v)
    assert expected <= min(v.size, s * v.size**0.5) * (1 + 1e-9)
    if s == 1 and np.any(v):
        assert expected == pytest.approx(np.abs(v).sum() / np.linalg.norm(v))


# Edges.


def test_zero_vector_and_single_entries() -> None:
    key = qsim.Key(1)
    for norm in NORMS:
        zero = qsim.QSGD(4, norm).quantize(np.zeros(5), key)
        assert zero.nonzeros == 0
        assert zero.scale.tolist() == [0.0]
        assert np.array_equal(zero.vectors().to_dense(), np.zeros((1, 5), np.float32))
        for x in (1.0, -3.5, 3e38, 1e-38, -1e-44):
            for v in ([x], [0, x, 0]):
                message = qsim.QSGD(7, norm).quantize(v, key)
                assert message.level.tolist() == [7 if x > 0 else -7]
                assert message.vectors().to_dense()[0].tolist() == np.float32(v).tolist()


@pytest.mark.parametrize("size", [1e-44, 1e-40, 1e-30, 1.0, 1e30, 5e37])
def test_tiny_and_huge_vectors_keep_their_mean(size: float) -> None:
    """Subnormal entries included: the levels depend on ratios only. 5,000 keys, 6 coordinates, |z| < 7."""
    v = np.float32([1, -2, 0, 0.5, 3, 1]) * np.float32(size)
    batch = Vectors.dense(np.tile(v, (5000, 1)))
    message = qsim.QSGD(2).compress(batch, qsim.Key(3).words(0, 5000))
    ratio = Vectors(message.n, message.offsets, message.index, message.level / 2).to_dense()
    goal = v.astype(np.float64) / np.float64(message.scale[0])
    deviation = np.maximum(ratio.std(axis=0), 1e-9)
    assert np.abs((ratio.mean(axis=0) - goal) / deviation * 5000**0.5).max() < 7


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("compressor", [qsim.QSGD(4), qsim.QSGD(4, "max"), qsim.Identity()])
def test_not_finite_is_refused_and_located(bad: float, compressor: qsim.compressors.Compressor) -> None:
    v = np.ones(70)
    v[37] = bad
    with pytest.raises(NotFiniteError, match="coordinate 37"):
        compressor.quantize(v, qsim.Key(0))


def test_norm_above_float32_is_refused() -> None:
    with pytest.raises(NotFiniteError, match="above float32's range"):
        qsim.QSGD(4).quantize(np.full(4, 3e38), qsim.Key(0))
    assert qsim.QSGD(4, "max").quantize(np.full(4, 3e38), qsim.Key(0)).nonzeros == 4


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "4", 2**23 + 1, None])
def test_bad_levels_are_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="levels must be a whole number( from 1 to 8388608)?, found"):
        qsim.QSGD(bad)


def test_bad_norm_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'max'"):
        qsim.QSGD(4, "maxx")


def test_a_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="one vector"):
        qsim.QSGD(4).quantize(np.ones((2, 2)), qsim.Key(0))


def test_other_types_are_taken_as_float32() -> None:
    for norm in NORMS:
        for v in (np.array([0.1, -4.0, 1.3]), np.array([1, -4, 2])):
            exact = qsim.QSGD(4, norm).compress(Vectors.dense(v.astype(np.float32)), qsim.Key(0).words(0, 1))
            assert qsim.QSGD(4, norm).compress(Vectors.dense(v), qsim.Key(0).words(0, 1)) == exact
    with pytest.raises(ValueError, match="n at least 1"):
        qsim.QSGD(4).quantize([], qsim.Key(0))


@given(st.floats(2.0**-100, 2.0**100, width=32), levels, st.integers(1, 5))
def test_the_largest_entry_is_exact_with_the_max_norm(x: float, s: int, copies: int) -> None:
    """omega(1) = 0, so a single entry must not be rounded at random, whatever float32 makes of s / norm."""
    scale, v = np.float32(x), np.full(copies, x, np.float32)
    assert quantize.position(x, scale, s) == s
    assert qsim.QSGD(s, "max").quantize(v, qsim.Key(1)).level.tolist() == [s] * copies


@given(vectors.filter(lambda v: np.abs(v).max() > 1e-25), st.sampled_from([1, 2, 5, 127, 1000]), st.sampled_from(NORMS))
def test_variance_of_the_float32_rule_is_within_omega(v: np.ndarray, s: int, norm: str) -> None:
    """The bound, for the positions that float32 gives, over the discrete uniforms."""
    compressor = qsim.QSGD(s, norm)
    scale = compressor.quantize(v, qsim.Key(0)).scale[0]
    total = 0.0
    for x in v.tolist():
        t = float(quantize.position(x, scale, s))
        up = math.ceil((t - math.floor(t)) * 2**24) / 2**24
        values = [math.copysign((math.floor(t) + extra) * float(scale) / s, x) - x for extra in (0, 1)]
        total += (1 - up) * values[0] ** 2 + up * values[1] ** 2
    square = float(v.astype(np.float64) @ v.astype(np.float64))
    assert total <= (compressor.variance(v.size) * (1 + s * 2**-20) + 1e-12) * square
