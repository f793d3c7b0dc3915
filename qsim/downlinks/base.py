"""Base classes of downlinks, and what is sent down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Literal

import numpy as np

from qsim.arrays import arrays_by_name, reals
from qsim.batch import Arrays, Vectors
from qsim.batch.checks import require_rows
from qsim.keys import Key
from qsim.options import real, shown, whole
from qsim.plan import Plan
from qsim.program import NoProgram
from qsim.weights import PlannedReplica, Replica, Weights


@dataclass(frozen=True)
class Sent:
    """The bits that are sent to a worker.

    Parameters
    ----------
    bits : int, default 0
        The bits of what is sent, a multiple of 8.
    header : int, default 0
        The bits of the header of the stream, which goes before its first packet.

    Raises
    ------
    ValueError
        For a number of bits that is negative or is not a multiple of 8.

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.Sent(bits=320).header
    0
    """

    bits: int = 0
    header: int = 0

    def __post_init__(self) -> None:
        for name in ("bits", "header"):
            object.__setattr__(self, name, whole(f"the {name} that are sent down", getattr(self, name), least=0))
            if getattr(self, name) % 8:
                raise ValueError(f"whole bytes are sent, found {getattr(self, name)} bits")


def _arrays_at_the_door(start: Callable[..., Any]) -> Callable[..., Arrays]:
    """Check that what both ends keep by a user's own downlink can be kept."""

    @wraps(start)
    def checked(self: Downlink, w: Weights) -> Arrays:
        return arrays_by_name(f"what start of {self!r} returns", start(self, w))

    return checked


def _weights_at_the_door(weights: Callable[..., Any]) -> Callable[..., tuple[Replica, Sent]]:
    """Check the weights that workers get by a user's own downlink."""

    @wraps(weights)
    def checked(self: Broadcast, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        name = f"what weights of {self!r} returns"
        replica, sent = _pair(name, weights(self, w, state, key), Replica)
        vector = reals(f"the vector of {name}", replica.vector, w.vector.shape)
        return Replica(vector, real(f"the scale of {name}", replica.scale)), sent

    return checked


def _sum_at_the_door(aggregate: Callable[..., Any]) -> Callable[..., tuple[Vectors, Sent]]:
    """Check the sum that both ends apply by a user's own downlink."""

    @wraps(aggregate)
    def checked(self: Downlink, total: Vectors, state: Arrays, key: Key) -> tuple[Vectors, Sent]:
        name = f"what aggregate of {self!r} returns"
        found, sent = _pair(name, aggregate(self, total, state, key), Vectors)
        require_rows(name, found, 1, total.n)
        if not np.isfinite(found.value).all():
            raise ValueError(f"the values of {name} must be finite")
        return found, sent

    return checked


def _pair(name: str, found: Any, kind: type[Any]) -> Any:
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], kind) and isinstance(found[1], Sent)):
        raise TypeError(f"{name} must be a {kind.__name__} and what is Sent for it, found {shown(found)}")
    return found


class Downlink:
    """Base class of downlinks: what the server sends to the workers.

    Its methods return what the workers now know, and what they receive.

    Attributes
    ----------
    replicated : bool
        Whether every worker does itself what the server does, so that nothing is sent down.
    dtype : str
        The format of the weights that workers hold, in which they compute: "float32", or "float64".

    Examples
    --------
    A downlink of your own derives from `Broadcast`, and here sends all weights as float16:

    >>> import numpy as np, qsim
    >>> from qsim.weights import Replica
    >>> @qsim.option
    ... class HalfWeights(qsim.downlinks.Broadcast):
    ...     def weights(self, w, state, key):
    ...         halves = w.dense().astype(np.float16)
    ...         return Replica(halves.astype(np.float32)), qsim.downlinks.Sent(bits=8 * halves.nbytes)
    >>> trace = qsim.simulate(
    ...     "spark_sample",
    ...     objective=qsim.LogisticRegression(l2=0.1),
    ...     method=qsim.GradientDescent(step=0.1),
    ...     downlink=HalfWeights(),
    ...     rounds=1,
    ... )
    >>> int(trace.frame["bits_down"].iloc[-1])  # 16 bits for each of 16 weights, to each of 8 workers
    2048
    """

    replicated: ClassVar[bool] = False

    dtype: Literal["float32", "float64"] = "float32"

    def __init_subclass__(cls, **options: Any) -> None:
        """Have what the methods of a user's own return checked, before a kernel takes it."""
        super().__init_subclass__(**options)
        for name, door in (
            ("start", _arrays_at_the_door),
            ("weights", _weights_at_the_door),
            ("aggregate", _sum_at_the_door),
        ):
            if cls.__module__.partition(".")[0] != "qsim" and name in vars(cls):
                setattr(cls, name, door(vars(cls)[name]))

    def start(self, w: Weights) -> Arrays:
        """Return what the server and the workers both keep, as it is before the first round.

        Parameters
        ----------
        w : Weights
            The weights of round 0.

        Returns
        -------
        dict of ndarray
            Arrays by name; empty by default.
        """
        return {}

    def aggregate(self, total: Vectors, state: Arrays, key: Key) -> tuple[Vectors, Sent]:
        """Return the sum that server and workers both apply; called after the server has summed.

        Parameters
        ----------
        total : Vectors
            The sum: one float64 row.
        state : dict of ndarray
            What both ends keep, to be changed in place.
        key : Key
            The random stream of this exchange.

        Returns
        -------
        applied : Vectors
            The sum that is applied; by default the sum itself, which the workers need not know.
        sent : Sent
            What each worker receives.
        """
        return total, Sent()

    def plan_weights(self, plan: Plan) -> PlannedReplica:
        """Have a plan send the weights of a round to the workers; return how they have them.

        Raises NoProgram where that cannot be planned.
        """
        raise NoProgram

    def plan_sum(self, plan: Plan, total: Vectors) -> Vectors:
        """Have a plan do what `aggregate` does with a sum; return where what is applied is."""
        if type(self).aggregate is not Downlink.aggregate:
            raise NoProgram
        return total


class Broadcast(Downlink, ABC):
    """Base class of downlinks that send the same to all workers.

    Attributes
    ----------
    to_all : bool
        Whether the weights are sent to all workers, also to those that take no part in a round.
    """

    to_all: ClassVar[bool] = False

    @abstractmethod
    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        """Return the weights that the workers compute at; called before they do.

        Parameters
        ----------
        w : Weights
            The weights of the server.
        state : dict of ndarray
            What both ends keep, to be changed in place.
        key : Key
            The random stream of this exchange.

        Returns
        -------
        weights : Replica
            The weights of the workers.
        sent : Sent
            What each worker receives.
        """
