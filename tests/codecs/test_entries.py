"""Codecs of non-zeros: every message through every codec, bytes against the oracle, sizes, hostile bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.messages import messages, parts, refused_or_same
from oracles import bitcodes
from qsim.batch import Floats, Levels, Message, Packets, Signs
from qsim.codecs import (
    RANS,
    Auto,
    Bitmap,
    Codec,
    DecodeError,
    Dense,
    Elias,
    EliasDense,
    FixedWidth,
    GolombRice,
    SparseFloats,
    Varint,
)

CODES = {"gamma": Elias("gamma"), "delta": Elias("delta"), "omega": Elias("omega"), "rice": GolombRice()}
CODECS: list[Codec] = [Varint(), *CODES.values(), RANS()]


@given(messages(), st.sampled_from(CODECS))
def test_round_trip_and_size(message: Message, codec: Codec) -> None:
    packets = codec.encode(message)
    assert codec.decode(packets, codec.header(message)) == message
    assert codec.size(message).tolist() == [8 * len(packets[row]) for row in range(message.rows)]


@given(messages(), st.sampled_from(list(CODES)))
def test_bytes_are_the_oracles(message: Message, code: str) -> None:
    packets = CODES[code].encode(message)
    for row in range(message.rows):
        assert packets[row] == bitcodes.packet(code, message.n, *parts(message, row))


@pytest.mark.parametrize(
    "codec", [*CODECS, FixedWidth(), Bitmap(), *map(EliasDense, ("gamma", "delta", "omega"))], ids=repr
)
def test_levels_of_every_size_at_every_bit(codec: Codec) -> None:
    """Code words of all lengths, which begin at any bit of a byte: what a decoder sees at once may end inside one."""
    sizes = [size for e in range(31) for size in (2**e, 2**e + 1, 2 ** (e + 1) - 1)]
    for shift in range(16):
        level = np.array([*[1] * shift, *np.repeat(sizes, 2)], np.int64)
        level[1::2] *= -1
        index = np.cumsum(np.where(np.arange(level.size) % 3 == 1, 5, 1))
        index = index.astype(np.int32)
        message = Levels(1000, np.array([0, level.size]), index, level.astype(np.int32), np.float32([1]), 2**31 - 1)
        assert codec.decode(codec.encode(message), codec.header(message)) == message


@given(messages())
def test_rows_taken_are_packets_taken(message: Message) -> None:
    rows = np.arange(message.rows)[::-1]
    for codec in CODECS:
        mine, theirs = codec.encode(message.take(rows)), codec.encode(message).take(rows)
        assert [mine[row] for row in rows] == [theirs[row] for row in rows]


@pytest.mark.parametrize(
    ("number", "length"), [(1, 1), (2, 3), (4, 6), (8, 7), (16, 11), (32, 12), (64, 13), (128, 14)]
)
def test_lengths_of_omega(number: int, length: int) -> None:
    """Elias 1975, table: also what the kernel spends, found by how the packet of eight such gaps grows."""
    assert len(bitcodes.omega(number)) == length
    index = np.cumsum([number] * 8).astype(np.int32) - 1
    message = Levels(2000, np.array([0, 8]), index, np.ones(8, np.int32), np.float32([1]), 1)
    assert Elias("omega").size(message).tolist() == [32 + 8 * (length + 1)]


def test_golden_bytes() -> None:
    """A change of these is a change of the wire format: raise the version and docs/wire-format.md with it."""
    message = Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3)
    signs = Signs.single([True, False, True], low=-1.0, high=0.5)
    floats = Floats(8, np.array([0, 1]), np.array([2], np.int32), np.float32([1]))
    assert Elias("gamma").header(message).hex() == "010701080300"
    assert [Elias("gamma").header(m).hex() for m in (signs, floats)] == ["01070203", "01070008"]
    assert [codec.number for codec in CODES.values()] == [7, 8, 9, 13]
    written = {code: [codec.encode(m)[0].hex() for m in (message, signs, floats)] for code, codec in CODES.items()}
    assert written == GOLDEN


GOLDEN = {  # of (0, -3, 0, 1, 0, 0, 0, 2) with s = 3, of the signs + - +, and of 1.0 at coordinate 2
    "gamma": ["0000c03f569210", "000080bf0000003fb8", "67f0000000"],
    "delta": ["0000c03f4aa2c200", "000080bf0000003fb8", "53f8000000"],
    "omega": ["0000c03f9d0a13", "000080bf0000003f13", "c7f000001f"],
    "rice": ["0000c03f006d4480", "000080bf0000003f00b8", "02c7f0000000"],
}

HEADERS = [
    bytes.fromhex(text) for text in ("00 32", "01 32 01 00", "01 32 03 00", "01 32 81 01 0a", "02 03", "00 8080808001")
]


@given(st.sampled_from(CODECS), st.sampled_from(HEADERS), st.lists(st.binary(max_size=60), min_size=1, max_size=4))
def test_any_bytes_decode_or_are_refused(codec: Codec, header: bytes, packets: list[bytes]) -> None:
    """What decodes is what an encoder writes: encoding it again gives the same bytes."""
    refused_or_same(codec, bytes([1, codec.number]) + header, packets)


@given(messages(), st.sampled_from(CODECS), st.data())
def test_flips_and_cuts_of_good_bytes_decode_or_are_refused(
    message: Message, codec: Codec, data: st.DataObject
) -> None:
    good = codec.encode(message)
    packets = [bytearray(good[row]) for row in range(message.rows)]
    packet = packets[data.draw(st.integers(0, message.rows - 1))]
    if packet:
        packet[data.draw(st.integers(0, len(packet) - 1))] ^= data.draw(st.integers(1, 255))
        del packet[data.draw(st.integers(0, len(packet))) :]
    packet += data.draw(st.binary(max_size=3))
    refused_or_same(codec, codec.header(message), [bytes(packet) for packet in packets])


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize(
    ("index", "level"), [([1, 1], [1, 1]), ([3, 1], [1, 1]), ([1, 8], [1, 1]), ([1, 2], [1, 0]), ([1, 2], [1, -4])]
)
def test_what_is_no_message_is_not_written(codec: Codec, index: list[int], level: list[int]) -> None:
    arrays = np.array(index, np.int32), np.array(level, np.int32), np.float32([1])
    for act in (codec.encode, codec.size):
        with pytest.raises(ValueError, match="row 0 is no message"):
            act(Levels(8, np.array([0, 2]), *arrays, 3))


BAD_FLOATS = {
    "nan": ([1], [np.nan]),
    "above float32": ([1], [1e300]),
    "falling": ([5, 2], [1.0, 2.0]),
    "twice": ([2, 2], [1.0, 2.0]),
    "negative": ([-1], [1.0]),
    "past n": ([9], [1.0]),
}


@pytest.mark.parametrize("bad", BAD_FLOATS)
def test_floats_that_are_no_message_are_refused_at_once_by_all(bad: str) -> None:
    index, value = (np.array(part) for part in BAD_FLOATS[bad])
    message = Floats(8, np.array([0, 0, index.size]), index.astype(np.int32), value)
    for codec in (Dense(), Dense("float16"), SparseFloats(), Bitmap(), Auto(), *CODECS):
        for act in (codec.encode, codec.size):
            with pytest.raises(ValueError, match="row 1 "), np.errstate(over="ignore"):
                act(message)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_a_float_of_zero_is_not_what_an_encoder_writes(codec: Codec) -> None:
    message = Floats(8, np.array([0, 1]), np.array([2], np.int32), np.float32([1.2345678]))
    packet = bytearray(codec.encode(message)[0])
    value = np.float32(1.2345678).view(np.uint32)
    bits = f"{int.from_bytes(packet, 'big'):0{8 * len(packet)}b}"
    for order in ("big", "little"):
        for zero in (0, 2**31):
            written = f"{int.from_bytes(int(value).to_bytes(4, order), 'big'):032b}"
            if written in bits:
                changed = bits.replace(written, f"{int.from_bytes(zero.to_bytes(4, order), 'big'):032b}")
                with pytest.raises(DecodeError, match="a value is zero"):
                    codec.decode(Packets.of(int(changed, 2).to_bytes(len(packet), "big")), codec.header(message))


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_floats_in_front_must_be_numbers_that_mean_something(codec: Codec) -> None:
    for scale, why in ((-1.0, "negative"), (np.inf, "infinite"), (np.nan, "not a number"), (0.0, "scale of zero")):
        message = Levels.single([1], scale=scale, s=1)
        with pytest.raises(ValueError, match=f"row 0 of the message .*{why}"):
            codec.encode(message)
        good = codec.encode(Levels.single([1], scale=1, s=1))[0]
        with pytest.raises(DecodeError, match=f"packet 0 .*{why}"):
            codec.decode(Packets.of(np.float32(scale).tobytes() + good[4:]), codec.header(message))
    signs = Signs.single([True], low=-1, high=1)
    packets = Packets.of(codec.encode(signs)[0], bytes(7))
    with pytest.raises(DecodeError, match="packet 1 ends inside the 2 floats"):
        codec.decode(packets, codec.header(signs))
    with pytest.raises(ValueError, match="values be finite"):
        codec.encode(Floats.single([np.inf]))


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_a_header_that_promises_more_scales_than_there_are_bytes(codec: Codec) -> None:
    for n in ("ffffffffffffffff7f", "ffffffff07"):
        header = bytes([1, codec.number, 1]) + bytes.fromhex(n + "0101")
        with pytest.raises(DecodeError, match="packet 0 ends inside the [0-9]+ floats"):
            codec.decode(Packets.of(bytes(100)), header)


@pytest.mark.parametrize("code", CODES)
def test_one_past_the_last_coordinate_or_level_is_refused(code: str) -> None:
    codec = CODES[code]
    header = codec.header(Levels.single([0] * 8, scale=1, s=3))
    for entries, why in (({2: 1, 8: 1}, "past the last coordinate"), ({2: 1, 7: -4}, "larger than s")):
        packet = bitcodes.packet(code, 8, [1.0], entries, 3)
        with pytest.raises(DecodeError, match=f"packet 0, byte .*{why}"):
            codec.decode(Packets.of(packet), header)


def test_a_zero_scale_of_one_bucket_is_seen() -> None:
    message = Levels(4, np.array([0, 1]), np.array([3], np.int32), np.array([1], np.int32), np.float32([1, 0]), 1, 2)
    with pytest.raises(ValueError, match="scale of zero"):
        Varint().encode(message)


def test_vectors_too_long_for_a_code_are_refused() -> None:
    message = Levels(2**48 + 1, np.array([0, 0]), np.zeros(0, np.int64), np.zeros(0, np.int32), np.float32([0]), 1)
    for codec in (*CODES.values(), RANS()):
        for act in (codec.encode, codec.size):
            with pytest.raises(ValueError, match=r"2\^48"):
                act(message)
        header = bytearray(Varint().header(message))
        header[1] = codec.number
        with pytest.raises(DecodeError, match=r"2\^48"):  # no encoder wrote it
            codec.decode(Packets(np.zeros(4, np.uint8), np.array([0, 4])), bytes(header))


def test_half_precision() -> None:
    codec, message = Dense("float16"), Floats.single([1.0, 2.0**-20, -65504.0])
    assert codec.encode(message)[0] == np.array([1.0, 2.0**-20, -65504.0], "<f2").tobytes()
    assert codec.decode(codec.encode(message), codec.header(message)).value.dtype == np.float32
    assert codec.size(message).tolist() == [48]
    for bad in (70_000.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="row 0 holds .* at coordinate 1, and float16 ends at 65504"):
            codec.encode(Floats.single([1.0, bad]))


def test_values_of_buckets_and_signs() -> None:
    index, level = np.array([0, 2, 3], np.int32), np.array([2, -1, 1], np.int32)
    message = Levels(5, np.array([0, 3]), index, level, np.float32([4, 8, 0]), 2, 2)
    assert message.vectors().to_dense().tolist() == [[4, 0, -4, 4, 0]]
    assert message.scaled(0.5).vectors().to_dense().tolist() == [[2, 0, -2, 2, 0]]
    signs = Signs(
        5, np.array([0, 2]), np.array([1, 4], np.int32), np.array([True, False]), np.float32([-3]), np.float32([2])
    )
    assert signs.vectors().to_dense().tolist() == [[0, 2, 0, 0, -3]]
    assert signs.nonzeros == 2
    both = Signs.join([signs, Signs.single([False] * 5, low=1, high=7)])
    assert both.vectors().to_dense().tolist() == [[0, 2, 0, 0, -3], [1] * 5]


def test_sparse_floats_sends_values_only() -> None:
    floats = Floats.single([0, 0, 1.0])
    assert SparseFloats().encode(floats)[0] == Varint().encode(floats)[0]
    assert SparseFloats().size(floats).tolist() == [40]
