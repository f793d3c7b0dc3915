"""Packets of packets: the bytes of each block behind its length."""

from __future__ import annotations

import numpy as np
import pytest

import qsim
from qsim.batch import Blocks, Floats, Levels, Packets
from qsim.codecs import Blockwise, DecodeError, Dense, SparseFloats, Varint

pytestmark = pytest.mark.quick

CODEC = Blockwise((Varint(), Dense()))
MESSAGE = Blocks.of([Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3), Floats.single([0.5])])
HEADER, PACKET = "01 11 05 02 06 01 06 01 08 03 00 04 01 01 00 01", "07 00 00 c0 3f 0d 08 1a 00 00 00 3f"


def test_golden_bytes() -> None:
    """As the page of the wire format has them."""
    assert CODEC.header(MESSAGE).hex(" ") == HEADER
    assert CODEC.encode(MESSAGE)[0].hex(" ") == PACKET


def test_a_packet_is_cut_as_the_page_says() -> None:
    """In plain Python: lengths of no, one, two and three bytes, and blocks in blocks."""
    counts = [[0, 1, 25, 26, 3000], [4000, 0, 1, 30, 7], [2, 2, 2, 2, 2]]
    blocks = [
        Floats(5000, np.cumsum([0, *row]), np.concatenate([np.arange(k) for k in row]), np.ones(sum(row), np.float32))
        for row in counts
    ]
    blocks.append(Blocks.of(blocks[:2]))
    codec = Blockwise((*[SparseFloats()] * 3, Blockwise((SparseFloats(), SparseFloats()))))
    message = Blocks.of(blocks)
    header, packets = codec.header(message), codec.encode(message)
    alone = [each.encode(block) for each, block in zip(codec.codecs, blocks, strict=True)]
    for row in range(5):
        packet, found = packets[row], []
        for _ in range(3):
            length = shift = 0
            while True:
                byte, packet = packet[0], packet[1:]
                length, shift = length | (byte & 127) << shift, shift + 7
                if byte < 128:
                    break
            found.append(packet[:length])
            packet = packet[length:]
        assert [*found, packet] == [part[row] for part in alone]
    assert codec.decode(packets, header).vectors() == message.vectors()
    assert codec.size(message).tolist() == (8 * np.diff(packets.offsets)).tolist()


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        ("", "packet 0 ends inside the length of block 0"),
        ("87", "packet 0 ends inside the length of block 0"),
        ("87 00 00 00 c0 3f 0d 08 1a 00 00 00 3f", "packet 0 writes the length of block 0 in more bytes than it needs"),
        ("06 00 00 c0 3f 0d", "packet 0 ends inside block 0"),
        ("ff ff ff ff ff ff ff ff 7f 00", "packet 0 ends inside block 0"),
        ("ff ff ff ff ff ff ff ff ff 01", "packet 0 ends inside block 0"),
        ("07 00 00 c0 3f 0d 08 1a 00 00 00", "packet 0, block 1, by qsim.codecs.Dense"),
        ("06 00 00 c0 3f 0d 08 1a 00 00 00 3f", "packet 0, block 1, by qsim.codecs.Dense"),
        ("07 00 00 c0 bf 0d 08 1a 00 00 00 3f", "packet 0, block 0, by qsim.codecs.Varint"),
    ],
)
def test_hostile_packets_are_refused(packet: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        CODEC.decode(Packets.of(bytes.fromhex(packet)), bytes.fromhex(HEADER))


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("01 11 04 02", "begins with the bytes 1, 17, 5"),
        ("01 11", "begins with the bytes 1, 17, 5"),
        ("01 11 05", "ends inside the number of blocks"),
        ("01 11 05 01 06 01 06 01 08 03 00", "the stream has 1 blocks; .* reads 2"),
        ("01 11 05 02 07 01 06 01 08 03 00", "ends inside that of block 0"),
        ("01 11 05 02 06 01 06 01 08 03 00 05 01 01 00 01", "ends inside that of block 1"),
        (HEADER + " 00", "1 bytes behind its end"),
        ("01 11 05 02 06 01 07 01 08 03 00 04 01 01 00 01", "^block 0, by .*: the stream was written by codec 7"),
    ],
)
def test_hostile_headers_are_refused(header: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        CODEC.decode(Packets.of(bytes.fromhex(PACKET)), bytes.fromhex(header))
    with pytest.raises(DecodeError, match="kind 5"):
        Varint().decode(Packets.of(b""), bytes.fromhex("01 06 05 02"))


def test_coordinates_can_be_counted() -> None:
    """2^63 - 1 of them in a block, and one in the next."""
    header = bytes.fromhex("01 11 05 02 0c 01 06 00 ff ff ff ff ff ff ff ff 7f 04 01 01 00 01")
    with pytest.raises(DecodeError, match="the blocks of the stream header have 2.63 coordinates or more"):
        Blockwise((SparseFloats(), Dense())).decode(Packets.of(bytes.fromhex("00 00 00 00 3f")), header)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="codecs must hold a codec for each block, found none"):
        Blockwise(())
    with pytest.raises(TypeError, match="a tuple of codecs"):
        Blockwise((Varint(), qsim.QSGD(4)))
    with pytest.raises(ValueError, match="carries 2 blocks, found 1"):
        CODEC.encode(Blocks.of([Floats.single([1.0])]))
    with pytest.raises(ValueError, match="Dense.* carries .* messages, found Levels"):
        CODEC.encode(Blocks.of([MESSAGE.blocks[0], MESSAGE.blocks[0]]))
    with pytest.raises(ValueError, match="one message or more with as many rows"):
        Blocks.of([])
    with pytest.raises(ValueError, match="blocks of the same kinds and lengths"):
        Blocks.join([MESSAGE, Blocks.of(MESSAGE.blocks[:1])])
