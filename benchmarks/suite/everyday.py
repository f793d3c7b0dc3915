"""The everyday round: Adult, 20 workers, against the dense NumPy loop that authors write for themselves.

The loop computes in float64, draws by NumPy's generator and counts bits by a formula; it encodes nothing. qsim encodes,
decodes and counts every packet. One thread each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsim
from benchmarks.case import Case, Claim, LongMinusShort

WORKERS, L2, STEP = 20, 1.57e-4, 0.01
Vector = NDArray[np.float64]
Compress = Callable[[Vector, np.random.Generator], tuple[Vector, int]]


class Loop:
    """Rounds of dense NumPy on the rows of each worker."""

    def __init__(self, data: qsim.Dataset) -> None:
        """Take the rows sorted by label, as many for each worker."""
        order = np.argsort(data.labels, kind="stable")
        rows, labels = data.to_scipy().astype(np.float64)[order].toarray(), data.labels[order].astype(np.float64)
        self.size, self.n = data.rows // WORKERS, data.features
        parts = [slice(i * self.size, (i + 1) * self.size) for i in range(WORKERS)]
        self._rows, self._labels = (
            [np.ascontiguousarray(rows[part]) for part in parts],
            [labels[part] for part in parts],
        )

    def gradient(self, worker: int, rows: NDArray[np.int64] | None, w: Vector) -> Vector:
        """Return the mean gradient of a worker's rows; None: of all."""
        x, y = self._rows[worker], self._labels[worker]
        if rows is not None:
            x, y = x[rows], y[rows]
        gradient: Vector = x.T @ (-y / (1 + np.exp(y * (x @ w)))) / y.size
        return gradient

    def batch(self, rng: np.random.Generator, batch: int | None) -> NDArray[np.int64] | None:
        """Return the rows of a draw; None: all."""
        return None if batch is None else rng.integers(0, self.size, batch)

    def sgd(self, compress: Compress, batch: int | None, rounds: int) -> Vector:
        """Run SGD with compressed gradients."""
        rng, w, bits = np.random.default_rng(0), np.zeros(self.n), 0
        for _ in range(rounds):
            total = np.zeros(self.n)
            for i in range(WORKERS):
                sent, size = compress(self.gradient(i, self.batch(rng, batch), w), rng)
                total += sent
                bits += size
            w -= STEP * (total / WORKERS + L2 * w)
        return w

    def feedback(self, compress: Compress, batch: int | None, rounds: int) -> Vector:
        """Run SGD with error feedback."""
        rng, w, bits, errors = np.random.default_rng(0), np.zeros(self.n), 0, np.zeros((WORKERS, self.n))
        for _ in range(rounds):
            total = np.zeros(self.n)
            for i in range(WORKERS):
                errors[i] += STEP * self.gradient(i, self.batch(rng, batch), w)
                sent, size = compress(errors[i], rng)
                errors[i] -= sent
                total += sent
                bits += size
            w -= total / WORKERS + STEP * L2 * w
        return w

    def shifted(self, compress: Compress, shift: float, diana: bool, batch: int | None, rounds: int) -> Vector:
        """Run DIANA, or EF21, whose server steps along the mean of the shifts."""
        rng, w, bits = np.random.default_rng(0), np.zeros(self.n), 0
        shifts, mean = np.zeros((WORKERS, self.n)), np.zeros(self.n)
        for _ in range(rounds):
            total = np.zeros(self.n)
            for i in range(WORKERS):
                sent, size = compress(self.gradient(i, self.batch(rng, batch), w) - shifts[i], rng)
                shifts[i] += shift * sent
                total += sent
                bits += size
            total /= WORKERS
            w -= STEP * (mean + (total if diana else shift * total) + L2 * w)
            mean += shift * total
        return w


def qsgd(v: Vector, rng: np.random.Generator, s: int = 4) -> tuple[Vector, int]:
    """Quantize to s levels of the norm."""
    norm = np.linalg.norm(v)
    if norm == 0:
        return v, 32
    t = np.abs(v) * (s / norm)
    level = np.floor(t)
    level += rng.random(v.size) < t - level
    return np.sign(v) * level * (norm / s), 32 + 7 * int(np.count_nonzero(level))


