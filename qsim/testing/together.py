"""The check of compressors whose workers draw together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.testing.bounds import FOUND, excess
from qsim.testing.compressor_under_test import CompressorUnderTest
from qsim.testing.gallery import gallery
from qsim.testing.pools import percent
from qsim.testing.report import Finding, not_made

_KEYS, _VECTORS = 28, 29  # each part of the check has its own keys
_CHUNK = 2**20  # numbers held at once


def together(subject: CompressorUnderTest) -> Finding:
    """Check E ||mean of (Q_i(v_i) - v_i)||^2 <= A mean of ||v_i||^2 - B ||mean of v_i||^2, by numbered words.

    For vectors that are equal, that cancel, that have nothing to do with each other, and of which one is not zero. A
    and B are those of `joint_variance`, or else omega/W and 0. The error is never below 0, so a bet (`Wager`) on one
    above the bound is safe.
    """
    compressor, n = subject.compressor, subject.n
    workers, omega = compressor.correlated, compressor.variance(subject.n)
    if workers is None:
        return not_made("workers draw for themselves")
    joint = compressor.joint_variance(n) or (None if omega is None else (omega / workers, 0.0))
    if joint is None:
        return not_made("nothing is claimed about the error of a mean")
    tests = []
    for number, (name, rows) in enumerate(_vectors(subject, workers).items()):
        exact = rows.astype(np.float64)
        square, mean = float((exact**2).sum()) / workers, exact.mean(axis=0)
        bound = max(0.0, joint[0] * square - joint[1] * float(mean @ mean))
        allowed = bound * (1 + 2.0**-20) + 2.0**-40 * square

        def draw(count: int, part: int, rows: Any = rows, number: int = number, allowed: float = allowed) -> Any:
            return _errors(subject, rows, count, number, part) / allowed

        strain, found, seen = excess(draw, max(64, subject.count(n) // workers))
        tests.append((strain, name, bound / square, found * allowed / square, seen * allowed / square))
    strain, name, claimed, measured, seen = max(tests)
    text = f"{workers} workers, {name}: claimed {claimed:.4g} of the mean of ||v_i||^2, found {measured:.4g};"
    return Finding(strain < 1, f"{text} an excess of {percent(seen)} of it {FOUND}", claimed, measured)


def _vectors(subject: CompressorUnderTest, workers: int) -> dict[str, NDArray[np.float32]]:
    shape, random = (workers, subject.n), subject.key.fold(_VECTORS).generator()
    usual = gallery(subject.n, subject.key)["gaussian"]
    signs = np.where(np.arange(workers) % 2, np.float32(-1), np.float32(1))
    single = np.zeros(shape, np.float32)
    single[workers // 2] = usual
    return {
        "equal vectors": np.tile(usual, (workers, 1)),
        "vectors that cancel": signs[:, None] * usual,
        "other vectors": random.standard_normal(shape).astype(np.float32),
        "one alone": single,
    }


def _errors(subject: CompressorUnderTest, rows: NDArray[np.float32], count: int, *parts: int) -> NDArray[np.float64]:
    """Return ||mean of (Q_i(v_i) - v_i)||^2 for some draws."""
    key, found = subject.key.fold(_KEYS, *parts), []
    most = max(1, _CHUNK // rows.size)
    for low in range(0, count, most):
        draws = range(low, min(low + most, count))
        words = np.concatenate([key.fold(draw).numbered.words(0, len(rows)) for draw in draws])
        errors = subject.sent(np.tile(rows, (len(draws), 1)), words).reshape(len(draws), *rows.shape) - rows
        found.append((errors.mean(axis=1) ** 2).sum(axis=1))
    return np.concatenate(found)
