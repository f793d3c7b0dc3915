"""Positions and floats of the non-zeros."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, final

from qsim.batch import Floats, Message
from qsim.batch.packets import PlannedPackets
from qsim.codecs.entries import Entries, EntryCodec
from qsim.codecs.varint import Varint, most_bits
from qsim.options import one_of, option
from qsim.program import NoProgram, Program


@final
@option
class SparseFloats(EntryCodec):
    """Positions and values of the non-zeros.

    Every non-zero is the gap to the previous one, as LEB128, and a little-endian float.

    Parameters
    ----------
    dtype : {"float32", "float64"}, default "float32"
        The format of a value. With "float64" a non-zero takes 32 bits more. Of use where workers compute in it, too:
        `downlink=qsim.downlinks.DenseWeights("float64")`.

    Raises
    ------
    ValueError
        For another dtype.

    Notes
    -----
    The bytes of float32 are those of `Varint` for messages of floats. The difference is what a channel sends: with
    `Varint` the levels of a quantizer, with this codec the values that they stand for, as if there were no format for
    levels.

    A value that rounds to zero is left out.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.batch.Floats.single([0.0, 0.0, 1.0])
    >>> qsim.codecs.SparseFloats().encode(message)[0].hex()
    '020000803f'
    >>> qsim.codecs.SparseFloats("float64").encode(message)[0].hex()
    '02000000000000f03f'
    """

    dtype: Literal["float32", "float64"] = "float32"

    carries: ClassVar[tuple[type[Message], ...]] = (Floats,)

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "float64"))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(), cls("float64"))

    @property
    def number(self) -> int:
        return 19 if self._double else Varint().number

    def plan(self, program: Program, message: Message) -> tuple[Message, PlannedPackets]:
        self.require(message)
        if self._double:
            raise NoProgram
        return super().plan(program, message)

    @property
    def _double(self) -> bool:
        return self.dtype == "float64"

    def _kernels(self, s: int) -> tuple[Any, Any, Any]:
        from qsim.kernels.decode_status import DOUBLES, FLOATS
        from qsim.kernels.varint import KERNELS

        return KERNELS[DOUBLES if self._double else FLOATS]

    def _require_fits(self, n: int, s: int, error: type[ValueError] = ValueError) -> None:
        """Refuse nothing: gaps below 2^63 are LEB128 numbers."""

    def _most_bytes(self, entries: Entries) -> int:
        return entries.index.size * (max(1, -(-most_bits(entries.stream.n, 0) // 7)) + (8 if self._double else 4))

    def _least_bits(self, s: int) -> int:
        return 72 if self._double else 40
