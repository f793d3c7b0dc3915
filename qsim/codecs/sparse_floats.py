"""Positions and floats of the non-zeros."""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Message, Packets
from qsim.codecs.base import Codec
from qsim.codecs.varint import Varint
from qsim.options import option
from qsim.program import Program


@final
@option
class SparseFloats(Codec):
    """For every non-zero the gap to the previous one, as LEB128, and a little-endian float32.

    These are the bytes of `Varint` for float messages. The difference is in what goes through: `Varint` sends a
    quantizer's levels, this codec the values that they stand for, as one would without a format for levels.

    >>> import qsim
    >>> qsim.codecs.SparseFloats().encode(qsim.batch.Floats.single([0.0, 0.0, 1.0]))[0].hex()
    '020000803f'
    """

    carries: ClassVar[tuple[type[Message], ...]] = (Floats,)

    @property
    def number(self) -> int:
        return Varint().number

    def encode(self, message: Message) -> Packets:
        """Write the non-zeros of every row, rounded to float32; what rounds to zero is left out."""
        self.require(message)
        return Varint().encode(message)

    def plan(self, program: Program, message: Message) -> tuple[Message, NDArray[np.int64]]:
        self.require(message)
        return Varint().plan(program, message)

    def decode(self, packets: Packets, header: bytes) -> Message:
        return Varint().decode(packets, header)

    def size(self, message: Message) -> NDArray[np.int64]:
        self.require(message)
        return Varint().size(message)
