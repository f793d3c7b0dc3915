"""A bit for every coordinate, and then what the entries hold."""

from __future__ import annotations

from typing import Any, Self, final

from qsim.codecs.coordinates import CoordinateCodec
from qsim.options import option


@final
@option
class Bitmap(CoordinateCodec):
    r"""A bit for every coordinate, then the entries.

    The bits are 1 for an entry, padded to whole bytes; the fields of the entries follow, padded to whole bytes. The
    field of a level is its sign and |level| - 1 in bit_length(:math:`s - 1`) bits, that of a sign one bit, that of a
    float its 32 bits. So :math:`k` entries take :math:`8 (\lceil n / 8 \rceil + \lceil k \mathrm{width} / 8 \rceil)`
    bits, and a row without entries none.

    Raises
    ------
    ValueError
        When it encodes vectors longer than :math:`2^{48}`.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.batch.Levels.single([0, 0, -1, 2], scale=1.0, s=2)
    >>> qsim.codecs.Bitmap().encode(message)[0].hex()
    '0000803f3090'
    """

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)

    @property
    def number(self) -> int:
        return 5

    def _kernels(self, s: int) -> tuple[Any, Any, Any]:
        from qsim.kernels.bitmap import KERNELS
        from qsim.kernels.packing import group_of

        return KERNELS[min(s, 2), group_of(_width(s))]

    def _most_bits(self, s: int) -> tuple[int, int]:
        return 1, _width(s)

    def _least_bits(self, s: int) -> int:
        return 1 + _width(s)


def _width(s: int) -> int:
    """Return how many bits the field of an entry has."""
    return 1 + (s - 1).bit_length() if s else 32
