"""Shipped studies, and a compressor that no cell can be stored of."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np

import qsim
from qsim.study import Study, catalog


def load(name: str) -> tuple[Study, ModuleType]:
    return catalog.find(name)[1], sys.modules[f"qsim_study_{name}"]


def local(digits: int) -> qsim.compressors.Compressor:
    class Local(qsim.compressors.Compressor):
        emits = qsim.batch.Floats

        def quantize(self, v, key):
            return qsim.batch.Floats.single(np.round(v, digits))

    return Local()


TUNED = """
import qsim
from matplotlib.figure import Figure
from qsim.study import LeastFinal, Settings, Study, Tuning, each_seed

def run(settings, curve, step, seed):
    return qsim.Run(settings.load(), objective=qsim.LogisticRegression(l2=0.0), optimum=False,
        method=qsim.SGD(step=step, batch=2), workers=settings.workers, rounds=settings.rounds, seed=seed)

study = Study(
    title="Steps", questions=["Which?"], defaults=Settings("spark_sample", 2, 8, 2),
    setting=lambda settings: "A setting.",
    cells=lambda settings, choices: each_seed(settings, choices, lambda c, seed: run(settings, "plain", c.value, seed)),
    answers=lambda results: [str(results.tuned.choices["plain"].value)], draw=lambda results: Figure(),
    tuning=Tuning("step", lambda settings: ["plain"], run, (0.01, 0.1, 1e300), LeastFinal("loss")),
)
"""
"""A file with a study that chooses a step, of which one diverges."""
