"""Every coordinate in a field of the same width."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Levels, Message, Packets, Signs, dense_offsets
from qsim.codecs.base import DecodeError, read_header
from qsim.codecs.coordinates import UNFILLED, CoordinateCodec
from qsim.options import option


@final
@option
class FixedWidth(CoordinateCodec):
    """The scales, then every coordinate's level + s in ceil(log2(2s + 1)) bits: 4 at s = 7.

    Of signs every coordinate takes one bit, 1 for the high mean. Both fill bytes from the highest bit down, so that
    a row takes ceil(n * width / 8) bytes behind its floats; a row of zero levels takes none.

    >>> import qsim
    >>> message = qsim.batch.Levels.single([0, -7, 7, 1], scale=1.0, s=7)
    >>> qsim.codecs.FixedWidth().encode(message)[0].hex()
    '0000803f70e8'

    Source: the packing of Alistarh et al., "QSGD", NeurIPS 2017, section 5, and for signs of Seide et al., "1-bit
    stochastic gradient descent", Interspeech 2014.

    Raises ValueError for n above 2^48, and for signs of some coordinates only, which have three values: use `Bitmap`.
    """

    carries: ClassVar[tuple[type[Message], ...]] = (Levels, Signs)

    @property
    def number(self) -> int:
        return 4

    def _kernels(self, s: int) -> tuple[Any, Any, Any]:
        from qsim.kernels.packing import KERNELS, group_of

        kernels: tuple[Any, Any, Any] = KERNELS[group_of(_width(s))]
        return kernels

    def _most_bits(self, s: int) -> tuple[int, int]:
        return _width(s), 0

    def _least_bits(self, s: int) -> int:
        return _width(s)

    def encode(self, message: Message) -> Packets:
        return self._encode_signs(message) if isinstance(message, Signs) else super().encode(message)

    def size(self, message: Message) -> NDArray[np.int64]:
        if not isinstance(message, Signs):
            return super().size(message)
        self._means(message)
        return np.full(message.rows, 8 * _signs_bytes(message.n), np.int64)

    def decode(self, packets: Packets, header: bytes) -> Message:
        stream = read_header(header, self)
        return self._decode_signs(packets, stream.n) if stream.kind is Signs else super().decode(packets, header)

    def _encode_signs(self, message: Signs) -> Packets:
        means = self._means(message).astype("<f4", copy=False).view(np.uint8)
        bits = np.packbits(message.positive.reshape(message.rows, message.n), axis=1)
        data = np.concatenate([means, bits], axis=1)
        return Packets(data.reshape(-1), dense_offsets(*data.shape))

    def _means(self, message: Signs) -> NDArray[np.float32]:
        """Return the two means of every row, if the message can be written."""
        self._bounded(message.n)
        if message.index is not None:
            raise ValueError(
                f"{self!r} has one bit a coordinate, and these signs are of some coordinates only, while the others"
                " stand for zero: use qsim.codecs.Bitmap()"
            )
        means = np.stack([message.low, message.high], axis=1)
        wrong = np.flatnonzero(~np.isfinite(means).all(axis=1))
        if wrong.size:
            raise ValueError(f"row {wrong[0]} of the message holds a mean that is infinite or not a number")
        return means

    def _decode_signs(self, packets: Packets, n: int) -> Signs:
        self._bounded(n, DecodeError)
        rows, length = len(packets), _signs_bytes(n)
        found = np.diff(packets.offsets)
        for row in np.flatnonzero(found != length)[:1]:
            raise DecodeError(f"packet {row} has {found[row]} bytes; 2 floats and n = {n} signs take {length}")
        data = packets.data[packets.offsets[0] : packets.offsets[-1]].reshape(rows, length)
        for row in np.flatnonzero(data[:, -1] & ((1 << -n % 8) - 1))[:1]:
            raise DecodeError(f"packet {row}, byte {length - 1}: {self._reasons[UNFILLED]} (n = {n})")
        low, high = np.ascontiguousarray(data[:, :8]).view("<f4").astype(np.float32, copy=False).T.copy()
        for row in np.flatnonzero(~np.isfinite(low) | ~np.isfinite(high))[:1]:
            raise DecodeError(f"packet {row} holds a mean that is infinite or not a number")
        positive = np.unpackbits(data[:, 8:], axis=1, count=n).view(np.bool_).reshape(-1)
        return Signs(n, dense_offsets(rows, n), None, positive, low, high)


def _width(s: int) -> int:
    return (2 * s).bit_length()


def _signs_bytes(n: int) -> int:
    return 8 + -(-n // 8)
