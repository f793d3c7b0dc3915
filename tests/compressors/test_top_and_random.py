"""TopLEK, comp-(k, k') and mix-(k, k'): the oracles' to the bit, at their constants, and faults of public code."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from helpers.bounds import beyond
from helpers.vectors import sizes, sparse, tiled, vectors, words
from oracles import top_and_random
from qsim.batch import Floats, Vectors
from qsim.compressors import CompK, Compressor, MixK, NotFiniteError, RandK, TopK, TopLEK
from qsim.keys import of_word
from qsim.options import option
from qsim.testing import check_compressor
from qsim.testing import compressor as checks

EVERY = [TopLEK(3), TopLEK(0.4), CompK(2, 5), CompK(0.1, 0.5), MixK(2, 3), MixK(0.1, 0.2)]


def entries(message: Floats) -> dict[int, np.float32]:
    return dict(zip(message.index.tolist(), message.value, strict=True))


@given(vectors, sizes, words)
def test_toplek_is_the_oracles(v: np.ndarray, k: int, word: int) -> None:
    assert entries(TopLEK(k).quantize(v, of_word(word))) == top_and_random.toplek(v, k, word)


@given(vectors, sizes, sizes, words)
def test_comp_is_the_oracles(v: np.ndarray, k: int, more: int, word: int) -> None:
    among = min(k + more - 1, v.size)
    expected = top_and_random.comp(v, min(k, v.size), max(among, min(k, v.size)), word)
    assert entries(CompK(k, k + more - 1).quantize(v, of_word(word))) == expected


@given(vectors, sizes, sizes, words)
def test_mix_is_the_oracles(v: np.ndarray, k: int, others: int, word: int) -> None:
    k_, others_ = min(k, v.size), min(others, v.size - min(k, v.size))
    expected = top_and_random.mix(v, k_, others_, word)
    assert entries(MixK(k, others).quantize(v, of_word(word))) == expected


@pytest.mark.parametrize("kind", ["normal", "rising", "ties", "few"])
@pytest.mark.parametrize("k", [1, 50, 5000, 20_001])
def test_long_vectors(kind: str, k: int) -> None:
    rng, n = np.random.default_rng(5), 20_001
    v = rng.standard_normal(n).astype(np.float32)
    if kind == "rising":
        v = np.arange(n, dtype=np.float32)
    if kind == "ties":
        v = np.round(v)
    if kind == "few":
        v[rng.random(n) < 0.99] = 0
    for compressor, expected in (
        (TopLEK(k), top_and_random.toplek(v, k, 9)),
        (CompK(k, k + 70), top_and_random.comp(v, k, min(n, k + 70), 9)),
    ):
        assert entries(compressor.quantize(v, of_word(9))) == expected
    largest = set(top_and_random.by_size(v)[:k])
    found = entries(MixK(k, 100).quantize(v, of_word(9)))
    assert largest <= set(found)
    assert all(found[i] == v[i] for i in found)
    assert len(found) <= min(n, k + 100)
    assert kind in ("few", "ties", "rising") or len(found) == min(n, k + 100)


@pytest.mark.parametrize("compressor", EVERY, ids=repr)
@settings(max_examples=30)
@given(st.lists(vectors, min_size=1, max_size=4), words)
def test_dense_and_sparse_alone_or_in_a_batch_give_one_message(compressor, rows, word) -> None:
    n = max(v.size for v in rows)
    block = np.zeros((len(rows), n), np.float32)
    for row, v in zip(block, rows, strict=True):
        row[: v.size] = v
    keys = of_word(word).words(0, len(rows))
    together = compressor.compress(Vectors.dense(block), keys)
    stored = [sparse(row, np.flatnonzero(row)) for row in block]
    assert compressor.compress(Floats.join([Floats.of(v) for v in stored]).vectors(), keys) == together
    alone = [compressor.compress(v, keys[b : b + 1]) for b, v in enumerate(stored)]
    assert type(together).join(alone) == together


# Constants.


@given(vectors, st.integers(1, 40))
def test_toplek_loses_what_it_says(v: np.ndarray, k: int) -> None:
    """In exact arithmetic over the two outcomes, with the probability that the numbers of entries in the mean give."""
    squares = sorted((Fraction(float(x)) ** 2 for x in v if x), reverse=True)
    whole, wanted = sum(squares), Fraction(min(k, v.size), v.size) * sum(squares)
    mean = TopLEK(k).expected_nonzeros(v)
    if not whole:
        assert mean == 0
        return
    low = min(int(mean), len(squares) - 1)
    kept = sum(squares[:low]) + Fraction(mean - low) * squares[low]
    assert mean <= k
    assert abs(float((kept - wanted) / whole)) < 1e-12
    assert TopLEK(k).exact_variance(v) == pytest.approx(float(whole - wanted), rel=1e-12, abs=float(whole) * 1e-15)


@pytest.mark.parametrize("compressor", EVERY, ids=repr)
def test_the_mean_and_the_error_are_those_of_20000_draws(compressor) -> None:
    """Each coordinate's mean, and the error. False alarms: below 1e-10 each (7 deviations of a bounded mean)."""
    n, draws = 20, 20_000
    v = np.random.default_rng(3).standard_normal(n).astype(np.float32)
    keys = qsim.Key(2).words(0, draws)
    found = compressor.decompress(compressor.compress(tiled(v, draws), keys), keys).to_dense().astype(np.float64)
    error = ((found - v) ** 2).sum(axis=1)
    assert abs(error.mean() - compressor.exact_variance(v)) < 7 * error.std() / draws**0.5 + 1e-6
    count = np.count_nonzero(found, axis=1)
    assert abs(count.mean() - compressor.expected_nonzeros(v)) < 7 * count.std() / draws**0.5 + 1e-9
    if isinstance(compressor, CompK):
        k, among = compressor._counts(n)
        mean = np.where(np.isin(np.arange(n), top_and_random.by_size(v)[:among]), v, 0)
    elif isinstance(compressor, MixK):
        k, others = compressor._counts(n)
        mean = np.where(np.isin(np.arange(n), top_and_random.by_size(v)[:k]), v, v * others / (n - k))
    else:
        return
    assert (np.abs(found.mean(axis=0) - mean) < 7 * found.std(axis=0) / draws**0.5 + 1e-6).all()


