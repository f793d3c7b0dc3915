"""Philox: any compressor, with the conservative stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from oracles import bernoulli, hashing, quantize
from qsim.batch import Vectors
from qsim.compressors import (
    DRIVE,
    Bernoulli,
    Bucketed,
    Compose,
    Compressor,
    NaturalCompression,
    RandK,
    RoundedFloats,
    SubtractiveDither,
    TopK,
    Wangni,
)
from qsim.keys import of_word
from qsim.verify import EXAMPLES

words = st.integers(0, hashing.M64)
V = np.random.default_rng(0).standard_normal(300).astype(np.float32)


@given(words, st.integers(1, 300))
def test_levels_and_choices_are_the_oracles_with_its_draws(word: int, n: int) -> None:
    v, key = V[:n], of_word(word)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "draw32", hashing.philox32)
        _, levels = quantize.qsgd(list(range(n)), v, 3, word)
        kept = bernoulli.bernoulli(v, 0.3, word)
    assert as_dict(qsim.Philox(qsim.QSGD(3)).quantize(v, key), "level") == levels
    assert as_dict(qsim.Philox(Bernoulli(0.3)).quantize(v, key), "value") == kept


def as_dict(message: Any, name: str) -> dict[int, Any]:
    return dict(zip(message.index.tolist(), getattr(message, name).tolist(), strict=True))


@pytest.mark.parametrize(
    "compressor",
    [
        qsim.QSGD(2),
        Bucketed(qsim.QSGD(2), 64),
        NaturalCompression(),
        SubtractiveDither(4),
        Wangni(20),
        DRIVE(),
        RoundedFloats("bfloat16"),
        Compose(RandK(50), qsim.QSGD(2)),
    ],
    ids=repr,
)
def test_other_draws_from_the_same_key_dense_and_sparse(compressor: Compressor) -> None:
    other, keys = qsim.Philox(compressor), qsim.Key(5).words(0, 1)
    dense = Vectors.dense(V)
    sparse = Vectors(V.size, np.array([0, V.size]), np.arange(V.size, dtype=np.int32), V)
    message = other.compress(dense, keys)
    found = [c.decompress(c.compress(v, keys), keys).to_dense() for c, v in ((other, sparse), (compressor, dense))]
    assert np.array_equal(other.decompress(message, keys).to_dense(), found[0])
    assert not np.array_equal(found[0], found[1])
    error = other.decompress(message, keys).to_dense()[0] - V
    assert error @ error <= 2 * compressor.variance(V.size) * (V @ V)


def test_it_says_what_the_compressor_says() -> None:
    for compressor in EXAMPLES:
        if type(compressor).memory is not Compressor.memory or isinstance(compressor, qsim.Philox):
            continue
        other = qsim.Philox(compressor)
        names = ("emits", "dense", "dtype", "asymptotic", "keeps_sparse", "ignores_zeros", "summable")
        assert [getattr(other, name) for name in names] == [getattr(compressor, name) for name in names]
        for name in ("variance", "contraction"):
            assert getattr(other, name)(40) == getattr(compressor, name)(40)
        for name in ("expected_nonzeros", "exact_variance"):
            assert getattr(other, name)(V) == getattr(compressor, name)(V)


@qsim.option
class Plain(Compressor):
    emits = qsim.batch.Floats

    def quantize(self, v: Any, key: qsim.Key) -> qsim.batch.Floats:
        return qsim.batch.Floats.single(v + key.generator().random(v.size))


def test_plain_compressors_get_the_same_key() -> None:
    batch = Vectors.dense(np.stack([V, V]))
    keys = np.array([3, 2**64 - 1], np.uint64)
    assert qsim.Philox(Plain()).compress(batch, keys) == Plain().compress(batch, keys)


def test_a_memory_goes_around_it() -> None:
    with pytest.raises(ValueError, match="has a memory: put Philox inside"):
        qsim.Philox(qsim.ErrorFeedback(TopK(3)))
    with pytest.raises(TypeError, match="must be a Compressor"):
        qsim.Philox(3)  # type: ignore[arg-type]
    inner = qsim.Scaled(qsim.QSGD(2))
    trace = qsim.simulate(
        qsim.datasets.load("spark_sample"),
        objective=qsim.LogisticRegression(l2=0.01),
        method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
        compressor=qsim.ErrorFeedback(qsim.Philox(inner)),
        rounds=3,
    )
    assert trace.frame["loss"].iloc[-1] < trace.frame["loss"].iloc[0]
