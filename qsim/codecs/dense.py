"""One float for every coordinate."""

from __future__ import annotations

from typing import ClassVar, Literal, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Message, Packets, SharedSupport, dense_offsets
from qsim.batch.packets import PlannedPackets
from qsim.codecs.base import Codec, DecodeError, read_header
from qsim.options import one_of, option
from qsim.program import NoProgram, Program

_WIDTHS = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
_NUMBERS = {"float32": 1, "float64": 2, "float16": 3, "bfloat16": 16}
_MOST = {
    "float32": float(np.finfo(np.float32).max),
    "float64": float(np.finfo(np.float64).max),
    "float16": 65504.0,
    "bfloat16": (2 - 2.0**-7) * 2.0**127,
}


@final
@option
class Dense(Codec):
    """Every coordinate as a little-endian float.

    A packet takes :math:`16 n`, :math:`32 n` or :math:`64 n` bits. Of a message at drawn coordinates, it holds the
    :math:`k` numbers.

    Parameters
    ----------
    dtype : {"float64", "float32", "float16", "bfloat16"}, default "float32"
        The format. bfloat16 is the upper half of a float32, rounded to nearest, ties to even (a float64 is rounded to
        float32 first).

    Raises
    ------
    ValueError
        For another dtype.

    Examples
    --------
    >>> import qsim
    >>> codec = qsim.codecs.Dense("float32")
    >>> codec.encode(qsim.batch.Floats.single([1.0, 0.0, -2.0]))[0].hex()
    '0000803f00000000000000c0'
    """

    dtype: Literal["float64", "float32", "float16", "bfloat16"] = "float32"

    carries: ClassVar[tuple[type[Message], ...]] = (Floats, SharedSupport)

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, tuple(_WIDTHS))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return tuple(map(cls, _WIDTHS))

    @property
    def number(self) -> int:
        return _NUMBERS[self.dtype]

    def encode(self, message: Message) -> Packets:
        """Write the rows, rounded to the codec's dtype; sparse rows are made dense.

        Parameters
        ----------
        message : Message
            The message.

        Returns
        -------
        Packets
            The packets, one for each row.

        Raises
        ------
        ValueError
            For a number above the largest of its dtype, NaN, and coordinates that do not rise.
        """
        self._require_good(message)
        values = _numbers(message)
        written = np.array(self._to_wire(values.reshape(-1)))  # a copy: packets outlive the message's own arrays
        return Packets(written.view(np.uint8), dense_offsets(message.rows, values.shape[1] * self._width))

    def plan(self, program: Program, message: Message) -> tuple[Message, PlannedPackets]:
        from qsim.kernels.rounds import first_wrong, read_floats, write_dense, write_floats

        assert isinstance(message, (Floats, SharedSupport))
        if self.dtype != "float32" or message.value.dtype != np.float32:
            raise NoProgram
        rows, offsets = message.rows, message.offsets
        count = message.k if isinstance(message, SharedSupport) else message.n
        data, value = np.zeros(4 * rows * count, np.uint8), np.empty(rows * count, np.float32)
        came = dense_offsets(rows, count)
        if isinstance(message, Floats) and message.index is not None:
            program.call(write_dense, offsets, message.index, message.value, message.n, data)
        else:
            program.call(write_floats, message.value, data)
        program.call(read_floats, data, value)
        program.call(first_wrong, came, value, stop="not negative")
        packets = PlannedPackets(data, dense_offsets(rows, 4 * count))
        if isinstance(message, SharedSupport):
            return SharedSupport(message.n, came, count, value), packets
        return Floats(message.n, came, None, value), packets

    def decode(self, packets: Packets, header: bytes) -> Floats | SharedSupport:
        from qsim.kernels.vectors import first_not_finite

        stream = read_header(header, self)
        count = stream.k if stream.kind is SharedSupport else stream.n
        offsets, size = packets.offsets, count * self._width
        wrong = np.flatnonzero(np.diff(offsets) != size)
        if wrong.size:
            found = int(offsets[wrong[0] + 1] - offsets[wrong[0]])
            raise DecodeError(f" has {found} bytes; {count} numbers as {self.dtype} take {size}", int(wrong[0]))
        value = self._from_wire(np.ascontiguousarray(packets.data[offsets[0] : offsets[-1]]))
        place = first_not_finite(value)
        if place >= 0:
            raise DecodeError(f" holds {value[place]} as number {place % count}", place // count)
        rows = dense_offsets(len(packets), count)
        return (
            SharedSupport(stream.n, rows, count, value)
            if stream.kind is SharedSupport
            else Floats(stream.n, rows, None, value)
        )

    def size(self, message: Message) -> NDArray[np.int64]:
        self._require_good(message)
        count = message.k if isinstance(message, SharedSupport) else message.n
        return np.full(message.rows, 8 * self._width * count)

    def _require_good(self, message: Message) -> None:
        from qsim.kernels.vectors import first_above, first_unordered

        self.require(message)
        assert isinstance(message, (Floats, SharedSupport))
        offsets, index = message.offsets, None if isinstance(message, SharedSupport) else message.index
        row = -1 if index is None else first_unordered(offsets, index, message.n)
        if row >= 0:
            raise ValueError(f"row {row} is no message: its coordinates must rise and stay below n = {message.n}")
        most = _MOST[self.dtype]
        place = first_above(message.value, most)
        if place >= 0:
            row = int(np.searchsorted(offsets, place, side="right")) - 1
            coordinate = place - int(offsets[row]) if index is None else int(index[place])
            advice = ': use Dense("float32")' if self._width == 2 else ""
            raise ValueError(
                f"row {row} holds {message.value[place]} at coordinate {coordinate}, and {self.dtype} ends at"
                f" {most:g}{advice}"
            )

    @property
    def _width(self) -> int:
        return _WIDTHS[self.dtype]

    def _to_wire(self, values: NDArray[np.floating]) -> NDArray[np.generic]:
        if self.dtype == "bfloat16":
            from qsim.kernels.half_precision import to_bfloat16

            return to_bfloat16(values.astype(np.float32, copy=False)).astype("<u2", copy=False)
        return values.astype(f"<f{self._width}", copy=False)

    def _from_wire(self, data: NDArray[np.uint8]) -> NDArray[np.floating]:
        if self.dtype == "bfloat16":
            from qsim.kernels.half_precision import from_bfloat16

            return from_bfloat16(data.view("<u2").astype(np.uint16, copy=False))
        kept = "float64" if self.dtype == "float64" else "float32"
        return data.view(f"<f{self._width}").astype(kept, copy=False)


def _numbers(message: Message) -> NDArray[np.floating]:
    """Return the numbers to write, an array a row."""
    if isinstance(message, SharedSupport):
        return message.value.reshape(message.rows, message.k)
    return message.vectors().to_dense()
