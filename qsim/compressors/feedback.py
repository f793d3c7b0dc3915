"""Error feedback: what a contraction leaves out is remembered, and sent later."""

from __future__ import annotations

from typing import Literal, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Memory, Message, Support, Vectors, dense_offsets
from qsim.batch.planned import plan_add
from qsim.compressors.base import Compressor, require_compressor, require_finite
from qsim.compressors.compose import Compose
from qsim.compressors.plans import with_own_plan
from qsim.compressors.scaled import Scaled
from qsim.compressors.wrapper import Wrapper
from qsim.options import option
from qsim.program import Program


@final
@option
class ErrorFeedback(Wrapper):
    r"""Error feedback: what a contraction leaves out is remembered, and sent later (EF14).

    A worker sends :math:`C(e + v)` and keeps :math:`e \leftarrow e + v - C(e + v)`, where :math:`v` is the update, step
    times gradient, so the memory sees the step. Without a memory, for a single vector, it is :math:`C` itself.

    Parameters
    ----------
    compressor : Compressor
        The contraction :math:`C`.

    Raises
    ------
    TypeError
        If it is not a compressor.
    ValueError
        If it is not a contraction (around one with :math:`\omega > 1` the memory would diverge), or has a memory.

    Notes
    -----
    The memory of a worker lives on the support of its shard, and so does what it compresses:
    :math:`O(\mathrm{support})` per round and worker, also in a mini-batch round.

    References
    ----------
    .. [1] Seide et al., Interspeech 2014.
    .. [2] Stich, Cordonnier, Jaggi, NeurIPS 2018, Algorithm 1.
    .. [3] Karimireddy et al., ICML 2019.

    Examples
    --------
    >>> import qsim
    >>> qsim.ErrorFeedback(qsim.Scaled(qsim.QSGD(levels=4))).contraction(16)
    0.8
    """

    compressor: Compressor

    def __post_init__(self) -> None:
        require_compressor("compressor", self.compressor, "one memory is enough", together=True)
        if self.compressor.contraction(1) is None:
            raise ValueError(f"ErrorFeedback needs a contraction, found {self.compressor!r}{_advice(self.compressor)}")

    @property
    def dtype(self) -> Literal["float32", "float16", "bfloat16"]:
        return self.compressor.dtype

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        if memory is None:
            return self.compressor.compress(v, keys)
        require_finite(v)
        total = memory.plus("error", v)
        memory.pending["error"] = total.value  # the memory itself changes when it is known what was delivered
        return self.compressor.compress(total, keys)

    def memory(self, support: Support) -> Memory:
        """Return a zero error for every worker: on its support, or everywhere if the compressor fills in zeros."""
        if not self.keeps_sparse:
            support = Support(support.n, dense_offsets(support.offsets.size - 1, support.n), None)
        return Memory.zeros(support, "error")

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        total = v if memory is None else self.plan_total(program, v, memory)
        return with_own_plan(self.compressor).plan(program, total, keys)

    def plan_total(self, program: Program, v: Vectors, memory: Memory) -> Vectors:
        """Have a program add the errors to vectors; return where the sum is."""
        from qsim.kernels.rounds import copy, first_wrong

        program.call(first_wrong, v.offsets, v.value, stop="not negative")
        of, error = memory.support, memory.arrays["error"]
        memory.planned["error"] = total = np.empty_like(error)
        program.call(copy, error, total)
        plan_add(program, of, total, v, 1.0)
        return Vectors(of.n, of.offsets, of.index, total)

    def plan_on_delivered(self, program: Program, memory: Memory, sent: Vectors) -> None:
        from qsim.kernels.rounds import copy

        error = memory.arrays["error"]
        program.call(copy, memory.planned["error"], error)
        plan_add(program, memory.support, error, sent, -1.0)

    def on_delivered(self, memory: Memory, sent: Vectors) -> None:
        if "error" not in memory.pending:
            raise ValueError("nothing was compressed with this memory since on_delivered was last called")
        memory.arrays["error"][:] = memory.pending.pop("error")
        memory.add("error", sent, -1.0)

    def contraction(self, n: int) -> float | None:
        """Return that of the compressor."""
        return self.compressor.contraction(n)

    def exact_variance(self, v: ArrayLike) -> float | None:
        """Return that of the compressor: for a bare vector, without a memory."""
        return self.compressor.exact_variance(v)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        from qsim.compressors.qsgd import QSGD
        from qsim.compressors.scaled import Scaled
        from qsim.compressors.signs import OneBit, ScaledSign
        from qsim.compressors.topk import TopK

        return (cls(Scaled(QSGD(levels=4))), cls(TopK(k=10)), cls(ScaledSign()), cls(OneBit(support_only=True)))


def _advice(compressor: Compressor) -> str:
    """Say how a compressor becomes a contraction."""
    if compressor.variance(1) is not None:
        return f"; an unbiased compressor becomes one as {Scaled(compressor)!r}"
    if isinstance(compressor, Compose) and compressor.second.variance(1) is not None:
        return f"; it becomes one as {Compose(compressor.first, Scaled(compressor.second))!r}"
    return ""
