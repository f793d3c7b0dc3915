"""One bit per coordinate: signs, scaled or not, and the means of both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Levels, Memory, Signs, Vectors, dense_offsets
from qsim.compressors.base import Compressor, as_float32, empty_entries, require_finite, require_finite_floats
from qsim.options import option
from qsim.program import Program

TIE = 1e-12
"""A weighted sum of signs, the weights n_i/n, is a multiple of 1/n: what is smaller than this is rounding, and zero."""


@final
@option
class ScaledSign(Compressor):
    r"""Signs, times the mean magnitude.

    .. math::

        Q(v)_i = (\|v\|_1 / n) \operatorname{sign}(v_i),

    with :math:`\operatorname{sign}(0) = +1`. A packet takes :math:`n + 32` bits at a fixed width.

    A contraction: :math:`\|Q(v) - v\|^2 = (1 - \|v\|_1^2 / (n \|v\|_2^2)) \|v\|_2^2`, so :math:`\delta = 1/n`, attained
    by a single non-zero entry; for Gaussian entries the squared error is :math:`(1 - 2/\pi) \|v\|^2`.

    Notes
    -----
    Zeros become :math:`+\|v\|_1 / n`: a sparse vector is made dense, at :math:`O(n)` time and bits per row.

    Precision: the sum is taken in float64 in a fixed order, and the mean rounded to the nearest float32, which adds at
    most :math:`2^{-48} \|v\|^2` to the error if it is a normal float32 (above 1.2e-38). A vector whose mean magnitude
    rounds to zero, such as the zero vector, gives a scale of 0 and no entries.

    References
    ----------
    .. [1] Karimireddy, Rebjock, Stich, Jaggi, "Error feedback fixes SignSGD", ICML 2019, section 4.

    Examples
    --------
    >>> import qsim
    >>> qsim.compressors.ScaledSign().quantize([3.0, 0.0, -1.5], qsim.Key(0)).vectors().to_dense()
    array([[ 1.5,  1.5, -1.5]], dtype=float32)
    """

    emits = Levels
    dense = True
    keeps_sparse = False

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        """Take the signs of a batch; the keys are not used. Raises NotFiniteError for NaN and infinity."""
        from qsim.kernels.norms import l1_norms

        v = filled(as_float32(v))
        norms = l1_norms(v.offsets, v.value)
        if not np.isfinite(norms).all():
            require_finite(v)
        return _signs(v, (norms / v.n).astype(np.float32))

    def contraction(self, n: int) -> float:
        """Return delta = 1/n, attained by a single non-zero entry."""
        return 1.0 / n

    def exact_variance(self, v: ArrayLike) -> float:
        """Return ||v||_2^2 - ||v||_1^2 / n, the squared error."""
        magnitude: NDArray[np.float64] = np.abs(np.asarray(v, np.float64))
        return float(((magnitude - magnitude.mean()) ** 2).sum())

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return n, or 0 for the zero vector."""
        return float(np.size(v) if np.any(np.asarray(v)) else 0)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)


