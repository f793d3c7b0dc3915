"""Positions and floats of the non-zeros."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Message, Packets, index_type
from qsim.codecs.base import Codec, DecodeError, read_header, write_header
from qsim.codecs.varint import REASONS, number_bytes
from qsim.options import option

_NUMBER = 4


@final
@option
class SparseFloats(Codec):
    """For every non-zero the gap to the previous one, as LEB128, and a little-endian float32.

    >>> import qsim
    >>> qsim.codecs.SparseFloats().encode(qsim.batch.Floats.single([0.0, 0.0, 1.0]))[0].hex()
    '020000803f'
    """

    carries: ClassVar[tuple[type[Message], ...]] = (Floats,)

    def header(self, message: Message) -> bytes:
        return write_header(_NUMBER, message.n)

    def encode(self, message: Message) -> Packets:
        """Write the non-zeros of every row, rounded to float32; what rounds to zero is left out."""
        from qsim.kernels.varint import encode_floats

        assert isinstance(message, Floats)
        value = message.value.astype(np.float32, copy=False)
        kept = np.flatnonzero(value)
        offsets = np.searchsorted(kept, message.offsets)
        index: NDArray[Any] = kept % message.n if message.index is None else message.index[kept]
        data = np.empty(kept.size * (4 + number_bytes(message.n)), np.uint8)
        packets = np.empty(offsets.size, np.int64)
        index = index.astype(index_type(message.n), copy=False)
        used = encode_floats(offsets, index, value[kept], message.n, packets, data)
        if used < 0:
            raise ValueError(f"row {-1 - used} is no message: its coordinates must rise and stay below n = {message.n}")
        return Packets(data[:used], packets)

    def decode(self, packets: Packets, header: bytes) -> Floats:
        from qsim.kernels.varint import FINE, decode_floats

        (n,) = read_header(header, _NUMBER, ("n",))
        most = (packets.data.size) // 5  # a non-zero takes at least five bytes
        offsets = np.empty(len(packets) + 1, np.int64)
        index, value = np.empty(most + 1, index_type(n)), np.empty(most + 1, np.float32)
        reason, row, at = decode_floats(packets.data, packets.offsets, n, offsets, index, value)
        if reason != FINE:
            raise DecodeError(f"packet {row}, byte {at}: {REASONS[reason]} (n = {n})")
        return Floats(n, offsets, index[: offsets[-1]], value[: offsets[-1]])
