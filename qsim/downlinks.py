"""Downlinks: what the server sends to the workers, so that they know the weights of the next round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.channel import Channel
from qsim.codecs import Codec, Dense, SparseFloats
from qsim.compressors import Identity
from qsim.options import one_of, option
from qsim.weights import Replica, Weights

_NO_KEYS = np.zeros(1, np.uint64)  # the identity draws nothing


class Downlink(ABC):
    """A choice of what is broadcast. Both methods return what the workers now know, and the bits that each receives."""

    @abstractmethod
    def weights(self, w: Weights, first: bool) -> tuple[Replica, int]:
        """Before the workers compute: the weights that they compute at. `first`: the stream has not been opened yet."""

    @abstractmethod
    def aggregate(self, total: Vectors, first: bool) -> tuple[Vectors, int]:
        """After the server summed: the sum that both ends apply."""


@final
@option
class DenseWeights(Downlink):
    """The parameter server of the lectures: every round each worker receives all n weights, 32 n (or 64 n) bits."""

    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "float64"))

    def weights(self, w: Weights, first: bool) -> tuple[Replica, int]:
        known, bits = through(self.dtype, w.dense(), first)
        return Replica(known.astype(np.float32, copy=False)), bits

    def aggregate(self, total: Vectors, first: bool) -> tuple[Vectors, int]:
        return total, 0


@final
@option
class SparseSum(Downlink):
    """The weighted sum of the decoded messages, its non-zeros as float32: each worker applies it to its own weights.

    The server applies the same rounded sum, so that all copies of the weights stay equal, and the start is known to all
    (it is a function of the seed); weights are never sent.
    """

    def weights(self, w: Weights, first: bool) -> tuple[Replica, int]:
        return Replica(w.vector.astype(np.float32), w.scale), 0

    def aggregate(self, total: Vectors, first: bool) -> tuple[Vectors, int]:
        received, bits = _through(SparseFloats(), total, first)
        return Vectors(received.n, received.offsets, received.index, received.value.astype(np.float64)), bits


def through(
    dtype: Literal["float32", "float64"], vector: NDArray[np.float64], first: bool
) -> tuple[NDArray[np.floating], int]:
    """Send a dense vector as bytes; return it as it arrives, and its bits (with the stream header the first time)."""
    known, bits = _through(Dense(dtype), Vectors.dense(vector), first)
    return known.value, bits


def _through(codec: Codec, v: Vectors, first: bool) -> tuple[Vectors, int]:
    """Send one vector as bytes; return it decoded, and its bits (with the stream header the first time)."""
    channel = Channel(Identity(), codec)
    header, packets = channel.pack(v, _NO_KEYS)
    return channel.unpack(header, packets, _NO_KEYS), packets.bits + 8 * len(header) * first
