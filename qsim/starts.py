"""Starts: the weights of round 0."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from qsim.keys import Key, require_key
from qsim.options import number, option


class Start(ABC):
    """Base class of starts: rules for the weights of round 0."""

    @abstractmethod
    def weights(self, n: int, key: Key) -> NDArray[np.float64]:
        """Return the weights of round 0.

        Parameters
        ----------
        n : int
            How many weights there are.
        key : Key
            The source of all randomness.

        Returns
        -------
        ndarray of float64, shape (n,)
            The weights.
        """


@final
@option
class Zeros(Start):
    """Start at w = 0.

    Examples
    --------
    >>> import qsim
    >>> qsim.starts.Zeros().weights(3, qsim.Key(0)).tolist()
    [0.0, 0.0, 0.0]
    """

    def weights(self, n: int, key: Key) -> NDArray[np.float64]:
        return np.zeros(n)


@final
@option
class Weights(Start):
    """Start at given weights, such as those that another run ended with (a warm start).

    Parameters
    ----------
    values : tuple of float
        The weights, as many as the model has. An array is taken, too, and a `Trace` stands for its final weights.

    Raises
    ------
    ValueError
        In the simulation, if there are not as many as the model has.

    Examples
    --------
    >>> import qsim
    >>> first = qsim.simulate(
    ...     "spark_sample", objective=qsim.LogisticRegression(l2=0.1), method=qsim.GradientDescent(step=0.1), rounds=3
    ... )
    >>> qsim.starts.Weights(first).weights(16, qsim.Key(0)).tolist() == first.weights.tolist()
    True
    """

    values: tuple[float, ...]

    def __init__(self, values: Any) -> None:
        object.__setattr__(self, "values", getattr(values, "weights", values))
        self.__post_init__()  # type: ignore[attr-defined]

    def weights(self, n: int, key: Key) -> NDArray[np.float64]:
        return np.array(self.values)


@final
@option
class Uniform(Start):
    """Start at weights drawn uniformly from [-radius, radius], by the seed of the run.

    Parameters
    ----------
    radius : float, default 1.0
        The largest magnitude, above 0.

    Raises
    ------
    ValueError
        If `radius` is not above 0.

    Examples
    --------
    >>> import qsim
    >>> bool((abs(qsim.starts.Uniform(0.5).weights(1000, qsim.Key(0))) <= 0.5).all())
    True
    """

    radius: float = 1.0

    def __post_init__(self) -> None:
        number("radius", self.radius, above=0)

    def weights(self, n: int, key: Key) -> NDArray[np.float64]:
        require_key(key)
        return key.generator().uniform(-self.radius, self.radius, n)


__all__ = ["Start", "Uniform", "Weights", "Zeros"]


def __dir__() -> list[str]:
    return __all__
