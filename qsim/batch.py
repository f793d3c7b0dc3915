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
            np.array_equal(mine, theirs) if isinstance(mine, np.ndarray) else mine is theirs or mine == theirs
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
    """What the workers of a block keep from round to round: float32 rows by name, each on the workers' supports."""

    support: Support
    arrays: Arrays

    @classmethod
    def zeros(cls, support: Support, *names: str) -> Self:
        """Make a memory of rows of zeros."""
        return cls(support, {name: np.zeros(support.offsets[-1], np.float32) for name in names})

    def vectors(self, name: str) -> Vectors:
        """Return the rows of a name (a view: it changes with the memory)."""
        return Vectors(self.support.n, self.support.offsets, self.support.index, self.arrays[name])

    def add(self, name: str, v: Vectors, sign: float = 1.0) -> None:
        """Add sign times v to the rows of a name. Raises ValueError if v is not zero off the support."""
        from qsim.kernels.vectors import add_on_support

        of, index = self.support.offsets, self.support.index
        matched = add_on_support(of, index, v.offsets, v.index, v.value, np.float32(sign), self.arrays[name])
        if matched != v.nonzeros:
            raise ValueError(f"{v.nonzeros - matched} non-zeros are off the supports of their workers")


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


@dataclass(frozen=True, eq=False)
class Levels(Message):
    """Signed whole levels of a scale: coordinate i of row b stands for level_i * scale_b / s, |level_i| from 1 to s."""

    index: NDArray[Any]
    level: NDArray[np.int32]
    scale: NDArray[np.float32]
    s: int

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

    def vectors(self) -> Vectors:
        from qsim.kernels.quantize import levels_to_values

        value = np.empty(self.level.size, np.float32)
        levels_to_values(self.offsets, self.level, self.scale, self.s, value)
        return Vectors(self.n, self.offsets, self.index, value)

    def scaled(self, factor: float) -> Self:
        return replace(self, scale=self.scale * np.float32(factor))

    @classmethod
    def join(cls, messages: Sequence[Self]) -> Self:
        first = messages[0]
        if any(message.s != first.s or message.n != first.n for message in messages):
            kinds = sorted({(message.n, message.s) for message in messages})
            raise ValueError(f"messages of one batch must have one n and one s, found {kinds}")
        return cls(
            first.n,
            _joined_offsets(messages),
            np.concatenate([message.index for message in messages]),
            np.concatenate([message.level for message in messages]),
            np.concatenate([message.scale for message in messages]),
            first.s,
        )


def _joined_offsets(messages: Sequence[Batch]) -> NDArray[np.int64]:
    sizes = np.concatenate([np.diff(message.offsets) for message in messages])
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


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

    def __getitem__(self, row: int) -> bytes:
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def __len__(self) -> int:
        return self.offsets.size - 1
