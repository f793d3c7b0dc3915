"""Measures of a model on data that it has not seen: loss, error, AUC and calibration.

>>> import qsim
>>> train, test = qsim.load("adult").split(test=0.25, seed=0)
>>> objective = qsim.LogisticRegression(l2=1e-4)
>>> trace = qsim.simulate(train, objective=objective, method=qsim.SGD(step=0.5, batch=64), optimum=False, rounds=300)
>>> qsim.evaluate(trace, test, objective)
Evaluation(8,140 rows, loss 0.3294, error 0.1536, AUC 0.9024, calibration 1.037)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.datasets import Data, DataError, Dataset, as_data
from qsim.datasets.labels import Kind, Labels
from qsim.datasets.parts import Parts
from qsim.notebooks import html_table
from qsim.objectives import MarginModel, Objective
from qsim.objectives.products import margins_of
from qsim.objectives.wrapper import innermost
from qsim.options import one_of, refuse_masked, shown, whole
from qsim.plotting import new_figure, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Calibration:
    """Predicted probabilities beside the labels, bin by bin.

    `calibration` makes it.

    Parameters
    ----------
    ratio : float
        The sum of the predicted probabilities over the number of positive rows, 1 for a model that is right on average
        [1]_; inf without positive rows.
    expected_error : float
        The expected calibration error [2]_: the mean over rows of how far the mean prediction of their bin is from the
        share of positive rows in it.
    edges : ndarray of float64, shape (bins + 1,)
        Bin b holds predictions above edges[b] and up to edges[b + 1]; the first bin has its lower end, too.
    rows : ndarray of int64, shape (bins,)
        How many rows are in each bin.
    predicted, observed : ndarray of float64, shape (bins,)
        The mean prediction, and the share of positive rows; NaN for a bin without rows.

    References
    ----------
    .. [1] He et al., "Practical lessons from predicting clicks on ads at Facebook", ADKDD 2014, section 3 (the ratio);
           McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, section 7 (why it is watched).
    .. [2] Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015 (of
           the probability of the positive label, as here); Guo, Pleiss, Sun, Weinberger, "On calibration of modern
           neural networks", ICML 2017 (of the probability of the label that is predicted).

    Examples
    --------
    >>> import qsim
    >>> found = qsim.metrics.calibration([0.1, 0.3, 0.6, 0.6], [-1, 1, 1, -1], bins=2)
    >>> found.rows.tolist(), found.observed.tolist(), round(found.ratio, 3), round(found.expected_error, 3)
    ([2, 2], [0.5, 0.5], 0.8, 0.2)
    """

    ratio: float
    expected_error: float
    edges: NDArray[np.float64]
    rows: NDArray[np.int64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]

    def to_frame(self) -> pd.DataFrame:
        """Return the reliability table: a row for each bin."""
        import pandas as pd

        columns = {"above": self.edges[:-1], "up_to": self.edges[1:], "rows": self.rows}
        return pd.DataFrame(columns | {"predicted": self.predicted, "observed": self.observed})

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the reliability diagram: shares of positive rows over mean predictions, and the diagonal.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure, which pyplot does not keep.
        **style : keyword arguments
            Passed to matplotlib's `plot`.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.
        """
        if ax is None:
            with styled():
                return self.plot(new_figure(2.8, 2.6).add_subplot(), **style)
        filled = self.rows > 0
        top = max(self.predicted[filled].max(), self.observed[filled].max())
        ax.plot([0, top], [0, top], color="0.7", lw=0.8, zorder=1)
        ax.plot(self.predicted[filled], self.observed[filled], **{"marker": "o"} | style)
        ax.set_xlabel("predicted probability")
        ax.set_ylabel("share of positive rows")
        return ax

    def _repr_html_(self) -> str:
        """Show the two numbers and the table, in a notebook."""
        numbers = {"predicted / positive": f"{self.ratio:.6g}", "expected error": f"{self.expected_error:.6g}"}
        return html_table("Calibration", numbers) + self.to_frame().to_html(index=False)

    def __repr__(self) -> str:
        """Show the two numbers."""
        bins, rows = self.rows.size, int(self.rows.sum())
        return (
            f"Calibration({rows:,} rows in {bins} bins, ratio {self.ratio:.4g}, expected error"
            f" {self.expected_error:.4g})"
        )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Loss, error, AUC and calibration of a model on data.

    `evaluate` makes it.

    Parameters
    ----------
    rows : int
        How many rows there are.
    loss : float
        The mean loss, without the regulariser: of logistic regression the log-loss, in nats.
    error : float
        The share of rows that are predicted wrongly, a tie counted as half; of targets, the mean square.
    kind : {"signs", "classes", "targets"}
        What the labels are.
    auc : float, optional
        The area under the ROC curve (see `auc`); None unless the labels are signs and the model has margins.
    calibration : Calibration, optional
        How probabilities agree with labels; None for a model that predicts none.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> found = qsim.evaluate(np.zeros(16), "spark_sample", qsim.LogisticRegression(l2=0.1))
    >>> found.error, found.auc, round(found.loss, 4), found.calibration.rows.tolist()
    (0.5, 0.5, 0.6931, [0, 0, 0, 0, 322, 0, 0, 0, 0, 0])
    """

    rows: int
    loss: float
    error: float
    kind: Kind
    auc: float | None = None
    calibration: Calibration | None = None

    @property
    def accuracy(self) -> float:
        """One minus the error.

        Raises
        ------
        ValueError
            For targets, which have no accuracy.
        """
        if self.kind == "targets":
            raise ValueError("targets have no accuracy: take the error, which is the mean square")
        return 1.0 - self.error

    def _shown(self) -> dict[str, str]:
        found = {"loss": self.loss, "error": self.error, "AUC": self.auc}
        if self.calibration is not None:
            found["calibration"] = self.calibration.ratio
        return {name: f"{number:.4g}" for name, number in found.items() if number is not None}

    def _repr_html_(self) -> str:
        """Show the numbers, and the reliability table, in a notebook."""
        table = "" if self.calibration is None else self.calibration._repr_html_()
        return html_table(f"Evaluation, {self.rows:,} rows", self._shown()) + table

    def __repr__(self) -> str:
        """Show the numbers."""
        return f"Evaluation({', '.join([f'{self.rows:,} rows', *(f'{n} {x}' for n, x in self._shown().items())])})"


def evaluate(
    model: Any,
    data: Data,
    objective: Objective,
    *,
    bins: int = 10,
    strategy: Literal["uniform", "quantile"] = "uniform",
) -> Evaluation:
    """Evaluate a model on data: loss, error, AUC and calibration.

    Parameters
    ----------
    model : Trace or ndarray of float, shape (n,)
        The weights, or a trace with its final weights.
    data : Dataset, Source, path, or pair of arrays
        The data, as `simulate` takes them; they need the features that the model was trained with. The files of
        `qsim.datasets.Parts` are read here, one after the other, and of each row only its margin is kept.
    objective : Objective
        The objective that the model was trained with.
    bins : int, default 10
        The number of bins of the calibration.
    strategy : {"uniform", "quantile"}, default "uniform"
        The bins of the calibration; see `calibration`.

    Returns
    -------
    Evaluation
        The numbers; they are computed in float64.

    Raises
    ------
    DataError
        For data of other features or labels than those of the model.

    Examples
    --------
    >>> import qsim
    >>> objective = qsim.LogisticRegression(l2=0.1)
    >>> trace = qsim.simulate("spark_sample", objective=objective, method=qsim.GradientDescent(step=0.1), rounds=50)
    >>> found = qsim.evaluate(trace, "spark_sample", objective, bins=4)
    >>> bool(found.error == trace.frame["train_error"].iloc[-1])
    True
    >>> found.calibration
    Calibration(322 rows in 4 bins, ratio 0.9985, expected error 0.06587)
    """
    w = _weights(model)
    if not isinstance(objective, Objective):
        raise TypeError(f"objective must be one such as qsim.LogisticRegression(l2=1e-4), found {shown(objective)}")
    _require_bins(bins, strategy)
    inner = innermost(objective)
    source = as_data("data", data)
    files = source.files() if isinstance(source, Parts) else []
    pieces = source.pieces(files) if isinstance(source, Parts) else iter((_loaded(source),))
    if not isinstance(inner, MarginModel) or not inner.reads_margins_alone:
        if len(files) > 1:
            raise DataError(f"{objective!r} is evaluated on all rows at once: it can't be on {source!r}")
        whole_set = next(pieces)
        _fitting(whole_set, objective, w)
        return Evaluation(whole_set.rows, *objective.loss_and_error(w, whole_set), whole_set.kind)
    margins, labels, kind = _margins(pieces, objective, w)
    rows = Labels(labels, kind)
    loss = float(np.asarray(inner.loss(margins, labels)).sum()) / rows.rows
    error = inner.error_of_margins(margins, rows)
    if kind != "signs" or margins.ndim > 1:
        return Evaluation(rows.rows, loss, error, kind)
    chance = inner.probability(margins)
    table = None if chance is None else calibration(chance, labels, bins=bins, strategy=strategy)
    return Evaluation(rows.rows, loss, error, kind, auc(margins, labels), table)


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the area under the ROC curve: the chance that a positive row has a higher score than a negative one.

    Parameters
    ----------
    scores : array-like of float, shape (rows,)
        What ranks the rows: margins, or probabilities.
    labels : array-like, shape (rows,)
        Their labels; those above 0 are positive.

    Returns
    -------
    float
        The area; NaN if all rows have one label, or a score is NaN.

    Notes
    -----
    It is exact: the sum of the ranks of the positive rows, in whole numbers, with the mean of the ranks for scores that
    are equal [1]_, so that such a pair counts as half.

    References
    ----------
    .. [1] Hanley, McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
           Radiology 143, 1982 (the area is the statistic of Wilcoxon, and of Mann and Whitney).

    Examples
    --------
    >>> import qsim
    >>> qsim.metrics.auc([0.1, 0.4, 0.4, 0.8], [-1, -1, 1, 1])
    0.875
    """
    ranked, positive = _two_arrays("scores", scores, labels)
    if np.isnan(ranked).any():
        return math.nan
    order = np.argsort(ranked)
    ranked, positive = ranked[order], positive[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]) + 1, ranked.size)  # of runs of equal scores
    above = np.diff(np.cumsum(positive)[ends - 1], prepend=0)  # positive rows of each run
    others = np.diff(ends, prepend=0) - above
    below = np.cumsum(others) - others
    pairs = int(above.sum()) * int(others.sum())
    return int((above * (2 * below + others)).sum()) / (2 * pairs) if pairs else math.nan


