"""Drawing: one style for all figures, made for a two-column paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from qsim.plotting import STYLE, legend_text, new_figure, styled
from qsim.study.comparisons import Comparison
from qsim.study.results import Results
from qsim.study.statistics import Band
from qsim.trace import LABELS, LOGARITHMIC, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH, TEXT_WIDTH = 3.5, 7.0
"""The width of a column, and of the page, of a two-column paper, in inches. Figures go in unscaled: 7 and 8 pt text."""

_BITS = ("bits", "bits_up", "bits_down")
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#8C8C8C")
"""Okabe and Ito's palette, which colour-blind readers can tell apart (2008), without its yellow. In print without
colour the dash and the marker tell curves apart."""
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


PROMISED = "theory's bound on the mean"
"""What the legend calls what `draw_bound` draws."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes: y against x for each curve (or those that `curves` names), with 95% bands of y over seeds.

    x and y are axes of `Trace`. Each seed's curve is put on common points of x (see `qsim.study.resample`); beyond the
    end of the shortest seed nothing is drawn.
    """

    x: str
    y: str
    title: str = ""
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log", "symlog"] = "linear"
    """"symlog" is linear within +- `linear_below`. On a log scale a band that comes to zero goes to the lower edge."""
    linear_below: float = 1e-4
    curves: Sequence[str] | None = None
    minus: str | None = None
    """Draw the paired difference (of suboptimality and gradient norms: the ratio) to this curve, seed by seed."""
    label: Callable[[str], str] = str
    """What the legend calls a curve; curves of the same label are drawn alike."""
    style: Callable[[str], dict[str, Any]] | None = None
    """How curves are drawn; None: each label in the look of its place in the legend."""
    per: float = 1.0
    """Divide x by this, the number of workers say."""
    x_label: str | None = None


@contextmanager
def figure_grid(
    rows: int = 1, columns: int = 1, *, height: float, width: float = TEXT_WIDTH, **grid: Any
) -> Iterator[tuple[Figure, NDArray[Any]]]:
    """Open a figure in the style of all figures: yields it and its axes, an array of shape (rows, columns).

    When all is drawn, axes say which of their curves coincide (`note_coinciding`). height, width: in inches. grid: goes
    to matplotlib's `Figure.subplots`.

    >>> with figure_grid(1, 2, height=2.0, width=COLUMN_WIDTH) as (figure, axes):
    ...     line = axes[0, 1].plot([1, 2], [3, 4], **look(0))
    >>> figure.get_size_inches().tolist(), axes.shape
    ([3.5, 2.0], (1, 2))
    """
    with styled():
        figure = new_figure(width, height)
        axes = figure.subplots(rows, columns, squeeze=False, **grid)
        yield figure, axes
        for ax in axes.flat:
            note_coinciding(ax)


def panels(
    results: Results,
    *shown: Panel,
    columns: int | None = None,
    height: float = 2.5,
    width: float = TEXT_WIDTH,
    share_y: bool = False,
) -> Figure:
    """Draw panels in rows of `columns` (all in one, by default), with one legend below that covers nothing.

    height: of a row with its share of the legend, in inches.
    """
    columns = columns or len(shown)
    rows = -(-len(shown) // columns)
    with figure_grid(rows, columns, height=height * rows, width=width, sharey=share_y) as (figure, axes):
        labels = list(dict.fromkeys(panel.label(c) for panel in shown for c in _curves(results, panel)))
        for panel, ax in zip(shown, axes.flat, strict=False):
            draw(results, panel, ax, labels)
            if share_y:
                ax.label_outer()
        for ax in axes.flat[len(shown) :]:
            ax.set_axis_off()
        panel_letters(axes.flat, [panel.title for panel in shown])
        legend_below(figure, axes.flat, labels)
    return figure


def panel_letters(axes: Any, titles: Sequence[str]) -> None:
    """Set the titles of axes: "(a) first", "(b) second", ..."""
    for letter, ax, title in zip(ascii_lowercase, axes, titles, strict=False):
        ax.set_title(legend_text(f"({letter}) {title}".rstrip()), loc="left")


def legend_below(figure: Figure, axes: Any, labels: Sequence[str] | None = None, title: str | None = None) -> None:
    """Put one legend for all axes below them, in as many columns as the width holds; labels: which, in which order."""
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    labels = list(handles) if labels is None else [text for text in map(legend_text, labels) if text in handles]
    if labels:
        columns = _columns(labels, float(figure.get_size_inches()[0]))
        figure.legend(
            [handles[label] for label in labels], labels, loc="outside lower center", ncols=columns, title=title
        )


def legend_beside(ax: Axes) -> None:
    """Put the legend of axes to their right."""
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def look(place: int) -> dict[str, Any]:
    """Return how the curve at a place of the legend is drawn: a colour, a dash and a marker of its own."""
    style = {
        "color": _COLOURS[place % len(_COLOURS)],
        "linestyle": _DASHES[place % len(_DASHES)],
        "marker": _MARKERS[place % len(_MARKERS)],
    }
    return style | ({"markerfacecolor": "none", "markersize": 5.5} if place >= len(_COLOURS) else {})


def draw(results: Results, panel: Panel, ax: Axes, labels: Sequence[str]) -> None:
    """Draw a panel on axes; labels: all that the legend has, so that a label looks the same in every panel.

    Raises ValueError if no curve has the quantity, such as the suboptimality of runs with optimum=False.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator

    if results.settings.network is not None and panel.x in _BITS:
        panel = replace(panel, x="seconds", x_label=None, per=1.0)
    ratio = panel.y in LOGARITHMIC
    if panel.minus is not None:
        ax.axhline(1 if ratio else 0, color="black", linewidth=0.8)
    known = []
    for curve in _curves(results, panel):
        place = labels.index(panel.label(curve))
        style = look(place) if panel.style is None else panel.style(curve)
        if curve == panel.minus:
            ax.plot([], [], label=legend_text(panel.label(curve)), **style)  # for the legend
            continue
        found = results.band(curve, panel.y, panel.minus, axis=panel.x, log=panel.x_scale == "log")
        known.append(not np.isnan(found.mean).all())
        shown = found.mean > (0 if panel.y_scale == "log" else -np.inf)  # NaN is not shown either
        across = Band(found.at[shown] / panel.per, found.mean[shown], found.low[shown], found.high[shown])
        draw_band(ax, across, place, panel.label(curve), log=panel.x_scale == "log", style=style)
    if known and not any(known):
        raise ValueError(f"{unknown(panel.y)}, so there is nothing to draw")
    log_axes(ax, *(name for name in "xy" if getattr(panel, f"{name}_scale") == "log"))
    if panel.y_scale == "symlog":
        ax.set_yscale("symlog", linthresh=panel.linear_below)
    linear = MaxNLocator(4, integer=panel.x == "round" and panel.per == 1)
    ax.xaxis.set_major_locator(linear if ax.get_xscale() == "linear" else LogLocator(numticks=12))
    ax.set_xlabel(panel.x_label or LABELS.get(panel.x, panel.x))
    y = LABELS.get(panel.y, panel.y)
    ax.set_ylabel(y if panel.minus is None else f"{y}, {'ratio' if ratio else 'difference'}")


