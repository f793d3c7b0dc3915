"""Pictures of a round: who did what when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 40
_COLOURS = {
    "way down": "#999999",
    "compute": "#0072b2",
    "encode": "#e69f00",
    "way up": "#009e73",
    "late": "#d55e00",
    "decode": "#cc79a7",
}


def draw(schedule: dict[str, NDArray[Any]], t: int, ax: Axes | None = None) -> Axes:
    """Draw the timeline of round t (see `qsim.network.SCHEDULE`), a line a worker; dropped messages end in a cross."""
    rounds = sorted(set(schedule["round"].tolist())) if schedule else []
    if t not in rounds:
        kept = f"rounds {', '.join(map(str, rounds))}" if rounds else "none"
        raise ValueError(
            f"the timeline of round {t} was not kept ({kept}); name it before the run, such as"
            f" network=qsim.Network(timelines=({t},))"
        )
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.figure(figsize=(5.5, 3.5), layout="constrained").add_subplot()
    here = schedule["round"] == t
    found = {name: column[here] for name, column in schedule.items()}
    shown = _shown(found)
    place = {int(worker): line for line, worker in enumerate(shown)}
    seen = np.isin(found["worker"], shown)
    line = np.array([place[int(worker)] for worker in found["worker"][seen]])
    began, computed, encoded, came, end = (
        found[name][seen] for name in ("began", "computed", "encoded", "came", "end")
    )
    late = ~np.isfinite(came)
    over = np.minimum(np.where(late, end, came), end)
    before = _ends_before(found)[seen]
    parts = {
        "way down": (before, began),
        "compute": (began, np.minimum(computed, over)),
        "encode": (np.minimum(computed, over), np.minimum(encoded, over)),
        "way up": (np.minimum(encoded, over), over),
    }
    for name, (start, stop) in parts.items():
        if (stop > start).any():
            ax.barh(line, stop - start, left=start, height=0.8, color=_COLOURS[name], label=name)
    if late.any():
        ax.plot(over[late], line[late], "x", color=_COLOURS["late"], markersize=4, label="dropped")
    for finish in sorted(set(end.tolist())):
        ax.axvline(finish, color="black", linewidth=0.6)
    workers = np.unique(found["worker"]).size
    some = "" if shown.size == workers else f" ({shown.size} of {workers:,})"
    ax.set(xlabel=f"virtual seconds since round {t} began", ylabel=f"worker{some}")
    few = np.arange(shown.size) if shown.size <= 12 else np.linspace(0, shown.size - 1, 9).astype(int)
    ax.set_yticks(few, [str(worker) for worker in shown[few]])
    ax.invert_yaxis()
    ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return ax


def _shown(found: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the workers to draw, in order: all, or the slowest of the first exchange and some of the others."""
    first = found["exchange"] == found["exchange"].min()
    workers = found["worker"][first]
    if workers.size <= _MOST:
        return np.sort(workers)
    by_time = workers[np.argsort(np.where(np.isfinite(found["came"]), found["came"], found["encoded"] + 1e9)[first])]
    slowest, others = by_time[-_MOST // 2 :], np.sort(by_time[: -_MOST // 2])
    spread = others[np.linspace(0, others.size - 1, _MOST // 2).astype(int)]
    return np.sort(np.concatenate([slowest, spread]))


def _ends_before(found: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return for each row when the exchange before it was over."""
    ends = {int(exchange): end for exchange, end in zip(found["exchange"], found["end"], strict=True)}
    return np.array([ends.get(int(exchange) - 1, 0.0) for exchange in found["exchange"]])
