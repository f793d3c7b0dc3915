"""Gaps and levels by asymmetric numeral systems: close to the entropy."""

from __future__ import annotations

from typing import Any, Self, final

from qsim.batch import Packets
from qsim.codecs.entries import Entries, EntryCodec
from qsim.options import option


@final
@option
class RANS(EntryCodec):
    r"""Gaps and levels by asymmetric numeral systems, close to the entropy.

    Every gap and every signed level takes :math:`-\log_2(\mathrm{frequency} / 2^p)` bits, by range asymmetric numeral
    systems (rANS) with the frequencies of the row itself. A float is its gap and its 32 bits.

    Raises
    ------
    ValueError
        When it encodes vectors longer than :math:`2^{48}`.

    Notes
    -----
    A number below 8 is a symbol of its own; larger ones share four symbols an octave, and the bits below are written
    unchanged. A packet begins with the number of entries and the frequencies of both kinds of symbols, so a packet of
    few entries is larger than with other codecs, while one of 50 kbit and more is within 2% of :math:`n` times the
    order-0 entropy of its levels (zeros included), if these are drawn independently.

    References
    ----------
    .. [1] Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate of
           arithmetic coding", arXiv:1311.2540, 2013.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.batch.Levels.single([0, 0, -1, 2], scale=1.0, s=2)
    >>> qsim.codecs.RANS().size(message).tolist()
    [168]
    """

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)

    @property
    def number(self) -> int:
        return 14

    def _kernels(self, s: int) -> tuple[Any, Any, Any]:
        from qsim.kernels.rans import KERNELS

        return KERNELS[min(s, 2)]

    def _most_bytes(self, entries: Entries) -> int:
        return entries.index.size * 24 + 128 * entries.rows

    def _most_entries(self, packets: Packets, skip: int, n: int, s: int) -> int:
        from qsim.kernels.rans import claims

        return claims(packets.data, packets.offsets, skip, n, s)
