"""Sparsifiers that keep each coordinate independently: with one probability, or in proportion to its magnitude."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats, Memory, Vectors
from qsim.compressors.base import NotFiniteError, as_float32, require_finite_floats
from qsim.compressors.sparsifier import LARGEST, Sparsifier, kept_of, require_scalable, room, take_kept
from qsim.options import number, option


@final
@option
class Bernoulli(Sparsifier):
    """Keeps each coordinate with probability p, independently, divided by p: Q(v)_i = v_i / p with probability p.

    Unbiased, with variance omega = 1/p - 1, attained by every v.

    Precision: p is rounded to the nearest multiple of 2^-24, `used`, since a coordinate is kept where its 24-bit
    uniform is below p 2^24. It is `used` that values are divided by and that omega is stated for; so the mean is exact
    but for one rounding of v_i / used to float32. Where that could be above float32's range, v is refused.

    Sparse input stays sparse, and gives the same message as the same vector dense.

    Source: e.g. Konecny and Richtarik, "Randomized distributed mean estimation: accuracy vs. communication", Frontiers
    in Applied Mathematics and Statistics 4, 2018 (there with a probability for each coordinate).

    >>> import qsim
    >>> qsim.compressors.Bernoulli(0.5).quantize([1.0, 2.0, 3.0, 4.0], qsim.Key(0)).vectors().to_dense()
    array([[0., 4., 0., 0.]], dtype=float32)

    Raises ValueError for p outside [2^-24, 1].
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

        v = as_float32(v)
        require_scalable(v, 1.0 / self.used)
        offsets, index, value = room(v, v.value.size)
        kept = keep_with_probability(v.offsets, v.index, v.value, self._steps, keys, offsets, index, value)
        return Floats(v.n, offsets, index[:kept], value[:kept])

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
    """Keeps i with probability p_i = min(1, |v_i| / t), independently, divided by p_i; t such that sum p_i = k.

    Unbiased. Of all probabilities with sum k these have the least variance sum_i v_i^2 (1/p_i - 1). As p_i = k/n is
    among them, omega = max(0, n/k - 1), that of `RandK`; attained by vectors of one magnitude, and far from attained
    where few entries are large. The number of entries sent is random, with mean k. Vectors with at most k non-zeros
    are sent as they are. k may be a fraction of n, as for `TopK`.

    Precision: p_i is rounded up to a multiple of 2^-24 (which adds at most n 2^-24 to the mean number), and v_i is
    divided by what is used, so the mean is exact but for one rounding to float32. Where t is above float32's range, v
    is refused. Sums run in float64.

    Sparse input stays sparse, and gives the same message as the same vector dense. Costs a few passes over the entries.

    Source: Wangni, Wang, Liu, Zhang, "Gradient sparsification for communication-efficient distributed optimization",
    NeurIPS 2018; t as in Algorithm 3, iterated to its end.

    >>> import qsim
    >>> qsim.compressors.Wangni(2).quantize([4.0, 1.0, 1.0, -1.0, 1.0], qsim.Key(2)).vectors().to_dense()
    array([[4., 4., 0., 0., 0.]], dtype=float32)

    Raises ValueError for a whole number k below 1, and for a fraction outside (0, 1).
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
        offsets, index, value = room(v, v.value.size)
        kept = keep_in_proportion(v.offsets, v.index, v.value, certain, keys, offsets, index, value)
        return Floats(v.n, offsets, index[:kept], value[:kept])

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
