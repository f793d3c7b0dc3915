"""Rounds by hand, as authors write them for themselves: dense NumPy, sparse SciPy, PyTorch; and steps of one worker."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsim

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

    def sgd(self, compress: Compress, batch: int | None, rounds: int, step: float = STEP, seed: int = 0) -> Vector:
        """Run SGD with compressed gradients."""
        rng, w, bits = np.random.default_rng(seed), np.zeros(self.n), 0
        for _ in range(rounds):
            total = np.zeros(self.n)
            for i in range(WORKERS):
                sent, size = compress(self.gradient(i, self.batch(rng, batch), w), rng)
                total += sent
                bits += size
            w -= step * (total / WORKERS + L2 * w)
        return w

    def some(self, compress: Compress, batch: int | None, count: int, rounds: int) -> Vector:
        """Run SGD with `count` clients a round."""
        rng, w, bits = np.random.default_rng(0), np.zeros(self.n), 0
        for _ in range(rounds):
            total = np.zeros(self.n)
            for i in rng.choice(WORKERS, count, replace=False):
                sent, size = compress(self.gradient(i, self.batch(rng, batch), w), rng)
                total += sent
                bits += size
            w -= STEP * (total / count + L2 * w)
        return w

    def fastest(self, compress: Compress, batch: int | None, count: int, rounds: int) -> Vector:
        """Run SGD on a cluster whose workers are late by chance, and whose server takes the first `count` messages."""
        rng, w, bits, seconds = np.random.default_rng(0), np.zeros(self.n), 0, 0.0
        for _ in range(rounds):
            total, messages, sizes = np.zeros(self.n), [], np.zeros(WORKERS)
            for i in range(WORKERS):
                sent, sizes[i] = compress(self.gradient(i, self.batch(rng, batch), w), rng)
                messages.append(sent)
                bits += int(sizes[i])
            ready, free, came = rng.exponential(0.01, WORKERS), 0.0, np.zeros(WORKERS)
            for i in np.argsort(ready):  # one after the other over the server's link
                free = max(free, ready[i]) + sizes[i] / 1e9
                came[i] = free
            first = np.argsort(came)[:count]
            for i in first:
                total += messages[i]
            seconds += came[first[-1]]
            w -= STEP * (total / count + L2 * w)
        return w

    def compressed_down(self, compress: Compress, down: Compress, batch: int | None, rounds: int) -> Vector:
        """Run SGD whose workers get compressed differences of the weights."""
        rng, w, bits, known = np.random.default_rng(0), np.zeros(self.n), 0, np.zeros(self.n)
        for _ in range(rounds):
            sent, size = down(w - known, rng)
            known += sent
            bits += WORKERS * size
            total = np.zeros(self.n)
            for i in range(WORKERS):
                sent, size = compress(self.gradient(i, self.batch(rng, batch), known), rng)
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

    def marina(self, compress: Compress, p: float, rounds: int) -> Vector:
        """Run MARINA on all rows: compressed changes of gradients, and the gradients themselves with probability p."""
        rng, w, bits = np.random.default_rng(0), np.zeros(self.n), 0
        last, estimate = np.zeros((WORKERS, self.n)), np.zeros(self.n)
        for t in range(rounds):
            total, full = np.zeros(self.n), t == 0 or rng.random() < p
            for i in range(WORKERS):
                gradient = self.gradient(i, None, w)
                sent, size = (gradient, 32 * self.n) if full else compress(gradient - last[i], rng)
                last[i] = gradient
                total += sent
                bits += size
            estimate = total / WORKERS + (0.0 if full else estimate)
            w -= STEP * (estimate + L2 * w)
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


class SparseLoop(Loop):
    """The same rounds on SciPy's sparse rows."""

    def __init__(self, data: qsim.Dataset) -> None:
        order = np.argsort(data.labels, kind="stable")
        rows, labels = data.to_scipy().astype(np.float64)[order], data.labels[order].astype(np.float64)
        self.size, self.n = data.rows // WORKERS, data.features
        parts = [slice(i * self.size, (i + 1) * self.size) for i in range(WORKERS)]
        self._rows, self._labels = [rows[part] for part in parts], [labels[part] for part in parts]


class TorchLoop:
    """The same rounds in PyTorch: dense float32 tensors, on one thread."""

    def __init__(self, data: qsim.Dataset) -> None:
        """Take the rows sorted by label, as many for each worker. Raises ImportError without PyTorch."""
        import torch

        torch.set_num_threads(1)
        self._torch: Any = torch
        loop = Loop(data)
        self.size, self.n = loop.size, loop.n
        self._rows = [torch.from_numpy(x.astype(np.float32)) for x in loop._rows]
        self._labels = [torch.from_numpy(y.astype(np.float32)) for y in loop._labels]

    def sgd(self, batch: int, rounds: int, s: int = 4) -> Any:
        """Run SGD with gradients quantized to s levels of the norm."""
        torch = self._torch
        generator = torch.Generator().manual_seed(0)
        w, bits = torch.zeros(self.n), 0
        for _ in range(rounds):
            total = torch.zeros(self.n)
            for i in range(WORKERS):
                rows = torch.randint(self.size, (batch,), generator=generator)
                x, y = self._rows[i][rows], self._labels[i][rows]
                gradient = x.T @ (-y * torch.sigmoid(-y * (x @ w))) / batch
                norm = torch.linalg.vector_norm(gradient)
                t = gradient.abs() * (s / norm)
                level = t.floor()
                level += torch.rand(self.n, generator=generator) < t - level
                total += gradient.sign() * level * (norm / s)
                bits += 32 + 7 * int(torch.count_nonzero(level))
            w -= STEP * (total / WORKERS + L2 * w)
        return w


class Alone:
    """Steps of one worker on one row of NumPy each, all rows drawn at once."""

    def __init__(self, data: qsim.Dataset) -> None:
        """Take the rows densely."""
        self._rows, self._labels = data.to_scipy().astype(np.float64).toarray(), data.labels.tolist()

    def _begin(self, steps: int) -> tuple[np.random.Generator, list[int], Vector]:
        rng = np.random.default_rng(0)
        return rng, rng.integers(0, len(self._labels), steps).tolist(), np.zeros(self._rows.shape[1])

    def plain(self, steps: int) -> Vector:
        """Step along the gradient."""
        _, rows, w = self._begin(steps)
        for row in rows:
            x, y = self._rows[row], self._labels[row]
            w *= 1.0 - STEP * L2
            w += x * (STEP * y / (1.0 + math.exp(y * (x @ w))))
        return w

    def largest(self, steps: int, k: int = 5) -> Vector:
        """Step along the k largest magnitudes of gradient and memory."""
        _, rows, w = self._begin(steps)
        memory = np.zeros_like(w)
        for row in rows:
            x, y = self._rows[row], self._labels[row]
            w *= 1.0 - STEP * L2
            memory += x * (STEP * y / (1.0 + math.exp(y * (x @ w))))
            at = np.argpartition(np.abs(memory), -k)[-k:]
            w[at] += memory[at]
            memory[at] = 0.0
        return w

    def drawn(self, steps: int, k: int = 5) -> Vector:
        """Step along k coordinates of gradient and memory, drawn at random."""
        rng, rows, w = self._begin(steps)
        memory = np.zeros_like(w)
        for row in rows:
            x, y = self._rows[row], self._labels[row]
            w *= 1.0 - STEP * L2
            memory += x * (STEP * y / (1.0 + math.exp(y * (x @ w))))
            at = rng.choice(w.size, k, replace=False)
            w[at] += memory[at]
            memory[at] = 0.0
        return w
