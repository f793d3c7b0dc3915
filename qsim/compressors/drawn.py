"""Base of compressors that send numbers at coordinates which both ends draw from the key of a row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Memory, Message, SharedSupport, Vectors, index_type
from qsim.batch.planned import plan_vectors
from qsim.compressors.base import as_float32
from qsim.compressors.sparsifier import Sparsifier, largest_scalable, require_scalable
from qsim.program import Program

Call = Callable[..., Any]
"""Calls a kernel: at once, or, added to a program, whenever that comes to it."""


class Drawn(Sparsifier):
    """Keeps `most_kept(n)` of n coordinates, each with the same probability, scaled by what that takes to be unbiased.

    Q(v)_i = factor v_i if i is drawn, and 0 otherwise. A subclass says how in two methods, `_draw` and `_message`,
    which hand kernels to a `Call`.
    """

    @property
    def emits(self) -> type[Message]:
        return SharedSupport

    def factor(self, n: int) -> float:
        """Return what kept entries are multiplied by: one over the probability that a coordinate is drawn."""
        return n / self.most_kept(n)

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        """Draw from a batch. Raises NotFiniteError for NaN, infinity, and numbers too large to be scaled."""
        narrow = as_float32(v)
        require_scalable(narrow, self.factor(v.n))
        return self._message(_at_once, v if v.value.dtype == np.float64 else narrow, keys)

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        from qsim.kernels.select import first_of_rows_at_least

        bound = largest_scalable(self.factor(v.n)).view(np.int32) + np.int32(1)
        program.call(first_of_rows_at_least, v.offsets, v.value, bound, stop="not negative")
        return self._message(program.call, v, keys)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return the vectors of a message made with these keys, whose coordinates are drawn again."""
        if not isinstance(message, SharedSupport):
            return message.vectors()
        if message.k != self.most_kept(message.n):
            raise ValueError(f"{self!r} makes {self.most_kept(message.n)} numbers per row, the message has {message.k}")
        return self._placed(_at_once, message, self._drawn(_at_once, message.n, keys))

    def plan_decompress(self, program: Program, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        if not isinstance(message, SharedSupport):
            return plan_vectors(program, message)
        return self._placed(program.call, message, self._drawn(program.call, message.n, keys))

    def variance(self, n: int) -> float:
        """Return omega = factor - 1, n/k - 1 for k of n: E ||Q(v) - v||^2 = omega ||v||^2 for all v."""
        return self.factor(n) - 1.0

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v): the non-zeros of v, times the probability that each is drawn."""
        vector = np.asarray(v)
        return np.count_nonzero(vector) / self.factor(vector.size)

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = omega ||v||^2."""
        vector = np.asarray(v, np.float64)
        return self.variance(vector.size) * float(vector @ vector)

    def coordinates(self, n: int, keys: NDArray[np.uint64]) -> NDArray[Any]:
        """Return the coordinates that messages of vectors of length n have, rising; those from n on are padding.

        Parameters
        ----------
        n : int
            The length of the vectors.
        keys : ndarray of uint64, shape (rows,)
            The words of the keys that the messages are made with.

        Returns
        -------
        ndarray of int, shape (rows, most_kept(n))
            The coordinates.
        """
        return self._drawn(_at_once, n, keys).reshape(keys.size, self.most_kept(n))

    @abstractmethod
    def _draw(self, call: Call, n: int, keys: NDArray[np.uint64], positions: NDArray[Any]) -> None:
        """Have the coordinates of all rows written to `positions`, one row behind the other, each rising."""

    @abstractmethod
    def _message(self, call: Call, v: Vectors, keys: NDArray[np.uint64]) -> Message:
        """Have the message made, of what every row has at its coordinates, times the factor; return where it is."""

    def _drawn(self, call: Call, n: int, keys: NDArray[np.uint64]) -> NDArray[Any]:
        """Return where the coordinates of all rows are."""
        positions = np.empty(keys.size * self.most_kept(n), index_type(n))
        self._draw(call, n, keys, positions)
        return positions

    def _placed(self, call: Call, message: SharedSupport, positions: NDArray[Any]) -> Vectors:
        """Return where the vectors of numbers at positions are, which are lost. Zeros are left out."""
        from qsim.kernels.rounds import copy
        from qsim.kernels.select import without_zeros

        offsets, value = np.zeros_like(message.offsets), np.empty_like(message.value)
        call(copy, message.value, value)
        kept = call(without_zeros, message.offsets, positions, value, offsets)
        end = kept if isinstance(kept, int) else positions.size  # a program knows when it runs
        return Vectors(message.n, offsets, positions[:end], value[:end])


def _at_once(kernel: Any, *arguments: Any) -> Any:
    return kernel(*arguments)