def calibration(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 10,
    strategy: Literal["uniform", "quantile"] = "uniform",
) -> Calibration:
    """Compare predicted probabilities with labels.

    Parameters
    ----------
    probabilities : array-like of float, shape (rows,)
        The predicted probabilities of the positive label, in [0, 1].
    labels : array-like, shape (rows,)
        The labels; those above 0 are positive.
    bins : int, default 10
        How many bins there are.
    strategy : {"uniform", "quantile"}, default "uniform"
        Bins of equal width in [0, 1], or of about equal numbers of rows: where few rows are positive, as in click
        logs, nearly all of them are in the first bin of equal width.

    Returns
    -------
    Calibration
        Two numbers, and a table.

    Raises
    ------
    ValueError
        For probabilities outside [0, 1].

    Examples
    --------
    >>> import qsim
    >>> qsim.metrics.calibration([0.1, 0.3, 0.6, 0.6], [-1, 1, 1, -1], bins=2, strategy="quantile")
    Calibration(4 rows in 2 bins, ratio 0.8, expected error 0.2)
    """
    _require_bins(bins, strategy)
    chance, positive = _two_arrays("probabilities", probabilities, labels)
    if not ((chance >= 0) & (chance <= 1)).all() and not np.isnan(chance).any():
        worst = chance[np.argmax(np.abs(chance - 0.5))]
        raise ValueError(f"probabilities must be in [0, 1], found {worst:g}")
    parts = np.linspace(0.0, 1.0, bins + 1)
    edges = parts if strategy == "uniform" else np.quantile(chance, parts)
    bin_of = np.searchsorted(edges[1:-1], chance)
    rows = np.bincount(bin_of, minlength=bins)
    predicted = np.bincount(bin_of, chance, minlength=bins)
    observed = np.bincount(bin_of, positive, minlength=bins)
    clicks, size = int(positive.sum()), np.where(rows > 0, rows, np.nan)
    return Calibration(
        float(chance.sum()) / clicks if clicks else math.inf,
        float(np.abs(predicted - observed).sum()) / chance.size,
        edges,
        rows.astype(np.int64),
        predicted / size,
        observed / size,
    )


