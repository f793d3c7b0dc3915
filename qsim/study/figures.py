"""Drawing: one style for all figures, made for a two-column paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.plotting import STYLE, legend_text, new_figure, styled
from qsim.study.comparisons import Comparison
from qsim.study.statistics import Band

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH, TEXT_WIDTH = 3.5, 7.0
"""The width of a column, and of the page, of a two-column paper, in inches. Figures go in unscaled: 7 and 8 pt text."""

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


@contextmanager
def figure_grid(
    rows: int = 1, columns: int = 1, *, height: float, width: float = TEXT_WIDTH, **grid: Any
) -> Iterator[tuple[Figure, NDArray[Any]]]:
    """Open a figure in the style of all figures: a context manager.

    Parameters
    ----------
    rows : int, default 1
        Rows of axes.
    columns : int, default 1
        Columns of axes.
    height : float
        The height in inches.
    width : float, default 7.0
        The width in inches.
    **grid : keyword arguments
        Passed to matplotlib's `Figure.subplots`.

    Yields
    ------
    figure : matplotlib.figure.Figure
        The figure.
    axes : ndarray of Axes, shape (rows, columns)
        Its axes. When all is drawn, axes say which of their curves coincide (`note_coinciding`).

    Examples
    --------
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


def panel_letters(axes: Any, titles: Sequence[str]) -> None:
    """Set the titles of axes: "(a) first", "(b) second", ...

    Parameters
    ----------
    axes : iterable of Axes
        The axes.
    titles : sequence of str
        The titles.

    Examples
    --------
    >>> with figure_grid(1, 2, height=2.0) as (figure, axes):
    ...     panel_letters(axes.flat, ["loss", "bits"])
    >>> axes[0, 1].get_title(loc="left")
    '(b) bits'
    """
    for letter, ax, title in zip(ascii_lowercase, axes, titles, strict=False):
        ax.set_title(legend_text(f"({letter}) {title}".rstrip()), loc="left")


def legend_below(figure: Figure, axes: Any, labels: Sequence[str] | None = None, title: str | None = None) -> None:
    """Put one legend for all axes below them, in as many columns as the width holds.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    axes : iterable of Axes
        The axes.
    labels : sequence of str, optional
        Which labels, in which order; by default all.
    title : str, optional
        The title of the legend.

    Examples
    --------
    >>> with figure_grid(height=2.0) as (figure, axes):
    ...     line = axes[0, 0].plot([1, 2], label="s = 1")
    ...     legend_below(figure, axes.flat)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['s = 1']
    """
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    labels = list(handles) if labels is None else [text for text in map(legend_text, labels) if text in handles]
    if labels:
        columns = _columns(labels, float(figure.get_size_inches()[0]))
        figure.legend(
            [handles[label] for label in labels], labels, loc="outside lower center", ncols=columns, title=title
        )


def legend_beside(ax: Axes) -> None:
    """Put the legend of axes to their right.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The axes.

    Examples
    --------
    >>> with figure_grid(height=2.0) as (figure, axes):
    ...     line = axes[0, 0].plot([1, 2], label="s = 1")
    ...     legend_beside(axes[0, 0])
    >>> [text.get_text() for text in axes[0, 0].get_legend().get_texts()]
    ['s = 1']
    """
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def look(place: int) -> dict[str, Any]:
    """Return how the curve at a place of the legend is drawn: a colour, a dash and a marker of its own.

    Parameters
    ----------
    place : int
        The place, counted from 0.

    Returns
    -------
    dict
        Keyword arguments of matplotlib's `plot`.

    Examples
    --------
    >>> look(0) == look(1)
    False
    """
    style = {
        "color": _COLOURS[place % len(_COLOURS)],
        "linestyle": _DASHES[place % len(_DASHES)],
        "marker": _MARKERS[place % len(_MARKERS)],
    }
    return style | ({"markerfacecolor": "none", "markersize": 5.5} if place >= len(_COLOURS) else {})


