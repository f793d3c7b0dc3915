"""What is counted and drawn: bits, headers, non-zeros and keys of every exchange, by hand and from the oracles."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest

import qsim
from oracles import hashing, quantize, varint
from qsim.batch import Floats, Packets, Vectors
from qsim.compressors import Compressor
from qsim.datasets import Contiguous
from qsim.downlinks import DenseWeights, SparseSum
from qsim.downlinks.wire import through
from qsim.keys import Purpose
from qsim.methods import Method, WithReplacement
from qsim.simulation.collectives import ParameterServer
from qsim.workers.tasks import Reply

pytestmark = pytest.mark.quick

N, WORKERS, ROUNDS, SEED, S = 4, 3, 3, 6, 2
DATA = qsim.Dataset.from_arrays(np.eye(7, N) + 1, np.array([1, -1, 1, 1, -1, 1, -1]))  # shards of 2, 2 and 3 rows
ROWS = [2 / 7, 2 / 7, 3 / 7]
SENT = np.float32([[0, 3, -4, 0.5], [1, 0, 0, 0], [-2, 0.25, 0, 8]])  # what the three workers send, every time
HEADER_UP = bytes([1, 6, 1, N, S, 0])
HEADER_DENSE, HEADER_SPARSE = bytes([1, 1, 0, N]), bytes([1, 6, 0, N])


@qsim.option
class Toy(Method):
    """Sends SENT, as often as it is told, in every round, and subtracts the sums."""

    exchanges: int = 2

    def round(self, w, state, exchange):
        for _ in range(self.exchanges):
            w.subtract(exchange("send", w).vector)

    def work(self, task, objective, block, memory):
        return Vectors.dense(SENT[block.low : block.high])


RUN = qsim.Run(
    DATA,
    objective=qsim.LogisticRegression(l2=0.5),
    method=Toy(),
    compressor=qsim.QSGD(levels=S),
    codec=qsim.codecs.Varint(),
    workers=WORKERS,
    partition=Contiguous(),
    rounds=ROUNDS,
    seed=SEED,
    optimum=False,
)


def by_hand(exchanges: int, weights: list[float], sparse: bool) -> tuple[np.ndarray, list[list[int]]]:
    """The final weights, and [nonzeros, bits_up, bits_down] of every round."""
    w, counted = np.zeros(N), [[0, 0, 0]]
    for t in range(ROUNDS):
        nonzeros = up = down = 0
        for exchange in range(exchanges):
            total = np.zeros(N)
            for worker in range(WORKERS):
                word = hashing.key(SEED)
                for part in (3, t, exchange, worker):
                    word = hashing.fold(word, part)
                scale, levels = quantize.qsgd(list(range(N)), SENT[worker], S, word)
                nonzeros += len(levels)
                up += 8 * len(varint.packet(scale, levels, S))
                for c, level in levels.items():
                    total[c] += weights[worker] * float(np.float32(level * (float(scale) / S)))
            first = t == exchange == 0
            up += 8 * WORKERS * len(HEADER_UP) * first
            if sparse:
                total = total.astype(np.float32).astype(np.float64)
                packet = varint.sparse_floats_packet({c: x for c, x in enumerate(total) if x})
                down += 8 * WORKERS * (len(packet) + len(HEADER_SPARSE) * first)
            else:
                down += 8 * WORKERS * (4 * N + len(HEADER_DENSE) * first)
            w -= total
        counted.append([nonzeros, up, down])
    return w, counted


@pytest.mark.parametrize("exchanges", [1, 2, 3])
@pytest.mark.parametrize("downlink", [DenseWeights(), SparseSum()])
@pytest.mark.parametrize("weighting", ["rows", "workers"])
def test_every_exchange_by_hand(exchanges: int, downlink, weighting: str) -> None:
    """Messages, sums and bits, of several exchanges in a round: the headers once, in the first of round 0."""
    trace = qsim.simulate(replace(RUN, method=Toy(exchanges), downlink=downlink, weighting=weighting))
    w, counted = by_hand(exchanges, ROWS if weighting == "rows" else [1 / 3] * 3, isinstance(downlink, SparseSum))
    assert trace.frame[["nonzeros", "bits_up", "bits_down"]].to_numpy().tolist() == counted
    np.testing.assert_allclose(trace.weights, w, rtol=1e-15, atol=1e-15)
    assert trace.axis("bits").tolist() == np.cumsum([up + down for _, up, down in counted]).tolist()


def test_the_mean_over_rows_and_over_workers() -> None:
    run = replace(RUN, method=Toy(1), compressor=qsim.Identity(), rounds=1)
    np.testing.assert_allclose(qsim.simulate(run).weights, -(np.array(ROWS) @ SENT), rtol=1e-15)
    plain = qsim.simulate(replace(run, weighting="workers")).weights
    np.testing.assert_allclose(plain, [1 / 3, -3.25 / 3, 4 / 3, -8.5 / 3], rtol=1e-15)


def test_identity_bits() -> None:
    frame = qsim.simulate(replace(RUN, compressor=qsim.Identity(), codec=qsim.codecs.SparseFloats())).frame
    packets = 2 * 8 * 5 * (3 + 1 + 3)  # two exchanges, a byte of gap and a float for every non-zero
    header = 8 * WORKERS * len(HEADER_SPARSE)
    assert frame["bits_up"].tolist() == [0, packets + header, packets, packets]
    assert frame["nonzeros"].tolist() == [0, 14, 14, 14]


def test_headers_open_streams_of_those_who_take_part_for_the_first_time() -> None:
    """One worker a round, drawn by the key of the clients: up and down, what it has not had before goes ahead."""
    clients = qsim.clients.SampledClients(1)
    link = qsim.network.Link(bandwidth=1e6, latency=0.5)
    network = qsim.Network(qsim.network.ParameterServer(servers=WORKERS), link)
    run = replace(RUN, method=Toy(1), compressor=qsim.Identity(), codec=qsim.codecs.SparseFloats(), clients=clients)
    run = replace(run, rounds=8)
    key, known, up, down = qsim.Key(SEED), set(), [0], [0]
    for t in range(run.rounds):
        (worker,) = np.flatnonzero(clients.draw(key.fold(Purpose.CLIENTS, t), WORKERS))
        new = worker not in known
        known.add(worker)
        up.append(8 * (5 * np.count_nonzero(SENT[worker]) + len(HEADER_SPARSE) * new))
        down.append(8 * (4 * N + len(HEADER_DENSE) * new))
    assert len(known) > 1
    for case in (run, replace(run, network=network)):
        frame = qsim.simulate(case).frame
        assert frame["bits_up"].tolist() == up
        assert frame["bits_down"].tolist() == down
    np.testing.assert_allclose(frame["seconds_downlink"][1:], 0.5 + np.array(down[1:]) / 1e6)  # of one worker's link


def test_purposes_are_apart() -> None:
    assert [int(purpose) for purpose in Purpose] == list(range(len(Purpose)))
    assert (Purpose.PARTITION, Purpose.START, Purpose.DATA, Purpose.QUANTIZE) == (0, 1, 2, 3)


def test_every_stream_has_its_key(monkeypatch) -> None:
    """Partition, start, batches and quantizer: folds of the seed by purpose; the last by round, exchange and worker."""
    seen: dict[str, list] = {"partition": [], "start": [], "data": [], "quantize": []}

    @qsim.option
    class Listening(Compressor):
        emits = Floats

        def quantize(self, v, key):
            seen["quantize"].append(key)
            return Floats.single(v)

    for kind, name, place, label in (
        (Contiguous, "split", 2, "partition"),
        (qsim.starts.Uniform, "weights", 1, "start"),
        (WithReplacement, "draw", 4, "data"),
    ):
        real = getattr(kind, name)

        def listen(self, *arguments, real=real, place=place, label=label):
            seen[label].append(arguments[place])
            return real(self, *arguments)

        monkeypatch.setattr(kind, name, listen)
    method = qsim.SGD(step=qsim.steps.Constant(0.1), batch=2)
    qsim.simulate(replace(RUN, method=method, compressor=Listening(), start=qsim.starts.Uniform()))
    key = qsim.Key(SEED)
    assert seen["partition"] == [key.fold(0)]
    assert seen["start"] == [key.fold(1)]
    assert set(seen["data"]) == {key.fold(2)}
    assert seen["quantize"] == [key.fold(3, t, 0, worker) for t in range(ROUNDS) for worker in range(WORKERS)]


def test_weights_and_sums_on_the_way_down_have_their_keys() -> None:
    """Folds of the seed by purpose, round, exchange, and trip: 0 for weights, 1 for the sum."""
    seen = []

    @qsim.option
    class Listening(qsim.downlinks.Broadcast):
        def weights(self, w, state, key):
            seen.append(key)
            return DenseWeights().weights(w, state, key)

        def aggregate(self, total, state, key):
            seen.append(key)
            return total, qsim.downlinks.Sent()

    qsim.simulate(replace(RUN, downlink=Listening()))
    trips = [(t, exchange, trip) for t in range(ROUNDS) for exchange in range(2) for trip in range(2)]
    assert seen == [qsim.Key(SEED).fold(Purpose.DOWN, *trip) for trip in trips]


def test_batches_differ_from_round_to_round() -> None:
    shards = Contiguous().split(DATA, 1, qsim.Key(0))
    from qsim.block import Block

    block = Block(shards, 0, 1)
    drawn = [tuple(WithReplacement().draw(block, 20, t, {}, qsim.Key(1)).index) for t in range(10)]
    assert len(set(drawn)) == 10


class Given:
    """A channel whose packets name the vectors that they stand for."""

    def __init__(self, *vectors: Vectors) -> None:
        self.vectors = vectors

    def unpack(self, header: bytes, packets: Packets, keys: np.ndarray) -> Vectors:
        return self.vectors[packets.data[0]]


def test_one_server_sums_dense_and_sparse_messages_in_turn() -> None:
    """By hand: nothing of one sum is left in the next, neither numbers nor marks."""
    two = Vectors(5, np.array([0, 2]), np.array([1, 4], np.int32), np.float32([8, -4]))
    full = Vectors.dense(np.float32([1, 0, 2, 0, 0]))
    one = Vectors(5, np.array([0, 1]), np.array([2], np.int32), np.float32([6]))
    server = ParameterServer(5, np.array([0.5, 0.25]))

    def reduce(*which: int):
        replies = [Reply(low, b"h", Packets.of(bytes([number, 0]))) for low, number in enumerate(which)]
        return server.reduce(replies, Given(two, full, one), lambda: qsim.Key(0))

    mixed = reduce(0, 1)
    assert mixed.vector.to_dense().tolist() == [[0.25, 4, 0.5, 0, -2]]
    assert (mixed.vector.index, mixed.nonzeros, mixed.bits, mixed.header) == (None, 4, 32, b"h")
    for _ in range(2):
        sparse = reduce(2, 2)
        assert (sparse.vector.index.tolist(), sparse.vector.value.tolist()) == ([2], [4.5])
    assert reduce(1, 1).vector.to_dense().tolist() == [[0.75, 0, 1.5, 0, 0]]
    both = reduce(0, 2).vector
    assert (both.index.tolist(), both.value.tolist()) == ([1, 2, 4], [4, 1.5, -2])
    assert reduce(2, 2).vector.index.tolist() == [2]


@qsim.option
class Halved(Compressor):
    """Sends twice the values, and reads half of what it sends: a decompress of its own."""

    emits = qsim.batch.Levels

    def compress(self, v, keys, memory=None):
        return qsim.QSGD(S).compress(v, keys).scaled(2.0)

    def decompress(self, message, keys):
        return message.scaled(0.5).vectors()


@pytest.mark.parametrize("codec", [None, qsim.codecs.Dense(), qsim.codecs.SparseFloats(), qsim.codecs.Dense("float64")])
def test_a_compressors_own_decompress_is_used_once(codec) -> None:
    keys, v = qsim.Key(1).words(0, 3), Vectors.dense(SENT)
    expected = qsim.QSGD(S).compress(v, keys).vectors().to_dense()
    channel = qsim.Channel(Halved(), codec)
    assert channel.unpack(*channel.pack(v, keys), keys).to_dense().tolist() == expected.tolist()


def test_dense_rows_of_a_batch_as_sparse_floats() -> None:
    codec, message = qsim.codecs.SparseFloats(), Floats.of(Vectors.dense(SENT))
    packets = codec.encode(message)
    for row, sent in enumerate(SENT):
        assert packets[row] == varint.sparse_floats_packet({c: x for c, x in enumerate(sent) if x})
    assert packets[1] == b"\x00" + struct.pack("<f", 1)
    assert codec.decode(packets, codec.header(message)).vectors().to_dense().tolist() == SENT.tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense_weights_come_down_as_a_channel_brings_them(dtype: str) -> None:
    """Values, bits and header; and what a channel refuses, in its words."""
    channel, keys = qsim.Channel(qsim.Identity(), qsim.codecs.Dense(dtype)), qsim.Key(0).words(0, 1)
    largest = float(np.finfo(np.float32).max)
    for vector in (np.array([0.1, -0.0, 1e-45, 1e-320, largest, -largest]), np.zeros(300)):
        header, packets = channel.pack(Vectors.dense(vector), keys)
        found, sent = through(dtype, vector)
        right = channel.unpack(header, packets, keys).value
        assert (found.tobytes(), found.dtype) == (right.tobytes(), right.dtype)
        assert (sent.bits, sent.header) == (packets.bits, 8 * len(header))
        found[0] = 1.0  # its own memory
    for wrong in (np.nan, -np.inf, 1e309, *((np.nextafter(largest, np.inf), 1e39) if dtype == "float32" else ())):
        told = []
        for send in (lambda v: channel.pack(Vectors.dense(v), keys), lambda v: through(dtype, v)):
            with pytest.raises(ValueError, match=r"\d") as seen:
                send(np.array([0.0, wrong]))
            told.append((seen.type, str(seen.value)))
        assert told[0] == told[1]
