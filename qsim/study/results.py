"""Results: the traces of a study, as means and bands over seeds on any axis, and as paired comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from qsim.notebooks import html_table
from qsim.problem import Bound
from qsim.study.cells import Cell, Settings
from qsim.study.comparisons import Comparison, compare
from qsim.study.statistics import Band, Reach, band, reach, resample
from qsim.trace import CUMULATIVE, EVALUATION, LOGARITHMIC, Trace

if TYPE_CHECKING:
    import pandas as pd

    from qsim.study.tuning import Tuned

Array = NDArray[np.float64]
_T = TypeVar("_T")


@dataclass(frozen=True)
class AxisSpec:
    """Quantities for `Results.numbers` on another axis than the rounds.

    Parameters
    ----------
    axis : str
        The axis; see `Results.band`.
    quantities : sequence of str, default ("suboptimality",)
        The quantities.
    log : bool, default True
        Whether the axis is logarithmic.

    Examples
    --------
    >>> AxisSpec("bits", ("suboptimality", "loss")).log
    True
    """

    axis: str
    quantities: Sequence[str] = ("suboptimality",)
    log: bool = True


class Results:
    """The traces of all cells of a study, by curve.

    Parameters
    ----------
    settings : Settings
        The settings of the study.
    cells : sequence of Cell
        The cells.
    traces : sequence of Trace
        The trace of each cell.
    seconds : sequence of sequences of float, optional
        For each cell, how long each of its rounds took.
    tuned : Tuned, optional
        What was chosen before, and by which runs.
    begun : float, optional
        How many seconds of processors had been spent when the runs began, if that is known.

    Notes
    -----
    Means over seeds of the quantities in `LOGARITHMIC` (suboptimality, gradient norm) are geometric, and their
    comparisons ratios; those of all others are means and differences.

    Examples
    --------
    >>> from qsim.study import Settings, catalog, run_study
    >>> _, study = catalog.find("seminar")
    >>> results = run_study(study, Settings("spark_sample", workers=4, rounds=5, seeds=2), cache=False)
    >>> results.curves[:2], results.samples("s = 1", "loss").shape
    (['uncompressed', 's = 1'], (2, 6))
    """

    def __init__(
        self,
        settings: Settings,
        cells: Sequence[Cell],
        traces: Sequence[Trace],
        seconds: Sequence[Sequence[float]] = (),
        tuned: Tuned | None = None,
        begun: float | None = None,
    ) -> None:
        """Sort the traces into curves, in the order in which the curves first come.

        seconds: for each cell, how long each of its rounds took. tuned: what was chosen before, and by which runs.
        """
        self.settings = settings
        self.cells = cells
        self.seconds = seconds
        self.tuned = tuned
        self.begun = begun
        self._computed: dict[Any, Any] = {}
        self._bounds: dict[str, list[Bound] | None] = {}
        self.traces: dict[str, list[Trace]] = {}
        for cell, trace in zip(cells, traces, strict=True):
            self.traces.setdefault(cell.curve, []).append(trace)

    def _repr_html_(self) -> str:
        """Show the curves, their seeds and where they end, in a notebook."""
        rows = {
            curve: f"{len(traces)} seeds, loss {np.mean([trace.axis('loss')[-1] for trace in traces]):.6g} at the end"
            for curve, traces in self.traces.items()
        }
        return html_table(f"Results, {self.settings!r}", rows)

    @property
    def curves(self) -> list[str]:
        """The names of the curves."""
        return list(self.traces)

    def once(self, make: Callable[[Results], _T]) -> _T:
        """Return what `make` makes of these results; it is called the first time only (numbers, answers, figure)."""
        if make not in self._computed:
            self._computed[make] = make(self)
        return cast(_T, self._computed[make])

    @cached_property
    def rounds(self) -> NDArray[np.int64]:
        """The rounds at which all runs were evaluated, up to the end of the first that ended early."""
        traces = [trace for curve in self.traces.values() for trace in curve]
        shortest = min(trace.columns["loss"].size for trace in traces)
        evaluated = np.logical_and.reduce([np.isfinite(trace.columns["loss"][:shortest]) for trace in traces])
        return np.flatnonzero(evaluated)

    def samples(self, curve: str, quantity: str) -> Array:
        """Return a quantity of all seeds of a curve.

        Parameters
        ----------
        curve : str
            The curve.
        quantity : str
            An axis of `Trace`.

        Returns
        -------
        ndarray of float64, shape (seeds, points)
            The quantity, at `rounds`.
        """
        return np.stack([trace.axis(quantity)[self.rounds] for trace in self.traces[curve]]).astype(np.float64)

    def band(
        self, curve: str, quantity: str, minus: str | None = None, *, axis: str = "round", log: bool = False
    ) -> Band:
        """Return the mean over seeds with its band at points of an axis, each seed put on the same ones (`resample`).

        Parameters
        ----------
        curve : str
            The curve.
        quantity : str
            An axis of `Trace`.
        minus : str, optional
            Another curve: the difference to it or, of a logarithmic quantity, the ratio, seed by seed.
        axis : str, default "round"
            What never falls: "round", "passes", "bits_up", "bits_down", "bits", "nonzeros", and "seconds" if the runs
            have a network.
        log : bool, default False
            Whether the axis is logarithmic.

        Returns
        -------
        Band
            The band, up to the end of the shortest seed: nothing is known beyond.

        Raises
        ------
        ValueError
            For curves with different numbers of seeds.
        """
        logarithmic = quantity in LOGARITHMIC
        seeds = self._points(curve, axis, quantity)
        others = [] if minus is None else self._points(minus, axis, quantity)
        if minus is not None and len(others) != len(seeds):
            raise ValueError(f"{curve!r} has {len(seeds)} seeds and {minus!r} {len(others)}: they cannot be paired")
        at, up = resample(seeds + others, log_x=log, log_y=logarithmic)
        samples = up[: len(seeds)]
        if others:
            samples = samples / up[len(seeds) :] if logarithmic else samples - up[len(seeds) :]
        return band(at, samples, self.settings.bands, logarithmic=logarithmic)

    def bound(self, curve: str, axis: str = "round") -> tuple[Array, Array] | None:
        """Return the bound of theory on the mean suboptimality of a curve (see `Run.bound`).

        Parameters
        ----------
        curve : str
            The curve.
        axis : str, default "round"
            As for `band`.

        Returns
        -------
        tuple of two arrays, or None
            At the evaluated rounds that all seeds have: the mean over seeds of what was spent on the axis by then, and
            of the bounds, each for the partition and start of its seed. None if there is no bound.
        """
        if curve not in self._bounds:
            found = [cell.run.bound() for cell in self.cells if cell.curve == curve]
            known = [bound for bound in found if bound is not None]
            self._bounds[curve] = known if len(known) == len(found) else None
        bounds, points = self._bounds[curve], self._points(curve, "round", axis)
        if bounds is None:
            return None
        length = min(rounds.size for rounds, _ in points)
        values = [bound(rounds[:length]) for bound, (rounds, _) in zip(bounds, points, strict=True)]
        return np.mean([spent[:length] for _, spent in points], axis=0), np.mean(values, axis=0)

    def final(self, curve: str, quantity: str) -> float:
        """Return the mean over seeds at the last round that all runs have."""
        last = self.samples(curve, quantity)[:, -1:]
        return float(band(np.zeros(1), last, self.settings.bands, logarithmic=quantity in LOGARITHMIC).mean[0])

    def compare(self, curves: Sequence[str], other: str, quantity: str) -> dict[str, Comparison]:
        """Compare curves with another at the last round, seed by seed: all had the same partition, batches and start.

        Parameters
        ----------
        curves : sequence of str
            The curves; their intervals hold together.
        other : str
            The curve that they are compared with.
        quantity : str
            An axis of `Trace`.

        Returns
        -------
        dict of Comparison
            The comparisons, by curve.
        """
        last = {curve: self.samples(curve, quantity)[:, -1] for curve in (*curves, other)}
        return compare(
            {curve: last[curve] for curve in curves}, last[other], self.settings.bands, ratio=quantity in LOGARITHMIC
        )

    def reach(
        self, curve: str, target: float, quantity: str = "suboptimality", *, axis: str = "bits", per: float = 1.0
    ) -> Reach:
        """Return the cost of each seed of a curve until a quantity first reaches a target.

        Parameters
        ----------
        curve : str
            The curve.
        target : float
            The quantity must be at most this at an evaluated round.
        quantity : str, default "suboptimality"
            An axis of `Trace`.
        axis : str, default "bits"
            What is spent; by default what is sent on uplink and downlink.
        per : float, default 1.0
            Costs are divided by this, such as the number of workers.

        Returns
        -------
        Reach
            The costs.
        """
        points = self._points(curve, axis, quantity)
        return reach([at / per for at, _ in points], [up for _, up in points], target, self.settings.bands)

    def cheapest(
        self, curves: Sequence[str], target: float, quantity: str = "suboptimality", *, axis: str = "bits"
    ) -> tuple[str, dict[str, Comparison]] | None:
        """Return the curve that reaches a target at the least cost.

        Parameters
        ----------
        curves : sequence of str
            The curves; only those count of which every seed reaches the target.
        target : float
            As for `reach`.
        quantity : str, default "suboptimality"
            An axis of `Trace`.
        axis : str, default "bits"
            What is spent.

        Returns
        -------
        tuple of str and dict of Comparison, or None
            The curve, and the ratios of the others' costs to its own; None if no curve counts.
        """
        found = {curve: self.reach(curve, target, quantity, axis=axis) for curve in curves}
        costs = {curve: r.costs for curve, r in found.items() if r.mean > 0}
        if not costs:
            return None
        best = min(costs, key=lambda curve: found[curve].mean)
        others = {curve: cost for curve, cost in costs.items() if curve != best}
        return best, compare(others, costs[best], self.settings.bands, ratio=True)

    def round_seconds(self, curve: str) -> NDArray[np.float64]:
        """Return for each seed of a curve the median of the seconds of its rounds without the first: real time."""
        pairs = zip(self.cells, self.seconds, strict=True)
        return np.array([float(np.median(took[1:] or took)) for cell, took in pairs if cell.curve == curve])

    def numbers(self, *others: AxisSpec) -> pd.DataFrame:
        """Return the numbers behind figures: mean, low and high of each quantity, for each curve and evaluated round.

        Parameters
        ----------
        *others : AxisSpec
            Rows on other axes, which come below.

        Returns
        -------
        pandas.DataFrame
            The numbers; the column `axis` says on which axis means over seeds were taken.
        """
        import pandas as pd

        parts = []
        for curve in self.curves:
            timed = all("seconds" in trace.columns for trace in self.traces[curve])
            quantities = (*CUMULATIVE, *(("seconds",) if timed else ()), *EVALUATION)
            for on in (AxisSpec("round", quantities, log=False), *others):
                columns: dict[str, Any] = {"curve": curve, "axis": on.axis, "seeds": len(self.traces[curve])}
                columns["round"] = self.band(curve, "round", axis=on.axis, log=on.log).mean
                if on.axis != "round":
                    columns[f"cumulative_{on.axis}"] = self.band(curve, "round", axis=on.axis, log=on.log).at
                for quantity in on.quantities:
                    found = self.band(curve, quantity, axis=on.axis, log=on.log)
                    if np.isfinite(found.mean).any():
                        name = f"cumulative_{quantity}" if quantity in (*CUMULATIVE, "seconds") else quantity
                        columns |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
                parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)

    def _points(self, curve: str, axis: str, quantity: str) -> list[tuple[Array, Array]]:
        """Return the axis and the quantity at each seed's evaluated rounds."""
        points = []
        for trace in self.traces[curve]:
            seen = np.isfinite(trace.columns["loss"])
            points.append((trace.axis(axis)[seen].astype(np.float64), trace.axis(quantity)[seen].astype(np.float64)))
        return points
