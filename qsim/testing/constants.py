"""Checks of the constants that an objective states: its smoothness L, L_i, that of a row, and strong convexity mu."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.objectives import MarginModel
from qsim.testing.cases import Case, ObjectiveUnderTest
from qsim.testing.report import Finding, not_made, refuse_unless

_ALLOWED = 1e-6  # rounding, and what `smoothness` of margins is an upper bound to
_NEAR = 1e-4  # in margins: between two weights whose gradients are compared
_SIZES = (0.0, 0.1, 1.0, 10.0)


@dataclass(frozen=True)
class _Bound:
    """A constant that is claimed, and the largest quotient found for it."""

    name: str
    claimed: float
    measured: float

    @property
    def strain(self) -> float:
        return self.measured / self.claimed if self.claimed > 0 else np.inf if self.measured > 1e-12 else 0.0


def smoothness(subject: ObjectiveUnderTest) -> Finding:
    """Check L, L_i and the largest L of a row, against quotients ||grad F(u) - grad F(w)|| / ||u - w||.

    u and w along the directions of most curvature, which a power iteration finds, at weights of four sizes; for single
    rows also along a fine grid of margins.
    """
    bounds: list[_Bound] = []
    missing = []
    for case in subject.cases:
        for part in (_whole, _of_workers, _of_rows, _of_margins):
            try:
                with np.errstate(all="ignore"):
                    bounds += part(case)
            except (ValueError, NotImplementedError) as error:
                missing.append(str(error) or "not implemented")
    if not bounds:
        return not_made(f"not stated: {missing[0]}")
    for bound in bounds:
        refuse_unless(bound.claimed >= 0, f"{bound.name} is {bound.claimed}: it must be a number, 0 or more")
    worst = max(bounds, key=lambda bound: bound.strain)
    seen = f"claimed {worst.claimed:.4g} for {worst.name}, found {worst.measured:.4g}"
    return Finding(worst.strain <= 1 + _ALLOWED, seen, worst.claimed, worst.measured)


def _whole(case: Case) -> Iterator[_Bound]:
    claimed = float(case.objective.smoothness(case.data))
    return iter([_Bound(f"L ({case})", claimed, _steepest(case))])


def _of_workers(case: Case) -> Iterator[_Bound]:
    """Yield the L_i of three workers, of which the second has no rows."""
    first = case.design.rows // 3
    claimed = np.asarray(case.objective.worker_smoothness(case.shards(first, first)), np.float64)
    refuse_unless(
        claimed.shape == (3,), f"worker_smoothness must return a number for each worker, found {claimed.shape}"
    )
    rows = np.arange(case.design.rows)
    for worker, part in ((0, rows[:first]), (2, rows[first:])):
        yield _Bound(f"L_i of a worker ({case})", float(claimed[worker]), _steepest(case.of(part)))
    w, v = case.point(1.0), case.direction(1)
    margin_hvp = np.linalg.norm(case.objective.regulariser_hvp(w, v)) / np.linalg.norm(v)
    yield _Bound("L_i of a worker without rows", float(claimed[1]), float(margin_hvp))


def _of_rows(case: Case) -> Iterator[_Bound]:
    """Yield the L of single rows, and the largest of all of them."""
    largest, most = float(case.objective.row_smoothness(case.shards())), 0.0
    for row in range(min(4, case.design.rows)):
        one = case.of(np.array([row]))
        measured = max(_steepest(one, 6), _on_grid(one))
        most = max(most, measured)
        yield _Bound(f"L of a single row ({case})", float(case.objective.smoothness(one.data)), measured)
    yield _Bound(f"the largest L of a row ({case})", largest, most)


def _of_margins(case: Case) -> Iterator[_Bound]:
    """Yield the bound on the second derivative in the margins, against its largest eigenvalue at many margins."""
    objective = case.objective
    if not isinstance(objective, MarginModel):
        return
    random, width = case.key.fold(2).generator(), objective.width
    labels = np.repeat(case.design.labels[:12], 200)
    shape = (labels.size,) if width == 1 else (labels.size, width)
    z = random.standard_normal(shape) * np.tile(np.geomspace(1e-3, 100, 200), 12).reshape(-1, *[1] * (len(shape) - 1))
    if width > 1:
        z[::2, 2:] -= 30.0  # two margins that share what there is
        z[::4, 1] = z[::4, 0]
    along, most = random.standard_normal(shape), 0.0
    for _ in range(30 if width > 1 else 1):
        margin_hvp = np.asarray(objective.margin_hvp(z.copy(), along.copy(), labels), np.float64)
        sizes = [np.sqrt((a.reshape(labels.size, -1) ** 2).sum(axis=1)) for a in (margin_hvp, along)]
        quotients = sizes[0] / sizes[1]
        most = max(most, float(quotients[np.isfinite(quotients)].max(initial=0)))
        good = (sizes[0] > 0) & np.isfinite(sizes[0])
        along[good] = margin_hvp[good] / sizes[0][good].reshape(-1, *[1] * (len(shape) - 1))
    yield _Bound("curvature_bound", float(objective.curvature_bound()), most)


def _quotient(case: Case, w: NDArray[np.float64], step: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return how much the gradient changes over a step, in parts of its length, and its direction."""
    change = case.gradient(w + step) - case.gradient(w - step)
    size = float(np.linalg.norm(change))
    if not np.isfinite(size):
        return 0.0, step
    return size / (2 * float(np.linalg.norm(step))), change / size if size else step


