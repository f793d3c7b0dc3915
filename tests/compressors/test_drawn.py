"""RandSeq-k and Perm-K: bit for bit against the oracles, drawn as often as they say, and together as they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

import qsim
from helpers.vectors import sizes, sparse, tiled, vectors, words
from oracles import drawn
from qsim.batch import Floats, SharedSupport, Vectors
from qsim.compressors import NotFiniteError, PermK, RandK, RandSeqK
from qsim.keys import NUMBER_BITS, of_word

EVERY = [RandSeqK(3), RandSeqK(0.3), PermK(3), PermK(1), PermK(50), PermK(6, 4)]


def arrived(compressor, v: np.ndarray, keys: np.ndarray) -> np.ndarray:
    return compressor.decompress(compressor.compress(Vectors.dense(v), keys), keys).to_dense()


@given(vectors, sizes, words)
def test_randseqk_is_the_oracles(v: np.ndarray, k: int, word: int) -> None:
    positions = drawn.run(word, v.size, min(k, v.size))
    expected = drawn.scaled(v, positions, max(1.0, v.size / k))
    message = RandSeqK(k).quantize(v, of_word(word))
    assert message.value.tolist() == expected
    found = RandSeqK(k).decompress(message, np.array([word], np.uint64))
    assert dict(zip(found.index.tolist(), found.value, strict=True)) == {
        c: x for c, x in zip(positions, expected, strict=True) if x
    }


@given(vectors, st.integers(1, 12), st.integers(1, 12), words)
def test_permk_is_the_oracles(v: np.ndarray, workers: int, copies: int, word: int) -> None:
    copies = min(copies, workers)
    positions = drawn.block(word, workers, copies, v.size)
    expected = drawn.scaled(v, positions, workers / copies)
    compressor = PermK(workers, copies)
    assert compressor.coordinates(v.size, np.array([word], np.uint64)).tolist() == [positions]
    message = compressor.quantize(v, of_word(word))
    assert message.value.tolist() == expected
    found = compressor.decompress(message, np.array([word], np.uint64))
    assert dict(zip(found.index.tolist(), found.value, strict=True)) == {
        c: x for c, x in zip(positions, expected, strict=True) if x
    }


@pytest.mark.parametrize("compressor", [RandSeqK(3), PermK(3), PermK(3, 2)], ids=repr)
@settings(max_examples=40)
@given(st.lists(vectors, min_size=1, max_size=5), words, st.data())
def test_dense_and_sparse_alone_or_in_a_batch_give_one_message(compressor, rows, word, data) -> None:
    """Also where rows have one number, or one stream, in any order."""
    n = max(v.size for v in rows)
    block = np.zeros((len(rows), n), np.float32)
    for row, v in zip(block, rows, strict=True):
        row[: v.size] = v
    streams = [of_word(word).numbered.words(0, 3), of_word(word ^ 2**40).words(0, 2), np.array([word], np.uint64)]
    keys = np.array(
        data.draw(st.lists(st.sampled_from(np.concatenate(streams).tolist()), min_size=len(rows))), np.uint64
    )
    keys = keys[: len(rows)].copy()
    together = compressor.compress(Vectors.dense(block), keys)
    stored = [sparse(row, np.flatnonzero(row)) for row in block]
    for row, key, alone in zip(block, keys, stored, strict=True):
        part = type(together).join([together]).take(np.flatnonzero((block == row).all(axis=1) & (keys == key))[:1])
        assert compressor.compress(alone, np.array([key], np.uint64)) == part
    assert compressor.compress(Floats.join([Floats.of(v) for v in stored]).vectors(), keys) == together
    assert np.array_equal(
        compressor.decompress(together, keys).to_dense(),
        np.concatenate([arrived(compressor, row[None], keys[b : b + 1]) for b, row in enumerate(block)]),
    )


# How often.


@pytest.mark.parametrize(("n", "k"), [(9, 2), (10, 9), (64, 3), (9, 1)])
def test_every_start_is_drawn_equally_often(n: int, k: int) -> None:
    """Chi-square over the n runs, 1,000 draws of each.

    False alarms: below 1e-10 a case. Power: starts whose probabilities are off by 10% of 1/n, half up and half down,
    add 10 n to a statistic that passes at about n + 9 sqrt(2 n) + 20: found surely for n >= 9.
    """
    draws = 1000 * n
    keys = qsim.Key(5).words(0, draws)
    message = RandSeqK(k).compress(tiled(np.arange(1, n + 1), draws), keys)
    rows = np.rint(message.value.reshape(draws, k) / (n / k)).astype(int) - 1
    start_of = {tuple(sorted((start + j) % n for j in range(k))): start for start in range(n)}
    counts = np.bincount([start_of[tuple(row)] for row in rows.tolist()], minlength=n)
    assert chi2.sf(float(((counts - 1000) ** 2).sum() / 1000), n - 1) > 1e-10


@pytest.mark.parametrize(("workers", "k"), [(2, 1), (2, 3), (3, 2), (4, 1), (3, 1), (5, 1)])
def test_coordinates_are_shared_out_in_every_way_equally_often(workers: int, k: int) -> None:
    """Chi-square over all ways to deal k coordinates to each worker, for 300 draws of each.

    False alarms: below 1e-10 a case. Power: ways whose probabilities are off by 20%, half up and half down, add
    300 C 0.2^2 = 12 C for C ways: found with probability above 0.999 for C >= 6.
    """
    n = workers * k
    ways = dict.fromkeys(sorted(set(itertools.permutations(np.repeat(np.arange(workers), k).tolist()))), 0)
    draws = 300 * len(ways)
    keys = np.concatenate([key.numbered.words(0, workers) for key in map(qsim.Key(8).fold, range(draws))])
    rows = arrived(PermK(workers), np.ones((keys.size, n), np.float32), keys).reshape(draws, workers, n)
    assert (rows.sum(axis=1) == workers).all()
    for owner in rows.argmax(axis=1).tolist():
        ways[tuple(owner)] += 1
    statistic = sum((count - 300) ** 2 / 300 for count in ways.values())
    assert chi2.sf(statistic, len(ways) - 1) > 1e-10


@pytest.mark.parametrize(("workers", "copies", "n"), [(3, 2, 3), (4, 2, 5), (5, 3, 5), (6, 4, 3)])
def test_any_workers_have_a_coordinate_equally_often(workers: int, copies: int, n: int) -> None:
    """Chi-square over all sets of workers of the first coordinate, and of the last one, for 1,000 draws of each set.

    False alarms: below 1e-10 a case. Power: sets whose probabilities are off by 20%, half up and half down, add 40 to
    the statistic for each, of 3 to 15 of them, where it passes at about 55 and 80: found with probability above 0.999.
    """
    sets = list(itertools.combinations(range(workers), copies))
    draws = 1000 * len(sets)
    keys = np.concatenate([key.numbered.words(0, workers) for key in map(qsim.Key(6).fold, range(draws))])
    found = arrived(PermK(workers, copies), np.ones((keys.size, n), np.float32), keys).reshape(draws, workers, n)
    assert (np.count_nonzero(found, axis=1) == copies).all()
    for coordinate in (0, n - 1):
        has = np.nonzero(found[:, :, coordinate])[1].reshape(draws, copies)
        counts = np.array([(has == some).all(axis=1).sum() for some in sets])
        assert chi2.sf(float(((counts - 1000) ** 2).sum() / 1000), len(sets) - 1) > 1e-10


# Together.


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), words)
def test_equal_vectors_have_an_exact_mean(workers: int, copies: int, n: int, word: int) -> None:
    """Whatever n, W and the copies are; every worker has as many coordinates."""
    compressor = PermK(workers, min(copies, workers))
    v = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    keys = of_word(word).numbered.words(0, workers)
    sent = arrived(compressor, np.tile(v, (workers, 1)), keys)
    assert (np.count_nonzero(sent, axis=0) == compressor.copies).all()
    assert np.allclose(sent.sum(axis=0, dtype=np.float64) / workers, v, rtol=2.0**-23, atol=0)
    places = compressor.coordinates(n, keys)
    assert places.shape == (workers, compressor.most_kept(n))
    assert compressor.most_kept(n) * workers < (n + workers) * compressor.copies


@pytest.mark.parametrize("weights", [[0.25] * 4, [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.0, 0.0]], ids=["equal", "p", "out"])
@pytest.mark.parametrize(("n", "copies"), [(10, 1), (3, 1), (5, 2)])
def test_the_error_of_a_mean_is_what_is_stated(weights: list[float], n: int, copies: int) -> None:
    """A (W sum of p_i^2 ||v_i||^2 - ||sum of p_i v_i||^2), over 40,000 draws, below the inequality of A and B.

    Errors of a draw deviate by less than their mean and are below 4 times it, so that the mean over 40,000 draws is off
    by 4% with probability below 1e-12 (Bernstein); that of independent workers is off by 10% and more.
    """
    p, workers, draws = np.array(weights), 4, 40_000
    v = np.random.default_rng(n).standard_normal((workers, n)).astype(np.float32) + 2
    keys = np.concatenate([key.numbered.words(0, workers) for key in map(qsim.Key(9).fold, range(draws))])
    compressor = PermK(workers, copies)
    sent = arrived(compressor, np.tile(v, (draws, 1)), keys).reshape(draws, workers, n)
    errors = (((p @ (sent.astype(np.float64) - v)) ** 2).sum(axis=1)).mean()
    squares, mean = (v.astype(np.float64) ** 2).sum(axis=1), p @ v
    exact = (workers * p**2 @ squares - mean @ mean) * (workers - copies) / (copies * (workers - 1))
    alone = p**2 @ squares * (workers / copies - 1)
    assert errors == pytest.approx(exact, rel=0.04)
    assert abs(alone - exact) > 0.1 * exact
    a, b = compressor.joint_variance(n)
    assert exact <= a * workers * p.max() * p @ squares - b * mean @ mean + 1e-12


def test_numbered_words() -> None:
    """What workers have in common, and their numbers: of any part of them the same."""
    from qsim.kernels import hashing

    assert hashing.NUMBER_BITS == NUMBER_BITS
    key = qsim.Key(3).numbered
    found = key.words(0, 100)
    assert (found & np.uint64(2**NUMBER_BITS - 1)).tolist() == list(range(100))
    assert len(set((found >> np.uint64(NUMBER_BITS)).tolist())) == 1
    assert key.words(40, 60).tolist() == found[40:60].tolist()
    assert eval(repr(key)).words(0, 100).tolist() == found.tolist()
    assert len({int(qsim.Key(3).fold(t).numbered.words(0, 1)[0]) for t in range(1000)}) == 1000
    among = key.numbered_among(np.array([False, True, True, False, True]))
    assert among.words(1, 3).tolist() == found[:2].tolist()
    assert among.words(4, 5).tolist() == found[2:3].tolist()
    for low, high in ((-1, 3), (3, 2), (0, 2**NUMBER_BITS + 1)):
        with pytest.raises(ValueError, match="numbers are from 0"):
            key.words(low, high)


# Edges.


def test_what_is_stated() -> None:
    v = np.random.default_rng(1).standard_normal(40)
    for k in (1, 7, 40, 50):
        assert RandSeqK(k).variance(40) == RandK(k).variance(40)
        assert RandSeqK(k).exact_variance(v) == RandK(k).exact_variance(v)
        assert RandSeqK(k).expected_nonzeros(v) == RandK(k).expected_nonzeros(v)
        assert RandSeqK(k).summable
    assert RandSeqK(0.01).most_kept(1000) == 10
    assert PermK(5).variance(12) == 4
    assert PermK(5).most_kept(12) == 3
    assert [PermK(6, c).most_kept(12) for c in range(1, 7)] == [2, 4, 6, 8, 10, 12]
    assert PermK(6, 4).variance(12) == 0.5
    assert PermK(6, 4).joint_variance(12) == (0.1, 0.1)
    assert PermK(1).joint_variance(12) == (0, 0)
    assert PermK(5).exact_variance(v) == pytest.approx(4 * v @ v)
    assert PermK(5).expected_nonzeros(v) == 8
    assert not PermK(5).summable
    assert (PermK(5).correlated, RandSeqK(5).correlated) == (5, None)
    assert qsim.Scaled(PermK(5)).correlated == 5
    assert qsim.ErrorFeedback(qsim.Scaled(PermK(5))).contraction(12) == pytest.approx(1 / 5)
    assert qsim.Philox(PermK(5)).joint_variance(12) == (1, 1)
    assert qsim.Scaled(PermK(5)).joint_variance(12) is None


def test_refusals() -> None:
    for make in (
        lambda: RandSeqK(0),
        lambda: RandSeqK(1.5),
        lambda: PermK(0),
        lambda: PermK(2**24 + 1),
        lambda: PermK(3, 0),
        lambda: PermK(3, 4),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()
    for compressor in EVERY:
        with pytest.raises(NotFiniteError, match="coordinate 2"):
            compressor.quantize([1.0, 0.0, np.inf], qsim.Key(0))
    with pytest.raises(NotFiniteError, match="scaled by 3"):
        PermK(3).quantize([2e38], qsim.Key(0))
    with pytest.raises(ValueError, match="makes 2 numbers per row, the message has 3"):
        PermK(3).decompress(SharedSupport(5, np.array([0, 3]), 3, np.ones(3, np.float32)), np.zeros(1, np.uint64))
    padded = 0
    for word in range(20):
        message = SharedSupport(5, np.array([0, 2]), 2, np.ones(2, np.float32))
        keys = qsim.Key(word).words(0, 1)
        if drawn.block(int(keys[0]), 3, 1, 5)[-1] >= 5:
            padded += 1
            with pytest.raises(ValueError, match="zeros for coordinates behind the last"):
                PermK(3).decompress(message, keys)
        else:
            PermK(3).decompress(message, keys)
    assert 0 < padded < 20
    for wrong in (
        lambda: qsim.Compose(qsim.TopK(2), PermK(3)),
        lambda: qsim.Compose(PermK(3), qsim.QSGD(2)),
        lambda: qsim.Bucketed(PermK(3), 2),
    ):
        with pytest.raises(ValueError, match="whose workers draw together"):
            wrong()
    with pytest.raises(ValueError, match="one message"):
        qsim.downlinks.CompressedWeights(qsim.Scaled(PermK(3)))


def test_many_workers_and_coordinates() -> None:
    """More than 65,536 of either: each coordinate has one worker."""
    for workers, n in ((70_000, 70_001), (3, 200_000)):
        keys = qsim.Key(1).numbered.words(0, workers)
        found = PermK(workers)
        message = found.compress(Vectors(n, np.zeros(workers + 1, np.int64), np.zeros(0, np.int32), np.zeros(0)), keys)
        places = found.coordinates(n, keys).reshape(-1)
        assert np.array_equal(np.sort(places[places < n]), np.arange(n))
        assert message.value.size == places.size
