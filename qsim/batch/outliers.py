"""Messages with outliers: some coordinates as plain numbers, which stand instead of what the others' kind has there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qsim.batch.messages import Floats, Message
from qsim.batch.vectors import Vectors


@dataclass(frozen=True, eq=False)
class WithOutliers(Message):
    """A message of the bulk of the coordinates, and plain numbers for outliers.

    An outlier stands instead of what the bulk has at its coordinate.

    Parameters
    ----------
    n, offsets : int and ndarray of int64, shape (rows + 1,)
        As in `Message`: the sums of those of the two parts.
    bulk : Message
        The message of all coordinates.
    outliers : Floats
        The outliers, sparse and none of them zero.

    Examples
    --------
    >>> import qsim
    >>> bulk = qsim.batch.Levels.single([1, -1, 1], scale=1.0, s=1)
    >>> outliers = qsim.batch.Floats(3, np.array([0, 1]), np.array([1], np.int32), np.float32([-9.5]))
    >>> WithOutliers.of(bulk, outliers).vectors().to_dense()
    array([[ 1. , -9.5,  1. ]], dtype=float32)
    """

    bulk: Message
    outliers: Floats

    @classmethod
    def of(cls, bulk: Message, outliers: Floats) -> Self:
        """Put both parts together.

        Parameters
        ----------
        bulk : Message
            The message of all coordinates.
        outliers : Floats
            The outliers.

        Returns
        -------
        WithOutliers
            The message.

        Raises
        ------
        ValueError
            If they differ in shape, or the outliers are dense or hold a zero.
        """
        shapes = [(part.rows, part.n) for part in (bulk, outliers)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"bulk and outliers must have as many rows of one length, found {shapes[0]}, {shapes[1]}")
        if outliers.index is None or not outliers.value.all():
            raise ValueError("outliers must be sparse floats without a zero: those that are zero need not be sent")
        return cls(bulk.n, bulk.offsets + outliers.offsets, bulk, outliers)

    @property
    def nonzeros(self) -> int:
        return self.vectors().nonzeros

    def vectors(self) -> Vectors:
        dense = self.bulk.vectors().to_dense()
        dense[np.repeat(np.arange(self.rows), np.diff(self.outliers.offsets)), self.outliers.index] = (
            self.outliers.value
        )
        return Vectors.dense(dense)

    def scaled(self, factor: float) -> Self:
        """Return the message of a multiple of the vectors; an outlier that rounds to zero is left out."""
        outliers = self.outliers.scaled(factor)
        kept = outliers.value != 0
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])[outliers.offsets]
        assert outliers.index is not None
        few = Floats(self.n, offsets, outliers.index[kept], outliers.value[kept])
        return self.of(self.bulk.scaled(factor), few)

    @classmethod
    def join(cls, messages: Sequence[Self]) -> Self:
        kinds = sorted({type(message.bulk).__name__ for message in messages})
        if len(kinds) > 1:
            raise ValueError(f"messages of one batch must have a bulk of one kind, found {kinds}")
        first = messages[0]
        return cls.of(
            type(first.bulk).join([message.bulk for message in messages]),
            Floats.join([message.outliers for message in messages]),
        )

    def take(self, rows: NDArray[np.int64]) -> Self:
        return self.of(self.bulk.take(rows), self.outliers.take(rows))
