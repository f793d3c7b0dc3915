"""Sparsifiers: bit for bit against the oracles, unbiased or contractions as they say, right at the edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, chi2

import qsim
from helpers.vectors import few, sizes, sparse, tiled, vectors, words
from oracles import bernoulli, hashing, select
from qsim.batch import Floats, SharedSupport, Vectors
from qsim.compressors import (
    QSGD,
    Bernoulli,
    Compose,
    HardThreshold,
    NotFiniteError,
    RandK,
    Scaled,
    TopK,
    Wangni,
)
from qsim.compressors.sparsifier import largest_scalable, require_scalable
from qsim.keys import of_word

EVERY = [
    RandK(3),
    RandK(3, "drawn"),
    TopK(3),
    HardThreshold(2.0),
    Bernoulli(0.4),
    Wangni(3),
    Compose(TopK(5), QSGD(2)),
    Compose(TopK(5), Scaled(QSGD(1, "max"))),
    Compose(Bernoulli(0.5), RandK(20, "drawn")),
]


def entries(message: Floats) -> dict[int, np.float32]:
    return dict(zip(message.index.tolist(), message.value, strict=True))


@given(vectors, sizes, words)
def test_randk_is_the_oracles(v: np.ndarray, k: int, word: int) -> None:
    expected, key = select.randk(v, k, word), of_word(word)
    assert entries(RandK(k).quantize(v, key)) == expected
    drawn = RandK(k, "drawn").quantize(v, key)
    assert drawn.value.tolist() == [expected.get(i, 0.0) for i in select.positions(word, v.size, k)]


@given(vectors, sizes)
def test_topk_is_the_oracles(v: np.ndarray, k: int) -> None:
    assert entries(TopK(k).quantize(v, qsim.Key(0))) == select.topk(v, k)


def test_topk_of_every_number_of_entries() -> None:
    """One more than k, k, one fewer; distinct, and all of one magnitude."""
    for entries_, k in itertools.product(range(1, 9), repeat=2):
        for v in (np.arange(1, entries_ + 1), np.full(entries_, 3.0)):
            v = np.append(v, 0).astype(np.float32)
            assert entries(TopK(k).quantize(v, qsim.Key(0))) == select.topk(v, k)


def test_wangni_of_as_many_entries_as_it_sends() -> None:
    """k non-zeros, and k that are so large that the others vanish in the sum: the k are sent as they are."""
    from qsim.kernels.bernoulli import certain_magnitudes

    for k in range(1, 7):
        large = np.float32(np.arange(1, k + 1) * 1e30)
        for v, t in ((np.append(large, 0), 0.0), (np.append(large, 1e-30), 1e30)):
            v = v.astype(np.float32)
            assert certain_magnitudes(np.array([0, v.size]), v, k)[0] == pytest.approx(t)
            message = Wangni(k).quantize(v, qsim.Key(2).fold(k))
            assert message.index.tolist() == list(range(k))
            assert np.array_equal(message.value, large)


def test_topk_where_the_guess_leaves_one_too_few() -> None:
    """The sample sees all of the k - 1 large ones, which alone reach the bound; the rest is as small as can be."""
    v = np.full(20_000, 1e-45, np.float32)
    v[: 4 * 100 : 4] = 2
    message = TopK(101).quantize(v, qsim.Key(0))
    assert message.index.tolist() == sorted([*range(0, 400, 4), 1])
    assert TopK(150).quantize(v, qsim.Key(0)).nonzeros == 150


@given(vectors, st.one_of(few.map(lambda x: abs(float(x)) + 1), st.floats(1e-3, 1e30)))
def test_hard_threshold_is_the_oracles(v: np.ndarray, threshold: float) -> None:
    compressor = HardThreshold(threshold)
    expected = select.hard_threshold(v, threshold)
    assert entries(compressor.quantize(v, qsim.Key(0))) == expected
    assert compressor.expected_nonzeros(v) == len(expected)
    assert compressor.exact_variance(v) <= threshold**2 * v.size
    assert HardThreshold(2.0).exact_variance([2.0, -2.0, 1.5, -0.5]) == 2.5
    assert compressor.contraction(v.size) is None


def test_hard_threshold_compares_exactly() -> None:
    """A threshold between two float32 numbers, and one of them."""
    low, high = np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1))
    v = [-low, high, np.float32(1e-45)]
    for threshold, kept in (
        (float(low), [0, 1]),
        ((float(low) + float(high)) / 2, [1]),
        (1e-300, [0, 1, 2]),
        (1e300, []),
    ):
        assert HardThreshold(threshold).quantize(v, qsim.Key(0)).index.tolist() == kept


@given(vectors, st.floats(2.0**-24, 1), words)
def test_bernoulli_is_the_oracles(v: np.ndarray, p: float, word: int) -> None:
    assert entries(Bernoulli(p).quantize(v, of_word(word))) == bernoulli.bernoulli(v, p, word)


@given(vectors, sizes, words)
def test_wangni_is_the_oracles(v: np.ndarray, k: int, word: int) -> None:
    from qsim.kernels.bernoulli import certain_magnitudes

    t = float(certain_magnitudes(np.array([0, v.size]), v, k)[0])
    assert t == pytest.approx(bernoulli.certain_magnitude(v, k), rel=1e-12)
    assert entries(Wangni(k).quantize(v, of_word(word))) == bernoulli.wangni(v, t, word)


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
    keys = of_word(word).words(0, len(rows))
    together = compressor.compress(Vectors.dense(block), keys)
    parts, stored = [], []
    for row, key in zip(block, keys, strict=True):
        extra = data.draw(arrays(np.bool_, n))  # stored zeros change nothing
        stored.append(sparse(row, np.flatnonzero((row != 0) | extra)))
        parts.append(compressor.compress(stored[-1], np.array([key], np.uint64)))
    assert together == type(together).join(parts)
    assert compressor.compress(Floats.join([Floats.of(v) for v in stored]).vectors(), keys) == together
    codec = qsim.channel.default_codec(compressor)
    packets = codec.encode(type(together).join(parts))
    assert codec.encode(together).data.tobytes() == packets.data.tobytes()  # the sign of zero, too


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


def test_coordinate_zero_is_drawn_as_any_other() -> None:
    """By a table as well, where the next coordinates have the same cell."""
    n, k = 500, 3
    drawn = {word: select.positions(word, n, k) for word in range(10_000)}
    both = [word for word, place in drawn.items() if place[0] == 0 and place[1] < n // (2 * k)]
    assert len(both) > 5
    message = RandK(k).compress(tiled(np.ones(n), len(both)), np.array(both, np.uint64))
    assert message.index.reshape(-1, k).tolist() == [drawn[word] for word in both]


def test_drawing_costs_as_little_from_many_coordinates() -> None:
    n = 2**40
    v = Vectors(n, np.array([0, 3]), np.array([5, 2**32 + 5, n - 1]), np.float32([1, 2, 3]))
    message = RandK(1000, "drawn").compress(v, qsim.Key(0).words(0, 1))
    assert message.value.size == 1000
    place = select.positions(7, n, 1000)
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
    summed = SharedSupport(12, np.array([0, 4]), 4, message.value.reshape(2, 4).sum(axis=0))
    assert np.array_equal(
        drawn.decompress(summed, keys[:1]).to_dense()[0], drawn.decompress(message, keys).to_dense().sum(axis=0)
    )
    with pytest.raises(ValueError, match="makes 4 numbers per row, the message has 5"):
        drawn.decompress(SharedSupport(12, np.array([0, 5]), 5, np.ones(5, np.float32)), keys[:1])


def test_refusals() -> None:
    for compressor in EVERY:
        for bad, row, place in ((math.nan, 1, 70), (math.inf, 0, 0), (-math.inf, 1, 70)):
            block = np.ones((3, 100), np.float32)
            block[row, place] = bad
            with pytest.raises(NotFiniteError, match=f"row {row} .* coordinate {place}"):
                compressor.compress(Vectors.dense(block), qsim.Key(0).words(0, 3))
    for n in range(1, 130):  # at every place of a strip, and behind the last
        for bad in (math.inf, -math.inf, math.nan):
            with pytest.raises(NotFiniteError, match=f"coordinate {n - 1}:"):
                TopK(1).quantize([*np.ones(n - 1), bad], qsim.Key(0))
    for positions in ("sent", "drawn"):
        with pytest.raises(NotFiniteError, match=r"row 0 .*e[+]38 at coordinate 1: it could be sent scaled by 2,"):
            RandK(1, positions).quantize([1.0, 2e38], qsim.Key(0))
        assert RandK(1, positions).quantize([1.7e38, 1.7e38], qsim.Key(0)).value.tolist() == [np.float32(3.4e38)]
    with pytest.raises(NotFiniteError, match=r"row 1 .*e[+]37 at coordinate 0: it could be sent scaled by 4,"):
        Bernoulli(0.25).compress(Vectors.dense([[1.0, 0.0], [1e38, 1.0]]), qsim.Key(0).words(0, 2))
    with pytest.raises(NotFiniteError, match=r"row 1 .* sent as 6e[+]38, above float32's range"):
        Wangni(1).compress(Vectors.dense([[1.0, 0.0], [3e38, -3e38]]), qsim.Key(0).words(0, 2))
    assert Wangni(2).quantize([3e38, -3e38], qsim.Key(0)).nonzeros == 2
    for bad in (0, -0.1, 1.01, math.nan, 2.0**-25, "0.5"):
        with pytest.raises(ValueError, match="p must be"):
            Bernoulli(bad)
    for bad in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="threshold must be a finite number above 0"):
            HardThreshold(bad)
    for make in (RandK, TopK, Wangni):
        with pytest.raises(ValueError, match="k must be a whole number of at least 1"):
            make(0)
    with pytest.raises(ValueError, match="did you mean 'drawn'"):
        RandK(1, "draw")


@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0, 3.7, 1000.3, 2.0**24, *np.random.default_rng(0).uniform(1, 99, 9)])
def test_the_largest_number_that_can_be_scaled(factor: float) -> None:
    largest = largest_scalable(factor)
    with np.errstate(over="ignore"):
        above = np.nextafter(largest, np.float32(np.inf))
        assert np.isfinite(np.float32(float(largest) * factor))
        assert not np.isfinite(np.float32(float(above) * factor))
    require_scalable(Vectors.dense([largest, -largest]), factor)
    if np.isfinite(above):
        with pytest.raises(NotFiniteError, match="coordinate 1"):
            require_scalable(Vectors.dense([largest, -above]), factor)


def test_reading_leaves_the_message_as_it_is() -> None:
    keys, drawn = qsim.Key(3).words(0, 2), RandK(4, "drawn")
    message = drawn.compress(Vectors.dense(np.arange(16, dtype=np.float32).reshape(2, 8) % 3), keys)
    before = message.value.tolist()
    first, again = (drawn.decompress(message, keys) for _ in range(2))
    assert 0.0 in before
    assert message.value.tolist() == before
    assert first == again


def test_edges() -> None:
    """Zero vectors, one coordinate, subnormal and huge entries."""
    for compressor in EVERY:
        keys = qsim.Key(1).words(0, 1)
        for v in ([0.0] * 9, [0.0], [0.0, -0.0]):
            message = compressor.compress(Vectors.dense(v), keys)
            assert message.nonzeros == 0
            assert compressor.decompress(message, keys) == Vectors.dense(v) or not message.nonzeros
            assert not compressor.decompress(message, keys).to_dense().any()
    for x in (3e38, -3e38, 1e-45, -1e-40, 1.0):
        for compressor in (RandK(1), RandK(2), TopK(1), Bernoulli(1), Wangni(1), HardThreshold(1e-45)):
            assert compressor.quantize([x], qsim.Key(1)).vectors().to_dense().tolist() == [[np.float32(x)]]
        for compressor in (TopK(5), HardThreshold(1e-45), Wangni(4)):
            message = compressor.quantize([0, x, 0, x, 0, 0, -x], qsim.Key(1))
            assert message.vectors().to_dense().tolist() == [[0, np.float32(x), 0, np.float32(x), 0, 0, np.float32(-x)]]


def test_float64_is_selected_as_float32() -> None:
    """And sent as it is, but for `Wangni` (`test_float64.py`)."""
    v = np.random.default_rng(3).standard_normal(40)
    for compressor in EVERY:
        keys = qsim.Key(1).words(0, 1)
        narrow = compressor.compress(Vectors.dense(v.astype(np.float32)), keys)
        found = compressor.compress(Vectors.dense(v), keys)
        if not isinstance(found, Floats | SharedSupport):
            assert found == narrow
            continue
        assert np.array_equal(found.offsets, narrow.offsets)
        assert isinstance(found, SharedSupport) or np.array_equal(found.index, narrow.index)
        np.testing.assert_allclose(found.value, narrow.value, rtol=2.0**-22)
        assert found.value.dtype == (np.float32 if isinstance(compressor, Wangni) else np.float64)


# Unbiased ones: each coordinate is kept as often as it should, and then as what it should.


@given(vectors, sizes, st.floats(2.0**-24, 1))
def test_means_over_the_uniforms_are_exact_but_for_float32(v: np.ndarray, k: int, p: float) -> None:
    """What is kept is divided by the number of uniforms that keep it, over 2^24."""
    t = bernoulli.certain_magnitude(v, k)
    used = Bernoulli(p).used
    for x in v[np.abs(v) > 1e-30].tolist():
        assert used * float(np.float32(x / used)) == pytest.approx(x, rel=2**-24 + 1e-15)
        steps = math.ceil(min(abs(x) * (2.0**24 / t), 2.0**24)) if t else 2**24
        assert steps / 2**24 * float(np.float32(x * (2**24 / steps))) == pytest.approx(x, rel=2**-24 + 1e-15)
    assert abs(used - p) <= 2**-25


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    "compressor", [RandK(30), RandK(30, "drawn"), Bernoulli(0.3), Bernoulli(0.99), Wangni(20), Wangni(70)], ids=repr
)
def test_coordinates_are_kept_with_their_probabilities(compressor, stored: bool) -> None:
    """20,000 keys: how often each of 80 coordinates is kept is binomial, with a probability known exactly.

    False alarms: a count is outside its bounds with probability below 1e-12, one of the 80 in these 12 tests with
    below 1e-9. Power: a probability of 1/2 that is off by 0.04 is found with probability 0.9999, one of 0.01 that is
    off by 0.008 with 0.997. With the probabilities the mean and the variance are right: they follow exactly.
    """
    keys, n = 20_000, 80
    v = np.random.default_rng(1).standard_normal(n).astype(np.float32)
    v[:4] = [1, -1, 1e-3, 10]
    words = qsim.Key(11).words(0, keys)
    batch = tiled(v, keys)
    if stored:
        batch = Vectors(n, batch.offsets, np.tile(np.arange(n, dtype=np.int32), keys), batch.value)
    found = compressor.decompress(compressor.compress(batch, words), words)
    if isinstance(compressor, Wangni):
        p = np.minimum(1, np.abs(v) / bernoulli.certain_magnitude(v, compressor.k))
        p = np.ceil(p * 2**24) / 2**24
    else:
        p = np.full(n, compressor.expected_nonzeros(v) / n)
    assert np.allclose(found.value, (v / p)[found.index], rtol=1e-6)
    counts = np.bincount(found.index, minlength=n)
    assert (binom.cdf(counts, keys, p) > 5e-13).all()
    assert (binom.sf(counts - 1, keys, p) > 5e-13).all()
    exact = (v.astype(np.float64) ** 2 * (1 / p - 1)).sum()
    assert compressor.exact_variance(v) == pytest.approx(exact, rel=1e-5)
    assert compressor.expected_nonzeros(v) == pytest.approx(p.sum(), rel=1e-5)


@given(st.integers(1, 5000), words)
def test_coordinates_are_kept_independently_in_every_strip(n: int, word: int) -> None:
    """Long rows with a remainder: bit for bit the oracle's, dense, where hashing takes a short cut."""
    v = np.ones(n, np.float32)
    assert entries(Bernoulli(0.05).quantize(v, of_word(word))) == bernoulli.bernoulli(v, 0.05, word)


