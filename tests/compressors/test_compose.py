"""Sparsifiers one after the other and in training: certificates of `Compose`, error feedback, drawn positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import qsim
from helpers.vectors import sizes, tiled, vectors, words
from qsim.batch import Floats, Vectors
from qsim.compressors import (
    NUQSGD,
    QSGD,
    Bernoulli,
    Bucketed,
    Compose,
    ErrorFeedback,
    HardThreshold,
    Identity,
    NaturalCompression,
    NaturalDithering,
    OneBit,
    RandK,
    RoundedFloats,
    Scaled,
    SubtractiveDither,
    TernGrad,
    TopK,
    Wangni,
)
from qsim.keys import of_word


@given(vectors, sizes, st.integers(1, 5), words)
def test_compose_is_one_after_the_other(v: np.ndarray, k: int, s: int, word: int) -> None:
    key, keys = of_word(word), np.array([word], np.uint64)
    for first, second in ((TopK(k), QSGD(s)), (RandK(k), TopK(3)), (Bernoulli(0.5), RandK(2, "drawn"))):
        together = Compose(first, second)
        message = together.quantize(v, key)
        by_hand = second.quantize(first.quantize(v, key.fold(0)).vectors().row(0), key.fold(1))
        assert message == by_hand
        assert together.emits is type(message)
        expected = second.decompress(by_hand, np.array([key.fold(1).word], np.uint64))
        assert together.decompress(message, keys) == expected
    scaled = Compose(TopK(k), Scaled(QSGD(s))).quantize(v, key)
    kept = min(k, v.size)
    assert scaled == Compose(TopK(k), QSGD(s)).quantize(v, key).scaled(1 / (1 + QSGD(s).variance(kept)))


def test_certificates_of_then() -> None:
    n, k, s = 1000, 100, 1
    omega = QSGD(s).variance(k)
    both = Compose(RandK(k), QSGD(s))
    assert both.variance(n) == pytest.approx(n / k * (1 + omega) - 1)
    assert Compose(Bernoulli(0.5), QSGD(s)).variance(n) == pytest.approx(2 * (1 + QSGD(s).variance(n)) - 1)
    assert Compose(RandK(50), RandK(10)).variance(n) == pytest.approx(
        20 * 100 - 1
    )  # the second draws from n, not from 50
    assert Compose(TopK(k), Scaled(QSGD(s))).contraction(n) == pytest.approx(k / n / (1 + omega))
    assert Compose(TopK(k), Scaled(TernGrad())).contraction(n) == pytest.approx(k / n / (1 + TernGrad().variance(k)))
    assert Compose(TopK(k), TopK(20)).contraction(n) == pytest.approx(20 / n)
    for neither in (
        *(Compose(TopK(k), QSGD(s)), Compose(HardThreshold(1.0), Scaled(QSGD(s))), Compose(RandK(k), TopK(20))),
        Compose(Scaled(RandK(k)), TopK(20)),  # two contractions, but what the first sends is not as it was
    ):
        assert neither.variance(n) is None
        assert neither.contraction(n) is None
    v = np.arange(1.0, 201.0)
    assert Compose(TopK(k), QSGD(s)).exact_variance(v) is not None
    assert both.exact_variance(v) is both.expected_nonzeros(v) is None  # what the first sends is drawn


def test_either_part_may_hold_for_large_n_only() -> None:
    @qsim.option
    class Limit(qsim.compressors.Compressor):
        emits = Floats
        asymptotic = True

    assert Compose(TopK(3), Limit()).asymptotic
    assert Compose(Limit(), TopK(3)).asymptotic
    assert not Compose(TopK(3), TopK(2)).asymptotic


def test_topk_then_qsgd_can_be_an_expansion() -> None:
    """1 - delta = 1.8: 0.9 of the square is left out, and what is kept, 0.1, is off by nine times its square."""
    v = np.ones(1000)
    assert Compose(TopK(100), QSGD(1)).exact_variance(v) == pytest.approx(1.8 * 1000)
    assert Compose(TopK(100), QSGD(1)).expected_nonzeros(v) == pytest.approx(10)
    scaled = Compose(TopK(100), Scaled(QSGD(1)))  # attains its bound
    assert scaled.exact_variance(v) == pytest.approx((1 - scaled.contraction(1000)) * 1000)
    with pytest.raises(ValueError, match=r"becomes one as qsim.Compose\(.*TopK\(k=100\).*Scaled\(.*QSGD\("):
        ErrorFeedback(Compose(TopK(100), QSGD(1)))
    ErrorFeedback(Compose(TopK(100), Scaled(QSGD(1))))
    with pytest.raises(ValueError, match=r"HardThreshold\(threshold=1.0\)$"):
        ErrorFeedback(HardThreshold(1.0))
    with pytest.raises(ValueError, match=r"becomes one as qsim.Scaled\(.*RandK\("):
        ErrorFeedback(RandK(3))


@pytest.mark.parametrize("norm", ["l2", "max"])
@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(-1, 1)), st.integers(1, 40), st.integers(1, 4))
def test_quantizers_ignore_zeros(norm: str, v: np.ndarray, zeros: int, s: int) -> None:
    """What makes the certificate for the length kept, rather than n, right."""
    longer = np.concatenate([v, np.zeros(zeros)])
    for compressor in (
        *(
            QSGD(s, norm),
            TernGrad(),
            NaturalDithering(s, norm),
            NUQSGD(s),
            NaturalCompression(),
            RoundedFloats("bfloat16"),
        ),
        *(Bernoulli(0.3), Wangni(4), TopK(4), HardThreshold(0.3), OneBit(support_only=True), Identity()),
    ):
        assert compressor.ignores_zeros
        if not isinstance(compressor, Identity):
            assert compressor.exact_variance(longer) == pytest.approx(compressor.exact_variance(v), rel=1e-9, abs=1e-12)
    for compressor in (RandK(4), OneBit(), SubtractiveDither(s), Bucketed(SubtractiveDither(s), 5), Scaled(QSGD(s))):
        assert not compressor.ignores_zeros
    assert Bucketed(QSGD(s, norm), 5).ignores_zeros
    assert QSGD(s, norm).exact_variance(longer) <= (QSGD(s, norm).variance(v.size) + 1e-9) * float(v @ v)


@pytest.mark.parametrize(
    "compressor",
    [Compose(TopK(8), Scaled(QSGD(1))), Compose(TopK(20), Scaled(QSGD(2, "max"))), Scaled(RandK(8))],
    ids=repr,
)
def test_scaled_ones_are_contractions(compressor) -> None:
    """The mean error over 20,000 keys, for constant vectors (which attain the bound, but for the max norm) and others.

    False alarms: the error of a message is at most some 4 ||v||^2, so the mean is off by its standard deviation over
    sqrt(20,000); 7.5 of these, estimated, are allowed. Power: a delta that is too large by 12% is found.
    """
    n, keys = 64, qsim.Key(8).words(0, 20_000)
    rng = np.random.default_rng(2)
    for v in (np.ones(n), rng.standard_normal(n), rng.standard_cauchy(n)):
        v = v.astype(np.float32)
        found = compressor.decompress(compressor.compress(tiled(v, keys.size), keys), keys).to_dense()
        errors = ((found - v).astype(np.float64) ** 2).sum(axis=1) / float(v @ v)
        noise = 7.5 * errors.std() / math.sqrt(keys.size)
        bound = 1 - compressor.contraction(n)
        assert errors.mean() <= bound + noise + 1e-6
        if v[0] == v[1] and "max" not in repr(compressor):
            assert errors.mean() >= bound - noise - 1e-6


def test_compose_refuses_what_does_not_fit() -> None:
    @qsim.option
    class Shifted(qsim.compressors.Compressor):
        emits = Floats
        keeps_sparse = False

    with pytest.raises(ValueError, match="second must keep zeros, or what .*TopK.* leaves out would be sent"):
        Compose(TopK(3), Shifted())
    with pytest.raises(ValueError, match="first must make Floats, .*QSGD.* makes Levels"):
        Compose(QSGD(2), TopK(3))
    with pytest.raises(ValueError, match="first must make Floats, .*drawn.* makes SharedSupport"):
        Compose(RandK(3, "drawn"), TopK(3))
    with pytest.raises(ValueError, match="put it around the whole Compose"):
        Compose(TopK(3), ErrorFeedback(TopK(2)))
    with pytest.raises(TypeError, match="second must be a Compressor"):
        Compose(TopK(3), 4)
    assert not Compose(Shifted(), TopK(3)).keeps_sparse
    assert Compose(TopK(3), RandK(4, "drawn")).summable


# In training.


def run(compressor):
    return qsim.simulate(
        qsim.datasets.load("spark_sample"),
        objective=qsim.LogisticRegression(l2=0.01),
        method=qsim.GradientDescent(step=qsim.steps.Constant(0.05)),
        compressor=compressor,
        workers=5,
        rounds=40,
    )


@pytest.mark.parametrize(
    "compressor",
    [
        ErrorFeedback(TopK(3)),
        ErrorFeedback(Compose(TopK(6), Scaled(QSGD(4)))),
        ErrorFeedback(Scaled(RandK(4, "drawn"))),
        Wangni(4),
        Bernoulli(0.3),
        HardThreshold(4e-3),
    ],
    ids=repr,
)
def test_training_gets_better(compressor) -> None:
    frame, plain = run(compressor).frame, run(Identity()).frame
    start, end = frame["loss"].iloc[0], frame["loss"].iloc[-1]
    assert start - end > 0.5 * (start - plain["loss"].iloc[-1])
    assert frame["bits_up"].sum() < plain["bits_up"].sum()


def test_drawn_positions_give_the_same_weights_for_fewer_bits() -> None:
    sent, drawn = run(RandK(4)), run(RandK(4, "drawn"))
    assert np.array_equal(sent.weights, drawn.weights)
    assert drawn.frame["bits_up"].sum() < sent.frame["bits_up"].sum()
    v = Vectors.dense(np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32))
    keys = qsim.Key(5).words(0, 3)
    bits = []
    for positions in ("sent", "drawn"):
        channel = qsim.Channel(RandK(60, positions))
        header, packets = channel.pack(v, keys)
        bits.append(packets.bits)
        found = channel.unpack(header, packets, keys)
        assert found == RandK(60).compress(v, keys).vectors()
    assert bits[1] == 3 * 60 * 32 < bits[0]
