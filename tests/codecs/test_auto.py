"""Auto: every row by the shortest code, rows of one batch by different ones, and hostile bytes."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from helpers.messages import messages
from qsim.batch import Floats, Levels, Message, Packets, SharedSupport, Signs
from qsim.codecs import Auto, Blockwise, Codec, DecodeError, Dense, SparseFloats, Varint

AUTO = Auto()


def level_rows(*rows: list[int], s: int) -> Levels:
    return Levels.join([Levels.single(row, scale=1.0, s=s) for row in rows])


@settings(max_examples=40)
@given(messages())
def test_every_row_goes_by_the_shortest_code(message: Message) -> None:
    """Against the lengths of what each codec of the package writes; its packet comes behind the byte that names it."""
    packets = AUTO.encode(message)
    assert AUTO.decode(packets, AUTO.header(message)) == message
    assert AUTO.size(message).tolist() == [8 * len(packets[row]) for row in range(message.rows)]
    for row, codec in enumerate(AUTO.choice(message)):
        alone = message.take(np.array([row]))
        assert packets[row] == bytes([codec.number]) + codec.encode(alone)[0]
        assert len(packets[row]) == 1 + min(sizes(alone)) // 8


def sizes(message: Message) -> list[int]:
    """The bits of a row by every exported codec that takes the message, with each of its codes."""
    found = []
    for name in qsim.codecs.__all__:
        kind = getattr(qsim.codecs, name)
        if issubclass(kind, Codec) and kind not in (Auto, Blockwise, Codec):
            codes = [("gamma",), ("delta",), ("omega",)] if "Elias" in name else [()]
            for options in codes:
                with suppress(ValueError):
                    found.append(int(kind(*options).size(message)[0]))
    return found


def test_rows_of_one_batch_go_by_different_codes() -> None:
    few, full = [0] * 299 + [1], [1, -1, 2] * 100
    message = level_rows(few, full, few, [0] * 300, s=2)
    chosen = AUTO.choice(message)
    assert chosen[0] == chosen[2] != chosen[1]
    assert AUTO.decode(AUTO.encode(message), AUTO.header(message)) == message


def test_dense_floats_go_dense_and_come_back_sparse() -> None:
    message = Floats.join([Floats.single(np.arange(1.0, 41.0)), Floats.single([0.0] * 39 + [2.0])])
    assert AUTO.choice(message) == [Dense("float32"), Varint()]
    back = AUTO.decode(AUTO.encode(message), AUTO.header(message))
    assert back == SparseFloats().decode(SparseFloats().encode(message), SparseFloats().header(message))


@pytest.mark.parametrize(
    "message", [level_rows([0, 1], s=2), Floats.single([1.0, 0.0]), Signs.single([True], low=0, high=1)]
)
def test_no_rows(message: Message) -> None:
    none = message.take(np.zeros(0, np.int64))
    assert AUTO.choice(none) == []
    assert AUTO.size(none).tolist() == []
    back = AUTO.decode(AUTO.encode(none), AUTO.header(none))
    assert (type(back), back.n, back.rows) == (type(none), none.n, 0)


def test_golden_bytes() -> None:
    message = Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3)
    assert AUTO.header(message).hex() == "010f01080300"
    assert AUTO.encode(message)[0].hex() == "040000c03f61c6dd"  # of the codes with three bytes the first


def test_hostile_packets_are_refused_with_their_row() -> None:
    good = AUTO.encode(Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3))[0]
    varint, header = bytes.fromhex("060000c03f0d081a"), bytes.fromhex("010f01080300")
    for bad, why in (
        (b"", "packet 1 is empty"),
        (bytes([99]) + good[1:], "packet 1 names codec 99; for Levels it may be one of"),
        (bytes([1]) + good[1:], "packet 1 names codec 1;"),
        (bytes([15]) + good, "packet 1 names codec 15"),
        (varint[:-1] + b"\xff", r"packet 1, by .*Varint\(\), byte 6: the packet ends inside an entry"),
        (varint[:3], r"packet 1, by .*Varint\(\) ends inside the 1 floats"),
    ):
        with pytest.raises(DecodeError, match=why) as caught:
            AUTO.decode(Packets.of(good, bad, good), header)
        assert caught.value.row == 1


@given(st.sampled_from(["00 32", "01 32 03 00", "02 03"]), st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_any_bytes_decode_or_are_refused(header: str, packets: list[bytes]) -> None:
    try:
        message = AUTO.decode(Packets.of(*packets), bytes([1, 15]) + bytes.fromhex(header))
    except DecodeError:
        return
    assert message.rows == len(packets)


def test_what_no_codec_carries_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="row 0 is no message"):
        AUTO.encode(Levels(8, np.array([0, 1]), np.array([8], np.int32), np.array([1], np.int32), np.float32([1]), 3))
    with pytest.raises(ValueError, match=r"carries Levels or Signs or Floats messages, found SharedSupport"):
        AUTO.encode(SharedSupport(3, np.array([0, 1]), 1, np.float32([1])))
