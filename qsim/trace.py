"""Traces: what a run did, round by round, with its weights and where the numbers come from; and pictures of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays
from qsim.network import PARTS
from qsim.notebooks import html_table
from qsim.options import nearest, shown
from qsim.plotting import new_figure, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TIME = ("seconds", *(f"seconds_{part}" for part in PARTS))
TRAFFIC = ("nonzeros", "bits_up", "bits_down")
CUMULATIVE = (*TRAFFIC, "passes")
"""Quantities that are counted by round, and add up from round to round."""
FORMULA = "formula_bits_up"
"""Bits on the uplink by the formulas of papers."""
EVALUATION = ("loss", "suboptimality", "gradient_norm", "train_error", "test_loss", "test_error")
ACCURACY = {"train_accuracy": "train_error", "test_accuracy": "test_error"}
"""One minus an error, for data whose labels are predicted."""
PROGRESSIVE = ("progressive_loss", "progressive_error", "mean_progressive_loss", "mean_progressive_error")
"""Quantities of batches that were scored before they were learnt: of a round's, and of all so far."""
LOGARITHMIC = ("suboptimality", "gradient_norm")
"""Quantities that spread over orders of magnitude: drawn on logarithmic scales, their means over seeds are geometric,
their bands those of the logarithms, their comparisons ratios. So a band never reaches below zero, and a factor counts
the same at any height."""
LABELS = {
    "round": "iteration",
    "passes": "passes over the data",
    "nonzeros": "non-zeros, cumulative",
    "bits_up": "bits, uplink",
    "bits_down": "bits, downlink",
    "bits": "bits, uplink + downlink",
    FORMULA: "bits, uplink, by the papers' formulas",
    "seconds": "virtual seconds",
    "loss": "training loss",
    "suboptimality": "suboptimality",
    "gradient_norm": "gradient norm",
    "train_error": "training error",
    "test_loss": "test loss",
    "test_error": "test error",
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
    "progressive_loss": "progressive loss of the batch",
    "progressive_error": "progressive error of the batch",
    "mean_progressive_loss": "progressive loss, mean so far",
    "mean_progressive_error": "progressive error, mean so far",
}
"""Quantities that can be plotted, with their labels."""


def unknown(quantity: str) -> str:
    """Say why a quantity is not known at any round."""
    why = {
        "suboptimality": ": it needs the minimum, so leave optimum=True",
        "test_loss": ": it needs test data, test=",
        "test_error": ": it needs test data, test=",
    }
    return f"the {LABELS.get(quantity, quantity)} was never evaluated{why.get(ACCURACY.get(quantity, quantity), '')}"


