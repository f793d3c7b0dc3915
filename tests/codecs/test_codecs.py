"""Codecs: round trips, bytes against the oracle and pinned, hostile bytes, what is carried and what is refused."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from oracles import varint
from qsim.batch import Floats, Levels, Packets, SharedSupport, Signs, Vectors, index_type
from qsim.codecs import DecodeError, Dense, GolombRice, SparseFloats, Varint
from qsim.codecs.base import Stream, read_header
from qsim.codecs.entries import REASONS
from qsim.kernels import decode_status
from qsim.kernels.varint import KERNELS

pytestmark = pytest.mark.quick

scales = st.floats(2.0**-126, 2.0**126, width=32).map(np.float32)
values = st.floats(-(2.0**100), 2.0**100, width=32).filter(bool)


@st.composite
def level_messages(draw: st.DrawFn) -> Levels:
    s = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 127, 128, 1000, 2**23]))
    n = draw(st.sampled_from([1, 2, 60, 128, 5000, 70_000, 2**31]))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        index = sorted(draw(st.sets(st.integers(0, n - 1), max_size=20)))
        level = [draw(st.integers(1, s)) * draw(st.sampled_from([-1, 1])) for _ in index]
        scale = draw(scales) if index else draw(st.one_of(scales, st.just(np.float32(0))))
        offsets = np.array([0, len(index)])
        rows.append(Levels(n, offsets, np.array(index, np.int32), np.array(level, np.int32), np.array([scale]), s))
    return Levels.join(rows)


@st.composite
def float_messages(draw: st.DrawFn) -> Floats:
    n = draw(st.sampled_from([1, 2, 60, 128, 5000, 70_000, 2**31]))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        index = sorted(draw(st.sets(st.integers(0, n - 1), max_size=20)))
        value = np.array([draw(values) for _ in index], np.float32)
        rows.append(Floats(n, np.array([0, len(index)]), np.array(index, np.int32), value))
    return Floats.join(rows)


@given(level_messages())
def test_varint_round_trip_and_bytes(message: Levels) -> None:
    codec = Varint()
    packets = codec.encode(message)
    assert codec.decode(packets, codec.header(message)) == message
    for row in range(message.rows):
        part = slice(*message.offsets[row : row + 2])
        levels = dict(zip(message.index[part].tolist(), message.level[part].tolist(), strict=True))
        assert packets[row] == varint.packet(message.scale[row], levels, message.s)


doubles = st.floats(allow_nan=False, allow_infinity=False).filter(bool)


@given(float_messages(), st.data())
def test_sparse_float64_round_trip_and_bytes(message: Floats, data: st.DataObject) -> None:
    """Also of numbers that float32 has not: 1e-300, and those below the least normal one."""
    drawn = data.draw(st.lists(doubles, min_size=message.value.size, max_size=message.value.size))
    message = replace(message, value=np.array(drawn, np.float64))
    codec = SparseFloats("float64")
    packets = codec.encode(message)
    found = codec.decode(packets, codec.header(message))
    assert found == message
    assert found.value.dtype == np.float64
    assert codec.size(message).tolist() == [8 * len(packets[row]) for row in range(message.rows)]
    for row in range(message.rows):
        part = slice(*message.offsets[row : row + 2])
        entries = dict(zip(message.index[part].tolist(), message.value[part].tolist(), strict=True))
        assert packets[row] == varint.sparse_floats_packet(entries, "<d")


@given(st.binary(max_size=40), st.sampled_from([1, 5, 300, 2**40]))
def test_sparse_float64_packets_are_read_as_the_oracle_reads_them(body: bytes, n: int) -> None:
    _read_as_by_the_oracle(body, n)


@given(st.lists(st.tuples(st.integers(0, 400), doubles), max_size=4), st.data())
def test_good_float64_packets_with_a_changed_byte(entries: list[tuple[int, float]], data: st.DataObject) -> None:
    body = bytearray(b"".join(varint.leb128(gap) + struct.pack("<d", x) for gap, x in entries))
    if body and data.draw(st.booleans()):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    _read_as_by_the_oracle(bytes(body[: data.draw(st.integers(0, len(body)))]), 1000)
    _read_as_by_the_oracle(bytes(body), 1000)


def _read_as_by_the_oracle(body: bytes, n: int) -> None:
    codec = SparseFloats("float64")
    header = bytes([1, 19, 0]) + varint.leb128(n)
    index, value, why, at = varint.read_doubles(body, n)
    if why == "FINE":
        found = codec.decode(Packets.of(body), header)
        assert (found.index.tolist(), found.value.tolist()) == (index, value)
        assert codec.encode(found)[0] == body
    else:
        reason = REASONS[getattr(decode_status, why)]
        with pytest.raises(DecodeError, match=re.escape(f"packet 0, byte {at}: {reason}")):
            codec.decode(Packets.of(body), header)


def test_sparse_float64_of_what_is_no_message() -> None:
    codec, index = SparseFloats("float64"), np.array([3, 5], np.int32)
    for bad in (np.array([1.0, np.inf]), np.array([np.nan, 1.0])):
        with pytest.raises(ValueError, match="row 0 is no message: .*its values be finite"):
            codec.encode(Floats(8, np.array([0, 2]), index, bad))
    with pytest.raises(ValueError, match="its values be finite as float32"):
        SparseFloats().encode(Floats(8, np.array([0, 2]), index, np.array([1.0, 1e39])))
    with pytest.raises(ValueError, match="its coordinates must rise"):
        codec.encode(Floats(8, np.array([0, 2]), index[::-1].copy(), np.ones(2)))
    with pytest.raises(ValueError, match="carries Floats messages, found Levels"):
        codec.encode(Levels.single([1], scale=1, s=1))
    with pytest.raises(DecodeError, match="written by codec 6, not by"):
        codec.decode(Packets.of(b""), SparseFloats().header(Floats.single([1.0])))
    with pytest.raises(ValueError, match="dtype"):
        SparseFloats("float16")  # type: ignore[arg-type]
    dense = Floats.of(Vectors.dense(np.array([[0.0, 1e-300, -0.0, 2.0]])))  # zeros are left out
    assert codec.decode(codec.encode(dense), codec.header(dense)).value.tolist() == [1e-300, 2.0]


@given(float_messages())
def test_sparse_floats_round_trip_and_bytes(message: Floats) -> None:
    codec = SparseFloats()
    packets = codec.encode(message)
    assert codec.decode(packets, codec.header(message)) == message
    for row in range(message.rows):
        part = slice(*message.offsets[row : row + 2])
        entries = dict(zip(message.index[part].tolist(), message.value[part].tolist(), strict=True))
        assert packets[row] == varint.sparse_floats_packet(entries)


@given(
    st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=4), st.sampled_from(["float32", "float64"])
)
def test_dense_round_trip_and_bytes(rows: list[list[float]], dtype: str) -> None:
    message = Floats.of(Vectors.dense(np.array(rows, dtype)))
    codec = Dense(dtype)
    packets = codec.encode(message)
    assert codec.decode(packets, codec.header(message)) == message
    assert packets[0] == np.array(rows[0], dtype).astype("<" + np.dtype(dtype).str[1:]).tobytes()
    assert packets.bits == len(rows) * 3 * 8 * np.dtype(dtype).itemsize


def test_sparse_and_dense_floats_carry_the_same_vector() -> None:
    vector = Floats.single([0, 1, 0, -2, 0])
    sparse = Floats(5, np.array([0, 2]), np.array([1, 3], np.int32), np.float32([1, -2]))
    for message in (vector, sparse):
        for codec in (Dense(), SparseFloats()):
            back = codec.decode(codec.encode(message), codec.header(message))
            assert back.vectors().to_dense().tolist() == [[0, 1, 0, -2, 0]]


def test_golden_bytes() -> None:
    """A change of these is a change of the wire format: raise the version and docs/wire-format.md with it."""
    message = Levels.join(
        [Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3), Levels.single([0] * 8, scale=0.0, s=3)]
    )
    assert Varint().header(message).hex() == "010601080300"
    assert [Varint().encode(message)[row].hex() for row in (0, 1)] == ["0000c03f0d081a", "00000000"]
    wide = Levels(
        2**31, np.array([0, 1]), np.array([2**31 - 1], np.int32), np.array([-(2**23)], np.int32), np.float32([1]), 2**23
    )
    assert Varint().header(wide).hex() == "010601 8080808008 80808004 00".replace(" ", "")
    assert Varint().encode(wide)[0].hex() == varint.packet(np.float32(1), {2**31 - 1: -(2**23)}, 2**23).hex()
    floats = Floats.single([0, 0, 1.0, -2.0])
    assert SparseFloats().header(floats).hex() == "01060004"
    assert SparseFloats().encode(floats)[0].hex() == "020000803f00000000c0"
    assert SparseFloats("float64").header(floats).hex() == "01130004"
    assert SparseFloats("float64").encode(floats)[0].hex() == "02000000000000f03f0000000000000000c0"
    assert Dense().header(floats).hex() == "01010004"
    assert Dense("float64").encode(Floats.single([1.0]))[0].hex() == "000000000000f03f"


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        ("", "ends inside the 1 floats"),
        ("0000c0", "ends inside the 1 floats"),
        ("0000c03f8d", "ends inside an entry"),
        ("0000c03f8d00", "more bytes than it needs"),
        ("0000c03f" + "ff" * 9 + "7f", "more bytes than it needs"),
        ("0000c03f" + "ff" * 12, "more bytes than it needs"),
        ("0000c03f40", "past the last coordinate"),
        ("0000c03f38" + "00", "past the last coordinate"),
        ("0000c03f06", "larger than s"),
        ("0000c07f", "infinite or not a number"),
        ("0000c0bf", "negative"),
        ("0000807f", "infinite"),
        ("0000000000", "scale of zero"),
    ],
)
def test_hostile_varint_packets_are_refused(packet: str, why: str) -> None:
    good = Varint().encode(Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3))[0]
    with pytest.raises(DecodeError, match=f"packet 1.*{why}"):
        Varint().decode(Packets.of(good, bytes.fromhex(packet)), bytes.fromhex("010601080300"))


def test_varint_reads_what_the_oracle_reads() -> None:
    """Numbers of one to three bytes, of which four at a time may be read, one of them spoilt or not."""
    rng, seen = np.random.default_rng(0), {}
    for turn in range(6000):
        s, n = int(rng.choice([1, 2, 4, 5, 100, 5000, 100_000])), int(rng.choice([3, 40, 3000, 2**31 - 1, 2**40]))
        longest = rng.integers(1, 4)
        body = b"".join(
            varint.leb128(int(x)) for x in rng.integers(0, 2.0 ** (7 * rng.integers(1, longest + 1, 12)) - 1)
        )
        body = bytearray(body)
        if turn % 3:
            body[rng.integers(len(body))] = rng.choice([0, 1, 127, 128, 129, 255])
        index, level, wrong, at = varint.read(body, n, s)
        offsets, most = np.array([0, len(body)]), min(n, len(body))
        out, kind = np.zeros(2, np.int64), index_type(n)
        found, words = np.full(most + 8, -7, kind), np.full(most + 8, -7, np.int32)
        data = np.frombuffer(bytes(body) + bytes(32), np.uint8)
        reason, _, byte = KERNELS[min(s, 2)][2](data, offsets, 0, n, s, out, found[:most], words[:most])
        assert reason == getattr(decode_status, wrong), (body.hex(), n, s)
        assert byte == at
        assert found[: len(index)].tolist() == index
        assert words[: len(level)].tolist() == level
        assert (found[most:] == -7).all()
        assert (words[most:] == -7).all()
        seen[wrong] = seen.get(wrong, 0) + (len(index) >= 4)
    assert min(seen[wrong] for wrong in ("FINE", "TRUNCATED", "OVERLONG", "PAST_N", "PAST_LEVELS")) > 30, seen


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("80", "ends inside an entry"),
        ("80" * 9, "ends inside an entry"),
        ("80" * 10, "more than 64 bits"),
        ("8000", "more bytes than it needs"),
        ("30", "past the last coordinate"),
        ("06", "larger than s"),
    ],
)
def test_the_byte_that_is_told_counts_from_the_beginning_of_its_packet(entry: str, why: str) -> None:
    good = Varint().encode(Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3))[0]
    with pytest.raises(DecodeError, match=f"packet 1, byte 5: .*{why}"):  # behind the scale and an entry
        Varint().decode(Packets.of(good, good[:5] + bytes.fromhex(entry)), bytes.fromhex("010601080300"))


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        ("02000080", "ends inside an entry"),
        ("80", "ends inside an entry"),
        ("80000000803f", "more bytes than it needs"),
        ("040000803f", "past the last coordinate"),
        ("000000c07f", "infinite or not a number"),
        ("000000807f", "infinite or not a number"),
    ],
)
def test_hostile_float_packets_are_refused(packet: str, why: str) -> None:
    with pytest.raises(DecodeError, match=f"packet 0, byte .*{why}"):
        SparseFloats().decode(Packets.of(bytes.fromhex(packet)), bytes.fromhex("01060004"))


def test_hostile_dense_packets_are_refused() -> None:
    header = bytes.fromhex("01010002")
    with pytest.raises(DecodeError, match="packet 1 has 7 bytes; 2 numbers as float32 take 8"):
        Dense().decode(Packets.of(bytes(8), bytes(7)), header)
    with pytest.raises(DecodeError, match="packet 1 holds nan as number 1"):
        Dense().decode(Packets.of(bytes(8), bytes.fromhex("000000000000c07f")), header)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("", "at least 4 bytes"),
        ("000601080300", "format version 0"),
        ("010401080300", "codec 4"),
        ("010607080300", "kind 7"),
        ("01060108", "ends inside s"),
        ("01060188", "ends inside n"),
        ("010601000300", "n or s = 0"),
        ("010601080000", "n or s = 0"),
        ("01060188000300", "more bytes than it needs"),
        ("01060108030000", "1 bytes behind its end"),
        ("010601" + "ff" * 12, "2\\^63 or more"),
        ("01060108" + "ffffffff0f" + "00", "2\\^31"),
    ],
)
def test_hostile_headers_are_refused(header: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        Varint().decode(Packets.of(bytes(4)), bytes.fromhex(header))


def test_a_message_is_read_by_its_stream_only() -> None:
    header = bytes.fromhex("010601 ac02 80808004 00")
    assert read_header(header, Varint()) == Stream(Levels, 300, 2**23)
    with pytest.raises(DecodeError, match="does not carry"):
        read_header(bytes.fromhex("010101 ac02 80808004 00"), Dense())
    with pytest.raises(ValueError, match="do not fit"):
        Varint().encode(
            Levels(2**33, np.array([0, 0]), np.array([], np.int64), np.array([], np.int32), np.float32([0]), 2**31 - 1)
        )


def test_drawn_numbers_go_without_positions() -> None:
    message = SharedSupport(300, np.array([0, 2, 4]), 2, np.float32([1, -2, 0, 3]))
    assert Dense().header(message).hex() == "010103ac0202"
    for codec, width in ((Dense(), 4), (Dense("float16"), 2), (Dense("float64"), 8)):
        packets = codec.encode(message)
        assert codec.size(message).tolist() == [16 * width] * 2 == [8 * len(packets[row]) for row in (0, 1)]
        found = codec.decode(packets, codec.header(message))
        assert (found.n, found.k, found.offsets.tolist(), found.value.tolist()) == (300, 2, [0, 2, 4], [1, -2, 0, 3])
    assert message.nonzeros == 3
    assert message.take(np.array([1, 0])) == SharedSupport.join(
        [message.take(np.array([1])), message.take(np.array([0]))]
    )
    assert message.scaled(0.5).value.tolist() == [0.5, -1, 0, 1.5]
    with pytest.raises(TypeError, match="holds no positions"):
        message.vectors()
    with pytest.raises(DecodeError, match="k = 3, more than n = 2"):
        Dense().decode(Packets.of(bytes(12)), bytes.fromhex("0101030203"))
    with pytest.raises(ValueError, match="one n and one k"):
        SharedSupport.join([message, SharedSupport(300, np.array([0, 1]), 1, np.float32([1]))])


class OnlySigns(Varint):
    carries = (Signs,)


def test_channel_carries_what_the_codec_can() -> None:
    v = Vectors.dense(np.float32([[3, 0, -4, 1], [0, 0, 0, 0]]))
    keys = qsim.Key(1).words(0, 2)
    native = qsim.Channel(qsim.QSGD(2))
    assert native.codec == GolombRice()
    sent = native.unpack(*native.pack(v, keys), keys).to_dense()
    for codec in (Dense("float32"), SparseFloats(), Dense("float64")):  # the values of the same message
        channel = qsim.Channel(qsim.QSGD(2), codec)
        assert np.array_equal(channel.unpack(*channel.pack(v, keys), keys).to_dense(), sent)
    with pytest.raises(ValueError, match="carries Signs messages, but .*Identity.* makes Floats; use .*Dense"):
        qsim.Channel(qsim.Identity(), OnlySigns())
    with pytest.raises(ValueError, match="carries Floats messages, found Levels"):
        SparseFloats().encode(Levels.single([1], scale=1, s=1))
    with pytest.raises(TypeError, match="compressor must be"):
        qsim.Channel(4)
    with pytest.raises(TypeError, match="codec must be"):
        qsim.Channel(qsim.Identity(), "dense")


@pytest.mark.parametrize(
    ("index", "level"), [([1, 1], [1, 1]), ([3, 1], [1, 1]), ([1, 8], [1, 1]), ([1, 2], [1, 0]), ([1, 2], [1, -4])]
)
def test_what_is_no_message_is_not_written(index: list[int], level: list[int]) -> None:
    """Coordinates that do not rise or are past n, and levels of 0 or above s, would not fit the bytes reserved."""
    arrays = np.array(index, np.int32), np.array(level, np.int32), np.float32([1])
    with pytest.raises(ValueError, match="row 0 is no message"):
        Varint().encode(Levels(8, np.array([0, 2]), *arrays, 3))
    if level == [1, 1]:
        with pytest.raises(ValueError, match="row 0 is no message"):
            SparseFloats().encode(Floats(8, np.array([0, 2]), arrays[0], np.float32([1, 1])))
        for rows in ([0, 2, 2], [0, 0, 2]):
            with pytest.raises(ValueError, match=f"row {rows.index(2) - 1} is no message: its coordinates must rise"):
                Dense().encode(Floats(8, np.array(rows), arrays[0], np.float32([1, 1])))
