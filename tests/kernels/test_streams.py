"""A battery of statistical tests for the random streams of coordinates, and weak streams that it must find.

False alarms: a test fails at a p-value below 1e-12, and the battery makes fewer than 950, so 1e-9 in all for fixed
keys. Power, at 2^18 draws: a cell of 256 that is off by 50% is found with probability 0.95, by 60% with
0.99999; a correlation of 0.02 with 0.999. The planted streams below are all found, among them the hash of two rounds
that was the default once: draws 64 coordinates apart, and those of some pairs of workers, were related in it.

Keys are folded here as the simulation folds them. `relations` takes keys as a user's loop makes them: families of 1,024
that differ in little, 64 draws of each. Of three kinds of streams and 14 families it makes fewer than 1,000 tests, so
1e-9 again. Power: in 2^16 draws a correlation of 0.05 between neighbours is found with probability above 0.999, and
draws that keys share if they are 0.2% of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import chdtrc, erfc, pdtr, pdtrc

import qsim
from oracles import hashing
from qsim.keys import Key, Purpose, of_word

N = 2**18
LEAST = 1e-12
Draws = NDArray[np.int64]
Stream = Callable[[int, int], Draws]
"""Given a key's word and n, the 24-bit draws of coordinates 0 to n - 1."""


def drawn(word: np.uint64 | np.int64, n: int) -> Draws:
    from qsim.kernels.tiles import draw_run

    out = np.empty(n, np.int32)
    draw_run(word, 0, out)
    return out.astype(np.int64)


def default(word: int, n: int) -> Draws:
    return drawn(np.uint64(word), n)


def philox(word: int, n: int) -> Draws:
    return drawn(np.uint64(word).view(np.int64), n)


def two_rounds(word: int, n: int, *, second: bool = True) -> Draws:
    x = np.arange(n, dtype=np.uint32) ^ np.uint32(word & hashing.M32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x21F0AAAD)
    x ^= x >> np.uint32(15)
    x += np.uint32(word >> 32)
    if second:
        x *= np.uint32(0x735A2D97)
        x ^= x >> np.uint32(15)
    return (x >> np.uint32(8)).astype(np.int64)


def one_round(word: int, n: int) -> Draws:
    return two_rounds(word, n, second=False)


def congruential(word: int, n: int) -> Draws:
    """Multiples of a constant, from a start that the key gives."""
    x = np.arange(n, dtype=np.uint32) * np.uint32(1664525) + np.uint32(word & hashing.M32)
    return (x >> np.uint32(8)).astype(np.int64)


def without_worker(word: int, n: int) -> Draws:
    """All keys are one."""
    return default(1, n)


def chi_square(cells: Draws, count: int) -> float:
    expected = cells.size / count
    squares = ((np.bincount(cells, minlength=count) - expected) ** 2).sum() / expected
    return float(min(chdtrc(count - 1, squares), 1 - chdtrc(count - 1, squares)))


def correlation(a: Draws, b: Draws) -> float:
    z = ((a - 2**23 + 0.5) * (b - 2**23 + 0.5)).mean() / (2**48 / 12) * a.size**0.5
    return float(erfc(abs(z) / 2**0.5))


def differences(a: Draws, b: Draws) -> float:
    """The difference of independent draws, modulo 2^24, is uniform."""
    return chi_square((a - b & 0xFFFFFF) >> 16, 256)


def spacings(u: Draws, birthdays: int = 1024) -> float:
    """Equal spacings of sorted birthdays in a year of 2^24 days are Poisson (Marsaglia and Tsang, 2002)."""
    days = np.sort(u.reshape(-1, birthdays), axis=1)
    gaps = np.sort(np.diff(days, axis=1), axis=1)
    equal = int((np.diff(gaps, axis=1) == 0).sum())
    mean = len(days) * birthdays**3 / 2**26
    return float(min(pdtr(equal, mean), pdtrc(equal - 1, mean)))


def gaps(u: Draws) -> float:
    """How far apart draws below 1/8 lie: geometric."""
    lengths = np.minimum(np.diff(np.flatnonzero(u < 2**21)) - 1, 40)
    chance = 0.125 * 0.875 ** np.arange(41)
    chance[40] = 0.875**40
    expected = chance * lengths.size
    return float(chdtrc(40, ((np.bincount(lengths, minlength=41) - expected) ** 2 / expected).sum()))


def runs(u: Draws) -> float:
    """Turning points of a sequence: 2 (n - 2) / 3 of them, with variance (16 n - 29) / 90."""
    rising = np.diff(u) > 0
    z = ((rising[1:] != rising[:-1]).sum() - 2 * (u.size - 2) / 3) / ((16 * u.size - 29) / 90) ** 0.5
    return float(erfc(abs(z) / 2**0.5))


