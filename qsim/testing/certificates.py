"""Checks of what a compressor states about its error: no bias, the variance or the contraction, the closed forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qsim.testing.bias import POOL, long_pools
from qsim.testing.bounds import EXTENSION, FOUND, Wager
from qsim.testing.compressor_under_test import ASYMPTOTIC_SLACK, CompressorUnderTest
from qsim.testing.gallery import Vector, gallery, worsened
from qsim.testing.pools import percent, pool
from qsim.testing.probes import Probe, three_sizes
from qsim.testing.report import Finding, not_made

_ESTIMATE, _SEARCH, _FINAL, _FORMULA = range(11, 15)  # each part of the check has its own keys
_FEW_KEYS, _PLAIN_FEW_KEYS = 64, 48  # for an estimate that guides the search
_LONG_KEYS = 4000  # for closed forms of a long vector
_WORST = 3


# The certificates.


@dataclass(frozen=True)
class _Case:
    """A vector with its relative squared error, estimated from a few keys or known, and the length that counts."""

    name: str
    v: Vector
    error: float
    length: int


def variance(subject: CompressorUnderTest) -> Finding:
    """Check E ||Q(v) - v||^2 <= omega ||v||^2."""
    return _certificate(subject, "variance")


def contraction(subject: CompressorUnderTest) -> Finding:
    """Check E ||Q(v) - v||^2 <= (1 - delta) ||v||^2."""
    return _certificate(subject, "contraction")


def compresses(subject: CompressorUnderTest) -> Finding:
    """Check that who claims an error makes one: an identity keeps every bound, and is no compressor."""
    bounds = subject.bounds(subject.n)
    claimed = max(bounds.values(), default=0.0)
    if claimed == 0.0:
        return not_made("no error is claimed" if bounds else "nothing is claimed about the error")
    rows = np.stack(list(gallery(subject.n, subject.key).values()))
    most = float(_sampled(subject, rows, _ESTIMATE).max())
    if most > 0:
        return Finding(True, f"claimed {claimed:.4g}, worst found {most:.4g} at n = {subject.n}", claimed, most)
    return Finding(False, f"an error of {claimed:.4g} is claimed, but every vector comes back as it was", claimed, most)


def _certificate(subject: CompressorUnderTest, kind: str) -> Finding:
    """Test the worst vectors again, with fresh keys: their choice does not bias the test, which is one-sided."""
    if kind not in subject.bounds(subject.n):
        return not_made("not claimed")
    tests = [_test(subject, kind, number, case) for number, case in enumerate(_finalists(subject, kind))]
    for found in long_pools(subject):
        bound = subject.bounds(found.probe.v.size)[kind]
        tests.append(_Test(found.probe.name, bound, found.error, *found.errors[kind], False))
    worst = max(tests, key=lambda test: test.measured / test.bound if test.bound else test.measured)
    worst = max(tests, key=lambda test: test.strain) if any(test.strain >= 1 for test in tests) else worst
    how = ", by the closed form" if worst.exact else ""
    seen = f"claimed {worst.bound:.4g}, worst found {worst.measured:.4g} on ({worst.name}){how};"
    seen += f" an excess of {percent(worst.seen)} {FOUND}" if worst.seen else " any excess is found"
    if subject.compressor.asymptotic:
        seen += f"; asymptotic, so {percent(ASYMPTOTIC_SLACK)} more is let pass"
    return Finding(worst.strain < 1, seen, worst.bound, worst.measured)


def _finalists(subject: CompressorUnderTest, kind: str) -> list[_Case]:
    """Return the three worst cases, and the worst of every length: a larger error may be so rare that it shows less."""
    cases = sorted(_cases(subject), key=lambda case: -case.error / subject.allowed(case.length)[kind])
    of_lengths = {case.v.size: place for place, case in reversed(list(enumerate(cases)))}
    return [cases[place] for place in sorted({*range(_WORST), *of_lengths.values()})]


@dataclass(frozen=True)
class _Test:
    """A certificate's bound, the error that was found, the strain of the bet, and which excess would be found.

    `exact`: it was found by a closed form, to which chance adds nothing.
    """

    name: str
    bound: float
    measured: float
    strain: float
    seen: float
    exact: bool


def _test(subject: CompressorUnderTest, kind: str, number: int, case: _Case) -> _Test:
    """Bet that the error is above the bound. It is never below 0, so that no distribution lets chance win."""
    bound, known = subject.bounds(case.length)[kind], subject.compressor.exact_variance(case.v) is not None
    count = subject.count(case.v.size)
    found = pool(subject, Probe(case.name, case.v, {}), (_FINAL, number), (count, count), length=case.length)
    strain, seen = found.errors[kind]
    if known:  # the formula has a check of its own
        strain = max(strain, 2.0 * (case.error > subject.allowed(case.length)[kind]))
    return _Test(case.name, bound, case.error if known else found.error, strain, 0.0 if known else seen, known)


@lru_cache(maxsize=1)
def _cases(subject: CompressorUnderTest) -> list[_Case]:
    """Return the vectors of the gallery at all lengths, and what a search makes of the worst, with their errors."""
    cases = []
    for n in subject.certified:
        vectors = gallery(n, subject.key)
        errors = _estimates(subject, np.stack(list(vectors.values())), _ESTIMATE)
        cases += [
            _Case(f"{name}, n = {n}", v, float(e), n) for (name, v), e in zip(vectors.items(), errors, strict=True)
        ]
    if subject.compressor.ignores_zeros:
        cases += _among_zeros(subject, cases)
    for number, start in enumerate(_starts(subject, cases)):

        def score(rows: NDArray[np.float32]) -> NDArray[np.float64]:
            return _estimates(subject, rows, _SEARCH)

        v = worsened(start.v, score, subject.key.fold(_SEARCH, number))
        cases.append(_Case(f"found by search from {start.name}", v, float(score(v[None])[0]), v.size))
    return cases


def _among_zeros(subject: CompressorUnderTest, cases: list[_Case]) -> list[_Case]:
    """Return the vectors with zeros between their entries, for which the bound of their own length still holds."""
    found = []
    for n, longer in pairwise(subject.certified):
        short = [case for case in cases if case.v.size == n]
        rows = np.zeros((len(short), longer), np.float32)
        rows[:, : n * (longer // n) : longer // n] = [case.v for case in short]
        errors = _estimates(subject, rows, _ESTIMATE)
        found += [
            _Case(f"{case.name}, among {longer - n} zeros", v, float(e), n)
            for case, v, e in zip(short, rows, errors, strict=True)
        ]
    return found


def _starts(subject: CompressorUnderTest, cases: list[_Case]) -> list[_Case]:
    """Return where to search: the worst of a short length and of the main one, and a Gaussian vector."""
    lengths = dict.fromkeys([next((n for n in subject.certified if n >= 8), subject.n), subject.n])
    worst = [max((c for c in cases if c.v.size == c.length == n), key=lambda case: case.error) for n in lengths]
    return [*worst, next(case for case in cases if case.name == f"gaussian, n = {subject.n}")]


def _estimates(subject: CompressorUnderTest, rows: NDArray[np.float32], part: int) -> NDArray[np.float64]:
    """Return the relative squared error of each row: by the closed form if there is one, else from a few keys."""
    known = [subject.compressor.exact_variance(v) for v in rows]
    if any(value is None for value in known):
        return _sampled(subject, rows, part)
    found: NDArray[np.float64] = np.array(known, np.float64) / (rows.astype(np.float64) ** 2).sum(axis=1)
    return found


def _sampled(subject: CompressorUnderTest, rows: NDArray[np.float32], part: int) -> NDArray[np.float64]:
    keys = _PLAIN_FEW_KEYS if subject.plain else _FEW_KEYS
    many = np.repeat(rows, keys, axis=0)
    errors = subject.sent(many, np.tile(subject.words(keys, part), len(rows))) - many
    squares = (rows.astype(np.float64) ** 2).sum(axis=1)
    found: NDArray[np.float64] = (errors**2).sum(axis=1).reshape(-1, keys).mean(axis=1) / squares
    return found


# Closed forms.


def exact_variance(subject: CompressorUnderTest) -> Finding:
    """Check `exact_variance(v)` against samples."""
    return _closed_form(subject, subject.compressor.exact_variance, 1)


def expected_nonzeros(subject: CompressorUnderTest) -> Finding:
    """Check `expected_nonzeros(v)` against samples."""
    return _closed_form(subject, subject.compressor.expected_nonzeros, 2)


def _closed_form(subject: CompressorUnderTest, formula: Callable[[Vector], float | None], what: int) -> Finding:
    """Bet that squared errors (1), or counts of what is not zero (2), are above or below what the formula says."""
    tests = []
    for number, (name, v) in enumerate(_formula_vectors(subject)):
        stated = formula(v)
        if stated is None:
            return not_made("no closed form is stated")
        stated = float(stated) / (float(v.astype(np.float64) @ v) if what == 1 else 1.0)
        scale, nothing = stated + 2.0**-26, np.zeros((v.size, 0))
        count = subject.count(v.size) if v.size < POOL else _LONG_KEYS * subject.effort
        keys = subject.words(count // 8, _FORMULA, number, 0), subject.words(EXTENSION * count, _FORMULA, number, 1)
        pilot = np.concatenate([found[what] / scale for found in subject.sums(v, nothing, keys[0])])
        below = max(2 * float(np.abs(pilot - stated / scale).max()), _most(subject, v, what) / scale)
        bet, total, taken = Wager(pilot.std(), np.array([1.0, below]), count), 0.0, 0
        for found in subject.sums(v, nothing, keys[1]):
            rows = (found[what] - stated) / scale
            bet.add(np.stack([rows, -rows], axis=1) - 2.0**-14)
            total, taken = total + float(found[what].sum()), taken + rows.size
            if bet.is_decided(taken):
                break
        tests.append((float(bet.strain.max()), f"{name}, n = {v.size:,}", stated, total / taken, float(bet.seen.max())))
    strain, name, claimed, measured, least = max(tests)
    seen = f"stated {claimed:.6g}, measured {measured:.6g} on ({name}); a formula wrong by {percent(least)}"
    return Finding(strain < 1, f"{seen} {FOUND}", claimed, measured)


def _most(subject: CompressorUnderTest, v: Vector, what: int) -> float:
    """Return how large a squared error, or a count, a row may have that is too rare to be seen.

    Of a rule that keeps a coordinate with some probability: (1 + omega) times the largest, alone; of one that keeps
    all or nothing, all.
    """
    if what == 2:
        return float(np.count_nonzero(v))
    omega = subject.bounds(v.size).get("variance", 0.0)
    return float(((1 + omega) * np.abs(v).max()) ** 2 / (v.astype(np.float64) ** 2).sum())


def _formula_vectors(subject: CompressorUnderTest) -> list[tuple[str, Vector]]:
    names = ("gaussian", "equal magnitudes", "one large, others 0.1 of it")
    found = [(name, gallery(subject.n, subject.key)[name]) for name in names]
    return [*found, *(("three sizes", three_sizes(n, subject.key).v) for n in subject.ladder if n == POOL)]