class Trace:
    """The result of a run, round by round.

    Parameters
    ----------
    columns : dict of ndarray, each of shape (rounds + 1,)
        The columns of `frame`, by name.
    weights : ndarray of float64, shape (n,)
        The final weights.
    provenance : dict
        The call that made it, versions, and the digest of the data.
    schedule : dict of ndarray, optional
        Who did what when, in the rounds that the network's `timelines` names: the columns of `qsim.network.SCHEDULE`, a
        row for each worker and exchange.

    Notes
    -----
    `frame` has one row per round, from round 0 (the start):

    - `nonzeros`, `bits_up`, `bits_down`: of this round, exactly; `cumulative_...`: of all rounds so far.
    - `formula_bits_up`, of this round, and cumulative: what all workers sent by the formula that papers count with for
      the compressor (`qsim.formulas`), exact gradients as 32 or 64 bits per number. Missing without a formula.
    - `passes`: passes over the data so far: rows that met weights, for a gradient or a loss (twice for a product with a
      Hessian), over all rows.
    - `loss` (the objective with its regulariser), `suboptimality`, `gradient_norm` (l2), `test_loss` (the mean loss of
      the test rows, without the regulariser: the log-loss, in nats, of logistic regression), `train_error` and
      `test_error` (the share of rows predicted wrongly, a tie counted as half; of targets, the mean square): NaN if the
      round was not evaluated. `qsim.evaluate` has the AUC and the calibration of the final weights.
    - `progressive_loss` and `progressive_error`: the mean loss, without the regulariser, and the error of the rows that
      the workers learnt from in this round, at the weights that they had before; `mean_progressive_loss` and
      `mean_progressive_error`: over the rows of all rounds so far. For runs with progressive=True.
    - `seconds` of this round, `cumulative_seconds`, the parts of the round's time (`seconds_compute` and so on,
      `qsim.network.PARTS`), in virtual time, and how many messages were `dropped`: for runs with a network.

    Examples
    --------
    >>> import qsim
    >>> trace = qsim.simulate(
    ...     "spark_sample", objective=qsim.LogisticRegression(l2=0.1), method=qsim.GradientDescent(step=0.1), rounds=2
    ... )
    >>> trace.frame["round"].tolist(), trace.weights.shape
    ([0, 1, 2], (16,))
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

    def to_frame(self) -> pd.DataFrame:
        """Return a new pandas frame: the columns of `frame`, and accuracies where labels are predicted."""
        accuracies = {name: self.axis(name) for name in ACCURACY} if self._predicts else {}
        return self.frame.assign(**accuracies)

    @property
    def _predicts(self) -> bool:
        """Whether errors are shares of labels that were predicted wrongly, not mean squares."""
        return bool(self.provenance.get("data", {}).get("kind") != "targets")

    def _repr_html_(self) -> str:
        """Show how far the run came, and its last round, in a notebook."""
        last = {name: f"{self.axis(name)[-1]:.6g}" for name in ("round", "bits", "loss", *LOGARITHMIC)}
        return html_table(repr(self), last | {"run": self.provenance.get("run", "")})

    def __repr__(self) -> str:
        """Show how far the run came."""
        loss, bits = self.columns["loss"], self.columns["cumulative_bits_up"]
        return f"Trace({loss.size - 1} rounds, loss {loss[0]:.6g} -> {loss[-1]:.6g}, {bits[-1]:,} bits up)"

    def axis(self, name: str) -> NDArray[Any]:
        """Return a quantity to plot, round by round.

        Parameters
        ----------
        name : str
            A key of `qsim.trace.LABELS`, or a column of the frame. Non-zeros, bits, passes and seconds are cumulative;
            "bits" are uplink and downlink together.

        Returns
        -------
        ndarray, shape (rounds + 1,)
            The quantity; NaN where it was not evaluated.

        Raises
        ------
        ValueError
            For a quantity that the trace does not have.
        """
        if name == "bits":
            both: NDArray[Any] = self.columns["cumulative_bits_up"] + self.columns["cumulative_bits_down"]
            return both
        if name in ACCURACY:
            if not self._predicts:
                raise ValueError(f"the labels of this run are targets, which have no accuracy: take {ACCURACY[name]!r}")
            accuracy: NDArray[Any] = 1.0 - self.columns[ACCURACY[name]]
            return accuracy
        if name == FORMULA and name not in self.columns:
            raise ValueError("the compressor of this run has no formula in qsim.formulas: take the axis 'bits_up'")
        name = f"cumulative_{name}" if name in (*CUMULATIVE, FORMULA, "seconds") else name
        if name == "cumulative_seconds" and name not in self.columns:
            raise ValueError("this trace has no virtual time: give the run a network, such as network=qsim.Network()")
        if name in PROGRESSIVE and name not in self.columns:
            raise ValueError(f"this trace has no {LABELS[name]}: run with progressive=True")
        if name not in self.columns:
            known = [*LABELS, *self.columns]
            raise ValueError(f"a trace has no {name!r}{nearest(name, known)} (it has {', '.join(sorted(set(known)))})")
        return self.columns[name]

    def plot(self, x: str = "round", y: str = "loss", ax: Axes | None = None, **style: Any) -> Axes:
        """Draw a quantity against another, at the evaluated rounds; see `qsim.plot`, which draws many traces.

        Parameters
        ----------
        x, y : str
            Quantities; see `axis`.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.
        **style : keyword arguments
            Passed to matplotlib's `plot`.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        ValueError
            For a quantity that no round has, such as the suboptimality with optimum=False.
        """
        return plot(self, x, y, ax, **style)

    def timeline(self, round: int = 1, ax: Axes | None = None) -> Axes:
        """Draw who did what when in a round, as a Gantt chart.

        Parameters
        ----------
        round : int, default 1
            The round, counted from 1, one that the network's `timelines` names.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        ValueError
            For a round that was not kept.

        Notes
        -----
        Up to 40 workers are drawn; of more, the 20 whose messages came last, and 20 spread over the others. The uplink
        begins when a message is ready: it includes queues at a server, and without a server the wait for the others.
        """
        from qsim.network.timeline import draw

        return draw(self.schedule, round, ax)

    def save(self, path: str | Path) -> Path:
        """Write the trace as .npz: columns and weights as arrays, the provenance as JSON text.

        Parameters
        ----------
        path : str or Path
            The file, which must end in .npz.

        Returns
        -------
        Path
            The path.

        Raises
        ------
        ValueError
            For another ending.
        """
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
        """Read a trace that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        Trace
            The trace.

        Raises
        ------
        ValueError
            For any other file.
        """
        from qsim.storage import read_arrays

        stored = read_arrays(path)
        if not {"weights", "provenance"} <= set(stored):
            raise ValueError(f"{path} is no trace saved by qsim: it holds {', '.join(stored) or 'nothing'}")
        columns, schedule = (
            {name.removeprefix(part): array for name, array in stored.items() if name.startswith(part)}
            for part in ("frame/", "schedule/")
        )
        return cls(columns, stored["weights"], json.loads(str(stored["provenance"])), schedule)


def progressive_columns(scores: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the columns of progressive validation: of how many rows were scored, and sums of losses and errors.

    scores: a row for each round. A round without rows has no loss (NaN).
    """
    found = {}
    for name, (rows, *sums) in (("", scores.T), ("mean_", scores.cumsum(axis=0).T)):
        for quantity, total in zip(("loss", "error"), sums, strict=True):
            found[f"{name}progressive_{quantity}"] = np.divide(total, rows, np.full(rows.size, np.nan), where=rows > 0)
    return found


