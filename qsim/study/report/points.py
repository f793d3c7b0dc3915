"""The numbers of a study for its page: those of every seed at evaluated rounds, from stored traces or a written CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.methods import Averaged
from qsim.simulation import Run
from qsim.study.cells import Cell
from qsim.study.statistics import CONFIDENCE
from qsim.trace import ACCURACY, EVALUATION, FORMULA, LABELS, LOGARITHMIC, PROGRESSIVE, Trace

if TYPE_CHECKING:
    import pandas as pd

ACROSS = ("round", "passes", "bits_up", "bits_down", "bits", FORMULA, "nonzeros", "seconds")
"""Axes: what never falls from round to round."""
_UP = (*EVALUATION, *ACCURACY, *PROGRESSIVE)
MOST = 400
"""Of how many evaluated rounds a run has its points on a page; of more, these are chosen by `thinned`."""
_DIGITS = 9  # that a number has on a page


def of_cells(curves: Mapping[str, Sequence[tuple[Cell, Trace]]]) -> dict[str, Any]:
    """Return curves for a page: for each stored seed the run, and its quantities at evaluated rounds."""
    found = [
        {"name": curve, "runs": [_run(cell, trace) for cell, trace in runs]} for curve, runs in curves.items() if runs
    ]
    return _described(found, ACROSS, _UP) | {"t": _quantiles(len(curve["runs"]) for curve in found)}


def of_table(table: pd.DataFrame, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the curves of a table that a study wrote: means over seeds, with the ends of their bands.

    runs: what the .json beside it says of each curve. A curve is what the columns of text tell apart; of a table with
    rows on several axes (`Results.numbers`) those at evaluated rounds are taken.
    """
    from pandas.api.types import is_numeric_dtype

    if "axis" in table and "round" in table:
        table = table[table["axis"] == "round"].drop(columns="axis")
    if "cumulative_bits_up" in table and "cumulative_bits_down" in table:
        table = table.assign(cumulative_bits=table["cumulative_bits_up"] + table["cumulative_bits_down"])
    words = [str(name) for name in table if not is_numeric_dtype(table[name])]
    numbers = [str(name) for name in table if name not in words and table[name].notna().any()]
    groups = table.groupby(words, sort=False, dropna=False) if words else [(("all rows",), table)]
    found = []
    for names, rows in groups:
        name = ", ".join(map(str, names))
        known = runs.get(name, {})
        at = thinned(len(rows))
        quantities = {_plain(column): _numbers(rows[column].to_numpy(np.float64)[at]) for column in numbers}
        made = known.get("run") or "\n".join(known.get("runs") or [])
        one = {"seed": None, "run": made, "seeds": known.get("seeds"), "of": len(rows), "at": quantities}
        found.append({"name": name, "runs": [one]})
    named = [_plain(name) for name in numbers if not name.endswith(("_low", "_high")) and name != "seeds"]
    over_rounds = "round" in named
    across = [name for name in ACROSS if name in named] if over_rounds else named
    return _described(found, across, [name for name in named if name not in ACROSS or not over_rounds]) | {
        "written": True,
        "over_rounds": over_rounds,
    }


def thinned(evaluated: int, most: int = MOST) -> NDArray[np.int64]:
    """Return which of evaluated rounds are shown: all, or of more than `most` the first, the last and others between.

    Half of them are evenly spaced and half geometrically, so that the start is there on a logarithmic axis.
    """
    if evaluated <= most:
        return np.arange(evaluated)
    even = np.linspace(0, evaluated - 1, most // 2)
    chosen = np.unique(np.rint([*even, *np.geomspace(1, evaluated - 1, most // 2)]).astype(np.int64))
    return chosen


def _run(cell: Cell, trace: Trace) -> dict[str, Any]:
    evaluated = np.flatnonzero(np.isfinite(trace.columns["loss"]))
    at = evaluated[thinned(evaluated.size)]
    quantities = {}
    for name in (*ACROSS, *_UP):
        try:
            values = trace.axis(name)[at]
        except ValueError:  # the run has no network, no formula, or its labels are targets
            continue
        if np.isfinite(values).any():
            quantities[name] = _numbers(values)
    about = {"seed": cell.run.seed, "run": repr(cell.run), "method": _method(cell.run), "of": int(evaluated.size)}
    return about | {"at": quantities}


def _method(run: Run) -> str:
    """Return the method with its step, as it prints; a step that is left to theory is said to be that."""
    method = run.method.method if isinstance(run.method, Averaged) else run.method
    return repr(run.method) + (", step of theory" if getattr(method, "step", 0) is None else "")


def _described(curves: list[dict[str, Any]], across: Iterable[str], up: Iterable[str]) -> dict[str, Any]:
    """Return curves with the axes that one of them has, and the words for them."""
    known = {name for curve in curves for run in curve["runs"] for name in run["at"]}
    axes = [[name, LABELS.get(name, name)] for name in across if name in known]
    quantities = [[name, LABELS.get(name, name)] for name in up if name in known]
    quantities += [axis for axis in axes if axis not in quantities]
    return {"curves": curves, "across": axes, "up": quantities, "logarithmic": list(LOGARITHMIC)}


def _quantiles(seeds: Iterable[int]) -> dict[int, float]:
    """Return by the number of seeds the quantile of Student's t-distribution that its intervals take."""
    from scipy.special import stdtrit

    return {count: float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) for count in sorted(set(seeds)) if count > 1}


def _numbers(values: NDArray[Any]) -> list[float | int | None]:
    """Return numbers as JSON shall hold them: short, whole ones as such, None for what is not finite."""
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    if float(value).is_integer() and abs(value) < 2**53:
        return int(value)
    return float(f"{value:.{_DIGITS}g}")


def _plain(column: str) -> str:
    """Return the quantity that a column holds: what is spent is cumulative there."""
    plain = column.removeprefix("cumulative_")
    return plain if plain.removesuffix("_low").removesuffix("_high") in ACROSS else column
