"""Minimisers: what they are, how they are found, where they are kept, and what is raised where there is none."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qsim.batch import inner
from qsim.datasets import Dataset
from qsim.datasets.parts import are_elsewhere

_TOLERANCE = 1e-10

Product = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""The product of a matrix with a vector."""


class NoOptimumError(ValueError):
    """Raised if the minimum was not reached, or is not known: the problem may have none."""


class NoSmoothnessError(ValueError):
    """Raised if a smoothness constant is needed that does not exist, or is not stated."""


@dataclass(frozen=True)
class Optimum:
    r"""The minimiser of an objective over a data set, to a gradient norm of 1e-10.

    Parameters
    ----------
    weights : ndarray of float64, shape (n,)
        The minimiser :math:`w^\star`.
    value : float
        :math:`F(w^\star)`.
    gradient_norm : float
        :math:`\|\nabla F(w^\star)\|`, in the `l2` norm; with a nonsmooth part, that of the subgradient of least norm.

    Notes
    -----
    It is a certificate: where :math:`F` is :math:`\mu`-strongly convex, :math:`F(w^\star)` is at most
    :math:`\mathrm{gradient\_norm}^2 / (2 \mu)` above the minimum.

    Examples
    --------
    >>> import qsim
    >>> optimum = qsim.LogisticRegression(l2=0.1).optimum(qsim.datasets.load("spark_sample"))
    >>> optimum.gradient_norm <= 1e-10
    True
    """

    weights: NDArray[np.float64]
    value: float
    gradient_norm: float


class Minimisable(Protocol):
    """An objective whose minimiser is looked for here."""

    @property
    def width(self) -> int: ...

    def design(self, data: Dataset) -> Dataset: ...

    def value_and_gradient(self, w: NDArray[np.float64], data: Dataset) -> tuple[float, NDArray[np.float64]]: ...

    def hessian(self, w: NDArray[np.float64], data: Dataset) -> Product: ...


def kept(objective: Minimisable, data: Dataset, solve: Callable[[Dataset], Optimum]) -> Optimum:
    """Return the minimiser to ||grad F|| <= 1e-10, cached on disk under the identity of objective and data.

    Raises NoOptimumError if that is not reached.
    """
    from qsim.storage import replacing, write_arrays

    path = _path(objective, data)
    found = None if path is None else _recall(objective, path, data)
    if found is None:
        if sys.stderr.isatty():
            print(f"qsim: solving for the optimum of {data.name} (cached for later runs) ...", file=sys.stderr)
        found = solve(data)
        if path is None:
            return found
        arrays = {"weights": found.weights, "value": found.value, "gradient_norm": found.gradient_norm}
        try:
            with replacing(path) as temporary, temporary.open("w+b") as file:
                write_arrays(file, {name: np.asarray(number) for name, number in arrays.items()})
        except OSError as error:
            warnings.warn(f"the optimum is not cached, and will be solved for again: {error}", stacklevel=3)
    return found


def minimum(objective: Minimisable, data: Dataset) -> Optimum:
    """Come near with L-BFGS, then finish with Newton steps, each solved by conjugate gradients."""
    from scipy.optimize import minimize

    n = objective.design(data).features * objective.width
    objective.hessian(np.zeros(n), data)  # which raises where no minimum is known
    near = minimize(
        objective.value_and_gradient,
        np.zeros(n),
        args=(data,),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "maxfun": 4000, "maxcor": 30, "gtol": 1e-8, "ftol": 0.0},
    )
    return finished(objective, near.x, data)


def finished(
    objective: Minimisable,
    w: NDArray[np.float64],
    data: Dataset,
    free: Callable[[NDArray[np.float64]], NDArray[np.bool_]] | None = None,
) -> Optimum:
    """Return the minimiser from weights near it, by Newton steps.

    free: tells which weights Newton steps may change, those at which a nonsmooth part is smooth; None: all.
    """
    from scipy.sparse.linalg import LinearOperator, cg

    found, n = judged(objective, w, data), w.size
    for _ in range(50):
        if found.gradient_norm <= _TOLERANCE:
            return found
        w, product = found.weights, objective.hessian(found.weights, data)
        slope, moving = objective.value_and_gradient(w, data)[1], np.ones(n) if free is None else 1.0 * free(w)

        def on_free(v: NDArray[np.float64], product: Product = product, moving: Any = moving) -> NDArray[np.float64]:
            return np.asarray(moving * product(moving * v.ravel()))

        hessian = LinearOperator((n, n), matvec=on_free, dtype=np.float64)
        direction, _ = cg(hessian, -moving * slope, rtol=1e-4, maxiter=10 * n)
        better = _line(objective, found, direction, data)
        if better is None:
            break
        found = better
    own = " (or is its gradient or curvature not that of its loss? qsim.testing.check_objective(objective) tells)"
    raise NoOptimumError(
        f"no minimum of {objective!r} was found on {data!r}: the gradient norm stays at {found.gradient_norm:.1e},"
        f" above {_TOLERANCE:.0e}. Use a larger l2, or run without the optimum: simulate(..., optimum=False)"
        f"{'' if type(objective).__module__.startswith('qsim.') else own}"
    )


def judged(objective: Minimisable, w: NDArray[np.float64], data: Dataset) -> Optimum:
    """Return weights with their value and gradient norm."""
    value, gradient = objective.value_and_gradient(w, data)
    return Optimum(w, value, math.sqrt(inner(gradient, gradient)))


def _line(objective: Minimisable, found: Optimum, direction: NDArray[np.float64], data: Dataset) -> Optimum | None:
    """Halve a Newton step until the gradient norm falls."""
    for halvings in range(30):
        trial = judged(objective, found.weights + 0.5**halvings * direction, data)
        if trial.gradient_norm < found.gradient_norm:
            return trial
    return None


def _path(objective: Minimisable, data: Dataset) -> Path | None:
    """Return where the optimum is kept; None for an objective whose source cannot be told."""
    from qsim.identity import UnknowableError, identify
    from qsim.storage import user_cache

    try:
        return user_cache() / "optima" / f"{identify((objective, data)).key}.npz"
    except UnknowableError:
        return None


def _recall(objective: Minimisable, path: Path, data: Dataset) -> Optimum | None:
    """Return the optimum stored at `path` if it can be read and is one; of rows elsewhere nothing is computed."""
    from qsim.storage import read_arrays

    try:
        arrays = read_arrays(path)
        if are_elsewhere(data):
            found = Optimum(arrays["weights"], float(arrays["value"]), float(arrays["gradient_norm"]))
        else:
            found = judged(objective, arrays["weights"], data)
    except (OSError, ValueError, KeyError):
        return None
    return found if found.gradient_norm <= _TOLERANCE else None
