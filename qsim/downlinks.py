"""Downlinks: what the server sends to the workers, so that they know the weights of the next round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from qsim.arrays import arrays_by_name, reals
from qsim.batch import Arrays, Floats, Levels, Memory, Vectors, index_type
from qsim.batch.checks import require_rows
from qsim.channel import Channel
from qsim.codecs import Codec, Dense, SparseFloats, Varint
from qsim.compressors import Compressor, Identity, Sign
from qsim.compressors.signs import TIE
from qsim.keys import Key
from qsim.options import one_of, option, real, shown, whole
from qsim.plan import Plan
from qsim.program import NoProgram
from qsim.weights import PlannedReplica, Replica, Weights

_NO_KEY = Key(0)  # the identity draws nothing


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


@final
@option
class DenseWeights(Broadcast):
    """All weights to every worker, every round: the usual parameter server.

    Each worker receives 32 n (or 64 n) bits.

    Parameters
    ----------
    dtype : {"float32", "float64"}, default "float32"
        The format of a weight.

    Raises
    ------
    ValueError
        For another dtype.

    Notes
    -----
    Weights that a worker already holds are not sent again: those of an earlier exchange, if the method has not changed
    them since.

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.DenseWeights(dtype="float64")
    qsim.downlinks.DenseWeights(dtype='float64')
    """

    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "float64"))

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        known, sent = through(self.dtype, w.dense())
        return Replica(known.astype(np.float32, copy=False)), sent

    def plan_weights(self, plan: Plan) -> PlannedReplica:
        plan.sent_down(plan.weights.vector.size * (32 if self.dtype == "float32" else 64))
        return plan.rounded_weights()


@final
@option
class _Wanted(Compressor):
    """Sends coordinates, as levels of 1 of a scale that is always 1 and is not sent."""

    emits = Levels

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        ones = np.ones(v.value.size, np.int32)
        index = np.tile(np.arange(v.n, dtype=index_type(v.n)), v.rows) if v.index is None else v.index
        return Levels(v.n, v.offsets, index, ones, np.ones(v.rows, np.float32), 1, fixed=1.0)


@final
@option
class SparsePull(Downlink):
    """Only the weights that a worker asks for.

    Each worker asks for the weights that its next rows read, and receives these: 32 bits (or 64) for each.

    Parameters
    ----------
    codec : Codec, default `Varint()`
        The codec of the request: the coordinates, as a message of ones.
    dtype : {"float32", "float64"}, default "float32"
        The format of a weight.

    Raises
    ------
    ValueError
        For a codec that does not carry levels, and for another dtype.

    Notes
    -----
    The request counts in `bits_up`. What a method reads is what `Method.reads` says: the rows of a batch for `SGD`,
    `DIANA`, `EF21` and `SignSGD` with one, otherwise all rows of the worker (for `LocalSGD` too, which uses all its
    features). The weights are those of `DenseWeights`, to the last bit. Exact float64 exchanges (`LBFGS`, `NewtonCG`)
    send all weights, after which there is nothing to ask for.

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.SparsePull(codec=qsim.codecs.GolombRice()).dtype
    'float32'
    """

    codec: Codec = Varint()
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "float64"))
        if not isinstance(self.codec, Codec) or Levels not in self.codec.carries:
            raise ValueError(f"codec must carry levels, as qsim.codecs.Varint() does, found {self.codec!r}")

    @property
    def requests(self) -> Channel:
        """The channel of the requests: messages of ones at the coordinates."""
        return Channel(_Wanted(), self.codec)

    def answer(self, w: Weights, asked: NDArray[np.integer]) -> tuple[NDArray[np.float32], Sent]:
        """Send the weights at the coordinates that all workers asked for; return them as they arrive, and the bits.

        The bits are those of all workers together, and the header that of each.
        """
        known, sent = through(self.dtype, w.scale * w.vector[asked])
        return known.astype(np.float32, copy=False), sent


@final
@option
class CompressedWeights(Broadcast):
    """Compressed differences of the weights, with error feedback on the server.

    The server sends C(w - known), and both ends add it to `known`, at which the workers compute. What C leaves out
    stays in the difference w - known and is sent later: this is the error memory of the server.

    Parameters
    ----------
    compressor : Compressor
        The compressor C, a contraction.
    codec : Codec, optional
        The codec of its messages; the compressor's usual one by default.

    Raises
    ------
    ValueError
        For a compressor that is no contraction or has a memory, and for a codec that cannot carry its messages.

    Notes
    -----
    `known` starts at the start of the run (a function of the seed, known to all), or at the weights themselves if an
    exact exchange has just sent them. Every worker receives every message, also those that sit out a round. A
    contraction keeps `known` near the weights; an unbiased C with omega >= 1 does not: wrap it in `Scaled`. The server
    needs O(n) time a round.

    References
    ----------
    .. [1] E.g. Gruntkowska, Tyurin, Richtarik, "EF21-P and friends", ICML 2023 (EF21-P, the primal error feedback).
    .. [2] Tang et al., "DoubleSqueeze", ICML 2019.

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.CompressedWeights(qsim.compressors.TopK(10)).codec is None
    True
    """

    compressor: Compressor
    codec: Codec | None = None

    to_all = True

    def __post_init__(self) -> None:
        Channel(self.compressor, self.codec)  # refuses what does not fit
        if self.compressor.contraction(1) is None:
            raise ValueError(
                f"CompressedWeights needs a contraction, found {self.compressor!r}; an unbiased compressor becomes one"
                " as qsim.Scaled(...)"
            )
        if type(self.compressor).memory is not Compressor.memory:
            raise ValueError(f"the server's difference is its memory already: take {self.compressor!r} without one")

    def start(self, w: Weights) -> Arrays:
        return {"known": w.dense()}

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        channel, known = Channel(self.compressor, self.codec), state["known"]
        header, packets = channel.pack(Vectors.dense(w.dense() - known), key.words(0, 1))
        channel.unpack(header, packets, key.words(0, 1)).add_to(known)
        return Replica(known.astype(np.float32)), Sent(packets.bits, 8 * len(header))

    def plan_weights(self, plan: Plan) -> PlannedReplica:
        from qsim.kernels.rounds import add_row, copy, difference

        call, weights, known = plan.program.call, plan.weights, plan.shared["known"]
        less, ahead, keys = Vectors.dense(np.empty(known.size, np.float32)), np.empty_like(known), plan.key_down()
        call(difference, weights.scale, weights.vector, known, less.value)
        received, packets = Channel(self.compressor, self.codec).plan(plan.program, less, keys)
        call(copy, known, ahead)
        call(add_row, received.offsets, received.index, received.value, 1.0, ahead)
        plan.at_the_end(copy, ahead, known)
        plan.sent_down(packets)
        return PlannedReplica(ahead)


@final
@option
class SparseSum(Broadcast):
    """The weighted sum of the decoded messages, its non-zeros as float32.

    Each worker applies the sum to its own copy of the weights, which are never sent. The server applies the same
    rounded sum, so that all copies stay equal; the start is known to all (it is a function of the seed).

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.SparseSum()
    qsim.downlinks.SparseSum()
    """

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        return Replica(w.vector.astype(np.float32), w.scale), Sent()

    def aggregate(self, total: Vectors, state: Arrays, key: Key) -> tuple[Vectors, Sent]:
        received, sent = _through(Channel(Identity(), SparseFloats()), total, _NO_KEY)
        return Vectors(received.n, received.offsets, received.index, received.value.astype(np.float64)), sent

    def plan_weights(self, plan: Plan) -> PlannedReplica:
        return plan.own_weights()

    def plan_sum(self, plan: Plan, total: Vectors) -> Vectors:
        from qsim.kernels.rounds import round_nonzeros, widen

        size = total.value.size
        index, value = np.empty(size, index_type(total.n)), np.empty(size, np.float32)
        kept = Floats(total.n, np.zeros(2, np.int64), index, value)
        row = total.offsets, total.index, total.value
        plan.program.call(round_nonzeros, *row, kept.offsets, index, value, stop="not zero")
        message, packets = SparseFloats().plan(plan.program, kept)
        assert isinstance(message, Floats)
        plan.sent_down(packets)
        applied = Vectors(total.n, message.offsets, message.index, np.empty(size))
        plan.program.call(widen, message.offsets, message.value, applied.value)
        return applied


@final
@option
class SignSum(Broadcast):
    """The signs of the weighted sum, a bit a coordinate, for `qsim.methods.SignSGD`.

    Each worker applies the signs, +1 for zero, to its own copy of the weights; as with `SparseSum` weights are never
    sent.

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.SignSum()
    qsim.downlinks.SignSum()
    """

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        return Replica(w.vector.astype(np.float32), w.scale), Sent()

    def aggregate(self, total: Vectors, state: Arrays, key: Key) -> tuple[Vectors, Sent]:
        votes = total.to_dense()
        received, sent = _through(Channel(Sign()), Vectors.dense(np.where(np.abs(votes) > TIE, votes, 0.0)), _NO_KEY)
        return Vectors.dense(received.to_dense().astype(np.float64)), sent


@final
@option
class Replicated(Broadcast):
    """No server: every worker gets the sum by an all-reduce or an all-gather, and keeps the weights itself.

    Nothing is sent down, neither weights nor vectors beside them: every worker computes them. What the collective sends
    is in `bits_up`. For a `qsim.Network` whose topology has no server, and only for that.

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.Replicated().replicated
    True
    """

    replicated = True

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        return Replica(w.vector.astype(np.float32), w.scale), Sent()


def through(dtype: Literal["float32", "float64"], vector: NDArray[np.float64]) -> tuple[NDArray[np.floating], Sent]:
    """Send a dense vector as bytes; return it as it arrives, and its bits."""
    known, sent = _through(Channel(Identity(), Dense(dtype)), Vectors.dense(vector), _NO_KEY)
    return known.value, sent


def _through(channel: Channel, v: Vectors, key: Key) -> tuple[Vectors, Sent]:
    """Send one vector as bytes; return it decoded, and its bits."""
    header, packets = channel.pack(v, key.words(0, 1))
    return channel.unpack(header, packets, key.words(0, 1)), Sent(packets.bits, 8 * len(header))


__all__ = [
    "Broadcast",
    "CompressedWeights",
    "DenseWeights",
    "Downlink",
    "Replicated",
    "Sent",
    "SignSum",
    "SparsePull",
    "SparseSum",
]


def __dir__() -> list[str]:
    return __all__
