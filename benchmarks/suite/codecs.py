"""Codecs: how fast they write and read a quantized gradient, against peers, the bits beside the entropy.

A codec is a line of `CODECS`, and what it is measured against a line of `RIVALS`; times are per non-zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsim
from benchmarks.case import Case, Claim, Timed
from qsim.batch import Levels, Vectors
from qsim.codecs import RANS, Codec, Elias, FixedWidth, GolombRice, Varint
from qsim.entropy import entropy_bits

CODECS: dict[str, Codec] = {
    "gamma": Elias("gamma"),
    "omega": Elias("omega"),
    "Golomb-Rice": GolombRice(),
    "Varint": Varint(),
    "FixedWidth": FixedWidth(),
    "rANS": RANS(),
}
SAMPLE = 2000  # so many non-zeros are enough for the clock where a peer is slow


@dataclass(frozen=True)
class Peer:
    """A peer with a message's non-zeros prepared for it: what it does, to how many of them, in how many bits."""

    name: str
    encode: Callable[[], Any]
    decode: Callable[[], Any]
    nonzeros: int
    bits: float


def pure_python(message: Levels, code: str) -> Peer:
    """Return the plain Elias coder on the first non-zeros: strings of zeros and ones. It must write the same bytes."""
    head = _first(message, SAMPLE)
    index, levels = head.index.tolist(), head.level.tolist()
    word, read, filling = (_gamma, _read_gamma, "0") if code == "gamma" else (_omega, _read_omega, "1")

    def encode() -> bytes:
        words, previous = [], -1
        for here, level in zip(index, levels, strict=True):
            words += word(here - previous), "01"[level < 0], word(abs(level)) if message.s > 1 else ""
            previous = here
        bits = "".join(words)
        bits += filling * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")

    packet = encode()
    assert packet == CODECS[code].encode(head)[0][4:], f"qsim's {code} is not the code"

    def decode() -> tuple[list[int], list[int]]:
        bits = f"{int.from_bytes(packet, 'big'):b}".zfill(8 * len(packet))
        found, signed, at, here = [], [], 0, -1
        for _ in index:
            gap, at = read(bits, at)
            negative, at, size = bits[at] == "1", at + 1, 1
            if message.s > 1:
                size, at = read(bits, at)
            here += gap
            found.append(here)
            signed.append(-size if negative else size)
        return found, signed

    assert decode() == (index, levels)
    return Peer("pure Python", encode, decode, len(index), 8 * len(packet))


def _gamma(number: int) -> str:
    bits = f"{number:b}"
    return "0" * (len(bits) - 1) + bits


def _read_gamma(bits: str, at: int) -> tuple[int, int]:
    one = bits.index("1", at)
    end = one + one - at + 1
    return int(bits[one:end], 2), end


def _omega(number: int) -> str:
    word = "0"
    while number > 1:
        bits = f"{number:b}"
        word, number = bits + word, len(bits) - 1
    return word


def _read_omega(bits: str, at: int) -> tuple[int, int]:
    number = 1
    while bits[at] == "1":
        at, number = at + number + 1, int(bits[at : at + number + 1], 2)
    return number, at + 1


def vbyte(message: Levels) -> Peer:
    """Return pyfastpfor's LEB128 coder, on the gaps and on the levels: sums and checks are not its work."""
    import pyfastpfor

    coder, m = pyfastpfor.getCodec("vbyte"), message.index.size
    gaps = np.diff(message.index, prepend=np.int32(-1)).astype(np.uint32)
    levels = (np.abs(message.level) << 1 | (message.level < 0)).astype(np.uint32)
    outs, back = [np.empty(2 * m + 1024, np.uint32) for _ in range(2)], np.empty(m + 64, np.uint32)

    def encode() -> list[int]:
        return [coder.encodeArray(numbers, m, out, out.size) for numbers, out in zip((gaps, levels), outs, strict=True)]

    sizes = encode()

    def decode() -> None:
        for out, size in zip(outs, sizes, strict=True):
            coder.decodeArray(out, size, back, back.size)

    return Peer("pyfastpfor vbyte", encode, decode, m, 32.0 * sum(sizes))


def constriction_ans(message: Levels) -> Peer:
    """Return constriction's ANS coder on the first dense levels, with their own frequencies."""
    import constriction

    head = _first(message, SAMPLE)
    stream, n = constriction.stream, int(head.index[-1]) + 1
    symbols = np.zeros(n, np.int32)
    symbols[head.index] = head.level
    least = symbols.min()
    symbols -= least
    model = stream.model.Categorical(np.bincount(symbols) / n, perfect=False)

    def encode() -> NDArray[np.uint32]:
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(symbols, model)
        return np.asarray(coder.get_compressed())

    packet = encode()

    def decode() -> Any:
        return stream.stack.AnsCoder(packet).decode(model, n)

    assert np.array_equal(decode(), symbols)
    return Peer("constriction ANS", encode, decode, head.index.size, 32.0 * packet.size)


