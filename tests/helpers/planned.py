"""Runs in planned rounds, and the same through the exchange."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qsim
from qsim.datasets import Dataset, Synthetic
from qsim.methods import SGD
from qsim.simulation.planned import PlannedRounds
from qsim.steps import Constant

RUN = qsim.Run(
    Synthetic(rows=200, features=5000, nonzeros_per_row=20, values="tfidf", seed=5),
    qsim.LogisticRegression(l2=1e-3),
    SGD(Constant(0.5)),
    compressor=qsim.QSGD(4),
    workers=1,
    rounds=250,
    evaluate_every=100,
    optimum=False,
)


def plain(run: qsim.Run, **options: Any) -> qsim.Trace:
    """The run through the exchange, round by round, and through the channel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlannedRounds, "of", lambda *arguments: None)
        patch.setattr("qsim.channel._BEFORE", -1)
        return qsim.simulate(run, **options)


def agree(one: qsim.Trace, other: qsim.Trace) -> None:
    assert one.weights.tobytes() == other.weights.tobytes()
    assert one.frame.equals(other.frame)
    assert schedule(one) == schedule(other)


def schedule(trace: qsim.Trace) -> dict[str, list[float]]:
    """The timelines that are kept."""
    return {name: column.tolist() for name, column in trace.schedule.items()}


def differences(run: qsim.Run) -> list[str]:
    """What is not the same in planned rounds; nothing for a run that is refused."""
    try:
        right = plain(run)
    except (ValueError, TypeError):
        with pytest.raises((ValueError, TypeError)):
            qsim.simulate(run)
        return []
    found = qsim.simulate(run)
    same = found.frame.equals(right.frame), found.weights.tobytes() == right.weights.tobytes()
    same += (schedule(found) == schedule(right),)
    return [repr(run)] if not all(same) else []


def small(values: bool) -> Dataset:
    """Rows of a few features, one row empty, one longer than the others."""
    rng = np.random.default_rng(3)
    lengths = np.array([0, 90, *rng.integers(1, 12, 22)])
    indices = np.concatenate([np.sort(rng.choice(100, size, replace=False)) for size in lengths])
    numbers = rng.normal(size=indices.size).astype(np.float32) if values else None
    return Dataset(np.concatenate([[0], lengths.cumsum()]), indices, numbers, rng.integers(0, 2, 24) > 0, 100)


def stopped(done: int) -> None:
    if done == 97:
        raise KeyboardInterrupt
