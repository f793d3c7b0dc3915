"""Checks of an objective's functions: finite, pure, and each the derivative of the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from qsim.batch import inner
from qsim.datasets import DataError
from qsim.objectives import MarginModel, NoOptimumError, Objective
from qsim.objectives.derivative import Comparison, compared, where
from qsim.objectives.products import margins_of
from qsim.testing.cases import KINDS, Case, ObjectiveUnderTest, Workers, made
from qsim.testing.parts import copied
from qsim.testing.report import Finding, not_made, refuse_unless
from qsim.testing.subprocess_call import elsewhere
from qsim.weights import Replica, Weights

SCALES = (0.1, 1.0, 10.0, 1000.0)
"""Sizes of margins at which derivatives are checked."""
_LARGE = 1e4
_ALLOWED = 1e-6  # part of a derivative that differences may be off by: they come to about 1e-9
_ROUGH = 1e-10  # relative size of steps in a function of float64, ten thousand times its rounding


def labels(subject: ObjectiveUnderTest) -> Finding:
    """Check that labels of the kinds in `takes` are taken, and others refused."""
    takes = subject.objective.takes
    refuse_unless(
        isinstance(takes, tuple) and len(takes) > 0 and set(takes) <= set(KINDS),
        f'takes must be a tuple of {", ".join(map(repr, KINDS))}, such as ("signs",); found {takes!r}',
    )
    width = subject.objective.width
    refuse_unless(isinstance(width, int) and width >= 1, f"width must be a whole number of at least 1, found {width!r}")
    cases = subject.cases
    for kind in set(KINDS) - set(takes):
        data = next(made(np.arange(48) % 2 if kind == "classes" else np.ones(48), kind, subject.key))
        try:
            subject.objective.design(data)
        except DataError:
            continue
        return Finding(False, f"{kind} are not in takes = {takes!r}, but design takes them: begin it with super()")
    return Finding(True, f"{' and '.join(takes)}, on {len(cases)} data sets of {cases[0].data.rows} rows")


def finite(subject: ObjectiveUnderTest) -> Finding:
    """Check that all functions are finite at margins up to 10^4, unless they grow as exponentials do."""
    grows = []
    for case in subject.cases:
        workers, u = Workers(subject.objective, case.shards()), case.direction(1)
        functions: dict[str, tuple[Callable[[NDArray[np.float64]], Any], float]] = {
            "the value": (case.value, 1e100),
            "the gradient": (case.gradient, 1e100),
            "the worker's update in float32": (partial(_updates, workers), 1e20),
            "the worker's loss": (partial(_losses, workers), 1e20),
        }
        for name, (function, most) in functions.items():
            refuse_unless(np.isfinite(function(0 * u)).all(), f"{name} is not finite for weights of zero ({case})")
            for sign in (1.0, -1.0):
                low, high = 2.0**-10, _LARGE
                if np.isfinite(function(sign * high * u)).all():
                    continue
                while high > 1.01 * low:
                    middle = (low * high) ** 0.5
                    low, high = (middle, high) if np.isfinite(function(sign * middle * u)).all() else (low, middle)
                size = float(np.abs(function(sign * low * u)).max())
                refuse_unless(
                    size > most,
                    f"{name} is not finite at margins of {high:.4g} ({case}), though it is {size:.3g} at {low:.4g}: a"
                    " step on the way overflows, such as exp of a large number",
                )
                grows.append(f"{name} up to margins of {low:.3g}")
    return Finding(True, "; ".join(sorted(set(grows))) or f"up to margins of {_LARGE:g}")


def pure(subject: ObjectiveUnderTest) -> Finding:
    """Check that data and weights alone make the numbers, and are left as they are."""
    objective = subject.objective
    for case in subject.cases:
        w, other = case.point(1.0), case.point(1.0, 1)
        kept = w.copy(), case.data.labels.copy()
        arguments = (case.value, case.gradient)
        first = [np.asarray(f(w)).tobytes() for f in arguments]
        for f in arguments:
            f(other)
        case.of(np.arange(3)).gradient(other)
        again = [np.asarray(f(w)).tobytes() for f in arguments]
        refuse_unless(first == again, f"a second call at the same weights gives other numbers ({case})")
        refuse_unless(np.array_equal(kept[0], w), "the weights are written to")
        refuse_unless(np.array_equal(kept[1], case.data.labels), "the labels are written to")
        value, gradient = objective.value_and_gradient(w, case.data)
        refuse_unless(np.ndim(value) == 0, f"the value must be a number, found shape {np.shape(value)}")
        refuse_unless(
            [np.asarray(value).tobytes(), gradient.tobytes()] == first, "value and gradient alone are other numbers"
        )
        if isinstance(objective, MarginModel):
            _leave_margins(objective, case)
    return Finding(True, f"{len(subject.cases)} data sets, twice")


def _leave_margins(objective: MarginModel, case: Case) -> None:
    z = margins_of(case.design, case.point(1.0), objective.width)
    for name in ("loss", "slope", "margin_hvp"):
        given = (z.copy(), *([z.copy()] if name == "margin_hvp" else []), case.design.labels.copy())
        before = [array.copy() for array in given]
        try:
            getattr(objective, name)(*given)
        except NotImplementedError:
            continue
        for array, kept in zip(given, before, strict=True):
            refuse_unless(np.array_equal(array, kept), f"{name} writes to the arrays that it is given: copy them")


def in_float64(subject: ObjectiveUnderTest) -> Finding:
    """Check that value and gradient have no steps as those of float32: second differences over 10^-6."""
    worst = 0.0
    for case in subject.cases:
        w, v = case.point(1.0), case.direction(2)
        for name, function in (("value", case.value), ("gradient", case.gradient)):
            rough, size = list[float](), 1e-300
            for t in np.linspace(0.0, 1.0, 16):
                parts = [np.asarray(function(w + (t + s * 1e-6) * v)) for s in (-1, 0, 1)]
                size = max(size, float(np.linalg.norm(parts[1])))
                rough.append(float(np.linalg.norm(parts[0] - 2 * parts[1] + parts[2])))
            step = float(np.sort(rough)[11]) / size  # a few may lie at kinks
            refuse_unless(step < _ROUGH, f"the {name} goes in steps of {step:.1g} of its size: compute it in float64")
            worst = max(worst, step)
    return Finding(True, f"steps of {worst:.1g} of their size", _ROUGH, worst)


def gradient(subject: ObjectiveUnderTest) -> Finding:
    """Check the gradient against differences of the value, in three directions at weights of four sizes."""
    worst, most = None, -1.0
    for case in subject.cases:
        for scale in SCALES:
            w = case.point(scale)
            value, slope = case.value(w), case.gradient(w)
            if not (np.isfinite(value) and np.isfinite(slope).all()):
                continue  # as `finite` has it
            for number in range(3):
                v = case.direction(3, number)
                seen = compared(_line(case.value, w, v), inner(slope, v))
                if seen.off > most:
                    most, worst = seen.off, (seen, case, scale, w, v)
    refuse_unless(worst is not None, "nothing is finite")
    assert worst is not None
    seen, case, scale, w, v = worst
    text = f"off by {seen.off:.1g}, along a direction at margins of about {scale:g} ({case})"
    if seen.off <= _ALLOWED:
        return Finding(True, text, _ALLOWED, seen.off)
    place = where(subject.objective, w, case.data) or _coordinate(case, w)
    return Finding(False, f"{text}: it is {seen}{_guess(subject.objective, seen, w, v)}{place}", _ALLOWED, seen.off)


def _guess(objective: Objective, seen: Comparison, w: NDArray[np.float64], v: NDArray[np.float64]) -> str:
    """Tell if what is too much is a multiple of the regulariser's gradient."""
    pull = inner(objective.regulariser(w)[1], v)
    times = (seen.said - seen.found) / pull if pull else 0.0
    if abs(abs(times) - 1) > 1e-3:
        return ""
    return ", which lacks the gradient of r once" if times < 0 else ", in which the gradient of r is once too often"


