"""Low rank: vectors that are matrices are sent as two thin factors."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Memory, Message, SharedSupport, Support, Vectors, dense_offsets
from qsim.compressors.base import Compressor, NotFiniteError, as_float32, require_finite_floats
from qsim.keys import of_word
from qsim.options import option, whole


class LowRank(Compressor):
    """Sends a product of two factors near the matrix that a vector is: subclasses say which.

    The vector is the matrix row by row, of `columns` columns (of n if there are fewer coordinates) and as many rows as
    it takes, d = ceil(n/columns); the last one is filled up with zeros. A message is a left factor, d x r, and a right
    one, columns x r, with r = `rank` at most both; if these r (d + columns) numbers are not fewer than n, it is the
    vector as it is.
    """

    rank: int
    columns: int

    emits = SharedSupport
    keeps_sparse = False

    def __post_init__(self) -> None:
        whole("rank", self.rank, least=1)
        whole("columns", self.columns, least=1)

    def shape(self, n: int) -> tuple[int, int, int]:
        """Return the numbers of rows, of columns, and the rank."""
        columns = min(self.columns, n)
        rows = -(-n // columns)
        return rows, columns, min(self.rank, rows, columns)

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        """Make factors of a batch. Raises NotFiniteError for NaN, infinity, and factors above float32's range."""
        return self._message(as_float32(v), keys)[0]

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return the products. Raises ValueError for a message of another size."""
        from qsim.kernels.low_rank import products

        if not isinstance(message, SharedSupport):
            return message.vectors()
        n, count, k = message.n, message.rows, self._kept(message.n)
        if message.k != k:
            raise ValueError(f"{self!r} makes {k} numbers per row, the message has {message.k}")
        value = message.value.astype(np.float32, copy=False)
        if k == n:
            return Vectors(n, message.offsets, None, value)
        d, c, r = self.shape(n)
        factors = value.reshape(count, k)
        left, right = factors[:, : d * r].reshape(count, d, r), factors[:, d * r :].reshape(count, c, r)
        out = np.empty(count * d * c, np.float32)
        products(np.ascontiguousarray(left), np.ascontiguousarray(right), out)
        found = np.ascontiguousarray(out.reshape(count, d * c)[:, :n]).reshape(-1)
        return Vectors(n, dense_offsets(count, n), None, found)

    def contraction(self, n: int) -> float:
        """Return delta = r/min(d, columns), or 1 for vectors that are sent as they are."""
        d, c, r = self.shape(n)
        return 1.0 if self._kept(n) == n else r / min(d, c)

    @abstractmethod
    def _factors(
        self,
        value: NDArray[np.float32],
        keys: NDArray[np.uint64],
        start: NDArray[np.float64] | None,
        left: NDArray[np.float32],
        right: NDArray[np.float32],
    ) -> None:
        """Write the factors of matrices, one behind the other."""

    def _message(
        self, v: Vectors, keys: NDArray[np.uint64], start: NDArray[np.float64] | None = None
    ) -> tuple[SharedSupport, NDArray[np.float32] | None]:
        """Return the message, and the right factors, if it has factors."""
        n, count, k = v.n, v.rows, self._kept(v.n)
        require_finite_floats(v)
        dense, (d, c, r) = v.to_dense().reshape(count, n), self.shape(n)
        if k == n:
            return SharedSupport(n, dense_offsets(count, k), k, dense.reshape(-1) + np.float32(0)), None
        value = np.pad(dense, ((0, 0), (0, d * c - n))).reshape(-1)
        left, right = np.empty((count, d, r), np.float32), np.empty((count, c, r), np.float32)
        with np.errstate(over="ignore"):
            self._factors(value, keys, start, left, right)
        factors = np.concatenate([left.reshape(count, d * r), right.reshape(count, c * r)], axis=1)
        too_large = ~np.isfinite(factors).all(axis=1)
        if too_large.any():
            row = int(np.argmax(too_large))
            raise NotFiniteError(f"row {row} of the batch has factors above float32's range (3.4e38)", row)
        return SharedSupport(n, dense_offsets(count, k), k, factors.reshape(-1)), right

    def _kept(self, n: int) -> int:
        d, c, r = self.shape(n)
        return min(n, r * (d + c))


@final
@option
class RankR(LowRank):
    r"""Rank-R: the best approximation of a matrix by one of low rank.

    :math:`Q(v)` has the :math:`R` largest singular values of the matrix that :math:`v` is, with their vectors, and so
    the least error of all matrices of rank :math:`R`: a contraction with :math:`\delta = R/\min(d, \mathrm{columns})`,
    attained where all singular values are equal.

    Parameters
    ----------
    rank : int
        The rank :math:`R`.
    columns : int
        The columns of the matrix, whose rows are behind one another in the vector: the number of classes, for the
        weights of `MultinomialLogistic`.

    Raises
    ------
    ValueError
        If one of them is below 1.

    Notes
    -----
    A message has :math:`R (d + \mathrm{columns})` numbers, for :math:`d` rows. Vectors of which that is not a part are
    sent as they are.

    Precision: factors are computed in float64, by Jacobi's rotations of the product of the matrix with its transpose,
    and rounded once to float32. A row costs :math:`O(n m + 10 m^3)` for :math:`m = \min(d, \mathrm{columns})`, where
    `PowerSGD` costs :math:`O(n R)`. Zeros are filled in.

    References
    ----------
    .. [1] Safaryan, Islamov, Qian, Richtarik, "FedNL: making Newton-type methods applicable to federated learning",
           ICML 2022 (there for Hessians).

    Examples
    --------
    >>> import qsim
    >>> v = [1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 3.0, 6.0, 9.0, 4.0, 8.0, 12.0]  # 4 rows, in proportion
    >>> message = qsim.RankR(rank=1, columns=3).quantize(v, qsim.Key(0))
    >>> message.k
    7
    """

    rank: int
    columns: int

    def exact_variance(self, v: ArrayLike) -> float:
        """Return ||Q(v) - v||^2: the squares of the other singular values."""
        vector = np.asarray(v, np.float64)
        d, c, r = self.shape(vector.size)
        if self._kept(vector.size) == vector.size:
            return 0.0
        matrix = np.pad(vector, (0, d * c - vector.size)).reshape(d, c)
        return float((np.linalg.svd(matrix, compute_uv=False)[r:] ** 2).sum())

    def _factors(self, value: Any, keys: Any, start: Any, left: Any, right: Any) -> None:
        from qsim.kernels.low_rank import best_factors

        best_factors(value, left.shape[1], right.shape[1], left, right)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(rank=2, columns=8),)


@final
@option
class PowerSGD(LowRank):
    r"""PowerSGD: a step towards the best approximation of low rank, with error feedback and a warm start.

    A worker makes a matrix :math:`M` of :math:`e + v`, where :math:`v` is the update and :math:`e` what was left out so
    far, and sends :math:`P`, an orthonormal basis of :math:`M Q`, and :math:`M^T P`, which is the next :math:`Q`. What
    arrives is :math:`P P^T M`, and it keeps :math:`e \leftarrow e + v - P P^T M`. :math:`Q` begins at random, with
    independent Gaussian numbers.

    Without a memory, for a single vector, :math:`Q` is always drawn, and that is a contraction in the mean with
    :math:`\delta = \mathrm{rank}/\min(d, \mathrm{columns})`.

    Parameters
    ----------
    rank : int
        The rank.
    columns : int
        The columns of the matrix, whose rows are behind one another in the vector: the number of classes, for the
        weights of `MultinomialLogistic`.

    Raises
    ------
    ValueError
        If one of them is below 1.

    Notes
    -----
    The memory sees the step, so it is for updates: `GradientDescent`, `SGD`, `LocalSGD`. A warm start is near the
    subspace of the last message, which changes slowly; for what changes at will nothing is promised of it.

    Each worker has factors of its own, so messages are rank (:math:`d + \mathrm{columns}`) numbers up; in the paper all
    workers share :math:`P`, the basis of the sum of their :math:`M Q`, in two all-reduces of as many numbers. That the
    contraction is :math:`\mathrm{rank}/\min(d, \mathrm{columns})` is derived in `docs/theory.md`.

    Precision: factors are computed in float64 and rounded once to float32. A row costs O(:math:`n` rank). Zeros are
    filled in.

    References
    ----------
    .. [1] Vogels, Karimireddy, Jaggi, "PowerSGD: practical low-rank gradient compression for distributed optimization",
           NeurIPS 2019, Algorithms 1 and 2 (with one worker; the contraction derived here).

    Examples
    --------
    >>> import qsim
    >>> qsim.PowerSGD(rank=1, columns=10).contraction(7840)
    0.1
    """

    rank: int
    columns: int

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        """Make factors of a batch, and of what its workers have left out before. Raises as `LowRank` does."""
        if memory is None:
            return self._message(as_float32(v), keys)[0]
        require_finite_floats(v)
        total = memory.plus("error", v)
        memory.pending["error"] = total.value
        _, c, r = self.shape(v.n)
        message, right = self._message(as_float32(total), keys, memory.arrays["start"].reshape(v.rows, c, r))
        if right is not None:
            memory.pending["start"] = right.astype(np.float64).reshape(-1)
        return message

    def memory(self, support: Support) -> Memory:
        """Return a zero error for every worker, everywhere, and no start."""
        rows = support.offsets.size - 1
        kept = Memory.zeros(Support(support.n, dense_offsets(rows, support.n), None), "error")
        _, c, r = self.shape(support.n)
        kept.arrays["start"] = np.zeros(rows * c * r)
        return kept

    def on_delivered(self, memory: Memory, sent: Vectors) -> None:
        if "error" not in memory.pending:
            raise ValueError("nothing was compressed with this memory since on_delivered was last called")
        memory.arrays["error"][:] = memory.pending.pop("error")
        memory.add("error", sent, -1.0)
        if "start" in memory.pending:
            memory.arrays["start"][:] = memory.pending.pop("start")

    def _factors(self, value: Any, keys: Any, start: Any, left: Any, right: Any) -> None:
        from qsim.kernels.low_rank import subspace_steps

        begin = np.zeros(right.shape) if start is None else start.copy()
        for row in np.flatnonzero(~begin.any(axis=(1, 2))):
            begin[row] = of_word(int(keys[row])).generator().standard_normal(right.shape[1:])
        columns = np.ascontiguousarray(begin.transpose(0, 2, 1))
        subspace_steps(value, left.shape[1], right.shape[1], columns, left, right)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(rank=2, columns=8),)
