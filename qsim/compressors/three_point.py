"""A three-point compressor: an unbiased message of a change, and a contraction of what it leaves."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Blocks, Memory, Message, Support, Vectors, dense_offsets, index_type
from qsim.compressors.base import Compressor, as_float32, require_compressor
from qsim.options import option


@final
@option
class ThreePCv2(Compressor):
    r"""3PCv2: an unbiased message of how a gradient has changed, and a contraction of what that leaves.

    For `EF21`, of which a worker with the gradient :math:`x` has the shift :math:`h`, and had the gradient :math:`y` in
    the round before: :math:`b = h + Q(x - y)`, and the next shift is :math:`b + C(x - b)`. `EF21` compresses
    :math:`v = x - h`, so what is sent is :math:`Q(v - e)` and :math:`C(v - Q(v - e))`, where :math:`e = y - h` is what
    the last message has left of :math:`v`; it is zero at first. Both are sent in one packet, and their sum is added to
    :math:`h`.

    Parameters
    ----------
    first : Compressor
        The unbiased compressor :math:`Q`.
    second : Compressor
        The contraction :math:`C`.

    Raises
    ------
    TypeError
        If one of them is not a compressor.
    ValueError
        If `first` states no variance or `second` no contraction, and for one with a memory or for workers that draw
        together. In a `Run`: for another method than `EF21`.

    Notes
    -----
    `three_point` has :math:`A = \delta` and :math:`B = (1 - \delta) \omega`, so `EF21` takes the step
    :math:`a = 1 / (L + M \sqrt{B/A})`, and if :math:`\mu > 0` the smaller of :math:`1 / (L + M \sqrt{2 B/A})` and
    :math:`A/(2 \mu)`. If :math:`Q` is exact, that is the step of gradient descent. It is derived here, in
    `docs/theory.md`. The paper, with the same :math:`A` and :math:`B` (read in its authors' code), has the quadratic
    mean of the :math:`L_i` for :math:`M`: `EF21(step=qsim.methods.Richtarik2021())`. No step is known for clients who
    sit out rounds, or for sums that come down compressed.

    At equal numbers of coordinates the step is never longer than that of `TopK`: :math:`k/2` of `RandK` and :math:`k/2`
    of `TopK` have :math:`\sqrt{B/A} = 2 n/k - 1`, `TopK(k)` has :math:`\sqrt{\beta/\theta}` below that, and near it for
    small :math:`k`. Without a memory, for a single vector, :math:`e` is zero.

    Messages are `Blocks` of :math:`2 n` coordinates, that of :math:`Q` beside that of :math:`C`, by
    `qsim.codecs.Blockwise` of the usual codec of each. The two draw from different keys, `key.fold(0)` and
    `key.fold(1)`. Precision: :math:`v - e`, :math:`v - Q` and the sum are rounded to float32. Sparse vectors stay
    sparse if both keep them so.

    References
    ----------
    .. [1] Richtarik, Sokolov, Gasanov, Fatkhullin, Li, Gorbunov, "3PC: three point compressors for
           communication-efficient distributed training and a better theory for lazy aggregation", ICML 2022.

    Examples
    --------
    >>> import qsim
    >>> compressor = qsim.ThreePCv2(qsim.RandK(8), qsim.TopK(8))
    >>> compressor.three_point(32)  # delta = 1/4, omega = 3
    (0.25, 2.25)
    """

    first: Compressor
    second: Compressor

    emits = Blocks

    def __post_init__(self) -> None:
        for name, part in (("first", self.first), ("second", self.second)):
            require_compressor(name, part, "ThreePCv2 has one of its own")
        if self.first.variance(1) is None:
            raise ValueError(f"first must be unbiased and state its variance, found {self.first!r}")
        if self.second.contraction(1) is None:
            advice = "" if self.second.variance(1) is None else f": take qsim.Scaled({self.second!r})"
            raise ValueError(f"second must be a contraction, found {self.second!r}{advice}")

    @property
    def keeps_sparse(self) -> bool:
        return self.first.keeps_sparse and self.second.keeps_sparse

    @property
    def asymptotic(self) -> bool:
        """Whether one of the certificates holds as n grows only."""
        return self.first.asymptotic or self.second.asymptotic

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Blocks:
        """Compress a batch twice. Raises NotFiniteError for NaN, infinity and what one of the two refuses."""
        from qsim.kernels.bernoulli import fold_each

        v = as_float32(v)
        if memory is not None:
            change, of = memory.less(v, "left"), memory.support
            v = Memory(of, {"": np.zeros(of.offsets[-1], np.float32)}).plus("", v)
            memory.pending["left"] = v.value
        else:
            v = change = v if self.keeps_sparse else Vectors.dense(v.to_dense())
        first = self.first.compress(change, words := fold_each(keys, 0))
        rest = Memory(Support(v.n, v.offsets, v.index), {"": v.value.copy()})
        rest.add("", self.first.decompress(first, words), -1.0)
        return Blocks.of([first, self.second.compress(rest.vectors(""), fold_each(keys, 1))])

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return the sum of both. Raises ValueError for a message of other blocks."""
        from qsim.kernels.bernoulli import fold_each

        sizes = [block.n for block in message.blocks] if isinstance(message, Blocks) else []
        if len(sizes) != 2 or sizes[0] != sizes[1]:
            raise ValueError(f"{self!r} makes two blocks of equal length, the message has blocks of {sizes}")
        assert isinstance(message, Blocks)
        parts = zip((self.first, self.second), message.blocks, strict=True)
        return _sum(*(part.decompress(block, fold_each(keys, number)) for number, (part, block) in enumerate(parts)))

    def three_point(self, n: int) -> tuple[float, float]:
        """Return A = delta and B = (1 - delta) omega."""
        delta, omega = self.second.contraction(n), self.first.variance(n)
        assert delta is not None
        assert omega is not None
        return delta, (1 - delta) * omega

    def memory(self, support: Support) -> Memory:
        """Return a zero for every coordinate of every worker: on its support, or everywhere if zeros are filled in."""
        if not self.keeps_sparse:
            support = Support(support.n, dense_offsets(support.offsets.size - 1, support.n), None)
        return Memory.zeros(support, "left")

    def on_delivered(self, memory: Memory, sent: Vectors) -> None:
        if "left" not in memory.pending:
            raise ValueError("nothing was compressed with this memory since on_delivered was last called")
        memory.arrays["left"][:] = memory.pending.pop("left")
        memory.add("left", sent, -1.0)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        from qsim.compressors.qsgd import QSGD
        from qsim.compressors.randk import RandK
        from qsim.compressors.signs import ScaledSign
        from qsim.compressors.topk import TopK

        return cls(RandK(10), TopK(10)), cls(QSGD(levels=4), ScaledSign())


def _sum(a: Vectors, b: Vectors) -> Vectors:
    """Return the sums of the rows of two batches; sparse if both are."""
    if a.index is None or b.index is None:
        return Vectors.dense(a.to_dense() + b.to_dense())
    from scipy.sparse import csr_array

    total = csr_array((a.value, a.index, a.offsets), (a.rows, a.n)) + csr_array(
        (b.value, b.index, b.offsets), (b.rows, b.n)
    )
    return Vectors(a.n, total.indptr.astype(np.int64), total.indices.astype(index_type(a.n)), total.data)
