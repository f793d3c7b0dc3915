"""Codecs that spend bits on every coordinate: every message, bytes against the oracles, sizes, hostile bytes."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from helpers.messages import messages, parts, refused_or_same, values
from helpers.paths import DOCS
from oracles import bitmap, elias_dense, packing
from qsim.batch import Floats, Levels, Message, Packets, Signs
from qsim.codecs import Bitmap, Codec, DecodeError, EliasDense, FixedWidth

ELIAS: list[Codec] = [EliasDense("gamma"), EliasDense("delta"), EliasDense("omega")]
CODECS: list[Codec] = [FixedWidth(), Bitmap(), *ELIAS]

few_or_many = messages(st.sampled_from([1, 2, 7, 8, 9, 60, 64, 65, 1024, 1025, 5000, 70_000]))


def carried(codec: Codec, message: Message) -> bool:
    return isinstance(message, codec.carries)


def oracle(codec: Codec, message: Message, row: int) -> bytes:
    floats, entries, s = parts(message, row)
    prefix = b"".join(struct.pack("<f", x) for x in floats)
    if not entries:
        return prefix
    if isinstance(codec, Bitmap):
        return prefix + bitmap.body(message.n, entries, s)
    if isinstance(codec, EliasDense):
        return prefix + elias_dense.body(codec.code, message.n, entries)
    return prefix + packing.body(message.n, entries, s)


def check(codec: Codec, message: Message) -> None:
    """Bytes as the oracle's, sizes as the bytes, and the message again."""
    packets = codec.encode(message)
    assert [packets[row] for row in range(message.rows)] == [oracle(codec, message, row) for row in range(message.rows)]
    assert codec.size(message).tolist() == [8 * len(packets[row]) for row in range(message.rows)]
    assert codec.decode(packets, codec.header(message)) == message


@given(few_or_many)
def test_messages_of_few_entries(message: Message) -> None:
    for codec in CODECS:
        if carried(codec, message):
            check(codec, message)


WIDTHS = [1, 2, 3, 4, 7, 8, 15, 63, 64, 127, 128, 1000, 2**13, 2**14, 2**23, 2**27, 2**28, 2**30, 2**31 - 1]


def random_rows(n: int, s: int, densities: list[float]) -> Levels:
    """Rows of levels that reach s and 1, of such densities."""
    generator = qsim.Key(n).fold(s).generator()
    rows = []
    for density in densities:
        size = np.where(generator.random(n) < 0.3, s, generator.integers(1, s, n, endpoint=True))
        size[generator.random(n) < 0.2] = 1
        level = size * generator.choice([-1, 1], n) * (generator.random(n) < density)
        rows.append(Levels.single(level, scale=float(level.any()), s=s))
    return Levels.join(rows)


@pytest.mark.parametrize("s", WIDTHS)
@pytest.mark.parametrize("n", [1, 2, 7, 9, 1023, 1024, 1025, 3000])
def test_messages_of_many_entries(n: int, s: int) -> None:
    """Every width of a field, blocks of few entries and of many, in one row and side by side."""
    message = random_rows(n, s, [1.0, 0.0, 0.9, 0.5, 0.05, 0.001, 1.0])
    half = message.level.copy()
    for codec in CODECS:
        check(codec, message)
    assert np.array_equal(half, message.level)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64, 1025])
def test_signs_and_floats_of_many_coordinates(n: int) -> None:
    generator = qsim.Key(n).generator()
    signs = [Signs.single(generator.random(n) < p, low=-1.0, high=0.5) for p in (0.0, 0.5, 1.0)]
    for codec in CODECS:
        check(codec, Signs.join(signs))
    index = np.flatnonzero(generator.random(n) < 0.7).astype(np.int32)
    value = np.float32(generator.normal(size=index.size))
    check(Bitmap(), Floats(n, np.array([0, index.size]), index, value))


def test_levels_change_from_block_to_block() -> None:
    """A row whose blocks of 1024 coordinates hold none, all, few and some levels."""
    level = np.zeros(6000, int)
    level[1024:2048] = 3
    level[2100] = level[3071] = -3
    level[3072:3200] = 1
    level[5999] = 2
    for codec in CODECS:
        check(codec, Levels.single(level, scale=1.0, s=3))


@given(few_or_many)
def test_rows_taken_are_packets_taken(message: Message) -> None:
    rows = np.arange(message.rows)[::-1]
    for codec in CODECS:
        if carried(codec, message):
            mine, theirs = codec.encode(message.take(rows)), codec.encode(message).take(rows)
            assert [mine[row] for row in rows] == [theirs[row] for row in rows]


