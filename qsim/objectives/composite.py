"""Parts of an objective beside the losses of rows: a regulariser, and a nonsmooth part for proximal steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.batch import inner
from qsim.weights import Weights


class Composite:
    """F = mean loss of the rows + r + h, r smooth and h convex: what objectives say of r and h.

    r is (l2/2) ||w||^2 by default, and there is no h.
    """

    l2: float

    def regulariser(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return r(w) and its gradient.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.

        Returns
        -------
        value : float
            r(w).
        gradient : ndarray of float64, shape (n,)
            The gradient of r at w.
        """
        return 0.5 * self.l2 * inner(w, w), self.l2 * w

    def regulariser_hvp(self, w: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Hessian of r at w times a direction.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.
        direction : ndarray of float64, shape (n,)
            The direction.

        Returns
        -------
        ndarray of float64, shape (n,)
            The product.
        """
        return self.l2 * direction

    def completed(
        self, w: NDArray[np.float64], loss: float, gradient: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]]:
        """Return F(w) and its gradient, of which the mean loss of the rows and the gradient of that are known.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.
        loss : float
            The mean loss, without r.
        gradient : ndarray of float64, shape (n,)
            Its gradient.

        Returns
        -------
        value : float
            F(w).
        gradient : ndarray of float64, shape (n,)
            The gradient of F at w.
        """
        penalty, pull = self.regulariser(np.asarray(w, np.float64))
        return loss + penalty, gradient + pull

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
