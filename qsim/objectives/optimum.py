"""Minimisers, and what is raised where there is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class NoOptimumError(ValueError):
    """Raised if the minimum was not reached, or is not known: the problem may have none."""


@dataclass(frozen=True)
class Optimum:
    """The minimiser of an objective over a data set, to a gradient norm of 1e-10.

    Parameters
    ----------
    weights : ndarray of float64, shape (n,)
        The minimiser w*.
    value : float
        F(w*).
    gradient_norm : float
        ||grad F(w*)||, in the l2 norm.

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
