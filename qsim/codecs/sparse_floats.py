"""Positions and floats of the non-zeros."""

from __future__ import annotations

from typing import ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Message, Packets
from qsim.batch.packets import PlannedPackets
from qsim.codecs.base import Codec
from qsim.codecs.varint import Varint
from qsim.options import option
from qsim.program import Program


@final
@option
class SparseFloats(Codec):
    """Positions and float32 values of the non-zeros.

    Every non-zero is the gap to the previous one, as LEB128, and a little-endian float32.

    Notes
    -----
    The bytes are those of `Varint` for messages of floats. The difference is what a channel sends: with `Varint` the
    levels of a quantizer, with this codec the values that they stand for, as if there were no format for levels.

    Examples
    --------
    >>> import qsim
    >>> qsim.codecs.SparseFloats().encode(qsim.batch.Floats.single([0.0, 0.0, 1.0]))[0].hex()
    '020000803f'
    """

    carries: ClassVar[tuple[type[Message], ...]] = (Floats,)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)

    @property
    def number(self) -> int:
        return Varint().number

    def encode(self, message: Message) -> Packets:
        """Write the non-zeros of every row, rounded to float32; what rounds to zero is left out."""
        self.require(message)
        return Varint().encode(message)

    def plan(self, program: Program, message: Message) -> tuple[Message, PlannedPackets]:
        self.require(message)
        return Varint().plan(program, message)

    def decode(self, packets: Packets, header: bytes) -> Message:
        return Varint().decode(packets, header)

    def size(self, message: Message) -> NDArray[np.int64]:
        self.require(message)
        return Varint().size(message)
