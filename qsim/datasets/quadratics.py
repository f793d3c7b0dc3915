"""Quadratics with known constants, written as rows and targets, so that least squares over them are the quadratics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import lru_cache
from typing import final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets.dataset import Dataset, Source
from qsim.keys import Key, Purpose
from qsim.options import number, option, whole


@final
@option
class Quadratics(Source):
    r"""One quadratic a worker, with known constants, for checking rates.

    .. math::

        f_i(w) = (1/2) \sum_j a_{ij} (w_j - c_{ij})^2,

    and :math:`F` is the mean of the :math:`f_i`. Minimise `LeastSquares(l2=0)` with `workers=len(smoothness)` and
    `partition=Contiguous()`: a worker's rows, two for each weight, make up its :math:`f_i`.

    Parameters
    ----------
    smoothness : sequence of float
        :math:`L_i` of each worker, at least :math:`\mu`.
    mu : float
        The strong convexity of all :math:`f_i`, above 0.
    heterogeneity : float, default 0.0
        The mean of :math:`\|\nabla f_i(w^\star)\|^2` over the workers, at least 0, and 0 for one worker.
    features : int, default 10
        The number of weights, at least 2.
    seed : int, default 0
        The seed of what is drawn.

    Raises
    ------
    ValueError
        For other numbers.

    Notes
    -----
    Whatever the seed,

    - :math:`f_i` has :math:`L_i = a_{i1} = \mathrm{smoothness}[i]`, and :math:`a_{id} = \mu` for :math:`d` features;
      the :math:`a_{ij}` between are drawn, log-uniform in :math:`[\mu, L_i]`.
    - :math:`F` has the mean of the :math:`L_i` as :math:`L`, and :math:`\mu`. Its minimiser :math:`w^\star`,
      `optimum()`, is drawn from the unit sphere.
    - :math:`(1/W) \sum_i \|\nabla f_i(w^\star)\|^2 = \mathrm{heterogeneity}`. The directions of these gradients are
      drawn; they sum to zero.

    The eigenvectors are the axes, for all :math:`f_i`. Entries are float32, so each :math:`a_{ij}` is made of two
    squares of them and right to 1e-13 relative; targets are float64.

    Examples
    --------
    >>> import qsim
    >>> source = Quadratics(smoothness=(1.0, 4.0), mu=0.5, heterogeneity=2.0, features=3)
    >>> source.load()
    Dataset('quadratics-2x3', 12 x 3, 12 non-zeros, targets from -5.11563 to 2.63663)
    >>> objective = qsim.objectives.LeastSquares(l2=0)
    >>> round(objective.smoothness(source.load()), 5), round(objective.strong_convexity(source.load()), 12)
    (2.5, 0.5)
    >>> bool(np.linalg.norm(objective.gradient(source.optimum(), source.load())) < 1e-12)
    True
    """

    smoothness: Sequence[float]
    mu: float
    heterogeneity: float = 0.0
    features: int = 10
    seed: int = 0
    name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        bounds = self.smoothness
        number("mu", self.mu, above=0)
        number("heterogeneity", self.heterogeneity, least=0)
        whole("features", self.features, least=2, most=2**20)
        whole("seed", self.seed, least=0, most=2**64 - 1)
        if not bounds:
            raise ValueError("smoothness must hold L_i for at least one worker, found none")
        for place, bound in enumerate(bounds):
            number(f"smoothness[{place}]", bound, least=self.mu)
        if self.heterogeneity and len(bounds) == 1:
            raise ValueError("one worker alone has no heterogeneity: its gradient at the minimum is zero; say 0")
        object.__setattr__(self, "name", f"quadratics-{len(bounds)}x{self.features}")

    def load(self) -> Dataset:
        return _make(self)[0]

    def optimum(self) -> NDArray[np.float64]:
        """Return the minimiser w* of F, shape (features,)."""
        return _make(self)[1]


@lru_cache(maxsize=4)
def _make(source: Quadratics) -> tuple[Dataset, NDArray[np.float64]]:
    generator = Key(source.seed).fold(Purpose.SYNTHETIC).generator()
    largest, d = np.array(source.smoothness), source.features
    workers = largest.size
    optimum = generator.standard_normal(d)
    optimum /= np.linalg.norm(optimum)
    curvature = source.mu * (largest / source.mu)[:, None] ** generator.random((workers, d))
    curvature[:, 0], curvature[:, -1] = largest, source.mu
    gradients = generator.standard_normal((workers, d))
    gradients -= gradients.mean(axis=0)
    if source.heterogeneity:
        gradients *= np.sqrt(source.heterogeneity / np.mean((gradients**2).sum(axis=1)))
    else:
        gradients[:] = 0
    entries = _roots(2 * d * curvature)  # a worker has 2 d rows, over which losses are averaged
    targets = entries * (optimum - gradients / curvature)[:, :, None]
    rows = entries.size
    indices = np.tile(np.repeat(np.arange(d), 2), workers)
    for array in (optimum, targets):
        array.flags.writeable = False
    data = Dataset(
        np.arange(rows + 1), indices, entries.ravel(), targets.ravel(), d, source.name, source, kind="targets"
    )
    return data, optimum


def _roots(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return two float32 numbers for each, whose squares sum to it within 1e-13: shape (..., 2), as float64."""
    high = np.sqrt(squares).astype(np.float32)
    high = np.where(high.astype(np.float64) ** 2 > squares, np.nextafter(high, np.float32(0)), high).astype(np.float64)
    low = np.sqrt(squares - high**2).astype(np.float32).astype(np.float64)
    return np.stack([high, low], axis=-1)
