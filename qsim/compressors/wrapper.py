"""Compressors around another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Message, Vectors
from qsim.compressors.base import Compressor
from qsim.program import Program


class Wrapper(Compressor):
    """Sends messages of the compressor inside, `compressor`, so the form of its messages is that of those.

    The form is all that is handed on: which kind they are, where they may be zero, how they are read and summed. What a
    wrapper makes of the values is its own, so certificates, exact variances and `dtype` are as in `Compressor`, unknown
    or the most cautious, unless it defines them.
    """

    if TYPE_CHECKING:  # a field or a property of the subclass

        @property
        def compressor(self) -> Compressor: ...

    @property
    def emits(self) -> type[Message]:
        return self.compressor.emits

    @property
    def dense(self) -> bool:
        return self.compressor.dense

    @property
    def asymptotic(self) -> bool:
        return self.compressor.asymptotic

    @property
    def summable(self) -> bool:
        return self.compressor.summable

    @property
    def correlated(self) -> int | None:
        return self.compressor.correlated

    @property
    def few_levels(self) -> bool:
        return self.compressor.few_levels

    @property
    def keeps_sparse(self) -> bool:
        return self.compressor.keeps_sparse

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        return self.compressor.decompress(message, keys)

    def plan_decompress(self, program: Program, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        return self.compressor.plan_decompress(program, message, keys)

    def expected_nonzeros(self, v: ArrayLike) -> float | None:
        """Return that of the compressor: for a bare vector, without a memory."""
        return self.compressor.expected_nonzeros(v)
