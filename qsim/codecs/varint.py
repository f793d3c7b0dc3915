"""Sparse level messages in bytes."""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np

from qsim.batch import Levels, Message, Packets, index_type
from qsim.codecs.base import Codec, DecodeError, read_header, write_header
from qsim.options import option

_NUMBER = 3

REASONS = {
    1: "the packet ends inside its scale",
    2: "the packet ends inside a number",
    3: "a number takes more bytes than it needs, or more than 64 bits",
    4: "a gap leads past the last coordinate",
    5: "a level is larger than s",
    6: "the scale is negative, infinite or not a number",
    7: "a value is infinite or not a number",
    8: "the scale is zero, but non-zeros follow",
}
"""The reasons that the kernels give, in words."""


def number_bytes(n: int, width: int = 0) -> int:
    """Return the most LEB128 bytes that a gap below n takes with `width` further bits."""
    return max(1, -(-((n - 1).bit_length() + width) // 7))


@final
@option
class Varint(Codec):
    """The float32 scale, then for every non-zero one LEB128 number that holds its gap, level and sign.

    The number is `((gap - 1) << width | (|level| - 1)) << 1 | sign` with width the bit length of s - 1, so that at
    s = 1 a gap of up to 64 takes a single byte. A zero vector is its four bytes of scale.

    >>> import qsim
    >>> message = qsim.batch.Levels.single([0, 0, -1, 1], scale=1.0, s=1)
    >>> qsim.codecs.Varint().encode(message)[0].hex()
    '0000803f0500'
    """

    carries: ClassVar[tuple[type[Message], ...]] = (Levels,)

    def header(self, message: Message) -> bytes:
        assert isinstance(message, Levels)
        if (message.n - 1).bit_length() + _width(message.s) + 1 > 64:
            raise ValueError(f"gaps below n = {message.n} and levels up to s = {message.s} do not fit into 64 bits")
        return write_header(_NUMBER, message.n, message.s)

    def encode(self, message: Message) -> Packets:
        from qsim.kernels.varint import encode_levels

        assert isinstance(message, Levels)
        width = _width(message.s)
        data = np.empty(4 * message.rows + message.level.size * number_bytes(message.n, width + 1), np.uint8)
        offsets = np.empty(message.rows + 1, np.int64)
        used = encode_levels(
            message.offsets, message.index, message.level, message.scale, message.n, message.s, width, offsets, data
        )
        if used < 0:
            raise ValueError(
                f"row {-1 - used} is no message: its coordinates must rise and stay below n = {message.n},"
                f" its levels be from 1 to s = {message.s} or from -{message.s} to -1"
            )
        return Packets(data[:used], offsets)

    def decode(self, packets: Packets, header: bytes) -> Levels:
        from qsim.kernels.varint import FINE, count_levels, decode_levels

        n, s = read_header(header, _NUMBER, ("n", "s"))
        if s >= 2**31:
            raise DecodeError(f"the stream header holds s = {s}; levels are below 2^31")
        offsets = np.empty(len(packets) + 1, np.int64)
        count_levels(packets.data, packets.offsets, offsets)
        index, level = np.empty(offsets[-1], index_type(n)), np.empty(offsets[-1], np.int32)
        scale = np.empty(len(packets), np.float32)
        reason, row, at = decode_levels(packets.data, packets.offsets, n, s, _width(s), offsets, index, level, scale)
        if reason != FINE:
            raise DecodeError(f"packet {row}, byte {at}: {REASONS[reason]} (n = {n}, s = {s})")
        return Levels(n, offsets, index, level, scale, s)


def _width(s: int) -> int:
    return (s - 1).bit_length()
