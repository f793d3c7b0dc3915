"""Gaps and levels in code words of bits: Elias codes, and Golomb-Rice."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, Self, final

from qsim.codecs.entries import Entries, EntryCodec
from qsim.options import one_of, option

_ELIAS = ("gamma", "delta", "omega")
_RICE = 3


class _BitCodec(EntryCodec):
    """Base of the codes of bits."""

    @property
    @abstractmethod
    def _code(self) -> int:
        """The number of the code, as its kernels have it."""

    def _kernels(self, s: int) -> tuple[Any, Any, Any]:
        from qsim.kernels.bitcodes import KERNELS

        return KERNELS[self._code][min(s, 2)]

    def _most_bytes(self, entries: Entries) -> int:
        return entries.index.size * 20 + 2 * entries.rows  # Rice's zeros are fewer than 3 per non-zero on average

    def _least_bits(self, s: int) -> int:
        return (33, 2, 3)[min(s, 2)]


@final
@option
class Elias(_BitCodec):
    """The sparse QSGD code: Elias code words of gaps and levels.

    For every non-zero the packet holds the Elias code word of its gap, its sign, and the code word of its level, which
    is left out for :math:`s = 1`. A float is its gap and the 32 bits of its value.

    Parameters
    ----------
    code : {"gamma", "delta", "omega"}, default "omega"
        Which of Elias's codes.

    Raises
    ------
    ValueError
        For another code, and when it encodes vectors longer than :math:`2^{48}`.

    References
    ----------
    .. [1] Alistarh et al., "QSGD", NeurIPS 2017, section 3.1, and its full version, arXiv:1610.02132.
    .. [2] Elias, "Universal codeword sets and representations of the integers", IEEE Transactions on Information Theory
           21, 1975.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.batch.Levels.single([0, 0, -1, 2], scale=1.0, s=2)
    >>> qsim.codecs.Elias("gamma").encode(message)[0].hex()
    '0000803f7c80'
    """

    code: Literal["gamma", "delta", "omega"] = "omega"

    def __post_init__(self) -> None:
        one_of("code", self.code, _ELIAS)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return tuple(map(cls, _ELIAS))

    @property
    def number(self) -> int:
        return 7 + self._code

    @property
    def _code(self) -> int:
        return _ELIAS.index(self.code)


@final
@option
class GolombRice(_BitCodec):
    r"""Golomb-Rice code of gaps, with Elias gamma code of levels.

    For every non-zero the packet holds its gap in Golomb-Rice code, its sign, and the Elias :math:`\gamma` code word of
    its level (if :math:`s > 1`). The gap :math:`g` is :math:`\lfloor (g - 1)/2^r \rfloor` zeros, a one, and the low
    :math:`r` bits of :math:`g - 1`.

    Raises
    ------
    ValueError
        When it encodes vectors longer than :math:`2^{48}`.

    Notes
    -----
    The parameter :math:`r`, a byte before the entries, follows from the density:
    :math:`r = \max(0, \lfloor \log_2(\ln 2 (n - k) / k) \rfloor)` for :math:`k` non-zeros of :math:`n`, with
    :math:`\ln 2` taken as 9/13.

    References
    ----------
    .. [1] Rice and Plaunt, "Adaptive variable-length coding", IEEE Transactions on Communication Technology, 1971.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.batch.Levels.single([0, 0, -1, 2], scale=1.0, s=2)
    >>> qsim.codecs.GolombRice().encode(message)[0].hex()
    '0000803f003c80'
    """

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)

    @property
    def number(self) -> int:
        return 13

    @property
    def _code(self) -> int:
        return _RICE
