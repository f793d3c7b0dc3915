"""The conservative random stream, for any compressor."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Memory, Message, Vectors
from qsim.compressors.alias import Alias
from qsim.compressors.base import Compressor
from qsim.options import option


@final
@option
class Philox(Alias):
    """The same compressor, whose coordinates draw from Philox 4x32-10 instead of the default hash.

    The default stream is a keyed 32-bit hash of the coordinate, made for speed, and both pass the same battery of tests
    (`tests/test_streams.py`). Philox is the generator to compare with when a result might hang on the random numbers;
    it is some 2 to 8 times as slow. Everything else is as in the compressor. (Positions of `RandK` and the orders of
    rotations come from SplitMix64 in both; a compressor in plain NumPy has Philox from `key.generator()` anyway.)

    It goes inside `ErrorFeedback`, which has a memory: `ErrorFeedback(Philox(c))`.

    Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    >>> import qsim
    >>> compressor, v = qsim.QSGD(levels=1), [1.0] * 16
    >>> compressor.quantize(v, qsim.Key(0)).index.tolist()
    [6, 8, 9, 10, 11, 15]
    >>> qsim.Philox(compressor).quantize(v, qsim.Key(0)).index.tolist()
    [2, 8, 12, 13, 14]

    Raises ValueError for a compressor with a memory.
    """

    compressor: Compressor

    def __post_init__(self) -> None:
        if not isinstance(self.compressor, Compressor):
            raise TypeError(f"compressor must be a Compressor such as qsim.QSGD(levels=4), found {self.compressor!r}")
        if type(self.compressor).memory is not Compressor.memory:
            raise ValueError(f"{self.compressor!r} has a memory: put Philox inside, around the compressor in it")

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        return self.compressor.compress(v, _signed(keys), memory)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        return self.compressor.decompress(message, _signed(keys))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        from qsim.compressors.bernoulli import Bernoulli
        from qsim.compressors.qsgd import QSGD

        return (cls(QSGD(levels=4)), cls(Bernoulli(p=0.25)))


def _signed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the same words as signed numbers, which is how kernels know the stream."""
    return keys.view(np.int64)
