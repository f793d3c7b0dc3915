"""The tasks: what a student's function is asked, and how its answers are judged.

Whoever judges has the answers alone, never the function: a notebook's own cell and `qsim mark`, which has them from
another process, judge by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qsim.lessons.answers import Answers, Calls, Failure
from qsim.lessons.judging import Array, Wrong, array_like, example, number_like, shown
from qsim.lessons.quantizers import QUANTIZER, quantizer_calls


@dataclass(frozen=True)
class Verdict:
    """What was found by one criterion.

    Parameters
    ----------
    what : str
        The criterion.
    points : int
        The points that it is worth.
    good : bool
        Whether the answers meet it.
    reason : str
        Why, in words and numbers.

    Examples
    --------
    >>> Verdict("unbiased", 2, True, "means of 4,000 messages are those of v").good
    True
    """

    what: str
    points: int
    good: bool
    reason: str


@dataclass(frozen=True)
class Criterion:
    """What is looked at, the points that it is worth, and the test, which says what was found or raises Wrong."""

    what: str
    points: int
    test: Callable[[Sequence[Calls], Answers], str]


@dataclass(frozen=True)
class Task:
    """A function that students write.

    The first criterion is about the form of the answers: if it is not met, the others are not looked at.

    Parameters
    ----------
    name : str
        The name of the function.
    signature : str
        How it is called.
    calls : callable
        Returns for a seed what it is asked.
    criteria : tuple of Criterion
        What its answers are held to.

    Examples
    --------
    >>> from qsim.lessons import TASKS
    >>> TASKS["bits"].signature, TASKS["bits"].points
    ('bits(levels, s)', 2)
    """

    name: str
    signature: str
    calls: Callable[[int], list[Calls]]
    criteria: tuple[Criterion, ...]

    @property
    def points(self) -> int:
        """The points of all criteria."""
        return sum(criterion.points for criterion in self.criteria)

    def judge(self, calls: Sequence[Calls], answers: Answers | Failure) -> list[Verdict]:
        """Return a verdict for every criterion."""
        if isinstance(answers, Failure):
            return [Verdict(one.what, one.points, False, f"`{self.name}` {answers.why}") for one in self.criteria]
        if [len(values) for values in answers] != [max(1, len(call.seeds)) for call in calls]:
            return self.judge(calls, Failure("did not answer every call"))
        found: list[Verdict] = []
        for place, criterion in enumerate(self.criteria):
            if place and not found[0].good:
                found.append(Verdict(criterion.what, criterion.points, False, f"not looked at before {found[0].what}"))
                continue
            try:
                with np.errstate(all="ignore"):  # answers may hold anything
                    good, reason = True, criterion.test(calls, answers)
            except Wrong as wrong:
                good, reason = False, str(wrong)
            found.append(Verdict(criterion.what, criterion.points, good, reason))
        return found


def _gradient_calls(seed: int) -> list[Calls]:
    rng = np.random.default_rng([seed, 1])
    calls = []
    for rows, n, size in ((20, 5, 1.0), (1, 3, 1.0), (40, 12, 0.3), (6, 4, 2000.0)):
        X = rng.normal(size=(rows, n)) * (rng.random((rows, n)) < 0.6)
        X[:, 0] += 1.0  # no row is zero
        w, y = size * rng.normal(size=n), rng.choice([-1.0, 1.0], rows)
        if size > 1:  # large margins of either sign
            y = np.sign(X @ w) * np.where(np.arange(rows) % 2, 1.0, -1.0)
        calls.append(Calls((w, X, y)))
    return calls


def _gradient(w: Array, X: Array, y: Array) -> Array:
    gradient: Array = -(X * (y / (1 + np.exp(y * (X @ w))))[:, None]).mean(axis=0)
    return gradient


def _gradient_value(calls: Sequence[Calls], answers: Answers) -> str:
    for call, (answer,) in zip(calls[:3], answers, strict=False):
        w, X, y = call.arguments
        right, found = _gradient(w, X, y), array_like("the gradient", answer, w.shape)
        if not np.allclose(found, right, rtol=1e-4, atol=1e-7):
            given = f"{X.shape[0]} rows of {w.size} features"
            if np.allclose(found, -right, rtol=1e-4, atol=1e-7):
                raise Wrong(f"the sign is wrong: this is minus the gradient, which points uphill ({given})")
            if np.allclose(found, right * len(y), rtol=1e-4, atol=1e-7):
                raise Wrong(f"this is the sum over the rows, not their mean ({given})")
            raise Wrong(f"for {given} it is {example(right)}, found {example(found)}")
    return "that of the mean loss, with as many and with few rows"


def _gradient_safe(calls: Sequence[Calls], answers: Answers) -> str:
    w, X, y = calls[3].arguments
    found, right = array_like("the gradient", answers[3][0], w.shape), _gradient(w, X, y)
    if not np.isfinite(found).all():
        raise Wrong("with margins of some thousands the exponential overflows, and the gradient is not a number")
    if not np.allclose(found, right, rtol=1e-4, atol=1e-7):
        raise Wrong(f"with margins of some thousands it is {example(right)}, found {example(found)}")
    return "no overflow with margins of some thousands"


def _average_calls(seed: int) -> list[Calls]:
    rng = np.random.default_rng([seed, 2])
    return [
        Calls((rng.exponential(size=W), rng.integers(-s, s + 1, (W, n)), s))
        for W, n, s in ((4, 6, 3), (1, 3, 1), (32, 16, 4))
    ]


def _average(calls: Sequence[Calls], answers: Answers) -> str:
    for call, (answer,) in zip(calls, answers, strict=True):
        norms, levels, s = call.arguments
        workers, n = levels.shape
        right, found = norms @ levels / (s * workers), array_like("the mean", answer, (n,))
        if not np.allclose(found, right, rtol=1e-4, atol=1e-9):
            if np.allclose(found, right * workers, rtol=1e-4, atol=1e-9):
                raise Wrong(f"this is the sum of the {workers} messages, not their mean")
            if np.allclose(found, right * s, rtol=1e-4, atol=1e-9):
                raise Wrong(f"{s} times too large: level l stands for l * norm / s")
            raise Wrong(f"of {workers} messages it is {example(right)}, found {example(found)}")
    return "the mean of what the messages stand for"


def _variance_calls(seed: int) -> list[Calls]:
    rng = np.random.default_rng([seed, 3])
    return [Calls((v,)) for v in (rng.normal(size=10), np.full(9, -2.0), np.eye(4)[1] * 3, rng.standard_t(3, size=50))]


def _variance(calls: Sequence[Calls], answers: Answers) -> str:
    for call, (answer,) in zip(calls, answers, strict=True):
        (v,) = call.arguments
        one, two = np.abs(v).sum(), np.sqrt(v @ v)
        right, found = one * two - two**2, number_like("the variance", answer)
        if not np.isclose(found, right, rtol=1e-4, atol=1e-7 * two**2):
            if np.isclose(found, one * two, rtol=1e-4):
                raise Wrong("this is E ||Q(v)||^2: ||v||^2 is still to be taken away")
            if np.isclose(found, (np.sqrt(v.size) - 1) * two**2, rtol=1e-4):
                raise Wrong("this is the bound (sqrt(n) - 1) ||v||^2 over all v; what this v has is asked for")
            if np.isclose(found * two**2, right, rtol=1e-4):
                raise Wrong("this is relative to ||v||^2; the variance itself is asked for")
            raise Wrong(f"of v = {example(v)} it is {shown(right)}, found {shown(found)}")
    return "||v||_1 ||v||_2 - ||v||_2^2"


def _levels_calls(seed: int, *, norms: bool) -> list[Calls]:
    rng = np.random.default_rng([seed, 4])
    calls = [Calls(_message(norms, 1.5, np.array([0, -3, 0, 1, 0, 0, 0, 2]), 3))]  # that of docs/wire-format.md
    for n, s, share in ((5, 1, 0.0), (30, 1, 0.3), (121, 4, 0.2), (121, 16, 0.9), (2000, 2, 0.005), (400, 5, 0.03)):
        levels = rng.integers(1, s + 1, n) * rng.choice([-1, 1], n) * (rng.random(n) < share)
        calls.append(Calls(_message(norms, float(np.float32(rng.exponential())), levels, s)))
    return calls


def _message(norms: bool, norm: float, levels: Array, s: int) -> tuple[object, ...]:
    return (norm, levels, s) if norms else (levels, s)


def packet(norm: float, levels: Array, s: int) -> bytes:
    """Return the bytes of a message on qsim's wire, by its codec `Varint`."""
    from qsim.batch import Levels
    from qsim.codecs import Varint

    return Varint().encode(Levels.single(levels, scale=norm, s=s))[0]


