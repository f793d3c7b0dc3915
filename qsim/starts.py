"""Where training starts: the weights of round 0."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
from numpy.typing import NDArray

from qsim.keys import Key, require_key
from qsim.options import number, option


class Start(ABC):
    """A rule for the first weights."""

    @abstractmethod
    def weights(self, n: int, key: Key) -> NDArray[np.float64]:
        """Return n weights."""


@final
@option
class Zeros(Start):
    """w = 0."""

    def weights(self, n: int, key: Key) -> NDArray[np.float64]:
        return np.zeros(n)


@final
@option
class Weights(Start):
    """Given weights, such as those that another run ended with: a warm start.

    >>> import qsim
    >>> first = qsim.simulate(
    ...     "spark_sample", objective=qsim.LogisticRegression(l2=0.1), method=qsim.GradientDescent(step=0.1), rounds=3
    ... )
    >>> qsim.starts.Weights(first.weights).weights(16, qsim.Key(0)).tolist() == first.weights.tolist()
    True

    Raises ValueError in the simulation if there are not as many as the model has.
    """

    values: tuple[float, ...]

    def weights(self, n: int, key: Key) -> NDArray[np.float64]:
        return np.array(self.values)


@final
@option
class Uniform(Start):
    """Each weight uniform in [-radius, radius], by the run's seed."""

    radius: float = 1.0

    def __post_init__(self) -> None:
        number("radius", self.radius, above=0)

    def weights(self, n: int, key: Key) -> NDArray[np.float64]:
        require_key(key)
        return key.generator().uniform(-self.radius, self.radius, n)


__all__ = ["Start", "Uniform", "Weights", "Zeros"]


def __dir__() -> list[str]:
    return __all__
