"""Results: the traces of a study, as means and bands over seeds and as paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.study.study import Cell, Settings
from qsim.trace import EVALUATION, TRAFFIC, Trace

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Band:
    """A mean over seeds, and its 95% confidence band by Student's t (the mean itself when there is one seed)."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """The mean over seeds of a paired difference, and its confidence interval by Student's t."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        """Say it in words."""
        if self.seeds == 1:
            return f"{self.mean:+.3g} (one seed: the noise is not known)"
        verdict = "beyond the seed noise" if self.beyond_noise else "within the seed noise"
        return f"{self.mean:+.3g} ({self.low:+.3g} to {self.high:+.3g}; {verdict})"


class Results:
    """The traces of all cells of a study, by curve."""

    def __init__(
        self,
        settings: Settings,
        cells: Sequence[Cell],
        traces: Sequence[Trace],
        seconds: Sequence[Sequence[float]] = (),
    ) -> None:
        """Sort the traces into curves, in the order in which the curves first come.

        seconds: for each cell, how long each of its rounds took.
        """
        self.settings = settings
        self.cells = cells
        self.seconds = seconds
        self.traces: dict[str, list[Trace]] = {}
        for cell, trace in zip(cells, traces, strict=True):
            self.traces.setdefault(cell.curve, []).append(trace)

    @property
    def curves(self) -> list[str]:
        """The names of the curves."""
        return list(self.traces)

    @cached_property
    def rounds(self) -> NDArray[np.int64]:
        """The rounds at which all runs were evaluated, up to the end of the first that ended early."""
        traces = [trace for curve in self.traces.values() for trace in curve]
        shortest = min(trace.columns["loss"].size for trace in traces)
        evaluated = np.logical_and.reduce([np.isfinite(trace.columns["loss"][:shortest]) for trace in traces])
        return np.flatnonzero(evaluated)

    def samples(self, curve: str, quantity: str) -> NDArray[np.float64]:
        """Return a quantity (an axis of `Trace`) at the evaluated rounds: one row a seed."""
        return np.stack([trace.axis(quantity)[self.rounds] for trace in self.traces[curve]]).astype(np.float64)

    def band(self, curve: str, quantity: str, minus: str | None = None) -> Band:
        """Return the mean over seeds and its band at the evaluated rounds, or those of a paired difference."""
        samples = self.samples(curve, quantity)
        if minus is not None:
            samples = samples - self.samples(minus, quantity)
        mean = samples.mean(axis=0)
        half = _half_width(samples)
        return Band(mean, mean - half, mean + half)

    def final(self, curve: str, quantity: str) -> float:
        """Return the mean over seeds at the last round."""
        return float(self.samples(curve, quantity)[:, -1].mean())

    def differences(self, curves: Sequence[str], other: str, quantity: str) -> dict[str, Difference]:
        """Compare curves with another at the last round, seed by seed: all had the same partition, batches and start.

        The intervals hold together with 95% confidence: each is at 1 - 5%/k for k curves (Bonferroni).
        """
        found = {}
        for curve in curves:
            paired = self.samples(curve, quantity)[:, -1] - self.samples(other, quantity)[:, -1]
            mean, half = float(paired.mean()), float(_half_width(paired[:, None], len(curves))[0])
            found[curve] = Difference(mean, mean - half, mean + half, paired.size)
        return found

    def numbers(self) -> pd.DataFrame:
        """Return what figures draw: for each curve and evaluated round the mean, low and high of each quantity."""
        import pandas as pd

        parts = []
        for curve in self.curves:
            columns: dict[str, Any] = {"curve": curve, "round": self.rounds, "seeds": len(self.traces[curve])}
            for quantity in (*TRAFFIC, *EVALUATION):
                band = self.band(curve, quantity)
                if np.isfinite(band.mean).any():
                    name = f"cumulative_{quantity}" if quantity in TRAFFIC else quantity
                    columns |= {name: band.mean, f"{name}_low": band.low, f"{name}_high": band.high}
            parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)


def _half_width(samples: NDArray[np.float64], comparisons: int = 1) -> NDArray[np.float64]:
    """Return half the width of the t-interval of the mean over rows, one of several that shall hold together."""
    from scipy.special import stdtrit

    seeds = len(samples)
    if seeds == 1:
        return np.zeros(samples.shape[1])
    spread = samples.std(axis=0, ddof=1) / np.sqrt(seeds)
    return np.asarray(stdtrit(seeds - 1, 1 - (1 - CONFIDENCE) / (2 * comparisons)) * spread)
