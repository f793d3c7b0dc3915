"""Checks that a gradient is that of its loss: derivatives along lines, by differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import inner
from qsim.datasets import Dataset
from qsim.objectives.base import Objective
from qsim.objectives.linear import MarginModel
from qsim.objectives.products import margins_of
from qsim.objectives.wrapper import innermost
from qsim.options import is_shipped

_STEPS = 2.0 ** -np.arange(6, 26, 2)
_ROWS = 256  # that the first look at an objective of one's own takes
_ALLOWED, _FLOOR = 1e-3, 0.03  # far above the rounding of a loss in float32, far below any mistake


@dataclass(frozen=True)
class Comparison:
    """A derivative along a line as it is said to be, and as differences have it, at the step where these are nearest.

    off: how far apart they are, in parts of the larger (and of the value, for the rounding of differences).
    """

    said: Any
    found: Any
    off: float

    def __str__(self) -> str:
        """Show two numbers, and what one is of the other."""
        factor = self.said / self.found if self.found else np.inf
        return f"{self.said:.6g} where differences give {self.found:.6g}, {factor:.4g} times as much"


def compared(line: Callable[[float], Any], said: Any, floor: float = 1e-4, enough: float = 0.0) -> Comparison:
    """Compare the derivative of line(t) at 0, a number or an array, with central differences of ten steps.

    The nearest counts: a step that is too long or too short, or goes over a kink, then does no harm. The differences
    are off by at least about 1e-10 of the value, so `floor` of it is added to what `off` is in parts of. Where they
    are off by no more than `enough`, no further step is tried.
    """
    best = Comparison(said, np.nan, np.inf)
    for step in _STEPS.tolist():
        after, before = line(step), line(-step)
        found = (after - before) / (2 * step)
        size = max(_norm(said), _norm(found)) + floor * max(_norm(after), _norm(before))
        off = _norm(said - found) / size if size else 0.0
        if off < best.off:
            best = Comparison(said, found, off)
        if off <= enough:
            break
    return best


def direction(design: Dataset, width: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return a random direction in the weights, along which margins change at a rate of 1 (root mean square)."""
    v = random.standard_normal(design.features * width)
    size = float(np.sqrt(np.mean(margins_of(design, v, width) ** 2)))
    return v / size if size else v


def refuse_wrong_gradient(objective: Objective, data: Dataset, start: NDArray[np.float64]) -> None:
    """Raise ValueError if the gradient of an objective of one's own is not that of its loss, near the start.

    One derivative, in a random direction, at random weights near the start: at the start itself the loss may have a
    kink. Weights there at which it has no value are no reason to complain. Shipped objectives are not looked at.
    """
    if is_shipped(innermost(objective)):
        return
    random = np.random.default_rng(0)
    some = data if data.rows <= _ROWS else data.take(np.linspace(0, data.rows - 1, _ROWS).astype(np.int64))
    try:
        with np.errstate(all="ignore"):
            design = objective.design(some)
            w = start + 0.5 * direction(design, objective.width, random)
            v = direction(design, objective.width, random)
            slope = inner(objective.gradient(w, some), v)
            seen = compared(lambda t: objective.value(w + t * v, some), slope, _FLOOR, 0.1 * _ALLOWED)
    except Exception:  # the run itself will tell
        return
    if np.isfinite(seen.off) and seen.off > _ALLOWED:
        raise ValueError(
            f"the gradient of {objective!r} is not that of its loss: at random weights near the start, in a direction"
            f" that changes margins by 1, its slope is {seen}{where(objective, w, some)}."
            " qsim.testing.check_objective(objective) tells more"
        )


def where(objective: Objective, w: NDArray[np.float64], data: Dataset) -> str:
    """Return the row at which `slope` is furthest from the derivative of `loss`, in words; nothing if it is right."""
    if not isinstance(objective, MarginModel):
        return ""
    design = objective.design(data)
    z = margins_of(design, w, objective.width)
    along = np.random.default_rng(1).standard_normal(z.shape)
    with np.errstate(all="ignore"):
        said = np.asarray(objective.slope(z.copy(), design.labels), np.float64) * along
        said = said.reshape(design.rows, -1).sum(axis=1)
        rows = []
        for row in range(design.rows):

            def line(t: float, row: int = row) -> float:
                part = slice(row, row + 1)
                return float(objective.loss(z[part] + t * along[part], design.labels[part])[0])

            rows.append(compared(line, float(said[row])))
    worst = int(np.argmax([seen.off for seen in rows]))
    if not rows[worst].off > 1e-4:
        return ""
    seen, scale = rows[worst], along[worst] if objective.width == 1 else 1.0
    shown = Comparison(seen.said / scale, seen.found / scale, seen.off)
    return f" (of a row with margin {np.round(z[worst], 4)}, label {design.labels[worst]}: `slope` says {shown})"


def _norm(x: Any) -> float:
    return float(np.linalg.norm(x))
