"""Traces: what a run did, round by round, with its weights and where the numbers come from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cached_property
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, inner
from qsim.datasets import Dataset
from qsim.drawing import new_figure, styled
from qsim.identity import environment
from qsim.network import PARTS, Clock
from qsim.options import flag

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from qsim.simulation import Run

TIME = ("seconds", *(f"seconds_{part}" for part in PARTS))
TRAFFIC = ("nonzeros", "bits_up", "bits_down")
CUMULATIVE = (*TRAFFIC, "passes")
"""What is counted by round, and adds up from round to round."""
EVALUATION = ("loss", "suboptimality", "gradient_norm", "train_error", "test_error")
LABELS = {
    "round": "iteration",
    "passes": "passes over the data",
    "nonzeros": "non-zeros, cumulative",
    "bits_up": "bits, uplink",
    "bits_down": "bits, downlink",
    "bits": "bits, uplink + downlink",
    "seconds": "virtual seconds",
    "loss": "training loss",
    "suboptimality": "suboptimality",
    "gradient_norm": "gradient norm",
    "train_error": "training error",
    "test_error": "test error",
}
"""What can be an axis, and how it is called on one."""


def unknown(quantity: str) -> str:
    """Say why a quantity is not known at any round."""
    why = {
        "suboptimality": ": it needs the minimum, so leave optimum=True",
        "test_error": ": it needs test data, test=",
    }
    return f"the {LABELS.get(quantity, quantity)} was never evaluated{why.get(quantity, '')}"


class Trace:
    """What a run did.

    frame: one row a round, from round 0 (the start). `nonzeros`, `bits_up`, `bits_down` count this round, exactly;
        `cumulative_...` all rounds so far; so do `passes` over the data: rows that met weights, for a gradient or a
        loss (twice for a product with a Hessian), over all rows. `loss` (the objective with its regulariser),
        `suboptimality`, `gradient_norm` (l2), `train_error` and `test_error` (the share of rows predicted wrongly, a
        tie counted as half; of targets, the mean square) are NaN where the run was not evaluated.
        A run with a network has the virtual `seconds` of this round, `cumulative_seconds`, the parts of the round's
        time (`seconds_compute` and so on, `qsim.network.PARTS`), and how many messages were `dropped`.
    weights: the final weights, float64.
    provenance: the call that made it, versions, the data's digest.
    schedule: who did what when in the rounds that the network's `timelines` names: arrays by column, those of
        `qsim.network.SCHEDULE`, a row for each worker and exchange.
    """

    def __init__(
        self,
        columns: dict[str, NDArray[Any]],
        weights: NDArray[np.float64],
        provenance: dict[str, Any],
        schedule: Arrays | None = None,
    ) -> None:
        """Hold columns of equal length, as `frame` shows them."""
        self.columns, self.weights, self.provenance = columns, weights, provenance
        self.schedule = schedule or {}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rounds as a pandas frame."""
        import pandas as pd

        return pd.DataFrame(self.columns)

    def __repr__(self) -> str:
        """Show how far the run came."""
        loss, bits = self.columns["loss"], self.columns["cumulative_bits_up"]
        return f"Trace({loss.size - 1} rounds, loss {loss[0]:.6g} -> {loss[-1]:.6g}, {bits[-1]:,} bits up)"

    def axis(self, name: str) -> NDArray[Any]:
        """Return a quantity to plot: any key of `qsim.trace.LABELS` or column of the frame.

        Non-zeros, bits, passes and seconds are cumulative.
        """
        if name == "bits":
            both: NDArray[Any] = self.columns["cumulative_bits_up"] + self.columns["cumulative_bits_down"]
            return both
        name = f"cumulative_{name}" if name in (*CUMULATIVE, "seconds") else name
        if name == "cumulative_seconds" and name not in self.columns:
            raise ValueError("this trace has no virtual time: give the run a network, such as network=qsim.Network()")
        if name not in self.columns:
            from qsim.options import nearest

            known = [*LABELS, *self.columns]
            raise ValueError(f"a trace has no {name!r}{nearest(name, known)} (it has {', '.join(sorted(set(known)))})")
        return self.columns[name]

    def plot(self, x: str = "round", y: str = "loss", ax: Axes | None = None, **style: Any) -> Axes:
        """Draw y against x (see `axis`) at the evaluated rounds; style goes to matplotlib's `plot`.

        Without axes it makes a figure in the style of all figures, which pyplot does not keep: the result's `figure` is
        what a notebook shows, and what is saved.

        Raises ValueError for a quantity that no round has, such as the suboptimality with optimum=False.
        """
        if ax is None:
            with styled():
                ax = new_figure(3.5, 2.6).add_subplot()
                return self.plot(x, y, ax, **style)
        across, up = self.axis(x), self.axis(y)
        known = np.isfinite(across.astype(float)) & np.isfinite(up.astype(float))
        if not known.any():
            raise ValueError(f"{unknown(y if np.isnan(up.astype(float)).all() else x)}, so there is nothing to plot")
        ax.plot(across[known], up[known], **style)
        ax.set_xlabel(LABELS.get(x, x))
        ax.set_ylabel(LABELS.get(y, y))
        return ax

    def timeline(self, round: int = 1, ax: Axes | None = None) -> Axes:
        """Draw who did what when in a round (the first is 1) that the network's `timelines` names: a Gantt picture.

        Up to 40 workers are drawn; of more, the 20 whose messages came last, and 20 spread over the others. The way up
        begins when a message is ready: queues at a server, and without a server the wait for the others, are in it.
        Raises ValueError for a round that was not kept.
        """
        from qsim.network.timeline import draw

        return draw(self.schedule, round, ax)

    def save(self, path: str | Path) -> Path:
        """Write the trace as .npz: the columns and weights as arrays, the provenance as JSON text. Returns the path."""
        from qsim.storage import replacing, write_arrays

        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"a trace is saved as .npz, found {path.name!r}; write {path.name + '.npz'!r}")
        arrays: dict[str, Any] = {f"frame/{name}": column for name, column in self.columns.items()}
        arrays |= {f"schedule/{name}": column for name, column in self.schedule.items()}
        arrays |= {"weights": self.weights, "provenance": np.array(json.dumps(self.provenance))}
        whole = BytesIO()  # on a full disk one plain write fails in one plain way, and a zip file does not
        write_arrays(whole, arrays, compressed=True)
        with replacing(path) as temporary:
            temporary.write_bytes(whole.getbuffer())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read what `save` wrote. Raises ValueError for any other file."""
        from qsim.storage import read_arrays

        stored = read_arrays(path)
        if not {"weights", "provenance"} <= set(stored):
            raise ValueError(f"{path} is no trace saved by qsim: it holds {', '.join(stored) or 'nothing'}")
        columns, schedule = (
            {name.removeprefix(part): array for name, array in stored.items() if name.startswith(part)}
            for part in ("frame/", "schedule/")
        )
        return cls(columns, stored["weights"], json.loads(str(stored["provenance"])), schedule)


Solution = Callable[[], NDArray[np.float64]]
"""Gives the weights that are evaluated, when they are needed."""


class Recorder:
    """Writes a trace while a run goes on; evaluates the objective in float64, apart from training."""

    def __init__(self, run: Run, data: Dataset, test: Dataset | None) -> None:
        """Prepare for a run; solves for the optimum if the run wants it."""
        self._run, self._data, self._test = run, data, test
        self._least = run.objective.optimum(data).value if run.optimum else np.nan
        self._counted: list[NDArray[np.int64]] = []
        self._times: list[tuple[float, ...]] = []
        self._evaluations: dict[int, dict[str, float]] = {}

    def start(self, solution: Solution) -> bool:
        """Record round 0; tells whether the run is over already."""
        if self._run.network is not None:
            self._times.append((0.0,) * (len(PARTS) + 1))
        return self._add(0, np.zeros((1, len(CUMULATIVE)), np.int64), solution)

    def record(self, done: int, solution: Solution, counted: NDArray[np.int64], clock: Clock | None = None) -> bool:
        """Record what was counted in the last rounds, `done` of them in all; tells whether the run's rule ends it here.

        counted: a row a round: non-zeros, bits up, bits down, rows. Only the last can be one to evaluate. With a clock
            it is a single round.
        """
        evaluate = done % self._run.evaluate_every == 0 or done == self._run.rounds
        if clock is not None:
            self._times.append((*clock.times.values(), clock.dropped))
        return self._add(done, counted, solution if evaluate else None)

    def trace(self, solution: Solution, clock: Clock | None = None) -> Trace:
        """Return what was recorded."""
        *traffic, rows = np.concatenate(self._counted).T.copy()
        columns: dict[str, NDArray[Any]] = {"round": np.arange(rows.size)}
        columns |= dict(zip(TRAFFIC, traffic, strict=True))
        columns |= {f"cumulative_{name}": np.cumsum(columns[name]) for name in TRAFFIC}
        columns |= {"passes": rows / self._data.rows, "cumulative_passes": np.cumsum(rows) / self._data.rows}
        if clock is not None:
            *parts, dropped = np.array(self._times).T.copy()
            total = np.sum(parts, axis=0)
            columns |= dict(zip(TIME, (total, *parts), strict=True))
            columns |= {"cumulative_seconds": np.cumsum(total), "dropped": dropped.astype(np.int64)}
        for name in EVALUATION:
            columns[name] = np.full(rows.size, np.nan)
            columns[name][list(self._evaluations)] = [seen[name] for seen in self._evaluations.values()]
        schedule = {} if clock is None else clock.timelines()
        return Trace(columns, solution(), self._provenance(), schedule)

    def snapshot(self) -> Arrays:
        """Return what was recorded, as arrays."""
        evaluations = [[seen[name] for name in EVALUATION] for seen in self._evaluations.values()]
        times = {"times": np.array(self._times)} if self._times else {}
        return {
            "counted": np.concatenate(self._counted),
            "evaluated": np.array(list(self._evaluations)),
            "evaluations": np.array(evaluations),
        } | times

    def restore(self, saved: Arrays) -> bool:
        """Go back to what was recorded; tells whether the run's rule had ended it there."""
        self._counted = [saved["counted"]]
        self._times = [tuple(row) for row in saved.get("times", np.empty((0, 0))).tolist()]
        rows = zip(saved["evaluated"].tolist(), saved["evaluations"].tolist(), strict=True)
        self._evaluations = {done: dict(zip(EVALUATION, row, strict=True)) for done, row in rows}
        last = max(self._evaluations)
        here = last == len(saved["counted"]) - 1
        return here and self._reached(self._evaluations[last])

    def _reached(self, seen: dict[str, float]) -> bool:
        """Tell whether the run's rule ends it at an evaluation, which the rule cannot change."""
        until = self._run.until
        if until is None:
            return False
        return flag(f"what reached of {until!r} returns", until.reached(MappingProxyType(seen)))

    def _add(self, done: int, counted: NDArray[np.int64], solution: Solution | None) -> bool:
        self._counted.append(counted)
        if solution is None:
            return False
        self._evaluations[done] = seen = self._evaluate(solution())
        return self._reached(seen)

    def _evaluate(self, w: NDArray[np.float64]) -> dict[str, float]:
        objective = self._run.objective
        loss, gradient = objective.value_and_gradient(w, self._data)
        return {
            "loss": loss,
            "suboptimality": loss - self._least,
            "gradient_norm": math.sqrt(inner(gradient, gradient)),
            "train_error": objective.error(w, self._data),
            "test_error": np.nan if self._test is None else objective.error(w, self._test),
        }

    def _provenance(self) -> dict[str, Any]:
        described = {"data": self._data} if self._test is None else {"data": self._data, "test": self._test}
        return {
            "run": repr(self._run),
            **{
                name: {"name": data.name, "repr": repr(data), "digest": data.digest} for name, data in described.items()
            },
            **environment(),
        }
