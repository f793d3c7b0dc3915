"""Blocks with a compressor each: every block is a vector of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from helpers.planned import agree, plain
from oracles import hashing
from qsim.batch import Levels, SharedSupport, Vectors
from qsim.compressors import DRIVE, Compressor, NotFiniteError, RandK, ScaledSign
from qsim.engines import Serial
from qsim.keys import of_word
from qsim.methods import EF21

pytestmark = pytest.mark.quick

LAYERS: tuple[tuple[int | None, Compressor], ...] = (
    (3, ScaledSign()),
    (None, qsim.QSGD(3)),
    (9, RandK(4, "drawn")),
    (8, DRIVE()),
    (2, qsim.Identity()),
    (1, qsim.TopK(1)),
)
MIXED = qsim.PerLayer(LAYERS)
UNBIASED = qsim.PerLayer(((None, qsim.QSGD(3)), (9, RandK(4, "drawn")), (2, qsim.Identity())))
TOP = qsim.PerLayer(((9, qsim.TopK(2)), (None, qsim.TopK(1))))


@pytest.mark.parametrize("compressor", [MIXED, UNBIASED, TOP, qsim.PerLayer(((40, qsim.QSGD(3)),))], ids=repr)
@pytest.mark.parametrize("sparse", [False, True])
def test_every_block_is_a_vector_of_its_own(compressor: qsim.PerLayer, sparse: bool) -> None:
    random, keys = np.random.default_rng(0), qsim.Key(3).words(0, 5)
    rows = random.standard_normal((5, 40)).astype(np.float32)
    rows *= random.random((5, 40)) < 0.4
    rows[2], v = 0, Vectors.dense(rows)
    if sparse:
        offsets = np.concatenate([[0], np.cumsum((rows != 0).sum(axis=1))])
        v = Vectors(40, offsets, np.nonzero(rows)[1].astype(np.int32), rows[rows != 0])
    channel = qsim.Channel(compressor)
    found = channel.unpack(*channel.pack(v, keys), keys).to_dense()
    assert found.tobytes() == compressor.decompress(compressor.compress(v, keys), keys).to_dense().tobytes()
    sizes, low = compressor.sizes(40), 0
    assert sum(sizes) == 40
    for block, size in enumerate(sizes):
        inner = compressor.compressors[block]
        for row in range(5):
            key = of_word(int(hashing.fold(int(keys[row]), block)))
            part = inner.quantize(rows[row, low : low + size], key)
            expected = inner.decompress(part, np.array([key.word], np.uint64)).to_dense()[0]
            assert np.array_equal(found[row, low : low + size], expected), (block, row)
        low += size


def test_constants_are_those_of_the_worst_block() -> None:
    assert UNBIASED.variance(40) == max(qsim.QSGD(3).variance(29), 9 / 4 - 1)
    assert UNBIASED.variance(12) == 9 / 4 - 1 > qsim.QSGD(3).variance(1)
    assert UNBIASED.contraction(40) is MIXED.variance(40) is MIXED.contraction(40) is None
    assert TOP.contraction(40) == 1 / 31
    assert TOP.contraction(11) == 2 / 9
    mixed = qsim.PerLayer(((4, qsim.TopK(1)), (None, RandK(3))))
    assert mixed.bias_and_variance(10) == (0.75**0.5, max(0.75, 1.0))
    assert mixed.variance(10) is mixed.contraction(10) is None
    assert MIXED.asymptotic
    assert not UNBIASED.asymptotic
    assert [each.keeps_sparse for each in (MIXED, UNBIASED, TOP)] == [False, True, True]
    v = np.arange(1.0, 41.0)
    assert UNBIASED.exact_variance(v) == pytest.approx(
        qsim.QSGD(3).exact_variance(v[:29]) + RandK(4).exact_variance(v[29:38])
    )
    assert TOP.exact_variance(v) == np.sum(v[:7] ** 2) + np.sum(v[9:39] ** 2)
    assert TOP.expected_nonzeros(v) == 3


def test_a_multiple_and_rows_of_the_message() -> None:
    v, keys = (
        Vectors.dense(np.random.default_rng(1).standard_normal((3, 12)).astype(np.float32)),
        qsim.Key(1).words(0, 3),
    )
    message = UNBIASED.compress(v, keys)
    assert [type(block) for block in message.blocks[:2]] == [Levels, SharedSupport]
    sent = UNBIASED.decompress(message, keys).to_dense()
    assert np.array_equal(UNBIASED.decompress(message.scaled(0.5), keys).to_dense(), sent * np.float32(0.5))
    order = np.array([2, 0])
    assert message.take(order) == UNBIASED.compress(Vectors.dense(v.to_dense()[order]), keys[order])
    assert type(message).join([message.take(order[:1]), message.take(order[1:])]) == message.take(order)
    assert message.nonzeros == sum(block.nonzeros for block in message.blocks)


def classes() -> qsim.datasets.Dataset:
    random = np.random.default_rng(6)
    x = random.standard_normal((120, 8)).astype(np.float32)
    return qsim.datasets.Dataset.from_arrays(x, np.argmax(x @ random.standard_normal((8, 3)), axis=1), kind="classes")


@pytest.mark.parametrize(
    "compressor",
    [
        qsim.PerLayer(((12, qsim.QSGD(4)), (None, RandK(6, "drawn")))),
        qsim.ErrorFeedback(qsim.PerLayer(((12, ScaledSign()), (12, qsim.TopK(3))))),
        qsim.PerLayer(((12, ScaledSign()), (12, qsim.TopK(3)))),
    ],
    ids=repr,
)
def test_groups_of_features_are_trained(compressor: Compressor) -> None:
    """Eight features of three classes: the same bits in blocks and on threads, and near gradient descent."""
    method = EF21(0.3) if isinstance(compressor, qsim.PerLayer) and compressor.contraction(24) else None
    objective = qsim.MultinomialLogistic(classes=3, l2=0.05)
    run = qsim.Run(
        classes(), objective, method or qsim.GradientDescent(0.3), compressor, workers=4, rounds=10, evaluate_every=5,
        optimum=False,
    )  # fmt: skip
    one = plain(run)
    agree(qsim.simulate(run), one)
    for engine in (Serial(block=1), Serial(threads=2, block=2)):
        agree(plain(run, engine=engine), one)
    run = replace(run, rounds=120)
    found, exact = (qsim.simulate(replace(run, compressor=each)) for each in (compressor, qsim.Identity()))
    first, loss, best = exact.axis("loss")[0], found.axis("loss")[-1], exact.axis("loss")[-1]
    assert loss - best < 0.02 * (first - best)
    assert found.axis("bits_up")[-1] < 0.7 * exact.axis("bits_up")[-1]


def test_the_intercept_arrives_as_it_is() -> None:
    """The last coordinate of `WithIntercept`, beside a sparsifier that would drop it."""
    data = qsim.datasets.load("spark_sample")
    kept = qsim.PerLayer(((None, qsim.TopK(5)), (1, qsim.Identity())))
    n = (
        qsim.Run(data, qsim.WithIntercept(qsim.LogisticRegression(0.1)), EF21(0.1), kept, workers=2, rounds=1)
        .problem()
        .n
    )
    v = np.linspace(1, 0.5, n, dtype=np.float32)
    sent = kept.quantize(v, qsim.Key(0)).vectors().to_dense()[0]
    assert sent[-1] == v[-1] == 0.5
    assert qsim.TopK(6).quantize(v, qsim.Key(0)).vectors().to_dense()[0, -1] == 0


def test_what_is_refused() -> None:
    top = qsim.TopK(1)
    for layers, why in {
        (): "a block at least, found none",
        ((None, top), (None, top)): "one size may be None, what the others leave; found 2",
        ((0, top),): "the size of block 0 must be a whole number of at least 1, found 0",
        ((3, top), (2, qsim.ErrorFeedback(top))): "the compressor of block 1 must have no memory",
        ((3, qsim.PermK(2)),): "the compressor of block 0 must draw for every worker alone",
    }.items():
        with pytest.raises(ValueError, match=why):
            qsim.PerLayer(layers)
    for wrong, why in {(3, top): "pairs of a size and a compressor", ((3, 4),): "must be a Compressor"}.items():
        with pytest.raises(TypeError, match=why):
            qsim.PerLayer(wrong)
    with pytest.raises(ValueError, match="the 2 blocks of .* have 7 coordinates, the vectors have 8"):
        qsim.PerLayer(((3, top), (4, top))).quantize(np.ones(8), qsim.Key(0))
    with pytest.raises(ValueError, match="have 9 and at least one more coordinates, the vectors have 9"):
        TOP.quantize(np.ones(9), qsim.Key(0))
    with pytest.raises(ValueError, match=r"makes blocks of \[9, 3\] coordinates, the message has \[3, 9\]"):
        TOP.decompress(qsim.PerLayer(((3, top), (9, top))).quantize(np.ones(12), qsim.Key(0)), np.zeros(1, np.uint64))
    with pytest.raises(NotFiniteError, match="row 0 of the batch holds nan at coordinate 10"):
        TOP.quantize([*np.ones(10), np.nan], qsim.Key(0))
    with pytest.raises(ValueError, match=r"use qsim.codecs.Blockwise"):
        qsim.Channel(TOP, qsim.codecs.EliasDense())
