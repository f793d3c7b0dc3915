"""Messages: what compressors make of vectors and codecs carry. Their kinds are few, and shared by many compressors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch.vectors import Batch, Vectors, index_type, taken
from qsim.options import refuse_masked, whole


class Message(Batch):
    """Base class of messages: what compressors make of vectors, and codecs carry.

    Parameters
    ----------
    n : int
        The length of a row.
    offsets : ndarray of int64, shape (rows + 1,)
        Row b has the entries offsets[b], ..., offsets[b + 1] - 1.

    Notes
    -----
    There are few kinds, shared by many compressors: `Floats`, `Levels`, `Signs`, `SharedSupport`, `Blocks` of
    them, and those `WithOutliers`.
    """

    @abstractmethod
    def vectors(self) -> Vectors:
        """Return the vectors that the message stands for, unless its compressor reads it otherwise.

        Returns
        -------
        Vectors
            The vectors, in float32.
        """

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the message that stands for a multiple of the vectors, rounded once to float32.

        Parameters
        ----------
        factor : float
            The factor.

        Returns
        -------
        Message
            The message.
        """

    @classmethod
    @abstractmethod
    def join(cls, messages: Sequence[Self]) -> Self:
        """Return the rows of several messages, one behind the other.

        Parameters
        ----------
        messages : sequence of Message
            Messages of one kind.

        Returns
        -------
        Message
            The message of all rows.

        Raises
        ------
        ValueError
            If they differ in what all rows of a message share, such as n.
        """

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the message of some rows.

        Parameters
        ----------
        rows : ndarray of int64, shape (count,)
            The rows, in this order.

        Returns
        -------
        Message
            The message.
        """

    def plus(self, other: Self) -> Self:
        """Return the message whose row b is the sum of row b of both, added number by number, as in flight.

        Parameters
        ----------
        other : Message
            A message of the same kind.

        Returns
        -------
        Message
            Dense floats and drawn numbers are added in float32. Levels are added if both have one unit, scale / s, to
            rounding: the sum has it too, and s is that of both together. It stands for the sum of the vectors if the
            compressor is `summable` and the rows have one key.

        Raises
        ------
        ValueError
            For what cannot be added.
        """
        raise ValueError(f"{type(self).__name__} cannot be added as they are: add the vectors that they stand for")


@dataclass(frozen=True, eq=False)
class Floats(Message):
    """Plain numbers, dense or sparse; float32, or float64 in an exact exchange.

    Parameters
    ----------
    n, offsets : int and ndarray of int64, shape (rows + 1,)
        As in `Message`.
    index : ndarray of int, shape (entries,), or None
        Their coordinates, rising inside a row; None for dense rows.
    value : ndarray of float, shape (entries,)
        What they hold.

    Examples
    --------
    >>> Floats.single([1.0, 0.0, 2.0]).value
    array([1., 0., 2.], dtype=float32)
    """

    index: NDArray[Any] | None
    value: NDArray[Any]

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        """Make a message of vectors as they are."""
        return cls(vectors.n, vectors.offsets, vectors.index, vectors.value)

    @classmethod
    def single(cls, vector: ArrayLike) -> Self:
        """Make a message of one dense vector, as float32."""
        refuse_masked("the vector", vector)
        return cls.of(Vectors.dense(np.asarray(vector, np.float32)))

    @property
    def nonzeros(self) -> int:
        return int(np.count_nonzero(self.value))

    def vectors(self) -> Vectors:
        return Vectors(self.n, self.offsets, self.index, self.value)

    def scaled(self, factor: float) -> Self:
        return replace(self, value=self.value * self.value.dtype.type(factor))

    @classmethod
    def join(cls, messages: Sequence[Self]) -> Self:
        first = messages[0]
        if any((message.index is None) != (first.index is None) or message.n != first.n for message in messages):
            raise ValueError("messages of one batch must have one n, and be all dense or all sparse")
        index = None if first.index is None else np.concatenate([message.index for message in messages])
        value = np.concatenate([message.value for message in messages])
        return cls(first.n, _joined_offsets(messages), index, value)

    def take(self, rows: NDArray[np.int64]) -> Self:
        offsets, entries = taken(self.offsets, rows)
        index = None if self.index is None else self.index[entries]
        return replace(self, offsets=offsets, index=index, value=self.value[entries])

    def plus(self, other: Self) -> Self:
        _require_alike(self, other)
        if self.index is not None or other.index is not None:
            raise ValueError("sparse floats cannot be added number by number: their coordinates differ")
        return replace(self, value=self.value + other.value)


@dataclass(frozen=True, eq=False)
class Levels(Message):
    """Signed whole levels of a scale.

    Coordinate i of row b stands for level_i * scale_b / s, with |level_i| from 1 to s; all others stand for zero.

    Parameters
    ----------
    n, offsets : int and ndarray of int64, shape (rows + 1,)
        As in `Message`.
    index : ndarray of int, shape (entries,)
        Their coordinates, rising inside a row.
    level : ndarray of int32, shape (entries,)
        Their levels, from -s to s but not 0.
    scale : ndarray of float32, shape (rows * scales,)
        The scales of row b are those from scale[b * scales], with `scales` = ceil(n / bucket), or 1 without buckets.
    s : int
        The number of levels above zero.
    bucket : int, default 0
        The number of neighbouring coordinates that share a scale (the last bucket of a row may be shorter); 0 for one
        scale a row.
    fixed : float, optional
        The number that every scale is in every message of the stream, such as the 1 of signs; it is then sent once, in
        the header of the stream. By default scales vary, and are in the packets.

    Examples
    --------
    >>> Levels.single([0, -2, 1], scale=3.0, s=2).vectors().to_dense()
    array([[ 0. , -3. ,  1.5]], dtype=float32)
    """

    index: NDArray[Any]
    level: NDArray[np.int32]
    scale: NDArray[np.float32]
    s: int
    bucket: int = 0
    fixed: float | None = None

    @classmethod
    def single(cls, level: ArrayLike, *, scale: float, s: int, fixed: bool = False) -> Self:
        """Return a message of one dense vector of levels; zeros are left out.

        Parameters
        ----------
        level : array-like of int, shape (n,)
            The levels, from -s to s.
        scale : float
            The scale.
        s : int
            The number of levels above zero.
        fixed : bool, default False
            Whether all messages of the stream have this scale, so that it need not be sent with each.

        Returns
        -------
        Levels
            The message, of one row.

        Raises
        ------
        ValueError
            For other levels.
        """
        refuse_masked("levels", level)
        s = whole("s", s, least=1)
        array = np.asarray(level)
        with np.errstate(invalid="ignore"):  # what is no number is refused below
            found = array.astype(np.int32)
        if array.ndim != 1 or np.any(found != array) or np.any(np.abs(found) > s):
            raise ValueError(f"levels must be one vector of whole numbers from -{s} to {s}, found {array!r}")
        (index,) = np.nonzero(found)
        offsets = np.array([0, index.size], np.int64)
        scales = np.array([scale], np.float32)
        coordinates = index.astype(index_type(array.size))
        return cls(array.size, offsets, coordinates, found[index], scales, s, fixed=float(scales[0]) if fixed else None)

    @property
    def nonzeros(self) -> int:
        return int(self.offsets[-1])

    @property
    def scales(self) -> int:
        """The number of scales of a row."""
        return -(-self.n // self.bucket) if self.bucket else 1

    def vectors(self) -> Vectors:
        from qsim.kernels.quantize import levels_to_values

        value = np.empty(self.level.size, np.float32)
        levels_to_values(self.offsets, self.index, self.level, self.scale, self.bucket or self.n, self.s, value)
        return Vectors(self.n, self.offsets, self.index, value)

    def scaled(self, factor: float) -> Self:
        scale = self.scale * np.float32(factor)
        fixed = None if self.fixed is None else float(np.float32(self.fixed) * np.float32(factor))
        if not np.any((scale == 0) & (self.scale != 0)):
            return replace(self, scale=scale, fixed=fixed)
        # A scale below the smallest float32 became zero, which has no levels.
        first = np.repeat(np.arange(self.rows) * self.scales, np.diff(self.offsets))
        kept = scale[first + self.index // (self.bucket or self.n)] != 0
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])[self.offsets]
        return replace(self, offsets=offsets, index=self.index[kept], level=self.level[kept], scale=scale, fixed=fixed)

    @classmethod
    def join(cls, messages: Sequence[Self]) -> Self:
        first = messages[0]
        kinds = {(message.n, message.s, message.bucket, message.fixed) for message in messages}
        if len(kinds) > 1:
            found = sorted(kinds, key=repr)
            raise ValueError(f"messages of one batch must have one n, s, bucket and fixed scale, found {found}")
        return cls(
            first.n,
            _joined_offsets(messages),
            np.concatenate([message.index for message in messages]),
            np.concatenate([message.level for message in messages]),
            np.concatenate([message.scale for message in messages]),
            first.s,
            first.bucket,
            first.fixed,
        )

    def take(self, rows: NDArray[np.int64]) -> Self:
        offsets, entries = taken(self.offsets, rows)
        scale = self.scale.reshape(self.rows, -1)[rows].reshape(-1)
        return replace(self, offsets=offsets, index=self.index[entries], level=self.level[entries], scale=scale)

    def plus(self, other: Self) -> Self:
        _require_alike(self, other, "bucket")
        units = self.scale / np.float64(self.s), other.scale / np.float64(other.s)
        apart = np.flatnonzero(~np.isclose(*units, rtol=2.0**-20, atol=0.0))
        if apart.size:
            row, (one, two) = apart[0] // self.scales, (unit[apart[0]] for unit in units)
            raise ValueError(f"row {row}: levels of {one:g} cannot be added to levels of {two:g}; they need one scale")
        level = self._dense() + other._dense()
        row_of, index = np.nonzero(level)
        offsets = np.searchsorted(row_of, np.arange(self.rows + 1))
        scale = self.scale + other.scale
        return type(self)(
            self.n,
            offsets.astype(np.int64),
            index.astype(index_type(self.n)),
            level[row_of, index],
            scale,
            self.s + other.s,
            self.bucket,
            None if self.fixed is None or other.fixed is None else float(np.float32(self.fixed + other.fixed)),
        )

    def _dense(self) -> NDArray[np.int32]:
        """Return the (rows, n) array of levels, zeros included."""
        array = np.zeros((self.rows, self.n), np.int32)
        array[np.repeat(np.arange(self.rows), np.diff(self.offsets)), self.index] = self.level
        return array


@dataclass(frozen=True, eq=False)
class Signs(Message):
    """One bit per coordinate, which chooses between two numbers.

    A coordinate of row b stands for high_b if it is positive, and for low_b otherwise.

    Parameters
    ----------
    n, offsets : int and ndarray of int64, shape (rows + 1,)
        As in `Message`.
    index : ndarray of int, shape (entries,), or None
        The coordinates that have a bit, rising inside a row; all others stand for zero. None, or an index of all
        coordinates, which is dropped: all have one.
    positive : ndarray of bool, shape (entries,)
        The bits.
    low, high : ndarray of float32, shape (rows,)
        The number of the others, and that of the positive ones.

    Examples
    --------
    >>> Signs.single([True, False, True], low=-1.0, high=0.5).vectors().to_dense()
    array([[ 0.5, -1. ,  0.5]], dtype=float32)
    """

    index: NDArray[Any] | None
    positive: NDArray[np.bool_]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.index is not None and self.index.size == self.rows * self.n:
            object.__setattr__(self, "index", None)

    @classmethod
    def single(cls, positive: ArrayLike, *, low: float, high: float) -> Self:
        """Return a message of one dense vector.

        Parameters
        ----------
        positive : array-like of bool, shape (n,)
            The bits.
        low, high : float
            The number of the others, and that of the positive ones.

        Returns
        -------
        Signs
            The message, of one row.
        """
        refuse_masked("signs", positive)
        bits = np.asarray(positive, bool)
        offsets = np.array([0, bits.size], np.int64)
        return cls(bits.size, offsets, None, bits, np.array([low], np.float32), np.array([high], np.float32))

    @property
    def nonzeros(self) -> int:
        return self.vectors().nonzeros

    def vectors(self) -> Vectors:
        size = np.diff(self.offsets)
        value = np.where(self.positive, np.repeat(self.high, size), np.repeat(self.low, size))
        return Vectors(self.n, self.offsets, self.index, value)

    def scaled(self, factor: float) -> Self:
        return replace(self, low=self.low * np.float32(factor), high=self.high * np.float32(factor))

    @classmethod
    def join(cls, messages: Sequence[Self]) -> Self:
        first = messages[0]
        if any(message.n != first.n for message in messages):
            raise ValueError(f"messages of one batch must have one n, found {sorted({m.n for m in messages})}")
        dense = all(message.index is None for message in messages)
        return cls(
            first.n,
            _joined_offsets(messages),
            None if dense else np.concatenate([message.coordinates() for message in messages]),
            np.concatenate([message.positive for message in messages]),
            np.concatenate([message.low for message in messages]),
            np.concatenate([message.high for message in messages]),
        )

    def take(self, rows: NDArray[np.int64]) -> Self:
        offsets, entries = taken(self.offsets, rows)
        index = None if self.index is None else self.index[entries]
        return type(self)(self.n, offsets, index, self.positive[entries], self.low[rows], self.high[rows])

    def coordinates(self) -> NDArray[Any]:
        """Return the coordinate of every bit."""
        if self.index is not None:
            return self.index
        n = self.n if self.rows else 0  # without rows, nothing bounds n
        return np.tile(np.arange(n, dtype=index_type(self.n)), self.rows)


@dataclass(frozen=True, eq=False)
class SharedSupport(Message):
    """Numbers at coordinates that both ends draw from the key of the row: no position is on the wire.

    Parameters
    ----------
    n, offsets : int and ndarray of int64, shape (rows + 1,)
        As in `Message`.
    k : int
        How many numbers a row has.
    value : ndarray of float, shape (rows * k,)
        The numbers.

    Notes
    -----
    Only the compressor that made a message knows the coordinates: read it with `Compressor.decompress(message, keys)`.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.RandK(2, positions="drawn").quantize([1.0, 2.0, 3.0, 4.0], qsim.Key(1))
    >>> message.k, message.value.tolist()
    (2, [4.0, 8.0])
    """

    k: int
    value: NDArray[Any]

    @property
    def nonzeros(self) -> int:
        return int(np.count_nonzero(self.value))

    def vectors(self) -> Vectors:
        raise TypeError(
            "a SharedSupport message holds no positions: read it with its compressor's decompress(message, keys)"
        )

    def scaled(self, factor: float) -> Self:
        return replace(self, value=self.value * self.value.dtype.type(factor))

    @classmethod
    def join(cls, messages: Sequence[Self]) -> Self:
        first = messages[0]
        kinds = sorted({(message.n, message.k) for message in messages})
        if len(kinds) > 1:
            raise ValueError(f"messages of one batch must have one n and one k, found {kinds}")
        value = np.concatenate([message.value for message in messages])
        return cls(first.n, _joined_offsets(messages), first.k, value)

    def take(self, rows: NDArray[np.int64]) -> Self:
        offsets, entries = taken(self.offsets, rows)
        return replace(self, offsets=offsets, value=self.value[entries])

    def plus(self, other: Self) -> Self:
        _require_alike(self, other, "k")
        return replace(self, value=self.value + other.value)


def _require_alike(one: Message, other: Message, *names: str) -> None:
    """Refuse to add messages that are not of one kind, one length, and as many rows."""
    shapes = [(type(m).__name__, *(getattr(m, name) for name in ("rows", "n", *names))) for m in (one, other)]
    if shapes[0] != shapes[1]:
        what = ", ".join(("kind", "rows", "n", *names))
        raise ValueError(f"only messages that are alike can be added; {what} are {shapes[0]} and {shapes[1]}")


def _joined_offsets(messages: Sequence[Batch]) -> NDArray[np.int64]:
    sizes = np.concatenate([np.diff(message.offsets) for message in messages])
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
