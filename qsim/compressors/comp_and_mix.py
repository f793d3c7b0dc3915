"""Compressors between Top-k and Rand-k, with a bias and a variance: comp-(k, k') and mix-(k, k')."""

from __future__ import annotations

from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats, Memory, Vectors, index_type
from qsim.compressors.base import INFINITE, as_float32, empty_entries, require_finite
from qsim.compressors.sparsifier import Sparsifier, as_precise, kept_of, require_scalable, take_kept
from qsim.options import option


@final
@option
class CompK(Sparsifier):
    r"""Some of the largest entries, drawn at random: comp-(k, k').

    :math:`k` entries, drawn at random without replacement from the :math:`k'` with the largest magnitudes, times
    :math:`k'/k`. Its bias and variance are :math:`\eta = \sqrt{(n - k')/n}` and :math:`\omega = (k' - k)/k`, both
    attained by vectors of one magnitude. For :math:`k = k'` it is `TopK(k)`, and for :math:`k' \geq n` `RandK(k)`.

    Parameters
    ----------
    k : int or float
        The number of entries that are sent (an int of at least 1), or the fraction of the :math:`n` coordinates (a
        float in (0, 1)), which stands for :math:`\max(1, \operatorname{round}(k n))`.
    among : int or float
        The number :math:`k'` of entries among which they are drawn, in the same way; at least :math:`k`.

    Raises
    ------
    ValueError
        For a whole number below 1, a fraction outside (0, 1), and :math:`\mathrm{among} < k`.

    Notes
    -----
    It is made for `EFBV`. By itself it is neither unbiased nor, in general, a contraction: the error of a vector of one
    magnitude is :math:`(n - k' + k' \omega)/n` of its square. `Compose(TopK(k'), Bernoulli(k/k'))` has the same bias
    and variance, and sends :math:`k` entries in the mean. (The authors' code draws with replacement, and leaves out
    :math:`k'/k`.)

    A vector with fewer than :math:`k'` non-zeros has zeros among its largest, which are not sent when they are drawn.
    Precision: the product with :math:`k'/k` is rounded once to float32. A vector for which it may overflow is refused.

    A sparse vector stays sparse, and gives the same message as the same vector stored densely.

    References
    ----------
    .. [1] Condat, Yi, Richtarik, "EF-BV: a unified theory of error feedback and variance reduction mechanisms for
           biased and unbiased compression in distributed optimization", NeurIPS 2022, Section 2.

    Examples
    --------
    >>> import qsim
    >>> compressor = qsim.CompK(1, among=2)
    >>> compressor.quantize([4.0, 1.0, -3.0, 0.0], qsim.Key(1)).vectors().to_dense()
    array([[ 0.,  0., -6.,  0.]], dtype=float32)
    >>> [round(x, 3) for x in compressor.bias_and_variance(4)]
    [0.707, 1.0]
    """

    k: int | float
    among: int | float

    emits = Floats

    def __post_init__(self) -> None:
        take_kept(self)
        take_kept(self, "among")
        if isinstance(self.k, int) == isinstance(self.among, int) and self.among < self.k:
            raise ValueError(f"among must be at least k = {self.k}, found {self.among}")

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        """Draw from a batch. Raises NotFiniteError for NaN, infinity, and numbers too large to be scaled by k'/k."""
        from qsim.kernels.select import draw_positions, keep_largest
        from qsim.kernels.top_and_random import pick

        given, v, (k, among) = v, as_float32(v), self._counts(v.n)
        require_scalable(v, among / k)
        most = int(np.minimum(np.diff(v.offsets), among).sum())
        largest = empty_entries(v, most, np.float32)
        keep_largest(v.offsets, v.index, v.value, among, *largest)
        places = np.empty(v.rows * k, index_type(among))
        draw_positions(keys, among, k, places)
        offsets, index, value = empty_entries(v, min(most, v.rows * k), np.float32)
        kept = pick(*largest, places, k, among / k, offsets, index, value)
        return as_precise(Floats(v.n, offsets, index[:kept], value[:kept]), given, among / k)

    def most_kept(self, n: int) -> int:
        return self._counts(n)[0]

    def bias_and_variance(self, n: int) -> tuple[float, float]:
        """Return eta = sqrt((n - k')/n) and omega = (k' - k)/k."""
        k, among = self._counts(n)
        return sqrt((n - among) / n), (among - k) / k

    def variance(self, n: int) -> float | None:
        """Return omega = n/k - 1 for k' >= n; None otherwise, as it is biased."""
        k, among = self._counts(n)
        return n / k - 1.0 if among == n else None

    def contraction(self, n: int) -> float | None:
        """Return delta = k/n for k = k' < n, which is `TopK`; None otherwise."""
        k, among = self._counts(n)
        return k / n if k == among < n else None

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v): the non-zeros of the k' largest, times k/k'."""
        vector = np.asarray(v)
        k, among = self._counts(vector.size)
        return min(among, int(np.count_nonzero(vector))) * k / among

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2: omega times the k' largest squares, and all others."""
        squares = np.sort(np.asarray(v, np.float64) ** 2)
        k, among = self._counts(squares.size)
        rest = squares.size - among
        return float(squares[:rest].sum() + (among - k) / k * squares[rest:].sum())

    def _counts(self, n: int) -> tuple[int, int]:
        """Return k and k' for vectors of length n."""
        k = kept_of(self.k, n)
        return k, max(k, kept_of(self.among, n))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(k=5, among=10),)