@pytest.mark.parametrize("n", [1, 64, 100])
def test_the_uniform_at_the_bound_keeps_nothing(n: int) -> None:
    """Coordinate i is kept for u < p 2^24, and the uniform that is equal is the first that is not: exactly."""
    for word, i in itertools.product(range(1, 6), (0, n - 1)):
        v, key, u = np.ones(n, np.float32), of_word(word), hashing.uniform24(i, word)
        for batch in (Vectors.dense(v), sparse(v, np.arange(n))):
            for steps, kept in ((u, False), (u + 1, True)):
                message = Bernoulli(steps / 2**24).compress(batch, np.array([key.word], np.uint64))
                assert (i in message.index.tolist()) == kept
        pair = np.zeros(n + 1, np.float32)  # with n large ones: Wangni keeps i with probability u / 2^24
        pair[i], pair[i - 1] = u / 2**24, 1 - u / 2**24
        assert i not in Wangni(1).quantize(pair, key).index.tolist()
        pair[i], pair[i - 1] = (u + 1) / 2**24, 1 - (u + 1) / 2**24
        assert i in Wangni(1).quantize(pair, key).index.tolist()


def test_coordinates_past_65536() -> None:
    v = np.ones(70_003, np.float32)
    dense = Bernoulli(0.05).quantize(v, of_word(7))
    assert Bernoulli(0.05).compress(sparse(v, np.arange(v.size)), np.array([7], np.uint64)) == dense
    kept = [i for i in range(65_500, v.size) if hashing.uniform24(i, 7) < round(0.05 * 2**24)]
    assert dense.index[dense.index >= 65_500].tolist() == kept


