"""Packets of a bulk and its outliers."""

from __future__ import annotations

from typing import ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Blocks, Floats, Message, Packets, WithOutliers
from qsim.codecs.base import VERSION, Codec, DecodeError
from qsim.codecs.blockwise import Blockwise
from qsim.codecs.fixed_width import FixedWidth
from qsim.codecs.sparse_floats import SparseFloats
from qsim.options import option

_KIND = 6
"""The kind of `WithOutliers` in the stream header."""


@final
@option
class Outliers(Codec):
    """The bulk of a message by a codec, and its outliers by `SparseFloats`.

    A packet is the length of the bulk's packet, as LEB128, then that packet, then the outliers': that of
    `Blockwise((bulk, SparseFloats()))`, with both as blocks.

    Parameters
    ----------
    bulk : Codec, default `qsim.codecs.FixedWidth()`
        The codec of the bulk.

    Raises
    ------
    TypeError
        If it is not a codec.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> bulk = qsim.batch.Levels.single([1, -1, 1], scale=1.0, s=1)
    >>> outliers = qsim.batch.Floats(3, np.array([0, 1]), np.array([1], np.int32), np.float32([-9.5]))
    >>> qsim.codecs.Outliers().encode(qsim.batch.WithOutliers.of(bulk, outliers))[0].hex(" ")
    '05 00 00 80 3f 88 01 00 00 18 c1'
    """

    bulk: Codec = FixedWidth()

    carries: ClassVar[tuple[type[Message], ...]] = (WithOutliers,)

    def __post_init__(self) -> None:
        if not isinstance(self.bulk, Codec):
            raise TypeError(f"bulk must be a codec such as qsim.codecs.FixedWidth(), found {self.bulk!r}")

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)

    @property
    def number(self) -> int:
        return 18

    def require(self, message: Message) -> None:
        """Refuse a message of another kind, or with a part that its codec refuses."""
        super().require(message)
        self._blockwise.require(_blocks(message))

    def header(self, message: Message) -> bytes:
        """Return the stream header: that of `Blockwise`, but for the codec and the kind."""
        self.require(message)
        return bytes((VERSION, self.number, _KIND)) + self._blockwise.header(_blocks(message))[3:]

    def encode(self, message: Message) -> Packets:
        self.require(message)
        return self._blockwise.encode(_blocks(message))

    def decode(self, packets: Packets, header: bytes) -> Message:
        if header[:3] != bytes((VERSION, self.number, _KIND)):
            raise DecodeError(
                f"a stream of {self!r} begins with the bytes {VERSION}, {self.number}, {_KIND} (version, codec, kind),"
                f" found {list(header[:3])}"
            )
        inner = self._blockwise.stream_header(header[3:])
        blocks = self._blockwise.decode(packets, inner)
        assert isinstance(blocks, Blocks)
        bulk, outliers = blocks.blocks
        if bulk.n != outliers.n:
            raise DecodeError(f"the stream header has a bulk of n = {bulk.n} and outliers of n = {outliers.n}")
        assert isinstance(outliers, Floats)
        return WithOutliers.of(bulk, outliers)

    def size(self, message: Message) -> NDArray[np.int64]:
        self.require(message)
        return self._blockwise.size(_blocks(message))

    @property
    def _blockwise(self) -> Blockwise:
        return Blockwise((self.bulk, SparseFloats()))


def _blocks(message: Message) -> Blocks:
    assert isinstance(message, WithOutliers)
    return Blocks.of([message.bulk, message.outliers])
