"""Packets of packets: one for each block of coordinates."""

from __future__ import annotations

from typing import ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Blocks, Message, Packets
from qsim.codecs.base import VERSION, Codec, DecodeError, leb128, read_leb128
from qsim.options import option

_KIND = 5
"""The kind of `Blocks` in the stream header, behind the other kinds and that of levels of a fixed scale."""


@final
@option
class Blockwise(Codec):
    """A codec for each block of coordinates.

    A packet is that of the first block, then that of the next one, and so forth; in front of each but the last stands
    its length, as LEB128.

    Parameters
    ----------
    codecs : tuple of Codec
        The codec of each block.

    Raises
    ------
    TypeError
        If they are not codecs.
    ValueError
        If there is none.

    Examples
    --------
    >>> import qsim
    >>> weights, intercept = qsim.batch.Levels.single([0, -1], scale=2.0, s=1), qsim.batch.Floats.single([0.5])
    >>> codec = qsim.codecs.Blockwise((qsim.codecs.Varint(), qsim.codecs.Dense()))
    >>> codec.encode(qsim.batch.Blocks.of([weights, intercept]))[0].hex(" ")
    '05 00 00 00 40 03 00 00 00 3f'
    """

    codecs: tuple[Codec, ...]

    carries: ClassVar[tuple[type[Message], ...]] = (Blocks,)

    def __post_init__(self) -> None:
        if not isinstance(self.codecs, tuple | list) or not all(isinstance(codec, Codec) for codec in self.codecs):
            raise TypeError(f"codecs must be a tuple of codecs such as qsim.codecs.Varint(), found {self.codecs!r}")
        if not self.codecs:
            raise ValueError("codecs must hold a codec for each block, found none")
        object.__setattr__(self, "codecs", tuple(self.codecs))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        from qsim.codecs.dense import Dense
        from qsim.codecs.varint import Varint

        return (cls((Varint(), Dense())),)

    @property
    def number(self) -> int:
        return 17

    def require(self, message: Message) -> None:
        """Refuse a message of another kind, of another number of blocks, or with a block that its codec refuses."""
        super().require(message)
        assert isinstance(message, Blocks)
        if len(message.blocks) != len(self.codecs):
            raise ValueError(f"{self!r} carries {len(self.codecs)} blocks, found {len(message.blocks)}")
        for codec, block in zip(self.codecs, message.blocks, strict=True):
            codec.require(block)

    def header(self, message: Message) -> bytes:
        """Return the stream header: the number of blocks, and the length and the header of each block's stream."""
        headers = [codec.header(block) for codec, block in self._pairs(message)]
        inner = b"".join(leb128(len(header)) + header for header in headers)
        return self.stream_header(leb128(len(headers)) + inner)

    def stream_header(self, rest: bytes) -> bytes:
        """Return a stream header, given what stands in it behind version, codec and kind."""
        return bytes((VERSION, self.number, _KIND)) + rest

    def encode(self, message: Message) -> Packets:
        parts = [codec.encode(block) for codec, block in self._pairs(message)]
        lengths = np.stack([np.diff(part.offsets) for part in parts])
        heads = _widths(lengths)
        ends = np.cumsum((heads + lengths).T.reshape(-1))  # block by block of every row
        begins = (np.concatenate([np.zeros(1, np.int64), ends[:-1]])).reshape(-1, len(parts)).T
        data = np.empty(ends[-1] if ends.size else 0, np.uint8)
        for part, length, head, begin in zip(parts, lengths, heads, begins, strict=True):
            for place in range(int(head.max(initial=0))):
                rows = head > place
                more = (head[rows] > place + 1) * np.uint8(128)
                data[begin[rows] + place] = (length[rows] >> 7 * place & 127).astype(np.uint8) | more
            data[np.arange(part.data.size) + np.repeat(begin + head - part.offsets[:-1], length)] = part.data
        return Packets(data, np.concatenate([np.zeros(1, np.int64), ends[len(parts) - 1 :: len(parts)]]))

    def decode(self, packets: Packets, header: bytes) -> Message:
        headers = self._headers(header)
        begin, ends = packets.offsets[:-1].copy(), packets.offsets[1:]
        blocks = []
        for block, (codec, inner) in enumerate(zip(self.codecs, headers, strict=True)):
            if block < len(headers) - 1:
                length, begin = _read_lengths(packets.data, begin, ends, block)
            else:
                length = ends - begin
            offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(length, dtype=np.int64)])
            places = np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], length)
            try:
                blocks.append(codec.decode(Packets(packets.data[places], offsets), inner))
            except DecodeError as error:
                where = f"block {block}, by {codec!r}:"
                text = f"{where} {error.text}" if error.row is None else f", {where}{error.text}"
                raise DecodeError(text, error.row) from None
            begin = begin + length
        if sum(each.n for each in blocks) >= 2**63:
            raise DecodeError("the blocks of the stream header have 2^63 coordinates or more")
        return Blocks.of(blocks)

    def size(self, message: Message) -> NDArray[np.int64]:
        lengths = np.stack([codec.size(block) // 8 for codec, block in self._pairs(message)])
        sizes: NDArray[np.int64] = 8 * (lengths + _widths(lengths)).sum(axis=0)
        return sizes

    def _pairs(self, message: Message) -> list[tuple[Codec, Message]]:
        self.require(message)
        assert isinstance(message, Blocks)
        return list(zip(self.codecs, message.blocks, strict=True))

    def _headers(self, header: bytes) -> list[bytes]:
        """Return the headers of the blocks' streams; each codec reads its own."""
        if header[:3] != bytes((VERSION, self.number, _KIND)):
            raise DecodeError(
                f"a stream of {self!r} begins with the bytes {VERSION}, {self.number}, {_KIND} (version, codec, kind),"
                f" found {list(header[:3])}"
            )
        count, at = read_leb128(header, 3, "the number of blocks")
        if count != len(self.codecs):
            raise DecodeError(f"the stream has {count} blocks; {self!r} reads {len(self.codecs)}")
        headers = []
        for block in range(count):
            length, at = read_leb128(header, at, f"the length of the header of block {block}")
            if length > len(header) - at:
                raise DecodeError(f"the stream header ends inside that of block {block}")
            headers.append(header[at : at + length])
            at += length
        if at != len(header):
            raise DecodeError(f"the stream header has {len(header) - at} bytes behind its end")
        return headers


def _widths(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bytes that the lengths of blocks take, (blocks, rows): none for the last block."""
    widths = np.ones_like(lengths)
    for bits in range(7, 63, 7):
        widths += lengths >= 1 << bits
    widths[-1] = 0
    return widths


def _read_lengths(
    data: NDArray[np.uint8], begin: NDArray[np.int64], ends: NDArray[np.int64], block: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the length of a block of every packet, and where the block begins."""
    at, length, open_ = begin.copy(), np.zeros_like(begin), np.arange(begin.size)
    for shift in range(0, 63, 7):
        short = open_[at[open_] >= ends[open_]]
        if short.size:
            raise DecodeError(f" ends inside the length of block {block}", int(short[0]))
        byte = data[at[open_]].astype(np.int64)
        if shift and (byte == 0).any():
            row = int(open_[byte == 0][0])
            raise DecodeError(f" writes the length of block {block} in more bytes than it needs", row)
        length[open_] |= (byte & 127) << shift
        at[open_] += 1
        open_ = open_[byte >= 128]
    wrong = np.concatenate([open_, np.flatnonzero(length > ends - at)])
    if wrong.size:
        raise DecodeError(f" ends inside block {block}", int(wrong[0]))
    return length, at