def _coordinate(case: Case, w: NDArray[np.float64]) -> str:
    """Return the coordinate at which the gradient is furthest from differences."""
    slope = case.gradient(w)
    found = []
    for j in range(min(case.n, 64)):
        e = np.zeros(case.n)
        e[j] = 1.0
        found.append(compared(_line(case.value, w, e), slope[j]))
    worst = int(np.argmax([abs(seen.said - seen.found) for seen in found]))
    width = case.objective.width
    weight = f", weight {worst % width}" if width > 1 else ""
    return f" (for feature {worst // width}{weight} alone: {found[worst]})"


def hessian(subject: ObjectiveUnderTest) -> Finding:
    """Check the product with the Hessian against differences of the gradient; and that it is linear and symmetric."""
    most, text = 0.0, ""
    for case in subject.cases:
        workers = Workers(subject.objective, case.shards())
        for scale in SCALES[:3]:
            w, u, v = case.point(scale), case.direction(4, 0), case.direction(4, 1)

            def product(along: NDArray[np.float64], w: Any = w, of: Workers = workers) -> NDArray[np.float64]:
                found = of.hvp(Replica(w), along)[0]
                return np.asarray(found + subject.objective.regulariser_hvp(w, along), np.float64)

            try:
                mine = product(v)
            except NotImplementedError:
                return not_made("it has no product with its Hessian")
            size = float(np.linalg.norm(mine))
            linear = np.linalg.norm(product(2 * v - 3 * u) - 2 * mine + 3 * product(u))
            refuse_unless(linear <= 1e-9 * (size + np.linalg.norm(product(u))), f"it is not linear ({case})")
            one, other = inner(u, mine), inner(v, product(u))
            both = np.linalg.norm(u) * size + np.linalg.norm(v) * np.linalg.norm(product(u))
            refuse_unless(abs(one - other) <= 1e-9 * both, f"it is not symmetric: {one:.6g}, {other:.6g} ({case})")
            seen = compared(_line(case.gradient, w, v), mine)
            if seen.off >= most:
                sizes = f"length {size:.6g} where differences of gradients have {np.linalg.norm(seen.found):.6g}"
                most, text = seen.off, f"off by {seen.off:.1g} at margins of about {scale:g} ({case}); {sizes}"
            rounded = workers.hvp(_single(w), v.astype(np.float32))[0] + subject.objective.regulariser_hvp(w, v)
            off = np.linalg.norm(rounded - mine)
            refuse_unless(off <= 1e-3 * (size + case.size_of_rows(w)), f"in float32 it is off by {off:.2g} ({case})")
    return Finding(most <= 10 * _ALLOWED, text, 10 * _ALLOWED, most)


