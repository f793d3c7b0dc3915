"""Second-order methods: L-BFGS and Newton-CG on sums of losses, gradients and Hessian-vector products."""

from __future__ import annotations

from abc import abstractmethod
from math import sqrt
from typing import Literal, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Vectors, inner
from qsim.block import Block
from qsim.compressors import Identity
from qsim.methods.base import Exchange, Method, Task, refuse_absences, refuse_unfit
from qsim.objectives import Objective
from qsim.options import number, one_of, option, whole
from qsim.problem import Problem
from qsim.weights import Weights

_SUFFICIENT = 1e-4  # of the decrease that the slope promises, as usual
_HALVINGS = 40
_ROUNDING = 1e-14


class _SecondOrder(Method):
    """A direction from gradients, then a step along it by the line search of Armijo: 1, 1/2, 1/4, ...

    Losses are summed as float64, a number per worker. Gradients (and Hessian-vector products) go by float64 as well
    (`gradients="exact"`, which reaches the optimum to 1e-10), or by the run's compressor and codec ("compressed").
    Every sum, and every vector that goes down for it, is counted. A trial of the line search sends the weights down;
    the gradient at the accepted point, and every Hessian-vector product there, is computed at weights that the workers
    hold by then, and sends none.
    The server keeps O(n), and computes in O(n) times the history. It compares losses and gradients of several rounds,
    which must be those of one F: every worker takes part, and the compressor has no memory.
    """

    gradients: Literal["exact", "compressed"]

    def resolved(self, problem: Problem) -> Self:
        refuse_absences(self, problem, "losses and gradients of different workers are compared")
        if self.gradients == "compressed":
            refuse_unfit(self, problem)
        elif not isinstance(problem.compressor, Identity):
            raise ValueError(
                f"{self!r} sends exact float64 and would not use {problem.compressor!r}: write"
                f' {type(self).__name__}(gradients="compressed"), or leave the compressor out'
            )
        return self

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        here = w.dense()
        if "value" not in state:
            state["value"] = np.array(self._value(w, exchange))
            state["gradient"] = self._gradient(w, exchange)
        value, gradient = float(state["value"]), state["gradient"]
        direction = self._direction(w, state, exchange)
        slope = inner(direction, gradient)
        if slope >= 0:  # of an inexact gradient: none is promised, so go down the gradient itself
            self._forget(state)
            direction, slope = -gradient, -inner(gradient, gradient)
        for halving in range(_HALVINGS):
            trial = Weights(here + 0.5**halving * direction)
            found = self._value(trial, exchange)
            if found <= value + _SUFFICIENT * 0.5**halving * slope + _ROUNDING * abs(value):
                break
        else:
            self._forget(state)  # no step helps: stay here
            return
        after = self._gradient(trial, exchange)
        self._learn(state, trial.vector - here, after - gradient)
        w.become(trial)
        state["value"], state["gradient"] = np.array(found), after

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        rows = block.all_rows()
        if task.name == "loss":
            return objective.losses(block, rows, task.weights)
        if task.name == "gradient":
            return objective.update(block, rows, task.weights, 1.0)
        return objective.hvp(block, rows, task.weights, task.vectors["direction"])

    @abstractmethod
    def _direction(self, w: Weights, state: Arrays, exchange: Exchange) -> NDArray[np.float64]:
        """Return where to go."""

    def _learn(self, state: Arrays, step: NDArray[np.float64], change: NDArray[np.float64]) -> None:
        """Take note of a step and of how the gradient changed over it."""

    def _forget(self, state: Arrays) -> None:
        """Forget what was noted."""

    @property
    def _exact(self) -> Literal["float64"] | None:
        return "float64" if self.gradients == "exact" else None

    def _value(self, w: Weights, exchange: Exchange) -> float:
        loss = exchange("loss", w, exact="float64", length=1).vector.to_dense()
        return float(loss[0, 0]) + exchange.objective.regulariser(w.dense())[0]

    def _gradient(self, w: Weights, exchange: Exchange) -> NDArray[np.float64]:
        gradient = exchange.objective.regulariser(w.dense())[1]
        exchange("gradient", w, exact=self._exact).vector.add_to(gradient)
        return gradient


