"""Measurements of workers' rows, for a driver that does not have them: exact, and apart from training.

Nothing of it is counted. Each task finds a vector for every worker:

- "count": what `qsim.datasets.parts.counts_of` tells of the part that it holds rows of.
- "evaluation": the sum of the gradients of its rows, without the regulariser, and behind it those of losses and errors.
- "loss and error": these two alone.
- "hessian product": their mean Hessian times `direction`.
- "gram": X_i^T X_i w / n_i.
- "largest eigenvalue", "smallest eigenvalue": of X^T X, of a worker that holds all rows.
- "support": ones at the coordinates that its rows touch.
- the tasks of `qsim.problem.of_workers`: one number. A second point is `other`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Packets, Vectors
from qsim.batch.vectors import index_type
from qsim.block import Block
from qsim.datasets import Shards
from qsim.datasets.parts import counts_of
from qsim.objectives import Objective
from qsim.objectives.eigenvalues import largest_eigenvalue, smallest_eigenvalue
from qsim.objectives.linear import MarginModel
from qsim.objectives.wrapper import innermost
from qsim.problem import of_workers
from qsim.workers.tasks import Measurement, Reply

Entries = tuple[Any, NDArray[np.float64]]
"""Where in a vector there are numbers (an array of coordinates, or a slice), and which."""


def measured(objective: Objective, block: Block, order: Measurement) -> Reply:
    """Return the answer of the workers of a block, a row each."""
    return Reply(block.low, *_packed(_found(objective, block, order)))


def entries(reply: Reply) -> Iterator[Entries]:
    """Yield the vector of each worker that replied: where its numbers are, and which."""
    place = np.dtype(reply.header.decode()) if reply.header else None
    for packet in range(len(reply.packets)):
        data = reply.packets[packet]
        count = 0 if place is None else len(data) // (place.itemsize + 8)
        where = slice(None) if place is None else np.frombuffer(data, place, count)
        yield where, np.frombuffer(data, np.float64, offset=0 if place is None else count * place.itemsize)


def is_measurable(objective: Objective) -> bool:
    """Return whether an objective can be evaluated from the margins of each worker's rows."""
    inner = innermost(objective)
    return isinstance(inner, MarginModel) and inner.reads_margins_alone


def require_measurable(objective: Objective) -> None:
    """Refuse objectives whose error cannot be told from the margins of a worker's rows."""
    if not is_measurable(objective):
        raise ValueError(
            f"{objective!r} cannot be evaluated where the rows are: Parts take objectives on margins that define"
            " error_of_margins, such as qsim.LogisticRegression(l2=1e-4)"
        )


def _found(objective: Objective, block: Block, order: Measurement) -> Vectors:
    """Return what a task finds."""
    rows, weights, task = block.all_rows(), order.weights, order.task
    inner = innermost(objective)
    if task == "count":
        return Vectors.dense(np.tile(counts_of(block.data), (block.workers, 1)))
    if task == "evaluation":
        gradients, *both = inner.evaluate_rows(block, rows, weights)
        return _followed(gradients, np.stack(both, axis=1))
    if task == "loss and error":
        return Vectors.dense(np.stack(inner.score_rows(block, rows, weights), axis=1))
    if task in ("largest eigenvalue", "smallest eigenvalue"):
        extreme = largest_eigenvalue if task.startswith("largest") else smallest_eigenvalue
        return Vectors.dense(np.array([[extreme(_own_shards(block).dataset, block.width)]]))
    if task == "hessian product":
        product: Vectors = inner.hvp(block, rows, weights, order.vectors["direction"])
        return product
    if task == "support":
        of = block.support
        return Vectors(of.n, of.offsets, of.index, np.ones(int(of.offsets[-1])))
    if task == "gram":
        margins, counts = block.margins(rows, weights), np.diff(rows.offsets)
        mean = margins / np.repeat(counts, counts).reshape(-1, *[1] * (margins.ndim - 1))
        return block.spread(rows, mean)
    numbers = of_workers(task, objective, _own_shards(block), weights.vector, *order.vectors.values())
    return Vectors.dense(numbers[: block.workers, None])


def _packed(v: Vectors) -> tuple[bytes, Packets]:
    """Return vectors as bytes: a worker's coordinates, whose type is the header, and its numbers; or numbers alone."""
    numbers = v.value.astype(np.float64, copy=False)
    if v.index is None or 2 * numbers.size > v.n * v.rows:
        if v.index is not None:
            numbers = Vectors(v.n, v.offsets, v.index, numbers).to_dense().reshape(-1)
        return b"", Packets(numbers.view(np.uint8), np.arange(v.rows + 1) * (v.n * 8))
    index = v.index
    pieces = [index[low:high].tobytes() + numbers[low:high].tobytes() for low, high in pairwise(v.offsets.tolist())]
    return index.dtype.str.encode(), Packets.of(*pieces)


def _followed(v: Vectors, more: NDArray[np.float64]) -> Vectors:
    """Return vectors that go on with the numbers of a row of `more`."""
    length = more.shape[1]
    if v.index is None:
        return Vectors.dense(np.hstack([v.to_dense(), more]))
    at = np.repeat(v.offsets[1:], length)
    places = v.index.astype(index_type(v.n + length), copy=False)
    index = np.insert(places, at, np.tile(np.arange(v.n, v.n + length), v.rows))
    value = np.insert(v.value, at, more.reshape(-1))
    return Vectors(v.n + length, v.offsets + length * np.arange(v.rows + 1), index, value)


def _own_shards(block: Block) -> Shards:
    """Return the rows of a block as shards of their own.

    Where there is none, there is a further worker, with a row of another's: no data set is without one.
    """
    order, offsets = block.order[block.offsets[0] : block.offsets[-1]], block.offsets - block.offsets[0]
    if not order.size:
        order, offsets = block.order[:1], np.append(offsets, 1)
    return Shards(block.data.take(order), np.arange(order.size), offsets, block.width)
