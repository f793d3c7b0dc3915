"""The check of a bias and a variance, each by itself."""

from __future__ import annotations

import numpy as np

from qsim.compressors import Compressor
from qsim.testing.bounds import EXTENSION, FOUND, Wager
from qsim.testing.compressor_under_test import CompressorUnderTest
from qsim.testing.gallery import gallery
from qsim.testing.pools import percent
from qsim.testing.report import Finding, not_made

_PAIRS = 30  # has its own keys
_ROWS = 4096  # at once


def bias_and_variance(subject: CompressorUnderTest) -> Finding:
    """Check ||E Q(v) - v||^2 <= eta^2 ||v||^2 and E ||Q(v) - E Q(v)||^2 <= omega ||v||^2, where they are stated.

    By pairs of keys: the mean of <Q(v) - v, Q'(v) - v> is the first, and half of that of ||Q(v) - Q'(v)||^2 the second.
    """
    stated = subject.compressor.bias_and_variance(subject.n)
    if stated is None:
        return not_made("no bias and no variance are stated")
    if type(subject.compressor).bias_and_variance is Compressor.bias_and_variance:
        return not_made("they follow from the variance or the contraction")
    bounds, tests = (stated[0] ** 2, stated[1]), []
    for number, (name, v) in enumerate(gallery(subject.n, subject.key).items()):
        square, count = float(v.astype(np.float64) @ v), subject.count(subject.n) // 4
        pilot = _pairs(subject, v, count // 8, number, 0) / square
        reach = np.array([2 * np.abs(pilot[:, 0]).max() + bounds[0], bounds[1]]) + 2.0**-20
        allowed = np.array(bounds) * (1 + 2.0**-18) + 2.0**-20
        bet, total, taken = Wager(pilot[:, :2].std(axis=0), reach, count), np.zeros(2), 0
        while taken < EXTENSION * count and not bet.is_decided(taken):
            found = _pairs(subject, v, min(_ROWS, count), number, 1 + taken) / square
            bet.add(found - allowed)
            total, taken = total + found.sum(axis=0), taken + len(found)
        worst = int(bet.strain.argmax())
        what = ("bias", "variance")[worst]
        tests.append(
            (float(bet.strain[worst]), f"{what} of ({name})", bounds[worst], total[worst] / taken, bet.seen[worst])
        )
    strain, name, claimed, measured, seen = max(tests)
    text = f"claimed {claimed:.4g} of the square at most, found {measured:.4g} on the {name};"
    return Finding(strain < 1, f"{text} an excess of {percent(seen)} of it {FOUND}", claimed, measured)


def _pairs(subject: CompressorUnderTest, v: np.ndarray, count: int, *parts: int) -> np.ndarray:
    """Return both numbers for pairs of keys."""
    found = []
    for low in range(0, count, _ROWS):
        rows = min(_ROWS, count - low)
        one, other = (
            np.concatenate(list(subject.errors(v, subject.words(rows, _PAIRS, *parts, low, side)))) for side in (0, 1)
        )
        found.append(np.stack([(one * other).sum(axis=1), 0.5 * ((one - other) ** 2).sum(axis=1)], axis=1))
    return np.concatenate(found)