@final
@option
class Sign(Compressor):
    r"""Signs alone, for sign descent.

    :math:`Q(v)_i = \operatorname{sign}(v_i)`, with :math:`\operatorname{sign}(0) = +1`. What is compressed is the
    update, step times gradient, whose magnitude is lost: every coordinate moves by 1, whatever the step. See
    `qsim.methods.SignSGD`.

    Notes
    -----
    There is no certificate: :math:`\|Q(v) - v\|^2` is near :math:`n` however small :math:`v` is, so no
    :math:`\delta > 0` holds, and :math:`Q` is biased. Sign descent fails on simple problems [2]_ that
    `ErrorFeedback(ScaledSign())` solves.

    Zeros become +1: a sparse vector, the zero vector among them, is made dense, at :math:`O(n)` time and bits per row.
    A packet holds :math:`n` bits at a fixed width; the scale, always 1, is in the header of the stream. Messages can be
    summed in flight, which counts the votes; the sum of :math:`W` takes :math:`\log_2(2 W + 1)` bits per coordinate.

    References
    ----------
    .. [1] Bernstein, Wang, Azizzadenesheli, Anandkumar, "signSGD", ICML 2018.
    .. [2] Karimireddy et al., "Error feedback fixes SignSGD", ICML 2019, section 3 (the failures).

    Examples
    --------
    >>> import qsim
    >>> qsim.compressors.Sign().quantize([3.0, 0.0, -1.5], qsim.Key(0)).vectors().to_dense()
    array([[ 1.,  1., -1.]], dtype=float32)
    """

    emits = Levels
    dense = True
    keeps_sparse = False
    summable = True

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        """Take the signs of a batch; the keys are not used. Raises NotFiniteError for NaN and infinity."""
        v = filled(as_float32(v))
        require_finite_floats(v)
        return replace(_signs(v, np.ones(v.rows, np.float32)), fixed=1.0)

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        from qsim.kernels.rounds import first_wrong, read_floats, write_dense
        from qsim.kernels.signs import signs_to_levels

        rows, size, value = v.rows, v.rows * v.n, v.value
        program.call(first_wrong, v.offsets, value, stop="not negative")
        if v.index is not None:
            data, value = np.empty(4 * size, np.uint8), np.empty(size, np.float32)
            program.call(write_dense, v.offsets, v.index, v.value, v.n, data)
            program.call(read_floats, data, value)
        offsets, index, level = empty_entries(v, size, np.int32)
        program.call(signs_to_levels, dense_offsets(rows, v.n), value, np.ones(rows, np.bool_), offsets, index, level)
        return Levels(v.n, offsets, index, level, np.ones(rows, np.float32), 1, fixed=1.0)

    def exact_variance(self, v: ArrayLike) -> float:
        """Return sum_i (1 - |v_i|)^2, the squared error."""
        return float(((1.0 - np.abs(np.asarray(v, np.float64))) ** 2).sum())

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return n."""
        return float(np.size(v))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)


@final
@option
class OneBit(Compressor):
    r"""Signs, with the mean of either side.

    :math:`Q(v)_i` is the mean of all :math:`v_j \geq 0` if :math:`v_i \geq 0`, and the mean of all :math:`v_j < 0`
    otherwise. A packet takes :math:`n + 64` bits at a fixed width.

    A contraction with :math:`\delta = 1/n`, attained by a single non-zero entry, and never worse than `ScaledSign`: no
    other two numbers give a smaller error with these signs.

    Parameters
    ----------
    support_only : bool, default False
        Whether the rule applies to the non-zero entries only, and zeros stay zero. What is sent then are the positions,
        a bit for each of them, and the two means; :math:`\delta` is 1 over the number of non-zeros, so at least
        :math:`1/n`.

    Notes
    -----
    By default every zero moves to the mean of its side: a sparse vector is made dense, at :math:`O(n)` time and bits
    per row.

    Precision: sums are taken in float64 in a fixed order, and means rounded to the nearest float32. The mean of no
    entries is 0.

    References
    ----------
    .. [1] Seide, Fu, Droppo, Li, Yu, "1-bit stochastic gradient descent", Interspeech 2014, section 3 (there a column
           of a matrix at a time, and with error feedback: `ErrorFeedback(OneBit())`).

    Examples
    --------
    >>> import qsim
    >>> message = qsim.compressors.OneBit().quantize([0.1, 0.15, -0.2, 20, 15.3, -1.222], qsim.Key(0))
    >>> message.vectors().to_dense()
    array([[ 8.8875,  8.8875, -0.711 ,  8.8875,  8.8875, -0.711 ]],
          dtype=float32)
    """

    support_only: bool = False

    emits = Signs

    @property
    def dense(self) -> bool:
        return not self.support_only

    @property
    def keeps_sparse(self) -> bool:
        return self.support_only

    @property
    def ignores_zeros(self) -> bool:
        return self.support_only

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Signs:
        """Take the signs of a batch; the keys are not used. Raises NotFiniteError for NaN and infinity."""
        from qsim.kernels.signs import means_of_signs

        given = as_float32(v)
        v = _nonzeros(given) if self.support_only else filled(given)
        positive = np.empty(v.value.size, np.bool_)
        low, high = np.empty(v.rows, np.float32), np.empty(v.rows, np.float32)
        if not means_of_signs(v.offsets, v.value, positive, low, high):
            require_finite(given)
        return Signs(v.n, v.offsets, v.index, positive, low, high)

    def contraction(self, n: int) -> float:
        """Return delta = 1/n, attained by a single non-zero entry (of the support, if only that is sent)."""
        return 1.0 / n

    def exact_variance(self, v: ArrayLike) -> float:
        """Return the squared error: the sum of squared distances to the mean, over both sides."""
        return float(sum(((side - side.mean()) ** 2).sum() for side in self._sides(v)))

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return how many coordinates are on a side whose mean is not zero."""
        return float(sum(side.size for side in self._sides(v) if side.mean() != 0))

    def _sides(self, v: ArrayLike) -> list[NDArray[np.float64]]:
        """Return the entries of both sides, those that are not empty."""
        vector = np.asarray(v, np.float64)
        if self.support_only:
            vector = vector[vector != 0]
        return [side for side in (vector[vector < 0], vector[vector >= 0]) if side.size]

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(), cls(support_only=True))


def filled(v: Vectors) -> Vectors:
    """Return the rows with all their n coordinates."""
    return v if v.index is None else Vectors.dense(v.to_dense())


def _signs(v: Vectors, scale: NDArray[np.float32]) -> Levels:
    """Return the signs of dense rows, of no entries where the scale is zero."""
    from qsim.kernels.signs import signs_to_levels

    wanted = scale > 0
    size = v.n * int(np.count_nonzero(wanted))
    offsets, index, level = empty_entries(v, size, np.int32)
    signs_to_levels(v.offsets, v.value, wanted, offsets, index, level)
    return Levels(v.n, offsets, index, level, scale, 1)


def _nonzeros(v: Vectors) -> Vectors:
    """Return the rows as sparse ones without stored zeros."""
    from qsim.kernels.signs import without_zeros

    if v.index is not None and v.nonzeros == v.value.size:
        return v
    offsets, index, value = empty_entries(v, v.value.size, np.float32)
    kept = without_zeros(v.offsets, v.index, v.value, offsets, index, value)
    return Vectors(v.n, offsets, index[:kept], value[:kept])
