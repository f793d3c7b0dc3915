"""QSGD of one dense vector, norm included, against NumPy as fast as it goes: float32, preallocated, nothing copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsim
from benchmarks.case import Case, Claim, Timed
from qsim.batch import Levels, Vectors

S = 4
NO_TORCH = "PyTorch is not installed: python -m pip install '.[peers]'"


def cases(quick: bool) -> Iterator[Case]:
    """Yield a vector in the cache and one beyond it, with 4 levels, and with 1: hardly any non-zeros."""
    for power in (4,) if quick else (6, 7):
        yield _case(power)
        yield _sparse(power)


def _case(power: int) -> Case:
    v = np.random.default_rng(1).standard_normal(10**power).astype(np.float32)
    batch, keys = Vectors.dense(v), qsim.Key(1).words(0, 1)
    compressor, level = qsim.QSGD(levels=S), np.empty(v.size, np.int8)
    torch = _tuned_torch(v)
    return Case(
        f"n = 10^{power}, s = {S}",
        "vector",
        [
            Timed("qsim", lambda: compressor.compress(batch, keys)),
            Timed("tuned NumPy", tuned_numpy(v)),
            *([] if torch is None else [Timed("tuned PyTorch", torch)]),
            Timed("two reads, one int8 write", lambda: (np.dot(v, v), np.dot(v, v), level.fill(1))),
        ],
        [
            Claim("qsim", "tuned NumPy", 12.0 if power == 6 else None),
            *([] if torch is None else [Claim("qsim", "tuned PyTorch", 20.0 if power == 6 else None)]),
            Claim("qsim", "two reads, one int8 write", {6: 0.3, 7: 0.65}.get(power)),
        ],
        lambda results: _check(results, v),
        () if torch is not None else (NO_TORCH,),
    )


def _sparse(power: int) -> Case:
    v = np.random.default_rng(2).standard_normal(10**power).astype(np.float32)
    batch, keys = Vectors.dense(v), qsim.Key(2).words(0, 1)
    compressor = qsim.QSGD(levels=1)
    kept = compressor.compress(batch, keys).nonzeros / v.size
    return Case(
        f"n = 10^{power}, s = 1, {100 * kept:.2g}% not zero",
        "vector",
        [Timed("qsim", lambda: compressor.compress(batch, keys)), Timed("np.dot", lambda: np.dot(v, v))],
        [Claim("qsim", "np.dot", 0.35 if power >= 6 else None)],
        lambda results: _near(results["qsim"].nonzeros, compressor.expected_nonzeros(v)),
    )


def _near(count: int, expected: float) -> None:
    assert abs(count - expected) < 7 * expected**0.5, (count, expected)


def _tuned_torch(v: NDArray[np.float32]) -> Callable[[], Any] | None:
    """Return a call that quantizes v to int8 levels in tensors that are made here; None without PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    x, t, floor, uniform = torch.from_numpy(v), *(torch.empty(v.size) for _ in range(3))
    up, level = torch.empty(v.size, dtype=torch.bool), torch.empty(v.size, dtype=torch.int8)

    def call() -> Any:
        torch.abs(x, out=t).mul_(S / torch.linalg.vector_norm(x))
        torch.floor(t, out=floor)
        t.sub_(floor)
        uniform.uniform_()
        torch.lt(uniform, t, out=up)
        level.copy_(floor.add_(up).copysign_(x))
        return level.numpy()

    return call


def tuned_numpy(v: NDArray[np.float32]) -> Callable[[], NDArray[np.int8]]:
    """Return a call that quantizes v to int8 levels in arrays that are made here."""
    generator = np.random.default_rng(0)
    t, floor, uniform = (np.empty_like(v) for _ in range(3))
    up, level = np.empty(v.size, bool), np.empty(v.size, np.int8)

    def call() -> NDArray[np.int8]:
        np.abs(v, out=t)
        np.multiply(t, np.float32(S) / np.sqrt(np.dot(v, v)), out=t)
        np.floor(t, out=floor)
        np.subtract(t, floor, out=t)
        generator.random(dtype=np.float32, out=uniform)
        np.less(uniform, t, out=up)
        np.add(floor, up, out=floor)
        np.copysign(floor, v, out=floor)
        np.copyto(level, floor, casting="unsafe")
        return level

    return call


def _check(results: Mapping[str, Any], v: NDArray[np.float32]) -> None:
    """Both round every coordinate to a level next to it, and keep as many as they should to 7 deviations."""
    message: Levels = results["qsim"]
    ours = np.zeros(v.size, np.int64)
    ours[message.index] = message.level
    t = v.astype(np.float64) * S / np.linalg.norm(v.astype(np.float64))
    expected = qsim.QSGD(levels=S).expected_nonzeros(v)
    for level in (ours, *(results[name] for name in ("tuned NumPy", "tuned PyTorch") if name in results)):
        assert np.abs(level - t).max() < 1 + 1e-6
        assert abs(np.count_nonzero(level) - expected) < 7 * expected**0.5
