"""Who takes part in a round, worker by worker."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np


def _rows(offsets: Any) -> list[range]:
    return [range(first, last) for first, last in pairwise(offsets.tolist())]


def _there(offsets: Any, present: Any) -> list[range]:
    """The rows of those who take part."""
    return [row for worker, row in enumerate(_rows(offsets)) if present is None or present[worker]]


def nonzeros_of(offsets: Any, value: Any, present: Any) -> int:
    return sum(value[k] != 0 for row in _there(offsets, present) for k in row)


def bytes_of(offsets: Any, present: Any) -> int:
    return sum(len(row) for row in _there(offsets, present))


rows_of = bytes_of


def weights_of(of_workers: Any, delivered: Any, weights: Any) -> float:
    share = 1.0 if delivered.all() else float(np.sum(of_workers[delivered]))
    weights[:] = [w / share if there else 0.0 for w, there in zip(of_workers.tolist(), delivered, strict=True)]
    return share


def pairwise_sum(x: Any) -> float:
    return float(np.sum(x))


def silence(offsets: Any, value: Any, heard: Any) -> None:
    for row in _there(offsets, ~heard):
        value[row.start : row.stop] = 0.0


def take_entry(entries: Any, turn: Any, out: Any) -> None:
    out[:] = entries[turn[1]].tolist()


def entry(flags: Any, turn: Any) -> int:
    return 1 if flags[turn[1]] else 0


def copy_rows(offsets: Any, which: Any, x: Any, out: Any) -> None:
    for row in _there(offsets, which):
        out[row.start : row.stop] = x[row.start : row.stop].tolist()


def is_zero(x: float) -> int:
    return 0 if abs(x) > 0 or x != x else 1


def product(x: float, y: float) -> float:
    return x * y
