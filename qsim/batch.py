"""Batches: vectors, the messages made of them, and the packets that carry messages. Pure data.

Everything is a batch of rows, one row a worker; a single vector is a batch of one. Rows lie one behind the other, row b
at `offsets[b]` to `offsets[b + 1]`. With `index` they are sparse (coordinates rising inside a row), without it dense.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray


def index_type(n: int) -> type[np.signedinteger[Any]]:
    """Return the type that holds the coordinates of a vector of length n: int32 while they fit."""
    return np.int32 if n <= 2**31 else np.int64


def dense_offsets(rows: int, n: int) -> NDArray[np.int64]:
    """Return the offsets of dense rows of length n."""
    return np.arange(0, (rows + 1) * n, n, dtype=np.int64) if n else np.zeros(rows + 1, np.int64)


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
        offsets, entries = _taken(self.offsets, rows)
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
    """What the workers of a block keep from round to round: rows by name, on the workers' supports; float32 mostly."""

    support: Support
    arrays: Arrays

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
        matched = add_on_support(of, index, v.offsets, v.index, v.value, rows.dtype.type(sign), rows)
        if matched != v.nonzeros:
            raise ValueError(f"{v.nonzeros - matched} non-zeros are off the supports of their workers")

    def less(self, v: Vectors, name: str) -> Vectors:
        """Return v minus the rows of a name, as float32. Raises ValueError if v is not zero off the supports."""
        difference = Memory(self.support, {"": -self.arrays[name]})
        difference.add("", v)
        found = difference.vectors("")
        return replace(found, value=found.value.astype(np.float32, copy=False))


class Message(Batch):
    """What a compressor makes of vectors and a codec carries. Its kinds are few, and shared by many compressors."""

    @abstractmethod
    def vectors(self) -> Vectors:
        """Return the float32 vectors that the message stands for (unless its compressor reads it otherwise)."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the message that stands for factor times the vectors, rounded once to float32."""

    @classmethod
    @abstractmethod
    def join(cls, messages: Sequence[Self]) -> Self:
        """Put the rows of several messages one behind the other."""

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the message of these rows, in this order."""

    def plus(self, other: Self) -> Self:
        """Return the message whose row b is row b of both, added number by number, as on the way through a network.

        Dense floats and drawn numbers are added in float32. Levels are added where both have one unit, scale / s, to
        rounding: the sum has it too, and s is that of both together. That it stands for the sum of the vectors is
        what a compressor promises that is `summable`, for rows with one key. Raises ValueError for what cannot be
        added.
        """
        raise ValueError(f"{type(self).__name__} cannot be added as they are: add the vectors that they stand for")


@dataclass(frozen=True, eq=False)
class Floats(Message):
    """Plain numbers, dense or sparse; float32, or float64 on an exact channel."""

    index: NDArray[Any] | None
    value: NDArray[Any]

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        """Make a message of vectors as they are."""
        return cls(vectors.n, vectors.offsets, vectors.index, vectors.value)

    @classmethod
    def single(cls, vector: ArrayLike) -> Self:
        """Make a message of one dense vector, as float32."""
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
        offsets, entries = _taken(self.offsets, rows)
        index = None if self.index is None else self.index[entries]
        return replace(self, offsets=offsets, index=index, value=self.value[entries])

    def plus(self, other: Self) -> Self:
        _require_alike(self, other)
        if self.index is not None or other.index is not None:
            raise ValueError("sparse floats cannot be added number by number: their coordinates differ")
        return replace(self, value=self.value + other.value)


@dataclass(frozen=True, eq=False)
class Levels(Message):
    """Signed whole levels of a scale: coordinate i of row b stands for level_i * scale_b / s, |level_i| from 1 to s.

    With a `bucket` every run of so many coordinates has a scale of its own (the last run may be shorter): row b has the
    `scales` = ceil(n / bucket) ones from scale[b * scales]. bucket 0: one scale for the row.
    """

    index: NDArray[Any]
    level: NDArray[np.int32]
    scale: NDArray[np.float32]
    s: int
    bucket: int = 0

    @classmethod
    def single(cls, level: ArrayLike, *, scale: float, s: int) -> Self:
        """Make a message of one dense vector of whole levels in [-s, s]; zeros are left out.

        >>> Levels.single([0, -2, 1], scale=3.0, s=2).vectors().to_dense()
        array([[ 0. , -3. ,  1.5]], dtype=float32)
        """
        array = np.asarray(level)
        found = array.astype(np.int32)
        if array.ndim != 1 or np.any(found != array) or np.any(np.abs(found) > s):
            raise ValueError(f"levels must be one vector of whole numbers from -{s} to {s}, found {array!r}")
        (index,) = np.nonzero(found)
        offsets = np.array([0, index.size], np.int64)
        return cls(
            array.size, offsets, index.astype(index_type(array.size)), found[index], np.array([scale], np.float32), s
        )

    @property
    def nonzeros(self) -> int:
        return int(self.offsets[-1])

    @property
    def scales(self) -> int:
        """How many scales a row has."""
        return -(-self.n // self.bucket) if self.bucket else 1

    def vectors(self) -> Vectors:
        from qsim.kernels.quantize import levels_to_values

        value = np.empty(self.level.size, np.float32)
        levels_to_values(self.offsets, self.index, self.level, self.scale, self.bucket or self.n, self.s, value)
        return Vectors(self.n, self.offsets, self.index, value)

    def scaled(self, factor: float) -> Self:
        scale = self.scale * np.float32(factor)
        if not np.any((scale == 0) & (self.scale != 0)):
            return replace(self, scale=scale)
        # A scale below the smallest float32 became zero, which has no levels.
        first = np.repeat(np.arange(self.rows) * self.scales, np.diff(self.offsets))
        kept = scale[first + self.index // (self.bucket or self.n)] != 0
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])[self.offsets]
        return replace(self, offsets=offsets, index=self.index[kept], level=self.level[kept], scale=scale)

    @classmethod
    def join(cls, messages: Sequence[Self]) -> Self:
        first = messages[0]
        kinds = sorted({(message.n, message.s, message.bucket) for message in messages})
        if len(kinds) > 1:
            raise ValueError(f"messages of one batch must have one n, one s and one bucket, found {kinds}")
        return cls(
            first.n,
            _joined_offsets(messages),
            np.concatenate([message.index for message in messages]),
            np.concatenate([message.level for message in messages]),
            np.concatenate([message.scale for message in messages]),
            first.s,
            first.bucket,
        )

    def take(self, rows: NDArray[np.int64]) -> Self:
        offsets, entries = _taken(self.offsets, rows)
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
        )

    def _dense(self) -> NDArray[np.int32]:
        """Return the (rows, n) array of levels, zeros included."""
        array = np.zeros((self.rows, self.n), np.int32)
        array[np.repeat(np.arange(self.rows), np.diff(self.offsets)), self.index] = self.level
        return array


@dataclass(frozen=True, eq=False)
class Signs(Message):
    """One bit a coordinate: it stands for high_b in row b where `positive` holds, and for low_b elsewhere.

    With `index` only its coordinates have a bit, and all others stand for zero. An index of all coordinates is dropped.
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
        """Make a message of one dense vector.

        >>> Signs.single([True, False, True], low=-1.0, high=0.5).vectors().to_dense()
        array([[ 0.5, -1. ,  0.5]], dtype=float32)
        """
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
        offsets, entries = _taken(self.offsets, rows)
        index = None if self.index is None else self.index[entries]
        return type(self)(self.n, offsets, index, self.positive[entries], self.low[rows], self.high[rows])

    def coordinates(self) -> NDArray[Any]:
        """Return the coordinate of every bit."""
        if self.index is not None:
            return self.index
        return np.tile(np.arange(self.n, dtype=index_type(self.n)), self.rows)


