"""One round of 64 workers x 32 rows with QSGD, against the version that researchers write.

That version is a pool of processes that own the data. Each worker's task gets the weights pickled, computes the dense
float32 gradient of its rows with SciPy, quantizes it in NumPy, and sends the dense float32 result back, pickled; the
parent averages. It counts no bits; qsim's round encodes, counts and decodes every byte.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

import qsim
from benchmarks.case import Case, Claim, Contestant, LongMinusShort, Timed
from qsim.block import Block, Rows
from qsim.weights import Replica

WORKERS, BATCH, S, STEP = 64, 32, 4, 0.5
DOWNLINKS = {"weights down": qsim.downlinks.DenseWeights(), "sum down": qsim.downlinks.SparseSum()}
SHAPES = (  # data, target, rounds of a long run
    (qsim.datasets.Synthetic(60_000, 10**6, 39), 200.0, 300),
    (qsim.datasets.Synthetic(60_000, 47_000, 73, values="tfidf"), 20.0, 600),
)
QUICK = ((qsim.datasets.Synthetic(3_000, 500, 10, values="tfidf"), 20.0, 10),)


def cases(quick: bool) -> Iterator[Case]:
    """Yield each shape."""
    for source, target, rounds in QUICK if quick else SHAPES:
        data = source.load()
        with multiprocessing.get_context("forkserver").Pool(2, _own, (data.to_scipy(), data.labels)) as pool:
            yield _case(data, target, rounds, pool)


def _case(data: qsim.Dataset, target: float, rounds: int, pool: Any) -> Case:
    shards = qsim.datasets.Contiguous().split(data, WORKERS, qsim.Key(0))
    generator = np.random.default_rng(0)
    weights = generator.normal(0.0, 0.1, data.features).astype(np.float32)

    def peer(levels: int | None = S, batches: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        drawn = generator.integers(shards.offsets[:-1, None], shards.offsets[1:, None], (WORKERS, BATCH))
        tasks = [(weights, rows, levels) for rows in (drawn if batches is None else batches)]
        total = np.zeros_like(weights)
        for gradient in pool.imap(_task, tasks):
            total += gradient
        return total / WORKERS

    def check(results: Mapping[str, Any]) -> None:
        """Without quantization, the same rows give the same update."""
        batches = generator.integers(shards.offsets[:-1, None], shards.offsets[1:, None], (WORKERS, BATCH))
        rows = Rows(shards.order[batches.ravel()], np.arange(0, WORKERS * BATCH + 1, BATCH))
        updates = qsim.LogisticRegression(l2=0.0).update(Block(shards, 0, WORKERS), rows, Replica(weights), 1.0)
        ours = np.bincount(updates.index, updates.value, data.features) / WORKERS  # type: ignore[arg-type]
        theirs = peer(None, batches)
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()

    contestants: list[Contestant] = [
        LongMinusShort(f"qsim, {name}", partial(_simulate, data, downlink), rounds // 10, rounds)
        for name, downlink in DOWNLINKS.items()
    ]
    return Case(
        f"{WORKERS} workers x {BATCH} rows, d = {data.features:,}",
        "round",
        [*contestants, Timed("pool that pickles", peer)],
        [Claim(contestant.name, "pool that pickles", target) for contestant in contestants],
        check,
    )


def _simulate(data: qsim.Dataset, downlink: qsim.downlinks.Downlink, rounds: int) -> qsim.Trace:
    return qsim.simulate(
        data,
        objective=qsim.LogisticRegression(l2=1e-4),
        method=qsim.SGD(step=qsim.steps.Constant(STEP), batch=BATCH),
        compressor=qsim.QSGD(levels=S),
        downlink=downlink,
        workers=WORKERS,
        partition=qsim.datasets.Contiguous(),
        rounds=rounds,
        evaluate_every=10**9,
        optimum=False,
        progress=False,
    )


_DATA: dict[str, Any] = {}  # of a process of the pool


def _own(matrix: csr_matrix, labels: NDArray[np.int8]) -> None:
    _DATA.update(matrix=matrix.astype(np.float32), labels=labels, generator=np.random.default_rng())


def _task(task: tuple[NDArray[np.float32], NDArray[np.int64], int | None]) -> NDArray[np.float32]:
    """Return the gradient over the rows, dense, quantized to so many levels (None: as it is)."""
    weights, rows, levels = task
    matrix, labels = _DATA["matrix"][rows], _DATA["labels"][rows].astype(np.float32)
    slopes = -labels / (1 + np.exp(labels * (matrix @ weights))) / rows.size
    gradient: NDArray[np.float32] = np.asarray(matrix.T @ slopes.astype(np.float32))
    if levels is None:
        return gradient
    norm = np.linalg.norm(gradient)
    t = np.abs(gradient) * (levels / norm)
    floor = np.floor(t)
    up = _DATA["generator"].random(t.size, dtype=np.float32) < t - floor
    quantized: NDArray[np.float32] = np.sign(gradient) * (floor + up) * np.float32(norm / levels)
    return quantized
