"""Rand-k: k coordinates, drawn at random."""

from __future__ import annotations

from typing import Any, Literal, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats, Memory, Message, SharedSupport, Vectors, dense_offsets, index_type
from qsim.batch.planned import plan_vectors
from qsim.compressors.base import as_float32
from qsim.compressors.sparsifier import Sparsifier, kept_of, largest_scalable, require_scalable, take_kept
from qsim.options import one_of, option
from qsim.program import NoProgram, Program


@final
@option
class RandK(Sparsifier):
    """A fixed number of coordinates, drawn at random without replacement.

    With k coordinates of n, Q(v)_i = (n/k) v_i if i is drawn, and 0 otherwise. Unbiased, with variance omega = n/k - 1,
    attained by every v. For k >= n everything is sent unchanged.

    Parameters
    ----------
    k : int or float
        The number of coordinates (an int of at least 1), or the fraction of them (a float in (0, 1)), which stands for
        max(1, round(k n)).
    positions : {"sent", "drawn"}, default "sent"
        With "sent" the message holds the coordinates and values of the non-zeros. With "drawn" it holds the k values
        alone: both ends draw the coordinates from the row's key, so they cost no bits, and messages made with one key
        can be summed in flight. Both stand for the same vector.

    Raises
    ------
    ValueError
        If `k` is an int below 1 or a float outside (0, 1), or `positions` is another word.

    Notes
    -----
    Precision: (n/k) v_i is rounded once to float32. A vector for which this may overflow is refused.

    A row costs O(k + entries), for n up to 2^53. A sparse vector stays sparse.

    References
    ----------
    .. [1] Stich, Cordonnier, Jaggi, "Sparsified SGD with memory", NeurIPS 2018, Section 2.
    .. [2] R. W. Floyd's algorithm for the sample: Bentley and Floyd, Communications of the ACM 30, 1987.

    Examples
    --------
    >>> import qsim
    >>> qsim.compressors.RandK(2).quantize([1.0, 2.0, 3.0, 4.0], qsim.Key(1)).vectors().to_dense()
    array([[0., 4., 0., 8.]], dtype=float32)
    >>> qsim.compressors.RandK(2, positions="drawn").quantize([1.0, 2.0, 3.0, 4.0], qsim.Key(1)).value
    array([4., 8.], dtype=float32)
    """

    k: int | float
    positions: Literal["sent", "drawn"] = "sent"

    def __post_init__(self) -> None:
        take_kept(self)
        one_of("positions", self.positions, ("sent", "drawn"))

    @property
    def emits(self) -> type[Message]:
        return Floats if self.positions == "sent" else SharedSupport

    @property
    def summable(self) -> bool:
        """Whether messages made with one key can be summed in flight: drawn ones can."""
        return self.positions == "drawn"

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats | SharedSupport:
        """Draw from a batch. Raises NotFiniteError for NaN, infinity, and numbers too large to be scaled by n/k."""
        from qsim.kernels.select import take_positions

        v = as_float32(v)
        k, factor = self.most_kept(v.n), self._factor(v.n)
        require_scalable(v, factor)
        positions = self._draw(v.n, keys)
        value = np.empty(positions.size, np.float32)
        take_positions(v.offsets, v.index, v.value, positions, factor, value)
        drawn = SharedSupport(v.n, dense_offsets(v.rows, k), k, value)
        return drawn if self.positions == "drawn" else Floats.of(_placed(drawn, positions))

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return the vectors of a message made with these keys; the positions of a drawn one are drawn again."""
        if not isinstance(message, SharedSupport):
            return message.vectors()
        if message.k != self.most_kept(message.n):
            raise ValueError(f"{self!r} makes {self.most_kept(message.n)} numbers a row, the message has {message.k}")
        return _placed(message, self._draw(message.n, keys))

    def plan(
        self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None
    ) -> Floats | SharedSupport:
        from qsim.kernels.select import first_of_rows_at_least, take_positions

        k, factor = self.most_kept(v.n), self._factor(v.n)
        bound = largest_scalable(factor).view(np.int32) + np.int32(1)
        program.call(first_of_rows_at_least, v.offsets, v.value, bound, stop="not negative")
        positions, value = self._plan_draw(program, v.n, keys), np.empty(v.rows * k, np.float32)
        program.call(take_positions, v.offsets, v.index, v.value, positions, factor, value)
        drawn = SharedSupport(v.n, dense_offsets(v.rows, k), k, value)
        return drawn if self.positions == "drawn" else Floats.of(_plan_placed(program, drawn, positions))

    def plan_decompress(self, program: Program, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        if not isinstance(message, SharedSupport):
            return plan_vectors(program, message)
        return _plan_placed(program, message, self._plan_draw(program, message.n, keys))

    def _plan_draw(self, program: Program, n: int, keys: NDArray[np.uint64]) -> NDArray[Any]:
        """Have a program draw the coordinates of all rows; return where."""
        from qsim.kernels.select import draw_positions

        k = self.most_kept(n)
        if k == n:
            raise NoProgram
        positions = np.empty(keys.size * k, index_type(n))
        program.call(draw_positions, keys, n, k, positions)
        return positions

    def most_kept(self, n: int) -> int:
        return kept_of(self.k, n)

    def variance(self, n: int) -> float:
        """Return omega = n/k - 1 (0 for k >= n): E ||Q(v) - v||^2 = omega ||v||^2 for all v."""
        return self._factor(n) - 1.0

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v) = nnz(v) k/n."""
        vector = np.asarray(v)
        return np.count_nonzero(vector) / self._factor(vector.size)

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = (n/k - 1) ||v||^2."""
        vector = np.asarray(v, np.float64)
        return self.variance(vector.size) * float(vector @ vector)

    def _factor(self, n: int) -> float:
        return n / self.most_kept(n)

    def _draw(self, n: int, keys: NDArray[np.uint64]) -> NDArray[Any]:
        """Return the coordinates of all rows, one row behind the other."""
        from qsim.kernels.select import draw_positions

        k = self.most_kept(n)
        if k == n:
            return np.tile(np.arange(n, dtype=index_type(n)), keys.size)
        positions = np.empty(keys.size * k, index_type(n))
        draw_positions(keys, n, k, positions)
        return positions

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(k=10), cls(k=10, positions="drawn"))


def _plan_placed(program: Program, drawn: SharedSupport, positions: NDArray[Any]) -> Vectors:
    from qsim.kernels.rounds import copy
    from qsim.kernels.select import without_zeros

    offsets, value = np.zeros_like(drawn.offsets), np.empty_like(drawn.value)
    program.call(copy, drawn.value, value)
    program.call(without_zeros, drawn.offsets, positions, value, offsets)
    return Vectors(drawn.n, offsets, positions, value)


def _placed(drawn: SharedSupport, positions: NDArray[Any]) -> Vectors:
    """Return the vectors of numbers at positions, which are lost. Zeros are left out."""
    from qsim.kernels.select import without_zeros

    offsets, value = np.empty_like(drawn.offsets), drawn.value.copy()
    kept = without_zeros(drawn.offsets, positions, value, offsets)
    return Vectors(drawn.n, offsets, positions[:kept], value[:kept])
