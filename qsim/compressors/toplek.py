"""TopLEK: as many of the largest entries as a share of the energy takes."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats, Memory, Vectors
from qsim.compressors.base import INFINITE, as_float32, empty_entries, require_finite
from qsim.compressors.sparsifier import Sparsifier, as_precise, kept_of, take_kept
from qsim.options import option


@final
@option
class TopLEK(Sparsifier):
    r"""The fewest largest entries that lose no more than Top-k has to, or one fewer, at random.

    With the entries sorted by magnitude and :math:`S_j` the sum of the :math:`j` largest squares, :math:`j` is the
    least number with :math:`S_j \geq (k/n) \|v\|^2`, which is at most :math:`k`. The :math:`j` largest are kept with
    probability :math:`p`, and :math:`j - 1` of them otherwise, where
    :math:`p (S_j - S_{j-1}) = (k/n) \|v\|^2 - S_{j-1}`. Of equal magnitudes, the smaller coordinates are kept.

    A contraction with :math:`\delta = k/n`, which is met exactly: :math:`\mathbb{E} \|Q(v) - v\|^2 = (1 - k/n) \|v\|^2`
    for every :math:`v`. So it sends no more than the theory of `TopK` asks for, and far fewer entries of vectors whose
    energy is in a few.

    Parameters
    ----------
    k : int or float
        The most entries that are sent (an int of at least 1), or the fraction of the :math:`n` coordinates (a float in
        (0, 1)), which stands for :math:`\max(1, \operatorname{round}(k n))`.

    Raises
    ------
    ValueError
        For a whole number :math:`k` below 1, and for a fraction outside (0, 1).

    Notes
    -----
    Squares are summed in float64, so that the mean error is met to about :math:`2^{-50}` of :math:`\|v\|^2`; :math:`p`
    has 53 bits. (The authors' code takes :math:`j` entries without chance where :math:`S_j` is within a tenth of what
    is asked for, which makes the error larger or smaller by that much.)

    A sparse vector stays sparse, and gives the same message as the same vector stored densely.

    References
    ----------
    .. [1] Burlachenko and Richtarik, "Unlocking FedNL: self-contained compute-optimized implementation",
           arXiv:2410.08760, 2024.

    Examples
    --------
    >>> import qsim
    >>> v = [4.0, 3.0, 2.0, 1.0, 1.0, 1.0]  # of squares 16, 9, 4, 1, 1, 1, whose sum is 32
    >>> qsim.TopLEK(3).exact_variance(v), qsim.TopK(3).exact_variance(v)
    (16.0, 3.0)
    >>> qsim.TopLEK(3).quantize(v, qsim.Key(0)).index.tolist()
    [0]
    """

    k: int | float

    emits = Floats

    def __post_init__(self) -> None:
        take_kept(self)

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        """Select from a batch. Raises NotFiniteError for NaN and infinity."""
        from qsim.kernels.norms import l2_norms
        from qsim.kernels.select import keep_largest
        from qsim.kernels.top_and_random import keep_energy

        given, v, k = v, as_float32(v), kept_of(self.k, v.n)
        most = int(np.minimum(np.diff(v.offsets), k).sum())
        offsets, index, value = empty_entries(v, most, np.float32)
        _, largest = keep_largest(v.offsets, v.index, v.value, k, offsets, index, value)
        if largest >= INFINITE:
            require_finite(v)
        energies, kept_offsets = l2_norms(v.offsets, v.index, v.value) ** 2 * k / v.n, np.empty_like(offsets)
        kept = keep_energy(keys, energies, offsets, index, value, kept_offsets)
        return as_precise(Floats(v.n, kept_offsets, index[:kept], value[:kept]), given)

    def most_kept(self, n: int) -> int:
        return kept_of(self.k, n)

    def contraction(self, n: int) -> float:
        """Return delta = k/n (1 for k >= n)."""
        return self.most_kept(n) / n

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v) = j - 1 + p."""
        squares = np.sort(np.asarray(v, np.float64) ** 2)[::-1]
        sums = np.concatenate([[0.0], np.cumsum(squares)])
        wanted = sums[-1] * self.contraction(squares.size)
        if not wanted:
            return 0.0
        j = int(np.searchsorted(sums, wanted))
        return float(min(j - 1 + (wanted - sums[j - 1]) / squares[j - 1], np.count_nonzero(squares)))

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = (1 - k/n) ||v||^2."""
        vector = np.asarray(v, np.float64)
        return (1 - self.contraction(vector.size)) * float(vector @ vector)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(k=10),)