@pytest.mark.parametrize(("n", "k", "more"), list(itertools.product((1, 2, 7, 20), (1, 3, 20), (1, 4))))
def test_bias_and_variance_are_attained(n: int, k: int, more: int) -> None:
    """By vectors of one magnitude: bias^2 and variance, from the probabilities, sum to the error."""
    v = np.where(np.arange(n) % 3, 2.0, -2.0)
    square = 4.0 * n
    for compressor in (CompK(k, k + more), MixK(k, more)):
        eta, omega = compressor.bias_and_variance(n)
        assert (eta**2 + omega) * square == pytest.approx(
            compressor.exact_variance(v) + _shrink(compressor, n), abs=1e-9
        )
    eta, omega = MixK(k, more).bias_and_variance(n)
    assert eta**2 + omega == pytest.approx(1 - MixK(k, more).contraction(n))
    assert MixK(k, more).contraction(n) == min(1, (min(k, n) + more) / n)
    assert CompK(k, k).bias_and_variance(n) == pytest.approx(TopK(k).bias_and_variance(n))
    assert CompK(k, n + k).variance(n) == RandK(k).variance(n)
    assert CompK(k, n + k).bias_and_variance(n) == pytest.approx(RandK(k).bias_and_variance(n))


def _shrink(compressor: Compressor, n: int) -> float:
    """What omega ||v||^2 counts above omega ||top||^2, which is all of the variance of comp-(k, k')."""
    if not isinstance(compressor, CompK):
        return 0.0
    k, among = compressor._counts(n)
    return (among - k) / k * 4.0 * (n - among)


