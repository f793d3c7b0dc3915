"""Every coordinate in a field of the same width."""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeGuard, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Levels, Message, Packets, Signs, dense_offsets
from qsim.codecs.base import DecodeError, read_header
from qsim.codecs.coordinates import CoordinateCodec
from qsim.codecs.entries import REASONS
from qsim.kernels.decode_status import UNFILLED
from qsim.options import option


@final
@option
class FixedWidth(CoordinateCodec):
    r"""Every level in a field of the same width.

    After the scales, every coordinate is its level plus :math:`s` in :math:`\lceil \log_2(2 s + 1) \rceil` bits: 4 bits
    for :math:`s = 7`.

    Raises
    ------
    ValueError
        When it encodes vectors longer than :math:`2^{48}`.

    Notes
    -----
    A row without a zero level takes :math:`\lceil \log_2(2 s) \rceil` bits per coordinate: one less if :math:`s` is a
    power of two. Signs are levels of 1, so a row with a sign at every coordinate takes one bit each. Fields fill bytes
    from the highest bit down: a row takes :math:`\lceil n \mathrm{width} / 8 \rceil` bytes after its floats, and one
    without entries none.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.batch.Levels.single([0, -7, 7, 1], scale=1.0, s=7)
    >>> qsim.codecs.FixedWidth().encode(message)[0].hex()
    '0000803f70e8'
    """

    carries: ClassVar[tuple[type[Message], ...]] = (Levels, Signs)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)

    @property
    def number(self) -> int:
        return 4

    def _kernels(self, s: int) -> tuple[Any, Any, Any]:
        from qsim.kernels.packing import KERNELS, group_of

        return KERNELS[group_of(_width(s))]

    def _most_bits(self, s: int) -> tuple[int, int]:
        return _width(s), 0

    def _least_bits(self, s: int) -> int:
        return (2 * s - 1).bit_length()

    def encode(self, message: Message) -> Packets:
        return self._encode_signs(message) if _all_signs(message) else super().encode(message)

    def size(self, message: Message) -> NDArray[np.int64]:
        if not _all_signs(message):
            return super().size(message)
        self._means(message)
        return np.full(message.rows, 8 * _signs_bytes(message.n), np.int64)

    def decode(self, packets: Packets, header: bytes) -> Message:
        stream = read_header(header, self)
        if stream.kind is Signs and stream.n > _FEW and (np.diff(packets.offsets) == _signs_bytes(stream.n)).all():
            return self._decode_signs(packets, stream.n)
        return super().decode(packets, header)

    def _encode_signs(self, message: Signs) -> Packets:
        """Write the bytes that the kernels would, faster."""
        means = self._means(message).astype("<f4", copy=False).view(np.uint8)
        bits = np.packbits(message.positive.reshape(message.rows, message.n), axis=1)
        data = np.concatenate([means, bits], axis=1)
        return Packets(data.reshape(-1), dense_offsets(*data.shape))

    def _means(self, message: Signs) -> NDArray[np.float32]:
        """Return the two means of every row, if they can be written."""
        self._require_fits(message.n, 1)
        means = np.stack([message.low, message.high], axis=1)
        for row in np.flatnonzero(~np.isfinite(means).all(axis=1))[:1]:
            raise ValueError(f"row {row} of the message holds a mean that is infinite or not a number")
        return means

    def _decode_signs(self, packets: Packets, n: int) -> Signs:
        self._require_fits(n, 1, DecodeError)
        rows, length = len(packets), _signs_bytes(n)
        data = packets.data[packets.offsets[0] : packets.offsets[-1]].reshape(rows, length)
        for row in np.flatnonzero(data[:, -1] & ((1 << -n % 8) - 1))[:1]:
            raise DecodeError(f", byte {length - 1}: {REASONS[UNFILLED]} (n = {n})", int(row))
        low, high = np.ascontiguousarray(data[:, :8]).view("<f4").astype(np.float32, copy=False).T.copy()
        for row in np.flatnonzero(~np.isfinite(low) | ~np.isfinite(high))[:1]:
            raise DecodeError(" holds a mean that is infinite or not a number", int(row))
        positive = np.unpackbits(data[:, 8:], axis=1, count=n).view(np.bool_).reshape(-1)
        return Signs(n, dense_offsets(rows, n), None, positive, low, high)


_FEW = 4
"""Up to this many coordinates of one bit take no fewer bytes than as many of two."""


def _all_signs(message: Message) -> TypeGuard[Signs]:
    """Tell whether every coordinate has a sign, and so takes one bit."""
    return isinstance(message, Signs) and message.index is None and message.n > _FEW


def _width(s: int) -> int:
    return (2 * s).bit_length()


def _signs_bytes(n: int) -> int:
    return 8 + -(-n // 8)
