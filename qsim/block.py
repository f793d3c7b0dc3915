"""Blocks: a few workers' rows, laid out for the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from threading import local
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Support, Vectors, index_type
from qsim.datasets.dataset import Dataset
from qsim.datasets.partition import Shards
from qsim.datasets.parts import PartShards
from qsim.program import NoProgram, Part, Program, Result
from qsim.weights import PlannedReplica, Replica

_THREAD = local()


def _scratch(width: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.uint64]]:
    """Return zeros for the sums and marks of a support: one pair a thread and type, which its users leave zero."""
    found: tuple[NDArray[Any], NDArray[np.uint64]] | None = getattr(_THREAD, dtype.char, None)
    if found is None or found[0].size < width:
        found = np.zeros(width, dtype), np.zeros(-(-width // 64), np.uint64)
        setattr(_THREAD, dtype.char, found)
    return found


@dataclass(frozen=True)
class Rows:
    """Some rows of each worker of a block: worker b has index[offsets[b] : offsets[b + 1]]."""

    index: NDArray[np.int64]
    offsets: NDArray[np.int64]
    all: bool = False
    """Whether these are all rows of every worker, so that their gradient fills the worker's support."""
    drawn: Result | None = None
    """In a program: how many there are in a round, if that is not the same in all."""

    def some(self, array: NDArray[Any]) -> NDArray[Any] | Part:
        """Return the part of an array, with an entry for each of the rows, that a round of a program fills."""
        return array if self.drawn is None else Part(array, self.drawn)

    def step(self, h: int, batch: int) -> Rows:
        """Return the rows of step h, of `batch` a step; workers without rows have none."""
        chosen = [self.index[first + h * batch :][: min(batch, last - first)] for first, last in self._spans()]
        return Rows(np.concatenate(chosen), np.concatenate([[0], np.cumsum([part.size for part in chosen])]))

    def _spans(self) -> list[tuple[int, int]]:
        return list(zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True))