def test_golden_bytes() -> None:
    """A change of these is a change of the wire format: raise the version and docs/wire-format.md with it."""
    message = Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3)
    signs = Signs.single([True, False, True], low=-1.0, high=0.5)
    floats = Floats(8, np.array([0, 1]), np.array([2], np.int32), np.float32([1]))
    assert [codec.number for codec in CODECS] == [4, 5, 10, 11, 12]
    assert Bitmap().header(message).hex() == "010501080300"
    assert [codec.encode(message)[0].hex() for codec in CODECS] == [
        "0000c03f61c6dd",
        "0000c03f51c080",
        "0000c03f934ec0",
        "0000c03fb34750",
        "0000c03f5140c0",
    ]
    assert [codec.encode(signs)[0].hex() for codec in CODECS] == [
        "000080bf0000003f88",
        "000080bf0000003fe040",
        "000080bf0000003f4540",
        "000080bf0000003f4250",
        "000080bf0000003f8980",
    ]
    assert Bitmap().encode(floats)[0].hex() == "203f800000"


def test_the_wire_formats_examples() -> None:
    """What docs/wire-format.md shows is what is written."""
    docs = DOCS / "wire-format.md"
    if not docs.exists():
        pytest.skip("needs the checkout's docs")
    text = docs.read_text(encoding="utf-8")
    message = Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3)
    for codec in CODECS:
        assert f"header `{codec.header(message).hex(' ')}`, packet `{codec.encode(message)[0].hex(' ')}`" in text


PREFIXES = {0: b"", 1: struct.pack("<f", 1.5), 2: struct.pack("<2f", -1.0, 0.5)}
HEADERS = [
    bytes.fromhex(text) for text in ("01 02 01 00", "01 03 05 00", "01 07 03 00", "01 06 01 02", "02 05", "00 03")
]


@given(
    st.sampled_from(CODECS),
    st.sampled_from(HEADERS),
    st.lists(st.tuples(st.booleans(), st.binary(max_size=8)), min_size=1, max_size=3),
)
def test_any_bytes_decode_or_are_refused(codec: Codec, header: bytes, packets: list[tuple[bool, bytes]]) -> None:
    """What decodes is what an encoder writes: encoding it again gives the same bytes."""
    prefix = PREFIXES[header[0]]
    refused_or_same(codec, bytes([1, codec.number]) + header, [prefix * good + body for good, body in packets])


@given(few_or_many, st.sampled_from(CODECS), st.data())
def test_flips_and_cuts_of_good_bytes_decode_or_are_refused(
    message: Message, codec: Codec, data: st.DataObject
) -> None:
    if not carried(codec, message):
        return
    good = codec.encode(message)
    packets = [bytearray(good[row]) for row in range(message.rows)]
    packet = packets[data.draw(st.integers(0, message.rows - 1))]
    if packet:
        packet[data.draw(st.integers(0, len(packet) - 1))] ^= data.draw(st.integers(1, 255))
        if data.draw(st.booleans()):
            del packet[data.draw(st.integers(0, len(packet))) :]
    packet += data.draw(st.binary(max_size=2))
    refused_or_same(codec, codec.header(message), [bytes(packet) for packet in packets])


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_of_all_short_bodies_those_decode_that_are_written(codec: Codec) -> None:
    """Bodies of a byte, and of two with few bits in the second: exactly the eight vectors of -1, 0 and 1 decode."""
    vectors = [level for level in product((-1, 0, 1), repeat=2) if any(level)]
    written = {codec.encode(Levels.single(level, scale=1.5, s=1))[0] for level in vectors}
    assert len(written) == 8
    header = codec.header(Levels.single([0, 0], scale=1.5, s=1))
    decoded = set()
    for second in (b"", *(bytes([byte]) for byte in (0x00, 0x01, 0x20, 0x40, 0x80, 0xC0))):
        for first in range(256):
            packet = PREFIXES[1] + bytes([first]) + second
            try:
                codec.decode(Packets.of(packet), header)
            except DecodeError:
                continue
            decoded.add(packet)
    assert decoded == written


LEVELS_8, FLOATS_8 = bytes.fromhex("01080300"), bytes.fromhex("0008")
SIGNS_3, SIGNS_9 = bytes.fromhex("0203"), bytes.fromhex("0209")


