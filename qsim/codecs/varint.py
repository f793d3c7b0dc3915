"""Gaps and levels as LEB128 numbers."""

from __future__ import annotations

from typing import Any, Self, final

from qsim.codecs.base import TooLongError
from qsim.codecs.entries import Entries, EntryCodec
from qsim.options import option


@final
@option
class Varint(EntryCodec):
    """Gap, level and sign of every non-zero in one LEB128 number.

    After the scale, a non-zero is `((gap - 1) << width | (|level| - 1)) << 1 | sign`, with width the bit length of
    :math:`s - 1`; so at :math:`s = 1` a gap of up to 64 takes a single byte. A float is `gap - 1` and then its four
    bytes. A zero vector is the four bytes of its scale.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.batch.Levels.single([0, 0, -1, 1], scale=1.0, s=1)
    >>> qsim.codecs.Varint().encode(message)[0].hex()
    '0000803f0500'
    """

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)

    @property
    def number(self) -> int:
        return 6

    def _kernels(self, s: int) -> tuple[Any, Any, Any]:
        from qsim.kernels.varint import KERNELS

        return KERNELS[min(s, 2)]

    def _require_fits(self, n: int, s: int, error: type[ValueError] = TooLongError) -> None:
        if most_bits(n, s) > 64:
            raise error(f"gaps below n = {n} and levels up to s = {s} do not fit into 64 bits")

    def _most_bytes(self, entries: Entries) -> int:
        bits = most_bits(entries.stream.n, entries.s)
        return entries.index.size * (max(1, -(-bits // 7)) + (0 if entries.s else 4))

    def _least_bits(self, s: int) -> int:
        return 8 if s else 40


def most_bits(n: int, s: int) -> int:
    """Return how many bits the largest number of an entry has."""
    return (n - 1).bit_length() + ((s - 1).bit_length() + 1 if s else 0)
