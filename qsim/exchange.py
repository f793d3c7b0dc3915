"""The exchange: one trip down to the workers and up again, with every bit counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.channel import Channel
from qsim.collectives import ParameterServer
from qsim.downlinks import Downlink
from qsim.engines import Session
from qsim.keys import Key
from qsim.objectives import Objective
from qsim.weights import Weights
from qsim.worker import Order


class WireExchange:
    """Sends weights down, has the workers compute, and sums what they send up; counts a round's bits, non-zeros, rows.

    Every stream (one up and one down for each worker) opens with its header, counted once.
    """

    def __init__(
        self,
        session: Session,
        objective: Objective,
        channel: Channel,
        downlink: Downlink,
        weights: NDArray[np.float64],
        n: int,
        key: Key,
        rows: Callable[[str, int], int],
    ) -> None:
        """Exchange vectors of length n with as many workers as there are weights; key is that of the run.

        rows: how many rows the workers compute with, by task and round.
        """
        self.objective = objective
        self._session, self._channel, self._downlink = session, channel, downlink
        self._workers, self._key, self._rows = weights.size, key, rows
        self._server = ParameterServer(n, weights)
        self.begin(0)

    def begin(self, t: int) -> None:
        """Start round t with nothing counted."""
        self.round = t
        self.nonzeros = self.bits_up = self.bits_down = self.rows = 0
        self._exchanges = 0

    def __call__(self, task: str, w: Weights) -> Vectors:
        """Have every worker do `task` at the weights w; return the weighted sum of what they sent."""
        first = self.round == self._exchanges == 0
        weights, sent = self._downlink.weights(w, first)
        order = Order(self.round, self._exchanges, task, weights)
        received = self._server.reduce(self._session.round(order), self._channel, order.key(self._key))
        total, returned = self._downlink.aggregate(received.vector, first)
        self.nonzeros += received.nonzeros
        self.bits_up += received.bits + self._workers * 8 * len(received.header) * first
        self.bits_down += self._workers * (sent + returned)
        self.rows += self._rows(task, self.round)
        self._exchanges += 1
        return total
