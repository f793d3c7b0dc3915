"""What a user's own downlinks, codecs, memories and links say: taken if it is sound, else refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import qsim
from helpers.small_runs import STEP, masked, trained
from qsim.batch import Floats, Vectors
from qsim.downlinks import Sent
from qsim.methods import DIANA, EF21, SGD, GradientDescent, SignSGD
from qsim.weights import Replica

# What goes over the wire.


@qsim.option
class Sends(qsim.downlinks.Broadcast):
    how: Any = None
    sums: Any = None
    keeps: Any = None

    def start(self, w):
        return self.keeps(w) if self.keeps else {}

    def weights(self, w, state, key):
        whole = Replica(w.dense().astype(np.float32)), Sent(32 * w.vector.size)
        return self.how(*whole) if self.how else whole

    def aggregate(self, total, state, key):
        return self.sums(total) if self.sums else (total, Sent())


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda r, s: None, "what weights of .* must be a Replica and what is Sent"),
        (lambda r, s: (r.vector, s), "what weights of .* must be a Replica and what is Sent"),
        (lambda r, s: (r, s.bits), "what weights of .* must be a Replica and what is Sent"),
        (lambda r, s: (Replica(r.vector[:-1]), s), "the vector of what weights of .* of shape"),
        (lambda r, s: (Replica(r.vector.astype(object)), s), "the vector of what weights of .* of shape"),
        (lambda r, s: (Replica(masked(r.vector)), s), "the vector of what weights of .* is a masked array"),
        (lambda r, s: (Replica(r.vector, "1"), s), "the scale of what weights of .* must be a number"),
        (lambda r, s: (r, Sent(-8)), "the bits that are sent down must be a whole number of at least 0, found -8"),
        (lambda r, s: (r, Sent(8.0)), r"the bits that are sent down must be a whole number .* found 8\.0"),
        (lambda r, s: (r, Sent(8, -8)), "the header that are sent down must be a whole number"),
        (lambda r, s: (r, Sent(7)), "whole bytes are sent, found 7 bits"),
    ],
)
def test_weights_that_are_sent_down(how: Any, told: str) -> None:
    """Negative bits were counted, and the last part of a byte was not."""
    for network in (None, qsim.Network()):
        with pytest.raises((TypeError, ValueError), match=f"(?s){told}"):
            trained(downlink=Sends(how), network=network)


SUMS: dict[str, Callable[[Vectors], Any]] = {
    "none": lambda v: None,
    "an array": lambda v: (v.to_dense(), Sent()),
    "bits": lambda v: (v, 8),
    "longer": lambda v: (Vectors.dense(np.ones((1, 400))), Sent()),
    "three rows": lambda v: (Vectors.dense(np.ones((3, v.n))), Sent()),
    "far out": lambda v: (Vectors(v.n, np.array([0, 1]), np.array([10**6]), np.ones(1)), Sent()),
    "whole numbers": lambda v: (Vectors.dense(np.ones((1, v.n), int)), Sent()),
    "no numbers": lambda v: (Vectors.dense(np.full((1, v.n), np.nan)), Sent()),
}


@pytest.mark.parametrize("what", SUMS)
@pytest.mark.parametrize("method", [GradientDescent(step=STEP), DIANA(step=STEP), EF21(step=STEP), SignSGD(step=STEP)])
def test_sums_that_are_sent_down(what: str, method: Any) -> None:
    """Coordinates past the end were written to."""
    compressor = qsim.compressors.Sign() if isinstance(method, SignSGD) else qsim.Identity()
    with pytest.raises((TypeError, ValueError), match="what aggregate of .*Sends"):
        trained(downlink=Sends(sums=SUMS[what]), method=method, compressor=compressor)


def test_what_a_downlink_keeps() -> None:
    for keeps in (lambda w: None, lambda w: [1], lambda w: {"a": 1.0}, lambda w: {"a": np.array([{}])}):
        with pytest.raises(TypeError, match="what start of .* returns must be arrays by name"):
            trained(downlink=Sends(keeps=keeps))

    class Neither(qsim.downlinks.Downlink):
        pass

    with pytest.raises(TypeError, match="downlink must be"):
        trained(downlink=Neither())
    usual, other = (trained(downlink=downlink) for downlink in (qsim.downlinks.DenseWeights(), Sends()))
    assert usual.weights.tolist() == other.weights.tolist()


@qsim.option
class Writes(qsim.codecs.Codec):
    encodes: Any = None
    decodes: Any = None
    heads: Any = None

    carries = (Floats,)
    number = 200  # type: ignore[assignment]

    def header(self, message):
        return self.heads if self.heads is not None else PLAIN.header(message)

    def encode(self, message):
        return self.encodes(message) if self.encodes else PLAIN.encode(message)

    def decode(self, packets, header):
        found = PLAIN.decode(packets, header)
        return self.decodes(found) if self.decodes else found

    def size(self, message):
        return PLAIN.size(message)


PLAIN = qsim.codecs.Dense()
CODECS: dict[str, Writes] = {
    "no packets": Writes(encodes=lambda m: None),
    "bytes": Writes(encodes=lambda m: [b"a"] * m.rows),
    "packets for two": Writes(encodes=lambda m: PLAIN.encode(Floats.join([m, m]))),
    "a text": Writes(heads="abc"),
    "nothing": Writes(decodes=lambda m: None),
    "vectors": Writes(decodes=lambda m: m.vectors()),
    "signs": Writes(decodes=lambda m: qsim.batch.Signs.single([True] * m.n, low=0, high=1)),
    "more rows": Writes(decodes=lambda m: Floats.join([m] * 3)),
    "past the end": Writes(
        decodes=lambda m: Floats(m.n, np.arange(m.rows + 1), np.full(m.rows, 999), m.value[: m.rows])
    ),
    "offsets beyond": Writes(decodes=lambda m: replace(m, offsets=m.offsets * 1000)),
    "no numbers": Writes(decodes=lambda m: replace(m, value=m.value * np.nan)),
}


@pytest.mark.parametrize("method", [GradientDescent(step=STEP), DIANA(step=STEP)], ids=["GradientDescent", "DIANA"])
@pytest.mark.parametrize("compressor", [qsim.Identity(), qsim.QSGD(4)], ids=repr)
@pytest.mark.parametrize("what", CODECS)
def test_what_a_codec_writes_and_reads(what: str, compressor: Any, method: Any) -> None:
    """The server read beyond the packets' weights."""
    told = r"must encode 3 rows|the header of .* must be bytes|what .*Writes.* reads"
    with pytest.raises((TypeError, ValueError), match=f"(?s){told}"):
        trained(codec=CODECS[what], method=method, compressor=compressor)
    assert trained(codec=Writes(), compressor=compressor).weights.tolist()


