"""Sparsifiers that keep what is large: the k largest magnitudes, or all above a threshold."""

from __future__ import annotations

from math import sqrt
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats, Memory, Vectors
from qsim.compressors.base import INFINITE, as_float32, empty_entries, require_finite
from qsim.compressors.sparsifier import Sparsifier, as_precise, kept_of, take_kept
from qsim.options import number, option
from qsim.program import Program


@final
@option
class TopK(Sparsifier):
    r"""The k entries with the largest magnitudes.

    :math:`Q(v)_i = v_i` for the :math:`k` largest :math:`|v_i|`, and 0 elsewhere; of equal magnitudes, the smaller
    coordinates are kept.

    A contraction: :math:`\|Q(v) - v\|^2 \leq (1 - k/n) \|v\|^2`, attained by vectors whose magnitudes are all equal.
    Nothing is random. For :math:`k \geq n`, and for vectors with at most :math:`k` non-zeros, everything is sent.

    Parameters
    ----------
    k : int or float
        The number of entries (an int of at least 1), or the fraction of the :math:`n` coordinates (a float in (0, 1)),
        which stands for :math:`\max(1, \operatorname{round}(k n))`.

    Raises
    ------
    ValueError
        For a whole number :math:`k` below 1, and for a fraction outside (0, 1).

    Notes
    -----
    A sparse vector stays sparse, and gives the same message as the same vector stored densely.

    References
    ----------
    .. [1] Stich, Cordonnier, Jaggi, "Sparsified SGD with memory", NeurIPS 2018, Section 2.
    .. [2] Aji and Heafield, "Sparse communication for distributed gradient descent", EMNLP 2017.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.compressors.TopK(2).quantize([1.0, -3.0, 0.5, 3.0, 3.0], qsim.Key(0))
    >>> message.index.tolist(), message.value.tolist()
    ([1, 3], [-3.0, 3.0])

    >>> qsim.TopK(0.01).most_kept(10_000)
    100
    """

    k: int | float

    emits = Floats
    projects = True
    ignores_zeros = True

    def __post_init__(self) -> None:
        take_kept(self)

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        """Select from a batch. Raises NotFiniteError for NaN and infinity."""
        from qsim.kernels.select import keep_largest

        given, v = v, as_float32(v)
        k = kept_of(self.k, v.n)
        most = int(np.minimum(np.diff(v.offsets), k).sum())
        offsets, index, value = empty_entries(v, most, np.float32)
        kept, largest = keep_largest(v.offsets, v.index, v.value, k, offsets, index, value)
        if largest >= INFINITE:
            require_finite(v)
        return as_precise(Floats(v.n, offsets, index[:kept], value[:kept]), given)

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        from qsim.kernels.select import keep_largest

        k = kept_of(self.k, v.n)
        offsets, index, value = empty_entries(v, min(v.rows * k, v.value.size), np.float32)
        _plan_kept(program, keep_largest, v, k, offsets, index, value)
        return Floats(v.n, offsets, index, value)

    def most_kept(self, n: int) -> int:
        return kept_of(self.k, n)

    def contraction(self, n: int) -> float:
        """Return delta = k/n (1 for k >= n)."""
        return self.most_kept(n) / n

    def bias_and_variance(self, n: int) -> tuple[float, float]:
        """Return eta = sqrt(1 - k/n) and omega = 0: nothing is random."""
        return sqrt(1 - self.contraction(n)), 0.0

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return nnz Q(v) = min(k, nnz(v))."""
        vector = np.asarray(v)
        return float(min(kept_of(self.k, vector.size), int(np.count_nonzero(vector))))

    def exact_variance(self, v: ArrayLike) -> float:
        """Return ||Q(v) - v||^2: the sum of all squares but the k largest."""
        squares = np.sort(np.asarray(v, np.float64) ** 2)
        return float(squares[: squares.size - kept_of(self.k, squares.size)].sum())

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(k=10),)


def _plan_kept(program: Program, keep: Any, v: Vectors, bound: Any, *out: NDArray[Any]) -> None:
    """Have a program keep entries, and end where one is not finite."""
    from qsim.kernels.rounds import reaches

    _, largest = program.call(keep, v.offsets, v.index, v.value, bound, *out)
    program.call(reaches, largest, int(INFINITE), stop="not zero")


@final
@option
class HardThreshold(Sparsifier):
    r"""All entries whose magnitude reaches a threshold.

    :math:`Q(v)_i = v_i` if :math:`|v_i| \geq \mathrm{threshold}`, and 0 otherwise. Nothing is random.

    Parameters
    ----------
    threshold : float
        The least magnitude that is sent, above 0, in the unit of the vector.

    Raises
    ------
    ValueError
        For a threshold that is not a finite number above 0.

    Notes
    -----
    No contraction is stated: if all entries are below the threshold, nothing is sent, so no :math:`\delta > 0` holds
    for all :math:`v`. An absolute bound holds: :math:`\|Q(v) - v\| < \mathrm{threshold}\, \sqrt{n}`.

    A sparse vector stays sparse, and gives the same message as the same vector stored densely.

    References
    ----------
    .. [1] Strom, "Scalable distributed DNN training using commodity GPU cloud computing", Interspeech 2015 (with fixed
           values); Sahu et al., "Rethinking gradient sparsification as total error minimization", NeurIPS 2021.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.compressors.HardThreshold(1.0).quantize([1.0, -3.0, 0.5], qsim.Key(0))
    >>> message.index.tolist(), message.value.tolist()
    ([0, 1], [1.0, -3.0])
    """

    threshold: float

    emits = Floats
    projects = True
    ignores_zeros = True

    def __post_init__(self) -> None:
        number("threshold", self.threshold, above=0)

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        """Select from a batch. Raises NotFiniteError for NaN and infinity."""
        from qsim.kernels.norms import rounded_up
        from qsim.kernels.select import keep_at_least

        given, v = v, as_float32(v)
        bound = rounded_up(np.array([self.threshold], np.float64))[0].view(np.int32)[0]
        offsets, index, value = empty_entries(v, v.value.size, np.float32)
        kept, largest = keep_at_least(v.offsets, v.index, v.value, bound, offsets, index, value)
        if largest >= INFINITE:
            require_finite(v)
        return as_precise(Floats(v.n, offsets, index[:kept], value[:kept]), given)

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        from qsim.kernels.norms import rounded_up
        from qsim.kernels.select import keep_at_least

        bound = rounded_up(np.array([self.threshold], np.float64))[0].view(np.int32)[0]
        offsets, index, value = empty_entries(v, v.value.size, np.float32)
        _plan_kept(program, keep_at_least, v, bound, offsets, index, value)
        return Floats(v.n, offsets, index, value)

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return nnz Q(v): how many magnitudes reach the threshold."""
        return float(np.count_nonzero(np.abs(np.asarray(v, np.float64)) >= self.threshold))

    def exact_variance(self, v: ArrayLike) -> float:
        """Return ||Q(v) - v||^2: the sum of the squares below the threshold."""
        magnitude = np.abs(np.asarray(v, np.float64))
        return float((magnitude[magnitude < self.threshold] ** 2).sum())

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(threshold=0.5),)
