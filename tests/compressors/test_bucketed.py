"""Buckets: every run of coordinates is a vector of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike

import qsim
from helpers.vectors import decoded
from oracles import hashing
from qsim.batch import Levels, Message, Vectors
from qsim.codecs import Elias, Varint
from qsim.compressors import (
    QSGD,
    Bucketed,
    Compressor,
    ErrorFeedback,
    Identity,
    NaturalCompression,
    NaturalDithering,
    NotFiniteError,
    RoundedFloats,
    Scaled,
    SubtractiveDither,
)
from qsim.keys import of_word

pytestmark = pytest.mark.quick


@qsim.option
class Restless(Compressor):
    """A user's compressor, plain NumPy: it makes levels of zeros too."""

    emits = Levels

    def quantize(self, v: ArrayLike, key: qsim.Key) -> Message:
        vector = np.asarray(v)
        level = np.where(key.generator().random(vector.size) < 0.5, 1, -1)
        return Levels.single(level, scale=float(np.abs(vector).max()), s=1)


INNER: list[Compressor] = [
    QSGD(3),
    QSGD(2, 1.5),
    NaturalCompression(),
    NaturalDithering(4),
    SubtractiveDither(6),
    Scaled(QSGD(1)),
    Restless(),
]
vectors = arrays(np.float32, st.integers(1, 60), elements=st.sampled_from([0, 0, 1, -3, 0.25, 7.5]))