@final
@option
class LBFGS(_SecondOrder):
    """L-BFGS: a quasi-Newton method of limited memory.

    The direction is computed from the last `history` steps and changes of the gradient. A round exchanges a loss for
    each trial of the line search (mostly one) and a gradient.

    Parameters
    ----------
    history : int, default 10
        How many pairs are kept, at least 1.
    gradients : {"exact", "compressed"}, default "exact"
        Whether gradients are sent exactly or by the compressor.

    Raises
    ------
    ValueError
        If `history` is below 1, or `gradients` is another word.

    Notes
    -----
    Pairs whose step does not see positive curvature are left out. With exact gradients it converges superlinearly near
    a minimum in practice, and linearly in theory, for strongly convex :math:`F` (Theorem 6.1 of [1]_).

    References
    ----------
    .. [1] Liu, Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical Programming 45,
           1989.

    Examples
    --------
    >>> import qsim
    >>> qsim.LBFGS(history=5)
    qsim.LBFGS(history=5)
    """

    history: int = 10
    gradients: Literal["exact", "compressed"] = "exact"

    def __post_init__(self) -> None:
        whole("history", self.history, least=1)
        one_of("gradients", self.gradients, ("exact", "compressed"))

    def start(self, w: Weights) -> Arrays:
        return {name: np.zeros((0, w.vector.size)) for name in ("steps", "changes")}

    def _direction(self, w: Weights, state: Arrays, exchange: Exchange) -> NDArray[np.float64]:
        """Do the recursion of two loops (Nocedal and Wright, Algorithm 7.4)."""
        pairs = list(zip(state["steps"], state["changes"], strict=True))
        direction = state["gradient"].copy()
        along = []
        for step, change in reversed(pairs):
            along.append(inner(step, direction) / inner(step, change))
            direction -= along[-1] * change
        if pairs:
            step, change = pairs[-1]
            direction *= inner(step, change) / inner(change, change)
        for (step, change), first in zip(pairs, reversed(along), strict=True):
            direction += step * (first - inner(change, direction) / inner(step, change))
        return -direction

    def _learn(self, state: Arrays, step: NDArray[np.float64], change: NDArray[np.float64]) -> None:
        if inner(step, change) > 1e-10 * sqrt(inner(step, step) * inner(change, change)):
            state["steps"] = np.vstack([state["steps"], step])[-self.history :]
            state["changes"] = np.vstack([state["changes"], change])[-self.history :]

    def _forget(self, state: Arrays) -> None:
        state["steps"], state["changes"] = state["steps"][:0], state["changes"][:0]

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(history=3), cls(gradients="compressed")


@final
@option
class NewtonCG(_SecondOrder):
    r"""Newton's method, with systems solved by conjugate gradients.

    The direction :math:`d` solves :math:`H d = -g`, with :math:`H` the Hessian and :math:`g` the gradient, until the
    residual is at most min(`accuracy`, :math:`\sqrt{\|g\|}`) :math:`\|g\|`, or `products` products are made; each
    product with :math:`H` is one sum over the workers.

    Parameters
    ----------
    accuracy : float, default 0.5
        The relative residual of a solve, in (0, 1).
    products : int, default 100
        The largest number of products in a solve.
    gradients : {"exact", "compressed"}, default "exact"
        Whether gradients are sent exactly or by the compressor.

    Raises
    ------
    ValueError
        If `accuracy` is outside (0, 1), `products` is below 1, or `gradients` is another word.

    Notes
    -----
    For convex :math:`F` (a direction of negative curvature ends the solve). With exact sums it converges superlinearly
    near the minimum.

    References
    ----------
    .. [1] Dembo, Eisenstat, Steihaug, "Inexact Newton methods", 1982.
    .. [2] Nocedal and Wright, Theorem 7.2.

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.NewtonCG()
    qsim.NewtonCG()
    """

    accuracy: float = 0.5
    products: int = 100
    gradients: Literal["exact", "compressed"] = "exact"

    def __post_init__(self) -> None:
        number("accuracy", self.accuracy, above=0)
        if self.accuracy >= 1:
            raise ValueError(f"accuracy must be below 1, found {self.accuracy!r}")
        whole("products", self.products, least=1)
        one_of("gradients", self.gradients, ("exact", "compressed"))

    def _direction(self, w: Weights, state: Arrays, exchange: Exchange) -> NDArray[np.float64]:
        gradient = state["gradient"]
        norm = sqrt(inner(gradient, gradient))
        enough = min(self.accuracy, norm**0.5) * norm
        direction, residual = np.zeros_like(gradient), gradient.copy()
        search, squares = -residual, norm**2
        here = w.dense()
        for _ in range(self.products):
            if squares**0.5 <= enough:
                break
            product = exchange.objective.regulariser_hvp(here, search)
            exchange("curvature", w, exact=self._exact, direction=search).vector.add_to(product)
            curvature = inner(search, product)
            if curvature <= 0:
                return direction if direction.any() else -gradient
            far = squares / curvature
            direction += far * search
            residual += far * product
            before, squares = squares, inner(residual, residual)
            search = squares / before * search - residual
        return direction

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)