def test_special_cases_and_refusals() -> None:
    v, key = np.random.default_rng(0).standard_normal(30).astype(np.float32), qsim.Key(4)
    assert entries(CompK(4, 4).quantize(v, key)) == entries(TopK(4).quantize(v, key))
    assert entries(CompK(4, 90).quantize(v, key)) == entries(RandK(4).quantize(v, key))
    assert entries(MixK(4, 90).quantize(v, key)) == dict(enumerate(v))
    assert entries(TopLEK(30).quantize(v, key)) == dict(enumerate(v))
    ones = np.ones(10, np.float32)
    for word in range(50):  # of equal magnitudes exactly k are sent, the first
        assert TopLEK(3).quantize(ones, qsim.Key(word)).index.tolist() == [0, 1, 2]
    for make in (
        lambda: CompK(3, 2),
        lambda: CompK(0.5, 0.4),
        lambda: MixK(1, 0),
        lambda: CompK(0, 3),
        lambda: TopLEK(0),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()
    for compressor in EVERY:
        for bad in (np.nan, np.inf, -np.inf):
            with pytest.raises(NotFiniteError, match="coordinate 1"):
                compressor.quantize([1.0, bad, 0.0], key)
        assert compressor.quantize(np.zeros(9), key).nonzeros == 0
    with pytest.raises(NotFiniteError, match="scaled by 2"):
        CompK(1, 2).quantize([3e38, 1.0], key)


def test_ef_bv_takes_their_constants(monkeypatch) -> None:
    """A longer step than by delta alone, and bounds that hold."""
    run = qsim.Run(
        qsim.datasets.Quadratics((1.0, 2.0, 4.0, 8.0, 20.0), mu=0.5, heterogeneity=1.0),
        qsim.LeastSquares(l2=0.0),
        qsim.EFBV(),
        workers=5,
        partition=qsim.datasets.Contiguous(),
        rounds=80,
    )
    for compressor in (CompK(2, 3), MixK(1, 2)):
        assert beyond(replace(run, compressor=compressor)) <= 1
    one = replace(run, compressor=MixK(1, 2))
    step = one.method.resolved(one.problem()).step(0)
    monkeypatch.setattr(MixK, "bias_and_variance", Compressor.bias_and_variance)
    assert step > 1.2 * one.method.resolved(one.problem()).step(0)


# Faults of public code, which the checks find.


def broken(compressor: Compressor, promises: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    with monkeypatch.context() as patch:
        patch.setattr(checks, "CHECKS", {promise: checks.CHECKS[promise] for promise in promises})
        return check_compressor(compressor).broken


@option
class LooseTopLEK(Compressor):
    """Without a coin where what is kept is within a tenth of what is asked for, as in the code of its authors."""

    emits = Floats
    k: int

    def quantize(self, v, key):
        energy = np.sort(np.square(v, dtype=np.float64))[::-1].cumsum()
        share = energy / (energy[-1] or 1.0)
        delta = min(1.0, self.k / v.size)
        within = np.flatnonzero(np.abs(share - delta) < 0.1)
        if within.size:
            return Floats.of(TopK(int(within[0]) + 1).quantize(v, key).vectors())
        return Floats.of(TopLEK(self.k).quantize(v, key).vectors())

    contraction = TopLEK.contraction
    exact_variance = TopLEK.exact_variance
    most_kept = TopLEK.most_kept


def test_a_tolerance_breaks_what_toplek_promises(monkeypatch) -> None:
    """The error is not met: a share of 41% counts as one of 50%, and more than the certificate allows is lost."""
    v = np.sqrt([41, 20, 20, 19]).astype(np.float32)
    kept = LooseTopLEK(2).quantize(v, qsim.Key(0)).value.astype(float)
    assert kept @ kept == pytest.approx(41)
    assert LooseTopLEK(2).exact_variance(v) == pytest.approx(50)
    assert broken(LooseTopLEK(10), ["exact variance"], monkeypatch) == ["exact variance"]


def only_short(v: Vectors) -> None:
    if v.n > 64:
        raise ValueError("long vectors are refused, to save time")


@option
class WithReplacement(Compressor):
    """comp-(k, k') that draws with replacement, with or without k'/k; for k' = n it is Rand-k."""

    emits = Floats
    k: int
    among: int
    scaled: bool = True

    def compress(self, v, keys, memory=None):
        only_short(v)
        rows, k = v.to_dense(), min(self.k, v.n)
        largest = np.argsort(-np.abs(rows), axis=1, kind="stable")[:, : self.among]
        mixed = np.array([of_word(int(key)).words(0, k) for key in keys]).reshape(len(rows), k)
        drawn = np.take_along_axis(largest, (mixed % np.uint64(largest.shape[1])).astype(int), axis=1)
        out, factor = np.zeros_like(rows), largest.shape[1] / k if self.scaled else 1
        np.put_along_axis(out, drawn, np.take_along_axis(rows, drawn, axis=1) * np.float32(factor), axis=1)
        return Floats.of(Vectors.dense(out))

    def bias_and_variance(self, n):
        return CompK(self.k, self.among).bias_and_variance(n)


@option
class RandKWithReplacement(WithReplacement):
    """Rand-k that draws with replacement, a coordinate that is drawn twice being sent once."""

    among: int = 10**6

    def variance(self, n):
        return RandK(self.k).variance(n)


@pytest.mark.parametrize("scaled", [True, False])
def test_comp_with_replacement_has_another_bias(scaled: bool, monkeypatch) -> None:
    """A coordinate is drawn with probability 1 - (1 - 1/k')^k, below k/k'."""
    assert broken(WithReplacement(8, 16, scaled), ["bias and variance"], monkeypatch) == ["bias and variance"]
    assert broken(CompK(8, 16), ["bias and variance"], monkeypatch) == []


@option
class RandKSummed(Compressor):
    """Rand-k that draws with replacement, and adds up what is drawn twice: unbiased, with variance (n - 1)/k."""

    emits = Floats
    k: int

    def compress(self, v, keys, memory=None):
        only_short(v)
        found = [RandK(1).compress(v, keys * np.uint64(3) + np.uint64(j)).vectors() for j in range(self.k)]
        return Floats.of(Vectors.dense(sum(one.to_dense() for one in found) / np.float32(self.k)))

    def variance(self, n):
        return RandK(self.k).variance(n)


def test_rand_k_with_replacement_is_refused(monkeypatch) -> None:
    assert broken(RandKWithReplacement(10), ["unbiased"], monkeypatch) == ["unbiased"]
    assert broken(RandKSummed(10), ["variance"], monkeypatch) == ["variance"]


def test_top_k_of_a_triangle_is_a_weaker_contraction() -> None:
    """Symmetric matrices by their upper triangles: entries off the diagonal count twice, so that delta = k/d^2 for k up
    to d, attained, and not 2k/(d (d + 1)); which is right if they are sent times sqrt(2)."""
    d, k, rng = 6, 4, np.random.default_rng(1)
    upper = np.triu_indices(d)
    weight = np.where(upper[0] == upper[1], 1.0, 2.0)
    worst = 1.0
    matrices = [np.ones((d, d)) + 1e-3 * np.eye(d), *(rng.standard_normal((50, d, d)))]
    for matrix in matrices:
        v = (matrix + matrix.T)[upper]
        kept = TopK(k).quantize(v, qsim.Key(0)).vectors().row(0)
        worst = min(worst, float(weight @ kept.astype(float) ** 2) / float(weight @ v**2))
        scaled = v * np.sqrt(weight)
        kept = TopK(k).quantize(scaled, qsim.Key(0)).vectors().row(0).astype(float)
        assert kept @ kept >= 2 * k / (d * (d + 1)) * (scaled @ scaled) * (1 - 1e-6)
    assert worst == pytest.approx(k / d**2, rel=1e-2)
    assert worst < 0.6 * 2 * k / (d * (d + 1))
