"""Checks that what workers compute of their rows adds up to what the driver evaluates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.block import Rows
from qsim.l2_decay import GlobalScale
from qsim.objectives import Objective
from qsim.testing.cases import ObjectiveUnderTest, Workers
from qsim.testing.report import Finding, not_made, refuse_unless
from qsim.weights import Replica

_EXACT = 1e-10  # of the gradients of rows


def rows(subject: ObjectiveUnderTest) -> Finding:
    """Check that F is the mean of the losses of rows, and r: one by one, in any order, and each of them twice."""
    worst = 0.0
    for case in subject.cases:
        every = np.arange(case.data.rows)
        order = subject.key.fold(1).generator().permutation(every)
        for scale in (0.1, 1.0, 10.0):
            w = case.point(scale)
            value, slope = case.value(w), case.gradient(w)
            size = abs(value), case.size_of_rows(w) + np.linalg.norm(slope)
            ones = [case.of(np.array([row])) for row in every]
            found: dict[str, tuple[float, NDArray[np.float64]]] = {
                "in another order": (case.of(order).value(w), case.of(order).gradient(w)),
                "with each row twice": (case.of(np.tile(every, 2)).value(w), case.of(np.tile(every, 2)).gradient(w)),
                "as the mean over single rows": (
                    float(np.mean([one.value(w) for one in ones])),
                    np.mean([one.gradient(w) for one in ones], axis=0),
                ),
            }
            for how, (other, changed) in found.items():
                off = abs(other - value) / max(size[0], 1e-300), float(np.linalg.norm(changed - slope) / size[1])
                text = f"{how}, the value is {other:.6g} instead of {value:.6g} ({case})"
                refuse_unless(off[0] <= _EXACT, text)
                refuse_unless(off[1] <= _EXACT, f"{how}, the gradient is off by {off[1]:.2g} of it ({case})")
                worst = max(worst, *off)
    return Finding(True, f"off by at most {worst:.1g}", _EXACT, worst)


def workers(subject: ObjectiveUnderTest) -> Finding:
    """Check that the workers' updates and losses have the driver's gradient and value as their mean.

    Weighted by their rows; in float64 and in float32, of weights in all forms that they come in.
    """
    worst = 0.0
    for case in subject.cases:
        rows = case.design.rows
        group = Workers(subject.objective, case.shards(1, rows // 3, rows // 3, rows - 5))
        share, support = group.shards.weights, group.block.support
        for scale, near in ((0.1, 3e-5), (1.0, 3e-5), (10.0, 1e-3)):  # in float32
            w = case.point(scale)
            penalty, pull = subject.objective.regulariser(w)
            value, slope = case.value(w) - penalty, case.gradient(w) - pull
            size = case.size_of_rows(w)
            moved = subject.key.fold(2).generator().standard_normal(support.offsets[-1])
            narrow, twice = w.astype(np.float32), (2 * w).astype(np.float32)
            forms = {"float64": Replica(w), "float32": Replica(narrow), "float32, scaled": Replica(twice, 0.5)}
            for form, at in forms.items():
                allowed = _EXACT if form == "float64" else near
                updates = group.update(at, step=0.5) / 0.5
                refuse_unless(not updates[2].any(), "a worker without rows sends an update that is not zero")
                refuse_unless(updates.shape == (5, case.n), f"updates must be {case.n} long, found {updates.shape}")
                off = np.linalg.norm(share @ updates - slope) / (size + np.linalg.norm(slope))
                refuse_unless(off <= allowed, f"updates in {form} are off by {off:.2g} of the gradient ({case})")
                losses = group.losses(at)
                gap = abs(share @ losses - value) / (abs(value) + np.abs(losses).max() + 1e-300)
                refuse_unless(gap <= allowed, f"losses in {form} are off by {gap:.2g} of the value ({case})")
                worst = max(worst, float(off), float(gap)) if form == "float64" else worst
            dtype = group.update(forms["float32"]).dtype
            refuse_unless(dtype == np.float32, f"updates at float32 weights must be float32, found {dtype}")
            mine = group.update(Replica(w, 1.0, moved))
            for worker in (1, 4):
                at_own = w.copy()
                part = slice(support.offsets[worker], support.offsets[worker + 1])
                at_own[np.asarray(support.index)[part]] -= moved[part]
                off = np.linalg.norm(mine[worker] - group.update(Replica(at_own))[worker])
                refuse_unless(off <= 1e-9 * size, f"weights that a worker has moved are not read right ({case})")
    return Finding(True, f"5 workers, of which one has no rows: off by at most {worst:.1g} in float64", _EXACT, worst)


def support(subject: ObjectiveUnderTest) -> Finding:
    """Check that an update is zero off the features of the rows that it is of: all of a worker's, and a batch."""
    for case in subject.cases:
        rows = case.design.rows
        group = Workers(subject.objective, case.shards(2, rows // 2))
        block, width = group.block, subject.objective.width
        batch = Rows(np.array([0, 2, 3, rows // 2]), np.array([0, 1, 3, 4]))
        w = case.point(1.0)
        dense = case.design.to_scipy().toarray() != 0
        for chosen in (block.all_rows(), batch):
            sent = group.update(Replica(w), chosen)
            for worker in range(3):
                mine = chosen.index[chosen.offsets[worker] : chosen.offsets[worker + 1]]
                outside = ~np.repeat(dense[mine].any(axis=0), width)
                refuse_unless(
                    not sent[worker][outside].any(),
                    "an update is not zero for features that its rows lack: what does not depend on rows is r's",
                )
    return Finding(True, "of all rows, and of one or two")


def local_steps(subject: ObjectiveUnderTest) -> Finding:
    """Check several steps of SGD in one call, where it has its own, against single updates."""
    objective = subject.objective
    if type(objective).local_steps is Objective.local_steps:
        return not_made("it has no steps of its own")
    worst = 0.0
    for case in subject.cases:
        first = case.design.rows // 3
        group = Workers(objective, case.shards(first))
        block, w = group.block, Replica(case.point(1.0).astype(np.float32))
        steps = np.array([0.1, 0.05, 0.1]) / max(1.0, objective.l2)
        chosen = Rows(np.array([0, 1, 2, 3, 4, 5, *range(first, first + 6)]), np.array([0, 6, 12]))
        for drawn, batch in ((chosen, 2), (block.all_rows(), None)):
            own = objective.local_steps(block, drawn, batch, w, steps, GlobalScale()).to_dense()
            plain = Objective.local_steps(objective, block, drawn, batch, w, steps, GlobalScale()).to_dense()
            off = float(np.linalg.norm(own - plain) / np.linalg.norm(plain))
            refuse_unless(off <= 1e-4, f"three steps are off by {off:.2g} of what single updates do ({case})")
            worst = max(worst, off)
    return Finding(True, f"off by {worst:.1g}", 1e-4, worst)
