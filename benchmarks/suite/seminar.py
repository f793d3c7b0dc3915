"""An iteration of the study `seminar`: 32 workers, a sample each, quantized; the loss is evaluated every iteration.

In PySpark an iteration is a job: the weights are broadcast, a partition is a worker, and the parent sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from shutil import which
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsim
from benchmarks.case import Case, Claim, Contestant, LongMinusShort, Timed
from qsim.study import catalog

LEVELS, STEP = 4, 0.2


def cases(quick: bool) -> Iterator[Case]:
    """Yield the study's run at s = 4, beside PySpark if it can run here."""
    short, long = (1, 3) if quick else (150, 3150)
    ours = LongMinusShort("qsim", _simulate, short, long)
    with _spark() as (session, why):
        contestants: list[Contestant] = [ours]
        claims: list[Claim] = []
        if session is not None:
            contestants.append(Timed("PySpark", _iteration(session)))
            claims.append(Claim(ours.name, "PySpark"))
        yield Case("spark_sample, 32 workers", "iteration", contestants, claims, absent=[why] if why else [])


def _simulate(rounds: int) -> qsim.Trace:
    from dataclasses import replace

    _, study = catalog.find("seminar")
    cell = next(cell for cell in study.cells(study.defaults) if cell.curve == f"s = {LEVELS}")
    return qsim.simulate(replace(cell.run, rounds=rounds), progress=False)


@contextmanager
def _spark() -> Iterator[tuple[Any, str]]:
    """Give a session on two local cores, or None and why not."""
    if find_spec("pyspark") is None:
        yield None, "PySpark is not installed: python -m pip install '.[peers]' (it also needs java)"
    elif which("java") is None:
        yield None, "PySpark needs java on the path"
    else:
        from pyspark.sql import SparkSession

        session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
        try:
            yield session, ""
        finally:
            session.stop()


def _iteration(session: Any) -> Callable[[], float]:
    """Return a call that does an iteration and evaluates the loss, as the study does."""
    data = qsim.datasets.load("spark_sample")
    rows = [(data.labels[i], row) for i, row in enumerate(data.to_scipy().toarray())]
    parts = session.sparkContext.parallelize(rows, 32).cache()
    weights = np.random.default_rng(0).uniform(-1.0, 1.0, data.features)

    def update(part: Iterator[tuple[int, NDArray[np.float64]]], w: NDArray[np.float64]) -> Iterator[Any]:
        own, generator = list(part), np.random.default_rng()
        y, x = own[generator.integers(len(own))]
        gradient = -y * x / (1 + np.exp(y * (x @ w)))
        norm = np.linalg.norm(gradient) or 1.0
        t = np.abs(gradient) * LEVELS / norm
        yield np.sign(gradient) * (np.floor(t) + (generator.random(t.size) < t % 1)) * norm / LEVELS

    def call() -> float:
        sent = session.sparkContext.broadcast(weights.copy())
        total = parts.mapPartitions(lambda part: update(part, sent.value)).reduce(np.add)
        np.subtract(weights, STEP / 32 * total, out=weights)
        new = session.sparkContext.broadcast(weights.copy())
        return float(parts.map(lambda row: np.logaddexp(0.0, -row[0] * (row[1] @ new.value))).mean())

    return call
