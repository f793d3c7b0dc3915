"""Vectors on their way down, as bytes."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.channel import Channel
from qsim.codecs import Dense
from qsim.compressors import Identity
from qsim.downlinks.base import Sent
from qsim.keys import Key

_NO_KEY = Key(0)  # nothing is drawn


def through(dtype: Literal["float32", "float64"], vector: NDArray[np.float64]) -> tuple[NDArray[np.floating], Sent]:
    """Send a dense vector as bytes, those of `Dense`; return it as it arrives, and its bits."""
    from qsim.kernels.rounds import to_float32

    rounded = np.empty(vector.size, dtype)
    if to_float32(vector, 1.0, rounded) if dtype == "float32" else not _all_finite(vector, rounded):
        unpacked(_channel(dtype), Vectors.dense(vector))  # which says what is wrong
    format_ = np.dtype(f"<f{rounded.itemsize}")
    packet = rounded.astype(format_, copy=False).view(np.uint8)
    return packet.view(format_).astype(dtype, copy=False), _sent(dtype, vector.size)


def _all_finite(vector: NDArray[np.float64], out: NDArray[np.float64]) -> bool:
    """Copy a vector; tell whether its numbers are finite."""
    out[:] = vector
    return bool(np.isfinite(vector).all())


@cache
def _channel(dtype: Literal["float32", "float64"]) -> Channel:
    return Channel(Identity(), Dense(dtype))


@cache
def _sent(dtype: Literal["float32", "float64"], n: int) -> Sent:
    """Return the bits of a dense vector, and of the header of a stream of such."""
    return unpacked(_channel(dtype), Vectors.dense(np.zeros(n)))[1]


def unpacked(channel: Channel, v: Vectors) -> tuple[Vectors, Sent]:
    """Send one vector as bytes; return it decoded, and its bits."""
    header, packets = channel.pack(v, _NO_KEY.words(0, 1))
    return channel.unpack(header, packets, _NO_KEY.words(0, 1)), Sent(packets.bits, 8 * len(header))