def regulariser(subject: ObjectiveUnderTest) -> Finding:
    """Check that r, its gradient, its Hessian and a step on it fit together, and that F has r once."""
    objective = subject.objective
    case = subject.cases[0]
    w, v = case.point(1.0), case.direction(5)
    value, pull = objective.regulariser(w)
    refuse_unless(pull.shape == w.shape, f"the gradient of r must have shape {w.shape}, found {pull.shape}")
    first = compared(_line(lambda x: objective.regulariser(x)[0], w, v), inner(pull, v))
    refuse_unless(first.off <= _ALLOWED, f"the gradient of r is {first}")
    second = compared(_line(lambda x: objective.regulariser(x)[1], w, v), objective.regulariser_hvp(w, v))
    refuse_unless(
        second.off <= _ALLOWED, f"`regulariser_hvp` is off by {second.off:.2g} from differences of r's gradient"
    )
    step, moved = 0.1 / max(1.0, objective.l2), Weights(w)
    objective.apply_l2_step(moved, step)
    off = np.linalg.norm(moved.dense() - (w - step * pull))
    refuse_unless(
        off <= 1e-12 * np.linalg.norm(w), f"`apply_l2_step` is off by {off:.2g} from w - step * gradient of r"
    )
    own = type(objective).regulariser is not Objective.regulariser
    names = {name for name, field in getattr(objective, "__dataclass_fields__", {}).items() if field.init}
    if own or "l2" not in names:
        return Finding(True, "of its own" if own else "l2 is fixed")
    more = replace(cast(Any, objective), l2=objective.l2 + 0.5)
    for case in subject.cases:
        w = case.point(1.0)
        times = (more.value(w, case.data) - case.value(w)) / (0.25 * inner(w, w))
        refuse_unless(abs(times - 1) < 1e-6, f"the value has l2 {times:.4g} times: the base class adds it once")
        times = inner(more.gradient(w, case.data) - case.gradient(w), w) / (0.5 * inner(w, w))
        refuse_unless(abs(times - 1) < 1e-6, f"the gradient has l2 {times:.4g} times: the base class adds it once")
    return Finding(True, f"l2 once; r = {value:.4g} at weights of {np.linalg.norm(w):.3g}")


