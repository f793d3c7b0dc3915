"""Sparsifiers: bit for bit against the oracles, unbiased or contractions as they say, right at the edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import oracles_sparsifiers as oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chi2

import qsim
from qsim.batch import Floats, Vectors
from qsim.compressors import NotFiniteError, RandK, TopK

floats = st.floats(-(2.0**90), 2.0**90, width=32)
few = st.integers(-3, 3).map(np.float32)  # so that there are ties
vectors = arrays(np.float32, st.integers(1, 150), elements=st.one_of(few, floats))
sizes = st.one_of(st.integers(1, 20), st.integers(1, 200))
words = st.integers(0, 2**64 - 1)
EVERY = [RandK(3), RandK(3, "drawn"), TopK(3)]


def entries(message: Floats) -> dict[int, np.float32]:
    return dict(zip(message.index.tolist(), message.value, strict=True))


def sparse(v: np.ndarray, kept: np.ndarray) -> Vectors:
    """One sparse row with the entries of v at the coordinates in `kept`."""
    return Vectors(v.size, np.array([0, kept.size]), kept.astype(np.int32), v[kept])


def tiled(v: np.ndarray, rows: int) -> Vectors:
    return Vectors.dense(np.tile(np.asarray(v, np.float32), (rows, 1)))


@given(vectors, sizes, words)
def test_randk_is_the_oracles(v: np.ndarray, k: int, word: int) -> None:
    expected, key = oracles.randk(v, k, word), qsim.Key(word)
    assert entries(RandK(k).quantize(v, key)) == expected
    drawn = RandK(k, "drawn").quantize(v, key)
    assert drawn.value.tolist() == [expected.get(i, 0.0) for i in oracles.positions(word, v.size, k)]


@given(vectors, sizes)
def test_topk_is_the_oracles(v: np.ndarray, k: int) -> None:
    assert entries(TopK(k).quantize(v, qsim.Key(0))) == oracles.topk(v, k)


@pytest.mark.parametrize("kind", ["normal", "ties", "constant", "spike", "sparse", "rising", "misleading"])
@pytest.mark.parametrize("k", [1, 30, 2_000, 40_000, 59_999, 70_000])
def test_topk_of_long_vectors(kind: str, k: int) -> None:
    """Long enough that the threshold is guessed from a sample, which the last kinds lead astray."""
    rng, n = np.random.default_rng(5), 60_011
    v = rng.standard_normal(n).astype(np.float32)
    if kind == "ties":
        v = np.round(v * 2) / 2
    if kind == "constant":
        v = np.where(v < 0, np.float32(-2), np.float32(2))
    if kind == "spike":
        v[rng.permutation(n)[:50]] = 1e30
    if kind == "sparse":
        v[rng.random(n) < 0.99] = 0
    if kind == "rising":
        v = np.arange(n, dtype=np.float32)
    if kind == "misleading":  # what the sample sees is large, and nothing else
        v *= np.float32(1e-3)
        v[:: n // 4096] = 1 + rng.random(v[:: n // 4096].size)
    order = np.argsort(-np.abs(v), kind="stable")[:k]
    kept = np.sort(order[v[order] != 0])
    message = TopK(k).quantize(v, qsim.Key(0))
    assert message.index.tolist() == kept.tolist()
    assert np.array_equal(message.value, v[kept])
    stored = np.flatnonzero(v)
    assert TopK(k).compress(sparse(v, stored), qsim.Key(0).words(0, 1)) == message


@pytest.mark.parametrize("compressor", EVERY, ids=repr)
@given(st.lists(vectors, min_size=1, max_size=4), words, st.data())
def test_dense_and_sparse_alone_or_in_a_batch_give_one_message(compressor, rows, word, data) -> None:
    n = max(v.size for v in rows)
    block = np.zeros((len(rows), n), np.float32)
    for row, v in zip(block, rows, strict=True):
        row[: v.size] = v
    keys = qsim.Key(word).words(0, len(rows))
    together = compressor.compress(Vectors.dense(block), keys)
    parts = []
    for row, key in zip(block, keys, strict=True):
        extra = data.draw(arrays(np.bool_, n))  # stored zeros change nothing
        kept = np.flatnonzero((row != 0) | extra)
        parts.append(compressor.compress(sparse(row, kept), np.array([key], np.uint64)))
    assert together == type(together).join(parts)
    assert together.value.tobytes() == type(together).join(parts).value.tobytes()  # the sign of zero, too


# Rand-k: every subset with the same probability.


@pytest.mark.parametrize(("n", "k"), [(2, 1), (5, 2), (6, 3), (7, 6), (9, 4)])
def test_every_subset_is_drawn_equally_often(n: int, k: int) -> None:
    """Chi-square over all subsets, for 400 draws of each.

    False alarms: below 1e-10 a case. Power: a chi-square of C degrees of freedom passes 1e-10 at about C + 9 sqrt(C);
    subsets whose probabilities are off by 15% of 1/C, half up and half down, add 400 C 0.15^2 = 9 C: found with
    probability above 0.999 for C >= 10, and for C = 2 (where n = 2) they must be off by 30%.
    """
    subsets = {subset: place for place, subset in enumerate(itertools.combinations(range(n), k))}
    draws = 400 * len(subsets)
    message = RandK(k).compress(tiled(np.ones(n), draws), qsim.Key(3).words(0, draws))
    counts = np.zeros(len(subsets))
    for row in message.index.reshape(draws, k).tolist():
        counts[subsets[tuple(row)]] += 1
    statistic = float(((counts - 400) ** 2).sum() / 400)
    assert chi2.sf(statistic, len(subsets) - 1) > 1e-10


@pytest.mark.parametrize(("n", "k"), [(40, 13), (64, 2), (30, 29)])
def test_pairs_are_drawn_equally_often(n: int, k: int) -> None:
    """20,000 draws: each pair is in the sample as often as k (k - 1) / (n (n - 1)) says, to within 7.5 deviations.

    False alarms: below 1e-13 a pair, 3e-10 for all. Power: a pair's probability that is off by 11 deviations is found
    with probability above 0.999: for (40, 13), 0.1 by 0.024.
    """
    draws = 20_000
    message = RandK(k).compress(tiled(np.ones(n), draws), qsim.Key(4).words(0, draws))
    taken = np.zeros((draws, n))
    taken[np.repeat(np.arange(draws), k), message.index] = 1
    pairs = (taken.T @ taken)[np.triu_indices(n, 1)]
    p = k * (k - 1) / (n * (n - 1))
    assert np.abs(pairs - draws * p).max() < 7.5 * math.sqrt(draws * p * (1 - p)) + 10
    share = taken.mean(axis=0)
    assert np.abs(share - k / n).max() < 7.5 * math.sqrt(k / n * (1 - k / n) / draws)


def test_drawing_costs_as_little_from_many_coordinates() -> None:
    n = 2**40
    v = Vectors(n, np.array([0, 3]), np.array([5, 2**32 + 5, n - 1]), np.float32([1, 2, 3]))
    message = RandK(1000, "drawn").compress(v, qsim.Key(0).words(0, 1))
    assert message.value.size == 1000
    place = oracles.positions(7, n, 1000)
    assert place[0] < 2**34 < 2**39 < place[-1]
    v = Vectors(n, np.array([0, 1000]), np.array(place), np.arange(1, 1001, dtype=np.float32))
    message = RandK(1000).compress(v, np.array([7], np.uint64))
    assert message.index.tolist() == place
    assert message.value.tolist() == [np.float32(i * (n / 1000)) for i in range(1, 1001)]


@given(vectors, sizes, words)
def test_drawn_positions_are_drawn_again(v: np.ndarray, k: int, word: int) -> None:
    keys = np.array([word], np.uint64)
    sent, drawn = RandK(k), RandK(k, "drawn")
    message = drawn.compress(Vectors.dense(v), keys)
    assert drawn.decompress(message, keys) == sent.compress(Vectors.dense(v), keys).vectors()
    assert not sent.summable
    assert drawn.summable


def test_drawn_messages_with_one_key_can_be_summed() -> None:
    keys, drawn = np.array([9, 9], np.uint64), RandK(4, "drawn")
    v = np.arange(24, dtype=np.float32).reshape(2, 12)
    message = drawn.compress(Vectors.dense(v), keys)
    summed = qsim.batch.Drawn(12, np.array([0, 4]), 4, message.value.reshape(2, 4).sum(axis=0))
    assert np.array_equal(
        drawn.decompress(summed, keys[:1]).to_dense()[0], drawn.decompress(message, keys).to_dense().sum(axis=0)
    )
    with pytest.raises(ValueError, match="makes 4 numbers a row, the message has 5"):
        drawn.decompress(qsim.batch.Drawn(12, np.array([0, 5]), 5, np.ones(5, np.float32)), keys[:1])


def test_refusals() -> None:
    for compressor in EVERY:
        for bad in (math.nan, math.inf, -math.inf):
            block = np.ones((3, 100), np.float32)
            block[1, 70] = bad
            with pytest.raises(NotFiniteError, match="row 1 .* coordinate 70"):
                compressor.compress(Vectors.dense(block), qsim.Key(0).words(0, 3))
    for positions in ("sent", "drawn"):
        with pytest.raises(NotFiniteError, match=r"row 0 .*e[+]38 at coordinate 1: it could be sent scaled by 2,"):
            RandK(1, positions).quantize([1.0, 2e38], qsim.Key(0))
        assert RandK(1, positions).quantize([1.7e38, 1.7e38], qsim.Key(0)).value.tolist() == [np.float32(3.4e38)]
    for make in (RandK, TopK):
        with pytest.raises(ValueError, match="k must be a whole number of at least 1"):
            make(0)
    with pytest.raises(ValueError, match="did you mean 'drawn'"):
        RandK(1, "draw")