def of_one(u: Draws) -> Iterator[tuple[str, float]]:
    for bits in (8, 10, 12):
        yield f"top {bits} bits", chi_square(u >> (24 - bits), 2**bits)
        yield f"low {bits} bits", chi_square(u & (2**bits - 1), 2**bits)
    for bit in range(24):
        yield f"bit {bit}", float(erfc(abs((u >> bit & 1).mean() - 0.5) * (2 * u.size) ** 0.5))
    for lag in (1, 2, 3, 4, 8, 16, 31, 64, 255, 256, 1024, 65536):
        yield f"lag {lag}", correlation(u[lag:], u[:-lag])
        yield f"differences, lag {lag}", differences(u[lag:], u[:-lag])
    even, odd = u[::2] >> 18, u[1::2] >> 18
    yield "pairs", chi_square(even << 6 | odd, 2**12)
    first, second, third = (u[k : u.size // 3 * 3 : 3] >> 20 for k in range(3))
    yield "triples", chi_square(first << 8 | second << 4 | third, 2**12)
    yield "gaps", gaps(u)
    yield "runs", runs(u)
    yield "birthday spacings", spacings(u)


def of_two(a: Draws, b: Draws) -> Iterator[tuple[str, float]]:
    yield "correlation", correlation(a, b)
    yield "pairs", chi_square((a >> 20) << 4 | b >> 20, 256)
    yield "low pairs", chi_square((a & 15) << 4 | b & 15, 256)
    yield "differences", differences(a, b)


def word(round: int, exchange: int, worker: int) -> int:
    """A key, as the simulation makes it."""
    return Key(1).fold(Purpose.QUANTIZE, round, exchange, worker).word


def findings(stream: Stream) -> list[str]:
    """Return what the battery finds wrong."""
    here = word(5, 0, 7)
    keys = [here, word(5, 0, 8), word(6, 0, 7), word(5, 1, 7)]
    draws = [stream(key, N) for key in keys]
    found = [(f"key {k}, {name}", p) for k, u in enumerate(draws[:2]) for name, p in of_one(u)]
    names = ("worker", "round", "exchange")
    for name, u in zip(names, draws[1:], strict=True):
        found += [(f"next {name}, {test}", p) for test, p in of_two(draws[0], u)]
    workers = [stream(word(9, 0, w), N // 8) for w in range(65)]
    for a, b in pairwise(workers[:9]):
        found += [(f"workers, {test}", p) for test, p in of_two(a, b)]
    found += [("workers, differences", differences(a, b)) for a, b in pairwise(workers)]
    found += [("workers, differences at lag 64", differences(u[64:], u[:-64])) for u in workers]
    for bit in range(32):
        for name, other in (("low word", here ^ 1 << bit), ("worker", word(5, 0, 7 ^ 1 << bit))):
            u = stream(other, N // 8)
            found += [(f"bit {bit} of the {name}, {test}", p) for test, p in of_two(draws[0][: N // 8], u)]
    across = np.stack([stream(word(r, 0, w), 64)[::16] for r in range(64) for w in range(64)]).T
    found += [(f"one coordinate over keys, top bits of {c}", chi_square(u >> 18, 64)) for c, u in enumerate(across)]
    assert len(found) < 950
    return [f"{name}: p = {p:.1e}" for name, p in found if not p >= LEAST]


@pytest.mark.parametrize("stream", [default, philox])
def test_the_streams_pass(stream: Stream) -> None:
    assert findings(stream) == []


@pytest.mark.parametrize("weak", [two_rounds, one_round, congruential, without_worker])
def test_weak_streams_are_found(weak: Stream) -> None:
    assert findings(weak)


GOLDEN = 0x9E3779B97F4A7C15
COUNT, DRAWS = 1024, 64


def chain() -> Iterator[Key]:
    """Keys whose seeds are words of others, and folds of the same."""
    for s in range(COUNT):
        key = Key(s)
        yield from (key, key.fold(0), Key(key.word), key.fold(s + 1))


SEEDS = {
    "consecutive": list(range(COUNT)),
    "the last": [hashing.M64 - s for s in range(COUNT)],
    "even": [2 * s for s in range(COUNT)],
    "two bits": [1 << a ^ 1 << b for a in range(64) for b in range(a)][:COUNT],
    "a high half": [s << 32 | 5 for s in range(COUNT)],
    "the highest bits": [s << 54 for s in range(COUNT)],
    "steps of the fold's constant": [s * GOLDEN & hashing.M64 for s in range(COUNT)],
}
FAMILIES = {name: [Key(s) for s in seeds] for name, seeds in SEEDS.items()} | {
    "steps undone by a part": [Key(s * GOLDEN & hashing.M64).fold(COUNT - s) for s in range(COUNT)],
    "parts": [Key(0).fold(s) for s in range(COUNT)],
    "folds of consecutive": [Key(s).fold(0) for s in range(COUNT)],
    "seed and part": [Key(s // 32).fold(s % 32) for s in range(COUNT)],
    "part and seed": [Key(1 + s % 32).fold(s // 32, s % 32) for s in range(COUNT)],
    "words as seeds": list(chain())[:COUNT],
    "words": [Key(int(w)) for w in Key(0).words(0, COUNT)],
}


def generator(word: int, n: int) -> Draws:
    return of_word(word).generator().integers(2**24, size=n)


def relations(stream: Stream, keys: list[Key]) -> list[str]:
    """Return how the draws of different keys are related."""
    u = np.stack([stream(key.word, DRAWS) for key in keys])
    found = [("top bits", chi_square(u.ravel() >> 16, 256)), ("low bits", chi_square(u.ravel() & 255, 256))]
    equal = u.size - np.unique(u).size  # nearly Poisson: draws that appeared before
    mean = u.size**2 / 2**25
    found.append(("equal draws", float(min(pdtr(equal, mean), pdtrc(equal - 1, mean)))))
    low = (u < 2**23).sum(axis=0)  # of a coordinate, over the keys
    found.append(("kept of a coordinate", float(chdtrc(DRAWS, ((low - COUNT / 2) ** 2).sum() * 4 / COUNT))))
    for k in (1, 2, 4):
        for j in (-1, 0, 1):
            a, b = u[k:, max(j, 0) : DRAWS + min(j, 0)], u[:-k, max(-j, 0) : DRAWS - max(j, 0)]
            found.append((f"keys {k} apart, coordinates {j}", correlation(a, b)))
            found.append((f"differences of keys {k} apart, coordinates {j}", differences(a.ravel(), b.ravel())))
    assert len(found) * 3 * len(FAMILIES) < 1000
    return [f"{name}: p = {p:.1e}" for name, p in found if not p >= LEAST]


@pytest.mark.parametrize("stream", [default, philox, generator])
@pytest.mark.parametrize("family", FAMILIES)
def test_keys_that_differ_in_little_are_unrelated(family: str, stream: Stream) -> None:
    keys = FAMILIES[family]
    assert len({key.word for key in keys}) == len(set(keys)) == COUNT
    assert relations(stream, keys) == []


@pytest.mark.parametrize("family", ["consecutive", "the last", "even", "two bits", "a high half", "the highest bits"])
def test_relations_of_words_that_are_not_mixed_are_found(family: str) -> None:
    assert relations(default, [of_word(seed) for seed in SEEDS[family]])


def test_quantizers_draw_independently_for_consecutive_keys() -> None:
    """Of 999,000 halves of the largest number: within 7 standard deviations (a false alarm in 4e11)."""
    v = np.full(1000, 0.5, np.float32)
    v[0] = 1
    compressor = qsim.QSGD(1, norm="max")
    kept = np.stack([compressor.quantize(v, Key(s)).vectors().to_dense()[0, 1:] != 0 for s in range(1000)])
    sign = 2.0 * kept - 1
    assert abs(sign.mean()) < 7 / sign.size**0.5
    for a, b in ((sign[1:, 1:], sign[:-1, :-1]), (sign[1:], sign[:-1]), (sign[1:, :-1], sign[:-1, 1:])):
        assert abs((a * b).mean()) < 7 / a.size**0.5


coordinates = st.integers(0, 2**40)
words = st.integers(0, hashing.M64)


@given(coordinates, words)
def test_draws_are_the_oracles(first: int, word: int) -> None:
    from qsim.kernels.tiles import draw_run

    out = np.empty(3, np.int32)
    for name, oracle in ((np.uint64(word), hashing.draw32), (np.uint64(word).view(np.int64), hashing.philox32)):
        draw_run(name, first, out)
        assert out.tolist() == [oracle(first + k, word) >> 8 for k in range(3)]


def test_the_oracle_of_philox_gives_the_published_numbers() -> None:
    """The known answers of the reference implementation, Random123."""
    assert hashing.philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert hashing.philox([hashing.M32] * 4, [hashing.M32] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0]
    assert hashing.philox(pi[:4], pi[4:]) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
