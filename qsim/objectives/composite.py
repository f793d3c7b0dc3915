"""The nonsmooth part of an objective, on which methods take proximal steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.weights import Weights


class Composite:
    """F = f + h, f smooth and h convex: what objectives say of h. By default there is none."""

    @property
    def composite(self) -> bool:
        """Whether there is an h. Methods that take no proximal steps refuse such an objective."""
        return False

    def nonsmooth(self, w: NDArray[np.float64]) -> float:
        """Return h(w).

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.

        Returns
        -------
        float
            h(w), which is a part of F(w).
        """
        return 0.0

    def proximal_step(self, w: Weights, step: float) -> None:
        """Do a step on h alone: w <- argmin_u h(u) + ||u - w||^2 / (2 step).

        Parameters
        ----------
        w : Weights
            The weights, changed in place.
        step : float
            The step size.
        """
        return None