def optimum(subject: ObjectiveUnderTest) -> Finding:
    """Check that the gradient is zero at the minimum that is told, and no weights that are tried are better."""
    seen = []
    cases = list({case.data.kind: case for case in subject.whole_cases}.values())
    for case in cases:
        try:
            told = subject.whole.optimum(case.data)
        except NoOptimumError as error:
            seen.append(str(error))
            continue
        norm = float(np.linalg.norm(case.gradient(told.weights)))
        refuse_unless(norm <= 1e-8, f"the gradient at the optimum is {norm:.2g} ({case})")
        refuse_unless(
            abs(case.value(told.weights) - told.value) <= 1e-9 * max(1.0, abs(told.value)), "its value is another"
        )
        for number in range(20):
            w = told.weights + case.point(10.0 ** (number % 5 - 3), number)
            refuse_unless(
                not case.value(w) < told.value - 1e-9 * max(1.0, abs(told.value)),
                f"other weights are better: {case.value(w):.6g} where the optimum says {told.value:.6g} ({case})",
            )
    if len(seen) == len(cases):
        return not_made(seen[0])
    return Finding(True, f"on {len(cases) - len(seen)} of {len(cases)} data sets")


def error(subject: ObjectiveUnderTest) -> Finding:
    """Check that the error is a number, from 0 to 1 for signs and classes, and the same in any order of the rows."""
    seen = []
    for case in subject.cases:
        order = subject.key.fold(6).generator().permutation(case.data.rows)
        for scale in (0.0, 1.0, 1000.0):
            w = case.point(scale)
            found = subject.objective.error(w, case.data)
            most = np.inf if case.data.kind == "targets" else 1.0
            refuse_unless(np.ndim(found) == 0 and 0 <= found <= most, f"it is {found!r} ({case})")
            other = subject.objective.error(w, case.data.take(order))
            refuse_unless(abs(other - found) <= 1e-9 * max(1.0, found), f"other orders of rows have others ({case})")
            seen.append(float(found))
    return Finding(True, f"from {min(seen):.3g} to {max(seen):.3g}")


def pickles(subject: ObjectiveUnderTest) -> Finding:
    """Check that it can be sent to another process, and has the same value and gradient there."""
    objective = subject.whole
    copy = copied(objective)
    for case in subject.whole_cases[:1]:
        w = case.point(1.0)
        here = _bytes(objective.value_and_gradient(w, case.data))
        refuse_unless(_bytes(copy.value_and_gradient(w, case.data)) == here, "the copy makes other numbers")
        there = elsewhere(objective.value_and_gradient, w, case.data)
        refuse_unless(_bytes(there) == here, "another process makes other numbers")
    return Finding(True, "a copy here, and one in another process")


def _bytes(found: tuple[float, NDArray[np.float64]]) -> bytes:
    return np.asarray(found[0]).tobytes() + found[1].tobytes()


def _line(
    function: Callable[[NDArray[np.float64]], Any], w: NDArray[np.float64], v: NDArray[np.float64]
) -> Callable[[float], Any]:
    return lambda t: function(w + t * v)


def _updates(of: Workers, w: NDArray[np.float64]) -> NDArray[Any]:
    return of.update(_single(w))


def _losses(of: Workers, w: NDArray[np.float64]) -> NDArray[Any]:
    return of.losses(_single(w))


def _single(w: NDArray[np.float64]) -> Replica:
    return Replica(w.astype(np.float32))
