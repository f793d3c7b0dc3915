"""The exchange: one trip down to the workers and up again, with every bit counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qsim.channel import EXACT, Channel
from qsim.clients import Clients
from qsim.collectives import ParameterServer
from qsim.downlinks import Broadcast, Downlink, SparsePull, through
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
        self._unknown = np.full(self._n if isinstance(downlink, SparsePull) else 0, np.nan, np.float32)
        self._known: NDArray[Any] = np.zeros(0, np.int64)
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

    @property
    def counted(self) -> NDArray[np.int64]:
        """What was counted in this round, as a row: non-zeros, bits up, bits down, rows."""
        return np.array([[self.nonzeros, self.bits_up, self.bits_down, self.rows]], np.int64)

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
        replica, arrived = self._send(task, w, vectors, exact)
        order = Order(self.round, self._exchanges, task, replica, arrived, exact, self._here)
        opens = self._opens(f"up, {exact or 'compressed'}, {length}")
        channel = EXACT[exact] if exact else self._channel
        replies = self._session.round(order)
        received = self._server(length).reduce(replies, channel, order.key(self._root), self._here)
        total = received.vector
        if not exact:
            total, sent = self._downlink.aggregate(total, self.shared, self._key_down(1), self._opens("sum"))
            self.bits_down += self._workers * (sent.bits + sent.header)
        self.nonzeros += received.nonzeros
        self.rows += received.rows
        self.bits_up += received.bits + self._workers * 8 * len(received.header) * opens
        self._exchanges += 1
        return Sum(total, received.share)

    def _send(
        self,
        task: str,
        w: Weights,
        vectors: Mapping[str, NDArray[np.float64]],
        exact: Literal["float32", "float64"] | None,
    ) -> tuple[Replica, dict[str, NDArray[np.floating]]]:
        """Send weights and vectors down to those who take part; return what arrives."""
        downlink = self._downlink
        if exact == "float64":
            replica = Replica(self._down("weights", exact, w.dense()))
        elif isinstance(downlink, SparsePull):
            replica = self._pull(task, w, downlink)
        else:
            assert isinstance(downlink, Broadcast)
            replica, sent = downlink.weights(w, self.shared, self._key_down(0), self._opens("weights"))
            self.bits_down += (self._workers if downlink.to_all else self._receivers) * sent.bits
            self.bits_down += self._workers * sent.header
        return replica, {name: self._down(name, exact or "float32", vector) for name, vector in vectors.items()}

    def _down(
        self, name: str, dtype: Literal["float32", "float64"], vector: NDArray[np.float64]
    ) -> NDArray[np.floating]:
        """Send a dense vector to those who take part; return it as it arrives."""
        known, sent = through(dtype, vector, self._opens(f"{name}, {dtype}"))
        self.bits_down += self._receivers * sent.bits + self._workers * sent.header
        return known

    def _pull(self, task: str, w: Weights, downlink: SparsePull) -> Replica:
        """Have the workers ask for weights, and send each what it asked for.

        Weights that nobody asked for are not a number, so that one that is read all the same cannot go unnoticed.
        """
        requests = downlink.requests
        order = Order(self.round, self._exchanges, task, Replica(self._unknown[:0]), here=self._here, pull=requests)
        key, header = order.key(self._root), b""
        asked: list[Any] = [self._known[:0]]
        for reply in self._session.round(order):
            keys = key.words(reply.low, reply.low + len(reply.packets))
            asked.append(requests.unpack(reply.header, reply.packets, keys).index)
            self.bits_up += reply.packets.bits
            header = reply.header
        self.bits_up += self._workers * 8 * len(header) * self._opens("requests")
        index = np.concatenate(asked)
        known, sent = downlink.answer(w, index, self._opens("answers"))
        self.bits_down += sent.bits + self._workers * sent.header
        self._unknown[self._known] = np.nan
        self._unknown[index], self._known = known, index
        return Replica(self._unknown)

    @property
    def _receivers(self) -> int:
        """How many workers take part in the round."""
        return self._workers if self._here is None else int(self._here.sum())

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