@pytest.mark.parametrize(
    ("codec", "header", "body", "why"),
    [
        (FixedWidth(), LEVELS_8, "61c6", "byte 6: .* ends inside"),
        (FixedWidth(), LEVELS_8, "61c6dd00", "behind the last coordinate"),
        (FixedWidth(), LEVELS_8, "e1c6dd", "byte 4: a level is larger than s"),
        (FixedWidth(), LEVELS_8, "6db6db", "byte 4: a body without an entry"),
        (FixedWidth(), bytes.fromhex("01020300"), "6c", "byte 4: a body without an entry"),
        (FixedWidth(), bytes.fromhex("01020300"), "65", "byte 4: bits or bytes behind the last coordinate"),
        (FixedWidth(), SIGNS_9, "ff81", "byte 9: bits or bytes behind the last coordinate"),
        (FixedWidth(), SIGNS_9, "ff", "byte 9: .* ends inside"),
        (FixedWidth(), SIGNS_9, "aa0aa080", "behind the last coordinate"),
        (FixedWidth(), SIGNS_9, "aaaa80", "byte 8: no level is zero, and yet there is a value for it"),
        (FixedWidth(), SIGNS_9, "aaaa50", "bits or bytes behind the last coordinate"),
        (FixedWidth(), SIGNS_9, "aaaad0", "byte 10: a level is larger than s"),
        (Bitmap(), LEVELS_8, "51", "byte 5: .* ends inside"),
        (Bitmap(), LEVELS_8, "51c08000", "behind the last coordinate"),
        (Bitmap(), LEVELS_8, "51c081", "behind the last coordinate"),
        (Bitmap(), LEVELS_8, "51c0", "ends inside"),
        (Bitmap(), LEVELS_8, "51c0c0", "behind the last coordinate"),
        (Bitmap(), LEVELS_8, "01e0", "byte 5: a level is larger than s"),
        (Bitmap(), LEVELS_8, "00", "byte 4: a body without an entry"),
        (Bitmap(), SIGNS_3, "f0e0", "byte 8: bits or bytes behind the last coordinate"),
        (Bitmap(), FLOATS_8, "207f800000", "byte 1: a value is infinite"),
        (Bitmap(), FLOATS_8, "2080000000", "byte 1: a value is zero"),
        (Bitmap(), FLOATS_8, "203f8000", "ends inside"),
        (EliasDense("gamma"), LEVELS_8, "934e", "ends inside"),
        (EliasDense("gamma"), LEVELS_8, "934ec000", "behind the last coordinate"),
        (EliasDense("gamma"), LEVELS_8, "934ec1", "byte 6: bits or bytes behind the last coordinate"),
        (EliasDense("gamma"), LEVELS_8, "ff", "byte 4: a body without an entry"),
        (EliasDense("gamma"), LEVELS_8, "ff00", "a body without an entry"),
        (EliasDense("gamma"), LEVELS_8, "9600000000", "a level is larger than s"),
        (EliasDense("gamma"), LEVELS_8, "000000000000000000000000000000", "a level is larger than s"),
        (EliasDense("delta"), LEVELS_8, "ff", "byte 4: a body without an entry"),
        (EliasDense("omega"), LEVELS_8, "00", "byte 4: a body without an entry"),
        (EliasDense("omega"), LEVELS_8, "5140c1", "behind the last coordinate"),
        (EliasDense("omega"), LEVELS_8, "5140", "ends inside"),
        (EliasDense("omega"), LEVELS_8, "ffffffffffffffffffffffffff", "a level is larger than s"),
    ],
)
def test_hostile_packets_are_refused(codec: Codec, header: bytes, body: str, why: str) -> None:
    kind = header[0]
    first = codec.encode(Signs.single([True] * header[1], low=-1, high=0.5))[0] if kind == 2 else PREFIXES[kind]
    packets = Packets.of(first, PREFIXES[kind] + bytes.fromhex(body))
    with pytest.raises(DecodeError, match=f"packet 1.*({why})"):
        codec.decode(packets, bytes([1, codec.number]) + header)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize(
    ("index", "level"),
    [([1, 1], [1, 1]), ([3, 1], [1, 1]), ([1, 8], [1, 1]), ([-1, 3], [1, 1]), ([1, 2], [1, 0]), ([1, 2], [-4, 1])],
)
def test_what_is_no_message_is_not_written(codec: Codec, index: list[int], level: list[int]) -> None:
    arrays = np.array(index, np.int32), np.array(level, np.int32), np.float32([1])
    for act in (codec.encode, codec.size):
        with pytest.raises(ValueError, match="row 0 is no message"):
            act(Levels(8, np.array([0, 2]), *arrays, 3))


