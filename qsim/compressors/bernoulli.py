"""Sparsifiers that keep each coordinate independently: with one probability, or in proportion to its magnitude."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats, Memory, Vectors
from qsim.compressors.base import INFINITE, NotFiniteError, as_float32, empty_entries, require_finite_floats
from qsim.compressors.sparsifier import (
    LARGEST,
    Sparsifier,
    as_precise,
    kept_of,
    largest_scalable,
    require_scalable,
    take_kept,
)
from qsim.options import number, option
from qsim.program import Program


@final
@option
class Bernoulli(Sparsifier):
    r"""Each coordinate with the same probability, independently.

    :math:`Q(v)_i = v_i / p` with probability :math:`p`, and 0 otherwise. Unbiased, with variance
    :math:`\omega = 1/p - 1`, attained by every :math:`v`.

    Parameters
    ----------
    p : float
        The probability that a coordinate is kept, from :math:`2^{-24}` to 1. It is rounded to the nearest multiple of
        :math:`2^{-24}`, the property `used`.

    Raises
    ------
    ValueError
        If `p` is outside :math:`[2^{-24}, 1]`.

    Notes
    -----
    Precision: a coordinate is kept if its 24-bit uniform is below :math:`2^{24}` `used`. Values are divided by `used`,
    and :math:`\omega` is stated for it; so the mean is exact but for one rounding of :math:`v_i` / used to float32. A
    vector for which this may overflow is refused.

    A sparse vector stays sparse, and gives the same message as the same vector stored densely.

    References
    ----------
    .. [1] e.g. Konecny and Richtarik, "Randomized distributed mean estimation: accuracy vs. communication", Frontiers
           in Applied Mathematics and Statistics 4, 2018 (there with a probability for each coordinate).

    Examples
    --------
    >>> import qsim
    >>> qsim.compressors.Bernoulli(0.5).quantize([1.0, 2.0, 3.0, 4.0], qsim.Key(0)).vectors().to_dense()
    array([[0., 4., 0., 0.]], dtype=float32)
    """

    p: float

    emits = Floats
    ignores_zeros = True

    def __post_init__(self) -> None:
        number("p", self.p, least=2.0**-24)
        if self.p > 1:
            raise ValueError(f"p must be a probability from 2^-24 to 1, found {self.p!r}")

    @property
    def used(self) -> float:
        """The probability that is used: p as a multiple of 2^-24."""
        return self._steps / 2**24

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        """Draw from a batch. Raises NotFiniteError for NaN, infinity, and numbers too large to be divided by p."""
        from qsim.kernels.bernoulli import keep_with_probability

        given, v = v, as_float32(v)
        require_scalable(v, 1.0 / self.used)
        offsets, index, value = empty_entries(v, v.value.size, np.float32)
        kept = keep_with_probability(v.offsets, v.index, v.value, self._steps, keys, offsets, index, value)
        return as_precise(Floats(v.n, offsets, index[:kept], value[:kept]), given, 1.0 / self.used)

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        from qsim.kernels.bernoulli import keep_with_probability
        from qsim.kernels.select import first_of_rows_at_least

        row, out = (v.offsets, v.index, v.value), empty_entries(v, v.value.size, np.float32)
        bound = largest_scalable(1.0 / self.used).view(np.int32) + np.int32(1)
        program.call(first_of_rows_at_least, v.offsets, v.value, bound, stop="not negative")
        program.call(keep_with_probability, *row, self._steps, keys, *out)
        return Floats(v.n, *out)

    def variance(self, n: int) -> float:
        """Return omega = 1/used - 1: E ||Q(v) - v||^2 = omega ||v||^2 for all v."""
        return 1.0 / self.used - 1.0

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v) = used nnz(v)."""
        return self.used * int(np.count_nonzero(np.asarray(v)))

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = (1/used - 1) ||v||^2."""
        vector = np.asarray(v, np.float64)
        return self.variance(vector.size) * float(vector @ vector)

    @property
    def _steps(self) -> int:
        return round(self.p * 2**24)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(p=0.25),)


@final
@option
class Wangni(Sparsifier):
    r"""Each coordinate with a probability in proportion to its magnitude.

    :math:`Q(v)_i = v_i / p_i` with probability :math:`p_i = \min(1, |v_i| / t)`, independently, and 0 otherwise, with
    :math:`t` such that :math:`\sum_i p_i = k`. Of all probabilities with sum :math:`k` these have the least variance,
    :math:`\sum_i v_i^2 (1/p_i - 1)`.

    Unbiased, with variance :math:`\omega = \max(0, n/k - 1)`, that of `RandK`, since :math:`p_i = k/n` is among the
    choices; it is attained by vectors whose magnitudes are all equal, and far from attained if few entries are large.

    Parameters
    ----------
    k : int or float
        The expected number of entries sent (an int of at least 1), or the fraction of the :math:`n` coordinates (a
        float in (0, 1)), as for `TopK`. Vectors with at most :math:`k` non-zeros are sent unchanged.

    Raises
    ------
    ValueError
        For a whole number :math:`k` below 1, and for a fraction outside (0, 1).

    Notes
    -----
    Precision: :math:`p_i` is rounded up to a multiple of :math:`2^{-24}`, which adds at most :math:`n 2^{-24}` to the
    expected number of entries, and :math:`v_i` is divided by the rounded :math:`p_i`; so the mean is exact but for one
    rounding to float32. A vector for which :math:`t` is above float32's range is refused. Sums run in float64.

    A sparse vector stays sparse, and gives the same message as the same vector stored densely, in a few passes over the
    entries.

    References
    ----------
    .. [1] Wangni, Wang, Liu, Zhang, "Gradient sparsification for communication-efficient distributed optimization",
           NeurIPS 2018; t is that of Algorithm 3, iterated to convergence.

    Examples
    --------
    >>> import qsim
    >>> qsim.compressors.Wangni(2).quantize([4.0, 1.0, 1.0, -1.0, 1.0], qsim.Key(2)).vectors().to_dense()
    array([[4., 4., 0., 0., 0.]], dtype=float32)
    """

    k: int | float

    emits = Floats
    ignores_zeros = True

    def __post_init__(self) -> None:
        take_kept(self)

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        """Draw from a batch. Raises NotFiniteError for NaN, infinity, and numbers too large to be divided by p_i."""
        from qsim.kernels.bernoulli import certain_magnitudes, keep_in_proportion

        v = as_float32(v)
        require_finite_floats(v)
        k = kept_of(self.k, v.n)
        certain = certain_magnitudes(v.offsets, v.value, k)
        if (certain > LARGEST).any():
            row = int(np.argmax(certain > LARGEST))
            raise NotFiniteError(
                f"row {row} of the batch has entries that would be sent as {certain[row]:.6g}, above float32's range"
                f" (3.4e38), as a sum of magnitudes is shared by {k}",
                row,
            )
        offsets, index, value = empty_entries(v, v.value.size, np.float32)
        kept = keep_in_proportion(v.offsets, v.index, v.value, certain, keys, offsets, index, value)
        return Floats(v.n, offsets, index[:kept], value[:kept])

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        from qsim.kernels.bernoulli import certain_scales, keep_in_proportion
        from qsim.kernels.select import first_of_rows_at_least

        row, out = (v.offsets, v.index, v.value), empty_entries(v, v.value.size, np.float32)
        certain = np.empty(v.rows)
        program.call(first_of_rows_at_least, v.offsets, v.value, INFINITE, stop="not negative")
        program.call(certain_scales, v.offsets, v.value, kept_of(self.k, v.n), certain, stop="not zero")
        program.call(keep_in_proportion, *row, certain, keys, *out)
        return Floats(v.n, *out)

    def variance(self, n: int) -> float:
        """Return omega = n/k - 1 (0 for k >= n), attained by vectors of one magnitude."""
        return n / kept_of(self.k, n) - 1.0

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v) = min(k, nnz(v))."""
        vector = np.asarray(v)
        return float(min(kept_of(self.k, vector.size), int(np.count_nonzero(vector))))

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = sum of |v_i| (t - |v_i|) over |v_i| < t, in exact arithmetic."""
        magnitude = np.sort(np.abs(np.asarray(v, np.float64)))[::-1]
        k = kept_of(self.k, magnitude.size)
        if k >= np.count_nonzero(magnitude):
            return 0.0
        rest = np.cumsum(magnitude[::-1])[::-1][:k]  # without the largest 0, 1, ..., k - 1
        t = rest / (k - np.arange(k))
        aside = int(np.argmax(magnitude[:k] < t)) if (magnitude[:k] < t).any() else k
        if aside == k:
            return 0.0  # the others vanish in the sum
        below = magnitude[aside:]
        return float((below * (t[aside] - below)).sum())

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(k=10),)
