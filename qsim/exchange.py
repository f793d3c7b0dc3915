"""The exchange: one trip down to the workers and up again, with every bit counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qsim.channel import EXACT, Channel
from qsim.clients import Clients
from qsim.collectives import ParameterServer, Received
from qsim.downlinks import Broadcast, Downlink, Sent, SparsePull, through
from qsim.engines import Session
from qsim.keys import Key, Purpose
from qsim.methods import Sum
from qsim.network import Clock, Load
from qsim.objectives import Objective
from qsim.weights import Replica, Weights
from qsim.worker import Order, Reply


class WireExchange:
    """Sends weights down, has the workers compute, and sums what they send up; counts a round's bits, non-zeros, rows.

    Every stream opens with its header, counted once: for each worker one up and one down, of each kind that is used
    (compressed and exact, weights and each further vector). Weights go to those who take part in the round; the sum,
    where the downlink sends it, to all, as they all keep weights of their own.

    With a clock it takes virtual time, and messages that the clock finds late are left out of the sum; their workers
    are told.
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
        clock: Clock | None = None,
    ) -> None:
        """Exchange with as many workers as there are weights, which start at w; key is that of the run."""
        self.clock = clock
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
        here = self._here = self._clients.draw(self._root.fold(Purpose.CLIENTS, t), self._workers)
        if here is not None and (here.shape != (self._workers,) or here.dtype != np.bool_):
            raise ValueError(
                f"{self._clients!r} must draw {self._workers} truth values, one a worker, or None: found"
                f" {here.dtype} of shape {here.shape}"
            )
        if self.clock is not None:
            self.clock.begin(t)

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
        order = Order(
            self.round, self._exchanges, task, replica, arrived, exact, self._here, shared=self._sums_in_flight
        )
        opens = self._opens(f"up, {exact or 'compressed'}, {length}")
        received, bits = self._collect(order, length, opens)
        total = received.vector
        if exact != "float64" and received.share:  # exact weights need no sum beside; of nothing, there is none
            total, sent = self._downlink.aggregate(total, self.shared, self._key_down(1), self._opens("sum"))
            self._count_down([(self._workers, sent)])
        self.nonzeros += received.nonzeros
        self.rows += received.rows
        self.bits_up += bits
        self._exchanges += 1
        return Sum(total, received.share)

    def _collect(self, order: Order, length: int, opens: bool) -> tuple[Received, int]:
        """Have an order carried out; return the sum, and the bits that workers sent for it."""
        channel = EXACT[order.exact] if order.exact else self._channel
        server, key, clock = self._server(length), order.key(self._root), self.clock
        replies = self._session.round(order)
        if clock is None:
            received = server.reduce(replies, channel, key, self._here)
            return received, received.bits + 8 * self._workers * len(received.header) * opens
        seen = _Seen(opens)
        if order.exact or not clock.network.rule.drops:
            received = server.reduce(seen.passing(replies), channel, key, self._here)
            found = clock.up(self._exchanges, seen.load, order.exact is not None)
        else:
            waiting = list(seen.passing(replies))
            found = clock.up(self._exchanges, seen.load)
            in_time = np.zeros(self._workers, bool)
            in_time[seen.load.who] = found
            received = server.reduce(waiting, channel, key, self._here, in_time)
            self._session.settle(in_time)
        topology, packets = clock.network.topology, np.zeros(self._workers)
        packets[seen.load.who] = seen.packets if topology.has_server else np.where(found, seen.packets, 0.0)
        headers = np.full(self._workers, float(len(received.header) * opens))
        return received, 8 * round(topology.sent(packets) + topology.sent(headers))

    def _send(
        self,
        task: str,
        w: Weights,
        vectors: Mapping[str, NDArray[np.float64]],
        exact: Literal["float32", "float64"] | None,
    ) -> tuple[Replica, dict[str, NDArray[np.floating]]]:
        """Send weights and vectors down to those who take part; return what arrives."""
        downlink, receivers, went = self._downlink, self._receivers, list[tuple[int, Sent]]()
        if exact == "float64":
            vector, sent = through(exact, w.dense(), self._opens("weights, float64"))
            replica = Replica(vector)
            went.append((receivers, sent))
        elif isinstance(downlink, SparsePull):
            replica = self._pull(task, w, downlink)
        else:
            assert isinstance(downlink, Broadcast)
            replica, sent = downlink.weights(w, self.shared, self._key_down(0), self._opens("weights"))
            went.append((self._workers if downlink.to_all else receivers, sent))
        arrived = {}
        for name, vector in vectors.items():
            dtype = exact or "float32"
            arrived[name], sent = through(dtype, vector, self._opens(f"{name}, {dtype}"))
            went.append((receivers, sent))
        self._count_down(went)
        return replica, arrived

    def _pull(self, task: str, w: Weights, downlink: SparsePull) -> Replica:
        """Have the workers ask for weights, and send each what it asked for.

        Weights that nobody asked for are not a number, so that one that is read all the same cannot go unnoticed.
        """
        requests = downlink.requests
        order = Order(self.round, self._exchanges, task, Replica(self._unknown[:0]), here=self._here, pull=requests)
        key, header = order.key(self._root), b""
        index, counts, sizes = [self._known[:0]], [self._known[:0]], [self._known[:0]]
        for reply in self._session.round(order):
            keys = key.words(reply.low, reply.low + len(reply.packets))
            asked = requests.unpack(reply.header, reply.packets, keys)
            index.append(np.asarray(asked.index))
            counts.append(np.diff(asked.offsets))
            sizes.append(np.diff(reply.packets.offsets))
            header = reply.header
        bytes_up, extra = np.concatenate(sizes), len(header) * self._opens("requests")
        self.bits_up += 8 * (int(bytes_up.sum()) + self._workers * extra)
        wanted, each = np.concatenate(index), np.concatenate(counts)
        known, sent = downlink.answer(w, wanted, self._opens("answers"))
        self.bits_down += sent.bits + self._workers * sent.header
        if self.clock is not None:
            self.clock.ask(self._exchanges, bytes_up + extra)
            most = sent.bits * float(each.max(initial=0)) / max(wanted.size, 1)
            self.clock.down((most + sent.header) / 8, (sent.bits + self._workers * sent.header) / 8)
        self._unknown[self._known] = np.nan
        self._unknown[wanted], self._known = known, wanted
        return Replica(self._unknown)

    @property
    def _receivers(self) -> int:
        """How many workers take part in the round."""
        return self._workers if self._here is None else int(self._here.sum())

    def _count_down(self, went: list[tuple[int, Sent]]) -> None:
        """Count what went down in one trip: to how many workers, and what to each (headers to all)."""
        if self._downlink.replicated:
            return
        bits = sum(receivers * sent.bits + self._workers * sent.header for receivers, sent in went)
        self.bits_down += bits
        if self.clock is not None:
            self.clock.down(sum(sent.bits + sent.header for _, sent in went) / 8, bits / 8)

    @property
    def _sums_in_flight(self) -> bool:
        return self.clock is not None and self.clock.network.topology.sums_in_flight

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


class _Seen:
    """Takes note of what workers had to do and to send, while their replies pass."""

    def __init__(self, opens: bool) -> None:
        """See messages; `opens` says whether the stream's header goes ahead of each."""
        self._opens, self._parts, self._header = opens, list[tuple[NDArray[np.int64], ...]](), 0

    def passing(self, replies: Iterable[Reply]) -> Iterator[Reply]:
        for reply in replies:
            assert reply.work is not None, "the replies of a timed job say what workers had to do"
            who, sizes = np.arange(reply.low, reply.low + len(reply.packets)), np.diff(reply.packets.offsets)
            self._parts.append((who, reply.work[:, 0], reply.work[:, 1], sizes))
            self._header = len(reply.header) * self._opens
            yield reply

    @property
    def packets(self) -> NDArray[np.float64]:
        """The bytes of the packets."""
        return np.concatenate([part[3] for part in self._parts]).astype(np.float64)

    @property
    def load(self) -> Load:
        who, nonzeros, entries, sizes = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        return Load(who, nonzeros, entries, sizes + self._header)
