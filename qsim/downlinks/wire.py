"""Vectors on their way down, as bytes."""

from __future__ import annotations

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
    """Send a dense vector as bytes; return it as it arrives, and its bits."""
    known, sent = unpacked(Channel(Identity(), Dense(dtype)), Vectors.dense(vector))
    return known.value, sent


def unpacked(channel: Channel, v: Vectors) -> tuple[Vectors, Sent]:
    """Send one vector as bytes; return it decoded, and its bits."""
    header, packets = channel.pack(v, _NO_KEY.words(0, 1))
    return channel.unpack(header, packets, _NO_KEY.words(0, 1)), Sent(packets.bits, 8 * len(header))
