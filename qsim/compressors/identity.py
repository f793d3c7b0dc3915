"""No compression."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats, Memory, Vectors
from qsim.compressors.base import Compressor, require_finite
from qsim.options import option
from qsim.program import Program


@final
@option
class Identity(Compressor):
    r"""No compression: Q(v) = v, in float32.

    Unbiased, with variance :math:`\omega = 0`. Sparse vectors stay sparse, and messages can be summed in flight.

    Notes
    -----
    Unbiased with variance :math:`\omega = 0`. A sparse vector stays sparse. Messages can be summed in flight.

    Examples
    --------
    >>> import qsim
    >>> qsim.Identity().quantize([1.0, 0.5], qsim.Key(0)).vectors().to_dense()
    array([[1. , 0.5]], dtype=float32)
    """

    emits = Floats
    ignores_zeros = True
    dense = True
    summable = True

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        """Return the rows unchanged. Raises NotFiniteError for NaN and infinity."""
        require_finite(v)
        return Floats.of(v)

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        from qsim.kernels.rounds import first_wrong

        program.call(first_wrong, v.offsets, v.value, stop="not negative")
        return Floats.of(v)

    def variance(self, n: int) -> float:
        """Return omega = 0."""
        return 0.0

    def contraction(self, n: int) -> float:
        """Return delta = 1."""
        return 1.0

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return nnz(v)."""
        return float(np.count_nonzero(np.asarray(v)))

    def exact_variance(self, v: ArrayLike) -> float:
        """Return 0."""
        return 0.0

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)
