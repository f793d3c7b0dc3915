"""Sparsifiers that keep what is large: the k largest magnitudes, or all above a threshold."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats, Memory, Vectors
from qsim.compressors.base import as_float32
from qsim.compressors.sparsifier import Sparsifier, require_finite_floats, room
from qsim.options import option, whole


@final
@option
class TopK(Sparsifier):
    """Keeps the k entries with the largest magnitudes, of equal ones those with the smaller coordinates.

    A contraction: ||Q(v) - v||^2 <= (1 - k/n) ||v||^2, attained by vectors of one magnitude. Nothing is random. For
    k >= n, and for vectors with at most k non-zeros, everything is sent.

    Sparse input stays sparse, and gives the same message as the same vector dense.

    Source: Stich, Cordonnier, Jaggi, "Sparsified SGD with memory", NeurIPS 2018, Definition 2.1 and Lemma A.1; Aji and
    Heafield, EMNLP 2017.

    >>> import qsim
    >>> message = qsim.compressors.TopK(2).quantize([1.0, -3.0, 0.5, 3.0, 3.0], qsim.Key(0))
    >>> message.index.tolist(), message.value.tolist()
    ([1, 3], [-3.0, 3.0])

    Raises ValueError for k below 1.
    """

    k: int

    emits = Floats
    projects = True

    def __post_init__(self) -> None:
        whole("k", self.k, least=1)

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        """Select from a batch. Raises NotFiniteError for NaN and infinity."""
        from qsim.kernels.select import keep_largest

        v = as_float32(v)
        require_finite_floats(v)
        most = int(np.minimum(np.diff(v.offsets), self.k).sum())
        offsets, index, value = room(v, most)
        kept = keep_largest(v.offsets, v.index, v.value, self.k, offsets, index, value)
        return Floats(v.n, offsets, index[:kept], value[:kept])

    def most_kept(self, n: int) -> int:
        return min(self.k, n)

    def contraction(self, n: int) -> float:
        """Return delta = k/n (1 for k >= n)."""
        return self.most_kept(n) / n

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return nnz Q(v) = min(k, nnz(v))."""
        return float(min(self.k, int(np.count_nonzero(np.asarray(v)))))

    def exact_variance(self, v: ArrayLike) -> float:
        """Return ||Q(v) - v||^2: the sum of all squares but the k largest."""
        squares = np.sort(np.asarray(v, np.float64) ** 2)
        return float(squares[: max(0, squares.size - self.k)].sum())
