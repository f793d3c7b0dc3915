"""Objectives over linear models: a loss of the margins <x, w> and the label of each row."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arrays import reals
from qsim.batch import Vectors
from qsim.block import Block, Rows
from qsim.datasets import Dataset, Shards
from qsim.datasets.labels import Labels
from qsim.datasets.parts import RowsElsewhere, are_elsewhere
from qsim.objectives.base import Objective
from qsim.objectives.eigenvalues import largest_eigenvalue, largest_of_matrix
from qsim.objectives.optimum import Optimum, Product, kept, minimum
from qsim.objectives.products import margins_of, rmatvec
from qsim.options import is_shipped
from qsim.weights import Replica

Margins = NDArray[np.floating]


class MarginModel(Objective):
    r"""Base class of objectives whose loss is a function of margins.

    .. math::

        F(w) = (1/n) \sum_i \mathrm{loss}(z_i, y_i) + (\lambda/2) \|w\|^2,

    with :math:`z_i` the margins of row :math:`x_i`: :math:`\langle x_i, w_c \rangle` for :math:`c = 1`, ..., width.
    Margins are an array of shape (rows,), or (rows, width) if there is more than one weight per feature.
    :math:`\lambda` is the option `l2`.
    """

    @abstractmethod
    def loss(self, margins: Margins, labels: NDArray[Any]) -> NDArray[np.floating]:
        """Return the loss of every row.

        Parameters
        ----------
        margins : ndarray of float, shape (rows,) or (rows, width)
            The margins.
        labels : ndarray, shape (rows,)
            The labels.

        Returns
        -------
        ndarray of float, shape (rows,)
            The losses.
        """

    @abstractmethod
    def slope(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        """Return the derivative of the loss with respect to the margins, for every row.

        Parameters
        ----------
        margins : ndarray of float, shape (rows,) or (rows, width)
            The margins.
        labels : ndarray, shape (rows,)
            The labels.

        Returns
        -------
        ndarray of float, shape of margins
            The derivatives.
        """

    @abstractmethod
    def margin_hvp(self, margins: Margins, along: Margins, labels: NDArray[Any]) -> Margins:
        """Return the second derivative of the loss with respect to the margins, times a change of them, for every row.

        Parameters
        ----------
        margins : ndarray of float, shape (rows,) or (rows, width)
            The margins.
        along : ndarray of float, shape of margins
            The change.
        labels : ndarray, shape (rows,)
            The labels.

        Returns
        -------
        ndarray of float, shape of margins
            The products.
        """

    @abstractmethod
    def curvature_bound(self) -> float:
        """Return a bound on the largest eigenvalue of the second derivative, whatever the margins.

        Returns
        -------
        float
            The bound.
        """

    def value_and_gradient(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64]]:
        """Return F(w) and its gradient: w has shape (features * width,), of the features of the design."""
        if are_elsewhere(data):
            return self._evaluate_elsewhere(w, data)[:2]
        data = self.design(data)
        return self._value_and_gradient(w, data, margins_of(data, w, self.width))

    def evaluate(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64], float]:
        if are_elsewhere(data):
            return self._evaluate_elsewhere(w, data)
        if not self.reads_margins_alone:
            return super().evaluate(w, data)
        data = self.design(data)
        margin = margins_of(data, w, self.width)
        return *self._value_and_gradient(w, data, margin), self.error_of_margins(margin, data)

    def error(self, w: NDArray[np.float64], data: Dataset) -> float:
        if are_elsewhere(data):
            return self._loss_and_error_elsewhere(w, data)[1]
        data = self.design(data)
        return self.error_of_margins(margins_of(data, w, self.width), data)

    def loss_and_error(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, float]:
        if are_elsewhere(data):
            return self._loss_and_error_elsewhere(w, data)
        if not self.reads_margins_alone:
            return super().loss_and_error(w, data)
        data = self.design(data)
        margin = margins_of(data, w, self.width)
        return self._mean_loss(margin, data), self.error_of_margins(margin, data)

    @property
    def reads_margins_alone(self) -> bool:
        """Whether value and error are those of this class, from margins, and not a user's own."""
        names = "value_and_gradient", "error", "evaluate", "loss_and_error"
        return all(getattr(type(self), name) is getattr(MarginModel, name) for name in names)

    def evaluate_rows(
        self, block: Block, rows: Rows, weights: Replica
    ) -> tuple[Vectors, NDArray[np.float64], NDArray[np.float64]]:
        """Return the sums of the gradients, losses and errors of each worker's rows, without r.

        Parameters
        ----------
        block, rows, weights : Block, Rows and Replica
            The workers, their rows, and the weights.

        Returns
        -------
        gradients : Vectors
            A row for each worker.
        losses, errors : ndarray of float64, shape (workers,)
            A number for each worker.
        """
        margin, labels = block.margins(rows, weights), Labels(block.labels[rows.index], block.data.kind)
        slopes = np.ascontiguousarray(self._each("slope", self.slope(margin, labels.labels), margin.shape))
        losses = self._loss_sums(margin, labels, rows.offsets)
        return block.spread(rows, slopes), losses, self.error_sums(margin, labels, rows.offsets)

    def score_rows(self, block: Block, rows: Rows, weights: Replica) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the sums of the losses and errors of each worker's rows, as `evaluate_rows` does.

        Parameters
        ----------
        block, rows, weights : Block, Rows and Replica
            The workers, their rows, and the weights.

        Returns
        -------
        losses, errors : ndarray of float64, shape (workers,)
            A number for each worker.
        """
        margin, labels = block.margins(rows, weights), Labels(block.labels[rows.index], block.data.kind)
        return self._loss_sums(margin, labels, rows.offsets), self.error_sums(margin, labels, rows.offsets)

    def _loss_sums(self, margin: Margins, labels: Dataset | Labels, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        from qsim.kernels.csr import sums

        losses = self._each("loss", self.loss(margin, labels.labels), labels.labels.shape)
        found: NDArray[np.float64] = sums(offsets, np.ascontiguousarray(losses, np.float64))
        return found

    def _mean_loss(self, margin: Margins, data: Dataset) -> float:
        return float(self._loss_sums(margin, data, np.array([0, data.rows]))[0]) / data.rows

    def error_of_margins(self, margins: Margins, data: Dataset | Labels) -> float:
        """Return the error on data from the margins of all rows.

        Parameters
        ----------
        margins : ndarray of float64, shape (rows,) or (rows, width)
            The margins.
        data : Dataset or Labels
            What has the labels of the rows: `data.labels`, `data.kind` and `data.rows`.

        Returns
        -------
        float
            The error, as `error` has it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define error(self, w, data)")

    def error_sums(self, margins: Margins, labels: Dataset | Labels, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return for each run of rows, offsets[b], ..., offsets[b + 1] - 1, their number times `error_of_margins`.

        Parameters
        ----------
        margins : ndarray of float, shape (rows,) or (rows, width)
            The margins of all rows.
        labels : Dataset or Labels
            What has their labels.
        offsets : ndarray of int64, shape (runs + 1,)
            Where the runs begin and end.

        Returns
        -------
        ndarray of float64, shape (runs,)
            The sums; 0 for a run of no rows.
        """
        found = np.zeros(offsets.size - 1)
        for b, (low, high) in enumerate(pairwise(offsets.tolist())):
            if low < high:
                run = Labels(labels.labels[low:high], labels.kind)
                found[b] = (high - low) * self.error_of_margins(margins[low:high], run)
        return found

    def probability(self, margins: Margins) -> NDArray[np.floating] | None:
        """Return the probability of the label +1 that the model predicts for rows with these margins.

        Parameters
        ----------
        margins : ndarray of float, shape (rows,)
            The margins.

        Returns
        -------
        ndarray of float, shape (rows,), or None
            The probabilities; None, as by default, for a model that predicts none.
        """
        return None

    def _evaluate_elsewhere(
        self, w: NDArray[np.float64], data: RowsElsewhere
    ) -> tuple[float, NDArray[np.float64], float]:
        """Return F(w), its gradient, and the error: sums over the workers that have the rows."""
        found = self._design_elsewhere(data).total("evaluation", w, w.size + 2) / data.rows
        return *self.completed(w, float(found[-2]), found[:-2]), float(found[-1])

    def _loss_and_error_elsewhere(self, w: NDArray[np.float64], data: RowsElsewhere) -> tuple[float, float]:
        loss, error = (self._design_elsewhere(data).total("loss and error", w, 2) / data.rows).tolist()
        return loss, error

    def _design_elsewhere(self, data: Any) -> RowsElsewhere:
        design: Any = self.design(data)
        return design  # type: ignore[no-any-return]

    def _value_and_gradient(
        self, w: NDArray[np.float64], data: Dataset, margin: Margins
    ) -> tuple[float, NDArray[np.float64]]:
        """Return F(w) and its gradient from the margins of the design."""
        slopes = self._each("slope", self.slope(margin, data.labels), margin.shape)
        return self.completed(w, self._mean_loss(margin, data), rmatvec(data, slopes) / data.rows)

    def smoothness(self, data: Dataset) -> float:
        """Return L = l2 + curvature_bound lambda_max(X^T X) / n, an upper bound to within 1e-6 relative."""
        data = self.design(data)
        return self.l2 + self.curvature_bound() * largest_eigenvalue(data, self.width) / data.rows

    def worker_smoothness(self, shards: Shards) -> NDArray[np.float64]:
        matrix, bound = shards.dataset.to_scipy(), np.full(shards.workers, self.l2, np.float64)
        for worker, (low, high) in enumerate(zip(shards.offsets[:-1], shards.offsets[1:], strict=True)):
            if low < high:
                bound[worker] += (
                    self.curvature_bound() * largest_of_matrix(matrix[shards.order[low:high]]) / (high - low)
                )
        return bound

    def row_smoothness(self, shards: Shards) -> float:
        """Return l2 + curvature_bound max ||x||^2 over the rows x."""
        rows = shards.dataset.to_scipy().astype(np.float64)
        return self.l2 + self.curvature_bound() * float(rows.multiply(rows).sum(axis=1).max())

    def update(self, block: Block, rows: Rows, weights: Replica, step: float) -> Vectors:
        return block.spread(rows, self._mean(self._slopes(block, rows, weights), rows, step))

    def losses(self, block: Block, rows: Rows, weights: Replica) -> Vectors:
        from qsim.kernels.csr import sums

        margin = block.margins(rows, weights)
        losses = self._each("loss", self.loss(margin, block.labels[rows.index]), rows.index.shape)
        value = sums(rows.offsets, self._mean(losses, rows, 1.0).astype(np.float64, copy=False))
        return Vectors(1, np.arange(block.workers + 1), None, value)

    def hvp(self, block: Block, rows: Rows, weights: Replica, direction: NDArray[np.floating]) -> Vectors:
        here, along = block.margins(rows, weights), block.margins(rows, Replica(direction))
        margin_hvp = self._each("margin_hvp", self.margin_hvp(here, along, block.labels[rows.index]), along.shape)
        return block.spread(rows, self._mean(np.ascontiguousarray(margin_hvp, along.dtype), rows, 1.0))

    def optimum(self, data: Dataset) -> Optimum:
        """Return the minimiser to ||grad F|| <= 1e-10, cached on disk under the identity of objective and data.

        Raises NoOptimumError if that is not reached.
        """
        return kept(self, data, self._solve)

    def _solve(self, data: Dataset) -> Optimum:
        return minimum(self, data)

    def hessian(self, w: NDArray[np.float64], data: Dataset) -> Product:
        design: Any = self.design(data)
        here = None if are_elsewhere(design) else margins_of(design, w, self.width)

        def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
            if here is None:
                mean = design.mean("hessian product", w, w.size, direction=v)
                return np.asarray(mean + self.regulariser_hvp(w, v))
            along = margins_of(design, v, self.width)
            margin_hvp = self._each("margin_hvp", self.margin_hvp(here, along, design.labels), along.shape)
            return np.asarray(rmatvec(design, margin_hvp * (1.0 / design.rows)) + self.regulariser_hvp(w, v))

        return product

    def _each(self, name: str, found: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return what `loss`, `slope` or `margin_hvp` found: for kernels, so a user's own is looked at."""
        if is_shipped(self):
            return np.asarray(found)
        return reals(f"what {name} of {self!r} returns", found, shape)

    def _slopes(self, block: Block, rows: Rows, weights: Replica) -> Margins:
        """Return the slopes of rows, in the precision of the weights."""
        margin = block.margins(rows, weights)
        slopes = self._each("slope", self.slope(margin, block.labels[rows.index]), margin.shape)
        return np.ascontiguousarray(slopes, margin.dtype)

    def _mean(self, numbers: Margins, rows: Rows, step: float) -> Margins:
        """Return numbers of rows times step / (how many rows their worker has)."""
        from qsim.kernels.rounds import scale_by_count

        scale_by_count(rows.offsets, float(step), numbers)  # what is not finite is refused where it is compressed
        return numbers


class LinearModel(MarginModel):
    r"""Base class of linear models: objectives with one margin a row.

    .. math::

        F(w) = (1/n) \sum_i \mathrm{loss}(\langle x_i, w \rangle, y_i) + (\lambda/2) \|w\|^2.

    An objective of your own is an option (`qsim.option`) with the four methods `loss`, `slope`, `curvature` and
    `curvature_bound`, in plain NumPy, of margins and labels of equal shape. :math:`\lambda` is the option `l2`.

    Notes
    -----
    Labels are the signs -1 and +1 unless `takes` says otherwise: takes = ("targets",) for regression.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> @qsim.option
    ... class SquaredHinge(qsim.objectives.LinearModel):
    ...     l2: float
    ...     def loss(self, margins, labels):
    ...         return 0.5 * np.maximum(0, 1 - labels * margins) ** 2
    ...     def slope(self, margins, labels):
    ...         return -labels * np.maximum(0, 1 - labels * margins)
    ...     def curvature(self, margins, labels):
    ...         return (labels * margins < 1).astype(margins.dtype)
    ...     def curvature_bound(self):
    ...         return 1.0
    >>> data = qsim.datasets.load("spark_sample")
    >>> float(SquaredHinge(l2=0.1).value(np.zeros(16), data))
    0.5
    """

    @abstractmethod
    def curvature(self, margins: Margins, labels: NDArray[Any]) -> Margins:
        """Return the second derivative of the loss with respect to the margin, for every row.

        Parameters
        ----------
        margins : ndarray of float, shape (rows,)
            The margins.
        labels : ndarray, shape (rows,)
            The labels.

        Returns
        -------
        ndarray of float, shape (rows,)
            The second derivatives.
        """

    def margin_hvp(self, margins: Margins, along: Margins, labels: NDArray[Any]) -> Margins:
        curvature: Margins = self._each("curvature", self.curvature(margins, labels), along.shape)
        return along * curvature

    def error_of_margins(self, margins: Margins, data: Dataset | Labels) -> float:
        """Return the share of rows with y <x, w> < 0; a margin of zero, a tie of both signs, counts as half.

        So at w = 0, where nothing is learned yet, it is 1/2, as of a coin that is tossed where the model is undecided.
        Of targets, the mean of (<x, w> - y)^2.
        """
        return float(LinearModel.error_sums(self, margins, data, np.array([0, data.rows]))[0]) / data.rows

    def error_sums(self, margins: Margins, labels: Dataset | Labels, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        from qsim.kernels.csr import sums, wrong_sums

        if type(self).error_of_margins is not LinearModel.error_of_margins:
            return super().error_sums(margins, labels, offsets)
        if labels.kind == "targets":
            squares: Any = np.asarray((margins - labels.labels) ** 2, np.float64)
            return np.asarray(sums(offsets, squares))
        return np.asarray(wrong_sums(offsets, margins.astype(np.float64, copy=False), labels.labels))