@dataclass(frozen=True, eq=False)
class Drawn(Message):
    """k numbers a row, at coordinates that both ends draw from the row's key: no position is on the wire.

    Which coordinates, only the compressor knows that made it: `Compressor.decompress(message, keys)` reads it.
    """

    k: int
    value: NDArray[Any]

    @property
    def nonzeros(self) -> int:
        return int(np.count_nonzero(self.value))

    def vectors(self) -> Vectors:
        raise TypeError("a Drawn message holds no positions: read it with its compressor's decompress(message, keys)")

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
        offsets, entries = _taken(self.offsets, rows)
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


def _taken(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets of some rows put one behind the other, and where their entries lie now."""
    sizes = np.diff(offsets)[rows]
    taken = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    return taken, np.arange(taken[-1]) + np.repeat(offsets[rows] - taken[:-1], sizes)


@dataclass(frozen=True, eq=False)
class Packets:
    """The bytes on the wire: packet b is data[offsets[b] : offsets[b + 1]]."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @property
    def bits(self) -> int:
        """8 times the bytes of all packets."""
        return 8 * int(self.offsets[-1] - self.offsets[0])

    @classmethod
    def of(cls, *packets: bytes) -> Self:
        """Make a batch of packets of byte strings.

        >>> Packets.of(b"ab", b"", b"c").bits
        24
        """
        offsets = np.cumsum([0, *map(len, packets)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(packets), np.uint8), offsets)

    def take(self, rows: NDArray[np.int64]) -> Packets:
        """Return these packets, in this order."""
        offsets, places = _taken(self.offsets, rows)
        return Packets(self.data[places], offsets)

    def __getitem__(self, row: int) -> bytes:
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def __len__(self) -> int:
        return self.offsets.size - 1
