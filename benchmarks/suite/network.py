"""The time model against reality: a round on two processes, and what a network calibrated on this machine says of it.

The processes are two workers with a core each, the parent is the server. Machines are those of `qsim.calibrate`. The
link is what one learns of rounds without work: its latency is half the time of a round over a few rows, its bandwidth
that at which this machine copies memory. Nothing is fitted to the rounds that are predicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter

import numpy as np

import qsim
from benchmarks.case import Case, Claim, LongMinusShort
from qsim.calibrate import measure_machine
from qsim.engines import Processes
from qsim.network import Link, Network, ParameterServer

WAYS = {"uncompressed": qsim.Identity(), "QSGD, s = 4": qsim.QSGD(4)}
DATA = qsim.datasets.Synthetic(40_000, 47_000, 73, values="tfidf")
QUICK = qsim.datasets.Synthetic(400, 500, 10, values="tfidf")
FEW = qsim.datasets.Synthetic(4, 500, 2)


def cases(quick: bool) -> Iterator[Case]:
    """Yield a case for each compressor."""
    data, short, long = (QUICK, 2, 42) if quick else (DATA, 10, 210)
    for name, compressor in WAYS.items():
        run = qsim.Run(
            data,
            objective=qsim.LogisticRegression(l2=1e-4),
            method=qsim.GradientDescent(step=qsim.steps.Constant(0.5)),
            compressor=compressor,
            workers=2,
            evaluate_every=10**9,
            optimum=False,
        )
        measured, model = _measured("2 Processes, measured", run, short, long), _Model("the model", run, short, long)
        yield Case(
            f"2 workers, {data.rows:,} rows, {name}", "round", [measured, model], [Claim(model.name, measured.name)]
        )


def _measured(name: str, run: qsim.Run, short: int, long: int) -> LongMinusShort:
    def simulate(rounds: int) -> qsim.Trace:
        return qsim.simulate(replace(run, rounds=rounds), engine=Processes(2), progress=False)

    return LongMinusShort(name, simulate, short, long)


@dataclass(frozen=True)
class _Model:
    """What the virtual clock says of a round; it is calibrated once."""

    name: str
    run: qsim.Run
    short: int
    long: int

    def result(self) -> qsim.Trace:
        return qsim.simulate(replace(self.run, rounds=3, network=self._network), progress=False)

    def seconds(self) -> float:
        return float(self.result().frame["seconds"][2:].mean())  # the first sends headers

    @cached_property
    def _network(self) -> Network:
        run = self.run
        nothing = _measured("", replace(run, data=FEW), self.short, self.long)
        nothing.result()
        link = Link(bandwidth=_bits_copied_a_second(), latency=max(nothing.seconds(), 0.0) / 2)
        machines = measure_machine(run.load(), run.compressor, run.codec, seconds=1.0)
        return Network(ParameterServer(), link, machines)


def _bits_copied_a_second() -> float:
    source = np.ones(10**6, np.float32)
    target, times = np.empty_like(source), []
    for _ in range(20):
        start = perf_counter()
        target[:] = source
        times.append(perf_counter() - start)
    return 8 * source.nbytes / min(times)
