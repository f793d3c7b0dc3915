"""Messages that are added on the way through a network: which can be, and what their sum stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from qsim.batch import Floats, Levels, SharedSupport, Signs, Vectors
from qsim.compressors import (
    NUQSGD,
    QSGD,
    Bucketed,
    Compose,
    Compressor,
    CountSketch,
    ErrorFeedback,
    Identity,
    PermK,
    RandK,
    RandSeqK,
    Scaled,
    ScaledSign,
    Sign,
    SubtractiveDither,
    TopK,
)
from qsim.compressors.alias import Alias
from qsim.verify import EXAMPLES

pytestmark = pytest.mark.quick

CAN: list[Compressor] = [
    Identity(),
    Sign(),
    RandK(5, "drawn"),
    RandSeqK(5),
    CountSketch(2, 9),
    Scaled(RandK(5, "drawn")),
    ErrorFeedback(Scaled(RandK(5, "drawn"))),
    ErrorFeedback(Identity()),
    Compose(TopK(9), RandK(20, "drawn")),
    Compose(TopK(9), Scaled(RandK(20, "drawn"))),
    Bucketed(Sign(), 7),
]
CANNOT: list[Compressor] = [
    RandK(5),
    Scaled(QSGD(4)),
    ErrorFeedback(TopK(3)),
    ErrorFeedback(ScaledSign()),
    Compose(RandK(5), QSGD(4)),
    Bucketed(QSGD(4), 7),
    NUQSGD(4),
    SubtractiveDither(4),
    PermK(4),
]


def test_which_can_be_summed() -> None:
    assert all(compressor.summable for compressor in CAN)
    assert not any(compressor.summable for compressor in CANNOT)
    shipped = {example for example in EXAMPLES if example.summable}
    assert shipped == {Identity(), Sign(), RandK(10, "drawn"), RandSeqK(10), *CountSketch.examples()}

    @qsim.option
    class Votes(Alias):
        compressor = Sign()

    assert Votes().summable


@pytest.mark.parametrize("compressor", CAN, ids=repr)
@given(st.integers(2, 6), st.integers(0, 2**64 - 1))
def test_a_sum_of_messages_stands_for_the_sum_of_vectors(compressor: Compressor, workers: int, word: int) -> None:
    """Whole numbers, which float32 adds exactly; each sum goes by the usual codec, as between hops."""
    rows = np.random.default_rng(word).integers(-8, 9, (workers, 40)).astype(np.float32)
    keys, codec = np.full(workers, word, np.uint64), qsim.channel.default_codec(compressor)
    message = compressor.compress(Vectors.dense(rows), keys)
    expected = compressor.decompress(message, keys).to_dense().astype(np.float64).sum(axis=0)
    message = codec.decode(codec.encode(message), codec.header(message))
    total = message.take(np.array([0]))
    for row in range(1, workers):
        total = total.plus(message.take(np.array([row])))
        total = codec.decode(codec.encode(total), codec.header(total))
    found = compressor.decompress(total, keys[:1]).to_dense()[0]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)
    if isinstance(compressor, Sign):
        assert (found == np.where(rows >= 0, 1, -1).sum(axis=0)).all()  # the votes


def test_levels_of_one_scale_can_be_added() -> None:
    """As with a norm that the workers share: here vectors that differ in signs and order."""
    v = np.float32([3, -4, 0, 12, 84])
    rows = np.stack([v, -v[::-1], v * [1, -1, 1, 1, -1]]).astype(np.float32)
    keys = qsim.Key(3).words(0, 3)
    for compressor in (QSGD(4, "max"), Bucketed(QSGD(4, 1), 5)):
        message = compressor.compress(Vectors.dense(rows), keys)
        one, two, three = (message.take(np.array([row])) for row in range(3))
        total = one.plus(two).plus(three)
        assert (total.s, total.bucket) == (12, message.bucket)
        assert total.vectors().to_dense()[0] == pytest.approx(message.vectors().to_dense().sum(axis=0), rel=1e-6)
        assert (total.level != 0).all()  # what cancels is left out
        both = message.take(np.array([0, 2])).plus(message.take(np.array([1, 1])))
        assert both == Levels.join([one.plus(two), three.plus(two)])


def test_what_cannot_be_added_is_refused() -> None:
    levels = Levels.single([1, 0, -2], scale=3.0, s=2)
    with pytest.raises(ValueError, match="row 0: levels of 1.5 cannot be added to levels of 2; they need one scale"):
        levels.plus(Levels.single([1, 0, -2], scale=4.0, s=2))
    assert levels.plus(Levels.single([1, 0, 2], scale=4.5, s=3)).vectors().to_dense().tolist() == [[3, 0, 0]]
    sparse = Floats(3, np.array([0, 1]), np.array([1], np.int32), np.ones(1, np.float32))
    with pytest.raises(ValueError, match="sparse floats cannot be added number by number"):
        Floats.single([1.0, 2.0, 3.0]).plus(sparse)
    with pytest.raises(ValueError, match="Signs cannot be added as they are"):
        Signs.single([True], low=-1, high=1).plus(Signs.single([True], low=-1, high=1))
    drawn = SharedSupport(9, np.array([0, 2]), 2, np.ones(2, np.float32))
    with pytest.raises(
        ValueError, match=r"kind, rows, n, k are .*\('SharedSupport', 1, 9, 2\) and \('SharedSupport', 1, 8, 2\)"
    ):
        drawn.plus(SharedSupport(8, np.array([0, 2]), 2, np.ones(2, np.float32)))
    with pytest.raises(ValueError, match="only messages that are alike can be added"):
        Floats.single([1.0, 2.0]).plus(levels)


def test_packets_that_are_added_on_their_way() -> None:
    """Wide floats of all coordinates, whatever compressor they are values of, or at places that all workers draw."""
    dense, half = qsim.codecs.Dense(), qsim.codecs.Dense("float16")
    added = [qsim.Channel(compressor, dense) for compressor in (Identity(), QSGD(4), Scaled(QSGD(4)), Sign(), RandK(5))]
    added += [qsim.Channel(Identity(), qsim.codecs.Dense("float64")), qsim.Channel(RandK(5, "drawn"))]
    assert all(channel.sums_in_flight for channel in added)
    others = [qsim.Channel(Sign()), qsim.Channel(RandK(5)), qsim.Channel(QSGD(4)), qsim.Channel(Identity(), half)]
    assert not any(channel.sums_in_flight for channel in others)
