"""Methods as plain loops in dense NumPy: a small run, its gradients over rows that it draws itself, and compressors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import qsim
from qsim.datasets import ByLabel, Synthetic
from qsim.keys import Key, Purpose
from qsim.methods import GradientDescent, Method

N, WORKERS, L2, STEP, ROUNDS = 20, 6, 0.1, 0.3, 25
DATA = Synthetic(
    rows=120, features=N, nonzeros_per_row=5, noise=0.2, seed=3, values="tfidf"
)  # so that there are no ties
RUN = qsim.Run(
    DATA,
    qsim.LogisticRegression(l2=L2),
    GradientDescent(0.5),
    workers=WORKERS,
    partition=ByLabel(),
    start=qsim.starts.Uniform(0.5),
    rounds=ROUNDS,
)


@qsim.option
class Half(qsim.compressors.Compressor):
    """Half of a vector: no random numbers, so that a loop can follow; claims the variance of an unbiased one."""

    emits = qsim.batch.Floats

    def quantize(self, v, key):
        return qsim.batch.Floats.single(np.float32(0.5) * v)

    def variance(self, n):
        return 0.5


def half(v: np.ndarray) -> np.ndarray:
    return 0.5 * v


def top(v: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(v)
    for row, out in zip(v, kept, strict=True):
        largest = np.argsort(-np.abs(row), kind="stable")[:4]
        out[largest] = row[largest]
    return kept


class Loop:
    """The run in dense float64: gradients of the workers over rows that their own sampling draws."""

    def __init__(self, run: qsim.Run) -> None:
        data, key = run.load(), Key(run.seed)
        self.x, self.y = data.to_scipy().toarray().astype(float), data.labels.astype(float)
        self.shards = run.partition.split(data, WORKERS, key.fold(Purpose.PARTITION))
        self.block = qsim.block.Block(self.shards, 0, WORKERS)
        self.rows, self.coins = key.fold(Purpose.DATA), key.fold(Purpose.METHOD)
        self.share = self.shards.weights
        self.all = self.block.all_rows()
        self.clients, self.who = run.clients, key.fold(Purpose.CLIENTS)
        self.start = run.start.weights(N, key.fold(Purpose.START))

    def present(self, t: int) -> np.ndarray | None:
        """Who takes part in a round."""
        return self.clients.draw(self.who.fold(t), WORKERS)

    def gradients(self, w: np.ndarray, rows: qsim.block.Rows | None = None) -> np.ndarray:
        """The gradients of the losses at common weights, or at those of each worker."""
        rows, found, w = rows or self.all, np.zeros((WORKERS, N)), np.broadcast_to(w, (WORKERS, N))
        for i in range(WORKERS):
            mine = rows.index[rows.offsets[i] : rows.offsets[i + 1]]
            slope = -self.y[mine] / (1 + np.exp(self.y[mine] * (self.x[mine] @ w[i])))
            found[i] = self.x[mine].T @ slope / max(mine.size, 1)
        return found


def weights(method: Method, compressor: qsim.compressors.Compressor, **changes) -> np.ndarray:
    """The weights that a run ends with."""
    return qsim.simulate(replace(RUN, method=method, compressor=compressor, **changes)).weights