def note_coinciding(ax: Axes) -> None:
    """Say, where axes have room, which of their curves coincide, so that the last one hides the others.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The axes.

    Examples
    --------
    >>> with figure_grid(height=2.0) as (figure, axes):  # calls it in the end
    ...     lines = [axes[0, 0].plot([1, 2], label=name) for name in ("a", "b")]
    >>> len(axes[0, 0].texts)
    1
    """
    from matplotlib.patheffects import withStroke

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
        style: Any = {"fontsize": 6, "color": "0.3", "path_effects": [withStroke(linewidth=2, foreground="white")]}
        note = ax.text(0.0, 0.0, text, transform=ax.transAxes, **style)
        note.set_in_layout(False)
        box = note.get_window_extent()
        size = np.array([box.width / ax.bbox.width, box.height / ax.bbox.height])
        x, y = min(places, key=lambda place: _points_near(ax, lines, np.array(place), size))
        ends = {0.02: ("left", "bottom"), 0.5: ("center", "center"), 0.98: ("right", "top")}
        note.set(position=(x, y), ha=ends[x][0], va=ends[y][1])


def _some(names: Sequence[str]) -> list[str]:
    """Return names, of many the first three and how many more there are."""
    return [*names] if len(names) <= 4 else [*names[:3], f"and {len(names) - 3} more"]


def _points_near(ax: Axes, lines: Sequence[Any], place: NDArray[np.float64], size: NDArray[np.float64]) -> int:
    """Return how much of curves is where a note of some size would be, in shares of the axes' width and height."""
    to_axes = ax.transData + ax.transAxes.inverted()
    low = place - size * np.where(place < 0.5, 0.0, np.where(place > 0.5, 1.0, 0.5)) - 0.02
    high = low + size + 0.04
    crowd = 0
    for line in lines:
        points = to_axes.transform(line.get_xydata())
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            far = np.append(0.0, np.hypot(*np.diff(points, axis=0).T).cumsum())  # along the curve, as it is seen
            inside = np.array([np.interp(np.arange(0.0, far[-1], 0.01), far, side) for side in points.T]).T
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
    """Make axes logarithmic, when all is drawn; one on which nothing is above zero stays linear.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The axes.
    *names : {"x", "y"}
        Which.

    Notes
    -----
    If few powers of ten are in sight, numbers between them are labelled too.

    Examples
    --------
    >>> with figure_grid(height=2.0) as (figure, axes):
    ...     line = axes[0, 0].plot([1, 100], [1, 2])
    ...     log_axes(axes[0, 0], "x")
    >>> axes[0, 0].get_xscale()
    'log'
    """
    for name in names:
        if np.isfinite(getattr(ax.dataLim, f"minpos{name}")):
            ax.set(**{f"{name}scale": "log"})
            axis = getattr(ax, f"{name}axis")
            axis.set_major_formatter(partial(_power, ax, name))
            axis.set_minor_formatter(partial(_between_decades, ax, name))


_FEW = {"x": 1.6, "y": 2.0}
"""On this many powers of ten there is room for labels between them."""


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
    """Draw a mean with its band.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The axes.
    band : Band
        The band.
    place : int
        The place in the legend, which decides the look.
    label : str
        The label.
    log : bool, default False
        Whether x is logarithmic, so that markers are spread evenly over it.
    style : dict, optional
        Keyword arguments of matplotlib's `plot`, instead of the look of the place.

    Examples
    --------
    >>> import numpy as np
    >>> from qsim.study import Band
    >>> at = np.array([1.0, 2.0])
    >>> with figure_grid(height=2.0) as (figure, axes):
    ...     draw_band(axes[0, 0], Band(at, at, at - 0.5, at + 0.5), 0, "s = 1")
    >>> axes[0, 0].lines[0].get_label()
    's = 1'
    """
    style = look(place) if style is None else style
    ax.plot(band.at, band.mean, label=legend_text(label), markevery=_marks(band.at, place, log), **style)
    ax.fill_between(band.at, band.low, band.high, alpha=0.2, linewidth=0, color=style["color"])


def draw_comparisons(ax: Axes, found: Mapping[str, Comparison], places: Mapping[str, int] | None = None) -> None:
    """Draw comparisons as dots with their joint intervals, one below the other, beside the line of no difference.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The axes.
    found : mapping of str to Comparison
        The comparisons, by label.
    places : mapping of str to int, optional
        The place of each in the legend, which decides the look; by default in order.

    Examples
    --------
    >>> from qsim.study import Comparison
    >>> with figure_grid(height=2.0) as (figure, axes):
    ...     draw_comparisons(axes[0, 0], {"s = 1": Comparison(0.1, 0.05, 0.15, 0.001, 5)})
    >>> [text.get_text() for text in axes[0, 0].get_yticklabels()]
    ['s = 1']
    """
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
