"""TernGrad: three values."""

from __future__ import annotations

from typing import Self, final

from qsim.compressors.base import Compressor
from qsim.compressors.named import Named
from qsim.compressors.qsgd import QSGD
from qsim.options import option


@final
@option
class TernGrad(Named):
    """Sends 0 or M sign(v_i), M the largest magnitude: the second with probability |v_i| / M.

    Unbiased with variance omega = (sqrt(n) - 1)/2, attained; the expected number of non-zeros is (sum_i |v_i|) / M.
    It is `QSGD(levels=1, norm="max")`.

    Source: Wen et al., "TernGrad", NeurIPS 2017, section 3 (without its clipping); the variance: Mishchenko, Gorbunov,
    Takac, Richtarik, "Distributed learning with compressed gradient differences" (DIANA), arXiv:1901.09269, 2019.

    >>> import qsim
    >>> message = qsim.compressors.TernGrad().quantize([4.0, 0.0, -4.0, 1.0], qsim.Key(0))
    >>> message.vectors().to_dense()
    array([[ 4.,  0., -4.,  0.]], dtype=float32)
    """

    @property
    def same_as(self) -> Compressor:
        return QSGD(1, "max")

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)
