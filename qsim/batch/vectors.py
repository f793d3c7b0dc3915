"""Rows of numbers, where they can be filled, and what workers keep of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.options import refuse_masked


def index_type(n: int) -> type[np.signedinteger[Any]]:
    """Return the type that holds the coordinates of a vector of length n: int32 while they fit."""
    return np.int32 if n <= 2**31 else np.int64


def dense_offsets(rows: int, n: int) -> NDArray[np.int64]:
    """Return the offsets of dense rows of length n."""
    return np.arange(0, (rows + 1) * n, n, dtype=np.int64) if n else np.zeros(rows + 1, np.int64)


def inner(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the inner product, added up in one order: BLAS takes another for each number of its threads."""
    return float((a * b).sum())


def taken(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets of some rows put one behind the other, and where their entries lie now."""
    sizes = np.diff(offsets)[rows]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    return ends, np.arange(ends[-1]) + np.repeat(offsets[rows] - ends[:-1], sizes)


@dataclass(frozen=True, eq=False)
class Batch(ABC):
    """What all batches share: the length n of a row, and where each row lies."""

    n: int
    offsets: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.offsets.size - 1

    @property
    @abstractmethod
    def nonzeros(self) -> int:
        """How many coordinates, over all rows, are not zero."""

    def __eq__(self, other: object) -> bool:
        """Tell whether two batches are the same, bit for bit."""
        return type(self) is type(other) and all(
            mine is theirs or np.array_equal(mine, theirs)
            for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)
        )


@dataclass(frozen=True, eq=False)
class Vectors(Batch):
    """Rows of numbers: float32 on the workers and behind the wire, float64 for the server's sum."""

    index: NDArray[Any] | None
    value: NDArray[Any]

    @classmethod
    def dense(cls, values: ArrayLike) -> Self:
        """Make a batch of a (rows, n) array, or of one bare vector.

        >>> Vectors.dense([1.0, 0.0, 2.0]).rows
        1
        """
        refuse_masked("vectors", values)
        array = np.atleast_2d(np.asarray(values))
        if array.ndim != 2 or array.shape[1] == 0:
            raise ValueError(
                f"vectors must be an array (rows, n) or one vector, with n at least 1; found {array.shape}"
            )
        return cls(array.shape[1], dense_offsets(*array.shape), None, np.ascontiguousarray(array).reshape(-1))

    @property
    def nonzeros(self) -> int:
        return int(np.count_nonzero(self.value))

    def row(self, b: int) -> NDArray[Any]:
        """Return row b as a dense vector of its own."""
        part = slice(self.offsets[b], self.offsets[b + 1])
        if self.index is None:
            return self.value[part].copy()
        vector = np.zeros(self.n, self.value.dtype)
        vector[self.index[part]] = self.value[part]
        return vector

    def scaled(self, factor: float) -> Self:
        """Return factor times the vectors."""
        return replace(self, value=self.value * self.value.dtype.type(factor))

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return these rows, in this order."""
        offsets, entries = taken(self.offsets, rows)
        index = None if self.index is None else self.index[entries]
        return type(self)(self.n, offsets, index, self.value[entries])

    def only(self, kept: NDArray[np.bool_]) -> Self:
        """Return the vectors with zeros in the rows that are not kept."""
        return replace(self, value=np.where(np.repeat(kept, np.diff(self.offsets)), self.value, 0))

    def add_to(self, vector: NDArray[Any], factor: float = 1.0) -> None:
        """Add factor times the one row that there is to a dense vector."""
        vector[slice(None) if self.index is None else self.index] += factor * self.value

    def to_dense(self) -> NDArray[Any]:
        """Return the (rows, n) array."""
        if self.index is None:
            return self.value.reshape(self.rows, self.n)
        array = np.zeros((self.rows, self.n), self.value.dtype)
        array[np.repeat(np.arange(self.rows), np.diff(self.offsets)), self.index] = self.value
        return array


@dataclass(frozen=True, eq=False)
class Support:
    """The coordinates that rows can fill: row b those in index[offsets[b] : offsets[b + 1]]; index None: all n."""

    n: int
    offsets: NDArray[np.int64]
    index: NDArray[Any] | None


Arrays = dict[str, NDArray[Any]]
"""Arrays by name."""


@dataclass(frozen=True, eq=False)
class Memory:
    """What the workers of a block keep from round to round: rows by name, each on the workers' supports.

    float32, but for what the server keeps the sum of (shifts): in float32 the two would drift apart over many rounds.
    """

    support: Support
    arrays: Arrays
    pending: Arrays = field(default_factory=dict)
    """Rows by name that take the place of those in `arrays` when it is known what was delivered."""
    planned: Arrays = field(default_factory=dict)
    """Where a program has such rows."""

    @classmethod
    def zeros(cls, support: Support, *names: str, dtype: type[np.floating[Any]] = np.float32) -> Self:
        """Make a memory of rows of zeros."""
        return cls(support, {name: np.zeros(support.offsets[-1], dtype) for name in names})

    def vectors(self, name: str) -> Vectors:
        """Return the rows of a name (a view: it changes with the memory)."""
        return Vectors(self.support.n, self.support.offsets, self.support.index, self.arrays[name])

    def add(self, name: str, v: Vectors, sign: float = 1.0) -> None:
        """Add sign times v to the rows of a name. Raises ValueError if v is not zero off the support."""
        from qsim.kernels.vectors import add_on_support

        of, index, rows = self.support.offsets, self.support.index, self.arrays[name]
        if v.rows != of.size - 1 or v.n != self.support.n:
            raise ValueError(
                f"the memory is of {of.size - 1} workers with vectors of length {self.support.n}, found {v.rows}"
                f" vectors of length {v.n}"
            )
        matched = add_on_support(of, index, v.offsets, v.index, v.value, rows.dtype.type(sign), rows)
        if matched != v.nonzeros:
            raise ValueError(f"{v.nonzeros - matched} non-zeros are off the supports of their workers")

    def plus(self, name: str, v: Vectors) -> Vectors:
        """Return the rows of a name plus v, in an array of its own.

        Raises ValueError if v is not zero off the support.
        """
        total = Memory(self.support, {"": self.arrays[name].copy()})
        total.add("", v)
        return total.vectors("")

    def less(self, v: Vectors, name: str) -> Vectors:
        """Return v minus the rows of a name, on the supports, as float32.

        Raises ValueError if v is not zero off them.
        """
        difference = Memory(self.support, {"": -self.arrays[name]})
        difference.add("", v)
        found = difference.vectors("")
        return replace(found, value=found.value.astype(np.float32, copy=False))