def _margins(
    pieces: Iterator[Dataset], objective: Objective, w: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[Any], Kind]:
    """Return the margins and labels of the rows of all pieces of data, and the kind of the labels."""
    margins, labels = [], []
    for piece in pieces:
        data = _fitting(piece, objective, w)
        margins.append(margins_of(data, w, objective.width))
        labels.append(data.labels)
    if len(margins) == 1:
        return margins[0], labels[0], data.kind
    return np.concatenate(margins), np.concatenate(labels), data.kind


def _weights(model: Any) -> NDArray[np.float64]:
    """Return the weights of a model; refuse what has none."""
    weights = getattr(model, "weights", model)
    refuse_masked("model", weights)
    found = np.asarray(None if isinstance(weights, Dataset) else weights)
    if found.ndim != 1 or found.dtype.kind not in "biuf":
        raise TypeError(f"model must be a trace, or weights in an array with one axis, found {shown(model)}")
    return np.ascontiguousarray(found, np.float64)


def _loaded(source: Any) -> Dataset:
    """Return data in this process."""
    data: Dataset = source if isinstance(source, Dataset) else source.load()
    return data


def _fitting(data: Dataset, objective: Objective, w: NDArray[np.float64]) -> Dataset:
    """Return the design of data; refuse features that are not those of the model."""
    design = objective.design(data)
    if w.size != design.features * objective.width:
        features, rest = divmod(w.size, objective.width)
        if rest:
            raise DataError(f"{objective!r} has {objective.width:,} weights for each feature, found {w.size:,} in all")
        raise DataError(
            f"the data must have the {features - (design.features - data.features)} features of the model, found"
            f" {data!r}; files may say how many there are, as in qsim.datasets.LibSVM(..., features=...)"
        )
    return design


def _two_arrays(name: str, numbers: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return numbers and whether labels are positive; refuse arrays that do not belong together, or are empty."""
    refuse_masked(name, numbers)
    refuse_masked("labels", labels)
    found = np.asarray(numbers, np.float64)
    try:
        given = np.asarray(labels).astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"labels must be numbers, found {shown(labels)}") from None
    if np.isnan(given).any():
        raise ValueError(f"labels must be numbers, found nan in row {np.argmax(np.isnan(given))}")
    positive = given > 0
    if found.ndim != 1 or found.shape != positive.shape or not found.size:
        raise ValueError(
            f"{name} and labels must be of one length, at least 1, found shapes {found.shape} and {positive.shape}"
        )
    return found, positive


def _require_bins(bins: int, strategy: str) -> None:
    whole("bins", bins, least=1)
    one_of("strategy", strategy, ("uniform", "quantile"))


__all__ = ["Calibration", "Evaluation", "auc", "calibration", "evaluate"]


def __dir__() -> list[str]:
    return __all__
