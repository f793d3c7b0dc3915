"""How a student's quantizer is judged: by its messages for several thousand seeds, against exact laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qsim.lessons.answers import Answers, Calls, Value
from qsim.lessons.judging import Array, Wrong, array_like, number_like, shown

DRAWS = 4000
"""The messages of a vector."""
ALARM = 1e-10
"""The chance that a correct quantizer is called wrong, by each criterion."""
_AGAIN = 20
_SEED = 1 << 32


def quantizer_calls(seed: int, levels: tuple[int, int, int] | None) -> list[Calls]:
    """Return what a quantizer is asked; without levels it has one, and is not told.

    Three vectors with many seeds each; the first of them again, with seeds that it had; zeros; a single non-zero; one
    whose numbers are levels.
    """
    rng = np.random.default_rng([seed, 5])
    heavy = rng.standard_t(3, size=40) * (np.arange(40) % 5 == 0)
    vectors = (rng.normal(size=16), heavy, np.full(9, -0.5))
    s = (1, 1, 1) if levels is None else levels
    first = seed * _SEED
    seeds = [tuple(range(first + place * DRAWS, first + (place + 1) * DRAWS)) for place in range(3)]
    asked = [(v, k, one) for v, k, one in zip(vectors, s, seeds, strict=True)]
    asked += [
        (vectors[0], s[0], seeds[0][:_AGAIN]),
        (np.zeros(5), s[0], seeds[0][:1]),
        (np.array([0.0, 0.0, -3.0]), s[0], seeds[0][:_AGAIN]),
        (np.array([3.0, 0.0, 4.0]), 1 if levels is None else 5, seeds[0][:_AGAIN]),
    ]
    return [Calls((v,) if levels is None else (v, k), one) for v, k, one in asked]


def _asked(call: Calls) -> tuple[Array, int]:
    v, *s = call.arguments
    return v, s[0] if s else 1


def _messages(call: Calls, values: Sequence[Value]) -> tuple[Array, Array]:
    """Return norms, of shape (draws,), and levels, of shape (draws, n); raises Wrong for what is no message."""
    v, _ = _asked(call)
    norms, levels = [], []
    for value in values:
        if not isinstance(value, tuple) or len(value) != 2:
            raise Wrong(f"must return two things, norm and levels, found {shown(value)}")
        norms.append(number_like("the norm", value[0]))
        levels.append(array_like("levels", value[1], v.shape))
    return np.array(norms), np.stack(levels)


def _form(calls: Sequence[Calls], answers: Answers) -> str:
    """Hold norms, levels and signs to what a message is, and the draws to the generator."""
    for call, values in zip(calls, answers, strict=True):
        _hold(*_asked(call), *_messages(call, values))
    again = _messages(calls[3], answers[3])
    if any(np.any(a[:_AGAIN] != b) for a, b in zip(_messages(calls[0], answers[0]), again, strict=True)):
        raise Wrong("two generators with the same seed make different messages: draw from `rng`, and from nothing else")
    return "norm and whole levels, zeros and signs kept, all randomness from `rng`"


def _hold(v: Array, s: int, norms: Array, levels: Array) -> None:
    norm = float(np.sqrt(v @ v))
    if not np.isfinite(levels).all() or not np.isfinite(norms).all():
        what = "of the zero vector" if norm == 0 else f"of a vector with norm {norm:.4g}"
        raise Wrong(f"the message {what} holds NaN or infinity" + (": 0/0 has to be kept away" if norm == 0 else ""))
    if not np.allclose(norms, norm, rtol=1e-4):
        wrong = norms[np.argmax(np.abs(norms - norm))]
        largest = ": that is the largest magnitude" if np.isclose(wrong, np.abs(v).max(), rtol=1e-4) else ""
        raise Wrong(f"the norm must be ||v|| = {norm:.4g}, found {wrong:.4g}{largest}")
    if np.any(levels != np.round(levels)):
        wrong = levels[levels != np.round(levels)][0]
        raise Wrong(f"levels must be whole numbers, found {wrong:.4g}: whoever receives them multiplies by norm / s")
    if np.any(beyond := (levels > s) | (levels < -s)):
        raise Wrong(f"levels must be from -{s} to {s}, found {levels[beyond][0]:g}")
    if np.any(levels[:, v == 0]):
        raise Wrong("a coordinate that is 0 must get level 0")
    if np.any(levels * v < 0):
        raise Wrong("a level has another sign than its coordinate")


def _laws(v: Array, s: int) -> tuple[Array, Array, float]:
    """Return s |v_i| / ||v||, the chance of its upper level, and the distance of two levels."""
    norm = float(np.sqrt(v @ v))
    position = s * np.abs(v) / norm
    return position, position - np.floor(position), norm / s


def _unbiased(calls: Sequence[Calls], answers: Answers) -> str:
    """Hold the mean of every coordinate to v, by Bernstein's inequality with the variance that it should have."""
    coordinates = sum(_asked(call)[0].size for call in calls[:3])
    worst = 0.0
    for call, values in zip(calls[:3], answers, strict=False):
        v, s = _asked(call)
        norms, levels = _messages(call, values)
        _, up, width = _laws(v, s)
        mean = (norms @ levels) / (s * len(values))
        logarithm = np.log(2 * coordinates / ALARM)
        variance = width**2 * up * (1 - up)
        root = np.sqrt((width * logarithm / 3) ** 2 + 2 * len(values) * variance * logarithm)
        allowed = (width * logarithm / 3 + root) / len(values) * np.any(v) + 1e-3 * np.abs(v)  # norms may be float32
        far = np.abs(mean - v) / np.where(v == 0, 1, allowed)
        place = int(np.argmax(far))
        if far[place] > 1:
            same = ", and the same for every seed: nothing is drawn" if np.ptp(levels, axis=0).max() == 0 else ""
            raise Wrong(
                f"biased: at v_i = {v[place]:.4g} (||v|| = {s * width:.4g}, s = {s}) the mean of {len(values):,}"
                f" messages is {mean[place]:.4g}{same}; it may be off by {allowed[place]:.2g}"
            )
        worst = max(worst, 2 * float(np.max(allowed) / width))
    return f"means of {DRAWS:,} messages are v; a bias of {worst:.2g} norm/s would have been seen in any coordinate"


