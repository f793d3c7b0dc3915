"""Evaluation where the rows are, for a driver that has none of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.channel import Channel
from qsim.compressors import Identity
from qsim.datasets.parts import Parts, PartShards
from qsim.engines import Engine, Session
from qsim.keys import Key
from qsim.methods import GradientDescent
from qsim.objectives import Objective
from qsim.weights import Replica
from qsim.workers.measurements import values
from qsim.workers.tasks import Job, Measurement


def count_rows(parts: Parts, objective: Objective, engine: Engine) -> None:
    """Have an engine's workers read the files and count their rows, unless these are known."""
    files = parts.files()
    if parts.is_known(files):
        return
    shards: Any = PartShards(parts.sources(files), len(files), None)
    job = Job(shards, objective, GradientDescent(1.0), Channel(Identity()), Key(0))
    with engine.open(job) as session:
        order = Measurement(0, 0, "count", Replica(np.zeros(1)), exact="float64")
        parts.remember(files, [counts for reply in session.round(order) for counts in values(reply)])


class EvaluationElsewhere:
    """Evaluates an objective on all rows of a session's workers: sums in float64, in the order of the workers."""

    def __init__(self, session: Session, objective: Objective, shards: PartShards) -> None:
        self._session, self._objective, self._shares = session, objective, shards.weights

    def evaluate(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], float]:
        """Return F(w), its gradient, and the error, as `Objective.evaluate` does."""
        penalty, pull = self._objective.regulariser(w)
        loss, error = self._sum("loss", w, 1), self._sum("error", w, 1)
        return float(loss[0]) + penalty, self._sum("gradient", w, w.size) + pull, float(error[0])

    def _sum(self, task: str, w: NDArray[np.float64], length: int) -> NDArray[np.float64]:
        order = Measurement(0, 0, task, Replica(np.ascontiguousarray(w, np.float64)), exact="float64")
        total, worker = np.zeros(length), 0
        for reply in self._session.round(order):
            for found in values(reply):
                total += self._shares[worker] * found
                worker += 1
        return total