# Certificates: never exceeded, and attained.


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-1, 1)), st.integers(1, 70), st.floats(1e-6, 1))
def test_errors_are_within_the_certificates(v: np.ndarray, k: int, p: float) -> None:
    square = float(v @ v) * (1 + 1e-9)
    for compressor in (RandK(k), Bernoulli(p), Wangni(k)):
        assert compressor.exact_variance(v) <= compressor.variance(v.size) * square + 1e-300
        assert compressor.contraction(v.size) is None
    assert TopK(k).exact_variance(v) <= (1 - TopK(k).contraction(v.size)) * square + 1e-12 * square
    assert TopK(k).variance(v.size) is None
    assert Wangni(k).exact_variance(v) <= RandK(k).exact_variance(v) * (1 + 1e-9) + 1e-300


@given(st.integers(1, 80), st.integers(1, 90))
def test_certificates_are_attained(n: int, k: int) -> None:
    """By vectors of one magnitude."""
    v = np.where(np.arange(n) % 3, 2.0, -2.0)
    for compressor in (RandK(k), Wangni(k), Bernoulli(min(1, k / n))):
        assert compressor.exact_variance(v) == pytest.approx(compressor.variance(n) * 4 * n, rel=1e-9, abs=1e-9)
        assert compressor.variance(n) == pytest.approx(max(0, n / k - 1), rel=1e-5, abs=1e-5)
    delta = TopK(k).contraction(n)
    assert delta == min(1, k / n)
    assert TopK(k).exact_variance(v) == pytest.approx((1 - delta) * 4 * n, abs=1e-9)