def _variance(calls: Sequence[Calls], answers: Answers) -> str:
    """Hold levels to the two neighbours of a value, and the mean squared error to what rounding to them has.

    The squared error of a message lies between 0 and a bound, so its variance is at most mean times (bound - mean),
    whether coordinates are drawn together or not (Bhatia and Davis, 2000); then by Bernstein's inequality.
    """
    seen = []
    for call, values in zip(calls, answers, strict=True):
        v, s = _asked(call)
        if not np.any(v):
            continue
        norms, levels = _messages(call, values)
        position, up, width = _laws(v, s)
        exact = width**2 * float((up * (1 - up)).sum())
        error = ((norms[:, None] * levels / s - v) ** 2).sum(axis=1)
        measured = float(error.mean())
        strange = (np.abs(levels) < np.floor(position - 1e-6)) | (np.abs(levels) > np.ceil(position + 1e-6))
        if np.any(strange):
            draw, place = np.argwhere(strange)[0]
            times = f", {measured / exact:.3g} times that of the two neighbours" if exact > 0 else ""
            raise Wrong(
                f"the variance is {measured:.3g}{times}: s |v_i| / ||v|| = {position[place]:.3g} (s = {s}) was rounded"
                f" to {abs(levels[draw, place]):g}, which is no neighbour of it"
            )
        bound = width**2 * float((np.maximum(up, 1 - up) ** 2).sum())
        logarithm = np.log(2 * len(calls) / ALARM) / len(values)
        third = bound * logarithm / 3
        allowed = third + np.sqrt(third**2 + 2 * exact * (bound - exact) * logarithm)
        if abs(measured - exact) > allowed + 1e-3 * exact:
            raise Wrong(f"the variance is {measured:.3g}, and {exact:.3g} is right (n = {v.size}, s = {s})")
        if len(values) == DRAWS:
            square = float(v @ v)
            seen.append(f"{measured / square:.3g} (exact {exact / square:.3g}, bound {_omega(v.size, s):.3g})")
    return f"over ||v||^2 it is {'; '.join(seen)}"


def _omega(n: int, s: int) -> float:
    """Return the constant of QSGD's Lemma 3.1 (Alistarh et al., 2017), min(n/s^2, sqrt(n)/s)."""
    return float(min(n / s**2, np.sqrt(n) / s))


QUANTIZER: tuple[tuple[str, Callable[[Sequence[Calls], Answers], str]], ...] = (
    ("the form of the message", _form),
    ("unbiased", _unbiased),
    ("the variance", _variance),
)
"""The criteria of a quantizer."""
