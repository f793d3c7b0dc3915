"""QUICFL: bit for bit against the oracle, unbiased for all vectors, the stated errors, strict decoding."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.stats import norm

import qsim
import qsim.compressors.quicfl as module
from oracles import quicfl
from qsim.batch import Floats, Levels, Vectors, WithOutliers
from qsim.compressors import EDEN, QUICFL, NotFiniteError
from qsim.compressors.quicfl import SHARED_BITS
from qsim.compressors.quicfl_tables import GAUSSIAN, OMEGA, TABLES
from qsim.keys import of_word
from qsim.testing import bias, check_compressor
from qsim.testing import compressor as checks

KEY = qsim.Key(23)
FAMILY = [QUICFL(bits, shared) for bits in (1, 2, 3, 4) for shared in (False, True)]
each = pytest.mark.parametrize("compressor", FAMILY, ids=repr)

numbers = st.one_of(
    st.just(0.0), st.integers(-1000, 1000).map(lambda k: k / 64), st.floats(-(2.0**100), 2.0**100, width=32)
)
vectors = arrays(np.float32, st.integers(1, 90), elements=numbers)
compressors = st.builds(
    QUICFL, st.integers(1, 4), st.booleans(), st.integers(1, 3), st.sampled_from([1, 2, 4, 16, 64, 8192])
)
words = st.integers(0, 2**64 - 1)


def shared_bits(compressor: QUICFL) -> int:
    return SHARED_BITS[compressor.bits] if compressor.shared else 0


def table(compressor: QUICFL) -> list[np.float32]:
    half = [np.float32(x) for x in TABLES[compressor.bits, shared_bits(compressor)]]
    return [-x for x in reversed(half)] + half


def decoded(compressor: QUICFL, v: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """What arrives of one vector with each of the keys, in float64."""
    message = compressor.compress(Vectors.dense(np.tile(v, (keys.size, 1))), keys)
    return compressor.decompress(message, keys).to_dense().astype(np.float64)


def spread(compressor: QUICFL, z: float) -> float:
    """E (Y - z)^2 of one coordinate, over all dithers and the choice between two windows."""
    dithers, numbers = 1 << shared_bits(compressor), table(compressor)
    grid = quicfl.means(numbers, dithers)
    if abs(z) > grid[-1]:
        return 0.0
    w = min(max(0, sum(g <= z for g in grid) - 1), len(grid) - 2)
    up = (z - grid[w]) / (grid[w + 1] - grid[w])
    squares = [np.mean((np.float64(numbers[k : k + dithers]) - z) ** 2) for k in (w, w + 1)]
    return float((1 - up) * squares[0] + up * squares[1])


def kinds(n: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(n)
    few, one = np.zeros(n), np.zeros(n)
    few[[0, 1, 3]], one[n // 3] = (1, 0.5, -0.25), 2
    return {"Gaussian": random.standard_normal(n), "lognormal": random.lognormal(size=n), "few": few, "one": one}


@settings(max_examples=40, deadline=None)
@given(compressors, vectors, words)
def test_messages_and_what_they_stand_for_are_the_oracles(compressor: QUICFL, v: np.ndarray, word: int) -> None:
    chunk, rounds = compressor.chunk, compressor.rotations
    settings = (table(compressor), shared_bits(compressor), rounds, chunk, word)
    scales, levels, outliers = quicfl.quicfl_message(v, *settings)
    message = compressor.quantize(v, of_word(word))
    bulk, few = message.bulk, message.outliers
    assert bulk.scale.tolist() == [float(x) for x in scales]
    assert dict(zip(bulk.index.tolist(), bulk.level.tolist(), strict=True)) == levels
    assert dict(zip(few.index.tolist(), few.value.tolist(), strict=True)) == {i: float(x) for i, x in outliers.items()}
    assert (bulk.s, bulk.bucket) == (2 ** (compressor.bits - 1), chunk if v.size > chunk else 0)
    found = compressor.decompress(message, np.array([word], np.uint64)).to_dense()[0]
    assert found.tolist() == [float(x) for x in quicfl.quicfl_values(v.size, scales, levels, outliers, *settings)]


@given(compressors, st.lists(vectors, min_size=1, max_size=4), words, st.data())
@settings(deadline=None)
def test_dense_and_sparse_alone_or_in_a_batch_give_one_message(compressor, rows, word, data) -> None:
    n = max(v.size for v in rows)
    block = np.zeros((len(rows), n), np.float32)
    for row, v in zip(block, rows, strict=True):
        row[: v.size] = v
    keys = of_word(word).words(0, len(rows))
    together = compressor.compress(Vectors.dense(block), keys)
    parts = []
    for row, key in zip(block, keys, strict=True):
        kept = np.flatnonzero((row != 0) | data.draw(arrays(np.bool_, n)))
        sparse = Vectors(n, np.array([0, kept.size]), kept.astype(np.int32), row[kept])
        parts.append(compressor.compress(sparse, np.array([key], np.uint64)))
    assert together == WithOutliers.join(parts)
    assert together.take(np.arange(len(rows))[::-1]) == WithOutliers.join(parts[::-1])


@each
def test_tables_are_sorted_and_symmetric_rounding_is_unbiased(compressor: QUICFL) -> None:
    """Of every place the two windows have it as their mean; each dither picks one number of a window."""
    half = TABLES[compressor.bits, shared_bits(compressor)]
    assert len(half) == 2 ** (compressor.bits + shared_bits(compressor) - 1)
    assert half[0] > 0 or len(half) == 1
    assert np.all(np.diff(half) > 0)
    grid = quicfl.means(table(compressor), 1 << shared_bits(compressor))
    assert grid[-1] == pytest.approx(norm.isf(1 / 1024), rel=1e-6)


@each
def test_the_error_of_a_gaussian_is_the_integral(compressor: QUICFL) -> None:
    points = quicfl.means(table(compressor), 1 << shared_bits(compressor))
    found = sum(quad(lambda z: spread(compressor, z) * norm.pdf(z), a, b)[0] for a, b in pairwise(points))
    assert found == pytest.approx(GAUSSIAN[compressor.bits, shared_bits(compressor)], rel=1e-3)


@each
def test_omega_is_the_largest_mean_error_of_numbers_with_mean_square_one(compressor: QUICFL) -> None:
    """On a grid of places: f lies below the chord a + b z^2, which is omega at 1, and two places attain it."""
    places = np.linspace(0, 3.2, 3001)
    f, square = np.array([spread(compressor, z) for z in places]), places**2
    omega = compressor.variance(10)
    assert omega == compressor.variance(10**6) == OMEGA[compressor.bits, shared_bits(compressor)]
    best = f[square <= 1].max()
    low, high = square <= 1, square > 1
    for a, fa in zip(square[low], f[low], strict=True):  # pairs whose mean square is 1
        share = (1 - a) / (square[high] - a)
        best = max(best, float(((1 - share) * fa + share * f[high]).max()))
    assert best <= omega
    assert best == pytest.approx(omega, rel=5e-3)


@pytest.mark.parametrize("rotations", [1, 2])
@pytest.mark.parametrize("n", [4, 5, 300, 1024])
@pytest.mark.parametrize("kind", ["Gaussian", "lognormal", "few", "one"])
def test_it_is_unbiased_for_every_vector_and_its_error_is_below_omega(n: int, kind: str, rotations: int) -> None:
    """1000 keys. Mean errors along v, and in the first coordinate, are within 7 deviations (2.6e-12 each).

    Power: of 1 bit a deviation along v is at most sqrt(2.996/1000) = 0.055 of ||v|| at worst, and 0.0022 at n = 300 for
    vectors that look Gaussian. Levels read without their dither, or rounded up with the complement of the probability,
    are found.
    """
    v = kinds(n)[kind].astype(np.float32)
    size = np.linalg.norm(v.astype(np.float64))
    for compressor in (QUICFL(1, rotations=rotations), QUICFL(3, False, rotations), QUICFL(4, rotations=rotations)):
        errors = (decoded(compressor, v, KEY.words(0, 1000)) - v) / size
        for along in (errors @ v / size, errors[:, 0], errors.sum(axis=1)):
            assert abs(along.mean()) <= 7 * along.std() / math.sqrt(1000) + 1e-6
        assert (errors**2).sum(axis=1).max() / n <= 40
        assert (errors**2).sum(axis=1).mean() <= compressor.variance(n) * 1.01 + 7 * errors.std() / math.sqrt(1000)


@each
def test_the_error_of_rotated_vectors_is_that_of_a_gaussian(compressor: QUICFL) -> None:
    """n = 8192, 50 keys: within 3%, with two rotations whatever the vector; some 1/512 are outliers.

    A deviation is below sqrt(5/8192/50) = 0.35%. Some 800 outliers, as a Poisson variable: within 7 deviations.
    """
    for kind, v in kinds(8192).items():
        errors = decoded(compressor, v.astype(np.float32), KEY.words(0, 50)) - v.astype(np.float32)
        found = (errors**2).sum(axis=1).mean() / (v @ v)
        assert found == pytest.approx(GAUSSIAN[compressor.bits, shared_bits(compressor)], rel=0.03), kind
    message = compressor.compress(Vectors.dense(np.tile(v, (50, 1)).astype(np.float32)), KEY.words(0, 50))
    assert abs(message.outliers.value.size - 50 * 16) < 7 * math.sqrt(800)


def test_a_dither_makes_the_error_smaller_and_eden_beats_it_at_few_bits_only() -> None:
    for bits, least in ((1, 5), (2, 2.5), (3, 2), (4, 2)):
        plain, with_dither = GAUSSIAN[bits, 0], GAUSSIAN[bits, SHARED_BITS[bits]]
        assert plain > least * with_dither
        assert (with_dither > EDEN(bits).variance(10**4)) == (bits < 4)


@qsim.option
class Planted(qsim.compressors.Compressor):
    """QUICFL(1), of which a level is read as the mean of its numbers, whatever the dither is."""

    emits = WithOutliers
    keeps_sparse = False

    def compress(self, v, keys, memory=None):
        return QUICFL(1).compress(v, keys)

    def decompress(self, message, keys):
        table, *others = module._table(1, 6)
        table = table.reshape(2, 64).mean(axis=1).repeat(64)
        with patch.object(module, "_table", lambda bits, shared_bits: (table, *others)):
            return QUICFL(1).decompress(message, keys)

    def variance(self, n):
        return QUICFL(1).variance(n)


def test_check_compressor_sees_a_planted_bias(monkeypatch) -> None:
    """With few keys, to save time, and no other check; that what is shipped keeps all is tested with all others."""
    monkeypatch.setattr(bias, "_MOST", {True: 1000, False: 2000})
    monkeypatch.setattr(bias, "_NUMBERS", 2**18)
    monkeypatch.setattr(checks, "CHECKS", {"unbiased": bias.unbiased})
    assert check_compressor(Planted()).broken == ["unbiased"]


def test_a_zero_piece_has_no_levels_and_a_batch_may_have_no_rows() -> None:
    cut, v = QUICFL(2, chunk=4), np.float32([0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0])
    keys = KEY.words(0, 3)
    message = cut.compress(Vectors.dense(np.stack([v, 0 * v, v])), keys)
    assert message.bulk.index.tolist() == [4, 5, 6, 7] * 2
    found = cut.decompress(message, keys).to_dense()
    assert not found[:, [0, 1, 2, 3, 8, 9, 10, 11, 12]].any()
    assert not found[1].any()
    assert cut.compress(Vectors.dense(np.zeros((0, 9), np.float32)), KEY.words(0, 0)).rows == 0


def test_small_and_large_numbers() -> None:
    """A scale is rounded before it divides, so that small vectors have no bias beyond the last bit of float32."""
    keys = KEY.words(0, 4000)
    for x in (1e-44, 3e-39, 1e36):
        v = np.float32([x, -x, 0, 2 * x])
        found = decoded(QUICFL(4), v, keys).mean(axis=0)
        assert found == pytest.approx(v.astype(np.float64), abs=0.02 * x + 2.0**-149)
    assert decoded(QUICFL(2), np.float32([1e-45] * 5 + [0] * 60), keys[:9]).shape == (9, 65)
    block = np.ones((3, 70))
    block[1] = 3e38
    with pytest.raises(NotFiniteError, match=r"row 1 .* so large"):
        QUICFL(1).compress(Vectors.dense(block), KEY.words(0, 3))
    block[1, 37] = np.nan
    with pytest.raises(NotFiniteError, match=r"row 1 .* coordinate 37"):
        QUICFL(1).compress(Vectors.dense(block), KEY.words(0, 3))


def test_a_multiple_of_a_message_is_the_multiple() -> None:
    v = np.random.default_rng(5).standard_normal(3000).astype(np.float32)
    keys = KEY.words(0, 1)
    plain = QUICFL(2).compress(Vectors.dense(v), keys)
    half = plain.scaled(0.5)
    assert half == QUICFL(2).compress(Vectors.dense(v * np.float32(0.5)), keys)
    assert plain.outliers.value.size > 0
    assert np.array_equal(half.outliers.value, plain.outliers.value * np.float32(0.5))
    expected = QUICFL(2).decompress(plain, keys).to_dense() * np.float32(0.5)
    assert np.array_equal(QUICFL(2).decompress(half, keys).to_dense(), expected)
    least = plain.scaled(1e-45).scaled(0.3)  # of the least float32 an outlier is left, and no scale
    assert least.outliers.value.any()
    assert not QUICFL(2).decompress(least, keys).to_dense().any()


def test_bad_options_and_messages_are_refused() -> None:
    for bits in (0, 5, 1.5, True):
        with pytest.raises(ValueError, match="bits must be a whole number"):
            QUICFL(bits)
    with pytest.raises(ValueError, match="shared must be True or False, found 1"):
        QUICFL(1, shared=1)
    with pytest.raises(ValueError, match="rotations must be"):
        QUICFL(1, rotations=0)
    with pytest.raises(ValueError, match="power of two, found 1000; use 1024"):
        QUICFL(1, chunk=1000)
    message, keys = QUICFL(2).quantize(np.ones(20), KEY), KEY.words(0, 1)
    with pytest.raises(ValueError, match="makes Levels with s = 1"):
        QUICFL(1).decompress(message, keys)
    with pytest.raises(ValueError, match="makes messages WithOutliers, found Levels"):
        QUICFL(2).decompress(message.bulk, keys)
    for scale, outlier in ((1.0, 1e30), (1.0, -9.0), (1.0, np.nan), (0.0, 1.0), (3e38, 1.0)):
        bulk = Levels.single(np.ones(20, np.int32), scale=scale, s=2)
        few = Floats(20, np.array([0, 1]), np.array([3], np.int32), np.float32([outlier]))
        with pytest.raises(ValueError, match=r"row 0 .* never makes"):
            QUICFL(2).decompress(WithOutliers.of(bulk, few), keys)
    few = replace(few, value=np.float32([8.9]))  # twice the norm is 8.94
    message = WithOutliers.of(Levels.single(np.ones(20, np.int32), scale=1.0, s=2), few)
    assert QUICFL(2).decompress(message, keys).n == 20


@each
def test_messages_travel_in_their_bits(compressor: QUICFL) -> None:
    """The bits of every coordinate, a scale, a length of two bytes, and five bytes or six for every outlier."""
    block = np.random.default_rng(3).standard_normal((4, 9000)).astype(np.float32)
    block[2] = 0
    channel, keys = qsim.Channel(compressor), KEY.words(0, 4)
    message = compressor.compress(Vectors.dense(block), keys)
    header, packets = channel.pack(Vectors.dense(block), keys)
    assert channel.unpack(header, packets, keys) == compressor.decompress(message, keys)
    for row in (0, 1, 3):
        few = int(np.diff(message.outliers.offsets)[row])
        rest = len(packets[row]) - (9000 * compressor.bits // 8 + 8 + 2)
        assert few > 0
        assert 5 * few <= rest <= 6 * few
