"""Compressors that round to levels: what all of them keep, message and edges."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import qsim
from helpers.vectors import decoded, levels_of, sparse
from oracles import norms, powers, quantize
from qsim.batch import Floats, Levels, Vectors
from qsim.codecs import Dense, Elias, SparseFloats, Varint
from qsim.compressors import (
    NUQSGD,
    QSGD,
    Bucketed,
    Compressor,
    ErrorFeedback,
    NaturalCompression,
    NaturalDithering,
    NotFiniteError,
    RoundedFloats,
    Scaled,
    SubtractiveDither,
    TernGrad,
)
from qsim.keys import of_word

ALL: list[Compressor] = [
    QSGD(3, 1),
    QSGD(4, 1.5),
    QSGD(2, 2.7),
    QSGD(200, 3),
    QSGD(2, 40),
    TernGrad(),
    NaturalCompression(),
    NaturalDithering(1),
    NaturalDithering(5),
    NaturalDithering(9, "max"),
    NaturalDithering(30, 1),
    NUQSGD(4),
    SubtractiveDither(1),
    SubtractiveDither(100, "max"),
    SubtractiveDither(2**23, 1.5),
    Bucketed(QSGD(3), 7),
    Bucketed(TernGrad(), 1),
    Bucketed(NaturalDithering(4, 3), 64),
    Bucketed(SubtractiveDither(5), 10),
    Bucketed(Scaled(QSGD(1)), 9),
    RoundedFloats("float16"),
    RoundedFloats("bfloat16"),
    RoundedFloats("float16", "nearest"),
    RoundedFloats("bfloat16", "nearest"),
]
each = pytest.mark.parametrize("compressor", ALL, ids=repr)
numbers = st.one_of(st.just(0.0), st.floats(-(2.0**12), 2.0**12, width=32), st.integers(-4, 4).map(float))
vectors = arrays(np.float32, st.integers(1, 80), elements=numbers)
words = st.integers(0, 2**64 - 1)
norm_names = st.sampled_from(["l2", "max", 1, 1.5, 2, 3, 7.5, 16])


@each
def test_it_prints_as_the_code_that_makes_it(compressor: Compressor) -> None:
    assert eval(repr(compressor)) == compressor


@given(st.sampled_from(ALL), st.lists(vectors, min_size=1, max_size=4), words, st.data())
def test_dense_and_sparse_alone_or_in_a_batch_give_one_message(compressor, rows, word, data) -> None:
    n = max(v.size for v in rows)
    block = np.zeros((len(rows), n), np.float32)
    for row, v in zip(block, rows, strict=True):
        row[: v.size] = v
    keys = of_word(word).words(0, len(rows))
    together = compressor.compress(Vectors.dense(block), keys)
    values = compressor.decompress(together, keys).to_dense()
    assert decoded(compressor, Vectors.dense(block.astype(np.float64)), keys).tobytes() == values.tobytes()
    parts, stored = [], []
    for b, row in enumerate(block):
        stored.append(sparse(row, np.flatnonzero((row != 0) | data.draw(arrays(np.bool_, n)))))  # zeros change nothing
        parts.append(compressor.compress(stored[-1], keys[b : b + 1]))
        assert np.array_equal(compressor.decompress(parts[-1], keys[b : b + 1]).to_dense()[0], values[b])
    whole = Floats.join([Floats.of(v) for v in stored]).vectors()
    assert np.array_equal(decoded(compressor, whole, keys), values)
    if compressor.emits is Levels:
        assert together == Levels.join(parts) == compressor.compress(whole, keys)


@each
def test_irregular_rows_of_a_batch(compressor: Compressor) -> None:
    """Numbers that every compressor rounds at random; several strips a row, dense and sparse."""
    block = np.random.default_rng(8).standard_normal((3, 150)).astype(np.float32)
    block[:, ::4] = 0
    keys = qsim.Key(6).words(0, 3)
    together = decoded(compressor, Vectors.dense(block), keys)
    stored = [sparse(row, np.flatnonzero(row)) for row in block]
    whole = Floats.join([Floats.of(v) for v in stored]).vectors()
    assert np.array_equal(decoded(compressor, whole, keys), together)
    for b, v in enumerate(stored):
        assert np.array_equal(decoded(compressor, v, keys[b : b + 1])[0], together[b])
        assert np.array_equal(decoded(compressor, Vectors.dense(block[b]), keys[b : b + 1])[0], together[b])


@each
def test_one_key_one_message_at_large_coordinates(compressor: Compressor) -> None:
    v = np.zeros(200_000, np.float32)
    kept = np.array([3, 65_535, 65_536, 65_537, 131_072, 199_999])
    v[kept] = [1, -2, 3, -4, 5, 6]
    keys = qsim.Key(4).words(0, 1)
    alone = decoded(compressor, sparse(v, kept), keys)
    assert np.array_equal(decoded(compressor, Vectors.dense(v), keys), alone)
    assert compressor.keeps_sparse == (np.count_nonzero(alone) <= 6)


def test_whole_strips_of_coordinates_beyond_2_to_the_31() -> None:
    index = np.linspace(5, 2**33 - 1, 200).astype(np.int64)
    value = np.ldexp(np.float32(1), np.arange(200) % 9) * np.float32([1, -1] * 100)
    value[::5] = 0
    v, keys = Vectors(2**33, np.array([0, 200]), index, value), np.array([9], np.uint64)
    found = NaturalCompression().decompress(NaturalCompression().compress(v, keys), keys)
    assert (found.index.tolist(), found.value.tolist()) == (index[value != 0].tolist(), value[value != 0].tolist())


def test_coordinates_beyond_2_to_the_31() -> None:
    n, index = 2**33, np.array([5, 2**31 + 7, 2**33 - 1])
    v = Vectors(n, np.array([0, 3]), index, np.float32([4, -8, 2]))
    keys = np.array([9], np.uint64)
    for compressor in (NaturalCompression(), NaturalDithering(30, "max"), Bucketed(TernGrad(), 2**30)):
        found = compressor.decompress(compressor.compress(v, keys), keys)
        kept = np.isin(index, found.index)
        assert found.value[: kept.sum()].tolist() == v.value[kept].tolist()
        assert kept.all() or compressor.variance(4) is not None
    assert Bucketed(TernGrad(), 2**30).compress(v, keys).scale.tolist() == [4, 0, 8, 0, 0, 0, 0, 2]


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_not_finite_is_refused_and_located(compressor: Compressor, bad: float) -> None:
    v = np.ones((3, 70))
    v[1, 37] = bad
    keys = qsim.Key(0).words(0, 3)
    for batch in (Vectors.dense(v), Vectors(70, np.arange(0, 211, 70), np.tile(np.arange(70), 3), v.reshape(-1))):
        with pytest.raises(NotFiniteError, match="row 1 .*coordinate 37") as caught:
            compressor.compress(batch, keys)
        assert caught.value.row == 1


@each
def test_zero_vectors_and_single_entries(compressor: Compressor) -> None:
    keys = qsim.Key(1).words(0, 1)
    for n in (1, 5, 64, 100):
        assert not decoded(compressor, Vectors.dense(np.zeros(n)), keys).any()
    exact = not isinstance(compressor, SubtractiveDither | Bucketed)
    for x in (1.0, -4.0, 2.0**-13, 2.0**15):
        for v in (np.float32([x]), np.float32([0, x, 0])):
            found = decoded(compressor, Vectors.dense(v), keys)[0]
            assert found.shape == v.shape
            if exact:
                assert found.tolist() == v.tolist()


@pytest.mark.parametrize(
    "compressor", [c for c in ALL if not isinstance(c, RoundedFloats | NaturalCompression)], ids=repr
)
@pytest.mark.parametrize("exponent", [-149, -140, -100, -60, 60, 100, 119])
def test_tiny_and_huge_vectors_have_the_same_levels(compressor: Compressor, exponent: int) -> None:
    """Levels depend on ratios alone, subnormal entries included. Powers of two, so that float32 holds them exactly."""
    v, key = np.float32([4, -8, 0, 2, 1, 1, 64, -1]), qsim.Key(3)
    usual, moved = compressor.quantize(v, key), compressor.quantize(np.ldexp(v, exponent), key)
    assert isinstance(usual, Levels)
    norm = np.ldexp(usual.scale.astype(np.float64), exponent)
    if np.array_equal(moved.scale, norm):  # below the normal range the norm is rounded up further
        assert levels_of(moved) == levels_of(usual)
    else:
        assert exponent <= -140
        assert (moved.scale >= norm).all()
        assert np.isfinite(moved.vectors().value).all()


@given(vectors, norm_names)
def test_norms_of_numbers_are_the_oracles(v: np.ndarray, norm: str | float) -> None:
    scale = QSGD(3, norm).quantize(v, qsim.Key(0)).scale[0]
    if norm in ("l2", 2):
        expected = quantize.l2_norm(list(range(v.size)), v)
    elif norm == "max":
        expected = float(np.abs(v).max())
    else:
        expected = norms.lp_norm(list(range(v.size)), v.tolist(), norm)
    assert scale == quantize.up_to_float32(expected)


@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(-1, 1, width=32)), st.floats(1, 40))
def test_norms_of_any_power(v: np.ndarray, p: float) -> None:
    """Also of numbers whose powers are too large or too small for float64: the same norm, up to its rounding."""
    largest = float(np.abs(v).max())
    true = largest * sum((abs(x) / largest) ** p for x in v.tolist()) ** (1 / p) if largest else 0.0
    for exponent in (0, 100, -100):
        moved = np.ldexp(v, exponent)
        if np.array_equal(np.ldexp(moved, -exponent), v):
            scale = float(QSGD(1, p).quantize(moved, qsim.Key(0)).scale[0])
            least = np.ldexp(true, exponent)
            assert least * (1 - 1e-13) <= scale <= least * (1 + 2**-23 + 1e-13) + 2**-149


@given(vectors, st.sampled_from([1.0, 1.5, 3.0, 8.5]))
def test_norms_are_summed_in_lanes_of_the_coordinate(v: np.ndarray, p: float) -> None:
    """The last bits of float64 too, dense and sparse: rounded to float32, a change of order would hardly show."""
    from qsim.kernels.norms import lp_norms

    expected = norms.lp_norm(list(range(v.size)), v.tolist(), p)
    kept = sparse(v, np.flatnonzero(v))
    for batch in (Vectors.dense(v), kept):
        found = lp_norms(batch.offsets, batch.index, batch.value, p).tolist()
        assert found == [expected]


@pytest.mark.parametrize("p", [1.0, 1.5, 3.0, 8.5])
def test_norms_of_irregular_numbers_to_the_last_bit(p: float) -> None:
    """Where every order of summation rounds otherwise; sparse with gaps, several rows."""
    from qsim.kernels.norms import lp_norms

    block = np.random.default_rng(7).standard_normal((3, 1001)).astype(np.float32)
    block[:, ::3] = 0
    block[1, 500:] = 0
    expected = [norms.lp_norm(list(range(1001)), row.tolist(), p) for row in block]
    stored = Floats.join([Floats.of(sparse(row, np.flatnonzero(row))) for row in block]).vectors()
    for batch in (Vectors.dense(block), stored):
        assert lp_norms(batch.offsets, batch.index, batch.value, p).tolist() == expected


@pytest.mark.parametrize("p", [1.3, 17.3, 40.0, 200.0, 1900.0])
def test_powers_are_within_the_stated_bound(p: float) -> None:
    """From 2^-20 to 1, and most of all near 2^-1/2, where the series of the logarithm is longest."""
    from qsim.kernels.norms import _to_powers

    random = np.random.default_rng(5)
    near = np.concatenate([0.5**0.5 * (1 + step * np.logspace(-15, -2, 40)) for step in (-1, 1)])
    x = np.concatenate([near, near / 2, random.uniform(0.7, 0.715, 150), 2.0 ** -random.uniform(0, 20, 50), [1.0]])
    x = x[-np.log2(x) * p < 999]
    found = x.copy()
    _to_powers(found, p)
    with localcontext() as context:
        context.prec = 40
        for one, power in zip(x.tolist(), found.tolist(), strict=True):
            true = (Decimal(one).ln() * Decimal(p)).exp()
            allowed = (1.5 * p * abs(np.log2(one)) + 3) * 2.0**-52
            assert abs(float(Decimal(power) / true - 1)) <= allowed, one


def test_number_2_is_l2() -> None:
    v = np.random.default_rng(1).standard_normal(100)
    assert QSGD(4, 2).quantize(v, qsim.Key(0)) == QSGD(4).quantize(v, qsim.Key(0))
    assert QSGD(4, 2).variance(100) == QSGD(4).variance(100)


@pytest.mark.parametrize("cls", [QSGD, NaturalDithering, SubtractiveDither])
def test_bad_norms_are_refused(cls: type[QSGD]) -> None:
    for bad in (0.5, -1, float("inf"), float("nan"), None, True, 10**400):
        with pytest.raises(
            ValueError, match=r"norm( must be a text or a number|.* must be a finite number of at least 1)"
        ):
            cls(4, bad)
    with pytest.raises(ValueError, match="did you mean 'max'"):
        cls(4, "maxx")


@pytest.mark.parametrize(
    ("cls", "most"), [(NaturalDithering, 126), (NUQSGD, 125), (SubtractiveDither, 2**23), (QSGD, 2**23)]
)
def test_bad_levels_are_refused(cls: type[QSGD], most: int) -> None:
    cls(most)
    for bad in (0, most + 1, 1.5, True, None):
        with pytest.raises(ValueError, match=f"levels must be a whole number( from 1 to {most})?, found"):
            cls(bad)


@pytest.mark.parametrize("norm", ["l2", 1, 1.5])
def test_norms_above_float32_are_refused(norm: str | float) -> None:
    for compressor in (QSGD(4, norm), NaturalDithering(4, norm), SubtractiveDither(4, norm)):
        with pytest.raises(NotFiniteError, match="row 1 .*above float32's range"):
            compressor.compress(Vectors.dense([np.ones(4), np.full(4, 3e38), np.ones(4)]), qsim.Key(0).words(0, 3))


@each
def test_what_goes_by_bytes_is_what_was_compressed(compressor: Compressor) -> None:
    v = Vectors.dense(np.random.default_rng(2).standard_normal((3, 40)).astype(np.float32))
    keys = qsim.Key(5).words(0, 3)
    expected = decoded(compressor, v, keys)
    for codec in (None, Varint(), Elias("gamma"), SparseFloats(), Dense()):
        channel = qsim.Channel(compressor, codec)
        assert np.array_equal(channel.unpack(*channel.pack(v, keys), keys).to_dense(), expected), codec


@each
def test_scaled_and_remembered(compressor: Compressor) -> None:
    """Scaled multiplies what is decoded; error feedback keeps what was not sent."""
    if compressor.variance(1) is None:
        return
    v = Vectors.dense(np.random.default_rng(2).standard_normal((2, 40)).astype(np.float32))
    keys = qsim.Key(5).words(0, 2)
    wrapped = Scaled(compressor)
    assert decoded(wrapped, v, keys) == pytest.approx(decoded(compressor, v, keys) * wrapped.contraction(40), rel=1e-6)
    remembering = ErrorFeedback(wrapped)
    memory = remembering.memory(qsim.batch.Support(40, v.offsets, None))
    sent = remembering.decompress(remembering.compress(v, keys, memory), keys)
    remembering.on_delivered(memory, sent)
    left = memory.vectors("error").to_dense()
    assert left + sent.to_dense() == pytest.approx(v.to_dense(), abs=1e-5)


@given(
    st.sampled_from([QSGD(3), NaturalDithering(4, 1), TernGrad(), NaturalCompression(), Bucketed(QSGD(2), 7)]), vectors
)
def test_closed_forms_of_scaled_ones(compressor: Compressor, v: np.ndarray) -> None:
    """delta Q is off by delta^2 times the variance, and by (1 - delta) of v."""
    wrapped = Scaled(compressor)
    delta, square = wrapped.contraction(v.size), float(v.astype(np.float64) @ v.astype(np.float64))
    expected = delta**2 * compressor.exact_variance(v) + (1 - delta) ** 2 * square
    for around in (wrapped, ErrorFeedback(wrapped)):
        assert around.exact_variance(v) == pytest.approx(expected, rel=1e-12)
        assert around.expected_nonzeros(v) == compressor.expected_nonzeros(v)
    assert wrapped.exact_variance(v) <= (1 - delta) * square * (1 + 1e-6) + 1e-30


def test_powers_of_two_are_read_as_the_oracle_says() -> None:
    """Every level, with a scale that is no power of two, which multiplies once and rounds once."""
    keys = np.zeros(1, np.uint64)
    every = np.arange(-254, 255)
    message = Levels.single(every, scale=0.7, s=254)
    found = NaturalCompression().decompress(message, keys).to_dense()[0]
    scale = float(np.float32(0.7))
    assert found.tolist() == [float(np.float32(powers.exponent_value(level) * scale)) for level in every.tolist()]
    message = Levels.single(np.arange(-9, 10), scale=0.7, s=9)
    found = NaturalDithering(9).decompress(message, keys).to_dense()[0]
    assert found.tolist() == [powers.power_value(level, scale, 9) for level in range(-9, 10)]


def test_the_top_of_natural_compression() -> None:
    compressor, key = NaturalCompression(), qsim.Key(0)
    assert compressor.quantize([2.0**127, -(2.0**127), 2.0**-126], key).level.tolist() == [254, -254, 1]
    above = float(np.nextafter(np.float32(2.0**127), np.float32(np.inf)))
    with pytest.raises(NotFiniteError, match=r"row 0 of the batch holds -1.701\S+ at coordinate 1: there is no power"):
        compressor.quantize([1.0, -above], key)


def test_tiny_entries_are_kept_in_proportion() -> None:
    """Below 2^-126, natural compression keeps |v_i| / 2^-126 of them."""
    assert NaturalCompression().expected_nonzeros([2.0**-127, -(2.0**-128), 2.0**-126, 1, 0]) == 2.75


def test_what_is_around_a_compressor_says_what_it_says() -> None:
    for inner in (QSGD(3), SubtractiveDither(4), NaturalCompression(), RoundedFloats("bfloat16")):
        for around in (Scaled(inner), ErrorFeedback(Scaled(inner))):
            assert around.emits is inner.emits
            assert (around.dense, around.keeps_sparse) == (inner.dense, inner.keeps_sparse)
        if inner.emits is Levels:
            assert (Bucketed(inner, 3).dense, Bucketed(inner, 3).keeps_sparse) == (inner.dense, inner.keeps_sparse)


def test_relatives() -> None:
    v, key = np.random.default_rng(3).standard_normal(200), qsim.Key(7)
    assert TernGrad().quantize(v, key) == QSGD(1, "max").quantize(v, key)
    assert TernGrad().variance(100) == 4.5
    assert NUQSGD(3).quantize(v, key) == NaturalDithering(4).quantize(v, key)
    assert NUQSGD(3).variance(50) == NaturalDithering(4).variance(50)
    assert NUQSGD(3).quantize(v, key).s == 4
