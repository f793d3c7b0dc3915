"""Correlated quantization: workers round with uniform numbers that keep out of each other's way."""

from __future__ import annotations

from dataclasses import replace
from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Levels, Memory, Message, Vectors, index_type
from qsim.compressors.base import Compressor, as_float32, require_finite
from qsim.keys import NUMBER_BITS
from qsim.options import option, whole


@final
@option
class CorrelatedQuantization(Compressor):
    r"""Workers round with uniform numbers that keep out of each other's way, so that their errors cancel.

    With :math:`N` the largest magnitude, each coordinate is rounded up or down, at random without bias, to one of
    :math:`2^{\mathrm{bits}}` evenly spaced numbers from :math:`-N` to :math:`N`: up if :math:`u` is below its place
    between the two next to it. Worker :math:`i` of :math:`W` has :math:`u = (\pi(i) + U)/W`, where :math:`\pi` is a
    random permutation that all draw together and :math:`U` is uniform.

    A message alone is unbiased with variance :math:`\omega = (n - 1)/(2^{\mathrm{bits}} - 1)^2`, attained by a single
    entry. The error of the mean is at most :math:`\omega/W` of the mean of :math:`\|v_i\|^2`, what it is for workers
    that draw for themselves; for equal vectors it is at most :math:`\omega/W^2`.

    Parameters
    ----------
    workers : int
        The number :math:`W` of workers, from 1 to :math:`2^{24}`: that of the run.
    bits : int, default 1
        The bits of a coordinate, from 1 to 8.

    Raises
    ------
    ValueError
        For other numbers.

    Notes
    -----
    :math:`\pi` is one permutation for all coordinates, moved by a random number modulo :math:`W` in each: a
    coordinate's law is that of a permutation of its own. The variance is large, since :math:`N` may be as large as the
    norm: the paper rotates vectors first. For clients who sit out, and with any weights, the error of the mean still is
    at most that of workers that draw for themselves.

    Precision: :math:`U` has 24 bits, and places are taken in float64, so that the mean is right to :math:`2^{-24}` of a
    step. Zeros are filled in, but the zero vector has no entries. A row costs :math:`O(n)`, and a batch :math:`O(W)`
    beside.

    References
    ----------
    .. [1] Suresh, Sun, Ro, Yu, "Correlated quantization for distributed mean estimation and optimization", ICML 2022,
           Algorithms 1 and 2 (variances derived here).

    Examples
    --------
    >>> import numpy as np, qsim
    >>> compressor, v = qsim.CorrelatedQuantization(workers=4), np.float32([1, 0.5, 0, -0.5])
    >>> keys, rows = qsim.Key(0).numbered.words(0, 4), qsim.batch.Vectors.dense(np.stack([v] * 4))
    >>> compressor.decompress(compressor.compress(rows, keys), keys).to_dense().mean(axis=0)
    array([ 1. ,  0.5,  0. , -0.5], dtype=float32)
    """

    workers: int
    bits: int = 1

    emits = Levels
    keeps_sparse = False

    def __post_init__(self) -> None:
        whole("workers", self.workers, least=1, most=1 << NUMBER_BITS)
        whole("bits", self.bits, least=1, most=8)

    @property
    def correlated(self) -> int:
        """The number W of workers, who draw together."""
        return self.workers

    @property
    def dense(self) -> bool:
        """Whether a fixed number of bits is near the shortest: 1 is; of more, numbers in the middle are most common."""
        return self.bits == 1

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        """Round a batch. Raises NotFiniteError for NaN and infinity."""
        from qsim.kernels.correlated import round_correlated
        from qsim.kernels.norms import max_norms

        v = as_float32(v)
        scale = max_norms(v.offsets, v.value).astype(np.float32)
        if not np.isfinite(scale).all():
            require_finite(v)
        value = v.value if v.index is None else v.to_dense().reshape(-1)
        offsets, index = np.empty(v.rows + 1, np.int64), np.empty(v.rows * v.n, index_type(v.n))
        level = np.empty(index.size, np.int32)
        kept = round_correlated(keys, self.workers, v.n, value, scale, self._top, offsets, index, level)
        return Levels(v.n, offsets, index[:kept], level[:kept], scale, 1 << (self.bits - 1))

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return the vectors: level l stands for the odd number 2 l - 1, times N/(2^bits - 1)."""
        if not isinstance(message, Levels):
            return message.vectors()
        return replace(message, level=2 * message.level - np.sign(message.level), s=self._top).vectors()

    def variance(self, n: int) -> float:
        """Return omega = (n - 1)/(2^bits - 1)^2."""
        return (n - 1) / self._top**2

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return nnz Q(v): n, or 0 for the zero vector."""
        vector = np.asarray(v)
        return float(vector.size * bool(np.any(vector)))

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2: the product of the distances to the numbers below and above, summed."""
        vector = np.asarray(v, np.float64)
        largest = np.abs(vector).max(initial=0.0)
        if not largest:
            return 0.0
        place = (vector / largest + 1) * (self._top / 2)
        part = place - np.floor(place)
        return float((part * (1 - part)).sum() * (2 * largest / self._top) ** 2)

    @property
    def _top(self) -> int:
        """How many steps there are from -N to N."""
        return (1 << self.bits) - 1

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(workers=8, bits=2),)
