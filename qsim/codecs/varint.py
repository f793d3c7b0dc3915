"""Gaps and levels as LEB128 numbers."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Packets
from qsim.codecs.base import TooLongError
from qsim.codecs.entries import Call, Entries, EntryCodec
from qsim.options import option


@final
@option
class Varint(EntryCodec):
    """Gap, level and sign of every non-zero in one LEB128 number.

    After the scale, a non-zero is `((gap - 1) << width | (|level| - 1)) << 1 | sign`, with width the bit length of
    s - 1; so at s = 1 a gap of up to 64 takes a single byte. A float is `gap - 1` and then its four bytes. A zero
    vector is the four bytes of its scale.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.batch.Levels.single([0, 0, -1, 1], scale=1.0, s=1)
    >>> qsim.codecs.Varint().encode(message)[0].hex()
    '0000803f0500'
    """

    @property
    def number(self) -> int:
        return 6

    def _most_bytes(self, entries: Entries) -> int:
        bits = (entries.stream.n - 1).bit_length() + (_width(entries.s) + 1 if entries.s else 0)
        if bits > 64:
            raise TooLongError(
                f"gaps below n = {entries.stream.n} and levels up to s = {entries.s} do not fit into 64 bits"
            )
        return entries.index.size * (max(1, -(-bits // 7)) + (0 if entries.s else 4))

    def _write(
        self, call: Call, entries: Entries, skip: int, offsets: NDArray[np.int64], data: NDArray[np.uint8]
    ) -> Any:
        from qsim.kernels.varint import KERNELS

        e, s = entries, entries.s
        encode = KERNELS[min(s, 2)][0]
        return call(encode, e.offsets, e.index, e.word, e.stream.n, s, _width(s), skip, offsets, data)

    def _sizes(self, entries: Entries) -> NDArray[np.int64]:
        from qsim.kernels.varint import KERNELS

        self._most_bytes(entries)
        e, s, out = entries, entries.s, np.empty(entries.rows, np.int64)
        KERNELS[min(s, 2)][1](e.offsets, e.index, e.word, e.stream.n, s, _width(s), out)
        return out

    def _least_bits(self, s: int) -> int:
        return 8 if s else 40

    def _read(
        self,
        call: Call,
        packets: Packets,
        skip: int,
        n: int,
        s: int,
        offsets: NDArray[np.int64],
        index: NDArray[Any],
        word: NDArray[np.int32],
    ) -> Any:
        from qsim.kernels.varint import KERNELS

        decode = KERNELS[min(s, 2)][2]
        return call(decode, packets.data, packets.offsets, skip, n, s, _width(s), offsets, index, word)


def _width(s: int) -> int:
    return (s - 1).bit_length() if s else 0