@given(st.sampled_from(INNER), vectors, st.integers(1, 70), st.integers(0, 2**64 - 1))
def test_every_bucket_is_a_vector_of_its_own(inner: Compressor, v: np.ndarray, size: int, word: int) -> None:
    """Filled with zeros to its size: the inner compressor's message, with the key folded by the bucket."""
    message = Bucketed(inner, size).quantize(v, of_word(word))
    assert isinstance(message, Levels)
    width = min(size, v.size)
    levels = np.zeros(v.size, np.int32)
    levels[message.index] = message.level
    values = decoded(Bucketed(inner, size), Vectors.dense(v), np.array([word], np.uint64))[0]
    assert (message.bucket, message.scales) == (size, -(-v.size // size)) == (size, message.scale.size)
    for bucket, begin in enumerate(range(0, v.size, size)):
        part = v[begin : begin + width]
        padded = np.append(part, np.zeros(width - part.size, np.float32))
        key = np.array([hashing.fold(word, bucket)], np.uint64)
        alone = inner.compress(Vectors.dense(padded), key)
        assert isinstance(alone, Levels)
        kept = alone.index < part.size
        expected = np.zeros(part.size, np.int32)
        expected[alone.index[kept]] = alone.level[kept]
        assert levels[begin : begin + width].tolist() == expected.tolist()
        assert message.scale[bucket] == alone.scale[0]
        assert np.array_equal(values[begin : begin + width], inner.decompress(alone, key).to_dense()[0, : part.size])


@given(st.sampled_from(INNER), st.lists(vectors, min_size=1, max_size=3), st.integers(1, 70))
def test_batches_and_sparse_rows_give_the_same(inner: Compressor, rows: list[np.ndarray], size: int) -> None:
    n, compressor = max(v.size for v in rows), Bucketed(inner, size)
    block = np.zeros((len(rows), n), np.float32)
    for row, v in zip(block, rows, strict=True):
        row[: v.size] = v
    keys = qsim.Key(1).words(0, len(rows))
    together = compressor.compress(Vectors.dense(block), keys)
    (row_of, index), count = np.nonzero(block), np.count_nonzero(block, axis=1)
    offsets = np.concatenate([[0], np.cumsum(count)])
    assert compressor.compress(Vectors(n, offsets, index.astype(np.int32), block[row_of, index]), keys) == together
    parts = [compressor.compress(Vectors.dense(row), keys[b : b + 1]) for b, row in enumerate(block)]
    assert Levels.join(parts) == together
    for b, part in enumerate(parts):
        assert together.take(np.array([b])) == part


@pytest.mark.parametrize("inner", INNER, ids=repr)
def test_one_bucket_is_the_compressor_itself(inner: Compressor) -> None:
    v, keys = Vectors.dense(np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32)), qsim.Key(3)
    folded = np.array([keys.fold(b, 0).word for b in range(4)], np.uint64)
    for size in (50, 51, 2**40):
        assert np.array_equal(decoded(Bucketed(inner, size), v, keys.words(0, 4)), decoded(inner, v, folded))
        assert Bucketed(inner, size).variance(50) == inner.variance(50)


@pytest.mark.parametrize("inner", INNER[:5], ids=repr)
def test_moments_are_sums_over_the_buckets(inner: Compressor) -> None:
    """And what they say is what 4,000 keys give: the mean of the squared error to 12 of its standard errors."""
    v, compressor = np.random.default_rng(4).standard_normal(23).astype(np.float32), Bucketed(inner, 5)
    v[5:10] = 0
    keys = qsim.Key(2).words(0, 4000)
    found = decoded(compressor, Vectors.dense(np.tile(v, (4000, 1))), keys).astype(np.float64)
    errors = ((found - v) ** 2).sum(axis=1)
    assert abs(errors.mean() - compressor.exact_variance(v)) <= 12 * errors.std() / 4000**0.5
    counts = np.count_nonzero(found, axis=1)
    assert abs(counts.mean() - compressor.expected_nonzeros(v)) <= 12 * counts.std() / 4000**0.5 + 1e-9
    assert compressor.variance(23) == inner.variance(5)
    assert compressor.variance(3) == inner.variance(3)
    assert compressor.exact_variance(v) <= compressor.variance(23) * float(v @ v)
    assert Bucketed(Scaled(inner), 5).contraction(23) == Scaled(inner).contraction(5)


def test_what_has_no_closed_form_has_none() -> None:
    compressor = Bucketed(Restless(), 5)
    assert compressor.variance(10) is compressor.contraction(10) is None
    assert compressor.exact_variance(np.ones(10)) is compressor.expected_nonzeros(np.ones(10)) is None


def test_a_sparse_row_of_many_buckets() -> None:
    """Few entries at the ends of buckets, and 2^31 coordinates beyond: nothing is made dense."""
    n, size = 2**33, 2**20
    index = np.array([0, size - 1, size, 5 * size + 3, n - 1])
    v = Vectors(n, np.array([0, 5]), index, np.float32([1, -2, 3, -4, 5]))
    keys = np.array([6], np.uint64)
    compressor = Bucketed(QSGD(1, "max"), size)
    message = compressor.compress(v, keys)
    assert message.scale[[0, 1, 5, -1]].tolist() == [2, 3, 4, 5]
    assert np.count_nonzero(message.scale) == 4
    assert message.index[-4:].tolist() == index[-4:].tolist()
    found = compressor.decompress(message, keys)
    assert found.value[-4:].tolist() == [-2, 3, -4, 5]


def test_what_fills_the_last_bucket_is_not_sent() -> None:
    for n in (1, 4, 5, 6, 7, 8, 9):
        v = np.ones(n, np.float32)
        message = Bucketed(Restless(), 4).quantize(v, qsim.Key(0))
        assert isinstance(message, Levels)
        assert message.index.tolist() == list(range(n))
        assert decoded(Bucketed(Restless(), 4), Vectors.dense(v), np.zeros(1, np.uint64)).shape == (1, n)


@pytest.mark.parametrize("codec", [None, Varint(), Elias("omega")])
def test_buckets_go_by_bytes(codec: qsim.codecs.Codec | None) -> None:
    v = Vectors.dense(np.random.default_rng(0).standard_normal((2, 30)).astype(np.float32))
    keys = qsim.Key(1).words(0, 2)
    for inner in INNER:
        channel = qsim.Channel(Bucketed(inner, 8), codec)
        header, packets = channel.pack(v, keys)
        assert np.array_equal(channel.unpack(header, packets, keys).to_dense(), decoded(Bucketed(inner, 8), v, keys))


def test_refusals() -> None:
    for inner, why in (
        (Identity(), "makes Floats"),
        (RoundedFloats("float16"), "makes Floats"),
        (Bucketed(QSGD(1), 4), "buckets hold no buckets"),
        (ErrorFeedback(Scaled(QSGD(1))), "put it around the buckets"),
    ):
        with pytest.raises(ValueError, match=why):
            Bucketed(inner, 4)
    for size in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="size must be a whole number( of at least 1)?, found"):
            Bucketed(QSGD(1), size)
    with pytest.raises(NotFiniteError, match="row 1 of the batch holds nan at coordinate 7") as caught:
        Bucketed(QSGD(1), 4).compress(Vectors.dense([[0.0] * 9, [0.0] * 7 + [np.nan, 1.0]]), qsim.Key(0).words(0, 2))
    assert caught.value.row == 1
    huge = [[0.0] * 9, [0.0] * 7 + [3e38, 3e38]]
    with pytest.raises(NotFiniteError, match="row 1 of the batch, bucket 2.*above float32's range") as caught:
        Bucketed(QSGD(1), 3).compress(Vectors.dense(huge), qsim.Key(0).words(0, 2))
    assert caught.value.row == 1