def note_coinciding(ax: Axes) -> None:
    """Say where axes have room which of their curves lie on each other, so that the last one hides the others."""
    lines = [line for line in ax.lines if not str(line.get_label()).startswith("_") and np.size(line.get_xdata()) > 1]
    lines = [line for line in lines if line.get_linestyle() != "None"]
    groups: list[list[Any]] = []
    for line in lines:
        found = next((group for group in groups if _coincide(ax, group[0], line)), None)
        groups.append([line]) if found is None else found.append(line)
    hidden = [list(dict.fromkeys(str(line.get_label()) for line in group)) for group in groups if len(group) > 1]
    if len(hidden) == 1 and len(hidden[0]) == len(lines) > 2:
        text = f"all {len(lines)} curves coincide"
    else:
        text = "\n".join("coincide:\n" + "\n".join(_some(names)) for names in hidden)
    if text:
        places = [(x, y) for y in (0.98, 0.02, 0.5) for x in (0.98, 0.02, 0.5)]
        x, y = min(places, key=lambda place: _points_near(ax, lines, *place))
        ends = {0.02: ("left", "bottom"), 0.5: ("center", "center"), 0.98: ("right", "top")}
        style: Any = {"ha": ends[x][0], "va": ends[y][1], "fontsize": 6, "color": "0.3"}
        ax.text(x, y, text, transform=ax.transAxes, **style).set_in_layout(False)


