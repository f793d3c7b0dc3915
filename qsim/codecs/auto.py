"""Whichever code is shortest."""

from __future__ import annotations

from functools import cache
from typing import ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Levels, Message, Packets, Signs
from qsim.codecs.base import VERSION, Codec, DecodeError, TooLongError, read_header
from qsim.codecs.bitmap import Bitmap
from qsim.codecs.dense import Dense
from qsim.codecs.elias import Elias, GolombRice
from qsim.codecs.elias_dense import EliasDense
from qsim.codecs.entries import Entries
from qsim.codecs.fixed_width import FixedWidth
from qsim.codecs.rans import RANS
from qsim.codecs.varint import Varint
from qsim.options import option


@final
@option
class Auto(Codec):
    """Whichever code is shortest, for every row.

    A packet is a byte with the number of the code that makes the row's packet shortest, then that packet. The receiver
    reads the byte, so rows of one batch may be coded differently. Ties go to the lower number.

    Notes
    -----
    Choosing costs the time of the `size` calls of all candidates.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.batch.Levels.single([0] * 500 + [1], scale=1.0, s=1)
    >>> qsim.codecs.Auto().choice(message)
    [qsim.codecs.Varint()]
    >>> qsim.codecs.Auto().encode(message)[0].hex()
    '060000803fe807'
    """

    carries: ClassVar[tuple[type[Message], ...]] = (Levels, Signs, Floats)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)

    @property
    def number(self) -> int:
        return 15

    def choice(self, message: Message) -> list[Codec]:
        """Return the codec that each row is coded by.

        Parameters
        ----------
        message : Message
            The message.

        Returns
        -------
        list of Codec
            One codec a row.
        """
        codecs, best, _ = self._choose(message)
        return [codecs[number] for number in best]

    def encode(self, message: Message) -> Packets:
        codecs, best, bits = self._choose(message)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(bits // 8 + 1)])
        data = np.empty(offsets[-1], np.uint8)
        data[offsets[:-1]] = [codecs[number].number for number in best]
        for number in np.unique(best):
            rows = np.flatnonzero(best == number)
            packets = codecs[number].encode(message if rows.size == message.rows else message.take(rows))
            for row, first, last in zip(rows, packets.offsets[:-1], packets.offsets[1:], strict=True):
                data[offsets[row] + 1 : offsets[row + 1]] = packets.data[first:last]
        return Packets(data, offsets)

    def decode(self, packets: Packets, header: bytes) -> Message:
        stream = read_header(header, self)
        empty = np.flatnonzero(np.diff(packets.offsets) == 0)
        if empty.size:
            raise DecodeError(" is empty: it must begin with the number of a codec", int(empty[0]))
        tags = packets.data[packets.offsets[:-1]]
        bare = Packets(np.delete(packets.data, packets.offsets[:-1]), packets.offsets - np.arange(len(packets) + 1))
        known = {codec.number: codec for codec in _candidates(stream.kind)}
        parts, order = [], []
        for tag in np.unique(tags).tolist() or [min(known)]:  # no packets: as read by any codec
            rows = np.flatnonzero(tags == tag)
            if tag not in known:
                text = f" names codec {tag}; for {stream.kind.__name__} it may be one of {sorted(known)}"
                raise DecodeError(text, int(rows[0]))
            try:
                part = known[tag].decode(bare.take(rows), bytes((VERSION, tag)) + header[2:])
            except DecodeError as error:
                raise DecodeError(
                    f", by {known[tag]!r}{error.text}", int(rows[error.row or 0]) if rows.size else None
                ) from None
            parts.append(Entries.of(part).message())
            order.append(rows)
        return parts[0].join(parts).take(np.argsort(np.concatenate(order))) if parts[1:] else parts[0]

    def size(self, message: Message) -> NDArray[np.int64]:
        return self._choose(message)[2] + 8

    def _choose(self, message: Message) -> tuple[list[Codec], NDArray[np.intp], NDArray[np.int64]]:
        """Return the codecs that carry the message, the place of each row's shortest among them, and its bits.

        A codec for shorter vectors only is left out.
        """
        self.require(message)
        codecs: list[Codec] = []
        sizes = []
        for codec in _candidates(type(message)):
            try:
                sizes.append(codec.size(message))
                codecs.append(codec)
            except TooLongError:
                continue
        if not codecs:
            raise TooLongError(f"no codec carries vectors of n = {message.n} with these levels")
        bits = np.stack(sizes)
        return codecs, bits.argmin(axis=0), bits.min(axis=0)


@cache
def _candidates(kind: type[Message]) -> tuple[Codec, ...]:
    elias = [Elias(code) for code in ("gamma", "delta", "omega")]
    dense = [EliasDense(code) for code in ("gamma", "delta", "omega")]
    every: list[Codec] = [Dense("float32"), FixedWidth(), Bitmap(), Varint(), *elias, *dense, GolombRice(), RANS()]
    return tuple(sorted((codec for codec in every if kind in codec.carries), key=lambda codec: codec.number))
