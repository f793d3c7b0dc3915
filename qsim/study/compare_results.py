"""Results of a study that were written before, drawn against others of the same study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from qsim.options import nearest
from qsim.plotting import legend_text, new_figure, styled
from qsim.study.catalog import RequestError
from qsim.study.figures import TEXT_WIDTH, log_axes, look
from qsim.trace import LABELS, LOGARITHMIC

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BITS = "cumulative_bits"
_MOST = 6  # panels
_DASHES: dict[str, Any] = {"A": (0, (2, 1.5)), "B": "-"}


@dataclass(frozen=True)
class Saved:
    """The files of a study: the numbers, and the settings if its .json lies beside them."""

    name: str
    label: str
    table: pd.DataFrame
    settings: str | None


def find(names: Sequence[str]) -> tuple[Saved, Saved]:
    """Read two files (.csv or .json) that studies wrote, or those of one study in two folders.

    Raises RequestError for files that are not there, or not a study's.
    """
    if len(names) == 3 and all(Path(name).is_dir() for name in names[:2]):
        known = sorted(path.stem for path in Path(names[0]).glob("*.csv"))
        if names[2] not in known:
            listed = f" (there are: {', '.join(known)})" if known else ""
            raise RequestError(f"{names[0]} has no results of {names[2]!r}{nearest(names[2], known)}{listed}")
        paths = [Path(name) / f"{names[2]}.csv" for name in names[:2]]
    elif len(names) == 2 and not all(Path(name).is_dir() for name in names):
        paths = [Path(name).with_suffix(".csv") for name in names]
    elif len(names) == 3 and (missing := [name for name in names[:2] if not Path(name).is_dir()]):
        raise RequestError(f"there is no folder {missing[0]} with results of {names[2]}")
    else:
        raise RequestError(
            "compare takes two files that a study wrote, or two folders and the name of a study, found"
            f" {' '.join(names)}"
        )
    labels = [str(path.parent) for path in paths] if paths[0].stem == paths[1].stem else [path.stem for path in paths]
    first, second = (_read(path, label) for path, label in zip(paths, labels, strict=True))
    if set(first.table.columns) != set(second.table.columns):
        odd = sorted(set(first.table.columns) ^ set(second.table.columns))
        raise RequestError(f"{paths[0]} and {paths[1]} are not of one study: only one of them has {', '.join(odd[:5])}")
    return first, second


def _read(path: Path, label: str) -> Saved:
    import pandas as pd

    if not path.is_file():
        raise RequestError(f"there are no results {path}")
    try:
        table = pd.read_csv(path)
        table.columns[0]
    except (ValueError, IndexError) as error:  # pandas' errors of parsing are ValueErrors
        raise RequestError(f"{path} is not a table that a study wrote: {error}") from None
    about = path.with_suffix(".json")
    settings = json.loads(about.read_text(encoding="utf-8")).get("settings") if about.is_file() else None
    if "axis" in table and "round" in table:  # the same runs, put on other axes
        table = table[table["axis"] == "round"]
    if {"curve", "round", "loss"} <= set(table):  # rounds that were not evaluated have nothing to compare
        table = table[table["loss"].notna()]
    return Saved(path.stem, label, table, settings)


def compare(first: Saved, second: Saved) -> tuple[str, Figure]:
    """Return how the numbers of the second results differ from the first, in words, and a figure."""
    from pandas.api.types import is_numeric_dtype

    lines = [f"A: {first.label}", f"B: {second.label}"]
    if first.settings != second.settings:
        lines += ["settings differ:", f"  A: {first.settings or 'not known'}", f"  B: {second.settings or 'not known'}"]
    keys = _keys(first.table, second.table)
    over_rounds = keys == ["curve", "round"]
    pairs = _finals(first, second) if over_rounds else first.table.merge(second.table, on=keys, suffixes=(" A", " B"))
    names = ["curve"] if over_rounds else keys
    lines += _unmatched(first, second, names)
    columns = [name for name in first.table.columns if name not in keys and is_numeric_dtype(first.table[name])]
    for name in columns:
        if not is_numeric_dtype(second.table[name]):
            raise RequestError(f"the {name!r} of {second.label} are not all numbers, as those of {first.label} are")
    shown = [name for name in columns if not name.endswith(("_low", "_high")) and name not in ("seeds", "round")]
    if over_rounds:
        lines.append("at the last round that both have; noise: the 95% bands of A and B, taken as independent")
    for name in shown:
        lines += _differences(pairs, name, names, f"{name}_low" in columns)
    figure = _curves(first, second) if over_rounds else _scatters(pairs, shown, first, second)
    return "\n".join(lines), figure


def _keys(first: pd.DataFrame, second: pd.DataFrame) -> list[str]:
    """Return columns that tell the rows of both tables apart: curve and round, else the first that do."""
    columns = [name for name in first.columns if name != "axis"]
    runs = [["curve", "round"]] if {"curve", "round", "loss"} <= set(columns) else []
    for names in (*runs, *(columns[:end] for end in range(1, len(columns) + 1))):
        if not (first.duplicated(names).any() or second.duplicated(names).any()):
            return names
    raise RequestError("no columns tell the rows of both results apart, so they can't be compared")


def _finals(first: Saved, second: Saved) -> pd.DataFrame:
    """Return for each curve of both the values at the last round that both have."""
    both = first.table.merge(second.table, on=["curve", "round"], suffixes=(" A", " B"))
    return both.sort_values("round", kind="stable").drop_duplicates("curve", keep="last").sort_index()


def _unmatched(first: Saved, second: Saved, names: list[str]) -> list[str]:
    found = [{tuple(row) for row in saved.table[names].astype(str).to_numpy()} for saved in (first, second)]
    lines = []
    for label, alone in (("A", found[0] - found[1]), ("B", found[1] - found[0])):
        listed = "; ".join(", ".join(row) for row in sorted(alone)[:5])
        if alone:
            lines.append(f"only in {label}: {listed}{f' and {len(alone) - 5} more' if len(alone) > 5 else ''}")
    return lines


def _differences(pairs: pd.DataFrame, name: str, names: list[str], banded: bool) -> list[str]:
    """Say where a quantity differs, the largest relative differences first."""
    a, b = (pairs[f"{name} {x}"].to_numpy(np.float64) for x in "AB")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return [f"{name}: the same" if len(pairs) else f"{name}: nothing to compare"]
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = (b - a) / np.abs(a)
    order = np.argsort(-np.abs(np.where(same, 0, np.nan_to_num(relative, nan=np.inf))), kind="stable")
    lines = [f"{name}: {np.count_nonzero(~same)} of {len(pairs)} differ"]
    for row in order[: min(10, np.count_nonzero(~same))]:
        where = ", ".join(str(pairs[key].iloc[row]) for key in names)
        noise = f", {_verdict(pairs.iloc[row], name)}" if banded else ""
        lines.append(f"  {where}: {a[row]:.6g} -> {b[row]:.6g} ({b[row] - a[row]:+.3g}, {relative[row]:+.2%}{noise})")
    return lines


def _verdict(pair: pd.Series[Any], name: str) -> str:
    """Say whether a difference is more than two independent bands allow: for a logarithmic quantity, of logarithms."""
    if min(pair.get("seeds A", 2), pair.get("seeds B", 2)) < 2:
        return "one seed: the noise is not known"
    found = np.array([[pair[f"{name}{end} {side}"] for end in ("_low", "", "_high")] for side in "AB"], np.float64)
    if name in LOGARITHMIC:
        found = np.log(np.where(found > 0, found, np.nan))
    if not np.isfinite(found).all():
        return "the noise is not known"
    (low, mean, high), (other_low, other, other_high) = found
    half = np.hypot(high - mean, other - other_low) if other > mean else np.hypot(mean - low, other_high - other)
    if half == 0:
        return "without noise"
    least = f"{np.exp(half):.3g} times" if name in LOGARITHMIC else f"{half:.3g}"
    return "beyond the noise" if abs(other - mean) > half else f"no difference found, more than {least} counts as one"


def _curves(first: Saved, second: Saved) -> Figure:
    """Draw the curves of both over rounds and over bits: A dashed, B drawn through."""
    from matplotlib.lines import Line2D

    known = [s.table["suboptimality"].notna().any() for s in (first, second) if "suboptimality" in s.table]
    y = "suboptimality" if known == [True, True] else "loss"
    sides, line = {"A": first, "B": second}, cast("Any", Line2D)  # its stub knows dashes less well than it does
    curves = list(dict.fromkeys([*first.table["curve"], *second.table["curve"]]))
    with styled():
        figure = new_figure(TEXT_WIDTH, 3.0)
        axes = figure.subplots(1, 2, sharey=True)
        for ax, x in zip(axes, ("round", _BITS), strict=True):
            for side, saved in sides.items():
                up, down = (saved.table.get(f"cumulative_bits_{way}", np.nan) for way in ("up", "down"))
                table = saved.table.assign(**{_BITS: up + down})
                for place, curve in enumerate(curves):
                    _draw(ax, table[table["curve"] == curve], x, y, look(place), side)
            ax.set(xlabel=LABELS[x.removeprefix("cumulative_")])
            log_axes(ax, *("xy" if x == _BITS else "y"))
        axes[0].set_ylabel(LABELS[y])
        styles = [look(place) | {"linestyle": "-", "label": legend_text(curve)} for place, curve in enumerate(curves)]
        styles += [
            {"color": "0.4", "linestyle": _DASHES[x], "label": legend_text(f"{x}: {s.label}")} for x, s in sides.items()
        ]
        handles = [line([], [], **style) for style in styles]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return figure


def _draw(ax: Axes, line: pd.DataFrame, x: str, y: str, style: dict[str, Any], side: str) -> None:
    if x not in line:
        return
    line = line[(line[y] > 0) & (line[x].notna()) & ((line[x] > 0) | (x == "round"))]
    marker = style["marker"] if side == "B" else ""
    ax.plot(
        line[x], line[y], markevery=max(1, len(line) // 4), **style | {"linestyle": _DASHES[side], "marker": marker}
    )


def _scatters(pairs: pd.DataFrame, names: list[str], first: Saved, second: Saved) -> Figure:
    """Draw each quantity of B over that of A: equal ones lie on the diagonal."""
    shown = names[:_MOST] or ["nothing"]
    rows, columns = -(-len(shown) // 3), min(3, len(shown))
    with styled():
        figure = new_figure(TEXT_WIDTH * columns / 3, 2.4 * rows)
        for ax, name in zip(figure.subplots(rows, columns, squeeze=False).flat, shown, strict=False):
            ax.set(xlabel="A", ylabel="B", title=legend_text(name))
            if name not in names or not len(pairs):
                continue
            a, b = (pairs[f"{name} {x}"].to_numpy(np.float64) for x in "AB")
            good = np.isfinite(a) & np.isfinite(b)
            if (a[good] > 0).all() and (b[good] > 0).all():
                ax.set(xscale="log", yscale="log")
            ax.plot(a[good], b[good], linestyle="", marker="o", color=look(5)["color"], alpha=0.6)
            ends = [np.min([a[good], b[good]]), np.max([a[good], b[good]])] if good.any() else []
            ax.plot(ends, ends, color="0.6", linewidth=0.8)
        figure.suptitle(legend_text(f"A: {first.label}, B: {second.label}"), fontsize=8)
    return figure
