"""Bounds of theory, to draw beside what runs measure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.options import refuse_masked


@dataclass(frozen=True)
class Bound:
    r"""The bound of theory on the expected suboptimality of a run, round by round.

    :math:`\mathbb{E} F(w_t) - F^\star \leq \mathrm{start} \cdot \mathrm{factor}^t + \mathrm{floor} + \mathrm{rounding}`
    after :math:`t` rounds.

    Parameters
    ----------
    factor : float
        The factor by which `quantity` shrinks each round, in expectation, but for the noise.
    start : float
        The bound on :math:`F(w_0) - F^\star` that follows from the first value of `quantity`; equal to it if that is
        :math:`F(w) - F^\star`.
    floor : float
        Where the bound of the theorem ends, because of noise that does not vanish; 0 without.
    quantity : str
        The quantity that the theorem is about: "F(w) - F*", or a sum of an error and of that of memories.
    rounding : float, default 0.0
        What float32 gradients and weights leave, which the theorem does not cover (`Problem.rounding`).

    Examples
    --------
    >>> Bound(0.5, 8.0, 1.0, "F(w) - F*")([0, 1, 2]).tolist()
    [9.0, 5.0, 3.0]
    """

    factor: float
    start: float
    floor: float
    quantity: str
    rounding: float = 0.0

    def __call__(self, rounds: ArrayLike) -> NDArray[np.float64]:
        """Return the bound on the expected suboptimality.

        Parameters
        ----------
        rounds : array-like of int
            Numbers of rounds.

        Returns
        -------
        ndarray of float64, shape of rounds
            The bound after each.
        """
        refuse_masked("rounds", rounds)
        left = self.start * self.factor ** np.asarray(rounds, np.float64)
        return np.asarray(left + self.floor + self.rounding)
