"""A downlink by which workers ask for what they need."""

from __future__ import annotations

from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Levels, Memory, Vectors, index_type
from qsim.channel import Channel
from qsim.codecs import Codec, Varint
from qsim.compressors import Compressor
from qsim.downlinks.base import Downlink, Sent
from qsim.downlinks.wire import through
from qsim.options import one_of, option
from qsim.weights import Weights


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
        known, sent = through(self.dtype, w.at(asked))
        return known.astype(np.float32, copy=False), sent
