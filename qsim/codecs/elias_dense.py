"""An Elias code word for every coordinate."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, final

from qsim.batch import Levels, Message, Signs
from qsim.codecs.coordinates import CoordinateCodec
from qsim.options import one_of, option

_CODES = ("gamma", "delta", "omega")


@final
@option
class EliasDense(CoordinateCodec):
    """The dense QSGD code: an Elias code word for every coordinate.

    Every coordinate is the Elias code word of |level| + 1, and a sign if it is non-zero; signs are levels of 1. The
    last byte is padded with zeros.

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
    >>> qsim.codecs.EliasDense("gamma").encode(message)[0].hex()
    '0000803fd580'
    """

    code: Literal["gamma", "delta", "omega"] = "omega"
    carries: ClassVar[tuple[type[Message], ...]] = (Levels, Signs)

    def __post_init__(self) -> None:
        one_of("code", self.code, _CODES)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return tuple(map(cls, _CODES))

    @property
    def number(self) -> int:
        return 10 + _CODES.index(self.code)

    def _kernels(self, s: int) -> tuple[Any, Any, Any]:
        from qsim.kernels.elias_dense import KERNELS

        return KERNELS[_CODES.index(self.code)]

    def _most_bits(self, s: int) -> tuple[int, int]:
        return 1, 2 * (s + 1).bit_length() + 1  # gamma's words are the longest, or another's by no more than 2

    def _least_bits(self, s: int) -> int:
        return 4  # gamma's and omega's word of 2, and a sign