# What is kept, and the links.


@qsim.option
class Keeps(SGD):
    """SGD that says it keeps something."""

    server: Any = None
    worker: Any = None

    def start(self, w):
        return self.server if self.server is not None else super().start(w)

    def memory(self, block, support):
        return self.worker(support) if self.worker is not None else super().memory(block, support)


@pytest.mark.parametrize(
    ("server", "worker", "told"),
    [
        ([1.0], None, r"what start of .* returns must be arrays by name, found \[1.0\]"),
        ({"a": [1.0]}, None, "what start of .* returns must be arrays by name"),
        ({"a": np.array([None])}, None, "what start of .* returns must be arrays by name"),
        (None, lambda of: {"a": np.zeros(3)}, "what memory of .* returns must be a Memory"),
        (
            None,
            lambda of: qsim.batch.Memory(of, {"a": [1.0]}),
            "the arrays of what memory of .* must be arrays by name",
        ),
    ],
)
def test_what_a_method_keeps(server: Any, worker: Any, told: str) -> None:
    """Lists went through until a checkpoint was written."""
    with pytest.raises(TypeError, match=told):
        trained(method=Keeps(STEP, server=server, worker=worker))


def test_rows_of_a_memory_have_its_size() -> None:
    """The kernel that adds to them wrote behind shorter ones."""
    support = qsim.batch.Support(4, np.array([0, 4]), None)
    memory = qsim.batch.Memory(support, {"short": np.zeros(2, np.float32)})
    with pytest.raises(ValueError, match=r"'short' must be 4 numbers, one per coordinate, found shape \(2,\)"):
        memory.add("short", Vectors.dense(np.ones(4, np.float32)))


@qsim.option
class Linked(qsim.network.ParameterServer):
    """A topology of a user's own, whose `name` returns what is given."""

    name: str = ""
    value: Any = None

    def collect(self, sizes, link):
        return self.value if self.name == "collect" else super().collect(sizes, link)

    def decoded(self, sizes):
        return self.value if self.name == "decoded" else super().decoded(sizes)

    def sent(self, sizes):
        return self.value if self.name == "sent" else super().sent(sizes)

    def broadcast(self, each, total, link):
        return self.value if self.name == "broadcast" else super().broadcast(each, total, link)

    def arrivals(self, ready, sizes, link, ties):
        return self.value if self.name == "arrivals" else super().arrivals(ready, sizes, link, ties)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("decoded", np.nan, "what decoded of .* returns must be a finite number of at least 0, found nan"),
        ("sent", -1.0, "what sent of .* returns must be a finite number of at least 0"),
        ("broadcast", "soon", "what broadcast of .* returns must be a finite number"),
        ("collect", [1.0], "what collect of .* returns must be a finite number"),
        ("arrivals", [1.0], "what arrivals of .* returns must be an array of real numbers of shape"),
        ("arrivals", [-np.inf] * 3, "what arrivals of .* returns must be no sooner than"),
    ],
)
def test_what_a_topology_says(name: str, value: Any, told: str) -> None:
    """Times that are no numbers went into the trace, and messages could come before they were ready."""
    network = qsim.Network(Linked(name=name, value=value))
    if name == "collect":  # which only topologies without a server are asked for
        with pytest.raises(ValueError, match=told):
            network.topology.collect(np.ones(3), qsim.network.Link())
        return
    with pytest.raises(ValueError, match=told):
        trained(network=network)
    trained(network=qsim.Network(Linked()))
