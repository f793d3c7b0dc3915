"""Objectives of your own that are no linear models, in plain NumPy."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from qsim.arrays import reals
from qsim.batch import Vectors
from qsim.block import Block, Rows
from qsim.datasets import Dataset
from qsim.objectives.base import Objective
from qsim.options import real
from qsim.weights import Replica


class MeanLoss(Objective):
    r"""Base class of objectives that are no linear models, in plain NumPy.

    :math:`F(w)` is the mean loss of the rows plus :math:`r(w)`. A subclass is an option (`qsim.option`) that says `l2`,
    and has two methods, `loss_and_gradient` and `error`. For functions of the margins :math:`\langle x_i, w \rangle`,
    `LinearModel` needs less work.

    Notes
    -----
    Each worker calls `loss_and_gradient` with its own rows, so it costs what you write: a copy of the rows, and dense
    vectors of :math:`n` weights per worker.

    Further methods, if you know them: `smoothness` and `worker_smoothness` (steps of theory), `strong_convexity`
    (bounds; 0 by default), `optimum` (suboptimality), `hvp` (NewtonCG), `regulariser`, `regulariser_hvp` and
    `apply_l2_step` (another :math:`r` than `l2`). `width` says how many weights a feature has, `takes` which labels
    there may be.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> @qsim.option
    ... class Squares(qsim.objectives.MeanLoss):
    ...     l2: float = 0.0
    ...     takes = ("targets",)
    ...     def loss_and_gradient(self, w, data):
    ...         off = data.to_scipy() @ w**2 - data.labels
    ...         return np.mean(off**2) / 2, data.to_scipy().T @ (off / off.size) * 2 * w
    ...     def error(self, w, data):
    ...         return np.abs(data.to_scipy() @ w**2 - data.labels).max()
    >>> data = qsim.Dataset.from_arrays(np.eye(2), [1.0, 1.0], kind="targets")
    >>> float(Squares().value(np.zeros(2), data))
    0.5
    """

    @abstractmethod
    def loss_and_gradient(self, w: NDArray[np.floating], data: Dataset) -> tuple[float, NDArray[np.floating]]:
        """Return the mean loss of rows, without r, and its gradient.

        Parameters
        ----------
        w : ndarray of float, shape (n,)
            All weights, read only; float64 for the driver, float32 for workers.
        data : Dataset
            At least one row; `data.to_scipy()` is their matrix, `data.labels` their labels.

        Returns
        -------
        value : float
            The mean loss.
        gradient : ndarray of float, shape (n,)
            Its gradient.
        """

    def value_and_gradient(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64]]:
        design = self.design(data)
        w = np.asarray(w, np.float64)
        if w.shape != (design.features * self.width,):
            raise ValueError(f"w must have shape ({design.features * self.width},) for {data!r}, found {w.shape}")
        loss, gradient = self._of(w, design)
        penalty, pull = self.regulariser(w)
        return loss + penalty, gradient + pull

    def loss_and_error(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, float]:
        return self._of(np.asarray(w, np.float64), self.design(data))[0], self.error(w, data)

    def strong_convexity(self, data: Dataset) -> float:
        """Return 0: nothing is known of the loss. If it is convex, l2 can be returned."""
        return 0.0

    def update(self, block: Block, rows: Rows, weights: Replica, step: float) -> Vectors:
        of = block.support
        assert of.index is not None
        value = np.zeros(of.offsets[-1], weights.vector.dtype)
        for worker, (w, data) in enumerate(zip(block.held(weights), block.take(rows), strict=True)):
            if data is not None:
                gradient = self._of(w, data)[1]
                there = slice(of.offsets[worker], of.offsets[worker + 1])
                own = gradient[of.index[there]]
                if np.count_nonzero(own) != np.count_nonzero(gradient):
                    raise ValueError(
                        f"the gradient of {self!r} is not zero for features that the rows lack: what does not depend on"
                        " the rows belongs to the regulariser"
                    )
                value[there] = step * own
        return Vectors(block.n, of.offsets, of.index, value)

    def losses(self, block: Block, rows: Rows, weights: Replica) -> Vectors:
        value = np.zeros(block.workers)
        for worker, (w, data) in enumerate(zip(block.held(weights), block.take(rows), strict=True)):
            if data is not None:
                value[worker] = self._of(w, data)[0]
        return Vectors(1, np.arange(block.workers + 1), None, value)

    def _of(self, w: NDArray[np.floating], data: Dataset) -> tuple[float, NDArray[np.floating]]:
        """Return the loss and the gradient of rows, if they are what they should be."""
        w = w.view()
        w.flags.writeable = False
        loss, gradient = self.loss_and_gradient(w, data)
        of = f"loss_and_gradient of {self!r}"
        gradient = reals(f"the gradient that {of} returns", gradient)
        if gradient.shape != w.shape or np.ndim(loss) != 0:
            raise ValueError(
                f"{of} must return a number and an array of shape {w.shape}, found shapes"
                f" {np.shape(loss)} and {gradient.shape}"
            )
        if np.isnan(w).any() and (np.isnan(loss) or np.isnan(gradient).any()):
            raise ValueError(
                f"{self!r} reads weights of features that the rows lack, which SparsePull did not ask for: take"
                " downlink=qsim.downlinks.DenseWeights(), or read only what the rows hold, as data.to_scipy() @ w does"
            )
        return real(f"the loss that {of} returns", loss), gradient
