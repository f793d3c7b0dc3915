"""Low rank of symmetric matrices, of which a vector holds the upper triangle, as `FedNL` compresses Hessians."""

from __future__ import annotations

from math import isqrt
from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Memory, Message, SharedSupport, Vectors, dense_offsets
from qsim.compressors.base import Compressor, NotFiniteError, as_float32, require_finite_floats
from qsim.compressors.triangles import matrix_of, triangle_length, triangle_of
from qsim.options import option, whole


@final
@option
class SymmetricRankR(Compressor):
    r"""Rank-R of a symmetric matrix, of which the vector is the upper triangle.

    :math:`Q(v)` has the :math:`R` eigenvalues of largest magnitude, with their eigenvectors: of all symmetric matrices
    of rank :math:`R` the nearest in the Frobenius norm. A contraction with :math:`\delta = R/d` for matrices of
    :math:`d` rows, attained where all eigenvalues have one magnitude.

    Parameters
    ----------
    rank : int
        The rank :math:`R`.

    Raises
    ------
    ValueError
        If it is below 1.

    Notes
    -----
    The vector is what `qsim.FedNL` compresses: the upper triangle column by column, (1, 1), (1, 2), (2, 2), (1, 3) and
    so forth, numbers off the diagonal times :math:`\sqrt{2}`, so that its norm is the Frobenius norm. Its length is
    :math:`d (d + 1)/2`; a vector of another length is filled up with zeros to the next one.

    A message has :math:`R (d + 1)` numbers: the eigenvalues, then the eigenvectors as columns, row by row. Vectors of
    which that is not a part are sent as they are.

    Precision: eigenvalues are computed in float64 by LAPACK (`numpy.linalg.eigh`), and rounded once to float32, as
    eigenvectors are. From some 250 rows on, the last bits may depend on the threads of LAPACK. A row costs
    :math:`O(d^3)`. Zeros are filled in.

    References
    ----------
    .. [1] Safaryan, Islamov, Qian, Richtarik, "FedNL: making Newton-type methods applicable to federated learning",
           ICML 2022 (Rank-R of Hessians).

    Examples
    --------
    >>> import numpy as np, qsim
    >>> compressor = qsim.SymmetricRankR(1)
    >>> root = 2**0.5
    >>> triangle = [1, 2 * root, 4, 2 * root, 4 * root, 4]  # of the matrix whose columns are (1, 2, 2), and twice that
    >>> message, keys = compressor.quantize(triangle, qsim.Key(0)), qsim.Key(0).words(0, 1)
    >>> message.k, np.allclose(compressor.decompress(message, keys).to_dense(), triangle)
    (4, True)
    """

    rank: int

    emits = SharedSupport
    keeps_sparse = False

    def __post_init__(self) -> None:
        whole("rank", self.rank, least=1)

    def shape(self, n: int) -> tuple[int, int]:
        r"""Return the number of rows of the matrix, and the rank.

        Parameters
        ----------
        n : int
            The length of the vector.

        Returns
        -------
        (int, int)
            The least :math:`d` with :math:`d (d + 1)/2 \ge n`, and :math:`R`, or :math:`d` if that is less.
        """
        d = (isqrt(8 * n - 7) + 1) // 2
        return d, min(self.rank, d)

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> SharedSupport:
        """Make eigenpairs of a batch. Raises NotFiniteError for NaN, infinity, and eigenvalues of 3.4e38 or more."""
        v = as_float32(v)
        require_finite_floats(v)
        n, count, k = v.n, v.rows, self._kept(v.n)
        rows = v.to_dense().reshape(count, n)
        if k == n:
            return SharedSupport(n, dense_offsets(count, n), n, rows.reshape(-1) + np.float32(0))
        values, vectors = self._largest(rows)
        with np.errstate(over="ignore"):
            value = np.concatenate([values, vectors.reshape(count, k - values.shape[1])], axis=1).astype(np.float32)
        if not np.isfinite(value).all():
            row = int(np.argmin(np.isfinite(value).all(axis=1)))
            raise NotFiniteError(f"row {row} of the batch has eigenvalues above float32's range (3.4e38)", row)
        return SharedSupport(n, dense_offsets(count, k), k, value.reshape(-1))

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return the triangles. Raises ValueError for a message of another size."""
        from qsim.kernels.low_rank import products

        if not isinstance(message, SharedSupport):
            return message.vectors()
        n, count, k = message.n, message.rows, self._kept(message.n)
        if message.k != k:
            raise ValueError(f"{self!r} makes {k} numbers per row, the message has {message.k}")
        value = message.value.astype(np.float32, copy=False)
        if k == n:
            return Vectors(n, message.offsets, None, value)
        d, r = self.shape(n)
        pairs, matrices = value.reshape(count, k), np.empty(count * d * d, np.float32)
        vectors = np.ascontiguousarray(pairs[:, r:]).reshape(count, d, r)
        with np.errstate(over="ignore", invalid="ignore"):
            products(vectors * pairs[:, None, :r], vectors, matrices)
            found = triangle_of(matrices.reshape(count, d, d))[:, :n].astype(np.float32)
        return Vectors(n, dense_offsets(count, n), None, found.reshape(-1))

    def contraction(self, n: int) -> float:
        """Return delta = R/d, or 1 for vectors that are sent as they are."""
        d, r = self.shape(n)
        return 1.0 if self._kept(n) == n else r / d

    def exact_variance(self, v: ArrayLike) -> float:
        """Return ||Q(v) - v||^2: the squares of the other eigenvalues, but for what was filled up."""
        vector = np.asarray(v, np.float64)
        if self._kept(vector.size) == vector.size:
            return 0.0
        values, vectors = self._largest(vector[None])
        kept = triangle_of((vectors * values[:, None]) @ vectors.transpose(0, 2, 1))[0, : vector.size]
        return float(np.sum((kept - vector) ** 2))

    def _largest(self, rows: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the eigenvalues of largest magnitude, the largest first, and eigenvectors as columns, of every row."""
        n = rows.shape[1]
        d, r = self.shape(n)
        filled = np.pad(rows.astype(np.float64), ((0, 0), (0, triangle_length(d) - n))) + 0.0  # -0.0 is 0.0
        values, vectors = np.linalg.eigh(matrix_of(filled, d))
        largest = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :r]
        return np.take_along_axis(values, largest, 1), np.take_along_axis(vectors, largest[:, None], 2)

    def _kept(self, n: int) -> int:
        d, r = self.shape(n)
        return min(n, r * (d + 1))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(rank=2),)