def _some(names: Sequence[str]) -> list[str]:
    """Return names, of many the first three and how many more there are."""
    return [*names] if len(names) <= 4 else [*names[:3], f"and {len(names) - 3} more"]


def _points_near(ax: Axes, lines: Sequence[Any], x: float, y: float) -> int:
    """Return how much of curves is near a place of axes, in shares of their width and height."""
    to_axes = ax.transData + ax.transAxes.inverted()
    low = np.array([0.0 if x < 0.5 else 0.5 if x > 0.5 else 0.25, 0.0 if y < 0.5 else 0.7 if y > 0.5 else 0.35])
    high = low + np.array([0.5, 0.3])
    crowd = 0
    for line in lines:
        points = to_axes.transform(line.get_xydata())
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            along = np.linspace(0, len(points) - 1, 200)
            between = [np.interp(along, np.arange(len(points)), points[:, side]) for side in (0, 1)]
            inside = np.array(between).T
            crowd += int(((inside >= low) & (inside <= high)).all(axis=1).sum())
    return crowd


def _coincide(ax: Axes, first: Any, second: Any) -> bool:
    """Tell whether two curves are less than a line's width (1.5% of the axes' height) apart wherever both are."""
    curves = [ax.transData.transform(line.get_xydata()) for line in (first, second)]
    curves = [points[np.isfinite(points).all(axis=1)] for points in curves]
    if not all(len(points) for points in curves):
        return False
    (x, y), (other_x, other_y) = (points.T for points in curves)
    low, high = max(x[0], other_x[0]), min(x[-1], other_x[-1])
    if not 2 * (high - low) > max(x[-1] - x[0], other_x[-1] - other_x[0]):
        return False
    at = np.linspace(low, high, 50)
    apart = np.abs(np.interp(at, x, y) - np.interp(at, other_x, other_y)).max()
    return bool(apart < 0.015 * ax.bbox.height)


def log_axes(ax: Axes, *names: str) -> None:
    """Make axes ("x", "y") logarithmic, when all is drawn; one on which nothing is above zero stays as it is.

    Where few powers of ten are in sight, numbers between them are labelled too.
    """
    for name in names:
        if np.isfinite(getattr(ax.dataLim, f"minpos{name}")):
            ax.set(**{f"{name}scale": "log"})
            axis = getattr(ax, f"{name}axis")
            axis.set_major_formatter(partial(_power, ax, name))
            axis.set_minor_formatter(partial(_between_decades, ax, name))


_FEW = {"x": 1.6, "y": 2.0}
"""On so many powers of ten there is room for labels between them."""


def _decades(ax: Axes, name: str) -> float:
    low, high = getattr(ax, f"get_{name}lim")()
    return float(np.log10(high / low))


def _power(ax: Axes, name: str, value: float, _: object) -> str:
    """Label a power of ten: as a number where the axis has few, and it is short."""
    exponent = round(np.log10(value))
    return f"{value:g}" if _decades(ax, name) <= _FEW[name] and -2 <= exponent <= 3 else f"$10^{{{exponent}}}$"


