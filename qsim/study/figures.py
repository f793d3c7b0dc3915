"""Drawing: one style for all figures, made for a two-column paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from qsim.study.results import Results
from qsim.trace import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.linewidth": 0.3,
    "grid.alpha": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # text stays text, in an embedded TrueType font
    "svg.fonttype": "none",
    "svg.hashsalt": "qsim",
}

TEXT_WIDTH = 7.0
"""The width of a page of a two-column paper, in inches."""

_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#8C8C8C")
"""Okabe and Ito's palette, which colour-blind readers can tell apart (2008), without its yellow."""
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Panel:
    """One pair of axes: y against x for each curve (or those that `curves` names), with 95% bands of y over seeds.

    x and y are axes of `Trace`. Where x differs between seeds (bits, non-zeros), its mean over seeds is drawn.
    """

    x: str
    y: str
    title: str = ""
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log", "symlog"] = "linear"
    """On a log scale a band is cut at a tenth of the mean; "symlog" is linear within +- `linear_below`."""
    linear_below: float = 1e-4
    curves: Sequence[str] | None = None
    minus: str | None = None
    """Draw the paired difference to this curve instead, seed by seed."""
    label: Callable[[str], str] = str
    """What the legend calls a curve; curves of the same label are drawn alike."""


def panels(results: Results, *shown: Panel, share_y: bool = False) -> Figure:
    """Draw panels side by side over the width of a page, with one legend below that covers nothing."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 2.5), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(shown), sharey=share_y))
        labels = list(dict.fromkeys(panel.label(c) for panel in shown for c in panel.curves or results.curves))
        for letter, panel, ax in zip(ascii_lowercase, shown, axes, strict=False):
            _draw(results, panel, ax, labels)
            ax.set_title(f"({letter}) {panel.title}".rstrip(), loc="left")
            if share_y:
                ax.label_outer()
        handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(
            [handles[label] for label in labels], labels, loc="outside lower center", ncols=min(len(labels), 8)
        )
    return figure


def look(place: int) -> dict[str, Any]:
    """Return how the curve at a place of the legend is drawn: a colour, a dash and a marker of its own."""
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "linestyle": _DASHES[place % len(_DASHES)],
        "marker": _MARKERS[place % len(_MARKERS)],
    }


def _marks(across: NDArray[np.float64], place: int, scale: str) -> list[int]:
    """Return which points carry a marker: four, evenly over the axis, at other places for other curves."""
    if across.size < 2:
        return list(range(across.size))
    along = np.log(across) if scale == "log" else across
    at = along[0] + (along[-1] - along[0]) * (np.arange(4) + 0.1 + 0.1 * (place % 8)) / 4
    return sorted(set(np.searchsorted(along, at).clip(0, across.size - 1).tolist()))


def _draw(results: Results, panel: Panel, ax: Axes, labels: list[str]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    for curve in panel.curves or results.curves:
        place = labels.index(panel.label(curve))
        across, up = results.band(curve, panel.x).mean, results.band(curve, panel.y, panel.minus)
        shown = across > 0 if panel.x_scale == "log" else np.ones(across.size, bool)
        if panel.y_scale == "log":
            shown &= up.mean > 0
        ax.plot(
            across[shown],
            up.mean[shown],
            label=panel.label(curve),
            markevery=_marks(across[shown], place, panel.x_scale),
            **look(place),
        )
        low = np.maximum(up.low[shown], up.mean[shown] / 10) if panel.y_scale == "log" else up.low[shown]
        ax.fill_between(across[shown], low, up.high[shown], alpha=0.2, linewidth=0, color=look(place)["color"])
    ax.set_xscale(panel.x_scale)
    if panel.y_scale == "symlog":
        ax.set_yscale("symlog", linthresh=panel.linear_below)
    else:
        ax.set_yscale(panel.y_scale)
    ax.xaxis.set_major_locator(MaxNLocator(4) if panel.x_scale == "linear" else LogLocator(numticks=12))
    ax.set_xlabel(LABELS.get(panel.x, panel.x))
    y = LABELS.get(panel.y, panel.y)
    ax.set_ylabel(y if panel.minus is None else f"{y}, difference")