Traces = Trace | Iterable[Trace] | Mapping[str, Trace | Iterable[Trace]]


def plot(traces: Traces, x: str = "bits", y: str = "suboptimality", ax: Axes | None = None, **style: Any) -> Axes:
    """Draw y against x for one or many traces, in one call.

    Parameters
    ----------
    traces : Trace, iterable of Trace, or mapping
        A mapping gives a curve for each label, of a trace or of several seeds. Otherwise traces whose runs differ in
        the seed alone make one curve, which is labelled by what else differs between the runs.
    x, y : str
        Quantities; see `Trace.axis`. Rounds at which one of them was not evaluated are left out. Suboptimality and
        gradient norms are drawn on logarithmic scales.
    ax : matplotlib.axes.Axes, optional
        Where to draw. By default a new figure in the style of qsim's own, which pyplot does not keep: the result's
        `figure` is what a notebook shows, and what is saved.
    **style : keyword arguments
        Passed to matplotlib's `plot`.

    Returns
    -------
    matplotlib.axes.Axes
        A curve of several seeds is their median, in a band from the least to the largest, over the rounds that all of
        them have; x is the mean at these rounds.

    Raises
    ------
    ValueError
        For a quantity that no round of a trace has, such as the suboptimality with optimum=False, and for no traces.

    Examples
    --------
    >>> import qsim
    >>> options = {"objective": qsim.LogisticRegression(l2=0.1), "method": qsim.GradientDescent(step=0.1), "rounds": 5}
    >>> compressors = [qsim.QSGD(levels=1), qsim.TopK(2)]
    >>> traces = [qsim.simulate("spark_sample", compressor=c, seed=s, **options) for c in compressors for s in (0, 1)]
    >>> [text.get_text() for text in qsim.plot(traces).get_legend().get_texts()]
    ['QSGD(levels=1)', 'TopK(k=2)']
    """
    if ax is None:
        with styled():
            return plot(traces, x, y, new_figure(3.5, 2.6).add_subplot(), **style)
    curves = _curves(traces)
    for label, seeds in curves.items():
        across, up = zip(*(_known(trace, x, y) for trace in seeds), strict=True)
        rounds = min(map(len, up))
        values = np.stack([part[:rounds] for part in up])
        center = np.mean([part[:rounds] for part in across], axis=0)
        named = {"label": label} if label else {}
        (line,) = ax.plot(center, np.median(values, axis=0), **named | style)
        if len(seeds) > 1:
            ax.fill_between(center, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2, lw=0)
    for quantity, scale, lines in ((x, ax.set_xscale, "get_xdata"), (y, ax.set_yscale, "get_ydata")):
        if quantity in LOGARITHMIC and any((np.asarray(getattr(line, lines)()) > 0).any() for line in ax.lines):
            scale("log")
    ax.set_xlabel(LABELS.get(x, x))
    ax.set_ylabel(LABELS.get(y, y))
    if any(curves):
        ax.legend()
    return ax


