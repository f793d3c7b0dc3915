"""Runs against the bound of their step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import qsim
from qsim.steps import Constant

SEEDS = 6


def beyond(run: qsim.Run, times: float = 1.0) -> float:
    """The mean over seeds of the suboptimality with so many times the step, in parts of the bound of the step: the
    largest of all rounds. Of runs that end in an overflow, infinity."""
    bound, problem = run.bound(), run.problem()
    resolved = run.method.resolved(problem)
    method = replace(resolved, step=Constant(times * resolved.step(0)))
    found = []
    for seed in range(SEEDS):
        try:
            found.append(qsim.simulate(replace(run, method=method, seed=seed)).axis("suboptimality"))
        except (ValueError, OverflowError, FloatingPointError):
            return float("inf")
    return float(np.max(np.mean(found, axis=0) / bound(np.arange(run.rounds + 1))))
