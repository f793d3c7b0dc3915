"""Blocks: a few workers' rows, laid out for the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Support, Vectors
from qsim.datasets.partition import Shards
from qsim.weights import Replica

_THREAD = local()


def _scratch(width: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.uint64]]:
    """Return zeros for the sums and marks of a support: one pair a thread and type, which its users leave zero."""
    found: tuple[NDArray[Any], NDArray[np.uint64]] | None = getattr(_THREAD, dtype.name, None)
    if found is None or found[0].size < width:
        found = np.zeros(width, dtype), np.zeros(-(-width // 64), np.uint64)
        setattr(_THREAD, dtype.name, found)
    return found


@dataclass(frozen=True)
class Rows:
    """Some rows of each worker of a block: worker b has index[offsets[b] : offsets[b + 1]]."""

    index: NDArray[np.int64]
    offsets: NDArray[np.int64]
    all: bool = False
    """Whether these are all rows of every worker, so that their gradient fills the worker's support."""


class Block:
    """Workers low, ..., high - 1 of the shards: reads margins from their rows, and makes gradients of slopes."""

    def __init__(self, shards: Shards, low: int, high: int) -> None:
        """Take a view; nothing is copied."""
        data = shards.dataset
        self.low, self.high = low, high
        self.read = 0
        """How many rows have met the weights so far, each as often as it did."""
        self.touched: NDArray[np.int64] | None = None
        """The non-zeros of those rows, a number a worker; None: they are not counted."""
        self.n = data.features
        self.labels = data.labels
        self.order = shards.order
        self.offsets = shards.offsets[low : high + 1]
        self._indptr, self._values = data.indptr, data.values
        # Numba checks signed indices for "from the end"; unsigned ones it takes as they are.
        self._columns = data.indices.view(f"u{data.indices.itemsize}")
        self._local = shards.local.view(np.uint32)
        self._support, self._support_offsets = shards.support, shards.support_offsets[low : high + 1]

    @property
    def workers(self) -> int:
        """How many workers there are in the block."""
        return self.high - self.low

    @property
    def support(self) -> Support:
        """Which coordinates each worker's vectors can fill."""
        base, top = int(self._support_offsets[0]), int(self._support_offsets[-1])
        return Support(self.n, self._support_offsets - base, self._support[base:top])

    def all_rows(self) -> Rows:
        """Return every row of every worker."""
        first, last = self.offsets[0], self.offsets[-1]
        return Rows(self.order[first:last], self.offsets - first, all=True)

    def margins(self, rows: Rows, weights: Replica) -> NDArray[np.floating]:
        """Return the inner product of each row with the weights, in their precision."""
        from qsim.kernels.csr import margins, subtract_margins

        self.read += rows.index.size
        if self.touched is not None:
            upto = np.concatenate([[0], np.cumsum(self._indptr[rows.index + 1] - self._indptr[rows.index])])
            self.touched += np.diff(upto[rows.offsets])
        out = np.empty(rows.index.size, weights.vector.dtype)
        margins(self._indptr, self._columns, self._values, rows.index, weights.vector, out)
        if weights.moved is not None:
            subtract_margins(
                self._indptr,
                self._local,
                self._values,
                rows.index,
                rows.offsets,
                self._support_offsets,
                weights.moved,
                out,
            )
        if weights.scale != 1.0:
            out *= out.dtype.type(weights.scale)
        return out

    def spread(self, rows: Rows, slopes: NDArray[np.floating]) -> Vectors:
        """Return for each worker the sum of slope times row, in the coordinates that its rows touch."""
        from qsim.kernels.csr import nonzeros_of, scatter_support, scatter_touched

        base, top = int(self._support_offsets[0]), int(self._support_offsets[-1])
        if rows.all:
            value = np.zeros(top - base, slopes.dtype)
            scatter_support(
                self._indptr, self._local, self._values, rows.index, rows.offsets, slopes, self._support_offsets, value
            )
            return Vectors(self.n, self._support_offsets - base, self._support[base:top], value)
        most = nonzeros_of(self._indptr, rows.index)
        sums, marks = _scratch(int(np.diff(self._support_offsets).max()), slopes.dtype)
        offsets = np.empty(self.workers + 1, np.int64)
        index, value = np.empty(most, self._support.dtype), np.empty(most, slopes.dtype)
        used = scatter_touched(
            self._indptr,
            self._local,
            self._values,
            rows.index,
            rows.offsets,
            slopes,
            self._support,
            self._support_offsets,
            sums,
            marks,
            offsets,
            index,
            value,
        )
        return Vectors(self.n, offsets, index[:used], value[:used])