def _known(trace: Trace, x: str, y: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two quantities of a trace at the rounds that have both."""
    across, up = trace.axis(x).astype(float), trace.axis(y).astype(float)
    known = np.isfinite(across) & np.isfinite(up)
    if not known.any():
        raise ValueError(f"{unknown(y if np.isnan(up).all() else x)}, so there is nothing to plot")
    return across[known], up[known]


def _curves(traces: Traces) -> dict[str, list[Trace]]:
    """Return the traces of each curve, by label."""
    if isinstance(traces, Trace):
        return {"": [traces]}
    if isinstance(traces, Mapping):
        found = {str(label): [part] if isinstance(part, Trace) else list(part) for label, part in traces.items()}
    else:
        groups: dict[Any, list[Trace]] = {}
        for trace in traces:
            groups.setdefault(_without_seed(trace), []).append(trace)
        found = dict(zip(_labels(list(groups)), groups.values(), strict=True))
    if not all(found.values()) or not found:
        raise ValueError("there are no traces to plot")
    for part in (trace for several in found.values() for trace in several):
        if not isinstance(part, Trace):
            raise TypeError(f"traces must be what qsim.simulate returns, found {shown(part)}")
    return found


def _without_seed(trace: Trace) -> tuple[tuple[str, str], ...]:
    """Return the arguments of a trace's run but for its seed, as code."""
    if not isinstance(trace, Trace):
        raise TypeError(f"traces must be what qsim.simulate returns, found {shown(trace)}")
    arguments = trace.provenance.get("arguments", {})
    return tuple((name, value) for name, value in arguments.items() if name != "seed")


def _labels(runs: list[tuple[tuple[str, str], ...]]) -> list[str]:
    """Return how to tell runs from each other, given their arguments: by those that differ."""
    arguments = [dict(run) for run in runs]
    names = dict.fromkeys(name for found in arguments for name in found)
    differing = [name for name in names if len({found.get(name) for found in arguments}) > 1]
    return [", ".join(_word(name, found[name]) for name in differing if name in found) for found in arguments]


def _word(name: str, value: str) -> str:
    """Return an argument of a run as a legend has it."""
    value = re.sub(r"\bqsim\.(\w+\.)?", "", value)
    return value if name in ("method", "compressor") else f"{name}={value}"


__all__ = ["ACCURACY", "CUMULATIVE", "EVALUATION", "LABELS", "Trace", "plot"]


def __dir__() -> list[str]:
    return __all__
