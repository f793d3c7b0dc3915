"""The check of three-point compressors, which follow the shifts of EF21."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Memory, Support, Vectors, dense_offsets
from qsim.testing.bounds import FOUND, excess
from qsim.testing.compressor_under_test import CompressorUnderTest
from qsim.testing.gallery import gallery
from qsim.testing.pools import percent
from qsim.testing.report import Finding, not_made, refuse_unless

_KEYS, _VECTORS = 30, 31  # each part of the check has its own keys
_CHUNK = 2**20  # numbers held at once


def three_points(subject: CompressorUnderTest) -> Finding:
    """Check E ||Q(x - h) - (x - h)||^2 <= (1 - A) ||y - h||^2 + B ||x - y||^2 in the second of two rounds.

    The first is of a usual vector, of which its message leaves y - h. Then the gradient stays, moves a little, far, or
    in one coordinate. The error is never below 0, so a bet (`excess`) on one above the bound is safe.
    """
    compressor, n = subject.compressor, subject.n
    constants = compressor.three_point(n)
    if constants is None:
        return not_made("it is no three-point compressor")
    a, b = constants
    refuse_unless(0 < a <= 1 and 0 <= b < np.inf, f"three_point({n}) is {constants}: 0 < A <= 1 and B >= 0 are needed")
    refuse_unless(compressor.memory(Support(1, dense_offsets(1, 1), None)) is not None, "it has no memory")
    first, tests = gallery(n, subject.key)["gaussian"], []
    for number, (name, change) in enumerate(_changes(n, subject).items()):

        def draw(count: int, part: int, change: Any = change, number: int = number) -> Any:
            return _ratios(subject, first, change, (a, b), count, number, part)

        strain, found, seen = excess(draw, max(64, subject.count(n)))
        tests.append((strain, name, found, seen))
    strain, name, found, seen = max(tests)
    text = f"the gradient {name}: A = {a:.4g}, B = {b:.4g}, found {found:.4g} of the bound;"
    return Finding(strain < 1, f"{text} an excess of {percent(seen)} of it {FOUND}", 1.0, found)


def _changes(n: int, subject: CompressorUnderTest) -> dict[str, NDArray[np.float32]]:
    usual, eight = subject.key.fold(_VECTORS).generator().standard_normal(n).astype(np.float32), np.float32(8)
    single = np.zeros(n, np.float32)
    single[n // 2] = 4 * n**0.5
    return {
        "stays": np.zeros(n, np.float32),
        "moves a little": usual / eight,
        "moves far": eight * usual,
        "moves in one coordinate": single,
        "moves alike in all": np.ones(n, np.float32),
    }


def _ratios(
    subject: CompressorUnderTest,
    first: NDArray[np.float32],
    change: NDArray[np.float32],
    constants: tuple[float, float],
    count: int,
    *parts: int,
) -> NDArray[np.float64]:
    """Return the errors of the second of two rounds, in parts of the bound."""
    n, found, (a, b) = first.size, [], constants
    moved = float((change.astype(np.float64) ** 2).sum())
    for low in range(0, count, most := max(1, _CHUNK // n)):
        rows = min(most, count - low)
        words = subject.words(2 * rows, _KEYS, *parts, low)
        memory = subject.compressor.memory(Support(n, dense_offsets(rows, n), None))
        assert memory is not None
        v = np.tile(first, (rows, 1))
        left = v - _sent(subject, v, words[:rows], memory)
        v = (left + change).astype(np.float32)
        errors = ((_sent(subject, v, words[rows:], memory) - v) ** 2).sum(axis=1)
        bound = (1 - a) * (left**2).sum(axis=1) + b * moved
        rounding = 2.0**-40 * (v.astype(np.float64) ** 2).sum(axis=1)
        with np.errstate(divide="ignore"):
            ratio = np.divide(errors, bound * (1 + 2.0**-20) + rounding, out=np.zeros(rows), where=errors > 0)
        found.append(ratio)
    return np.concatenate(found)


def _sent(
    subject: CompressorUnderTest, v: NDArray[np.float32], words: NDArray[np.uint64], memory: Memory
) -> NDArray[np.float64]:
    """Return what arrives of a round, which the memory is told."""
    arrived = subject.compressor.decompress(subject.compressor.compress(Vectors.dense(v), words, memory), words)
    subject.compressor.on_delivered(memory, arrived)
    return arrived.to_dense().astype(np.float64)