def test_floats_that_are_no_message() -> None:
    for value in (np.inf, np.nan):
        for act in (Bitmap().encode, Bitmap().size):
            with pytest.raises(ValueError, match="values be finite"):
                act(Floats.single([1.0, value]))


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_lengths_that_the_bytes_cannot_hold_reserve_nothing(codec: Codec) -> None:
    """n up to 2^62 and a short packet: an array of n would end in a MemoryError, a loop over n would not end."""
    for kind in codec.carries:
        for n, why in (
            (2**62, "up to 2\\^48"),
            (2**48 + 1, "up to 2\\^48"),
            (2**48, "ends inside|take"),
            (2**40, "ends inside|take"),
        ):
            number = (Floats, Levels, Signs).index(kind)
            header = bytes([1, codec.number, number]) + qsim.codecs.base.leb128(n) + b"\x01\x00" * (kind is Levels)
            with pytest.raises(DecodeError, match=why):
                codec.decode(Packets.of(PREFIXES[number] + bytes(range(255, 155, -1))), header)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_sizes_of_long_vectors_and_where_they_end(codec: Codec) -> None:
    def of(n: int) -> Levels:
        return Levels(n, np.array([0, 1]), np.array([n - 1]), np.array([2], np.int32), np.float32([1]), 2**30)

    n = 2**48
    bits = {4: 32 * n, 5: n + 8 * 4, 10: n + 3, 11: n + 4, 12: n + 3}[codec.number]
    assert codec.size(of(n)).tolist() == [32 + -(-bits // 8) * 8]
    for act in (codec.encode, codec.size):
        with pytest.raises(
            ValueError, match=r"up to 2\^48 coordinates, found n = 281474976710657; use qsim.codecs.Varint"
        ):
            act(of(n + 1))


def test_signs_of_some_coordinates_take_two_bits_beside_such_of_all() -> None:
    """What a row takes does not depend on the rows beside it."""
    index, positive = np.array([2, *range(9)], np.int32), np.arange(10) % 3 == 0
    message = Signs(9, np.array([0, 1, 10]), index, positive, np.float32([-1, -2]), np.float32([1, 2]))
    check(FixedWidth(), message)
    assert FixedWidth().size(message).tolist() == [64 + 24, 64 + 16]
    assert FixedWidth().encode(message)[1] == FixedWidth().encode(message.take(np.array([1])))[0]


@pytest.mark.parametrize("n", [5, 8, 9, 1000, 1024, 3001])
@pytest.mark.parametrize("s", [1, 2, 4, 128, 2**20])
def test_rows_without_a_zero_take_no_value_for_it(n: int, s: int) -> None:
    """A coordinate takes b bits for 2^b levels, in rows beside such as have a zero."""
    levels = np.random.default_rng(n).integers(1, s + 1, n) * np.random.default_rng(s).choice([-1, 1], n)
    some = levels * (np.arange(n) != n // 2)
    message = Levels.join([Levels.single(row, scale=2.0, s=s) for row in (levels, some, levels)])
    check(FixedWidth(), message)
    bits = FixedWidth().size(message)
    assert bits[0] == bits[2] == 32 + 8 * -(-n * (2 * s - 1).bit_length() // 8)


@given(st.lists(st.booleans(), min_size=1, max_size=70), st.tuples(values, values), st.integers(1, 3))
def test_signs_of_every_coordinate(positive: list[bool], means: tuple[float, float], rows: int) -> None:
    low, high = means
    message = Signs.join([Signs.single(positive, low=low, high=high), Signs.single(positive[::-1], low=high, high=low)])
    for codec in CODECS:
        check(codec, message.take(np.arange(rows) % 2))


def test_means_must_be_numbers() -> None:
    for low, high in ((np.inf, 1.0), (1.0, np.nan)):
        with pytest.raises(ValueError, match="row 1 of the message holds a mean that is infinite"):
            FixedWidth().encode(
                Signs.join([Signs.single([True], low=0, high=0), Signs.single([True], low=low, high=high)])
            )
        header = FixedWidth().header(Signs.single([True], low=0, high=0))
        with pytest.raises(DecodeError, match="packet 1 holds a mean that is infinite"):
            FixedWidth().decode(Packets.of(bytes(9), struct.pack("<2f", low, high) + b"\x80"), header)


def test_no_rows() -> None:
    for codec in CODECS:
        none = Signs.single([True, False], low=0, high=1).take(np.zeros(0, np.int64))
        assert codec.encode(none).bits == 0
        assert codec.size(none).size == 0
        assert codec.decode(codec.encode(none), codec.header(none)).rows == 0


def test_the_words_of_the_dense_code() -> None:
    """Alistarh et al. 2017, appendix A: Elias(|level| + 1), then the sign; eight of a kind fill their bytes."""
    for level, lengths in ((1, (4, 5, 4)), (2, (4, 5, 4)), (3, (6, 6, 7)), (7, (8, 9, 8)), (127, (16, 15, 15))):
        message = Levels.single([level] * 8, scale=1.0, s=127)
        assert [int(codec.size(message)[0] - 32) // 8 for codec in ELIAS] == list(lengths)


def test_options() -> None:
    for codec in CODECS:
        assert eval(repr(codec)) == codec
    with pytest.raises(ValueError, match="did you mean 'gamma'"):
        EliasDense("gama")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="carries Levels or Signs messages"):
        qsim.Channel(qsim.Identity(), FixedWidth())