def _bits(calls: Sequence[Calls], answers: Answers) -> str:
    for call, (answer,) in zip(calls, answers, strict=True):
        levels, s = call.arguments
        right, found = 8 * len(packet(1.0, levels, s)), number_like("the number of bits", answer)
        if found != right:
            entries = np.count_nonzero(levels)
            about = (
                f"{entries} non-zeros of n = {levels.size} with s = {s} are sent in {right // 8} bytes, {right} bits"
            )
            if found == right - 32:
                raise Wrong(f"{about}, found {shown(found)}: the 32 bits of the norm are missing")
            if found == 32 * levels.size:
                raise Wrong(f"{about}, found {shown(found)}: that is a float32 for every coordinate")
            if found == right // 8:
                raise Wrong(f"{about}, found {shown(found)}: those are bytes")
            raise Wrong(f"{about}, found {shown(found)}")
    return f"those of the bytes that are sent, in {len(calls)} messages"


def _encode(calls: Sequence[Calls], answers: Answers) -> str:
    for call, (answer,) in zip(calls, answers, strict=True):
        right = packet(*call.arguments)
        if not isinstance(answer, bytes):
            raise Wrong(f"must return bytes, found {shown(answer)}")
        if answer != right:
            _, levels, s = call.arguments
            about = f"{np.count_nonzero(levels)} non-zeros of n = {levels.size} with s = {s}"
            if answer[:4] == right[3::-1] != right[:4]:
                raise Wrong(f"{about}: the bytes of the norm are in the wrong order, the lowest goes first")
            if len(answer) != len(right):
                raise Wrong(f"{about} are {len(right)} bytes, found {len(answer)}")
            place = next(place for place, (a, b) in enumerate(zip(answer, right, strict=True)) if a != b)
            raise Wrong(f"{about}: byte {place} is {right[place]:#04x}, found {answer[place]:#04x}")
    return f"byte for byte what qsim sends, in {len(calls)} messages"


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "gradient",
            "gradient(w, X, y)",
            _gradient_calls,
            (Criterion("the value", 2, _gradient_value), Criterion("large margins", 1, _gradient_safe)),
        ),
        Task(
            "simple",
            "simple(v, rng)",
            lambda seed: quantizer_calls(seed, None),
            tuple(Criterion(what, points, test) for (what, test), points in zip(QUANTIZER, (1, 2, 1), strict=True)),
        ),
        Task("simple_variance", "simple_variance(v)", _variance_calls, (Criterion("the value", 2, _variance),)),
        Task("average", "average(norms, levels, s)", _average_calls, (Criterion("the value", 2, _average),)),
        Task(
            "quantize",
            "quantize(v, s, rng)",
            lambda seed: quantizer_calls(seed, (3, 4, 1)),
            tuple(Criterion(what, points, test) for (what, test), points in zip(QUANTIZER, (1, 2, 2), strict=True)),
        ),
        Task(
            "bits",
            "bits(levels, s)",
            lambda seed: _levels_calls(seed, norms=False),
            (Criterion("the number", 2, _bits),),
        ),
        Task(
            "encode",
            "encode(norm, levels, s)",
            lambda seed: _levels_calls(seed, norms=True),
            (Criterion("the bytes", 2, _encode),),
        ),
    )
}
"""The tasks of the exercise, by the names of their functions."""
