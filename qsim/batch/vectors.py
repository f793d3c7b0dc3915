"""Rows of numbers, where they can be filled, and what workers keep of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.options import refuse_masked


def index_type(n: int) -> type[np.signedinteger[Any]]:
    """Return the type that holds the coordinates of a vector: int32 if they fit, and int64 otherwise.

    Parameters
    ----------
    n : int
        The length of the vector.

    Returns
    -------
    type
        The type.

    Examples
    --------
    >>> index_type(1000)
    <class 'numpy.int32'>
    """
    return np.int32 if n <= 2**31 else np.int64


def dense_offsets(rows: int, n: int) -> NDArray[np.int64]:
    """Return the offsets of dense rows.

    Parameters
    ----------
    rows : int
        How many rows.
    n : int
        Their length.

    Returns
    -------
    ndarray of int64, shape (rows + 1,)
        0, n, 2 n, ...

    Examples
    --------
    >>> dense_offsets(2, 3).tolist()
    [0, 3, 6]
    """
    return np.arange(0, (rows + 1) * n, n, dtype=np.int64) if n else np.zeros(rows + 1, np.int64)


def inner(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the inner product of two vectors, summed in an order that depends on their length alone.

    BLAS takes another order for each number of its threads.

    Parameters
    ----------
    a : ndarray of float64, shape (n,)
        A vector.
    b : ndarray of float64, shape (n,)
        The other.

    Returns
    -------
    float
        Their inner product.

    Examples
    --------
    >>> inner(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    11.0
    """
    return float((a * b).sum())


