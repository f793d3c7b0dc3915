"""Streams of levels: qsim's shortest and fastest codes against the fastest coders there are, with the bits they take.

Peers get their input in the form they like best: dense int8 levels, or gaps and levels in words of 32 bits. None checks
what it reads; qsim decodes to coordinates and levels, and checks each. Times are per non-zero, on one thread.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.case import Case, Claim, Timed
from benchmarks.suite.codecs import CODECS, Peer, constriction_ans, gradient
from qsim.batch import Levels
from qsim.entropy import entropy_bits

OURS = ("rANS", "Golomb-Rice", "gamma", "Varint")


@dataclass(frozen=True)
class Rival:
    """A peer, the package that it needs (none: it is always there), and which of qsim's codes it is compared with."""

    peer: Callable[[Levels], Peer]
    package: str | None
    against: tuple[str, ...]


def huffman(message: Levels) -> Peer:
    """Return zlib told to look for no matches: a Huffman code of the dense levels, from the standard library."""
    levels = _dense(message)

    def encode() -> bytes:
        coder = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
        return coder.compress(levels) + coder.flush()

    packed = encode()
    assert zlib.decompress(packed, -15) == levels
    return Peer("zlib, Huffman only", encode, lambda: zlib.decompress(packed, -15), message.index.size, 8 * len(packed))


def zstd(level: int) -> Callable[[Levels], Peer]:
    """Return zstd of the dense levels."""

    def peer(message: Levels) -> Peer:
        return _zstd(f"zstd -{level}", _dense(message), level, message.index.size)

    return peer


def zstd_of_varint(message: Levels) -> Peer:
    """Return zstd of the bytes that the varint code makes, which are there already."""
    return _zstd("zstd -1 of varint", CODECS["Varint"].encode(message).data.tobytes(), 1, message.index.size)


def _zstd(name: str, data: bytes, level: int, nonzeros: int) -> Peer:
    import zstandard

    coder, decoder = zstandard.ZstdCompressor(level), zstandard.ZstdDecompressor()
    packed = coder.compress(data)
    assert decoder.decompress(packed) == data
    return Peer(name, lambda: coder.compress(data), lambda: decoder.decompress(packed), nonzeros, 8 * len(packed))


def words(name: str) -> Callable[[Levels], Peer]:
    """Return one of pyfastpfor's codes of 32-bit words, on the gaps and on the levels."""

    def peer(message: Levels) -> Peer:
        import pyfastpfor

        coder, m = pyfastpfor.getCodec(name), message.index.size
        gaps = (np.diff(message.index, prepend=np.int32(-1)) - 1).astype(np.uint32)
        levels = (np.abs(message.level) - 1 << 1 | (message.level < 0)).astype(np.uint32)
        outs, back = [np.empty(2 * m + 1024, np.uint32) for _ in range(2)], np.empty(m + 1024, np.uint32)

        def encode() -> list[int]:
            return [coder.encodeArray(x, m, out, out.size) for x, out in zip((gaps, levels), outs, strict=True)]

        sizes = encode()

        def decode() -> None:
            for out, size in zip(outs, sizes, strict=True):
                coder.decodeArray(out, size, back, back.size)

        decode()
        assert np.array_equal(back[:m], levels)
        return Peer(f"pyfastpfor {name}", encode, decode, m, 32.0 * sum(sizes))

    return peer


RIVALS = [
    Rival(huffman, None, ("rANS",)),
    Rival(zstd(1), "zstandard", ("rANS", "Golomb-Rice")),
    Rival(zstd(3), "zstandard", ("rANS",)),
    Rival(zstd(19), "zstandard", ("rANS",)),
    Rival(zstd_of_varint, "zstandard", ("gamma",)),
    Rival(constriction_ans, "constriction", ("rANS",)),
    Rival(words("vbyte"), "pyfastpfor", ("Varint",)),
    Rival(words("streamvbyte"), "pyfastpfor", ("Varint",)),
    Rival(words("simdbinarypacking"), "pyfastpfor", ("Varint",)),
    Rival(words("simdfastpfor256"), "pyfastpfor", ("gamma",)),
]


def cases(quick: bool) -> Iterator[Case]:
    """Yield writing and reading at each density."""
    missing = sorted({rival.package for rival in RIVALS if rival.package and find_spec(rival.package) is None})
    absent = [f"{package} is not installed: python -m pip install '.[peers]'" for package in missing]
    for n, s in ((10**7, 4), (10**6, 40), (10**6, 1000)):  # 0.1, 3 and 63% not zero
        message = gradient(n // 1000 if quick else n, s)
        peers = [(rival, rival.peer(message)) for rival in RIVALS if rival.package not in missing]
        for case in _cases(message, peers):
            yield replace(case, absent=absent)


def _cases(message: Levels, peers: list[tuple[Rival, Peer]]) -> Iterator[Case]:
    m, least = message.index.size, float(entropy_bits(message)[0])
    packets = {name: CODECS[name].encode(message) for name in OURS}
    headers = {name: CODECS[name].header(message) for name in OURS}
    title = {name: f"{name}, {packets[name].bits / m:.2f} bits" for name in OURS}
    copy = f"a copy of {message.index.itemsize + 4} bytes"

    def check(results: Mapping[str, Any]) -> None:
        for name in OURS:
            assert CODECS[name].decode(packets[name], headers[name]) == message

    def calls(verb: str, name: str) -> Callable[[], Any]:
        if verb == "encode":
            return lambda: CODECS[name].encode(message)
        return lambda: CODECS[name].decode(packets[name], headers[name])

    index, level = np.empty_like(message.index), np.empty_like(message.level)

    def copying() -> None:
        index[:], level[:] = message.index, message.level

    copied = Timed(copy, copying, m)
    for verb in ("encode", "decode"):
        contestants = [Timed(title[name], calls(verb, name), m) for name in OURS]
        claims = [Claim(title[name], copy) for name in OURS]
        for rival, peer in peers:
            name = f"{peer.name}, {peer.bits / peer.nonzeros:.2f} bits"
            contestants.append(Timed(name, getattr(peer, verb), peer.nonzeros))
            claims += [Claim(title[ours], name) for ours in rival.against]
        yield Case(
            f"{verb}, n = {message.n:.0e}, {m / message.n:.2g} non-zero, entropy {least / m:.2f} bits",
            "non-zero",
            [*contestants, copied],
            claims,
            check,
        )


def _dense(message: Levels) -> bytes:
    levels = np.zeros(message.n, np.int8)
    levels[message.index] = message.level
    return levels.tobytes()
