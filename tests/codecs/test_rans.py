"""RANS: bytes against the oracle, distance to the entropy, hostile bytes. `test_entries.py` has round trips."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given

from helpers.messages import messages, parts
from oracles import bitcodes, bits, frequencies, rans, varint
from qsim.batch import Floats, Levels, Message, Packets, Signs
from qsim.codecs import RANS, DecodeError

pytestmark = pytest.mark.quick

CODEC = RANS()


@given(messages())
def test_bytes_are_the_oracles(message: Message) -> None:
    packets = CODEC.encode(message)
    for row in range(message.rows):
        floats, entries, s = parts(message, row)
        assert packets[row] == rans.packet(floats, entries, s)
        assert rans.unpacket(packets[row], len(floats), s) == entries


def of_levels(level: np.ndarray, s: int) -> Levels:
    return Levels.single(level, scale=1, s=s)


def qsgd(n: int, s: int, norm: str, seed: int = 0) -> np.ndarray:
    """The levels of a Gaussian vector."""
    draw = np.random.default_rng(seed)
    v = draw.standard_normal(n)
    t = np.abs(v) * s / (np.linalg.norm(v) if norm == "l2" else np.abs(v).max())
    return (np.sign(v) * np.floor(t + draw.random(n))).astype(np.int32)


def sparse(n: int, density: float, s: int) -> np.ndarray:
    """Levels that are uniform where they are not zero."""
    draw = np.random.default_rng(1)
    return np.where(draw.random(n) < density, draw.integers(1, s + 1, n) * draw.choice([-1, 1], n), 0)


def skewed(n: int, positive: float) -> Signs:
    return Signs.single(np.random.default_rng(2).random(n) < positive, low=-1, high=1)


def entropy(message: Levels | Signs) -> float:
    """n times the order-0 entropy of the dense stream."""
    level = message.level if isinstance(message, Levels) else message.positive.astype(int)
    counts = np.unique(level, return_counts=True)[1]
    counts = counts[counts < message.n].tolist() + [message.n - level.size] * (level.size < message.n)
    return -sum(c * np.log2(c / message.n) for c in counts)


STREAMS: dict[str, Callable[[], Levels | Signs]] = {
    "s = 3": lambda: of_levels(qsgd(4_000_000, 3, "l2"), 3),
    "s = 127": lambda: of_levels(qsgd(60_000, 127, "l2"), 127),
    "s = root of n, short": lambda: of_levels(qsgd(24_000, 154, "l2"), 154),
    "s = root of n": lambda: of_levels(qsgd(1_000_000, 1000, "l2"), 1000),
    "dense": lambda: of_levels(qsgd(8_000, 127, "max"), 127),
    "density 0.1%, s = 1": lambda: of_levels(sparse(5_000_000, 0.001, 1), 1),
    "density 0.1%, s = 7": lambda: of_levels(sparse(5_000_000, 0.001, 7), 7),
    "powers of two": lambda: of_levels(2 ** (sparse(100_000, 1, 8) % 8), 128),
    "signs": lambda: skewed(60_000, 0.5),
    "skewed signs": lambda: skewed(200_000, 0.95),
    "more skewed signs": lambda: skewed(800_000, 0.01),
}


@pytest.mark.parametrize("name", STREAMS)
def test_payloads_are_within_two_percent_of_the_entropy(name: str) -> None:
    """Of the order-0 entropy, for payloads of 50 kbit and more: QSGD levels of Gaussian vectors, rougher streams."""
    message = STREAMS[name]()
    packets = CODEC.encode(message)
    assert CODEC.decode(packets, CODEC.header(message)) == message
    assert packets.bits >= 50_000
    assert packets.bits <= 1.02 * entropy(message)


def test_golden_bytes() -> None:
    """A change of these is a change of the wire format: raise the version and docs/wire-format.md with it."""
    message = Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3)
    signs = Signs.single([True, False, True], low=-1.0, high=0.5)
    floats = Floats(8, np.array([0, 1]), np.array([2], np.int32), np.float32([1]))
    assert [CODEC.header(m).hex() for m in (message, signs, floats)] == ["010e01080300", "010e0203", "010e0008"]
    assert [CODEC.encode(m)[0].hex() for m in (message, signs, floats)] == GOLDEN


GOLDEN = [  # of (0, -3, 0, 1, 0, 0, 0, 2) with s = 3, of the signs + - +, and of 1.0 at coordinate 2
    "0000c03f032625083c98eecc78d66903002fa70d00",
    "000080bf0000003f0362c14251e000800000c4690300",
    "013890008000000000803f",
]


def body(
    k: int,
    tables: list[tuple[dict[int, int], bool]],
    states: list[int],
    rest: bytes = b"",
) -> bytes:
    """A packet of levels or signs behind its prefix, from its parts."""
    header = "".join(frequencies.table_bits(table, plain, 1 + i) for i, (table, plain) in enumerate(tables))
    return varint.leb128(k) + bits.filled(header) + b"".join(state.to_bytes(4, "little") for state in states) + rest


LEVELS_HEADER = bytes.fromhex("010e01") + varint.leb128(2**20) + varint.leb128(7) + bytes(1)
ONE = {0: 16}, False  # p is 4 for two entries: gaps of 1, levels of 1 and -1
TWO = {0: 8, 1: 8}, False
SCALE = np.float32(1).tobytes()


def refused(packet: bytes, why: str, header: bytes = LEVELS_HEADER) -> None:
    with pytest.raises(DecodeError, match=why):
        CODEC.decode(Packets.of(SCALE + packet), header)


def test_packets_by_hand() -> None:
    """A state of 2^17 steps back to 2^15 in two steps of half the slots, both by slot 0: the level 1."""
    good = body(2, [ONE, TWO], [2**15, 2**17])
    message = CODEC.decode(Packets.of(SCALE + good), LEVELS_HEADER)
    assert isinstance(message, Levels)
    assert message.index.tolist() == [0, 1]
    assert message.level.tolist() == [1, 1]
    refused(good + b"\0", "left behind")
    refused(good + bytes(2), "left behind")
    refused(good[:-1], "ends inside")
    for states in ([2**15, 2**15 - 1], [2**15 - 1, 2**17], [2**15, 2**31], [2**31, 2**17], [2**15, 2**17 + 1]):
        refused(body(2, [ONE, TWO], states), "outside its interval|left behind|ends inside")


@pytest.mark.parametrize(
    ("gaps", "levels"),
    [
        (({0: 16, 1: 1}, False), TWO),  # sums past 2^p
        (({0: 8, 1: 9}, False), TWO),
        (({188: 8}, False), TWO),  # past the last class
        (TWO, ({238: 8}, False)),
        (({0: 32}, False), TWO),  # longer than p + 1 bits
        (ONE, ({0: 16}, False)),  # both so sure that entries cost nothing
    ],
)
def test_tables_that_are_none(gaps: tuple[dict[int, int], bool], levels: tuple[dict[int, int], bool]) -> None:
    refused(body(2, [gaps, levels], [2**15, 2**17]), "table of frequencies")


def test_tables_of_bits_that_are_none() -> None:
    for written, why in {
        "0" + bitcodes.gamma(1) + bitcodes.gamma(3) + "1" * 3: "table",  # all zeros
        "0" + "0" * 40: "table",  # no number
        "0" + bitcodes.gamma(1) + bitcodes.gamma(1) + bitcodes.gamma(2): "table",  # a length below zero
        "0" + bitcodes.gamma(1) + bitcodes.gamma(180): "table",  # ends inside
    }.items():
        refused(varint.leb128(2) + bits.filled(written), why)
    packet = bytearray(body(2, [ONE, TWO], [2**15, 2**17]))
    packet[-9] ^= 1  # the filling behind the tables
    refused(bytes(packet), "table")


def test_slots_without_a_symbol_are_refused() -> None:
    refused(body(2, [({0: 8}, False), TWO], [2**15 + 8, 2**17]), "no symbol")
    refused(body(2, [ONE, ({0: 8}, False)], [2**15, 2**17 + 8]), "no symbol")


def test_one_past_the_last_coordinate_or_level_is_refused() -> None:
    header = CODEC.header(Levels.single([0] * 8, scale=1, s=3))
    for entries, why in (({2: 1, 8: 1}, "past the last coordinate"), ({2: 1, 7: -4}, "larger than s")):
        refused(rans.packet([], entries, 3), f"packet 0, byte .*{why}", header)


@pytest.mark.parametrize("k", [0, 3, 2**20, 2**20 + 1, 2**62, 2**63, 2**64, 2**70])
def test_claims_of_many_entries_reserve_nothing(k: int) -> None:
    """A packet of twenty bytes holds fewer than 2^15 entries whatever it says."""
    packet = body(k, [ONE, TWO], [2**15, 2**17])
    tracemalloc.start()
    refused(packet, "packet 0, byte")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_long_row_of_equal_levels_is_within_what_a_packet_may_claim() -> None:
    """The cheapest entries there are, and the bound on k: the packets are a few hundredths of a bit an entry."""
    for n in (1, 7, 1000, 200_000):
        message = of_levels(np.ones(n, np.int32), 1)
        packets = CODEC.encode(message)
        assert CODEC.decode(packets, CODEC.header(message)) == message
        assert packets.bits < 250 + n / 100


def test_frequencies_are_the_senders_choice() -> None:
    """A packet with other tables and the plain bits written though they are zero decodes as well."""
    table = {0: 3, 1: 4, 5: 1}, True
    words: list[int] = []
    state = rans.LOWEST
    for symbol in (1, 0, 1):
        state = rans.push(state, symbol, table[0], 4, words)
    message = CODEC.decode(Packets.of(SCALE + body(3, [ONE, table], [2**15, state])), LEVELS_HEADER)
    assert isinstance(message, Levels)
    assert message.level.tolist() == [-1, 1, -1]


@pytest.mark.parametrize("bits", range(1, 49))
def test_numbers_of_every_size(bits: int) -> None:
    """Gaps up to 2^48, and levels up to 2^31 - 1 with them: the most plain bits per entry can have."""
    gap = 2**bits - 1
    n, s = 2**48, 2**31 - 1
    index = np.array([gap - 1, min(2 * gap, n - 1)])
    message = Levels(n, np.array([0, 2]), index, np.array([-min(gap, s), s], np.int32), np.float32([1]), s)
    packets = CODEC.encode(message)
    assert CODEC.decode(packets, CODEC.header(message)) == message
    assert packets[0] == rans.packet(*parts(message, 0))
    assert CODEC.size(message).tolist() == [packets.bits]
