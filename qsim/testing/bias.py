"""The check that nothing is biased, and all pools of keys that it shares with the checks of the error."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

import numpy as np

from qsim.testing.compressor_under_test import CompressorUnderTest
from qsim.testing.gallery import Vector, gallery
from qsim.testing.pools import Pool, percent, pool
from qsim.testing.probes import MAIN, bell, places, probe, six_decades, three_sizes
from qsim.testing.report import Finding, not_made

POOL = 4096
"""Where small biases are looked for: most levels of a norm are not zero there, for the time that it takes."""
_NAMES = ("gaussian", "geometric, ratio 0.9", "1, 1/2 and zeros", "constant", "single")
_SHORT = 300  # up to where single coordinates are looked at
_PART = 18  # has its own keys
_FEW = (2000, 8000)  # keys, for the second and the third vector of length POOL
_MOST = {True: 95_000, False: 120_000}  # keys, for the first; whether rows are compressed one by one
_COARSE, _PLACES = (256, 1000), (128, 512)  # keys, for a long vector with many sizes, and for single coordinates
_NUMBERS, _LONGEST = 2**24, 2**25  # in all rows of one length, and of the longest


def unbiased(subject: CompressorUnderTest) -> Finding:
    """Check E Q(v) = v: for single coordinates of short vectors, and for sums over coordinates up to n = 100,000.

    Summed along v and its signs, over its large, middle and small coordinates, its positive and negative ones, even and
    odd places, halves, what lies beyond a power of two, random signs; over each decade of sizes below the norm; and
    each of the first, the last, and those beside powers of two. It is broken if a bet on a bias is won (`Wager`), by
    more than float32's 2^-20 |v_i| + 2^-22 ||v||. (A certificate for large n is granted 5% of ||v||.)
    """
    if subject.compressor.variance(subject.n) is None:
        return not_made("no variance is stated, so no bias is ruled out")
    found = []
    for one in chain(short_pools(subject), long_pools(subject)):
        found.append(one)
        if one.strain.max() >= 1:
            along = float(abs(one.mean[0]))
            return Finding(False, f"on {one.place}; chance does that less than once in 10^13 checks", 0.0, along)
    main = max(found, key=lambda one: (one.probe.v.size == POOL, one.rows))
    seen = (
        f"largest mean error {max(0.0, *(one.strain.max() for one in found)):.2g} of what chance allows; {power(found)}"
    )
    return Finding(True, seen, 0.0, float(abs(main.mean[0])))


class _Once:
    """The items of a generator, made when it is first asked for and kept: who stops early pays for no more."""

    def __init__(self, source: Iterator[Pool]) -> None:
        self._source, self._made = source, list[Pool]()

    def __iter__(self) -> Iterator[Pool]:
        yield from self._made
        for one in self._source:
            self._made.append(one)
            yield one


def power(pools: list[Pool]) -> str:
    """Return in words which bias is found with a probability of at least 99.9%."""
    texts = []
    for title in ("three sizes", "gaussian"):
        chosen = [found for found in pools if found.probe.name.startswith(title) and found.probe.v.size == POOL]
        best = max(chosen, key=lambda found: found.rows, default=None)
        if best is not None:
            seen = [
                percent(best.seen[list(best.probe.columns).index(name)]) for name in MAIN if name in best.probe.columns
            ]
            names = ("along v", "along sign(v)", "on the third of large", "middle", "small coordinates")
            parts = ", ".join(f"{part} {name}" for part, name in zip(seen, names, strict=False))
            texts.append(f"({best.probe.name}, {best.rows:,} keys) {parts}")
    ladder = [found for found in pools if found.probe.name.startswith("three sizes") and found.probe.v.size != POOL]
    if ladder:
        most = max(float(found.seen[0]) for found in ladder)
        texts.append(f"{percent(most)} along v at any of {len(ladder)} lengths up to n = {ladder[-1].probe.v.size:,}")
    return "a bias that is found with probability 99.9%: " + "; ".join(texts)


def short_pools(subject: CompressorUnderTest) -> Iterator[Pool]:
    """Return pools of usual vectors at the usual length, of every coordinate by itself."""
    n = subject.n
    vectors = gallery(n, subject.key)
    chosen = [(name, vectors[name]) for name in _NAMES]
    scaled = {power: np.ldexp(vectors["gaussian"], power) for power in (90, -90)}
    if all(_accepts(subject, v) for v in scaled.values()):  # else its range is limited, as that of float16
        chosen += [(f"gaussian x 2^{power}", v) for power, v in scaled.items()]
    if 8 in subject.certified:
        chosen.append(("gaussian", gallery(8, subject.key)["gaussian"]))
    for number, (name, v) in enumerate(chosen):
        keys = min(subject.count(n), subject.count(v.size)) // (4 if "x 2^" in name else 1)  # overflow shows soon
        with np.errstate(over="ignore", under="ignore"):
            one = probe(name, v, subject.key.fold(_PART, number), coordinates=n <= _SHORT)
        yield pool(subject, one, (number,), (keys, keys))


def _accepts(subject: CompressorUnderTest, v: Vector) -> bool:
    try:
        subject.message(v[None], subject.words(1, _PART))
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1)
def long_pools(subject: CompressorUnderTest) -> _Once:
    """Return pools at long lengths: three with many keys, then ever longer vectors with fewer."""
    return _Once(_long_pools(subject))


def _long_pools(subject: CompressorUnderTest) -> Iterator[Pool]:
    key, ladder = subject.key.fold(_PART), subject.ladder
    if not ladder:
        return
    n = POOL if POOL in ladder else ladder[-1]
    yield (first := pool(subject, three_sizes(n, key), (100,), (_FEW[0], _MOST[subject.plain])))
    yield pool(subject, bell(n, key), (101,), _FEW)
    yield (decades := pool(subject, six_decades(n, key), (102,), (_COARSE[1], _FEW[0])))
    for number, longer in enumerate(n for n in ladder if n != first.probe.v.size):
        rows = min(_FEW[0], (_NUMBERS if longer < 2**16 else _LONGEST) // longer)
        yield pool(subject, three_sizes(longer, key), (200, number), (rows // 4, rows), first)
    longest = ladder[-1]
    if longest > n:
        yield pool(subject, six_decades(longest, key), (103,), _COARSE, decades)
    for length in {min(n + 3, longest), longest}:
        yield pool(subject, places(length), (300, length), _PLACES)