@given(vectors, sizes)
def test_topk_loses_what_it_says(v: np.ndarray, k: int) -> None:
    kept = TopK(k).quantize(v, qsim.Key(0)).vectors().row(0).astype(np.float64)
    lost = float(((v - kept) ** 2).sum())
    assert lost == pytest.approx(TopK(k).exact_variance(v), rel=1e-12)
    assert np.count_nonzero(kept) == TopK(k).expected_nonzeros(v)


@given(vectors, sizes, sizes)
def test_more_is_kept_of_the_large(v: np.ndarray, k: int, more: int) -> None:
    """Wangni's probabilities are optimal: moving some of one to another coordinate gives no less variance."""
    v = v[np.abs(v) > 1e-20].astype(np.float64)
    if v.size <= k or not v.size:
        return
    p = np.minimum(1, np.abs(v) / bernoulli.certain_magnitude(v, k))
    assert p.sum() == pytest.approx(k)
    least = Wangni(k).exact_variance(v)
    for shift in (0.01, 0.3):
        other = (1 - shift) * p + shift * k / v.size
        assert (v**2 * (1 / other - 1)).sum() >= least * (1 - 1e-9) - 1e-9 * float(v @ v)


@pytest.mark.parametrize("compressor", EVERY, ids=repr)
def test_they_print_as_what_makes_them(compressor) -> None:
    assert eval(repr(compressor)) == compressor


def test_a_sum_of_magnitudes_up_to_the_largest_float32_can_be_sent() -> None:
    """2^127 and what is left to float32's largest number: whichever is kept is sent as their sum, but for rounding."""
    largest = float(np.finfo(np.float32).max)
    v = np.float32([2.0**127, largest - 2.0**127])
    for seed in range(20):
        value = Wangni(1).quantize(v, qsim.Key(seed)).value
        assert np.isfinite(value).all()
        assert value == pytest.approx(largest, rel=2.0**-22)