def _steepest(case: Case, iterations: int = 25) -> float:
    """Return the largest quotient that power iterations find."""
    most = 0.0
    for number, size in enumerate(_SIZES):
        w, along = case.point(size, number), case.direction(3, number)
        along /= np.linalg.norm(along)
        for _ in range(iterations):
            found, along = _quotient(case, w, _NEAR * along)
            most = max(most, found)
            if not along.any():
                break
            along /= np.linalg.norm(along)
    return most


def _on_grid(case: Case) -> float:
    """Return the largest quotient for a single row, between neighbours on a grid of margins from -20 to 20."""
    x, width = np.zeros(case.design.features), case.objective.width
    x[case.design.indices] = 1.0 if case.design.values is None else case.design.values
    if not x.any():
        return 0.0
    random, most = case.key.fold(4).generator(), 0.0
    grid = np.concatenate([np.arange(-20, -4, 0.25), np.arange(-4, 4, 0.05), np.arange(4, 20.1, 0.25)])
    for number in range(1 if width == 1 else 4):
        way: NDArray[Any] = np.ones(1) if width == 1 else random.standard_normal(width)
        base: NDArray[Any] = np.zeros(width) if width == 1 else 10 * (number % 2) * random.standard_normal(width)
        if number > 1:
            way, base = (np.arange(width) == 0) - 1.0 * (np.arange(width) == 1), -30.0 * (np.arange(width) > 1)
        step, first = (np.outer(x, part).ravel() / (x @ x) for part in (way / np.linalg.norm(way), base))
        gradients = np.stack([case.gradient(first + t * step) for t in grid])
        changes = np.linalg.norm(np.diff(gradients, axis=0), axis=1) / (np.diff(grid) * np.linalg.norm(step))
        most = max(most, float(changes[np.isfinite(changes)].max(initial=0)))
    return most


def strong_convexity(subject: ObjectiveUnderTest) -> Finding:
    """Check <grad F(u) - grad F(w), u - w> >= mu ||u - w||^2, along directions of least curvature, and far apart."""
    worst: tuple[float, float, float, str] | None = None
    for case in subject.cases:
        mu = float(case.objective.strong_convexity(case.data))
        refuse_unless(np.isfinite(mu) and mu >= 0, f"mu is {mu}: it must be a number, 0 or more")
        if mu == 0:
            continue
        with np.errstate(all="ignore"):
            least, most = _flattest(case), _steepest(case)
        lack = (mu - least) / max(most, mu)
        if worst is None or lack > worst[0]:
            worst = lack, mu, least, str(case)
    if worst is None:
        return not_made("mu = 0")
    lack, mu, least, name = worst
    return Finding(lack <= _ALLOWED, f"claimed {mu:.4g}, least found {least:.4g} ({name})", mu, least)


def _flattest(case: Case) -> float:
    """Return the least quotient <grad F(u) - grad F(w), u - w> / ||u - w||^2 that is found."""
    found = []

    def curvature(w: NDArray[np.float64], step: NDArray[np.float64]) -> float:
        ends = case.gradient(w + step), case.gradient(w - step)
        size = float(np.linalg.norm(step))
        quotient = float((ends[0] - ends[1]) @ step) / (2 * size**2)
        rounding = 2.0**-46 * sum(float(np.linalg.norm(end)) for end in ends) / size
        if np.isfinite(quotient):
            found.append(quotient + rounding)  # large gradients differ by what they were rounded by, too
        return quotient

    for number, size in enumerate((0.0, 1.0, 10.0, 1000.0)):
        w, along = case.point(size, number), case.direction(5, number)
        for far in (1.0, 10.0):
            curvature(w, far * along)
        most, _ = _highest(case, w, along)
        along /= np.linalg.norm(along)
        for _ in range(60):  # a power iteration on L - Hessian
            change = case.gradient(w + _NEAR * along) - case.gradient(w - _NEAR * along)
            curvature(w, _NEAR * along)
            along = along - change / (2 * _NEAR * most) if most else along
            size_of = float(np.linalg.norm(along))
            if not np.isfinite(size_of) or size_of == 0:
                break
            along /= size_of
    return min(found)


def _highest(case: Case, w: NDArray[np.float64], start: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    along, most = start / np.linalg.norm(start), 0.0
    for _ in range(10):
        found, along = _quotient(case, w, _NEAR * along)
        most = max(most, found)
        if not along.any():
            break
        along = along / np.linalg.norm(along)
    return 1.1 * most, along
