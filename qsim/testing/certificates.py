"""Checks of what a compressor states about its error: no bias, the variance or the contraction, the closed forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qsim.testing.bounds import Sums, margin
from qsim.testing.gallery import Vector, gallery, worsened
from qsim.testing.report import Finding
from qsim.testing.subject import Subject, not_made, refuse_unless

_UNBIASED, _ESTIMATE, _SEARCH, _FINAL, _FORMULA, _SIGNS = range(10, 16)  # each part of the check has its own keys
_FLAT = ("constant", "single")
_FEW_KEYS, _PLAIN_FEW_KEYS = 48, 16  # for an estimate that guides the search
_WORST = 3
ASYMPTOTIC_SLACK = 0.05
"""What a certificate that holds as n grows is granted: this part of the bound, and a bias of this part of the norm."""


# Unbiasedness.


@dataclass(frozen=True)
class _Mean:
    """The mean error for one vector: the largest deviation over what is allowed, and along v what would be seen."""

    name: str
    place: str
    strain: float
    along: float
    seen: float
    keys: int


def unbiased(subject: Subject) -> Finding:
    """Check E Q(v) = v, for every coordinate and for sums over coordinates in six directions.

    It is broken if a mean of Q(v)_i - v_i is further from 0 than `margin` says, and than float32's 2^-20 |v_i| +
    2^-22 ||v||. (A certificate for large n is granted a bias of 5% of ||v||.) The bias that "would be seen" is twice
    what is allowed, so that chance hides it with probability below FALSE_ALARM.

    The interval that `margin` needs is taken as twice the largest error seen, and where magnitudes differ, or values
    may be too rare to be seen, as at least (1 + omega) max |v|, which holds for every rule that keeps a coordinate with
    some probability, or rounds it to levels of a norm.
    """
    if subject.compressor.variance(subject.n) is None:
        return not_made("no variance is stated, so no bias is ruled out")
    means = [_mean(subject, number, name, v) for number, (name, v) in enumerate(_means_of(subject))]
    worst, best = max(means, key=lambda mean: mean.strain), min(means, key=lambda mean: mean.seen)
    power = (
        f"a bias of {_percent(best.seen)} of v would be seen on ({best.name}), {_percent(means[0].seen)} on"
        f" ({means[0].name}), with {means[0].keys:,} keys"
    )
    if worst.strain <= 1:
        return Finding(True, f"largest mean error {worst.strain:.2f} of what chance allows; {power}", 0.0, best.along)
    seen = f"on ({worst.name}) {worst.place}, {worst.strain:.3g} times as far as chance allows; {power}"
    return Finding(False, seen, 0.0, worst.along)


def _means_of(subject: Subject) -> Iterator[tuple[str, Vector]]:
    vectors = gallery(subject.n, subject.key)
    for name in ("gaussian", "geometric, ratio 0.9", "1, 1/2 and zeros", *_FLAT):
        yield f"{name}, n = {subject.n}", vectors[name]
    scaled = {power: np.ldexp(vectors["gaussian"], power) for power in (90, -90)}
    if all(_accepts(subject, v) for v in scaled.values()):  # else its range is limited, as that of float16
        for power, v in scaled.items():
            yield f"gaussian x 2^{power}, n = {subject.n}", v
    if 8 in subject.certified:
        yield "gaussian, n = 8", gallery(8, subject.key)["gaussian"]


def _accepts(subject: Subject, v: Vector) -> bool:
    try:
        subject.message(v[None], subject.words(1, _UNBIASED))
    except ValueError:
        return False
    return True


def _mean(subject: Subject, number: int, name: str, v: Vector) -> _Mean:
    exact = v.astype(np.float64)
    norm, n = float(np.linalg.norm(exact)), v.size
    omega = subject.bounds(n)["variance"]
    signs = subject.key.fold(_SIGNS, number).generator().choice([-1.0, 1.0], (4, n))
    directions = np.stack([exact / norm, *np.vstack([np.sign(exact), np.ones(n), signs]) / n**0.5])
    few = 4 if "x 2^" in name else 1  # overflow shows soon
    keys = subject.words(subject.count(n) // few, _UNBIASED, number)
    sums = Sums()
    for errors in subject.errors(v, keys):
        refuse_unless(np.isfinite(errors).all(), f"({name}) does not come back as finite numbers")
        sums.add(np.hstack([errors, errors @ directions.T]))
    reach = np.concatenate([np.full(n, 1.0), np.abs(directions).max(axis=1)])
    spread = 2 * np.concatenate([np.full(n, sums.most[:n].max()), sums.most[n:]])
    if not name.startswith(_FLAT) or sums.count < 40 * (1 + omega):
        spread = np.maximum(spread, (1 + omega) * np.abs(exact).max() * reach)
    slack = 2.0**-20 * np.abs(exact) + 2.0**-22 * norm
    granted = ASYMPTOTIC_SLACK * norm * subject.compressor.asymptotic
    chance = margin(sums.variance, spread, sums.count, 10 * sums.mean.size)
    allowed = chance + np.concatenate([slack, np.abs(directions) @ slack]) + granted
    strain = np.abs(sums.mean) / allowed
    at = int(strain.argmax())
    found = sums.mean[at] / norm
    place = f"coordinate {at} is off by {found:.3g} norms" if at < n else f"a sum of coordinates by {found:.3g} norms"
    return _Mean(name, place, float(strain[at]), abs(sums.mean[n]) / norm, 2 * allowed[n] / norm, sums.count)


# The certificates.


@dataclass(frozen=True)
class _Case:
    """A vector with its relative squared error, estimated from a few keys or known, and the length that counts."""

    name: str
    v: Vector
    error: float
    length: int


def variance(subject: Subject) -> Finding:
    """Check E ||Q(v) - v||^2 <= omega ||v||^2."""
    return _certificate(subject, "variance")


def contraction(subject: Subject) -> Finding:
    """Check E ||Q(v) - v||^2 <= (1 - delta) ||v||^2."""
    return _certificate(subject, "contraction")


def compresses(subject: Subject) -> Finding:
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


def _certificate(subject: Subject, kind: str) -> Finding:
    """Test the worst vectors again, with fresh keys: their choice does not bias the test, which is one-sided."""
    if kind not in subject.bounds(subject.n):
        return not_made("not claimed")
    finalists = _finalists(subject, kind)
    tests = [_test(subject, kind, number, case, len(finalists)) for number, case in enumerate(finalists)]
    worst = max(tests, key=lambda test: test.measured / test.bound if test.bound else test.measured)
    worst = max(tests, key=lambda test: test.excess) if any(test.excess > 0 for test in tests) else worst
    excess = _percent(worst.seen / worst.bound) if worst.bound else f"{worst.seen:.2g}"
    how = ", by the closed form" if worst.exact else ""
    seen = f"claimed {worst.bound:.4g}, worst found {worst.measured:.4g} on ({worst.name}){how};"
    seen += f" an excess of {excess} would be seen" if worst.seen else " any excess would be seen"
    if subject.compressor.asymptotic:
        seen += f"; asymptotic, so {_percent(ASYMPTOTIC_SLACK)} more is let pass"
    return Finding(worst.excess <= 0, seen, worst.bound, worst.measured)


def _finalists(subject: Subject, kind: str) -> list[_Case]:
    """Return the three worst cases, and the worst of every length: a larger error may be so rare that it shows less."""
    cases = sorted(_cases(subject), key=lambda case: -case.error / _allowed(subject, kind, case.length))
    of_lengths = {case.v.size: place for place, case in reversed(list(enumerate(cases)))}
    return [cases[place] for place in sorted({*range(_WORST), *of_lengths.values()})]


@dataclass(frozen=True)
class _Test:
    """A certificate's bound, the error that was found, its excess over all that is allowed, and which would be seen.

    `exact`: it was found by a closed form, to which chance adds nothing.
    """

    name: str
    bound: float
    measured: float
    excess: float
    seen: float
    exact: bool


def _test(subject: Subject, kind: str, number: int, case: _Case, tests: int) -> _Test:
    n, sums = case.length, Sums()
    for errors in subject.errors(case.v, subject.words(subject.count(case.v.size), _FINAL, number)):
        refuse_unless(np.isfinite(errors).all(), f"({case.name}) does not come back as finite numbers")
        sums.add(_relative(errors, case.v))
    measured, allowed = float(sums.mean), _allowed(subject, kind, n)
    spread = 2 * sums.most if sums.variance > 0 else 0.0
    chance = float(margin(sums.variance, spread, sums.count, tests))
    excess = measured - chance - allowed
    exact = subject.compressor.exact_variance(case.v) is not None  # which has a check of its own
    if exact:
        measured, chance, excess = case.error, 0.0, max(excess, case.error - allowed)
    return _Test(case.name, subject.bounds(n)[kind], measured, excess, 2 * chance, exact)  # as it may hide as much


def _allowed(subject: Subject, kind: str, n: int) -> float:
    """Return the bound with float32's slack: levels s of a norm gain a factor 1 + s 2^-20, where s^2 <= n / (4 omega).

    And values are rounded to float32 twice, by 2^-24 each.
    """
    bound = subject.bounds(n).get(kind, np.inf)
    asymptotic = 1 + ASYMPTOTIC_SLACK * subject.compressor.asymptotic
    return float(bound * asymptotic * (1 + 2.0**-20) + 2.0**-21 * (bound * n) ** 0.5 + 2.0**-44)


@lru_cache(maxsize=1)
def _cases(subject: Subject) -> list[_Case]:
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


def _among_zeros(subject: Subject, cases: list[_Case]) -> list[_Case]:
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


def _starts(subject: Subject, cases: list[_Case]) -> list[_Case]:
    """Return where to search: the worst of a short length and of the main one, and a Gaussian vector."""
    lengths = dict.fromkeys([next((n for n in subject.certified if n >= 8), subject.n), subject.n])
    worst = [max((c for c in cases if c.v.size == c.length == n), key=lambda case: case.error) for n in lengths]
    return [*worst, next(case for case in cases if case.name == f"gaussian, n = {subject.n}")]


def _estimates(subject: Subject, rows: NDArray[np.float32], part: int) -> NDArray[np.float64]:
    """Return the relative squared error of each row: by the closed form if there is one, else from a few keys."""
    known = [subject.compressor.exact_variance(v) for v in rows]
    if any(value is None for value in known):
        return _sampled(subject, rows, part)
    found: NDArray[np.float64] = np.array(known, np.float64) / (rows.astype(np.float64) ** 2).sum(axis=1)
    return found


def _sampled(subject: Subject, rows: NDArray[np.float32], part: int) -> NDArray[np.float64]:
    keys = _PLAIN_FEW_KEYS if subject.plain else _FEW_KEYS
    many = np.repeat(rows, keys, axis=0)
    errors = subject.sent(many, np.tile(subject.words(keys, part), len(rows))) - many
    squares = (rows.astype(np.float64) ** 2).sum(axis=1)
    found: NDArray[np.float64] = (errors**2).sum(axis=1).reshape(-1, keys).mean(axis=1) / squares
    return found


def _relative(errors: NDArray[np.float64], v: Vector) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (errors**2).sum(axis=1) / (v.astype(np.float64) ** 2).sum()
    return found


# Closed forms.


def exact_variance(subject: Subject) -> Finding:
    """Check `exact_variance(v)` against samples."""

    def measure(errors: NDArray[np.float64], v: Vector) -> NDArray[np.float64]:
        return np.asarray((errors**2).sum(axis=1))

    return _closed_form(subject, subject.compressor.exact_variance, measure)


def expected_nonzeros(subject: Subject) -> Finding:
    """Check `expected_nonzeros(v)` against samples."""

    def measure(errors: NDArray[np.float64], v: Vector) -> NDArray[np.float64]:
        return np.asarray(np.count_nonzero(errors + v.astype(np.float64), axis=1), np.float64)

    return _closed_form(subject, subject.compressor.expected_nonzeros, measure)


def _closed_form(
    subject: Subject,
    formula: Callable[[Vector], float | None],
    measure: Callable[[NDArray[np.float64], Vector], NDArray[np.float64]],
) -> Finding:
    names = ("gaussian", "equal magnitudes", "one large, others 0.1 of it")
    worst = (0.0, "", 0.0, 0.0)
    for number, name in enumerate(names):
        v = gallery(subject.n, subject.key)[name]
        stated, sums = formula(v), Sums()
        if stated is None:
            return not_made("no closed form is stated")
        for errors in subject.errors(v, subject.words(subject.count(v.size), _FORMULA, number)):
            sums.add(measure(errors, v))
        spread = 2 * sums.most if sums.variance > 0 else 0.0
        slack = 2.0**-14 * max(abs(stated), float(sums.mean)) + 2.0**-40 * float(v @ v)
        strain = abs(float(sums.mean) - stated) / (margin(sums.variance, spread, sums.count, len(names)) + slack)
        worst = max(worst, (float(strain), name, float(stated), float(sums.mean)))
    strain, name, claimed, measured = worst
    seen = f"stated {claimed:.6g}, measured {measured:.6g} on ({name}, n = {subject.n})"
    return Finding(strain <= 1, seen, claimed, measured)


def _percent(part: float) -> str:
    return f"{100 * part:.2g}%"
