"""An unbiased compressor made a contraction."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Memory, Message, Vectors
from qsim.batch.planned import plan_scaled
from qsim.compressors.base import Compressor, require_compressor
from qsim.compressors.plans import with_own_plan
from qsim.compressors.wrapper import Wrapper
from qsim.options import option
from qsim.program import Program


@final
@option
class Scaled(Wrapper):
    r"""An unbiased compressor, scaled to be a contraction.

    :math:`Q(v) / (1 + \omega)`, with :math:`\omega` the variance of the unbiased compressor :math:`Q`: a contraction
    with :math:`\delta = 1/(1 + \omega)`.

    Parameters
    ----------
    compressor : Compressor
        The unbiased compressor :math:`Q`.

    Raises
    ------
    TypeError
        If it is not a compressor.
    ValueError
        If it states no variance, or has a memory.

    Notes
    -----
    The factor goes into the scale on the wire, rounded once to float32. A sparse vector stays sparse if :math:`Q` keeps
    it so.

    References
    ----------
    .. [1] Beznosikov, Horvath, Richtarik, Safaryan, "On biased compression for distributed learning", JMLR 24 (276),
           2023.

    Examples
    --------
    >>> import qsim
    >>> round(qsim.Scaled(qsim.QSGD(levels=1)).contraction(16), 6)
    0.25
    """

    compressor: Compressor

    def __post_init__(self) -> None:
        require_compressor(
            "compressor", self.compressor, "put it around the whole, as ErrorFeedback(Scaled(...))", together=True
        )
        if self.compressor.variance(1) is None:
            raise ValueError(f"Scaled needs an unbiased compressor that states its variance, found {self.compressor!r}")

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        return self.compressor.compress(v, keys, memory).scaled(self.contraction(v.n))

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        message = with_own_plan(self.compressor).plan(program, v, keys, memory)
        return plan_scaled(program, message, self.contraction(v.n))

    def contraction(self, n: int) -> float:
        """Return delta = 1/(1 + omega)."""
        omega = self.compressor.variance(n)
        assert omega is not None
        return 1.0 / (1.0 + omega)

    def exact_variance(self, v: ArrayLike) -> float | None:
        """Return E ||delta Q(v) - v||^2 = delta^2 E ||Q(v) - v||^2 + (1 - delta)^2 ||v||^2."""
        return self.scaled_variance(v, self.contraction(np.size(v)))

    def scaled_variance(self, v: ArrayLike, factor: float) -> float | None:
        """Return E ||factor Q(v) - v||^2, if a closed form is known."""
        variance, vector = self.compressor.exact_variance(v), np.asarray(v, np.float64)
        return None if variance is None else factor**2 * variance + (1 - factor) ** 2 * float(vector @ vector)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        from qsim.compressors.qsgd import QSGD

        return (cls(QSGD(levels=1)),)
