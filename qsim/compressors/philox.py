"""The conservative random stream, for any compressor."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Memory, Message, Vectors
from qsim.compressors.alias import Alias
from qsim.compressors.base import Compressor
from qsim.compressors.plans import with_own_plan
from qsim.options import option
from qsim.program import Program


@final
@option
class Philox(Alias):
    """The random stream Philox 4x32-10, for any compressor.

    The compressor is the same, but its coordinates draw from Philox instead of the default stream, a keyed 32-bit hash
    of the coordinate that is made for speed. Both pass the same battery of tests (`tests/kernels/test_streams.py`).

    Parameters
    ----------
    compressor : Compressor
        The compressor.

    Raises
    ------
    TypeError
        If it is not a compressor.
    ValueError
        If it has a memory: write `ErrorFeedback(Philox(c))`.

    Notes
    -----
    Philox is the generator to compare with if a result might depend on the random numbers; it is about 2 to 8 times as
    slow. Positions of `RandK` and the permutations of rotations come from SplitMix64 in both; a compressor in plain
    NumPy has Philox from `key.generator()` anyway.

    References
    ----------
    .. [1] Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import qsim
    >>> compressor, v = qsim.QSGD(levels=1), [1.0] * 16
    >>> compressor.quantize(v, qsim.Key(0)).index.tolist()
    [6, 8, 9, 10, 11, 15]
    >>> qsim.Philox(compressor).quantize(v, qsim.Key(0)).index.tolist()
    [2, 8, 12, 13, 14]
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

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        return with_own_plan(self.compressor).plan(program, v, _signed(keys), memory)

    def plan_decompress(self, program: Program, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        return self.compressor.plan_decompress(program, message, _signed(keys))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        from qsim.compressors.bernoulli import Bernoulli
        from qsim.compressors.qsgd import QSGD

        return (cls(QSGD(levels=4)), cls(Bernoulli(p=0.25)))


def _signed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the same words as signed numbers, which is how kernels know the stream."""
    return keys.view(np.int64)