def taken(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets of some rows put one behind the other, and where their entries lie now."""
    sizes = np.diff(offsets)[rows]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    return ends, np.arange(ends[-1]) + np.repeat(offsets[rows] - ends[:-1], sizes)


@dataclass(frozen=True, eq=False)
class Batch(ABC):
    """Base class of batches: rows of equal length n, stored one behind the other.

    Parameters
    ----------
    n : int
        The length of a row.
    offsets : ndarray of int64, shape (rows + 1,)
        Row b has the entries offsets[b], ..., offsets[b + 1] - 1.
    """

    n: int
    offsets: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.offsets.size - 1

    @property
    @abstractmethod
    def nonzeros(self) -> int:
        """The number of non-zero coordinates, over all rows."""

    def __eq__(self, other: object) -> bool:
        """Tell whether two batches are the same, bit for bit."""
        return type(self) is type(other) and all(
            mine is theirs or np.array_equal(mine, theirs)
            for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)
        )


@dataclass(frozen=True, eq=False)
class Vectors(Batch):
    """Rows of numbers: float32 on the workers and behind the wire, float64 for the server's sum.

    Parameters
    ----------
    n : int
        The length of a row.
    offsets : ndarray of int64, shape (rows + 1,)
        Row b has the entries offsets[b], ..., offsets[b + 1] - 1.
    index : ndarray of int, shape (entries,), or None
        Their coordinates, rising inside a row; None for dense rows.
    value : ndarray of float, shape (entries,)
        What they hold.

    Examples
    --------
    >>> v = Vectors(4, np.array([0, 2, 3]), np.array([0, 3, 1], np.int32), np.array([1.0, 2.0, 3.0], np.float32))
    >>> v.to_dense()
    array([[1., 0., 0., 2.],
           [0., 3., 0., 0.]], dtype=float32)
    """

    index: NDArray[Any] | None
    value: NDArray[Any]

    @classmethod
    def dense(cls, values: ArrayLike) -> Self:
        """Return a batch of the rows of an array, or of one vector.

        Parameters
        ----------
        values : array-like of shape (rows, n) or (n,)
            The numbers.

        Returns
        -------
        Vectors
            The dense rows.

        Raises
        ------
        ValueError
            For another shape, and for n = 0.

        Examples
        --------
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

    def total(self) -> NDArray[np.float64]:
        """Return the sum of the rows, added up in float64 in their order, shape (n,)."""
        from qsim.kernels.vectors import add_rows

        found = np.zeros(self.n)
        add_rows(self.offsets, self.index, self.value, np.ones(self.rows), found, np.zeros(-(-self.n // 64), np.uint64))
        return found

    def to_dense(self) -> NDArray[Any]:
        """Return the (rows, n) array."""
        if self.index is None:
            return self.value.reshape(self.rows, self.n)
        array = np.zeros((self.rows, self.n), self.value.dtype)
        array[np.repeat(np.arange(self.rows), np.diff(self.offsets)), self.index] = self.value
        return array


@dataclass(frozen=True, eq=False)
class Support:
    """The coordinates that rows can fill.

    Parameters
    ----------
    n : int
        The length of a row.
    offsets : ndarray of int64, shape (rows + 1,)
        Row b can fill index[offsets[b]], ..., index[offsets[b + 1] - 1].
    index : ndarray of int, shape (entries,), or None
        The coordinates, rising inside a row; None for all n of every row.

    Examples
    --------
    >>> Support(4, np.array([0, 2, 3]), np.array([0, 3, 1], np.int32)).offsets.tolist()
    [0, 2, 3]
    """

    n: int
    offsets: NDArray[np.int64]
    index: NDArray[Any] | None

    @cached_property
    def places(self) -> NDArray[np.int32]:
        """Where each coordinate lies on the support of each row, shape (rows, n); -1: nowhere."""
        assert self.index is not None
        sizes = np.diff(self.offsets)
        places = np.full((sizes.size, self.n), -1, np.int32)
        first = np.repeat(self.offsets[:-1], sizes)
        places[np.repeat(np.arange(sizes.size), sizes), self.index] = np.arange(self.index.size) - first
        return places


Arrays = dict[str, NDArray[Any]]
"""Arrays by name."""


@dataclass(frozen=True, eq=False)
class Memory:
    """Memory of the workers of a block between rounds: rows by name, each on the support of its worker.

    Parameters
    ----------
    support : Support
        The coordinates that rows can fill.
    arrays : dict of ndarray
        The rows, by name: one number for each coordinate of the support.
    pending : dict of ndarray, optional
        Rows by name that replace those in `arrays` when it is known what was delivered.
    planned : dict of ndarray, optional
        Where a program writes such rows.

    Notes
    -----
    The rows are float32, except if the server keeps their sum (shifts): in float32 the two would drift apart over many
    rounds.

    Examples
    --------
    >>> memory = Memory.zeros(Support(3, dense_offsets(1, 3), None), "error")
    >>> memory.add("error", Vectors.dense([1.0, 0.0, 2.0]))
    >>> memory.vectors("error").to_dense().tolist()
    [[1.0, 0.0, 2.0]]
    """

    support: Support
    arrays: Arrays
    pending: Arrays = field(default_factory=dict)
    planned: Arrays = field(default_factory=dict)

    @classmethod
    def zeros(cls, support: Support, *names: str, dtype: type[np.floating[Any]] = np.float32) -> Self:
        """Make a memory of rows of zeros."""
        return cls(support, {name: np.zeros(support.offsets[-1], dtype) for name in names})

    def vectors(self, name: str) -> Vectors:
        """Return the rows of a name (a view: it changes with the memory)."""
        return Vectors(self.support.n, self.support.offsets, self.support.index, self.arrays[name])

    def add(self, name: str, v: Vectors, sign: float = 1.0) -> None:
        """Add a multiple of vectors to the rows of a name.

        Parameters
        ----------
        name : str
            The name.
        v : Vectors
            The vectors.
        sign : float, default 1.0
            The factor.

        Raises
        ------
        ValueError
            If v is not zero off the support.
        """
        from qsim.kernels.vectors import add_on_support

        of, index, rows = self.support.offsets, self.support.index, self.arrays[name]
        if v.rows != of.size - 1 or v.n != self.support.n:
            raise ValueError(
                f"the memory is of {of.size - 1} workers with vectors of length {self.support.n}, found {v.rows}"
                f" vectors of length {v.n}"
            )
        if rows.shape != (of[-1],):
            need = f"{of[-1]} numbers, one per coordinate"
            raise ValueError(f"the rows {name!r} must be {need}, found shape {rows.shape}")
        matched = add_on_support(of, index, v.offsets, v.index, v.value, rows.dtype.type(sign), rows)
        if matched != v.nonzeros:
            raise ValueError(f"{v.nonzeros - matched} non-zeros are off the supports of their workers")

    def plus(self, name: str, v: Vectors) -> Vectors:
        """Return the rows of a name plus vectors, in a new array.

        Parameters
        ----------
        name : str
            The name.
        v : Vectors
            The vectors.

        Returns
        -------
        Vectors
            The sum.

        Raises
        ------
        ValueError
            If v is not zero off the support.
        """
        total = Memory(self.support, {"": self.arrays[name].copy()})
        total.add("", v)
        return total.vectors("")

    def less(self, v: Vectors, name: str) -> Vectors:
        """Return vectors minus the rows of a name, on the supports, in the precision of the vectors.

        Parameters
        ----------
        v : Vectors
            The vectors.
        name : str
            The name.

        Returns
        -------
        Vectors
            The difference.

        Raises
        ------
        ValueError
            If v is not zero off the support.
        """
        difference = Memory(self.support, {"": -self.arrays[name]})
        difference.add("", v)
        found = difference.vectors("")
        return replace(found, value=found.value.astype(v.value.dtype, copy=False))
