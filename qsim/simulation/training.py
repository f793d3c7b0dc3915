"""Training: a run that goes on, round by round."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qsim.arrays import arrays_by_name
from qsim.batch import Arrays
from qsim.channel import Channel
from qsim.clients import AllClients
from qsim.datasets.parts import Parts, PartShards
from qsim.engines import Engine, Session
from qsim.keys import Key
from qsim.methods import Method
from qsim.network import Clock
from qsim.objectives.derivative import refuse_wrong_gradient
from qsim.simulation.exchange import WireExchange
from qsim.simulation.planned import PlannedRounds
from qsim.simulation.recorder import Recorder
from qsim.simulation.run import Run
from qsim.trace import Trace
from qsim.weights import Weights
from qsim.workers.tasks import Job


class Training:
    """A run that goes on: all that changes from round to round.

    done: how many rounds have been done. over: whether there are no more.
    """

    def __init__(
        self,
        run: Run,
        method: Method,
        weights: Weights,
        session: Session,
        exchange: WireExchange,
        recorder: Recorder,
    ) -> None:
        """Take what `opened` has made."""
        self.run, self.done, self.over = run, 0, False
        self._method, self._weights = method, weights
        self._state = arrays_by_name(f"what start of {method!r} returns", method.start(weights))
        self._session, self._exchange, self._recorder = session, exchange, recorder
        self._planned: PlannedRounds | None = None

    @classmethod
    @contextmanager
    def opened(cls, run: Run, engine: Engine, saved: Arrays | None = None) -> Iterator[Self]:
        """Start the workers of a run on an engine, and begin it, or go on from a saved state; end them at the end."""
        channel, key = Channel(run.compressor, run.codec), Key(run.seed)
        with run.measured_on(engine) as problem:
            _require_affordable(run, channel, problem.n)
            if saved is None and not isinstance(run.data, Parts):
                refuse_wrong_gradient(run.objective, problem.data, problem.start)
            recorder = Recorder(run, problem)
            method = run.method.resolved(problem)
        network, clients = run.network, run.clients
        shards: Any = problem.shards
        job = Job(
            shards,
            run.objective,
            method,
            channel,
            key,
            sampled=not isinstance(clients, AllClients),
            timed=network is not None,
            drops=network is not None and network.rule.drops,
            progressive=run.progressive,
            test=recorder.test_elsewhere,
            dtype=run.downlink.dtype,
        )
        with engine.open(job) as session:
            w = Weights(problem.start)
            clock = None if network is None else Clock(network, run.workers, key)
            exchange = WireExchange(
                session, run.objective, channel, run.downlink, problem.weights, w, key, clients, clock
            )
            training = cls(run, method, w, session, exchange, recorder)
            recorder.read_in(session)
            training._begin(saved)
            if not isinstance(shards, PartShards) and not run.progressive:
                training._planned = PlannedRounds.of(
                    run, method, channel, session, problem.weights, training._state, exchange, key
                )
            yield training

    def advance(self, most: int = 1) -> None:
        """Do the next round, or up to `most` where several can be done at once, and record them."""
        counted = None
        if self._planned is not None and self._exchange.opened:
            end = min(self.done + most, self.run.rounds)
            counted = self._planned.run(self._weights, self.done, end, self._recorder.rounds_to_end)
        if counted is None:
            self._exchange.begin(self.done)
            self._method.round(self._weights, self._state, self._exchange)
            counted = self._exchange.counted
        self.done += len(counted)
        ended = self._recorder.record(self.done, self._solution, counted)
        self.over = ended or self.done == self.run.rounds

    def trace(self) -> Trace:
        """Return what happened."""
        return self._recorder.trace(self._solution, self._exchange.clock)

    def snapshot(self) -> Arrays:
        """Return everything as arrays."""
        clock = self._exchange.clock
        parts = {
            "server": self._state,
            "clock": {} if clock is None else clock.snapshot(),
            "downlink": self._exchange.shared,
            "streams": self._exchange.streams.snapshot(),
            "held": self._exchange.held.snapshot(self._weights),
            "workers": self._session.snapshot(),
            "recorder": self._recorder.snapshot(),
        }
        arrays = {f"{part}/{name}": array for part, named in parts.items() for name, array in named.items()}
        return arrays | {
            "done": np.array(self.done),
            "w/vector": self._weights.vector,
            "w/scale": np.array(self._weights.scale),
        }

    def _begin(self, saved: Arrays | None) -> None:
        """Record the start, or go back to a snapshot."""
        ended = self._recorder.start(self._solution) if saved is None else self._restore(saved)
        self.over = ended or self.done == self.run.rounds

    def _restore(self, saved: Arrays) -> bool:
        """Go back to a snapshot; tells whether the run's rule had ended it there."""
        self.done = int(saved["done"])
        self._weights = Weights(saved["w/vector"], float(saved["w/scale"]))
        self._state = _part(saved, "server/")
        self._exchange.shared = _part(saved, "downlink/")
        self._exchange.streams.restore(_part(saved, "streams/"))
        self._exchange.held.restore(self._weights, _part(saved, "held/"))
        if self._exchange.clock is not None:
            self._exchange.clock.restore(_part(saved, "clock/"))
        self._session.restore(_part(saved, "workers/"))
        return self._recorder.restore(_part(saved, "recorder/"))

    def _solution(self) -> NDArray[np.float64]:
        """Return the weights that are evaluated."""
        return self._method.solution(self._weights, self._state)


def _part(saved: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in saved.items() if name.startswith(prefix)}


def _require_affordable(run: Run, channel: Channel, n: int) -> None:
    """Refuse a round of dense packets of more than half of this machine's memory: processes hold a round at once."""
    size = 4 * n * run.workers
    if channel.dense and size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2:
        raise ValueError(
            f"{run.workers:,} workers that send {n:,} dense coordinates each are {size / 1e9:,.0f} GB per round;"
            " send non-zeros only: codec=qsim.codecs.SparseFloats(), or a sparse compressor such as qsim.QSGD(levels=4)"
        )
