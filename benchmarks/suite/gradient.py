"""The full gradient of sparse logistic regression against SciPy in float32, on one thread and on two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsim
from benchmarks.case import Case, Claim, Timed
from qsim.batch import Vectors
from qsim.block import Block
from qsim.kernels.vectors import add_rows
from qsim.weights import Replica

WORKERS = 8
SHAPES = {
    "as text: 200,000 x 47,000, 73 a row": qsim.datasets.Synthetic(200_000, 47_000, 73, values="tfidf"),
    "as clicks: 300,000 x 10^6, 39 a row": qsim.datasets.Synthetic(300_000, 10**6, 39),
}
QUICK = {"small": qsim.datasets.Synthetic(2_000, 500, 10, values="tfidf")}


def cases(quick: bool) -> Iterator[Case]:
    """Yield each shape."""
    for title, source in (QUICK if quick else SHAPES).items():
        with ThreadPoolExecutor(2) as pool:
            yield _case(title, source.load(), pool)


def _case(title: str, data: qsim.Dataset, pool: ThreadPoolExecutor) -> Case:
    weights = Replica(np.random.default_rng(3).normal(0.0, 0.3, data.features).astype(np.float32))
    shards = qsim.datasets.Contiguous().split(data, WORKERS, qsim.Key(0))
    blocks = [Block(shards, worker, worker + 1) for worker in range(WORKERS)]
    objective = qsim.LogisticRegression(l2=0.0)
    matrix, labels = data.to_scipy().astype(np.float32), data.labels.astype(np.float32)

    def gradient(block: Block) -> Vectors:
        rows = block.all_rows()
        return objective.update(block, rows, weights, float(rows.index.size))  # a step as large as the sum needs

    def summed(parts: Iterable[Vectors]) -> NDArray[np.float64]:
        """Add the workers' gradients in their order, as the server does."""
        total, marks, one = np.zeros(data.features), np.zeros(-(-data.features // 64), np.uint64), np.ones(1)
        for part in parts:
            add_rows(part.offsets, part.index, part.value, one, total, marks)
        return total

    def scipy() -> NDArray[np.float32]:
        slopes = -labels / (1 + np.exp(labels * (matrix @ weights.vector)))
        return np.asarray(matrix.T @ slopes)

    def check(results: Mapping[str, Any]) -> None:
        one, two = results["qsim, one thread"], results["qsim, two threads"]
        assert np.array_equal(one, two), "threads changed the bits"
        assert np.abs(one - results["SciPy float32"]).max() < 1e-4 * np.abs(one).max()

    return Case(
        title,
        "gradient",
        [
            Timed("qsim, one thread", lambda: summed(map(gradient, blocks))),
            Timed("SciPy float32", scipy),
            Timed("qsim, two threads", lambda: summed(pool.map(gradient, blocks))),
        ],
        [
            Claim("qsim, one thread", "SciPy float32", 1.0),
            Claim("qsim, two threads", "SciPy float32", 1.5),
            Claim("qsim, two threads", "qsim, one thread"),
        ],
        check,
    )
