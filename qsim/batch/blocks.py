"""Messages side by side: a kind of message for each block of coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qsim.batch.messages import Message
from qsim.batch.vectors import Vectors, dense_offsets, index_type


@dataclass(frozen=True, eq=False)
class Blocks(Message):
    """Messages of neighbouring blocks of coordinates, each of a kind of its own.

    The first block has the coordinates 0, ..., :math:`n_1 - 1`, the next one those from :math:`n_1` on, and so forth.

    Parameters
    ----------
    n, offsets : int and ndarray of int64, shape (rows + 1,)
        As in `Message`: the sums of those of the blocks.
    blocks : tuple of Message
        The message of each block, all with as many rows.

    Examples
    --------
    >>> import qsim
    >>> weights, intercept = qsim.batch.Levels.single([0, -2], scale=3.0, s=2), qsim.batch.Floats.single([0.5])
    >>> Blocks.of([weights, intercept]).vectors().to_dense()
    array([[ 0. , -3. ,  0.5]], dtype=float32)
    """

    blocks: tuple[Message, ...]

    @classmethod
    def of(cls, blocks: Sequence[Message]) -> Self:
        """Put messages side by side.

        Parameters
        ----------
        blocks : sequence of Message
            The message of each block, at least one.

        Returns
        -------
        Blocks
            The message of all coordinates.

        Raises
        ------
        ValueError
            If there is none, or they differ in the number of rows.
        """
        rows = sorted({block.rows for block in blocks})
        if len(rows) != 1:
            raise ValueError(f"blocks are one message or more with as many rows, found {len(blocks)} with rows {rows}")
        offsets: NDArray[np.int64] = np.stack([block.offsets for block in blocks]).sum(axis=0)
        return cls(sum(block.n for block in blocks), offsets, tuple(blocks))

    @property
    def nonzeros(self) -> int:
        return sum(block.nonzeros for block in self.blocks)

    def vectors(self) -> Vectors:
        return beside([block.vectors() for block in self.blocks])

    def scaled(self, factor: float) -> Self:
        return self.of([block.scaled(factor) for block in self.blocks])

    @classmethod
    def join(cls, messages: Sequence[Self]) -> Self:
        kinds = {tuple((type(block), block.n) for block in message.blocks) for message in messages}
        if len(kinds) > 1:
            found = sorted([(kind.__name__, n) for kind, n in each] for each in kinds)
            raise ValueError(f"messages of one batch must have blocks of the same kinds and lengths, found {found}")
        columns = zip(*(message.blocks for message in messages), strict=True)
        return cls.of([type(column[0]).join(column) for column in columns])

    def take(self, rows: NDArray[np.int64]) -> Self:
        return self.of([block.take(rows) for block in self.blocks])


def beside(blocks: Sequence[Vectors]) -> Vectors:
    """Return vectors whose rows are those of several batches, side by side; sparse unless all are dense."""
    n, rows = sum(block.n for block in blocks), blocks[0].rows
    if all(block.index is None for block in blocks):
        value = np.concatenate([block.value.reshape(rows, block.n) for block in blocks], axis=1)
        return Vectors(n, dense_offsets(rows, n), None, value.reshape(-1))
    indices, low = [], 0
    for block in blocks:
        index = np.tile(np.arange(block.n), rows) if block.index is None else block.index.astype(np.int64)
        indices.append(index + low)
        low += block.n
    row = np.concatenate([np.repeat(np.arange(rows), np.diff(block.offsets)) for block in blocks])
    order = np.argsort(row, kind="stable")  # of a row, the blocks stay in their order
    offsets: NDArray[np.int64] = np.stack([block.offsets for block in blocks]).sum(axis=0)
    index, value = np.concatenate(indices)[order], np.concatenate([block.value for block in blocks])[order]
    return Vectors(n, offsets, index.astype(index_type(n)), value)


def apart(v: Vectors, sizes: Sequence[int]) -> list[Vectors]:
    """Return the blocks of vectors, of these sizes, which sum to their length: what `beside` undoes."""
    ends = np.cumsum(sizes)
    if v.index is None:
        parts = map(np.ascontiguousarray, np.split(v.value.reshape(v.rows, v.n), ends[:-1], axis=1))
        return [Vectors(part.shape[1], dense_offsets(*part.shape), None, part.reshape(-1)) for part in parts]
    number = np.searchsorted(ends, v.index, side="right")
    found = []
    for block, (end, size) in enumerate(zip(ends.tolist(), sizes, strict=True)):
        inside = number == block
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(inside, dtype=np.int64)])[v.offsets]
        index = (v.index[inside] - (end - size)).astype(index_type(size))
        found.append(Vectors(size, offsets, index, v.value[inside]))
    return found
