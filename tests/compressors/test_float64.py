"""Sparsifiers of vectors in float64: they select as in float32, and send the numbers that they were given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from qsim.batch import Floats, SharedSupport, Vectors
from qsim.codecs import Dense, SparseFloats
from qsim.compressors import Bernoulli, CompK, HardThreshold, MixK, NotFiniteError, PermK, RandK, RandSeqK, TopK, TopLEK

N, ROWS = 60, 3
FACTORS = {
    TopK(7): 1.0,
    HardThreshold(0.5): 1.0,
    TopLEK(9): 1.0,
    MixK(4, 6): 1.0,
    CompK(4, 14): 14 / 4,
    Bernoulli(0.25): 4.0,
    RandK(7): N / 7,
    RandK(7, "drawn"): N / 7,
    RandSeqK(7): N / 7,
    PermK(3): 3.0,
}
"""What entries are multiplied by."""
every = pytest.mark.parametrize("compressor", FACTORS, ids=repr)
KEYS = qsim.Key(3).numbered.words(0, ROWS)


def drawn(seed: int, filled: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    found = random.standard_normal((ROWS, N)) * np.exp(3 * random.standard_normal((ROWS, N)))
    return np.where(random.random((ROWS, N)) < filled, found, 0.0)


def sparse(v: np.ndarray) -> Vectors:
    rows, index = np.nonzero(v)
    return Vectors(N, np.searchsorted(rows, np.arange(ROWS + 1)), index.astype(np.int32), v[rows, index])


def arrived(compressor, v: Vectors) -> Vectors:
    return compressor.decompress(compressor.compress(v, KEYS), KEYS)


@every
@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.3, 0.0]))
def test_they_are_the_entries_of_float32_in_float64(compressor, seed: int, filled: float) -> None:
    """Each number is the vector's times the factor, rounded once, in plain Python; dense and sparse alike."""
    v = drawn(seed, filled)
    narrow = arrived(compressor, Vectors.dense(v.astype(np.float32)))
    for given_as in (Vectors.dense(v), sparse(v)):
        found = arrived(compressor, given_as)
        assert found.value.dtype == np.float64
        assert np.array_equal(found.offsets, narrow.offsets)
        assert np.array_equal(found.index, narrow.index)
        row = np.repeat(np.arange(ROWS), np.diff(found.offsets))
        factor = FACTORS[compressor]
        expected = [float(v[b, c]) * factor for b, c in zip(row.tolist(), found.index.tolist(), strict=True)]
        assert found.value.tolist() == expected


@every
def test_they_arrive_in_float64_if_the_codec_has_room(compressor) -> None:
    """And otherwise in float32: rounded once."""
    v = Vectors.dense(drawn(1, 1.0))
    message = compressor.compress(v, KEYS)
    wide = Dense("float64") if isinstance(message, SharedSupport) else SparseFloats("float64")
    sent = compressor.decompress(message, KEYS)
    for codec, dtype in ((wide, np.float64), (None, np.float32)):
        channel = qsim.Channel(compressor, codec)
        found = channel.unpack(*channel.pack(v, KEYS), KEYS)
        assert found.value.dtype == dtype
        assert np.array_equal(found.to_dense(), sent.to_dense().astype(dtype))
        assert not np.array_equal(found.to_dense(), sent.to_dense()) or dtype == np.float64


@every
def test_what_float32_has_not(compressor) -> None:
    """What is above its range is refused, as ever; what vanishes in it is not selected, or sent with its own value."""
    v = drawn(2, 1.0)
    v[1, 5] = 1e39
    with pytest.raises(NotFiniteError, match="row 1 of the batch"):
        compressor.compress(Vectors.dense(v), KEYS)
    v[1, 5] = np.nan
    with pytest.raises(NotFiniteError, match="row 1 of the batch"):
        compressor.compress(Vectors.dense(v), KEYS)
    v[1, :] = 1e-60
    found = arrived(compressor, Vectors.dense(v)).take(np.array([1]))
    assert set(found.value.tolist()) <= {1e-60 * FACTORS[compressor]}


def test_feedback_and_wrappers_keep_float64() -> None:
    v = Vectors.dense(drawn(4, 1.0))
    found = qsim.Scaled(RandK(7)).compress(v, KEYS)
    assert isinstance(found, Floats)
    assert found.value.dtype == np.float64
