"""Outliers: bytes that never change, packets of two parts, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

import qsim
from qsim.batch import Floats, Levels, Packets, WithOutliers
from qsim.batch.checks import require_message
from qsim.codecs import DecodeError, Dense, Outliers, Varint
from qsim.compressors import QUICFL

CODEC = Outliers()
BULK = Levels.single([1, -2, 2, 1, -1], scale=1.5, s=2)
FEW = Floats(5, np.array([0, 2]), np.array([1, 4], np.int32), np.float32([-7.0, 6.5]))
MESSAGE = WithOutliers.of(BULK, FEW)


def test_golden_bytes() -> None:
    """The header of both streams; the length of the bulk, a scale and five fields of three bits, and two floats."""
    assert CODEC.header(MESSAGE).hex(" ") == "01 12 06 02 06 01 04 01 05 02 00 04 01 06 00 05"
    assert CODEC.encode(MESSAGE)[0].hex(" ") == "06 00 00 c0 3f 62 32 01 00 00 e0 c0 02 00 00 d0 40"
    assert CODEC.size(MESSAGE).tolist() == [8 * 17]
    assert CODEC.decode(CODEC.encode(MESSAGE), CODEC.header(MESSAGE)) == MESSAGE


def test_golden_bytes_of_the_compressor() -> None:
    """Numbers that nearly all add up in coordinate 6 when rotated with this key."""
    v = np.float32([1, 1, -1, 1, 1, -1, 1, 1, 1, 1, -1, 1, 1, 1, 1, 1])
    message = QUICFL(2, rotations=1, chunk=16).quantize(v, qsim.Key(16))
    assert CODEC.encode(message)[0].hex(" ") == "08 00 00 80 3f 56 9e 96 55 06 00 00 60 40"


def test_outliers_stand_instead_of_the_bulk() -> None:
    assert MESSAGE.vectors().to_dense().tolist() == [[0.75, -7.0, 1.5, 0.75, 6.5]]
    assert MESSAGE.nonzeros == 5
    assert MESSAGE.offsets.tolist() == [0, 7]
    doubled = MESSAGE.scaled(2)
    assert np.array_equal(doubled.vectors().to_dense(), 2 * MESSAGE.vectors().to_dense())
    assert MESSAGE.scaled(1e-46).outliers.value.size == 0


def test_rows_are_joined_and_taken() -> None:
    none = Floats(5, np.array([0, 0]), np.zeros(0, np.int32), np.zeros(0, np.float32))
    other = WithOutliers.of(BULK, none)
    both = WithOutliers.join([MESSAGE, other])
    assert both.take(np.array([1, 0])) == WithOutliers.join([other, MESSAGE])
    packets, header = CODEC.encode(both), CODEC.header(both)
    assert CODEC.decode(packets, header) == both
    assert [packets[0], packets[1]] == [CODEC.encode(MESSAGE)[0], CODEC.encode(other)[0]]
    with pytest.raises(ValueError, match=r"bulk of one kind, found \['Floats', 'Levels'\]"):
        WithOutliers.join([MESSAGE, WithOutliers.of(Floats.single(np.ones(5)), FEW)])


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        ("", "ends inside the length of block 0"),
        ("07 00 00 c0 3f 8e 40", "ends inside block 0"),
        ("86 00 00 00 c0 3f 8e 40", "in more bytes than it needs"),
        ("05 00 00 c0 3f 8e", "block 0, by qsim.codecs.FixedWidth()"),
        ("06 00 00 c0 3f 8e 41", "block 0, by qsim.codecs.FixedWidth()"),
        ("06 00 00 c0 3f 8e 40 01 00 00 e0", "block 1, by qsim.codecs.SparseFloats()"),
        ("06 00 00 c0 3f 8e 40 05 00 00 e0 c0", "block 1, by qsim.codecs.SparseFloats()"),
        ("06 00 00 c0 3f 8e 40 01 00 00 00 00", "block 1, by qsim.codecs.SparseFloats()"),
        ("06 00 00 c0 3f 8e 40 01 00 00 c0 7f", "block 1, by qsim.codecs.SparseFloats()"),
    ],
)
def test_what_no_encoder_wrote_is_refused(packet: str, error: str) -> None:
    with pytest.raises(DecodeError, match=re.escape(error)):
        CODEC.decode(Packets.of(bytes.fromhex(packet)), CODEC.header(MESSAGE))


def test_headers_of_other_streams_are_refused() -> None:
    header, packets = CODEC.header(MESSAGE), CODEC.encode(MESSAGE)
    longer = Outliers().header(WithOutliers.of(BULK, FEW))[:-1] + bytes([6])
    with pytest.raises(DecodeError, match="a bulk of n = 5 and outliers of n = 6"):
        CODEC.decode(packets, longer)
    with pytest.raises(DecodeError, match="begins with the bytes 1, 18, 6"):
        CODEC.decode(packets, b"\1\x11\5" + header[3:])
    with pytest.raises(DecodeError, match="written by codec 4"):
        Outliers(Varint()).decode(packets, header)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(TypeError, match=r"bulk must be a codec such as .*, found qsim.QSGD\(levels=4\)"):
        Outliers(qsim.QSGD(4))
    with pytest.raises(ValueError, match=r"as many rows of one length, found \(1, 5\), \(1, 4\)"):
        WithOutliers.of(BULK, Floats(4, np.array([0, 0]), np.zeros(0, np.int32), np.zeros(0, np.float32)))
    for few in (Floats.single(np.ones(5)), Floats(5, FEW.offsets, FEW.index, np.float32([1, 0]))):
        with pytest.raises(ValueError, match="sparse floats without a zero"):
            WithOutliers.of(BULK, few)
    with pytest.raises(ValueError, match="carries Floats"):
        Outliers(Dense()).encode(MESSAGE)
    with pytest.raises(ValueError, match=r"use qsim.codecs.Outliers\(\)"):
        qsim.Channel(QUICFL(2), qsim.codecs.FixedWidth())


def test_a_users_message_is_checked_part_by_part() -> None:
    require_message("it", MESSAGE, WithOutliers, 5, 1)
    wrong = WithOutliers(5, MESSAGE.offsets, BULK, Floats(5, FEW.offsets, np.array([4, 1], np.int32), FEW.value))
    with pytest.raises(ValueError, match="row 0 of the outliers of it: coordinates must rise"):
        require_message("it", wrong, WithOutliers, 5, 1)
    zero = WithOutliers(5, MESSAGE.offsets, BULK, Floats(5, FEW.offsets, FEW.index, np.float32([1, 0])))
    with pytest.raises(ValueError, match="the outliers of it must be sparse, and none of them zero"):
        require_message("it", zero, WithOutliers, 5, 1)
    short = WithOutliers(5, MESSAGE.offsets, Levels.single([1], scale=1, s=1), FEW)
    with pytest.raises(ValueError, match="the bulk of it must stand for vectors of length 5"):
        require_message("it", short, WithOutliers, 5, 1)
