"""Compressors that are others under a name of their own."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Memory, Message, Vectors
from qsim.compressors.plans import with_own_plan
from qsim.compressors.wrapper import Wrapper
from qsim.program import Program


class Alias(Wrapper):
    """Does what the compressor inside does: values and certificates are handed on as well."""

    @property
    def dtype(self) -> Literal["float32", "float16", "bfloat16"]:
        return self.compressor.dtype

    @property
    def ignores_zeros(self) -> bool:
        return self.compressor.ignores_zeros

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        return self.compressor.compress(v, keys, memory)

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        return with_own_plan(self.compressor).plan(program, v, keys, memory)

    def variance(self, n: int) -> float | None:
        return self.compressor.variance(n)

    def contraction(self, n: int) -> float | None:
        return self.compressor.contraction(n)

    def bias_and_variance(self, n: int) -> tuple[float, float] | None:
        return self.compressor.bias_and_variance(n)

    def joint_variance(self, n: int) -> tuple[float, float] | None:
        return self.compressor.joint_variance(n)

    def exact_variance(self, v: ArrayLike) -> float | None:
        return self.compressor.exact_variance(v)
