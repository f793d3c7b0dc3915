"""Statistics over seeds: intervals of means, curves on a common axis, and what it takes to come to a target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from qsim.arrays import reals
from qsim.options import number, one_of, option, whole

CONFIDENCE = 0.95

Array = NDArray[np.float64]


class Bands(ABC):
    """How the confidence interval of a mean over seeds is made."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What a caption calls the intervals."""

    @abstractmethod
    def interval(self, samples: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
        """Return the low and the high end for each column; samples: (seeds, points), with two seeds or more."""

    def p(self, samples: Array) -> float:
        """Return the two-sided p-value that the mean is zero, of the test that agrees with the intervals; NaN: none."""
        return float("nan")


@final
@option
class StudentT(Bands):
    """Student's t-interval: mean +- t sd / sqrt(seeds), t the quantile with seeds - 1 degrees of freedom.

    Exact for normal samples. With few seeds and a skewed quantity it covers less than it says: of an exponential law
    88% with 5 seeds, 90% with 10, 92% with 20.

    >>> low, high = StudentT().interval(np.array([[1.0], [2.0], [3.0]]))
    >>> round(float(low[0]), 3), round(float(high[0]), 3)
    (-0.484, 4.484)
    """

    @property
    def words(self) -> str:
        return f"{CONFIDENCE:.0%} t-intervals"

    def interval(self, samples: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
        from scipy.special import stdtrit

        samples = _sound(samples, confidence)
        seeds, mean = len(samples), samples.mean(axis=0)
        half = stdtrit(seeds - 1, (1 + confidence) / 2) * samples.std(axis=0, ddof=1) / np.sqrt(seeds)
        return mean - half, mean + half

    def p(self, samples: Array) -> float:
        from scipy.special import stdtr

        t = samples.mean() / (samples.std(ddof=1) / np.sqrt(samples.size))
        return float(2 * stdtr(samples.size - 1, -abs(t)))


@final
@option
class Bootstrap(Bands):
    """Bootstrap interval of the mean (Efron 1987): seeds are drawn again and again, with replacement.

    method: "BCa" corrects for bias and skewness; "percentile" takes the quantiles of the resampled means.
    resamples: how many. seed: of the resampling, the same for all points, so that figures can be made again.
    For fewer than about ten seeds either is too narrow; `StudentT` is the better choice there.

    >>> Bootstrap().words
    '95% bootstrap intervals (BCa, 9,999 resamples)'
    """

    method: Literal["BCa", "percentile"] = "BCa"
    resamples: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("method", self.method, ("BCa", "percentile"))
        whole("resamples", self.resamples, least=100)
        whole("seed", self.seed, least=0)

    @property
    def words(self) -> str:
        return f"{CONFIDENCE:.0%} bootstrap intervals ({self.method}, {self.resamples:,} resamples)"

    def interval(self, samples: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
        from scipy.stats import bootstrap

        samples = _sound(samples, confidence)
        low, high = samples.mean(axis=0), samples.mean(axis=0)
        spread = np.flatnonzero(np.ptp(samples, axis=0) > 0)  # without spread there is nothing to draw again; NaN stays
        if spread.size:
            found = bootstrap(
                (samples[:, spread],),
                np.mean,
                n_resamples=self.resamples,
                batch=max(1, 4_000_000 // samples.size),
                confidence_level=confidence,
                method=self.method,
                random_state=np.random.default_rng(self.seed),
            ).confidence_interval
            low[spread], high[spread] = found.low, found.high
        return low, high


def _sound(samples: Any, confidence: float) -> NDArray[Any]:
    """Return samples of two seeds or more, of which there is an interval of a confidence between 0 and 1."""
    if number("confidence", confidence, above=0) >= 1:
        raise ValueError(f"confidence must be below 1, found {confidence!r}")
    found = reals("samples", samples)
    if len(found.shape) < 1 or len(found) < 2:
        raise ValueError(f"there is no interval of less than two seeds, found samples of shape {found.shape}")
    return found


@dataclass(frozen=True)
class Band:
    """A mean over seeds with its 95% interval, at points of an axis (the mean itself where there is one seed)."""

    at: Array
    mean: Array
    low: Array
    high: Array


def band(at: Array, samples: Array, bands: Bands, *, logarithmic: bool = False) -> Band:
    """Return the band of samples of shape (seeds, points).

    logarithmic: the geometric mean, with the interval of the logarithms; NaN where a sample is not above zero.
    """
    if logarithmic:
        found = band(at, logarithms(samples), bands)
        return Band(at, np.exp(found.mean), np.exp(found.low), np.exp(found.high))
    mean = samples.mean(axis=0)
    return Band(at, mean, *(bands.interval(samples) if len(samples) > 1 else (mean, mean)))


def logarithms(samples: Array) -> Array:
    """Return logarithms, NaN for what is not above zero."""
    return np.log(np.where(samples > 0, samples, np.nan))


@dataclass(frozen=True)
class Reach:
    """What each seed spent until it first came to a target, at the first evaluated round there; infinite: it never did.

    spent: what each seed spent in all. mean, low, high: the geometric mean and the interval of the logarithms, if every
    seed came to the target; NaN otherwise, since a mean over those that did would flatter.
    """

    costs: Array
    spent: Array
    mean: float
    low: float
    high: float

    @property
    def reached(self) -> int:
        """How many seeds came to the target."""
        return int(np.isfinite(self.costs).sum())

    def __str__(self) -> str:
        """Say it in words that are true of each seed: of those that missed the target, which ended first and last."""
        seeds, reached = self.costs.size, self.reached
        if reached < seeds:
            ends = self.spent[~np.isfinite(self.costs)]
            limit = f"within {_count(ends.min(), ROUND_FLOOR)}"
            if _count(ends.min()) != _count(ends.max()):
                limit += f" (the longest run spent {_count(ends.max())})"
            if not reached:
                return f"not reached {limit}"
            some = self.costs[np.isfinite(self.costs)]
            span = _count(some.min()) + (f" to {_count(some.max())}" if reached > 1 else "")
            return f"{reached} of {seeds} seeds ({span}), the other{'s' if seeds - reached > 1 else ''} not {limit}"
        if not self.costs.any():
            return "met at the start"
        if not self.costs.all():
            there = np.count_nonzero(self.costs == 0)
            return f"{there} of {seeds} seeds at the start, the others within {_count(self.costs.max(), ROUND_CEILING)}"
        if seeds == 1:
            return f"{_count(self.mean)} (one seed)"
        if not np.ptp(self.costs):
            return f"{_count(self.mean)} (all seeds)"
        return f"{_count(self.mean)} ({_count(self.low)} to {_count(self.high)})"


def reach(across: Sequence[Array], up: Sequence[Array], target: float, bands: Bands | None = None) -> Reach:
    """Return what it takes until y is at most `target`: for each seed, its axis and its y at the evaluated rounds.

    >>> axis = [np.array([0.0, 10.0, 20.0]), np.array([0.0, 12.0, 24.0])]
    >>> print(reach(axis, [np.array([9.0, 4.0, 1.0]), np.array([9.0, 4.0, 3.0])], target=4.0))
    10.95 (3.44 to 34.88)
    >>> print(reach(axis, [np.array([9.0, 4.0, 1.0]), np.array([9.0, 4.0, 3.0])], target=2.0))
    1 of 2 seeds (20), the other not within 24
    """
    target = number("target", target)
    curves = [(x, y <= target) for x, y in (_curve(*curve) for curve in zip(across, up, strict=True))]
    costs = np.array([x[there.argmax()] if there.any() else np.inf for x, there in curves])
    spent = np.array([x[-1] for x, _ in curves])
    if not np.isfinite(costs).all() or not costs.all():
        return Reach(costs, spent, *([float("nan")] * 3))
    found = band(np.zeros(1), costs[:, None], bands or StudentT(), logarithmic=True)
    return Reach(costs, spent, float(found.mean[0]), float(found.low[0]), float(found.high[0]))


def _count(value: float, rounding: str = ROUND_HALF_EVEN) -> str:
    """Return a cost with four digits, or all of a whole number: rounded down where it is a limit not met within."""
    digits = max(4, len(f"{int(value)}"))
    rounded = float(Context(prec=digits, rounding=rounding).create_decimal_from_float(float(value)))
    return f"{rounded:,.0f}" if value >= 1000 else f"{rounded:.4g}"


def resample(seeds: Sequence[tuple[Array, Array]], *, log_x: bool = False, log_y: bool = False) -> tuple[Array, Array]:
    """Put the curves of several seeds on one grid of their axis; returns the grid and y of shape (seeds, points).

    seeds: for each, positions on the axis, never falling, and y there; of equal positions the last one counts. Points
        where either is NaN, such as the rounds of a trace that were not evaluated, are left out.

    The grid spans what all seeds have: before the last of their starts (with log_x, above zero) and after the first
    of their ends there is nothing. If all of a seed's positions in between are shared by all others, both ends too,
    they are the grid; else it has as many points as the seed with most, evenly spaced (log_x: in logarithms). Between
    positions, y (log_y: its logarithm) is linear in the position (log_x: in its logarithm).

    Raises ValueError for an axis that falls.

    >>> first, second = (np.array([0.0, 10.0, 20.0]), np.array([3.0, 2.0, 1.0])), (np.array([0.0, 8.0]), np.ones(2))
    >>> grid, up = resample([first, second])
    >>> grid.tolist(), up.tolist()
    ([0.0, 8.0], [[3.0, 2.2], [1.0, 1.0]])
    """
    curves = [_single(at, up, log_x) for at, up in seeds]
    if not all(at.size for at, _ in curves):
        return np.zeros(0), np.zeros((len(curves), 0))
    low, high = max(at[0] for at, _ in curves), min(at[-1] for at, _ in curves)
    if low > high:
        return np.zeros(0), np.zeros((len(curves), 0))
    inside = [at[(at >= low) & (at <= high)] for at, _ in curves]
    grid = inside[0]
    for at in inside[1:]:
        grid = np.intersect1d(grid, at)
    if not {low, high} <= set(grid.tolist()) or grid.size < min(at.size for at in inside):
        points = 1 if low == high else max(2, *(at.size for at in inside))
        grid = np.geomspace(low, high, points) if log_x else np.linspace(low, high, points)
        grid[[0, -1]] = low, high
    rows = []
    for at, up in curves:
        x, places = (np.log(at), np.log(grid)) if log_x else (at, grid)
        between = np.interp(places, x, logarithms(up) if log_y else up)
        rows.append(np.exp(between) if log_y else between)
    return grid, np.stack(rows)


def _curve(at: Any, up: Any) -> tuple[Array, Array]:
    """Return positions on an axis, and y there, as arrays of one length."""
    at, up = reals("positions on an axis", at).astype(float), reals("the y of a curve", up).astype(float)
    if at.ndim != 1 or at.shape != up.shape:
        raise ValueError(f"a curve has one y at each position, found shapes {at.shape} and {up.shape}")
    return at, up


def _single(at: Array, up: Array, positive: bool) -> tuple[Array, Array]:
    """Return a curve with one y for each position, the last; only positions above zero if they shall be positive."""
    at, up = _curve(at, up)
    known = ~(np.isnan(at) | np.isnan(up))
    at, up = at[known], up[known]
    if (np.diff(at) < 0).any():
        raise ValueError("curves are averaged on axes that never fall, such as rounds, passes, bits and non-zeros")
    keep = np.append(np.diff(at) > 0, True)[: at.size]
    if positive:
        keep &= at > 0
    return at[keep], up[keep]
