"""TernGrad: three values."""

from __future__ import annotations

from typing import Self, final

from qsim.compressors.alias import Alias
from qsim.compressors.base import Compressor
from qsim.compressors.qsgd import QSGD
from qsim.options import option


@final
@option
class TernGrad(Alias):
    r"""Random rounding to three values: 0 and plus or minus the largest magnitude.

    With :math:`M` the largest magnitude of :math:`v`, :math:`Q(v)_i` is :math:`M \operatorname{sign}(v_i)` with
    probability :math:`|v_i| / M`, and 0 otherwise. This is `QSGD(levels=1, norm="max")`.

    Unbiased, with variance :math:`\omega = (\sqrt{n} - 1)/2`, which is attained; the expected number of non-zeros is
    :math:`(\sum_i |v_i|) / M`.

    References
    ----------
    .. [1] Wen et al., "TernGrad", NeurIPS 2017, section 3 (without its clipping).
    .. [2] Mishchenko, Gorbunov, Takac, Richtarik, "Distributed learning with compressed gradient differences" (DIANA),
           arXiv:1901.09269, 2019 (the variance).

    Examples
    --------
    >>> import qsim
    >>> message = qsim.compressors.TernGrad().quantize([4.0, 0.0, -4.0, 1.0], qsim.Key(0))
    >>> message.vectors().to_dense()
    array([[ 4.,  0., -4.,  0.]], dtype=float32)
    """

    @property
    def compressor(self) -> Compressor:
        return QSGD(1, "max")

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)
