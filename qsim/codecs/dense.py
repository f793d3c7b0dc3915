"""One float for every coordinate."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import numpy as np

from qsim.batch import Floats, Message, Packets, dense_offsets
from qsim.codecs.base import Codec, DecodeError, read_header, write_header
from qsim.options import one_of, option

_NUMBER = {"float32": 1, "float64": 2}


@final
@option
class Dense(Codec):
    """Every coordinate as a little-endian float: 32 n or 64 n bits a packet.

    >>> import qsim
    >>> codec = qsim.codecs.Dense("float32")
    >>> codec.encode(qsim.batch.Floats.single([1.0, 0.0, -2.0]))[0].hex()
    '0000803f00000000000000c0'

    Raises ValueError for another dtype.
    """

    dtype: Literal["float32", "float64"] = "float32"

    carries: ClassVar[tuple[type[Message], ...]] = (Floats,)

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, tuple(_NUMBER))

    def header(self, message: Message) -> bytes:
        return write_header(_NUMBER[self.dtype], message.n)

    def encode(self, message: Message) -> Packets:
        """Write the rows; float64 numbers are rounded to the codec's dtype. Sparse rows are made dense."""
        assert isinstance(message, Floats)
        values = message.vectors().to_dense().astype(f"<{self.dtype[0]}{self._width}", copy=False)
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        return Packets(data, dense_offsets(message.rows, message.n * self._width))

    def decode(self, packets: Packets, header: bytes) -> Floats:
        from qsim.kernels.vectors import first_not_finite

        (n,) = read_header(header, _NUMBER[self.dtype], ("n",))
        offsets, size = packets.offsets, n * self._width
        wrong = np.flatnonzero(np.diff(offsets) != size)
        if wrong.size:
            row = int(wrong[0])
            raise DecodeError(
                f"packet {row} has {offsets[row + 1] - offsets[row]} bytes; {n} coordinates as {self.dtype} take {size}"
            )
        data = np.ascontiguousarray(packets.data[offsets[0] : offsets[-1]])
        value = data.view(f"<{self.dtype[0]}{self._width}").astype(self.dtype, copy=False)
        place = first_not_finite(value)
        if place >= 0:
            raise DecodeError(f"packet {place // n} holds {value[place]} at coordinate {place % n}")
        return Floats(n, dense_offsets(len(packets), n), None, value)

    @property
    def _width(self) -> int:
        return 4 if self.dtype == "float32" else 8
