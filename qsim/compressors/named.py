"""Compressors that are others under a name of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Memory, Message, Vectors
from qsim.compressors.base import Compressor


class Named(Compressor, ABC):
    """Does what the compressor `same_as` does."""

    @property
    @abstractmethod
    def same_as(self) -> Compressor:
        """The compressor that this one is another name of."""

    @property
    def emits(self) -> type[Message]:
        return self.same_as.emits

    @property
    def dense(self) -> bool:
        return self.same_as.dense

    @property
    def dtype(self) -> Literal["float32", "float16", "bfloat16"]:
        return self.same_as.dtype

    @property
    def asymptotic(self) -> bool:
        return self.same_as.asymptotic

    @property
    def few_levels(self) -> bool:
        return self.same_as.few_levels

    @property
    def keeps_sparse(self) -> bool:
        return self.same_as.keeps_sparse

    @property
    def ignores_zeros(self) -> bool:
        return self.same_as.ignores_zeros

    @property
    def summable(self) -> bool:
        return self.same_as.summable

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        return self.same_as.compress(v, keys, memory)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        return self.same_as.decompress(message, keys)

    def variance(self, n: int) -> float | None:
        return self.same_as.variance(n)

    def contraction(self, n: int) -> float | None:
        return self.same_as.contraction(n)

    def expected_nonzeros(self, v: ArrayLike) -> float | None:
        return self.same_as.expected_nonzeros(v)

    def exact_variance(self, v: ArrayLike) -> float | None:
        return self.same_as.exact_variance(v)
