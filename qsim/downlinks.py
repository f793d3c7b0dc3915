"""Downlinks: what the server sends to the workers, so that they know the weights of the next round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Vectors
from qsim.channel import Channel
from qsim.codecs import Codec, Dense, SparseFloats
from qsim.compressors import Compressor, Identity, Sign
from qsim.compressors.signs import TIE
from qsim.keys import Key
from qsim.options import one_of, option
from qsim.weights import Replica, Weights

_NO_KEY = Key(0)  # the identity draws nothing


@dataclass(frozen=True)
class Sent:
    """The bits of what was sent to a worker, and those of the stream's header if this opened the stream."""

    bits: int = 0
    header: int = 0


class Downlink(ABC):
    """A choice of what is broadcast. Both methods return what the workers now know, and what each of them receives.

    `state` is what the server and the workers both keep for it (arrays, see `start`), `key` that of this exchange.
    """

    to_all: ClassVar[bool] = False
    """Whether the weights go to all workers, also to those who take no part in a round."""

    def start(self, w: Weights) -> Arrays:
        """Return what both ends keep, before the first round: arrays, none here."""
        return {}

    @abstractmethod
    def weights(self, w: Weights, state: Arrays, key: Key, first: bool) -> tuple[Replica, Sent]:
        """Before the workers compute: the weights that they compute at. `first`: the stream has not been opened yet."""

    def aggregate(self, total: Vectors, state: Arrays, key: Key, first: bool) -> tuple[Vectors, Sent]:
        """After the server summed: the sum that both ends apply. Here the workers need not know it."""
        return total, Sent()


@final
@option
class DenseWeights(Downlink):
    """The parameter server of the lectures: every round each worker receives all n weights, 32 n (or 64 n) bits."""

    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "float64"))

    def weights(self, w: Weights, state: Arrays, key: Key, first: bool) -> tuple[Replica, Sent]:
        known, sent = through(self.dtype, w.dense(), first)
        return Replica(known.astype(np.float32, copy=False)), sent


@final
@option
class CompressedWeights(Downlink):
    """Compressed both ways: the server sends C(w - known), and both ends add it to what is known of the weights.

    Workers compute at `known`, which starts at the start (a function of the seed, known to all). What C leaves out
    stays in the difference w - known and is sent later: that is the server's error memory. Every worker receives every
    message, also those who sit out a round. A contraction keeps `known` near the weights; an unbiased C with omega >= 1
    does not: wrap it in `Scaled`. Costs the server O(n) a round.

    Source: e.g. Gruntkowska, Tyurin, Richtarik, "EF21-P and friends", ICML 2023 (EF21-P, the primal error feedback);
    Tang et al., "DoubleSqueeze", ICML 2019.

    >>> import qsim
    >>> qsim.downlinks.CompressedWeights(qsim.compressors.TopK(10)).codec is None
    True

    Raises ValueError for a compressor that is no contraction, and for a codec that cannot carry its messages.
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

    def weights(self, w: Weights, state: Arrays, key: Key, first: bool) -> tuple[Replica, Sent]:
        channel, known = Channel(self.compressor, self.codec), state["known"]
        header, packets = channel.pack(Vectors.dense(w.dense() - known), key.words(0, 1))
        channel.unpack(header, packets, key.words(0, 1)).add_to(known)
        return Replica(known.astype(np.float32)), Sent(packets.bits, 8 * len(header) * first)


@final
@option
class SparseSum(Downlink):
    """The weighted sum of the decoded messages, its non-zeros as float32: each worker applies it to its own weights.

    The server applies the same rounded sum, so that all copies of the weights stay equal, and the start is known to all
    (it is a function of the seed); weights are never sent.
    """

    def weights(self, w: Weights, state: Arrays, key: Key, first: bool) -> tuple[Replica, Sent]:
        return Replica(w.vector.astype(np.float32), w.scale), Sent()

    def aggregate(self, total: Vectors, state: Arrays, key: Key, first: bool) -> tuple[Vectors, Sent]:
        received, sent = _through(Channel(Identity(), SparseFloats()), total, _NO_KEY, first)
        return Vectors(received.n, received.offsets, received.index, received.value.astype(np.float64)), sent


@final
@option
class SignSum(Downlink):
    """The signs of the weighted sum, +1 for zero, a bit a coordinate: each worker applies them to its own weights.

    For `qsim.methods.SignSGD`, whose server needs no more than the vote. As with `SparseSum` weights are never sent.
    """

    def weights(self, w: Weights, state: Arrays, key: Key, first: bool) -> tuple[Replica, Sent]:
        return Replica(w.vector.astype(np.float32), w.scale), Sent()

    def aggregate(self, total: Vectors, state: Arrays, key: Key, first: bool) -> tuple[Vectors, Sent]:
        votes = total.to_dense()
        received, sent = _through(
            Channel(Sign()), Vectors.dense(np.where(np.abs(votes) > TIE, votes, 0.0)), _NO_KEY, first
        )
        return Vectors.dense(received.to_dense().astype(np.float64)), sent


def through(
    dtype: Literal["float32", "float64"], vector: NDArray[np.float64], first: bool
) -> tuple[NDArray[np.floating], Sent]:
    """Send a dense vector as bytes; return it as it arrives, and its bits (with the stream header the first time)."""
    known, sent = _through(Channel(Identity(), Dense(dtype)), Vectors.dense(vector), _NO_KEY, first)
    return known.value, sent


def _through(channel: Channel, v: Vectors, key: Key, first: bool) -> tuple[Vectors, Sent]:
    """Send one vector as bytes; return it decoded, and its bits (with the stream header the first time)."""
    header, packets = channel.pack(v, key.words(0, 1))
    return channel.unpack(header, packets, key.words(0, 1)), Sent(packets.bits, 8 * len(header) * first)