def packbits(message: Levels) -> Peer:
    """Return np.packbits for levels of four bits: the dense int8 levels in, and out."""
    levels = np.zeros(message.n + message.n % 2, np.int8)
    levels[message.index] = message.level

    def encode() -> NDArray[np.uint8]:
        return np.packbits(np.unpackbits((levels + 8).view(np.uint8)[:, None], axis=1)[:, 4:])

    packed = encode()

    def decode() -> NDArray[np.int8]:
        bits = np.zeros((levels.size, 8), np.uint8)
        bits[:, 4:] = np.unpackbits(packed).reshape(-1, 4)
        return np.packbits(bits).view(np.int8) - np.int8(8)

    assert np.array_equal(decode(), levels)
    return Peer("np.packbits", encode, decode, message.index.size, 8.0 * packed.size)


@dataclass(frozen=True)
class Rivals:
    """A codec and its peer, by name; the package that the peer needs; the ratios aimed at; the s that are measured."""

    codec: str
    peer: Callable[[Levels], Peer]
    package: str = "numpy"
    encode: float | None = None
    decode: float | None = None
    only: tuple[int, ...] = ()


RIVALS = [
    Rivals("gamma", lambda message: pure_python(message, "gamma"), encode=150.0, decode=150.0),
    Rivals("omega", lambda message: pure_python(message, "omega"), encode=150.0, decode=150.0),
    Rivals("Golomb-Rice", lambda message: _codec_as_peer(message, "gamma")),
    Rivals("rANS", constriction_ans, "constriction", encode=1.0, decode=1.0),
    Rivals("Varint", vbyte, "pyfastpfor", decode=1.0),
    Rivals("FixedWidth", packbits, encode=4.0, decode=4.0, only=(7,)),
]


def cases(quick: bool) -> Iterator[Case]:
    """Yield every pair of rivals on normal gradients, writing and reading."""
    absent = sorted({rivals.package for rivals in RIVALS if find_spec(rivals.package) is None})
    notes = [f"{package} is not installed: python -m pip install '.[peers]'" for package in absent]
    for n in (10**4,) if quick else (10**6, 10**7):
        for s in (1, 3, 7, 127, isqrt(n)):
            message = gradient(n, s)
            for rivals in RIVALS:
                if rivals.package not in absent and s in (rivals.only or (1, 3, 127, isqrt(n))):
                    for case in _cases(rivals, message):
                        yield replace(case, absent=notes)


def gradient(n: int, s: int) -> Levels:
    """Return QSGD's levels of a normal gradient, with the max norm at s = 7: few of those are zero."""
    v = np.random.default_rng(1).standard_normal(n).astype(np.float32)
    message = qsim.QSGD(levels=s, norm="max" if s == 7 else "l2").compress(Vectors.dense(v), qsim.Key(1).words(0, 1))
    assert isinstance(message, Levels)
    return message


def _cases(rivals: Rivals, message: Levels) -> Iterator[Case]:
    codec, peer, m = CODECS[rivals.codec], rivals.peer(message), message.index.size
    packets, header, least = codec.encode(message), codec.header(message), float(entropy_bits(message)[0])
    if rivals.codec == "Golomb-Rice" and m > 10**5 and 0.03 < m / message.n < 0.04:
        assert packets.bits < 1.16 * least, f"Golomb-Rice takes {packets.bits / least} of the entropy"

    def check(results: Mapping[str, Any]) -> None:
        assert codec.decode(packets, header) == message

    for verb, ours, theirs, target in (
        ("encode", lambda: codec.encode(message), peer.encode, rivals.encode),
        ("decode", lambda: codec.decode(packets, header), peer.decode, rivals.decode),
    ):
        yield Case(
            f"{verb}, n = {message.n:.0e}, s = {message.s}, {m / message.n:.2%} non-zero; bits a non-zero: "
            f"{packets.bits / m:.2f}, peer {peer.bits / peer.nonzeros:.2f}, entropy {least / m:.2f}",
            "non-zero",
            [Timed(rivals.codec, ours, m), Timed(peer.name, theirs, peer.nonzeros)],
            [Claim(rivals.codec, peer.name, target)],
            check,
        )


def _codec_as_peer(message: Levels, name: str) -> Peer:
    codec = CODECS[name]
    packets, header = codec.encode(message), codec.header(message)
    encode, decode = lambda: codec.encode(message), lambda: codec.decode(packets, header)
    return Peer(name, encode, decode, message.index.size, packets.bits)


def _first(message: Levels, count: int) -> Levels:
    """Return the message of the first non-zeros alone."""
    count = min(count, message.index.size)
    offsets = np.array([0, count], np.int64)
    return replace(message, offsets=offsets, index=message.index[:count], level=message.level[:count])
