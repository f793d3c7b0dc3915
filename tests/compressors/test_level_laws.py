"""Compressors that round to levels: the law of each number, unbiased, and the variance within its bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, chi2

import qsim
from helpers import laws
from oracles import bits, dither, half_precision, hashing, powers, quantize
from qsim.batch import Levels, Vectors
from qsim.compressors import (
    NUQSGD,
    QSGD,
    Bucketed,
    Compressor,
    NaturalCompression,
    NaturalDithering,
    RoundedFloats,
    SubtractiveDither,
    TernGrad,
)

Draw = Callable[[int], float]


def value_of(compressor: Compressor, x: float, scale: float) -> Draw:
    """The number that x becomes, as a function of the 24-bit uniform, by the specification."""
    if isinstance(compressor, NaturalCompression):
        return lambda u: powers.exponent_value(powers.exponent_level(x, u))
    if isinstance(compressor, NaturalDithering):
        s = compressor.levels
        return lambda u: powers.power_value(powers.power_level(x, scale, s, u), scale, s)
    if isinstance(compressor, RoundedFloats):
        return lambda u: half_precision.half_value(x, compressor.format, u)
    if isinstance(compressor, SubtractiveDither):
        s = compressor.levels
        return lambda u: dither.dither_value(dither.dither_level(x, scale, s, u), scale, s, u)
    assert isinstance(compressor, QSGD)
    s = compressor.levels
    return lambda u: float(np.float32(quantize.level(x, np.float32(scale), s, u) * (scale / s)))


def scales(compressor: Compressor, v: np.ndarray) -> float:
    message = compressor.quantize(v, qsim.Key(0))
    return float(message.scale[0]) if isinstance(message, Levels) else 1.0


TWO_VALUED: list[Compressor] = [
    QSGD(3, 1),
    QSGD(4, 1.5),
    QSGD(200, 3),
    NaturalCompression(),
    NaturalDithering(1),
    NaturalDithering(5),
    NaturalDithering(9, "max"),
    NaturalDithering(40, 1.5),
    RoundedFloats("float16"),
    RoundedFloats("bfloat16"),
]
DITHERS = [SubtractiveDither(1), SubtractiveDither(7, "max"), SubtractiveDither(1000, 1.5), SubtractiveDither(2**23)]
two_valued = pytest.mark.parametrize("compressor", TWO_VALUED, ids=repr)
numbers = st.one_of(st.just(0.0), st.floats(-(2.0**12), 2.0**12, width=32), st.integers(-4, 4).map(float))
small = st.floats(-(2.0**-10), 2.0**-10, width=32)
vectors = arrays(np.float32, st.integers(1, 80), elements=st.one_of(numbers, small))
words = st.integers(0, 2**64 - 1)


@given(st.sampled_from([*TWO_VALUED, *DITHERS]), vectors, words)
def test_every_number_is_the_oracles(compressor: Compressor, v: np.ndarray, word: int) -> None:
    keys = np.array([word], np.uint64)
    found = compressor.decompress(compressor.compress(Vectors.dense(v), keys), keys).to_dense()[0]
    scale = scales(compressor, v)
    expected = [
        value_of(compressor, x, scale)(hashing.uniform24(c, word)) if scale else 0.0 for c, x in enumerate(v.tolist())
    ]
    assert found.tolist() == expected


# Unbiased: exactly over the discrete uniforms, then over the random stream.


@given(vectors)
def test_exact_mean_over_the_uniforms(v: np.ndarray) -> None:
    """Natural compression and bfloat16 are exact, subnormal entries included; float16 is above 2^-14."""
    for x in [*v.tolist(), float(np.float32(1e-40)), -(2.0**-149), float(np.float32(5e-39))]:
        assert laws.mean(laws.law(value_of(NaturalCompression(), x, 1.0))) == Fraction(x)
        assert laws.mean(laws.law(value_of(RoundedFloats("bfloat16"), x, 1.0))) == Fraction(x)
        mean = laws.mean(laws.law(value_of(RoundedFloats("float16"), x, 1.0)))
        assert abs(mean - Fraction(x)) <= (0 if abs(x) >= 2.0**-14 else Fraction(1, 2**48))


@given(vectors.filter(lambda v: bool(v.any())), st.sampled_from([1, 2, 5, 12, 40, 126]), st.sampled_from(["l2", 1, 3]))
def test_exact_mean_of_natural_dithering_is_within_the_stated_bound(v: np.ndarray, s: int, norm: str | int) -> None:
    compressor = NaturalDithering(s, norm)
    scale = scales(compressor, v)
    least = scale * 2.0 ** (1 - s)
    if least < 2.0**-126:
        return
    for x in v.tolist():
        mean = float(laws.mean(laws.law(value_of(compressor, x, scale))) - Fraction(x))
        assert abs(mean) <= 2.0**-22 * abs(x) + 2.0**-23 * least


def stepped(x: float, scale: float, s: int) -> tuple[float, float]:
    """The mean error and the mean square error in steps of D = scale / s, over all 2^24 uniforms, in float64."""
    u = (np.arange(2**24) + 0.5) / 2**24 - 0.5
    z = x * (s / scale)
    error = np.floor(z + u + 0.5) - u - z
    assert np.abs(error).max() <= 0.5 + 1e-9
    return float(error.mean()), float((error**2).mean())


@pytest.mark.parametrize(("x", "scale", "s"), [(0.3, 1.0, 1), (-0.7, 3.3, 50), (1.0, 1.0, 2**23), (1e-9, 1.0, 3)])
def test_error_of_the_dither_is_uniform(x: float, scale: float, s: int) -> None:
    """Whatever x is: mean 0 to 2^-25 D, mean square D^2/12."""
    mean, square = stepped(x, scale, s)
    assert abs(mean) <= 2**-25 * (1 + 1e-6)
    assert square == pytest.approx(1 / 12, rel=1e-6)


@pytest.mark.parametrize("place", [0, 63, 64, 70])
def test_the_uniform_at_the_bound(place: int) -> None:
    """What is rounded up for uniforms below a bound is not for the one that is equal to it: exactly, by the oracle."""
    for word in range(1, 6):
        u, v = hashing.uniform24(place, word), np.ones(71, np.float32)

        def rounded(compressor: Compressor, x: float, v=v, word=word) -> float:
            v[place] = x
            keys = np.array([word], np.uint64)
            return float(compressor.decompress(compressor.compress(Vectors.dense(v), keys), keys).to_dense()[0, place])

        least = 2.0**-4
        assert rounded(NaturalDithering(5, "max"), u / 2**24 * least) == 0
        assert rounded(NaturalDithering(5, "max"), (u + 1) / 2**24 * least) == least
        one, up = bits.of_float(1.0), 2**23 - u // 2
        assert rounded(NaturalCompression(), bits.as_float(one + up - 1)) == 1
        assert rounded(NaturalCompression(), bits.as_float(one + up)) == 2
        assert rounded(RoundedFloats("float16"), u * 2.0**-48) == 0
        assert rounded(RoundedFloats("float16"), (u + 1) * 2.0**-48) == 2.0**-24
        for format, dropped in (("float16", 13), ("bfloat16", 16)):
            up = 2**dropped - (u >> (24 - dropped))
            assert rounded(RoundedFloats(format), bits.as_float(one + up - 1)) == 1
            assert rounded(RoundedFloats(format), bits.as_float(one + up)) == 1 + 2.0 ** (dropped - 23)


KEYS = 20_000
V = np.random.default_rng(1).standard_normal(64).astype(np.float32)
V[:8] = [0, 4, -4 / 3, 1, 1e-3, -1e-5, 2**-15 + 2**-27, 3]


def drawn(compressor: Compressor) -> np.ndarray:
    keys = qsim.Key(11).fold(qsim.keys.Purpose.QUANTIZE, 5).words(0, KEYS)
    message = compressor.compress(Vectors.dense(np.tile(V, (KEYS, 1))), keys)
    return compressor.decompress(message, keys).to_dense()


@two_valued
def test_values_are_drawn_with_their_probabilities(compressor: Compressor) -> None:
    """20,000 keys: how often each of 64 coordinates takes the second of its two values is binomial, known exactly.

    False alarms: each count is outside its bounds with probability below 1e-12, one of the 64 in these 10 tests with
    below 7e-10. Power: a probability of 1/2 that is off by 0.03 is found with probability 0.91, by 0.04 with 0.99998.
    """
    found, scale = drawn(compressor), scales(compressor, V)
    total = 0.0
    for coordinate, x in enumerate(V.tolist()):
        law = laws.law(value_of(compressor, x, scale))
        assert set(found[:, coordinate].tolist()) <= set(law)
        count, chance = int((found[:, coordinate] == list(law)[-1]).sum()), float(list(law.values())[-1])
        assert binom.cdf(count, KEYS, chance) > 5e-13
        assert binom.sf(count - 1, KEYS, chance) > 5e-13
        total += float(laws.square_error(law, x))
    assert compressor.exact_variance(V) == pytest.approx(total, rel=1e-4)
    nonzeros = compressor.expected_nonzeros(V)
    if nonzeros is not None:
        every = [laws.law(value_of(compressor, x, scale)) for x in V.tolist()]
        assert nonzeros == pytest.approx(sum(float(1 - law.get(0.0, 0)) for law in every), rel=1e-4)


@pytest.mark.parametrize("compressor", DITHERS[:3], ids=repr)
def test_errors_of_the_dither_are_uniform_over_keys(compressor: SubtractiveDither) -> None:
    """Chi-square of the errors in 16 cells, for each of 64 coordinates and 20,000 keys.

    False alarms: below 1e-12 for a coordinate, below 2e-10 for these three tests. Power: an error that is uniform on a
    range shorter or longer by 5%, or moved by 5% of D, puts 1,000 errors (2.5% of them at each end) in other cells and
    is found with probability above 0.9999.
    """
    step = scales(compressor, V) / compressor.levels
    error = (drawn(compressor).astype(np.float64) - V) / step
    assert np.abs(error).max() <= 0.5 + 1e-3
    for coordinate in range(V.size):
        counts = np.histogram(error[:, coordinate].clip(-0.5, 0.5), bins=16, range=(-0.5, 0.5))[0]
        square = float(((counts - KEYS / 16) ** 2).sum() / (KEYS / 16))
        assert chi2.sf(square, 15) > 1e-12
    assert compressor.exact_variance(V) == pytest.approx(V.size * step**2 / 12, rel=1e-6)
    assert compressor.expected_nonzeros(V) == V.size
    assert compressor.expected_nonzeros(np.zeros(4)) == 0


# The variance bound: never exceeded, and attained where it says so.

CERTIFIED: list[Compressor] = [
    *(QSGD(s, p) for s in (1, 3, 20) for p in (1, 1.3, 1.9, 2, 2.2, 3, 10)),
    *(NaturalDithering(s, p) for s in (1, 2, 5, 9) for p in (1, 1.5, "l2", 3, "max")),
    *(SubtractiveDither(s, p) for s in (1, 9) for p in (1, 1.5, "l2", 3, "max")),
    NUQSGD(3),
    TernGrad(),
    NaturalCompression(),
    RoundedFloats("float16"),
    RoundedFloats("bfloat16"),
    Bucketed(QSGD(2), 7),
]


def worst(compressor: Compressor, n: int) -> float:
    """The largest E ||Q(v) - v||^2 / ||v||^2 of vectors with two magnitudes, and of what is found by climbing on."""

    def ratio(v: np.ndarray) -> float:
        return float(compressor.exact_variance(v)) / float(v @ v)

    best, start = 0.0, np.ones(n)
    for large in sorted({1, 2, n // 3, n - 1, n} - {0}):
        for t in 2.0 ** -np.linspace(0, 12, 150):
            v = np.full(n, t)
            v[:large] = 1.0
            if large <= n and ratio(v) > best:
                best, start = ratio(v), v
    random = np.random.default_rng(n)
    for _ in range(150):
        v = np.abs(start * np.exp(random.normal(0, 0.2, n) * (random.random(n) < 0.3)))
        if ratio(v) > best:
            best, start = ratio(v), v
    return best


@pytest.mark.parametrize("compressor", CERTIFIED, ids=repr)
def test_adversarial_vectors_stay_within_omega(compressor: Compressor) -> None:
    for n in (1, 2, 5, 30, 150):
        assert worst(compressor, n) <= compressor.variance(n) * (1 + 1e-9) + 1e-15


@given(st.sampled_from(CERTIFIED), arrays(np.float64, st.integers(1, 60), elements=st.floats(2.0**-13, 1.0)), st.data())
def test_random_vectors_stay_within_omega(compressor: Compressor, v: np.ndarray, data: st.DataObject) -> None:
    v = v * (data.draw(arrays(np.bool_, v.size)) if compressor.keeps_sparse else 1)
    assert compressor.exact_variance(v) <= compressor.variance(v.size) * (1 + 1e-9) * float(v @ v) + 1e-15


@given(st.sampled_from([1, 1.25, 1.5, 1.9, 2, "l2"]), st.integers(1, 6), st.integers(1, 400))
def test_constant_vectors_attain_omega(p: float, s: int, n: int) -> None:
    """QSGD with p <= 2 from q = 2 s on, natural dithering from q = 9/4 on, the dither always."""
    v, root = np.ones(n), n ** (1 / (2 if p == "l2" else p))
    compressors: list[Compressor] = [SubtractiveDither(s, p)]
    compressors += [QSGD(s, p)] if root >= 2.001 * s else []
    compressors += [NaturalDithering(s, p)] if root * 2.0 ** (1 - s) >= 2.251 else []
    for compressor in compressors:
        assert compressor.exact_variance(v) == pytest.approx(compressor.variance(n) * n, rel=1e-9)


@pytest.mark.parametrize("p", [2, 3, 10, "l2", "max"])
def test_single_entries_attain_omega_of_the_dither(p: float) -> None:
    v = np.zeros(40)
    v[3] = -7.0
    assert SubtractiveDither(5, p).exact_variance(v) == pytest.approx(SubtractiveDither(5, p).variance(40) * 49)


def test_tight_bounds_of_single_numbers() -> None:
    assert NaturalCompression().exact_variance([4 / 3]) == pytest.approx(NaturalCompression().variance(1) * 16 / 9)
    assert NaturalCompression().contraction(5) == 1 - NaturalCompression().variance(5)
    for format, r in (("float16", 2.0**-10), ("bfloat16", 2.0**-7)):
        x = 1 + r / (2 + r)
        assert RoundedFloats(format).exact_variance([x]) == pytest.approx(RoundedFloats(format).variance(1) * x * x)
        nearest, tie = RoundedFloats(format, "nearest"), 1 + r / 2
        assert nearest.exact_variance([tie]) == pytest.approx((1 - nearest.contraction(1)) * tie**2, rel=1e-9)


def test_the_two_parts_of_the_bound_of_natural_dithering_meet() -> None:
    """At q = 9/4. Above it constant vectors attain the first; below it there are vectors beyond it."""
    for s, n in ((3, 81), (4, 324)):
        assert math.sqrt(n) * 2.0 ** (1 - s) == 2.25
        assert NaturalDithering(s).variance(n) == 1.25 == 0.125 + 2 * 2.25**2 / 9
    for n in (83, 90, 99):  # q = 2.28, 2.37, 2.49
        v = np.ones(n)
        assert NaturalDithering(3).exact_variance(v) == pytest.approx(NaturalDithering(3).variance(n) * n, rel=1e-9)
    least, n = 2.0**-6, 18_000
    q = math.sqrt(n) * least
    ratios = np.full(n, 4 / 9 * q / math.sqrt(n))
    rest, place = 1 - (4 / 9 * q) ** 2, 0
    while rest > (4 / 3 * least) ** 2:
        ratios[place] = 4 / 3 * 2.0 ** math.floor(math.log2(math.sqrt(rest) * 3 / 4))
        rest, place = rest - ratios[place] ** 2, place + 1
    ratios[place] = math.sqrt(rest)
    found = NaturalDithering(7).exact_variance(ratios) / float(ratios @ ratios)
    assert 2.0 < q < 2.25
    assert q - 1 < found <= NaturalDithering(7).variance(n)


def test_natural_dithering_nearly_attains_its_bound_below() -> None:
    """With l2, q < 9/4: k coordinates at 4/9 of the least level, and the others at 4/3 of a power of two."""
    for s, k in ((4, 60), (5, 100), (7, 400)):
        least, compressor = 2.0 ** (1 - s), NaturalDithering(s)
        ratios = [4 / 9 * least] * k
        left = 1 - math.fsum(r * r for r in ratios)
        while left > (4 / 3 * least) ** 2:
            ratios.append(4 / 3 * 2.0 ** math.floor(math.log2(math.sqrt(left) * 3 / 4)))
            left -= ratios[-1] ** 2
        v = np.array([*ratios, math.sqrt(max(left, 0.0))])
        omega = compressor.variance(v.size)
        assert math.sqrt(v.size) * least < 2.25
        assert 0.93 * omega <= compressor.exact_variance(v) / float(v @ v) <= omega


@pytest.mark.parametrize("largest", [1.0, 3.0, 0.7, 1e-30, 1e30])
@pytest.mark.parametrize("s", [1, 7, 1000])
def test_the_least_number_that_dither_raises_is_not_missed(s: int, largest: float) -> None:
    """One in a strip of zeros, where draws are compared with a bound in float32 before levels are computed."""
    word, n = 5, 64 * 200
    key = np.array([word], np.uint64)
    for sign in (1, -1):
        v = np.zeros((2, n), np.float32)
        v[:, 0] = largest
        expected: list[dict[int, int]] = [{0: s}, {0: s}]
        for c in range(64, n, 64):
            u = hashing.uniform24(c, word)
            x = np.float32(sign * float(v[0, 0]) / s * (2**24 - u - 0.5 if sign > 0 else u + 0.5) / 2**24)
            x = np.float32(x * np.float32(1 - 2.0**-20))
            while dither.dither_level(float(x), float(v[0, 0]), s, u) == 0:
                x = np.nextafter(x, np.float32(sign * np.inf))
            v[0, c], v[1, c] = x, np.nextafter(x, np.float32(0))
            expected[0][c] = sign
        found = SubtractiveDither(s, "max").compress(Vectors.dense(v), np.repeat(key, 2))
        for row in range(2):
            at = slice(*found.offsets[row : row + 2])
            assert dict(zip(found.index[at].tolist(), found.level[at].tolist(), strict=True)) == expected[row]
