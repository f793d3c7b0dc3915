"""The exchange: one trip down to the workers and up again, with every bit counted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qsim.arrays import truths
from qsim.channel import EXACT, Channel
from qsim.clients import Clients
from qsim.downlinks import Broadcast, DenseWeights, Downlink, Sent, SparsePull
from qsim.downlinks.wire import through
from qsim.engines import Session
from qsim.formulas import message_bits
from qsim.keys import Key, Purpose
from qsim.methods import Sum
from qsim.network import Clock, Load
from qsim.objectives import Objective
from qsim.simulation.collectives import ParameterServer, Received
from qsim.simulation.recorder import Counted
from qsim.simulation.streams import Format, Held, Streams
from qsim.weights import Change, Replica, Weights
from qsim.workers.tasks import CoordinateRequest, Order, Reply


class WireExchange:
    """Sends weights down, has the workers compute, and sums what they send up; counts a round's bits, non-zeros, rows.

    Every stream opens with its header, counted once, with the first packet on it: for each worker one up and one down,
    of each kind that is used (compressed and exact, weights and each further vector). An all-reduce, whose messages are
    passed on by all, is one stream. Weights go to those who take part in the round and do not hold them yet; the sum,
    where the downlink sends it, to all, as they all keep weights of their own.

    With a clock it takes virtual time, and messages that the clock finds late are left out of the sum; their workers
    are told. The bytes that take time are those that are counted.
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
        self._clients_key, self._down_key = key.fold(Purpose.CLIENTS), key.fold(Purpose.DOWN)
        self._weights, self._clients = weights, clients
        self._sums = type(downlink).aggregate is not Downlink.aggregate
        self._servers: dict[int, ParameterServer] = {}
        self._formulas: dict[int, float] = {}
        self._unknown = np.full(self._n if isinstance(downlink, SparsePull) else 0, np.nan, np.float32)
        self._known: NDArray[Any] = np.zeros(0, np.int64)
        self._pulled = Change.anew()
        self._everyone, self._no_bytes = np.ones(self._workers, bool), np.zeros(self._workers, np.int64)
        self.streams, self.held = Streams(self._workers), Held(self._workers)
        self.shared = downlink.start(w)
        """State of both ends of the downlink."""
        self.begin(0)

    def begin(self, t: int) -> None:
        """Start round t with nothing counted."""
        self.round = t
        self.nonzeros = self.bits_up = self.bits_down = self.rows = 0
        self._formula_bits = 0.0
        self._scores: NDArray[np.float64] | None = None
        self._exchanges = 0
        drawn = self._clients.draw(self._clients_key.fold(t), self._workers)
        if drawn is not None:
            drawn = truths(f"who takes part by {self._clients!r}, unless it is None,", drawn, (self._workers,))
        self._participants = drawn
        self._present = self._everyone if drawn is None else drawn
        if self.clock is not None:
            self.clock.begin(t)

    @property
    def opened(self) -> bool:
        """Whether the streams of a compressed exchange have all been opened, so that no header is sent any more.

        Of sums, where the downlink sends them: there is none in a round whose messages all come late, or weigh nothing.
        """
        streams = [f"up, None, {self._n}"]
        if self._sums:
            streams.append("sum")
        return not any(self.streams.unopened(stream).any() for stream in streams)

    @property
    def counted(self) -> Counted:
        """The counts of this round."""
        traffic, clock = np.array([[self.nonzeros, self.bits_up, self.bits_down, self.rows]], np.int64), self.clock
        times = None if clock is None else np.array([[*clock.times.values(), clock.dropped]])
        return Counted(traffic, np.array([self._formula_bits]), times, self._scores)

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
        if exact and self._downlink.dtype == "float64":  # what workers have
            exact = "float64"
        replica, arrived = self._send(task, w, vectors, exact)
        order = Order(
            self.round,
            self._exchanges,
            task,
            replica,
            arrived,
            exact,
            shared=self._sums_in_flight,
            numbered=self._numbered,
            participants=self._participants,
        )
        received, bits = self._collect(order, length)
        total = received.vector
        if (
            self._sums and exact != "float64" and received.share
        ):  # beside exact weights none is needed; of nothing, none is
            total, sent = self._downlink.aggregate(total, self.shared, self._key_down(1))
            self._deliver(self._trip("sum", sent, self._everyone))
        self.nonzeros += received.nonzeros
        self.rows += received.rows
        if received.scores is not None:
            self._scores = received.scores
        self.bits_up += bits
        each = {"float32": 32.0 * length, "float64": 64.0 * length}[exact] if exact else self.formula_bits(length)
        self._formula_bits += each * int(np.count_nonzero(self._present))
        self._exchanges += 1
        return Sum(total, received.share)

    def tell(self, task: str, w: Weights) -> None:
        """Have every worker do `task` at the weights w; nothing is sent up."""
        replica, _ = self._send(task, w, {}, None)
        order = Order(
            self.round,
            self._exchanges,
            task,
            replica,
            exact="float32",
            silent=True,
            participants=self._participants,
        )
        for reply in self._session.round(order):
            self.rows += reply.rows
        self._exchanges += 1

    def formula_bits(self, length: int) -> float:
        """Return the bits of a compressed message by the formula of its compressor; NaN without one."""
        if length not in self._formulas:
            found = message_bits(self._channel.compressor, length)
            self._formulas[length] = math.nan if found is None else found
        return self._formulas[length]

    def _collect(self, order: Order, length: int) -> tuple[Received, int]:
        """Have the workers follow an order, and sum what they send; return the sum, and the bits sent for it.

        Workers compute while the server takes in their replies, a block of them at a time, unless the network drops
        messages: which ones is known when all have been sent.
        """
        channel = EXACT[order.exact] if order.exact else self._channel
        stream, clock = f"up, {order.exact}, {length}", self.clock
        server, participants = self._server(length), order.participants
        replies = self._session.round(order)
        if clock is None:
            received = server.reduce(replies, channel, partial(order.key, self._root), participants)
            self.streams.require_same(stream, received.header)
            new = self.streams.open(stream, self._present)
            return received, received.bits + 8 * len(received.header) * int(np.count_nonzero(new))
        seen, in_time = _Seen(), None
        replies = seen.passing(replies)
        if clock.network.rule.drops and order.exact is None:
            replies = iter(list(replies))
            load = seen.load(self.streams.unopened(stream))
            found = clock.up(self._exchanges, load)
            in_time = np.zeros(self._workers, bool)
            in_time[load.who] = found
        received = server.reduce(replies, channel, partial(order.key, self._root), participants, in_time)
        if in_time is None:
            load = seen.load(self.streams.unopened(stream))
            found = clock.up(self._exchanges, load, order.exact is not None)
        else:
            self._session.on_delivered(in_time)
        self.streams.require_same(stream, received.header)
        topology, sizes, sent = clock.network.topology, np.zeros(self._workers), np.zeros(self._workers, bool)
        sent[load.who] = True if topology.has_server else found  # a message that is late for a collective is not sent
        sizes[load.who] = load.sizes
        self.streams.open(stream, self._everyone if topology.sums_in_flight and sent.any() else sent)
        return received, 8 * round(topology.sent(np.where(sent, sizes, 0.0)))

    def _send(
        self,
        task: str,
        w: Weights,
        vectors: Mapping[str, NDArray[np.float64]],
        exact: Literal["float32", "float64"] | None,
    ) -> tuple[Replica, dict[str, NDArray[np.floating]]]:
        """Send weights and vectors down to those who take part; return what arrives."""
        downlink, present, held = self._downlink, self._present, self.held
        known: Format = "float64" if exact == "float64" else downlink.dtype
        lacking = present & ~held.by(w, known)
        sizes = self._no_bytes
        if exact == "float64":
            vector, sent = through(exact, w.dense())
            replica = Replica(vector)
            sizes = self._trip("weights, float64", sent, lacking)
            held.learn(w, exact, vector, present)
        elif not lacking.any():
            replica = Replica(w.dense().astype(known))
        elif isinstance(downlink, SparsePull):
            replica = self._pull(task, w, downlink)
        else:
            assert isinstance(downlink, Broadcast)
            replica, sent = downlink.weights(w, self.shared, self._key_down(0))
            if isinstance(downlink, DenseWeights):
                sizes = self._trip(f"weights, {downlink.dtype}", sent, lacking)
                held.learn(w, known, replica.vector, present)
            else:
                sizes = self._trip("weights", sent, self._everyone if downlink.to_all else present)
        arrived = {}
        for name, vector in vectors.items():
            dtype = exact or "float32"
            arrived[name], sent = through(dtype, vector)
            sizes = sizes + self._trip(f"{name}, {dtype}", sent, present)
        self._deliver(sizes)
        return replica, arrived

    def _pull(self, task: str, w: Weights, downlink: SparsePull) -> Replica:
        """Have the workers ask for weights, and send each what it asked for.

        Unrequested weights are NaN, so that an accidental read is detected.
        """
        requests = downlink.requests
        request = CoordinateRequest(self.round, self._exchanges, task, requests, participants=self._participants)
        key, header = request.key(self._root), b""
        index, counts, asked = [self._known[:0]], np.zeros(self._workers, np.int64), np.zeros(self._workers, np.int64)
        for reply in self._session.round(request):
            low, high = reply.low, reply.low + len(reply.packets)
            wants = requests.unpack(reply.header, reply.packets, key.words(low, high))
            index.append(np.asarray(wants.index))
            counts[low:high] = np.diff(wants.offsets)
            asked[low:high] = np.diff(reply.packets.offsets)
            header = reply.header
        asked += len(header) * self.streams.open("requests", self._present)
        self.bits_up += 8 * int(asked.sum())
        if self.clock is not None:
            self.clock.ask(self._exchanges, asked[self._present])
        wanted = np.concatenate(index)
        known, sent = downlink.answer(w, wanted)
        sizes = counts * (sent.bits // max(8 * wanted.size, 1))
        sizes += sent.header // 8 * self.streams.open("answers", counts > 0)
        self._deliver(sizes)
        self._unknown[self._known] = np.nan
        self._pulled = self._pulled.then(np.concatenate([self._known, wanted]))
        self._unknown[wanted], self._known = known, wanted
        return Replica(self._unknown, change=self._pulled)

    def _trip(self, stream: str, sent: Sent, who: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the bytes that go down to each worker if one packet goes to some of them, headers where they must."""
        if not sent.bits and not sent.header:
            return self._no_bytes
        return (sent.bits * who + sent.header * self.streams.open(stream, who)) // 8

    def _deliver(self, sizes: NDArray[np.int64]) -> None:
        """Count what goes down in one trip, in bytes to each worker."""
        if self._downlink.replicated:
            return
        total = int(sizes.sum())
        self.bits_down += 8 * total
        if self.clock is not None:
            self.clock.down(float(sizes.max()), float(total))

    @property
    def _sums_in_flight(self) -> bool:
        return self.clock is not None and self.clock.network.topology.sums_in_flight

    @property
    def _numbered(self) -> bool | Literal["among those present"]:
        together = self._channel.compressor.correlated
        return "among those present" if together not in (None, self._workers) else together is not None

    def _key_down(self, trip: int) -> Key:
        return self._down_key.fold(self.round, self._exchanges, trip)

    def _server(self, length: int) -> ParameterServer:
        """Return who sums vectors of a length."""
        if length not in self._servers:
            self._servers[length] = ParameterServer(length, self._weights)
        return self._servers[length]


class _Seen:
    """Takes note of what workers had to do and to send, while their replies pass."""

    def __init__(self) -> None:
        """Begin with none."""
        self._parts, self._header = list[tuple[NDArray[np.int64], ...]](), b""

    def passing(self, replies: Iterable[Reply]) -> Iterator[Reply]:
        for reply in replies:
            assert reply.work is not None, "the replies of a timed job say what workers had to do"
            who, sizes = np.arange(reply.low, reply.low + len(reply.packets)), np.diff(reply.packets.offsets)
            self._parts.append((who, reply.work[:, 0], reply.work[:, 1], sizes))
            self._header = reply.header
            yield reply

    def load(self, unopened: NDArray[np.bool_]) -> Load:
        """Return what was seen; the streams of some workers have not been opened, so that their headers go ahead."""
        none = (np.empty(0, np.int64),) * 4  # where nobody takes part
        who, nonzeros, entries, sizes = (np.concatenate(column) for column in zip(none, *self._parts, strict=True))
        return Load(who, nonzeros, entries, sizes + len(self._header) * unopened[who])
