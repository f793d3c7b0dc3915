"""Pictures of a round: who did what when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays
from qsim.options import whole
from qsim.plotting import new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 40
_COLOURS = {
    "downlink": "#999999",
    "compute": "#0072b2",
    "encode": "#e69f00",
    "uplink": "#009e73",
    "dropped": "#d55e00",
}


def draw(schedule: Arrays, t: int, ax: Axes | None = None) -> Axes:
    """Draw the timeline of a round (see `qsim.network.SCHEDULE`), a line per worker; a cross ends a dropped message."""
    t = whole("round", t, least=0)
    rounds = sorted(set(schedule["round"].tolist())) if schedule else []
    if t not in rounds:
        kept = f"rounds {', '.join(map(str, rounds))}" if rounds else "none"
        raise ValueError(
            f"the timeline of round {t} was not kept ({kept}); name it before the run, such as"
            f" network=qsim.Network(timelines=({t},))"
        )
    if ax is None:
        with styled():
            return draw(schedule, t, new_figure(5.5, 3.5).add_subplot())
    here = schedule["round"] == t
    found = {name: column[here] for name, column in schedule.items()}
    workers, shown = np.unique(found["worker"]).size, _shown(found)
    _bars(ax, found, shown)
    some = "" if shown.size == workers else f" ({shown.size} of {workers:,})"
    ax.set(xlabel=f"virtual seconds since round {t} began", ylabel=f"worker{some}")
    named = np.arange(shown.size) if shown.size <= 12 else np.linspace(0, shown.size - 1, 9).astype(int)
    ax.set_yticks(named, [str(worker) for worker in shown[named]])
    ax.locator_params(axis="x", nbins=5)
    ax.invert_yaxis()
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda k: labels[k] == "dropped")
    ax.legend(
        [handles[k] for k in order],
        [labels[k] for k in order],
        fontsize="small",
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
    )
    return ax


def _bars(ax: Axes, found: Arrays, shown: NDArray[np.int64]) -> None:
    """Draw what the workers did, in the lines of those that are shown, and a line across where an exchange was over."""
    seen = np.isin(found["worker"], shown)
    line = np.searchsorted(shown, found["worker"][seen])
    began, computed, encoded, came, end = (
        found[name][seen] for name in ("began", "computed", "encoded", "came", "end")
    )
    over = np.minimum(came, end)
    parts = {
        "downlink": (_ends_before(found)[seen], began),
        "compute": (began, np.minimum(computed, over)),
        "encode": (np.minimum(computed, over), np.minimum(encoded, over)),
        "uplink": (np.minimum(encoded, over), over),
    }
    for name, (start, stop) in parts.items():
        if (stop > start).any():
            ax.barh(line, stop - start, left=start, height=0.8, color=_COLOURS[name], label=name)
    late = ~np.isfinite(came)
    if late.any():
        crosses: dict[str, Any] = {"markersize": 4, "markeredgewidth": 1.5, "clip_on": False, "zorder": 4}
        ax.plot(over[late], line[late], "x", color=_COLOURS["dropped"], label="dropped", **crosses)
    for finish in sorted(set(end.tolist())):
        ax.axvline(finish, color="black", linewidth=0.6)


def _shown(found: Arrays) -> NDArray[np.int64]:
    """Return the workers to draw, in order: all, or the last of the first exchange and some of the others."""
    first = found["exchange"] == found["exchange"].min()
    workers = found["worker"][first]
    if workers.size <= _MOST:
        return np.sort(workers)
    by_time = workers[np.argsort(np.where(np.isfinite(found["came"]), found["came"], found["encoded"] + 1e9)[first])]
    slowest, others = by_time[-_MOST // 2 :], np.sort(by_time[: -_MOST // 2])
    spread = others[np.linspace(0, others.size - 1, _MOST // 2).astype(int)]
    return np.sort(np.concatenate([slowest, spread]))


def _ends_before(found: Arrays) -> NDArray[np.float64]:
    """Return for each row when the exchange before it was over."""
    ends = {int(exchange): end for exchange, end in zip(found["exchange"], found["end"], strict=True)}
    return np.array([ends.get(int(exchange) - 1, 0.0) for exchange in found["exchange"]])
