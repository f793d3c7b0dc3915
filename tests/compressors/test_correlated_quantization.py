"""Correlated quantization: bit for bit the oracle's, its law for one worker, and its errors for several."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from helpers.vectors import sparse, vectors, words
from oracles import correlated
from qsim.batch import Floats, Vectors
from qsim.compressors import CorrelatedQuantization, NotFiniteError
from qsim.keys import of_word


def arrived(compressor, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    return compressor.decompress(compressor.compress(Vectors.dense(rows), keys), keys).to_dense()


def together(draws: int, workers: int) -> np.ndarray:
    return np.concatenate([key.numbered.words(0, workers) for key in map(qsim.Key(6).fold, range(draws))])


@given(vectors, st.integers(1, 12), st.integers(1, 8), words)
def test_it_is_the_oracles(v: np.ndarray, workers: int, bits: int, word: int) -> None:
    compressor = CorrelatedQuantization(workers, bits)
    expected = np.array(correlated.levels(v, workers, bits, word))
    message = compressor.quantize(v, of_word(word))
    assert message.s == 2 ** (bits - 1)
    assert message.level.tolist() == expected[expected != 0].tolist()
    assert message.index.tolist() == np.flatnonzero(expected).tolist()
    largest, top = np.abs(v).max(), 2**bits - 1
    odd = 2.0 * np.abs(expected) - 1
    value = np.where(expected != 0, np.sign(expected) * odd * (float(largest) / top), 0.0)
    found = compressor.decompress(message, np.array([word], np.uint64)).to_dense()[0]
    assert np.allclose(found, value, rtol=2.0**-23, atol=0)


@given(st.lists(vectors, min_size=1, max_size=4), words, st.data())
def test_dense_and_sparse_alone_or_in_a_batch_give_one_message(rows, word, data) -> None:
    n = max(v.size for v in rows)
    block = np.zeros((len(rows), n), np.float32)
    for row, v in zip(block, rows, strict=True):
        row[: v.size] = v
    streams = [*of_word(word).numbered.words(0, 3).tolist(), word, word ^ 2**50]
    keys = np.array(data.draw(st.lists(st.sampled_from(streams), min_size=len(rows), max_size=len(rows))), np.uint64)
    compressor = CorrelatedQuantization(5, 2)
    whole = compressor.compress(Vectors.dense(block), keys)
    stored = [sparse(row, np.flatnonzero(row)) for row in block]
    assert compressor.compress(Floats.join([Floats.of(v) for v in stored]).vectors(), keys) == whole
    alone = [compressor.compress(v, keys[b : b + 1]) for b, v in enumerate(stored)]
    assert type(whole).join(alone) == whole


@pytest.mark.parametrize(("workers", "bits"), [(1, 1), (7, 1), (4, 3)])
def test_a_message_alone_rounds_without_bias(workers: int, bits: int) -> None:
    """40,000 draws of worker 0: each coordinate's mean and the error. False alarms: below 1e-9 (7 deviations each).

    Power: a probability of rounding up that is off by 0.03 is 12 deviations.
    """
    draws = 40_000
    v = np.float32([1, 0.7, 0.3, 0.05, 0, -0.2, -0.55, -1])
    found = arrived(CorrelatedQuantization(workers, bits), np.tile(v, (draws, 1)), together(draws, workers)[::workers])
    errors = found.astype(np.float64) - v
    assert (np.abs(errors.mean(axis=0)) <= 7 * errors.std(axis=0) / draws**0.5 + 1e-7).all()
    squares = (errors**2).sum(axis=1)
    exact = CorrelatedQuantization(workers, bits).exact_variance(v)
    assert abs(squares.mean() - exact) < 7 * squares.std() / draws**0.5 + 1e-6
    pairs = np.corrcoef(errors[:, [1, 2, 4, 5]].T)[np.triu_indices(4, 1)]  # coordinates are rounded independently
    assert np.abs(pairs).max() < 7 / draws**0.5


@pytest.mark.parametrize(("workers", "bits"), [(2, 1), (8, 1), (9, 2)])
def test_errors_of_equal_vectors_fall_as_the_square_of_the_workers(workers: int, bits: int) -> None:
    """The sum over workers is off by less than a step, whatever is drawn; in the mean square by at most a quarter."""
    v = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    compressor, draws = CorrelatedQuantization(workers, bits), 300
    found = arrived(compressor, np.tile(v, (draws * workers, 1)), together(draws, workers)).reshape(draws, workers, -1)
    errors = found.mean(axis=1, dtype=np.float64) - v
    step = 2 * float(np.abs(v).max()) / (2**bits - 1)
    assert np.abs(errors).max() < step / workers * (1 + 1e-5)
    squares = (errors**2).sum(axis=1).mean()
    assert squares < 1.05 * 200 * (step / workers) ** 2 / 4
    assert squares < 1.05 / workers * compressor.exact_variance(v)
    alone = arrived(compressor, np.tile(v, (draws * workers, 1)), qsim.Key(0).words(0, draws * workers))
    apart = ((alone.reshape(draws, workers, -1).mean(axis=1, dtype=np.float64) - v) ** 2).sum(axis=1).mean()
    assert apart == pytest.approx(compressor.exact_variance(v) / workers, rel=0.1)
    assert squares < 0.6 * apart or workers == 2


def test_no_two_workers_have_errors_of_one_sign_more_often() -> None:
    """Exactly, over all pairs of strata and places: the covariance of rounding up is at most 0."""
    workers = 4
    places = [Fraction(k, 16) for k in range(17)]
    for one, other in itertools.product(places, repeat=2):
        mean = Fraction(0)
        pairs = list(itertools.permutations(range(workers), 2))
        up = [[min(max(place * workers - stratum, 0), 1) for stratum in range(workers)] for place in (one, other)]
        for mine, theirs in pairs:
            mean += up[0][mine] * up[1][theirs] / Fraction(len(pairs))
        assert mean <= one * other


def test_bits_are_bits() -> None:
    """A packet has so many for every coordinate, and 32 for the scale; fewer where a code finds some, with its tag."""
    for bits in range(1, 9):
        compressor, keys = CorrelatedQuantization(3, bits), qsim.Key(0).numbered.words(0, 3)
        v = Vectors.dense(np.random.default_rng(1).standard_normal((3, 800)).astype(np.float32))
        _, packets = qsim.Channel(compressor, qsim.codecs.FixedWidth()).pack(v, keys)
        assert packets.bits == 3 * (800 * bits + 32)
        _, packets = qsim.Channel(compressor).pack(v, keys)
        assert packets.bits == 3 * (800 + 32) if bits == 1 else packets.bits <= 3 * (800 * bits + 40)


def test_what_is_stated_and_refused() -> None:
    for bits in (1, 2, 5):
        compressor, top = CorrelatedQuantization(4, bits), 2**bits - 1
        single = np.eye(9)[4]
        assert compressor.variance(9) == 8 / top**2
        assert compressor.exact_variance(single) == pytest.approx(compressor.variance(9))
        assert compressor.exact_variance(np.ones(5)) == 0
        assert compressor.expected_nonzeros(single) == 9
        assert compressor.expected_nonzeros(0 * single) == compressor.exact_variance(0 * single) == 0
        assert compressor.quantize(0 * single, qsim.Key(0)).nonzeros == 0
        assert compressor.joint_variance(9) is None
    for wrong in ((0, 1), (2**24 + 1, 1), (3, 0), (3, 9)):
        with pytest.raises(ValueError, match="must be"):
            CorrelatedQuantization(*wrong)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(NotFiniteError, match="coordinate 1"):
            CorrelatedQuantization(3).quantize([1.0, bad], qsim.Key(0))
    for x in (3e38, -1e-45, 1e-40):
        assert arrived(CorrelatedQuantization(3), np.float32([[x, 0]]), qsim.Key(0).words(0, 1))[0, 0] == np.float32(x)
