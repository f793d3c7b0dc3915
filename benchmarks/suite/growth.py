"""Growth: rounds a second over the workers, the batch and the features, beside what the arithmetic alone would take.

SGD with QSGD(4) in the varint code, on rows of 14 ones. The *arithmetic* is the work of a round (rows drawn, non-zeros
read, entries rounded, levels sent) times what each costs in the kernels, measured in the cache, in turns with the
rounds. A ratio of 1 would be a round that is its arithmetic and nothing else. `benchmarks/draw_growth.py` draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import qsim
from benchmarks.case import Case, Claim, LongMinusShort, Timed
from qsim.batch import Levels
from qsim.block import Block, Rows
from qsim.codecs import Varint
from qsim.kernels.csr import logistic_slopes, margins, scatter_touched
from qsim.kernels.norms import l2_scales
from qsim.kernels.quantize import levels_to_values, round_to_levels
from qsim.kernels.sampling import draw_with_replacement
from qsim.kernels.varint import KERNELS
from qsim.kernels.vectors import add_rows, take_marked
from qsim.weights import Replica

ROWS, A_ROW, S, STEP = 100_000, 14, 4, 0.01
POINTS = (  # workers, batch, features
    *((workers, 16, 10**4) for workers in (1, 10, 100, 1_000, 10_000)),
    *((20, batch, 10**4) for batch in (1, 4, 16, 64, 256, 1024)),
    *((20, 16, 10**power) for power in (2, 3, 4, 5, 6)),
)
QUICK = ((3, 2, 100),)


@dataclass(frozen=True)
class Work:
    """How much there is to do in a round."""

    rows: int
    nonzeros: int
    entries: int
    """Coordinates that the rows of a worker touch, over all workers."""
    kept: int
    """Levels that are not zero."""


@dataclass
class Arithmetic:
    """What a round's arithmetic takes, by the kernels' rates in the cache."""

    work: Work
    rates: Rates
    name: str = "its arithmetic"

    def result(self) -> None:
        """Return nothing: there are no weights."""

    def seconds(self) -> float:
        found, work = self.rates.measure(), self.work
        counts = {"row": work.rows, "non-zero": work.nonzeros, "entry": work.entries, "level": work.kept}
        return sum(seconds * counts[unit] for unit, seconds in found.items())


class Rates:
    """The kernels of a round of 200 workers with 16 rows each: arrays fit the cache, and calls cost little."""

    def __init__(self) -> None:
        """Do a round once, so that every kernel has its input."""
        workers, batch = 200, 16
        data = qsim.datasets.Synthetic(6_400, 1_000, A_ROW).load()
        shards = qsim.datasets.Contiguous().split(data, workers, qsim.Key(0))
        keys, n = qsim.Key(1).words(0, workers), data.features
        row_offsets, rows = np.empty(workers + 1, np.int64), np.empty(workers * batch, np.int64)
        draw = (keys, shards.order, shards.offsets, batch, None, row_offsets, rows)
        draw_with_replacement(*draw)
        weights, slopes = np.random.default_rng(0).normal(size=n).astype(np.float32), np.empty(rows.size, np.float32)
        columns, local = data.indices.view(np.uint32), shards.local.view(np.uint32)
        nonzeros = int((data.indptr[rows + 1] - data.indptr[rows]).sum())
        reading = (data.indptr, columns, data.values, rows, weights, slopes)
        margins(*reading)
        sloping = (slopes.copy(), data.labels, rows)
        sums, marks = np.zeros(n, np.float32), np.zeros(n // 64 + 1, np.uint64)
        offsets, index, value = (
            np.empty(workers + 1, np.int64),
            np.empty(nonzeros, np.int32),
            np.empty(nonzeros, np.float32),
        )
        adding = (data.indptr, local, data.values, rows, row_offsets, slopes, shards.support, shards.support_offsets)
        entries = scatter_touched(*adding, sums, marks, offsets, index, value)
        scale = np.empty(workers, np.float32)
        measuring = (offsets, index[:entries], value[:entries], scale)
        l2_scales(*measuring)
        sent = [np.empty(workers + 1, np.int64), np.empty(entries + 1, np.int32), np.empty(entries + 1, np.int32)]
        rounding = (n, *measuring, S, keys, *sent)
        kept = round_to_levels(*rounding)
        encode, _, decode = KERNELS[2]
        ends, packed = np.empty(workers + 1, np.int64), np.zeros(8 * entries + 64, np.uint8)
        writing = (*sent, n, S, 0, ends, packed)
        encode(*writing)
        came = [np.empty_like(array) for array in sent]
        values, total, touched = np.empty(kept, np.float32), np.zeros(n), np.zeros(n // 64 + 1, np.uint64)
        shares, out = np.full(workers, 1.0 / workers), (np.empty(n, np.int32), np.empty(n))

        def arrive() -> None:
            decode(packed, ends, 0, n, S, *came)
            levels_to_values(came[0], came[1], came[2], scale, n, S, values)
            add_rows(came[0], came[1][:kept], values, shares, total, touched)
            take_marked(total, touched, *out)

        self._calls: list[tuple[str, Timed]] = [
            ("row", Timed("draw", lambda: draw_with_replacement(*draw), rows.size)),
            ("row", Timed("slopes", lambda: logistic_slopes(*sloping), rows.size)),
            ("non-zero", Timed("margins", lambda: margins(*reading), nonzeros)),
            ("non-zero", Timed("sums", lambda: scatter_touched(*adding, sums, marks, offsets, index, value), nonzeros)),
            ("entry", Timed("norms", lambda: l2_scales(*measuring), entries)),
            ("entry", Timed("levels", lambda: round_to_levels(*rounding), entries)),
            ("level", Timed("encode", lambda: encode(*writing), kept)),
            ("level", Timed("decode, add", arrive, kept)),
        ]

    def measure(self) -> dict[str, float]:
        """Return the seconds for each unit of work, just now."""
        found: dict[str, float] = {}
        for unit, call in self._calls:
            found[unit] = found.get(unit, 0.0) + call.seconds(0.005)
        return found


def cases(quick: bool) -> Iterator[Case]:
    """Yield every point."""
    rates, loaded = Rates(), {}
    for workers, batch, features in dict.fromkeys(QUICK if quick else POINTS):
        if features not in loaded:
            loaded[features] = qsim.datasets.Synthetic(2_000 if quick else ROWS, features, A_ROW).load()
        data = loaded[features]
        work = _work(data, workers, batch)
        rounds = 4 if quick else int(min(max(0.1 / (2e-6 + 6e-9 * work.nonzeros), 4), 20_000))
        yield Case(
            f"{workers} workers, batch {batch}, d = {features}",
            "round",
            [
                LongMinusShort("qsim", _run(data, workers, batch), max(rounds // 10, 1), rounds),
                Arithmetic(work, rates),
            ],
            [Claim("qsim", "its arithmetic")],
        )


def _run(data: qsim.Dataset, workers: int, batch: int) -> Callable[[int], Any]:
    def run(rounds: int) -> Any:
        return qsim.simulate(
            data,
            objective=qsim.LogisticRegression(l2=1e-4),
            method=qsim.SGD(STEP, batch=batch),
            compressor=qsim.QSGD(S),
            codec=Varint(),
            workers=workers,
            rounds=rounds,
            evaluate_every=rounds,
            optimum=False,
            progress=False,
        ).weights

    return run


def _work(data: qsim.Dataset, workers: int, batch: int) -> Work:
    """Count the work of a round, on one draw."""
    shards = qsim.datasets.Contiguous().split(data, workers, qsim.Key(0))
    keys = qsim.Key(1).words(0, workers)
    row_offsets, rows = np.empty(workers + 1, np.int64), np.empty(workers * batch, np.int64)
    draw_with_replacement(keys, shards.order, shards.offsets, batch, None, row_offsets, rows)
    objective, weights = qsim.LogisticRegression(l2=0.0), Replica(np.zeros(data.features, np.float32))
    v = objective.update(Block(shards, 0, workers), Rows(rows, row_offsets), weights, 1.0)
    message = qsim.QSGD(S).compress(v, keys)
    assert isinstance(message, Levels)
    return Work(rows.size, int((data.indptr[rows + 1] - data.indptr[rows]).sum()), v.value.size, message.index.size)
