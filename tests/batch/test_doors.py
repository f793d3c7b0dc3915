"""What comes from outside is looked at before a kernel takes it: batches, keys, memories, packets, users' messages."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import qsim
from qsim.batch import Floats, Levels, Packets, Signs, Support, Vectors, dense_offsets
from qsim.codecs import (
    RANS,
    Auto,
    Codec,
    DecodeError,
    Dense,
    Elias,
    FixedWidth,
    Varint,
)
from qsim.codecs.base import leb128
from qsim.compressors import Compressor, NotFiniteError
from qsim.testing.shipped import shipped

CODECS: list[Codec] = list(shipped(qsim.codecs, Codec))
COMPRESSORS: list[Compressor] = [
    qsim.QSGD(4),
    qsim.TopK(2),
    qsim.RandK(2),
    qsim.RandK(2, positions="drawn"),
    qsim.Identity(),
    qsim.ScaledSign(),
    qsim.OneBit(),
    qsim.NaturalCompression(),
    qsim.SubtractiveDither(4),
    qsim.EDEN(2),
    qsim.Bucketed(qsim.QSGD(1), 3),
    qsim.Philox(qsim.QSGD(1)),
    qsim.Compose(qsim.TopK(2), qsim.QSGD(1)),
    qsim.ErrorFeedback(qsim.TopK(2)),
]


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=repr)
def test_a_key_for_each_row(compressor: Compressor) -> None:
    v, words = Vectors.dense(np.ones((4, 8), np.float32)), qsim.Key(0).words(0, 4)
    message = compressor.compress(v, words)
    for keys, error in ((words[:1], ValueError), (words[:, None], ValueError), (qsim.Key(0), TypeError)):
        for call in (lambda keys: compressor.compress(v, keys), lambda keys: compressor.decompress(message, keys)):
            with pytest.raises(error, match="keys must be"):
                call(keys)
    with pytest.raises(TypeError, match=r"keys must be .*found an array of int64"):
        compressor.compress(v, np.arange(4))


def sparse(offsets: list[int], index: list[int], value: list[float], n: int = 8) -> Vectors:
    return Vectors(n, np.array(offsets), np.array(index, np.int32), np.array(value, np.float32))


BATCHES: dict[str, Callable[[], Any]] = {
    "an array": lambda: np.ones((4, 8), np.float32),
    "coordinates past n": lambda: sparse([0, 1], [8], [1.0]),
    "negative coordinates": lambda: sparse([0, 1], [-1], [1.0]),
    "coordinates that fall": lambda: sparse([0, 2], [3, 1], [1.0, 1.0]),
    "a coordinate twice": lambda: sparse([0, 2], [3, 3], [1.0, 1.0]),
    "offsets beyond the entries": lambda: sparse([0, 9], [3], [1.0]),
    "offsets that fall": lambda: sparse([0, 2, 1, 2], [3, 4], [1.0, 1.0]),
    "offsets from one on": lambda: sparse([1, 2], [3, 4], [1.0, 1.0]),
    "fewer coordinates than values": lambda: sparse([0, 2], [3], [1.0, 1.0]),
    "dense rows of another length": lambda: Vectors(8, dense_offsets(2, 7), None, np.ones(14, np.float32)),
    "complex numbers": lambda: Vectors(8, dense_offsets(1, 8), None, np.ones(8, np.complex64)),
    "every other number": lambda: Vectors(8, dense_offsets(1, 8), None, np.ones(16, np.float32)[::2]),
    "no coordinates": lambda: Vectors(0, np.array([0, 0]), None, np.zeros(0, np.float32)),
}


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=repr)
@pytest.mark.parametrize("bad", BATCHES)
def test_batches_that_are_not_sound_are_refused(compressor: Compressor, bad: str) -> None:
    v = BATCHES[bad]()
    rows = v.rows if isinstance(v, Vectors) else 4
    with pytest.raises((TypeError, ValueError), match=r"v[ :]"):
        compressor.compress(v, qsim.Key(0).words(0, rows))


# Messages of a user's compressor.


def levels(n: int, offsets: list[int], index: list[int], level: list[int], scale: Any, s: int = 4) -> Levels:
    whole = np.array(index, np.int32), np.array(level, np.int32)
    return Levels(n, np.array(offsets, np.int64), *whole, np.float32(scale), s)


def with_rows(v: Vectors, rows: int) -> Levels:
    return levels(v.n, list(range(rows + 1)), [0] * rows, [1] * rows, [1] * rows)


@qsim.option
class Answers(Compressor):
    """Answers with whatever the test wants, whatever it was given."""

    what: str

    emits = Levels

    def compress(self, v, keys, memory=None):
        return MESSAGES[self.what](v)


MESSAGES: dict[str, Callable[[Vectors], Any]] = {
    "nothing": lambda v: None,
    "an array": lambda v: v.value,
    "another kind": lambda v: Floats(v.n, v.offsets, v.index, v.value),
    "a row too many": lambda v: with_rows(v, v.rows + 1),
    "a row too few": lambda v: with_rows(v, v.rows - 1),
    "another length": lambda v: levels(v.n + 1, [0] * (v.rows + 1), [], [], [0] * v.rows),
    "a coordinate past n": lambda v: levels(v.n, [0] + [1] * v.rows, [v.n], [1], [1] * v.rows),
    "a negative coordinate": lambda v: levels(v.n, [0] + [1] * v.rows, [-5], [1], [1] * v.rows),
    "offsets that fall": lambda v: levels(v.n, [0, 2] + [1] * (v.rows - 2) + [2], [0, 1], [1, 1], [1] * v.rows),
    "offsets beyond": lambda v: levels(v.n, [0] + [1000] * v.rows, [0], [1], [1] * v.rows),
    "scales too few": lambda v: levels(v.n, [0] * (v.rows + 1), [], [], [0]),
    "a level past s": lambda v: levels(v.n, [0] + [1] * v.rows, [0], [5], [1] * v.rows),
    "a level of zero": lambda v: levels(v.n, [0] + [1] * v.rows, [0], [0], [1] * v.rows),
    "s of zero": lambda v: levels(v.n, [0] * (v.rows + 1), [], [], [0] * v.rows, s=0),
    "a scale that is not a number": lambda v: levels(v.n, [0] + [1] * v.rows, [0], [1], [np.nan] * v.rows),
    "levels in 64 bits": lambda v: replace(with_rows(v, v.rows), level=np.ones(v.rows, np.int64)),
}  # fmt: skip


@pytest.mark.parametrize("what", MESSAGES)
@pytest.mark.parametrize("codec", [None, Varint(), Elias(), RANS(), FixedWidth(), Dense(), Auto()], ids=repr)
def test_what_a_compressor_of_ones_own_makes_is_refused_if_it_is_not_sound(what: str, codec: Codec | None) -> None:
    v = Vectors.dense(np.ones((3, 8), np.float32))
    with pytest.raises((TypeError, ValueError), match="what Answers makes"):
        qsim.Channel(Answers(what), codec).pack(v, qsim.Key(0).words(0, 3))


@pytest.mark.parametrize("engine", [qsim.engines.Serial(), qsim.engines.Processes(2)], ids=repr)
@pytest.mark.parametrize("what", ["a row too many", "a row too few", "a coordinate past n"])
def test_a_run_says_it_on_every_engine(engine: qsim.engines.Engine, what: str) -> None:
    with pytest.raises(ValueError, match="what Answers makes") as caught:
        qsim.simulate(
            qsim.datasets.load("spark_sample"),
            objective=qsim.LogisticRegression(l2=0.01),
            method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
            compressor=Answers(what),
            rounds=2,
            workers=6,
            engine=engine,
            optimum=False,
        )
    assert any("round 0" in note for note in caught.value.__notes__)


# Memories.


def small() -> Support:
    return Support(6, np.array([0, 3]), np.array([1, 2, 5], np.int32))


def test_a_gradient_that_is_refused_leaves_the_memory_as_it_was() -> None:
    channel, keys = qsim.Channel(qsim.ErrorFeedback(qsim.TopK(1))), qsim.Key(0).words(0, 1)
    memory = channel.compressor.memory(small())
    good = sparse([0, 3], [1, 2, 5], [1.0, -4.0, 2.0], 6)

    def send(v: Vectors) -> bytes:
        header, packets = channel.pack(v, keys, memory)
        channel.compressor.on_delivered(memory, channel.unpack(header, packets, keys))
        return packets[0]

    send(good)
    kept = memory.arrays["error"].copy()
    assert kept.tolist() == [1, 0, 2]
    huge = np.float32(3e38)
    for bad in ([np.nan, 1, 1], [np.inf, 1, 1]):
        with pytest.raises(NotFiniteError, match="row 0"):
            channel.pack(sparse([0, 3], [1, 2, 5], bad, 6), keys, memory)
        assert memory.arrays["error"].tolist() == kept.tolist()
    memory.arrays["error"][0] = huge
    with pytest.raises(NotFiniteError, match="row 0"), np.errstate(over="ignore"):
        channel.pack(sparse([0, 1], [1], [huge], 6), keys, memory)  # finite, but not with what is left over
    memory.arrays["error"][0] = 1
    again = qsim.ErrorFeedback(qsim.TopK(1)).memory(small())
    again.arrays["error"][:] = kept
    assert send(good) == channel.pack(good, keys, again)[1][0]


def test_what_was_not_settled_is_not_counted_twice() -> None:
    channel, keys = qsim.Channel(qsim.ErrorFeedback(qsim.TopK(1))), qsim.Key(0).words(0, 1)
    memory, v = channel.compressor.memory(small()), sparse([0, 3], [1, 2, 5], [1.0, -4.0, 2.0], 6)
    first = channel.pack(v, keys, memory)
    second = channel.pack(v, keys, memory)
    assert first[1][0] == second[1][0]
    arrived = channel.unpack(*second, keys)
    channel.compressor.on_delivered(memory, arrived)
    assert memory.arrays["error"].tolist() == [1, 0, 2]
    with pytest.raises(ValueError, match="nothing was compressed with this memory"):
        channel.compressor.on_delivered(memory, arrived)


def test_a_memory_of_others_is_refused() -> None:
    compressor, keys = qsim.ErrorFeedback(qsim.TopK(1)), qsim.Key(0).words(0, 1)
    memory = compressor.memory(small())
    with pytest.raises(ValueError, match="the memory is of 1 workers with vectors of length 6, found 1 .* length 8"):
        compressor.compress(sparse([0, 1], [1], [1.0]), keys, memory)
    with pytest.raises(ValueError, match="found 2 vectors of length 6"):
        compressor.compress(sparse([0, 1, 1], [1], [1.0], 6), qsim.Key(0).words(0, 2), memory)
    with pytest.raises(TypeError, match="memory must be what"):
        compressor.compress(sparse([0, 1], [1], [1.0], 6), keys, {"error": np.zeros(3)})
    with pytest.raises(ValueError, match="1 non-zeros are off the supports"):
        compressor.compress(sparse([0, 1], [3], [1.0], 6), keys, memory)


# Packets.


def one_of_each(codec: Codec) -> list[Any]:
    dense = Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3)
    kinds = [dense, Signs.single([True, False, True], low=-1.0, high=0.5), Floats.single([0.5, 0, -2.0])]
    return [message for message in kinds if isinstance(message, codec.carries)]


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_what_is_handed_out_is_what_is_sent(codec: Codec) -> None:
    """An array of bytes and the sizes of packets are all that a user sends; nothing else is read for a message."""
    for message in one_of_each(codec):
        batch = type(message).join([message, message])
        packets, header = codec.encode(batch), codec.header(batch)
        assert packets.data.size == packets.offsets[-1]
        sizes, blob = np.diff(packets.offsets), packets.data.tobytes()
        rebuilt = Packets(np.frombuffer(blob, np.uint8), np.concatenate([[0], np.cumsum(sizes)]))
        assert codec.decode(rebuilt, header) == codec.decode(packets, header)
        for more in (1, 8, 32):
            longer = Packets(np.frombuffer(blob + bytes(more), np.uint8), rebuilt.offsets + np.array([0, 0, more]))
            with pytest.raises(DecodeError):
                codec.decode(longer, header)


def test_packets_have_no_bytes_but_theirs() -> None:
    data = np.zeros(8, np.uint8)
    for offsets in ([0, 4], [0, 9], [1, 8], [0, 5, 4, 8], [], [0.0, 8.0]):
        with pytest.raises(ValueError, match="offsets"):
            Packets(data, np.array(offsets, np.int64 if 8.0 not in offsets or 0.0 not in offsets else float))
    with pytest.raises(ValueError, match="uint8"):
        Packets(data.astype(np.int64), np.array([0, 8]))


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_hostile_headers_are_decode_errors(codec: Codec) -> None:
    """Headers of all kinds with extreme n, s, bucket and k; no packet, empty ones, and some bytes."""
    rng = random.Random(codec.number)
    extremes = [1, 2, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**48, 2**48 + 1, 2**62, 2**63 - 1]
    for trial in range(1500):
        numbers = [rng.choice(extremes) for _ in range(rng.randrange(5))]
        header = bytes([1, codec.number, rng.randrange(7)]) + b"".join(map(leb128, numbers))
        if trial % 3 == 0:
            header = header[: rng.randrange(len(header) + 1)] + rng.randbytes(rng.randrange(4))
        packets = Packets.of(*(rng.randbytes(rng.choice([0, 0, 1, 4, 9, 40])) for _ in range(rng.randrange(3))))
        with suppress(DecodeError):
            codec.decode(packets, header)