def randk(v: Vector, rng: np.random.Generator, k: int = 2) -> tuple[Vector, int]:
    """Keep k coordinates at random."""
    sent, at = np.zeros_like(v), rng.choice(v.size, k, replace=False)
    sent[at] = v[at] * (v.size / k)
    return sent, 39 * k


def topk(v: Vector, rng: np.random.Generator, k: int = 2) -> tuple[Vector, int]:
    """Keep the k largest magnitudes."""
    sent, at = np.zeros_like(v), np.argpartition(np.abs(v), -k)[-k:]
    sent[at] = v[at]
    return sent, 39 * k


def natural(v: Vector, rng: np.random.Generator) -> tuple[Vector, int]:
    """Round to powers of two."""
    mantissa, exponent = np.frexp(v)
    up = rng.random(v.size) < 2 * np.abs(mantissa) - 1
    return np.ldexp(np.sign(mantissa), exponent - 1 + up), 9 * int(np.count_nonzero(v))


def cases(quick: bool) -> Iterator[Case]:
    """Yield the settings of most papers' figures, from batches of one row to all rows."""
    data = qsim.datasets.load("adult")
    loop, n = Loop(data), data.features
    sgd, diana, ef21 = qsim.SGD, qsim.DIANA, qsim.EF21
    varint = qsim.codecs.Varint()
    plain = {  # compressor, codec, by hand
        "QSGD(4)": (qsim.QSGD(4), varint, qsgd),
        "Rand-2": (qsim.RandK(2), None, randk),
        "Top-2": (qsim.TopK(2), None, topk),
        "natural compression": (qsim.compressors.NaturalCompression(), varint, natural),
    }
    for batch, target in ((1, 40.0), (16, 15.0), (162, 7.0)):
        for name, (compressor, codec, by_hand) in plain.items():
            run = _run(data, sgd(STEP, batch=batch), compressor, codec)
            yield _case(f"SGD, {name}, batch {batch}", run, partial(loop.sgd, by_hand, batch), target, quick)
        target = {1: 30.0, 16: 12.0, 162: 5.0}[batch]
        omega = n / 2 - 1
        run = _run(data, diana(STEP, shift=1 / (1 + omega), batch=batch), qsim.RandK(2), None)
        peer = partial(loop.shifted, randk, 1 / (1 + omega), True, batch)
        yield _case(f"DIANA, Rand-2, batch {batch}", run, peer, target, quick)
        run = _run(data, ef21(STEP, batch=batch), qsim.TopK(2), None)
        yield _case(f"EF21, Top-2, batch {batch}", run, partial(loop.shifted, topk, 1.0, False, batch), target, quick)
        run = _run(data, sgd(STEP, batch=batch), qsim.ErrorFeedback(qsim.TopK(2)), None)
        yield _case(
            f"SGD, error feedback, Top-2, batch {batch}", run, partial(loop.feedback, topk, batch), target, quick
        )
    run = _run(data, ef21(STEP), qsim.TopK(2), None)
    yield _case("EF21, Top-2, all rows", run, partial(loop.shifted, topk, 1.0, False, None), 6.0, quick, 100)
    run = _run(data, qsim.GradientDescent(STEP), qsim.QSGD(4), varint)
    yield _case("gradient descent, QSGD(4), all rows", run, partial(loop.sgd, qsgd, None), 6.0, quick, 100)


def _run(data: qsim.Dataset, method: Any, compressor: Any, codec: Any) -> Callable[[int], NDArray[np.float64]]:
    def simulate(rounds: int) -> NDArray[np.float64]:
        return qsim.simulate(
            data,
            objective=qsim.LogisticRegression(l2=L2),
            method=method,
            compressor=compressor,
            codec=codec,
            workers=WORKERS,
            partition=qsim.datasets.ByLabel(),
            rounds=rounds,
            evaluate_every=rounds,
            optimum=False,
            progress=False,
        ).weights

    return simulate


def _case(
    title: str, ours: Callable[[int], Any], peer: Callable[[int], Any], target: float, quick: bool, rounds: int = 300
) -> Case:
    short = 2 if quick else 10
    long = 6 if quick else 10 + rounds
    contestants = [
        LongMinusShort("qsim", ours, short, short + (long - short) * (1 if quick else 10)),
        LongMinusShort("NumPy loop", peer, short, long),
    ]
    return Case(f"{title}: Adult, {WORKERS} workers", "round", contestants, [Claim("qsim", "NumPy loop", target)])
