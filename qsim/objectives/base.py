"""The objective contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Memory, Vectors
from qsim.block import Block, Rows
from qsim.datasets import Dataset, Shards
from qsim.datasets.labels import Kind
from qsim.l2_decay import GlobalScale, L2Decay
from qsim.objectives.composite import Composite
from qsim.objectives.doors import AT_THE_DOOR, refuse_labels
from qsim.objectives.optimum import NoOptimumError, NoSmoothnessError, Optimum, Product
from qsim.program import Cell, NoProgram, Program
from qsim.weights import PlannedReplica, Replica, Weights

_SMALLEST = 2.0**-64  # as in `qsim/weights.py`: the scale is multiplied in below this


class Objective(Composite, ABC):
    r"""Base class of objectives, which are minimised.

    .. math::

        F(w) = (1/n) \sum_i \mathrm{loss}_i(w) + r(w)

    over the :math:`n` rows of a data set, with :math:`r` the regulariser, :math:`(\lambda/2) \|w\|^2` by default.
    :math:`w` holds `width` weights for each feature of the design: weight :math:`c` of feature :math:`j` is number
    :math:`j \cdot \mathrm{width} + c`.

    Attributes
    ----------
    l2 : float
        The factor :math:`\lambda` of the regulariser.
    takes : tuple of str, default ("signs",)
        The kinds of labels that the objective takes; see `Dataset`.
    keeps_support : bool, default True
        Whether a worker's gradients are zero for features that its rows lack.

    Notes
    -----
    The driver computes in float64. Workers compute the loss of their rows, without :math:`r`, in the precision of the
    weights that they are given: float32, or float64 in an exact exchange.

    For linear models derive from `LinearModel`, for other losses in plain NumPy from `MeanLoss`: they need less code.
    """

    l2: float

    takes: tuple[Kind, ...] = ("signs",)

    keeps_support: bool = True

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Return instances with usual parameters, which are checked with every shipped objective; none by default."""
        return ()

    def __init_subclass__(cls, **options: Any) -> None:
        """Have what the methods of a user's own return checked, before a kernel takes it."""
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] != "qsim":
            for name, door in AT_THE_DOOR.items():
                owner = next((base for base in cls.__mro__ if name in vars(base)), Objective)
                if owner is cls or not issubclass(owner, Objective):  # as a mixin is not
                    setattr(cls, name, door(name, vars(owner)[name]))

    @property
    def width(self) -> int:
        """The number of weights of a feature."""
        return 1

    @property
    def smooth_part(self) -> Objective:
        """The objective without its nonsmooth part: that of gradients, of steps on r, and of L, L_i and mu."""
        return self

    def design(self, data: Dataset) -> Dataset:
        """Return the data set whose rows meet the weights, with an intercept's column if there is one.

        Parameters
        ----------
        data : Dataset
            The data, as they were given.

        Returns
        -------
        Dataset
            The design.

        Raises
        ------
        DataError
            For labels that the objective does not take.
        """
        refuse_labels(self, self.takes, data)
        return data

    @abstractmethod
    def value_and_gradient(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64]]:
        """Return F(w) and its gradient, in float64.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.
        data : Dataset
            The data.

        Returns
        -------
        value : float
            F(w).
        gradient : ndarray of float64, shape (n,)
            The gradient of F at w.
        """

    @abstractmethod
    def error(self, w: NDArray[np.float64], data: Dataset) -> float:
        """Return the error on data.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.
        data : Dataset
            The data.

        Returns
        -------
        float
            The share of rows that are predicted wrongly; of targets, the mean square. The shipped objectives count a
            row whose class is tied with others as a random draw among them would: half, for two.
        """

    def evaluate(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64], float]:
        """Return F(w), its gradient, and the error on data: what is recorded of a round.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.
        data : Dataset
            The data.

        Returns
        -------
        value : float
            F(w).
        gradient : ndarray of float64, shape (n,)
            The gradient of F at w.
        error : float
            The error, as `error` has it.
        """
        return *self.value_and_gradient(w, data), self.error(w, data)

    def loss_and_error(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, float]:
        """Return the mean loss on data, without r, and the error: what is recorded of test data.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.
        data : Dataset
            The data.

        Returns
        -------
        loss : float
            The mean loss of the rows.
        error : float
            The error, as `error` has it.
        """
        return self.value(w, data) - self.regulariser(np.asarray(w, np.float64))[0], self.error(w, data)

    def smoothness(self, data: Dataset) -> float:
        """Return the smoothness constant L, with ||grad F(u) - grad F(w)|| <= L ||u - w||.

        Parameters
        ----------
        data : Dataset
            The data.

        Returns
        -------
        float
            L.

        Raises
        ------
        NoSmoothnessError
            If none is stated.
        """
        raise NoSmoothnessError(f"{self!r} states no smoothness L, so no step follows from theory: give the step")

    def worker_smoothness(self, shards: Shards) -> NDArray[np.float64]:
        """Return the smoothness constant L_i of every worker, of its own rows.

        Parameters
        ----------
        shards : Shards
            The rows of the workers.

        Returns
        -------
        ndarray of float64, shape (workers,)
            L_i; of a worker without rows, that of r alone.

        Raises
        ------
        NoSmoothnessError
            If none is stated.
        """
        raise NoSmoothnessError(
            f"{self!r} states no smoothness L_i of workers, so no step follows from theory: give the step"
        )

    def row_smoothness(self, shards: Shards) -> float:
        """Return the largest smoothness constant of the loss of a single row, with r.

        Parameters
        ----------
        shards : Shards
            The rows of the workers.

        Returns
        -------
        float
            At least every L_i, since those are means over rows.
        """
        rows = replace(shards, offsets=np.arange(shards.dataset.rows + 1))  # a worker for every row
        return float(self.worker_smoothness(rows).max())

    def strong_convexity(self, data: Dataset) -> float:
        """Return the constant mu of strong convexity, with F(u) >= F(w) + <grad F(w), u - w> + (mu/2) ||u - w||^2.

        Parameters
        ----------
        data : Dataset
            The data.

        Returns
        -------
        float
            mu >= 0: by default l2, which holds for a convex loss; override it to return 0 for a loss that is not
            convex.
        """
        return self.l2

    def optimum(self, data: Dataset) -> Optimum:
        """Return the minimiser, from the disk if it was found before.

        Parameters
        ----------
        data : Dataset
            The data.

        Returns
        -------
        Optimum
            The minimiser.

        Raises
        ------
        NoOptimumError
            If it is not found.
        """
        raise NoOptimumError(f"{self!r} knows no way to its minimum: run with simulate(..., optimum=False)")

    def hessian(self, w: NDArray[np.float64], data: Dataset) -> Product:
        """Return the product of the Hessian of F with a vector, in float64: what the search for a minimum needs.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.
        data : Dataset
            The data.

        Returns
        -------
        callable
            Takes a vector of float64, shape (n,), and returns the Hessian of F at w times it.

        Raises
        ------
        NoOptimumError
            If the objective has no such product.
        """
        raise NoOptimumError(f"{self!r} knows no way to its minimum: run with simulate(..., optimum=False)")

    @abstractmethod
    def update(self, block: Block, rows: Rows, weights: Replica, step: float) -> Vectors:
        """Return step times the mean gradient of each worker's rows, without r.

        Parameters
        ----------
        block, rows, weights : Block, Rows and Replica
            The workers, their rows, and the weights.
        step : float
            The factor.

        Returns
        -------
        Vectors
            One row per worker, with only the coordinates that its rows touch; zero for a worker without rows.
        """

    def plan(
        self,
        program: Program,
        block: Block,
        rows: Rows,
        weights: PlannedReplica,
        step: Cell | float,
    ) -> Vectors:
        """Have a program do what `update` does; return where. Raises NoProgram if there are no calls for it."""
        raise NoProgram

    def plan_local_steps(
        self,
        program: Program,
        block: Block,
        rows: Rows,
        batch: int,
        weights: PlannedReplica,
        steps: NDArray[np.float64],
        decay: L2Decay,
    ) -> Vectors:
        """Have a program do what `local_steps` does with batches; return where. Raises NoProgram if it cannot."""
        raise NoProgram

    @abstractmethod
    def losses(self, block: Block, rows: Rows, weights: Replica) -> Vectors:
        """Return the mean loss of each worker's rows, without r.

        Parameters
        ----------
        block, rows, weights : Block, Rows and Replica
            The workers, their rows, and the weights.

        Returns
        -------
        Vectors
            One row of length 1 per worker; 0 for a worker without rows.
        """

    def hvp(self, block: Block, rows: Rows, weights: Replica, direction: NDArray[np.floating]) -> Vectors:
        """Return the mean Hessian of each worker's rows, without r, times a direction.

        Parameters
        ----------
        block, rows, weights : Block, Rows and Replica
            The workers, their rows, and the weights.
        direction : ndarray of float, shape (n,)
            The direction.

        Returns
        -------
        Vectors
            One row per worker.

        Raises
        ------
        NotImplementedError
            If the objective has no such product.
        """
        raise NotImplementedError(f"{self!r} has no product with its Hessian, so NewtonCG cannot be used; LBFGS can")

    def local_steps(
        self,
        block: Block,
        rows: Rows,
        batch: int | None,
        weights: Replica,
        steps: NDArray[np.float64],
        decay: L2Decay,
    ) -> Vectors:
        """Have every worker do steps of SGD of its own.

        u_0 = w, u_{h+1} = (1 - a_h l2) u_h - a_h g(u_h), with a_h = steps[h] and g the mean gradient over the worker's
        next `batch` rows.

        Parameters
        ----------
        block, rows : Block and Rows
            The workers, and their rows, one batch after the other.
        batch : int or None
            The number of rows of a step; None for all rows, in every step.
        weights : Replica
            The weights w.
        steps : ndarray of float64, shape (H,)
            The step sizes a_h.
        decay : L2Decay
            How l2 is applied.

        Returns
        -------
        Vectors
            prod_h (1 - a_h l2) w - u_H, on the support of the worker: one row per worker.

        Raises
        ------
        ValueError
            For a decay other than `GlobalScale`, unless the objective has kernels for it.
        """
        if not isinstance(decay, GlobalScale):
            raise ValueError(f"{type(self).__name__} takes local steps with decay=qsim.l2_decay.GlobalScale() only")
        moved, vector, scale = Memory.zeros(block.support, "moved"), weights.vector, weights.scale
        for h, step in enumerate(steps.tolist()):  # u_h = scale (vector - moved)
            if scale < _SMALLEST:
                vector = vector * vector.dtype.type(scale)
                moved.arrays["moved"] *= np.float32(scale)
                scale = 1.0
            here = Replica(vector, scale, moved.arrays["moved"])
            scale *= 1.0 - step * self.l2
            moved.add("moved", self.update(block, rows.step(h, batch) if batch else rows, here, step / scale))
        vectors = moved.vectors("moved")
        return vectors.scaled(scale) if scale != 1.0 else vectors

    def value(self, w: NDArray[np.float64], data: Dataset) -> float:
        """Return F(w)."""
        return self.value_and_gradient(w, data)[0]

    def gradient(self, w: NDArray[np.float64], data: Dataset) -> NDArray[np.float64]:
        """Return the gradient of F at w."""
        return self.value_and_gradient(w, data)[1]

    def apply_l2_step(self, w: Weights, step: float) -> None:
        """Do a step on r alone: w <- w - step grad r(w).

        Parameters
        ----------
        w : Weights
            The weights, changed in place. For l2 this is one multiplication, whatever their number.
        step : float
            The step size.

        Raises
        ------
        ValueError
            For step * l2 >= 1, which would throw the weights past zero.
        """
        if self.l2:
            shrink = 1.0 - step * self.l2
            if shrink <= 0.0:
                raise ValueError(
                    f"step * l2 = {step * self.l2:g}: it must stay below 1, or the regulariser throws the weights past"
                    " zero; take a smaller step"
                )
            w.shrink(shrink)
