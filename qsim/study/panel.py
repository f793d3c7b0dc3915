"""Panels: quantities of a study's results against an axis, with bands over seeds and theory's bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qsim.plotting import legend_text
from qsim.study.figures import TEXT_WIDTH, draw_band, figure_grid, legend_below, log_axes, look, panel_letters
from qsim.study.results import Results
from qsim.study.statistics import Band
from qsim.trace import LABELS, LOGARITHMIC, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BITS = ("bits", "bits_up", "bits_down")

BOUND_LABEL = "theory's bound on the mean"
"""The label of the curve that `draw_bound` draws."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes of a figure: y against x for each curve, with 95% bands of y over seeds.

    Parameters
    ----------
    x : str
        An axis of `Trace`. Each seed's curve is put on common points of x (see `qsim.study.resample`); beyond the end
        of the shortest seed nothing is drawn.
    y : str
        An axis of `Trace`.
    title : str, default ""
        The title.
    x_scale : {"linear", "log"}, default "linear"
        The scale of x.
    y_scale : {"linear", "log", "symlog"}, default "linear"
        The scale of y. "symlog" is linear within +- `linear_below`. On a log scale a band that reaches zero goes to the
        lower edge.
    linear_below : float, default 0.0001
        Where "symlog" becomes linear.
    curves : sequence of str, optional
        The curves that are drawn; by default all.
    minus : str, optional
        Draw the paired difference (of suboptimality and gradient norms: the ratio) to this curve, seed by seed.
    label : callable, default `str`
        Returns what the legend calls a curve; curves of the same label are drawn alike.
    style : callable, optional
        Returns how a curve is drawn, as keyword arguments of matplotlib's `plot`; by default each label in the look of
        its place in the legend.
    per : float, default 1.0
        Divide x by this, such as the number of workers.
    x_label : str, optional
        The label of x; by default that of the quantity.

    Examples
    --------
    >>> Panel("bits", "suboptimality", x_scale="log", y_scale="log").per
    1.0
    """

    x: str
    y: str
    title: str = ""
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log", "symlog"] = "linear"
    linear_below: float = 1e-4
    curves: Sequence[str] | None = None
    minus: str | None = None
    label: Callable[[str], str] = str
    style: Callable[[str], dict[str, Any]] | None = None
    per: float = 1.0
    x_label: str | None = None


def panels(
    results: Results,
    *shown: Panel,
    columns: int | None = None,
    height: float = 2.5,
    width: float = TEXT_WIDTH,
    share_y: bool = False,
) -> Figure:
    """Draw panels, with one legend below that covers nothing.

    Parameters
    ----------
    results : Results
        What is drawn.
    *shown : Panel
        The panels.
    columns : int, optional
        Panels in a row; by default all.
    height : float, default 2.5
        The height of a row with its share of the legend, in inches.
    width : float, default 7.0
        The width in inches.
    share_y : bool, default False
        Whether all panels have the same limits of y.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Examples
    --------
    >>> from qsim.study import Settings, catalog, run_study
    >>> _, study = catalog.find("seminar")
    >>> results = run_study(study, Settings("spark_sample", workers=4, rounds=5, seeds=2), cache=False)
    >>> len(panels(results, Panel("round", "loss"), Panel("bits", "loss", x_scale="log")).axes)
    2
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


def draw(results: Results, panel: Panel, ax: Axes, labels: Sequence[str]) -> None:
    """Draw a panel on axes.

    Parameters
    ----------
    results : Results
        What is drawn.
    panel : Panel
        The panel.
    ax : matplotlib.axes.Axes
        The axes.
    labels : sequence of str
        All that the legend has, so that a label looks the same in every panel.

    Raises
    ------
    ValueError
        If no curve has the quantity, such as the suboptimality of runs with optimum=False.

    Examples
    --------
    >>> from qsim.study import Settings, catalog, run_study
    >>> _, study = catalog.find("seminar")
    >>> results = run_study(study, Settings("spark_sample", workers=4, rounds=5, seeds=2), cache=False)
    >>> with figure_grid(height=2.0) as (figure, axes):
    ...     draw(results, Panel("round", "loss"), axes[0, 0], results.curves)
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


def draw_bound(results: Results, curve: str, ax: Axes, place: int, *, x: str = "round", per: float = 1.0) -> None:
    """Draw the bound of theory on the suboptimality of a curve, if there is one: thin and dashed.

    Parameters
    ----------
    results : Results
        What is drawn.
    curve : str
        The curve.
    ax : matplotlib.axes.Axes
        The axes. Call this when the curves are drawn: the limits of the axes stay theirs.
    place : int
        The place in the legend, which decides the colour.
    x : str, default "round"
        The axis.
    per : float, default 1.0
        Divide x by this, such as the number of workers.

    Notes
    -----
    This is the bound on the expected suboptimality (`Results.bound`): it starts where the quantity of the theorem does,
    at the start of the run or above. On another axis than the rounds it is drawn over what the runs have spent by then,
    in the mean.

    Examples
    --------
    >>> from qsim.study import Settings, catalog, run_study
    >>> _, study = catalog.find("seminar")
    >>> results = run_study(study, Settings("spark_sample", workers=4, rounds=5, seeds=2), cache=False)
    >>> with figure_grid(height=2.0) as (figure, axes):
    ...     draw_bound(results, "s = 1", axes[0, 0], 0)
    """
    found = results.bound(curve, x)
    if found is None:
        return
    limits = ax.get_xlim(), ax.get_ylim()
    across, bound = found[0] / per, found[1]
    shown = across > 0 if ax.get_xscale() == "log" else np.full(across.size, True)
    style: dict[str, Any] = {"linewidth": 0.7, "linestyle": (0, (4, 2))}
    if BOUND_LABEL not in ax.get_legend_handles_labels()[1]:
        ax.plot([], [], color="0.4", label=BOUND_LABEL, **style)
    ax.plot(across[shown], bound[shown], color=look(place)["color"], **style)
    ax.set(xlim=limits[0], ylim=limits[1])


def _curves(results: Results, panel: Panel) -> Sequence[str]:
    return results.curves if panel.curves is None else panel.curves
