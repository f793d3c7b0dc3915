"""QSGD where hardly any coordinate is drawn: the blocks that are thinned, bit for bit and in law."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2

import qsim
from helpers.vectors import levels_of, sparse
from oracles import hashing, quantize
from qsim.batch import Levels, Vectors
from qsim.compressors import QSGD, Compressor, TernGrad
from qsim.keys import of_word

words = st.integers(0, 2**64 - 1)
fills = st.lists(st.sampled_from(["even", "normal", "few", "enough", "large", "zero"]), min_size=2, max_size=3)


def block(fill: str, seed: int) -> np.ndarray:
    """2048 numbers: all of one magnitude, normal, 511 or 512 that are not zero, one that is large, or none."""
    rng = np.random.default_rng(seed)
    v = np.where(rng.random(2048) < 0.5, -1.0, 1.0)
    if fill == "normal":
        v = rng.standard_normal(2048) / 4
    if fill in ("few", "enough"):
        v[rng.permutation(2048)[511 if fill == "few" else 512 :]] = 0
    if fill == "large":
        v[rng.integers(2048)] = 40
    return np.float32(v if fill != "zero" else 0 * v)


def thinned(v: np.ndarray, s: int, norm: str = "l2") -> list[int]:
    """Which blocks of a vector are thinned."""
    scale = QSGD(s, norm).quantize(v, qsim.Key(0)).scale[0]
    blocks = [v[at : at + 2048] for at in range(0, v.size, 2048)]
    rare = [np.count_nonzero(b) >= 512 and quantize.position(np.abs(b).max(), scale, s) <= 2**-6 for b in blocks]
    return [at for at, yes in enumerate(rare) if yes and v.size >= 4096 * s * s]


@settings(max_examples=25)
@given(fills, st.integers(0, 2047), words, st.booleans())
def test_message_is_the_oracles(fills: list[str], rest: int, word: int, philox: bool) -> None:
    """Blocks of all kinds and a part of one, so that thinned ones and others follow on each other."""
    parts = [block(fill, word % 1000 + at) for at, fill in enumerate(fills)]
    v = np.concatenate([*parts, block("even", 1)[:rest]])
    compressor = qsim.Philox(QSGD(1)) if philox else QSGD(1)
    with pytest.MonkeyPatch.context() as patch:
        if philox:
            patch.setattr(hashing, "draw32", hashing.philox32)
        scale, expected = quantize.qsgd(list(range(v.size)), v, 1, word)
    message = compressor.quantize(v, of_word(word))
    assert message.scale.tolist() == [scale]
    assert levels_of(message) == expected


def test_the_rule_at_its_edges() -> None:
    """The length of the row, the largest t and the number of non-zeros, each one step on either side."""
    even = np.ones(4096, np.float32)
    assert thinned(even, 1) == [0, 1]  # t is 2^-6 everywhere
    assert thinned(even[:4095], 1) == []
    assert thinned(np.ones(4 * 4096, np.float32), 2) == list(range(8))
    assert thinned(np.ones(4 * 4096 - 1, np.float32), 2) == []
    few, enough = (np.concatenate([block(kind, 3), block("even", 1), np.float32([5000])]) for kind in ("few", "enough"))
    assert (thinned(few, 1), thinned(enough, 1)) == ([1], [0, 1])
    one = np.concatenate([even, np.float32([64])])
    above = one.copy()
    above[7] = np.nextafter(np.float32(1), np.float32(2))
    assert (thinned(one, 1, "max"), thinned(above, 1, "max")) == ([0, 1], [1])
    for norm, v in (("l2", even), ("l2", even[:4095]), ("l2", few), ("l2", enough), ("max", one), ("max", above)):
        for word in range(20):
            _, expected = quantize.qsgd(list(range(v.size)), v, 1, word, norm)
            assert levels_of(QSGD(1, norm).quantize(v, of_word(word))) == expected


@settings(max_examples=30)
@given(st.lists(fills, min_size=1, max_size=3), st.integers(1, 2048), words, st.data())
def test_dense_and_sparse_alone_or_in_a_batch_give_one_message(rows, cut, word, data) -> None:
    """Rows that end in a block which the next row begins with, stored zeros, and blocks begun in the midst."""
    n = 3 * 2048 - cut + 1
    made = [np.concatenate([block(fill, at) for at, fill in enumerate([*fills, "even"][:3])])[:n] for fills in rows]
    matrix, keys = np.stack(made), of_word(word).words(0, len(rows))
    matrix[0, : data.draw(st.sampled_from([0, 1500, 2048, 3000]))] = 0
    compressor: Compressor = data.draw(st.sampled_from([QSGD(1), TernGrad(), QSGD(1, 1)]))
    together = compressor.compress(Vectors.dense(matrix), keys)
    stored = [np.flatnonzero((row != 0) | (np.arange(n) % data.draw(st.integers(2, 9)) == 0)) for row in matrix]
    offsets = np.cumsum([0, *map(len, stored)], dtype=np.int64)
    value = np.concatenate([row[kept] for row, kept in zip(matrix, stored, strict=True)])
    assert compressor.compress(Vectors(n, offsets, np.concatenate(stored).astype(np.int32), value), keys) == together
    alone = [
        compressor.compress(sparse(row, k), keys[b : b + 1])
        for b, (row, k) in enumerate(zip(matrix, stored, strict=True))
    ]
    assert Levels.join(alone) == together


def test_blocks_at_large_coordinates() -> None:
    """Beyond 2^32, where draws see the low 32 bits, and in rows of which hardly anything is stored."""
    n, first = 2**33, 2**32 + 5 * 2048
    index = np.concatenate([[3, 700], first + np.arange(100, 900), [n - 1]])
    value = np.where(index % 3, np.float32(1), np.float32(-1))
    value[-1] = 2000
    kept = 0
    for word in range(30):
        message = QSGD(1).compress(Vectors(n, np.array([0, index.size]), index, value), np.array([word], np.uint64))
        assert levels_of(message) == quantize.qsgd(index.tolist(), value, 1, word, n=n)[1]
        kept += message.nonzeros - 1
    assert kept > 0


@given(st.floats(0, 2.0**-6, width=32), st.integers(6, 24))
def test_exact_mean_over_the_coins_and_uniforms(t: float, j: int) -> None:
    """2^-j times the share of 24-bit uniforms below t 2^j."""
    if t > 2.0**-j:
        return
    mean = Fraction(math.ceil(Fraction(t) * 2 ** (24 + j)), 2 ** (24 + j))
    assert 0 <= mean - Fraction(t) < Fraction(1, 2 ** (24 + j))


@pytest.mark.parametrize("exponent", [-149, -140, -100, 100, 120])
def test_tiny_and_huge_vectors_have_the_same_levels(exponent: int) -> None:
    v, key = np.concatenate([block("even", 1), block("even", 2), 64 * block("even", 3)[:9]]), qsim.Key(3)
    assert thinned(v, 1) == [0, 1]
    usual, moved = QSGD(1, "max").quantize(v, key), QSGD(1, "max").quantize(np.ldexp(v, exponent), key)
    assert levels_of(moved) == levels_of(usual)
    assert len(levels_of(usual)) > 30


def test_levels_are_drawn_with_their_probabilities_independently() -> None:
    """8,192 keys: how often each of 2048 coordinates is drawn, how many are drawn together, and which pairs.

    False alarms: a count of 2048 is outside its bounds with probability below 1e-13 each, 2e-10 for all; the two
    statistics of chi-square with below 1e-10 each. Power: t = 0.012, expected 98 times, is found with probability 0.9
    if it is off by 0.012 at one coordinate, and with 0.9999 by 0.001 at one coordinate in 32, as if a coin were wrong;
    a correlation of 0.01 between neighbours, or coordinates 32 or 64 apart, with 0.999.
    """
    keys, v = 8192, np.concatenate([block("normal", 5), block("even", 6), np.float32([70])])
    v[2048:4096] *= np.linspace(0.5, 1, 2048, dtype=np.float32)
    assert thinned(v, 1) == [0, 1]
    drawn = np.zeros((keys, 2048), np.int8)
    for first in range(0, keys, 1024):
        words = qsim.Key(11).fold(5).words(first, first + 1024)
        message = QSGD(1).compress(Vectors.dense(np.tile(v, (1024, 1))), words)
        row, inside = np.repeat(np.arange(1024), np.diff(message.offsets)), message.index // 2048 == 1
        drawn[first + row[inside], message.index[inside] - 2048] = message.level[inside]
    t = np.array([float(quantize.position(x, message.scale[0], 1)) for x in v[2048:4096].tolist()])
    assert (np.sign(drawn) * np.sign(v[2048:4096]) >= 0).all()
    counts = np.abs(drawn).sum(axis=0)
    assert (binom.cdf(counts, keys, t) > 5e-14).all()
    assert (binom.sf(counts - 1, keys, t) > 5e-14).all()
    deviation = (np.abs(drawn) - t) / np.sqrt(t * (1 - t))
    for lag in (1, 2, 32, 64, 1024):
        z = (deviation[:, lag:] * deviation[:, :-lag]).mean() * math.sqrt(keys * (2048 - lag))
        assert abs(z) < 7, lag
    total = np.abs(drawn).sum(axis=1)
    spread = float(((total - t.sum()) ** 2).sum() / (t * (1 - t)).sum())
    assert min(chi2.cdf(spread, keys), chi2.sf(spread, keys)) > 1e-10
    lanes = np.array([((counts - keys * t)[at::32] ** 2 / (keys * t * (1 - t))[at::32]).sum() for at in range(32)])
    assert chi2.sf(lanes.sum(), 2048) > 1e-10


def test_a_row_is_thinned_whatever_is_beside_it() -> None:
    """Rows of a batch that is short on average: one has enough numbers in a block, the others have none."""
    n, size = 4 * 4096, 901
    rng = np.random.default_rng(8)
    index = np.append(np.sort(rng.choice(2048, size - 1, replace=False)), n - 1).astype(np.int32)
    value = np.append(np.where(rng.random(size - 1) < 0.5, -1, 1), 100).astype(
        np.float32
    )  # so that t is small in the block
    alone = Vectors(n, np.array([0, size]), index, value)
    among = Vectors(n, np.concatenate([[0, 0], np.full(29, size)]), index, value)
    keys = qsim.Key(3).words(0, 30)
    assert size < 48 * keys.size
    one = qsim.QSGD(1).compress(alone, keys[1:2])
    assert one.level.size > 1
    many = qsim.QSGD(1).compress(among, keys)
    assert one.index.tolist() == many.index.tolist()
    assert one.level.tolist() == many.level.tolist()