def _between_decades(ax: Axes, name: str, value: float, _: object) -> str:
    """Label 2 and 5 times a power of ten where the axis has few powers, 3 and 7 times too where it has none, or one."""
    exponent = int(np.floor(np.log10(value) + 1e-9))
    leading, decades = round(value / 10.0**exponent), _decades(ax, name)
    if decades > _FEW[name] or leading not in (
        (2, 5) if decades > 0.6 else (2, 3, 5, 7) if decades > 0.35 else range(2, 10)
    ):
        return ""
    return f"{value:g}" if -2 <= exponent <= 3 else rf"${leading} \times 10^{{{exponent}}}$"


def draw_band(
    ax: Axes, band: Band, place: int, label: str, *, log: bool = False, style: dict[str, Any] | None = None
) -> None:
    """Draw a mean with its band in the look of a place, or in a style.

    log: markers are spread evenly over a logarithmic axis.
    """
    style = look(place) if style is None else style
    ax.plot(band.at, band.mean, label=legend_text(label), markevery=_marks(band.at, place, log), **style)
    ax.fill_between(band.at, band.low, band.high, alpha=0.2, linewidth=0, color=style["color"])


def draw_bound(results: Results, curve: str, ax: Axes, place: int, *, x: str = "round", per: float = 1.0) -> None:
    """Draw what theory promises for the suboptimality of a curve, thin and dashed in the colour of a place, if it does.

    It is the bound on the expected suboptimality (`Results.bound`): it starts where the theorem's quantity does, at
    the start of the run or above. On another axis than the rounds it is drawn over what the runs have spent by then, in
    the mean. Call it when the curves are drawn: the limits of the axes stay theirs.
    """
    promised = results.bound(curve, x)
    if promised is None:
        return
    limits = ax.get_xlim(), ax.get_ylim()
    across, bound = promised[0] / per, promised[1]
    shown = across > 0 if ax.get_xscale() == "log" else np.full(across.size, True)
    style: dict[str, Any] = {"linewidth": 0.7, "linestyle": (0, (4, 2))}
    if PROMISED not in ax.get_legend_handles_labels()[1]:
        ax.plot([], [], color="0.4", label=PROMISED, **style)
    ax.plot(across[shown], bound[shown], color=look(place)["color"], **style)
    ax.set(xlim=limits[0], ylim=limits[1])


def draw_comparisons(ax: Axes, found: Mapping[str, Comparison], places: Mapping[str, int] | None = None) -> None:
    """Draw comparisons as dots with their joint intervals, one below the other, beside the line of no difference."""
    from matplotlib.ticker import MaxNLocator

    ratio = any(comparison.ratio for comparison in found.values())
    ax.axvline(1 if ratio else 0, color="black", linewidth=0.8)
    for row, (name, comparison) in enumerate(found.items()):
        style = look(row if places is None else places[name])
        ax.plot([comparison.low, comparison.high], [row, row], color=style["color"], linewidth=1.2)
        ax.plot([comparison.mean], [row], color=style["color"], marker=style["marker"], markersize=4)
    ax.set_yticks(range(len(found)), labels=[legend_text(name) for name in found])
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.xaxis.set_major_formatter("{x:g}")


def _curves(results: Results, panel: Panel) -> Sequence[str]:
    return results.curves if panel.curves is None else panel.curves


def _columns(labels: Sequence[str], width: float) -> int:
    """Return how many columns of a legend fit into a width in inches."""
    from matplotlib.textpath import TextPath

    size = STYLE["legend.fontsize"]
    points = [TextPath((0, 0), label, size=size).get_extents().width for label in labels]
    for columns in range(min(len(labels), 8), 1, -1):
        widest = sum(part.max() + 5 * size for part in np.array_split(points, columns))  # 5 for the line and the gaps
        if widest <= 72 * width:
            return columns
    return 1


def _marks(across: NDArray[np.float64], place: int, log: bool) -> list[int]:
    """Return which points carry a marker: all of a few, or four, evenly over the axis, each curve at other places."""
    if across.size <= 8:
        return list(range(across.size))
    along = np.log(across) if log else across
    at = along[0] + (along[-1] - along[0]) * (np.arange(4) + 0.1 + 0.1 * (place % 8)) / 4
    return sorted(set(np.searchsorted(along, at).clip(0, across.size - 1).tolist()))
