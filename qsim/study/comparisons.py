"""Paired comparisons over seeds: one interval each, and one rule for what may be claimed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qsim.study.statistics import CONFIDENCE, Array, Bands, StudentT, logarithms

LEVEL = 1 - CONFIDENCE
POWER = 0.8
"""With about this chance the difference that is called detectable would have been found."""
ALIKE = 1e-6
"""Seeds whose differences are alike to this share of them differ by the same: float32 rounds in less than that."""

Kind = Literal["one seed", "not defined", "deterministic", "beyond", "not found"]


@dataclass(frozen=True)
class Comparison:
    """A paired comparison over seeds: a mean difference, or the geometric mean of ratios, with its interval.

    Parameters
    ----------
    mean : float
        The mean difference, or the geometric mean of the ratios.
    low : float
        The low end of the interval. The intervals hold together with 95% confidence for all comparisons of one list
        (Bonferroni).
    high : float
        The high end.
    p : float
        The p-value of the paired t-test, times the number of comparisons in the list, so at most 5% if and only if the
        interval excludes "no difference"; NaN for one seed, for intervals that no test belongs to, and where it is not
        defined.
    seeds : int
        How many seeds.
    ratio : bool, default False
        Whether ratios were compared, so that "no difference" is 1 instead of 0.
    detectable : float, default nan
        The size of the difference (the factor, at least 1) that would be found with a chance of about 80%.
    deterministic : bool, default False
        Whether all seeds have the same difference, to one part in a million: there is no noise but of rounding.

    Examples
    --------
    >>> print(Comparison(0.1, 0.05, 0.15, 0.001, 5))
    +0.1 (+0.05 to +0.15; beyond the seed noise, p = 0.001)
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int
    ratio: bool = False
    detectable: float = float("nan")
    deterministic: bool = False

    @property
    def kind(self) -> Kind:
        """The verdict in a word: the interval alone decides whether a difference is beyond the noise."""
        if not np.isfinite([self.mean, self.low, self.high]).all() or np.isinf(self.detectable):
            return "not defined"
        if self.seeds == 1:
            return "one seed"
        if self.deterministic:
            return "deterministic"
        return "not found" if self.low <= self._null <= self.high else "beyond"

    @property
    def beyond_noise(self) -> bool:
        """Whether there is a difference: the interval excludes none, or every seed has the same."""
        return self.kind == "beyond" or (self.kind == "deterministic" and self.mean != self._null)

    @property
    def verdict(self) -> str:
        """Say what the noise allows to claim."""
        if self.kind == "one seed":
            return "one seed: the noise is not known"
        if self.kind == "not defined":
            return "not defined: a seed's value is not finite, or a ratio's not above zero"
        if self.kind == "deterministic":
            return "deterministic, the same for all seeds" if self.beyond_noise else "equal for all seeds"
        p = "" if np.isnan(self.p) else ", p < 0.0001" if self.p < 1e-4 else f", p = {self._p()}"
        if self.kind == "beyond":
            return f"beyond the seed noise{p}"
        return f"no difference found, one of {self.least} would have been{p}"

    @property
    def least(self) -> str:
        """Write the detectable difference."""
        return f"{self.detectable:.{self._digits()}g}{' times' if self.ratio else ''}"

    def __str__(self) -> str:
        """Say it in words."""
        if self.kind == "not defined":
            return self.verdict
        digits = self._digits()
        mean, low, high = (f"{x:{'' if self.ratio else '+'}.{digits}g}" for x in (self.mean, self.low, self.high))
        times = " times" if self.ratio else ""
        if self.kind == "deterministic":
            return f"deterministic: {mean}{times} (same for all seeds)"
        return (
            f"{mean}{times} ({self.verdict})" if self.seeds == 1 else f"{mean}{times} ({low} to {high}; {self.verdict})"
        )

    @property
    def _null(self) -> float:
        return 1.0 if self.ratio else 0.0

    def _digits(self) -> int:
        """Return three digits, or as many more as keep unequal numbers unequal, and on their side of no difference."""
        numbers = {self.mean, self.low, self.high, self._null} | ({self.detectable} if self.detectable > 0 else set())
        return next(d for d in range(3, 18) if d == 17 or len({float(f"{x:.{d}g}") for x in numbers}) == len(numbers))

    def _p(self) -> str:
        """Write the p-value with two digits, or as many more as tell it from 5%."""
        texts = (f"{self.p:.{digits}g}" for digits in range(2, 18))
        return next(text for text in texts if (float(text) > LEVEL) == (self.p > LEVEL))