class Block:
    """Workers low, ..., high - 1 of the shards: reads margins from their rows, and makes gradients of slopes."""

    def __init__(self, shards: Shards | PartShards, low: int, high: int) -> None:
        """Take a view; nothing is copied."""
        self.low, self.high = low, high
        if isinstance(shards, PartShards):
            shards, low = shards.held(low, high)
            high = low + self.workers
        data = shards.dataset
        self.read = 0
        """The number of rows that have met the weights so far, each as often as it did."""
        self.touched: NDArray[np.int64] | None = None
        """The non-zeros of those rows, a number per worker; None: they are not counted."""
        self.met: list[Rows] | None = None
        """Those rows, in the order in which they did; None: nobody wants to know."""
        self.n, self.width = shards.n, shards.width
        self.labels = data.labels
        self.order = shards.order
        self.data = data
        self.offsets = shards.offsets[low : high + 1]
        self._indptr, self._values = data.indptr, data.values
        # Numba checks signed indices for "from the end"; unsigned ones it takes as they are.
        self._columns: NDArray[Any] | None = data.indices.view(f"u{data.indices.itemsize}")
        self._local = shards.local.view(np.uint32)
        self._support, self._support_offsets = shards.support, shards.support_offsets[low : high + 1]

    @property
    def workers(self) -> int:
        """The number of workers in the block."""
        return self.high - self.low

    @property
    def on_supports(self) -> bool:
        """Whether rows have the places of their columns on the workers' supports only, as after `laid_out`."""
        return self._columns is None

    @property
    def nonzeros(self) -> int:
        """How many non-zeros the rows of all workers have."""
        return int(np.diff(self._indptr)[self.order[self.offsets[0] : self.offsets[-1]]].sum())

    @cached_property
    def support(self) -> Support:
        """Which coordinates each worker's vectors can fill."""
        base, top = int(self._support_offsets[0]), int(self._support_offsets[-1])
        columns = self._support[base:top]
        if self.width > 1:
            first = columns.astype(index_type(self.n)) * self.width
            columns = (first[:, None] + np.arange(self.width, dtype=first.dtype)).reshape(-1)
        return Support(self.n, (self._support_offsets - base) * self.width, columns)

    @cached_property
    def _widest(self) -> int:
        """How many features the rows of a worker touch, at most."""
        return int(np.diff(self._support_offsets).max(initial=0))

    def all_rows(self) -> Rows:
        """Return every row of every worker."""
        first, last = self.offsets[0], self.offsets[-1]
        return Rows(self.order[first:last], self.offsets - first, all=True)

    def take(self, rows: Rows) -> Iterator[Dataset | None]:
        """Yield the rows of each worker as a data set of their own, a copy; None for no rows."""
        self._count(rows)
        for low, high in pairwise(rows.offsets):
            yield self.data.take(rows.index[low:high]) if low < high else None

    def held(self, weights: Replica) -> Iterator[NDArray[np.floating]]:
        """Yield the weights that each worker holds, all n of them: O(n) per worker."""
        vector = weights.vector if weights.scale == 1.0 else weights.vector * weights.vector.dtype.type(weights.scale)
        self._require_fit(weights)
        of = self.support
        assert of.index is not None
        for low, high in pairwise(of.offsets):
            if weights.moved is None:
                yield vector
            else:
                own, there = weights.vector.copy(), slice(low, high)
                own[of.index[there]] -= weights.moved[there]
                yield own * own.dtype.type(weights.scale)

    def margins(self, rows: Rows, weights: Replica) -> NDArray[np.floating]:
        """Return the inner product of each row with the weights, in their precision.

        Shape (rows,); (rows, width) for more than one weight a feature.
        """
        self._require_fit(weights)
        if self.width == 1:
            from qsim.kernels.csr import margins, subtract_margins

            out = np.empty(rows.index.size, weights.vector.dtype)
        else:
            from qsim.kernels.multiclass import class_margins as margins
            from qsim.kernels.multiclass import subtract_class_margins as subtract_margins

            out = np.empty((rows.index.size, self.width), weights.vector.dtype)
        self._count(rows)
        assert self._columns is not None
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

    def ones(self, rows: Rows) -> Vectors:
        """Return ones at the coordinates that each worker's rows touch."""
        shape = rows.index.size if self.width == 1 else (rows.index.size, self.width)
        touched = self.spread(rows, np.ones(shape, np.float32))
        return replace(touched, value=np.ones_like(touched.value))

    def local_steps(
        self, rows: Rows, batch: int | None, weights: Replica, steps: NDArray[np.float64], l2: float, kernel: Any
    ) -> Vectors:
        """Return how far each worker comes by steps of SGD on logistic regression: what `kernel` of `local_sgd` writes.

        Every worker has `batch` rows for each step, or with None all of its rows for all steps.
        """
        base, top = int(self._support_offsets[0]), int(self._support_offsets[-1])
        self._count(rows, 1 if batch else steps.size)
        start = weights.vector[self._support[base:top]].astype(np.float32, copy=False)
        start *= np.float32(weights.scale)
        out = np.empty_like(start)
        kernel(
            self._indptr,
            self._local,
            self._values,
            self.labels,
            rows.index,
            rows.offsets,
            batch or 0,
            self._support_offsets,
            steps,
            l2,
            start,
            out,
        )
        return Vectors(self.n, self._support_offsets - base, self._support[base:top], out)

    def spread(self, rows: Rows, slopes: NDArray[np.floating]) -> Vectors:
        """Return for each worker the sum of slope times row, in the coordinates that its rows touch.

        The slopes have the shape of margins.
        """
        if self.width == 1:
            from qsim.kernels.csr import scatter_support, scatter_touched
        else:
            from qsim.kernels.multiclass import scatter_classes_support as scatter_support
            from qsim.kernels.multiclass import scatter_classes_touched as scatter_touched
        from qsim.kernels.csr import nonzeros_of

        if rows.all:
            of = self.support
            value = np.zeros(of.offsets[-1], slopes.dtype)
            scatter_support(
                self._indptr, self._local, self._values, rows.index, rows.offsets, slopes, self._support_offsets, value
            )
            return Vectors(self.n, of.offsets, of.index, value)
        most = nonzeros_of(self._indptr, rows.index) * self.width
        sums, marks = _scratch(self._widest * self.width, slopes.dtype)
        offsets = np.empty(self.workers + 1, np.int64)
        index, value = np.empty(most, index_type(self.n)), np.empty(most, slopes.dtype)
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

    def margins_of_several(self, rows: Rows, weights: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        """Write the margins of all rows with eight weights, a row each: those of `margins`, to the last bit."""
        from qsim.kernels import several

        held, support = self._lanes(), (self._support, self._support_offsets)
        data = self._indptr, self._local, self._values, rows.index, rows.offsets
        several.margins_of_several(*data, *support, weights, held, out)

    def totals_of_several(self, rows: Rows, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over workers of what `spread` makes of each of eight rows of slopes: shape (8, n)."""
        from qsim.kernels import several

        out = np.zeros((several.TOGETHER, self.n))
        own, support = self._lanes(), (self._support, self._support_offsets)
        data = self._indptr, self._local, self._values, rows.index, rows.offsets
        several.scatter_several(*data, *support, slopes, own, out)
        return out

    def _lanes(self) -> NDArray[np.float64]:
        """Return zeros for eight weights on the largest support."""
        from qsim.kernels import several

        return np.zeros((self._widest, several.TOGETHER))

    def laid_out(self) -> Self:
        """Return the block with its rows copied, one worker's behind another's, and with places on supports only.

        A row's number is its place there, and places take 16 bits where they can: a worker's rows stay in the cache.
        """
        from qsim.kernels.csr import lay_out

        found, order = copy(self), self.order[self.offsets[0] : self.offsets[-1]]
        places = np.uint16 if self._widest <= 2**16 else np.uint32
        size = int(np.diff(self._indptr)[order].sum())
        found._indptr, found._local = np.empty(order.size + 1, np.int64), np.empty(size, places)
        found._values = None if self._values is None else np.empty(size, np.float32)
        lay_out(self._indptr, self._local, self._values, order, found._indptr, found._local, found._values)
        found.labels, found._columns = self.labels[order], None
        found.order, found.offsets = np.arange(order.size), self.offsets - self.offsets[0]
        return found

    def numbers_of(self, rows: Rows) -> NDArray[np.int64] | Part | None:
        """Return the numbers of rows for kernels of a program; None: one behind the other, from the first of all."""
        return None if rows.all and self.on_supports else rows.some(rows.index)

    def plan_margins(self, program: Program, rows: Rows, weights: PlannedReplica) -> NDArray[np.float32]:
        """Have a program write the margins of rows, as `margins` does; return where."""
        from qsim.kernels.csr import gather, margins, margins_of_float64, margins_on_support
        from qsim.kernels.rounds import multiply

        if self.width != 1:
            raise NoProgram
        out = np.empty(rows.index.size, np.float32)
        data, written = (self._indptr, self._columns, self._values, rows.some(rows.index)), rows.some(out)
        if self.on_supports:
            low, high = self._support_offsets[0], self._support_offsets[-1]
            held = np.empty(high - low, np.float32)
            program.call(gather, weights.vector, weights.scale, self._support[low:high], held)
            local = self._indptr, self._local, self._values, self.numbers_of(rows), rows.offsets
            program.call(margins_on_support, *local, self._support_offsets, held, out)
        elif weights.vector.dtype == np.float32:
            program.call(margins, *data, weights.vector, written)
        else:
            program.call(margins_of_float64, *data, weights.vector, weights.scale, written)
        if weights.factor is not None:
            program.call(multiply, weights.factor, written)
        return out

    def plan_local_steps(
        self,
        program: Program,
        rows: Rows,
        batch: int,
        weights: PlannedReplica,
        steps: NDArray[np.float64],
        l2: float,
        kernel: Any,
    ) -> Vectors:
        """Have a program do what `local_steps` does; return where."""
        from qsim.kernels.csr import gather
        from qsim.kernels.rounds import multiply

        if self.width != 1:
            raise NoProgram
        of = self.support
        assert of.index is not None
        start, out = np.empty(of.index.size, np.float32), np.empty(of.index.size, np.float32)
        program.call(gather, weights.vector, weights.scale, of.index, start)
        if weights.factor is not None:
            program.call(multiply, weights.factor, start)
        data = self._indptr, self._local, self._values, self.labels, rows.index, rows.offsets
        program.call(kernel, *data, batch, self._support_offsets, steps, l2, start, out)
        return Vectors(self.n, of.offsets, of.index, out)

    def plan_touched(self, program: Program, rows: Rows) -> NDArray[np.int64]:
        """Have a program count the non-zeros of each worker's rows; return where."""
        from qsim.kernels.clock import count_touched

        touched = np.empty(self.workers, np.int64)
        if rows.all:
            count_touched(self._indptr, rows.index, rows.offsets, touched)
        else:
            program.call(count_touched, self._indptr, rows.index, rows.offsets, touched)
        return touched

    def plan_spread(self, program: Program, rows: Rows, slopes: NDArray[np.float32]) -> Vectors:
        """Have a program sum slope times row for each worker, as `spread` does; return where.

        The offsets of the rows must be those that they have in every round.
        """
        from qsim.kernels.columns import sum_columns
        from qsim.kernels.csr import scatter_short, scatter_support, scatter_touched, single_rows
        from qsim.kernels.rounds import fill

        data = self._indptr, self._local, self._values, rows.index, rows.offsets, slopes
        if rows.all:
            of = self.support
            value = np.zeros(of.offsets[-1], np.float32)
            if self.on_supports:
                program.call(sum_columns, *self._columns_of(rows), rows.offsets, self._support_offsets, slopes, value)
            else:
                program.call(fill, value, np.float32(0))
                program.call(scatter_support, *data, self._support_offsets, value)
            return Vectors(self.n, of.offsets, of.index, value)
        counts, longest = np.diff(rows.offsets), self._longest()
        if counts.max() <= 1 and not self.on_supports:
            size = int((counts * longest).sum())
            v = Vectors(
                self.n,
                np.zeros(self.workers + 1, np.int64),
                np.empty(size, index_type(self.n)),
                np.empty(size, np.float32),
            )
            program.call(single_rows, self._indptr, self._columns, self._values, *data[3:], v.offsets, v.index, v.value)
            return v
        widths = np.diff(self._support_offsets)
        most, width = int(np.minimum(widths, counts * longest).sum()) + 1, int(widths.max())
        v = Vectors(
            self.n, np.zeros(self.workers + 1, np.int64), np.empty(most, index_type(self.n)), np.empty(most, np.float32)
        )
        support, out = (self._support, self._support_offsets), (v.offsets, v.index, v.value)
        if rows.index.size * self.data.nonzeros > 0.5 * widths.sum() * self.data.rows:
            program.call(scatter_short, *data, *support, np.full(width, -0.0, np.float32), *out)
        else:
            marks = np.zeros(-(-width // 64), np.uint64)
            program.call(scatter_touched, *data, *support, np.zeros(width, np.float32), marks, *out)
        return v

    def _columns_of(self, rows: Rows) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32] | None, NDArray[Any]]:
        """Return all rows column by column, those of a worker from the longest column to the shortest.

        Where each column begins, its rows and values, and its place on the supports.
        """
        from qsim.kernels.columns import count_columns, take_columns

        entries = self._indptr, self._local
        sizes = np.zeros(int(self._support_offsets[-1] - self._support_offsets[0]), np.int64)
        count_columns(*entries, rows.index, rows.offsets, self._support_offsets, sizes)
        worker = np.repeat(np.arange(self.workers), np.diff(self._support_offsets))
        places = np.lexsort((-sizes, worker))
        starts = np.concatenate([[0], np.cumsum(sizes[places])])
        ends = np.empty_like(sizes)
        ends[places] = starts[:-1]
        kind = np.uint16 if np.diff(rows.offsets).max(initial=0) <= 2**16 else np.uint32
        of_columns = np.empty(starts[-1], kind)
        values = None if self._values is None else np.empty(starts[-1], np.float32)
        take_columns(*entries, self._values, rows.index, rows.offsets, self._support_offsets, ends, of_columns, values)
        return starts, of_columns, values, places

    def _longest(self) -> NDArray[np.int64]:
        """Return the non-zeros of each worker's longest row."""
        sizes = np.diff(self._indptr)
        return np.array([sizes[self.order[low:high]].max(initial=0) for low, high in pairwise(self.offsets)])

    def _count(self, rows: Rows, times: int = 1) -> None:
        """Take note of rows that meet the weights, so many times."""
        self.read += rows.index.size * times
        if self.met is not None:
            self.met.append(rows)
        if self.touched is not None:
            upto = np.concatenate([[0], np.cumsum(self._indptr[rows.index + 1] - self._indptr[rows.index])])
            self.touched += np.diff(upto[rows.offsets]) * times

    def _require_fit(self, weights: Replica) -> None:
        if weights.vector.size != self.n:
            raise ValueError(
                f"shards of width {self.width} are for {self.n:,} weights, found {weights.vector.size:,}; for an"
                " objective with more weights per feature take shards.of_width(objective.width)"
            )
