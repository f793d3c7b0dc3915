"""Rounds of a run that are planned: many at a time, without coming back to Python."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays
from qsim.channel import Channel
from qsim.clients import AllClients
from qsim.downlinks import DenseWeights
from qsim.engines import Session
from qsim.keys import Key
from qsim.methods import Method
from qsim.plan import ROUNDS, Plan, PlannedWeights
from qsim.program import Cell, NoProgram
from qsim.simulation.run import Run
from qsim.weights import Weights


class PlannedRounds:
    """Does rounds on the server's weights and state, and on the memories of workers that live in this process.

    The same to the last bit as the exchange does, packets and all. Streams must have sent their headers.
    """

    @classmethod
    def of(
        cls,
        run: Run,
        method: Method,
        channel: Channel,
        session: Session,
        weights: NDArray[np.float64],
        state: Arrays,
        key: Key,
    ) -> PlannedRounds | None:
        """Return what does the rounds of a run, whose method is resolved; None if a part has no plan."""
        group = session.group
        parts = None if group is None else group.parts
        if (
            parts is None
            or len(parts) != 1
            or run.network is not None
            or not isinstance(run.clients, AllClients)
            or type(run.downlink) is not DenseWeights
        ):
            return None
        (part,) = parts
        n = part.block.n
        plan = Plan(
            part.block,
            run.objective,
            channel,
            PlannedWeights(np.zeros(n), Cell.of(1.0)),
            np.empty(n, np.float32),
            state,
            weights,
            key,
            part.memory,
        )
        try:
            method.plan(plan, part.kept)
        except NoProgram:
            return None
        bits = run.workers * n * (32 if run.downlink.dtype == "float32" else 64)
        return cls(plan, bits)

    def __init__(self, plan: Plan, down: int) -> None:
        """Take a plan; `down` is how many bits go down in a round."""
        from qsim.kernels.rounds import end_round

        assert plan.counted is not None
        self._plan, self._counted = plan, np.zeros((ROUNDS, 4), np.int64)
        nonzeros, offsets = plan.counted
        plan.program.call(end_round, plan.turn, nonzeros, offsets, down, plan.rows, self._counted)

    def run(self, w: Weights, first: int, end: int) -> NDArray[np.int64] | None:
        """Do rounds `first` to `end` - 1 on w, or fewer: none that fails, so that the exchange can say why it does.

        Returns what was counted in each, as rows: non-zeros, bits up, bits down, rows read; None if none was done.
        """
        plan, count = self._plan, min(end - first, ROUNDS)
        assert plan.step is not None
        plan.turn[:] = first, 0
        plan.steps[:count] = [plan.step(t) for t in range(first, first + count)]
        plan.weights.vector[:], plan.weights.scale.array[0] = w.vector, w.scale
        done = plan.program.run(count)
        if not done:
            return None
        w.become(Weights(plan.weights.vector, float(plan.weights.scale.array[0])))
        return self._counted[:done].copy()