@final
@option
class MixK(Sparsifier):
    r"""The largest entries, and some of the others, drawn at random: mix-(k, k').

    The :math:`k` entries with the largest magnitudes, and :math:`k'` of the other coordinates, drawn at random without
    replacement, all as they are. A contraction with :math:`\delta = (k + k')/n`, that of `TopK(k + k')`; its bias and
    variance are :math:`\eta = (n - k - k')/\sqrt{(n - k) n}` and :math:`\omega = k' (n - k - k')/((n - k) n)`. All are
    attained by vectors of one magnitude.

    Parameters
    ----------
    k : int or float
        The number of largest entries (an int of at least 1), or the fraction of the :math:`n` coordinates (a float in
        (0, 1)), which stands for :math:`\max(1, \operatorname{round}(k n))`.
    others : int or float
        The number :math:`k'` of others, in the same way; all of them for :math:`k + k' \geq n`.

    Raises
    ------
    ValueError
        For a whole number below 1, and for a fraction outside (0, 1).

    Notes
    -----
    It is made for `EFBV`, to which its bias and variance say more than :math:`\delta`. Of equal magnitudes, the smaller
    coordinates are among the largest.

    A sparse vector stays sparse, and gives the same message as the same vector stored densely. Coordinates whose zeros
    are not stored are drawn like others, and not sent.

    References
    ----------
    .. [1] Condat, Yi, Richtarik, "EF-BV: a unified theory of error feedback and variance reduction mechanisms for
           biased and unbiased compression in distributed optimization", NeurIPS 2022, Section 2.

    Examples
    --------
    >>> import qsim
    >>> compressor = qsim.MixK(1, others=1)
    >>> compressor.quantize([4.0, 1.0, -3.0, 2.0], qsim.Key(1)).vectors().to_dense()
    array([[ 4.,  0., -3.,  0.]], dtype=float32)
    >>> compressor.contraction(4), [round(x, 3) for x in compressor.bias_and_variance(4)]
    (0.5, [0.577, 0.167])
    """

    k: int | float
    others: int | float

    emits = Floats

    def __post_init__(self) -> None:
        take_kept(self)
        take_kept(self, "others")

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        """Select from a batch. Raises NotFiniteError for NaN and infinity."""
        from qsim.kernels.select import draw_positions, keep_largest
        from qsim.kernels.top_and_random import with_others

        given, v, (k, others) = v, as_float32(v), self._counts(v.n)
        most = int(np.minimum(np.diff(v.offsets), k).sum())
        top = empty_entries(v, most, np.float32)
        kept, largest = keep_largest(v.offsets, v.index, v.value, k, *top)
        if largest >= INFINITE:
            require_finite(v)
        places = np.empty(v.rows * others, index_type(v.n))
        if others:
            draw_positions(keys, v.n - k, others, places)
        offsets, index, value = empty_entries(v, most + places.size, np.float32)
        kept = with_others(v.offsets, v.index, v.value, *top, places, others, offsets, index, value)
        return as_precise(Floats(v.n, offsets, index[:kept], value[:kept]), given)

    def most_kept(self, n: int) -> int:
        return sum(self._counts(n))

    def contraction(self, n: int) -> float:
        """Return delta = (k + k')/n."""
        return self.most_kept(n) / n

    def bias_and_variance(self, n: int) -> tuple[float, float]:
        """Return eta = (n - k - k')/sqrt((n - k) n) and omega = k' (n - k - k')/((n - k) n)."""
        k, others = self._counts(n)
        left = n - k - others
        return (left / sqrt((n - k) * n), others * left / ((n - k) * n)) if left else (0.0, 0.0)

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v): the non-zeros of the k largest, and k'/(n - k) of the others."""
        vector = np.asarray(v)
        k, others = self._counts(vector.size)
        rest = max(0, int(np.count_nonzero(vector)) - k)
        return np.count_nonzero(vector) - (rest and rest * (1 - others / (vector.size - k)))

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2: the sum of all squares but the k largest, times 1 - k'/(n - k)."""
        squares = np.sort(np.asarray(v, np.float64) ** 2)
        k, others = self._counts(squares.size)
        rest = squares.size - k
        return float(squares[:rest].sum()) * (1 - others / rest) if rest else 0.0

    def _counts(self, n: int) -> tuple[int, int]:
        """Return k and k' for vectors of length n."""
        k = kept_of(self.k, n)
        return k, min(kept_of(self.others, n), n - k)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(k=5, others=5),)