def compare(
    samples: Mapping[str, Array], other: Array, bands: Bands | None = None, *, ratio: bool = False
) -> dict[str, Comparison]:
    """Compare samples with those of another, seed by seed: differences, or ratios by their logarithms.

    Parameters
    ----------
    samples : mapping of str to ndarray of float64, shape (seeds,)
        The samples, by name.
    other : ndarray of float64, shape (seeds,)
        The samples that they are compared with.
    bands : Bands, optional
        How intervals are made; `StudentT()` by default.
    ratio : bool, default False
        Whether ratios are compared.

    Returns
    -------
    dict of Comparison
        The comparisons, by name.

    Notes
    -----
    The k comparisons that have noise are one list: each interval is at 1 - 5%/k (Bonferroni), so they hold together
    with 95%, and a difference is beyond the seed noise if and only if its interval excludes "none". If all seeds differ
    by the same, to one part in a million, there is nothing to test.

    Examples
    --------
    >>> seeds = np.array([1.0, 5.0, 9.0, 2.0])
    >>> shifted = seeds + np.array([0.1, 0.12, 0.09, 0.11])
    >>> found = compare({"b": shifted, "c": seeds + 0.25, "d": seeds[[1, 0, 3, 2]]}, seeds)
    >>> print(found["b"])
    +0.105 (+0.078 to +0.132; beyond the seed noise, p = 0.001)
    >>> print(found["c"])
    deterministic: +0.25 (same for all seeds)
    >>> print(found["d"])
    +0 (-13.7 to +13.7; no difference found, one of 17 would have been, p = 1)
    """
    bands = bands or StudentT()
    paired = {name: logarithms(a) - logarithms(other) if ratio else a - other for name, a in samples.items()}
    same = {name: _same(values, other, ratio) for name, values in paired.items()}
    noisy = [name for name, values in paired.items() if np.isfinite(values).all() and not same[name]]
    found = {}
    for name, values in paired.items():
        mean, p, detectable = float(values.mean()), float("nan"), float("nan")
        if same[name] and ratio and abs(mean) <= ALIKE:
            mean = 0.0
        low = high = mean
        if name in noisy and values.size > 1:
            low, high = (float(end[0]) for end in bands.interval(values[:, None], 1 - LEVEL / len(noisy)))
            detectable = max(high - mean, mean - low) + _quantile(values) * values.std(ddof=1) / np.sqrt(values.size)
            p = min(1.0, len(noisy) * bands.p(values)) if np.isfinite(bands.p(values)) else p
        numbers = [float(np.exp(np.clip(x, -700, 700))) if ratio else x for x in (mean, low, high, detectable)]
        mean, low, high, detectable = numbers
        deterministic = same[name] or (name in noisy and low == high)
        compared = Comparison(mean, low, high, p, values.size, ratio, detectable, deterministic)
        if compared.kind == "not found":  # should rounding put p on the other side of 5%, it follows the interval
            compared = replace(compared, p=max(p, float(np.nextafter(LEVEL, 1))))
        found[name] = compared if compared.kind != "beyond" else replace(compared, p=min(p, LEVEL))
    return found


def _same(values: Array, other: Array, ratio: bool) -> bool:
    """Tell whether all seeds differ by the same: to a millionth, or to the last digits of what was subtracted."""
    if values.size == 1 or not np.isfinite(values).all():
        return False
    size = np.abs(logarithms(other) if ratio else other).max() + np.abs(values).max()
    alike = ALIKE * (1.0 if ratio else np.abs(values.mean()))  # a logarithm's spread is that of the ratio, as a share
    return bool(np.ptp(values) <= max(alike, 8 * np.finfo(float).eps * size))


def _quantile(values: Array) -> float:
    """Return the quantile of Student's t that adds the power to what an interval leaves open (Bloom 1995)."""
    from scipy.special import stdtrit

    return float(stdtrit(values.size - 1, POWER))
