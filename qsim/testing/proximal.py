"""Checks of the nonsmooth part of an objective: its value, its subgradients, and the steps on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.testing.cases import Case, ObjectiveUnderTest
from qsim.testing.report import Finding, not_made, refuse_unless
from qsim.weights import Weights

_ALLOWED = 1e-9


def steps(subject: ObjectiveUnderTest) -> Finding:
    """Check that a step ends at the minimum of h(u) + ||u - w||^2 / (2 a), that F has h once, and its subgradient.

    The sum is 1/a-strongly convex, so that away from its minimum p, at u, it is at least ||u - p||^2 / (2 a) more.
    """
    whole = subject.whole
    if not whole.composite:
        return not_made("it is smooth")
    least, zeros = np.inf, 0
    for case, both in zip(subject.cases, subject.whole_cases, strict=True):
        random = case.key.fold(6).generator()
        for scale in (0.1, 1.0, 10.0):
            w = case.point(scale)
            for step in (0.01, 1.0, 100.0):
                moved = Weights(2 * w, 0.5)
                whole.proximal_step(moved, step)
                p = moved.dense()
                here = whole.nonsmooth(p) + float(np.sum((p - w) ** 2)) / (2 * step)
                for number in range(12):
                    d = random.standard_normal(w.size) * 10.0 ** -(number % 4) * np.linalg.norm(w) / w.size**0.5
                    d *= random.random(w.size) < (1.0, 0.1)[number % 2]
                    there = whole.nonsmooth(p + d) + float(np.sum((p + d - w) ** 2)) / (2 * step)
                    more = there - here - float(np.sum(d**2)) / (2 * step)
                    refuse_unless(
                        more >= -_ALLOWED * (abs(here) + abs(there)),
                        f"a step of {step:g} does not end at the minimum of h and the distance: {-more:.2g} too high"
                        f" ({case})",
                    )
                zeros += int(np.count_nonzero(p == 0))
                off = both.value(p) - case.value(p) - whole.nonsmooth(p)
                refuse_unless(
                    abs(off) <= _ALLOWED * (1 + abs(both.value(p))),
                    f"F is off by {off:.2g} from the rest and h ({case})",
                )
                least = min(least, _descent(both, p))
    return Finding(True, f"{zeros} weights came to zero; the subgradient has {least:.4g} of the steepest descent")


def _descent(case: Case, w: NDArray[np.float64]) -> float:
    """Check that the subgradient s is that of least norm: along -s, F falls at the rate ||s||^2."""
    s = case.gradient(w)
    square = float(s @ s)
    if square == 0:
        return 1.0
    t = 1e-7 * max(1e-3, float(np.linalg.norm(w))) / square**0.5
    rate = float((case.value(w) - case.value(w - t * s)) / t / square)
    refuse_unless(
        abs(rate - 1) <= 1e-2, f"along the subgradient F falls {rate:.4g} times as fast as its norm says ({case})"
    )
    return rate
