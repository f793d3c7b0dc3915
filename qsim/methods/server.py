"""Rules for a server's step along the workers' mean: momentum, and steps that adapt to each coordinate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays
from qsim.methods.descent import Momentum
from qsim.options import number, option


class Adaptive(ABC):
    r"""Base class of server steps that adapt to each coordinate (FedOpt).

    .. math::

        m &\leftarrow \beta_1 m + (1 - \beta_1) d, \\
        w &\leftarrow w - b\, m / (\sqrt{v} + \tau),

    with :math:`b` the step of the server, :math:`d` the mean of :math:`w - u_i`, how far the workers went, and
    :math:`v` a sum or a mean of :math:`d^2`, coordinate by coordinate, that begins at :math:`\tau^2`. The first
    :math:`m` and :math:`v` are not corrected. It costs the server :math:`O(n)` per round, and two vectors.
    """

    beta1: float
    beta2: float
    tau: float

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            value = getattr(self, name, 0.0)
            number(name, value, least=0)
            if value >= 1:
                raise ValueError(f"{name} must be below 1, found {value!r}")
        number("tau", self.tau, above=0)

    @abstractmethod
    def _squares(self, v: NDArray[np.float64], d: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the new v."""

    def along(self, d: NDArray[np.float64], state: Arrays) -> NDArray[np.float64]:
        """Return the direction, and keep what goes into the next.

        Parameters
        ----------
        d : ndarray of float64, shape (n,)
            How far the workers went.
        state : dict of ndarray
            What the server keeps: m as "first", v as "second".

        Returns
        -------
        ndarray of float64, shape (n,)
            What `server_step` times is subtracted from the weights.
        """
        state["first"] *= self.beta1
        state["first"] += (1 - self.beta1) * d
        state["second"] = self._squares(state["second"], d)
        return np.asarray(state["first"] / (np.sqrt(state["second"]) + self.tau))


@final
@option
class Adam(Adaptive):
    r"""FedAdam's server: a running mean of the squares.

    :math:`v \leftarrow \beta_2 v + (1 - \beta_2) d^2`.

    Parameters
    ----------
    beta1 : float, default 0.9
        How much of :math:`m` stays, in [0, 1).
    beta2 : float, default 0.99
        How much of :math:`v` stays, in [0, 1).
    tau : float, default 0.001
        What is added to :math:`\sqrt{v}`, above 0: the larger, the less steps adapt.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] Reddi et al., "Adaptive federated optimization", ICLR 2021, Algorithm 2.

    Examples
    --------
    >>> import qsim
    >>> qsim.LocalSGD(step=0.5, steps=8, server=qsim.methods.Adam(), server_step=0.1).server.tau
    0.001
    """

    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def _squares(self, v: NDArray[np.float64], d: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.beta2 * v + (1 - self.beta2) * d**2)


@final
@option
class Yogi(Adaptive):
    r"""FedYogi's server: a measure of the squares that falls slowly.

    :math:`v \leftarrow v - (1 - \beta_2) d^2 \operatorname{sign}(v - d^2)`.

    Parameters
    ----------
    beta1 : float, default 0.9
        How much of :math:`m` stays, in [0, 1).
    beta2 : float, default 0.99
        One less the share of :math:`d^2` by which :math:`v` changes, in [0, 1).
    tau : float, default 0.001
        What is added to :math:`\sqrt{v}`, above 0: the larger, the less steps adapt.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] Reddi et al., "Adaptive federated optimization", ICLR 2021, Algorithm 2.

    Examples
    --------
    >>> import qsim
    >>> qsim.LocalSGD(step=0.5, steps=8, server=qsim.methods.Yogi(), server_step=0.1).server.beta2
    0.99
    """

    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def _squares(self, v: NDArray[np.float64], d: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(v - (1 - self.beta2) * d**2 * np.sign(v - d**2))


@final
@option
class Adagrad(Adaptive):
    r"""FedAdagrad's server: the sum of the squares over all rounds.

    :math:`v \leftarrow v + d^2`.

    Parameters
    ----------
    beta1 : float, default 0.0
        How much of :math:`m` stays, in [0, 1).
    tau : float, default 0.001
        What is added to :math:`\sqrt{v}`, above 0: the larger, the less steps adapt.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] Reddi et al., "Adaptive federated optimization", ICLR 2021, Algorithm 2.

    Examples
    --------
    >>> import qsim
    >>> qsim.LocalSGD(step=0.5, steps=8, server=qsim.methods.Adagrad(), server_step=0.1).server
    qsim.methods.Adagrad()
    """

    beta1: float = 0.0
    tau: float = 1e-3

    def _squares(self, v: NDArray[np.float64], d: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(v + d**2)


def check_server(server: object) -> None:
    """Raise TypeError for what is no rule of a server, nor None."""
    if not isinstance(server, (Adaptive, Momentum, type(None))):
        raise TypeError(f"server must be None or a rule such as qsim.methods.Adam() or Nesterov(0.9), found {server!r}")


def server_state(server: Adaptive | Momentum | None, n: int) -> Arrays:
    """Return what a server keeps for a rule, as it is before the first round."""
    if isinstance(server, Adaptive):
        return {"first": np.zeros(n), "second": np.full(n, server.tau**2)}
    return {} if server is None else {"velocity": np.zeros(n)}


def step_of_server(
    server: Adaptive | Momentum, step: float, d: NDArray[np.float64], state: Arrays
) -> NDArray[np.float64]:
    """Return what a server subtracts from the weights, given how far the workers went."""
    if isinstance(server, Adaptive):
        return step * server.along(d, state)
    plain, velocity = step * d, state["velocity"]
    velocity *= server.beta
    velocity += plain
    return server.along(velocity, plain)
