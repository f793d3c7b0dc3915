"""The exchange: one trip down to the workers and up again, with every bit counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qsim.channel import EXACT, Channel
from qsim.clients import Clients
from qsim.collectives import ParameterServer
from qsim.downlinks import Downlink, through
from qsim.engines import Session
from qsim.keys import Key, Purpose
from qsim.methods import Sum
from qsim.objectives import Objective
from qsim.weights import Replica, Weights
from qsim.worker import Order


class WireExchange:
    """Sends weights down, has the workers compute, and sums what they send up; counts a round's bits, non-zeros, rows.

    Every stream opens with its header, counted once: for each worker one up and one down, of each kind that is used
    (compressed and exact, weights and each further vector). Weights go to those who take part in the round; the sum,
    where the downlink sends it, to all, as they all keep weights of their own.
    """

    def __init__(
        self,
        session: Session,
        objective: Objective,
        channel: Channel,
        downlink: Downlink,
        weights: NDArray[np.float64],
        w: Weights,
        key: Key,
        clients: Clients,
    ) -> None:
        """Exchange with as many workers as there are weights, which start at w; key is that of the run."""
        self.objective, self.key = objective, key.fold(Purpose.METHOD)
        self._session, self._channel, self._downlink = session, channel, downlink
        self._workers, self._root, self._n = weights.size, key, w.vector.size
        self._weights, self._clients = weights, clients
        self._servers: dict[int, ParameterServer] = {}
        self.opened: set[str] = set()
        """Streams that have sent their header."""
        self.shared = downlink.start(w)
        """What the downlink's two ends keep."""
        self.begin(0)

    def begin(self, t: int) -> None:
        """Start round t with nothing counted."""
        self.round = t
        self.nonzeros = self.bits_up = self.bits_down = self.rows = 0
        self._exchanges = 0
        self._here = self._clients.draw(self._root.fold(Purpose.CLIENTS, t), self._workers)

    def __call__(
        self,
        task: str,
        w: Weights,
        *,
        exact: Literal["float32", "float64"] | None = None,
        length: int | None = None,
        **vectors: NDArray[np.float64],
    ) -> Sum:
        """Have every worker do `task` at the weights w; return the weighted sum of what they sent."""
        length = length or self._n
        replica, arrived = self._send(w, vectors, exact)
        order = Order(self.round, self._exchanges, task, replica, arrived, exact, self._here)
        opens = self._opens(f"up, {exact or 'compressed'}, {length}")
        channel = EXACT[exact] if exact else self._channel
        replies = self._session.round(order)
        received = self._server(length).reduce(replies, channel, order.key(self._root), self._here)
        total = received.vector
        if exact != "float64":  # weights that go down exactly need no sum beside
            total, sent = self._downlink.aggregate(total, self.shared, self._key_down(1), self._opens("sum"))
            self.bits_down += self._workers * (sent.bits + sent.header)
        self.nonzeros += received.nonzeros
        self.rows += received.rows
        self.bits_up += received.bits + self._workers * 8 * len(received.header) * opens
        self._exchanges += 1
        return Sum(total, received.share)

    def _send(
        self, w: Weights, vectors: Mapping[str, NDArray[np.float64]], exact: Literal["float32", "float64"] | None
    ) -> tuple[Replica, dict[str, NDArray[np.floating]]]:
        """Send weights and vectors down to those who take part; return what arrives."""
        receivers = self._workers if self._here is None else int(self._here.sum())
        if exact == "float64":
            vector, sent = through(exact, w.dense(), self._opens("weights, float64"))
            replica = Replica(vector)
        else:
            replica, sent = self._downlink.weights(w, self.shared, self._key_down(0), self._opens("weights"))
        to_all = self._downlink.to_all and exact != "float64"
        self.bits_down += (self._workers if to_all else receivers) * sent.bits + self._workers * sent.header
        arrived = {}
        for name, vector in vectors.items():
            dtype = exact or "float32"
            arrived[name], sent = through(dtype, vector, self._opens(f"{name}, {dtype}"))
            self.bits_down += receivers * sent.bits + self._workers * sent.header
        return replica, arrived

    def _key_down(self, trip: int) -> Key:
        return self._root.fold(Purpose.DOWN, self.round, self._exchanges, trip)

    def _opens(self, stream: str) -> bool:
        """Tell whether a stream is used for the first time."""
        new = stream not in self.opened
        self.opened.add(stream)
        return new

    def _server(self, length: int) -> ParameterServer:
        """Return who sums vectors of a length."""
        if length not in self._servers:
            self._servers[length] = ParameterServer(length, self._weights)
        return self._servers[length]
