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
    """The mean over seeds of a paired difference, and its 95% confidence interval by Student's t."""

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
        return (
            f"{self.mean:+.3g} (95% interval {self.low:+.3g} to {self.high:+.3g}, {self.seeds} paired seeds; {verdict})"
        )


class Results:
    """The traces of all cells of a study, by curve."""

    def __init__(self, settings: Settings, cells: Sequence[Cell], traces: Sequence[Trace]) -> None:
        """Sort the traces into curves, in the order in which the curves first come."""
        self.settings = settings
        self.cells = cells
        self.traces: dict[str, list[Trace]] = {}
        for cell, trace in zip(cells, traces, strict=True):
            self.traces.setdefault(cell.curve, []).append(trace)

    @property
    def curves(self) -> list[str]:
        """The names of the curves."""
        return list(self.traces)

    @cached_property
    def rounds(self) -> NDArray[np.int64]:
        """The rounds at which all runs were evaluated."""
        (first, *_), *_ = self.traces.values()
        return np.flatnonzero(np.isfinite(first.columns["loss"]))

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

    def difference(self, curve: str, other: str, quantity: str) -> Difference:
        """Compare two curves at the last round, seed by seed: both had the same partition, batches and start."""
        paired = self.samples(curve, quantity)[:, -1] - self.samples(other, quantity)[:, -1]
        mean, half = float(paired.mean()), float(_half_width(paired[:, None])[0])
        return Difference(mean, mean - half, mean + half, paired.size)

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


def _half_width(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half the width of the t-interval of the mean over rows."""
    from scipy.special import stdtrit

    seeds = len(samples)
    if seeds == 1:
        return np.zeros(samples.shape[1])
    spread = samples.std(axis=0, ddof=1) / np.sqrt(seeds)
    return np.asarray(stdtrit(seeds - 1, 0.5 + CONFIDENCE / 2) * spread)
