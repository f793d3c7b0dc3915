"""Links, and what goes over them at one time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from qsim.options import number, option


@final
@option
class Link:
    r"""The connection of a machine.

    :math:`b` bytes take :math:`\mathrm{latency} + 8 b / \mathrm{bandwidth}` seconds, in both directions at once.

    Parameters
    ----------
    bandwidth : float, default 1000000000.0
        Bits a second, in each direction, above 0.
    latency : float, default 0.0001
        Seconds, at least 0.

    Raises
    ------
    ValueError
        If `bandwidth` is not above 0, or `latency` is negative.

    Notes
    -----
    All machines have links of one kind, and what lies between them is never the bottleneck.

    Examples
    --------
    >>> import qsim
    >>> qsim.network.Link(bandwidth=1e9, latency=1e-4).seconds(1_000_000)
    0.0081
    """

    bandwidth: float = 1e9
    latency: float = 1e-4

    def __post_init__(self) -> None:
        number("bandwidth", self.bandwidth, above=0)
        number("latency", self.latency, least=0)

    def carry(self, size: float) -> float:
        """Return how long this many bytes take to pass, latency left out."""
        return 8 * size / self.bandwidth

    def seconds(self, size: float) -> float:
        """Return when the last of this many bytes has arrived."""
        return self.latency + self.carry(size)


@dataclass(frozen=True, eq=False)
class Stage:
    """Transfers that happen at the same time.

    `size[j]` bytes are sent from node `source[j]` to node `target[j]`. Nodes 0, 1, ..., :math:`p - 1` are the workers,
    those above are servers.

    Parameters
    ----------
    source : ndarray of int64, shape (transfers,)
        The nodes that send.
    target : ndarray of int64, shape (transfers,)
        The nodes that receive.
    size : ndarray of float64, shape (transfers,)
        Bytes. These are real numbers: a message that is cut into :math:`p` pieces has pieces of :math:`m/p` bytes.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> stage = qsim.network.Stage(np.array([0, 1]), np.array([1, 0]), np.array([1000.0, 3000.0]))
    >>> stage.seconds(qsim.network.Link(bandwidth=8e6, latency=0.0))
    0.003
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    size: NDArray[np.float64]

    def seconds(self, link: Link) -> float:
        """Return the latency, and what the busiest node has to send or to receive."""
        busiest = max(np.bincount(node, self.size).max() for node in (self.source, self.target))
        return link.seconds(float(busiest))
