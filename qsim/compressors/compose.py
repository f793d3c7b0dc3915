"""Two compressors in a row."""

from __future__ import annotations

from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats, Memory, Message, Vectors
from qsim.batch.planned import plan_scaled
from qsim.compressors.base import Compressor, require_compressor
from qsim.compressors.plans import with_own_plan
from qsim.compressors.scaled import Scaled
from qsim.compressors.sparsifier import Sparsifier
from qsim.options import option
from qsim.program import Program


@final
@option
class Compose(Compressor):
    r"""Two compressors in a row.

    :math:`Q(v) = Q_2(Q_1(v))`: what `first` keeps is compressed with `second`. With :math:`m` the length that counts
    for `second` (the most entries that `first` keeps if `second` ignores zeros, as QSGD does, and :math:`n` otherwise):

    - both unbiased: unbiased, with variance :math:`\omega = (1 + \omega_1(n)) (1 + \omega_2(m)) - 1`;
    - `first` a contraction that keeps some coordinates unchanged (`TopK`), `second` a contraction that keeps zeros:
      :math:`\delta = \delta_1(n) \delta_2(m)`, since then
      :math:`\|Q(v) - v\|^2 = \|Q_1(v) - v\|^2 + \|Q_2(Q_1(v)) - Q_1(v)\|^2`.

    Parameters
    ----------
    first : Compressor
        The first compressor, :math:`Q_1`, whose messages are floats.
    second : Compressor
        The second compressor, :math:`Q_2`, which keeps zeros.

    Raises
    ------
    TypeError
        If one of them is not a compressor.
    ValueError
        If `first` makes no floats, if `second` fills in zeros, or if either has a memory.

    Notes
    -----
    `Compose(TopK(k), QSGD(s))` is neither: it is biased, and for small :math:`s` the error of the quantizer is larger
    than what was kept (:math:`1 - \delta = 1.8` for constant vectors of :math:`n = 1000` with :math:`k = 100`,
    :math:`s = 1`). `Compose(TopK(k), Scaled(QSGD(s)))` is a contraction with :math:`\delta = k/n / (1 + \omega(k))`: a
    `Scaled` second is scaled for vectors of length :math:`m`.

    The two draw from different keys, fold(key, 0) and fold(key, 1). A sparse vector stays sparse if `first` keeps it
    so.

    References
    ----------
    .. [1] Basu, Data, Karakus, Diggavi, "Qsparse-local-SGD", NeurIPS 2019 (QSGD of Top-k, plain and scaled).
    .. [2] Horvath et al., "Natural compression", MSML 2022, Theorem 5 (two unbiased compressors).

    Examples
    --------
    >>> import qsim
    >>> compressor = qsim.compressors.Compose(qsim.compressors.TopK(2), qsim.QSGD(levels=1))
    >>> compressor.quantize([3.0, 0.5, -4.0], qsim.Key(1)).vectors().to_dense().tolist()
    [[5.0, 0.0, -5.0]]
    """

    first: Compressor
    second: Compressor

    def __post_init__(self) -> None:
        for name, part in (("first", self.first), ("second", self.second)):
            require_compressor(name, part, "put it around the whole Compose")
        if self.first.emits is not Floats:
            raise ValueError(
                f"first must make Floats, whose zeros are not sent; {self.first!r} makes {self.first.emits.__name__}"
            )
        if not self.second.keeps_sparse:
            raise ValueError(
                f"second must keep zeros, or what {self.first!r} leaves out would be sent after all;"
                f" {self.second!r} does not"
            )

    @property
    def emits(self) -> type[Message]:
        return self.second.emits

    @property
    def few_levels(self) -> bool:
        return self.second.few_levels

    @property
    def keeps_sparse(self) -> bool:
        return self.first.keeps_sparse

    @property
    def asymptotic(self) -> bool:
        """Whether one of the certificates holds as n grows only."""
        return self.first.asymptotic or self.second.asymptotic

    @property
    def summable(self) -> bool:
        """Whether messages made with one key can be summed in flight: those of `second`."""
        return self.second.summable

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        """Compress a batch twice."""
        from qsim.kernels.bernoulli import fold_each

        keys1, keys2 = fold_each(keys, 0), fold_each(keys, 1)
        kept = self.first.decompress(self.first.compress(v, keys1), keys1)
        if isinstance(self.second, Scaled):
            message = self.second.compressor.compress(kept, keys2)
            return message.scaled(self.second.contraction(self.second_length(v.n)))
        return self.second.compress(kept, keys2)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        from qsim.kernels.bernoulli import fold_each

        return self.second.decompress(message, fold_each(keys, 1))

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        keys1, keys2 = _plan_keys(program, keys, 0), _plan_keys(program, keys, 1)
        first, second = with_own_plan(self.first), with_own_plan(self.second)
        kept = first.plan_decompress(program, first.plan(program, v, keys1), keys1)
        if isinstance(second, Scaled):
            message = with_own_plan(second.compressor).plan(program, kept, keys2)
            return plan_scaled(program, message, second.contraction(self.second_length(v.n)))
        return second.plan(program, kept, keys2)

    def plan_decompress(self, program: Program, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        return self.second.plan_decompress(program, message, _plan_keys(program, keys, 1))

    def variance(self, n: int) -> float | None:
        """Return omega = (1 + omega1(n)) (1 + omega2(m)) - 1; None unless both are unbiased."""
        omega1, omega2 = self.first.variance(n), self.second.variance(self.second_length(n))
        return None if omega1 is None or omega2 is None else (1 + omega1) * (1 + omega2) - 1

    def contraction(self, n: int) -> float | None:
        """Return delta = delta1(n) delta2(m); None unless both are contractions and `first` keeps what it keeps."""
        delta1, delta2 = self.first.contraction(n), self.second.contraction(self.second_length(n))
        return None if delta1 is None or delta2 is None or not self._projects else delta1 * delta2

    def bias_and_variance(self, n: int) -> tuple[float, float] | None:
        """Return sqrt(1 - delta1(n)) and omega2(m) if `second` is unbiased and `first` is `TopK`; else as ever."""
        from qsim.compressors.topk import TopK

        omega = self.second.variance(self.second_length(n))
        if omega is None or not isinstance(self.first, TopK):
            return super().bias_and_variance(n)
        return sqrt(1 - self.first.contraction(n)), omega

    def expected_nonzeros(self, v: ArrayLike) -> float | None:
        """Return that of `second` for what `first` keeps, if that is not random."""
        return self.second.expected_nonzeros(self._kept(v)) if self._projects else None

    def exact_variance(self, v: ArrayLike) -> float | None:
        """Return ||Q1(v) - v||^2 + E ||Q2(Q1(v)) - Q1(v)||^2, if `first` keeps entries as they are, not at random."""
        if not self._projects:
            return None
        kept = self._kept(v)
        if isinstance(self.second, Scaled):
            added = self.second.scaled_variance(kept, self.second.contraction(self.second_length(kept.size)))
        else:
            added = self.second.exact_variance(kept)
        return None if added is None else float(((np.asarray(v, np.float64) - kept) ** 2).sum()) + added

    @property
    def _projects(self) -> bool:
        return isinstance(self.first, Sparsifier) and self.first.projects

    def _kept(self, v: ArrayLike) -> NDArray[np.float64]:
        from qsim.keys import Key

        return self.first.quantize(v, Key(0)).vectors().row(0).astype(np.float64)

    def second_length(self, n: int) -> int:
        """Return the length of vectors whose certificate of `second` counts.

        Parameters
        ----------
        n : int
            The length of the vectors that are compressed.

        Returns
        -------
        int
            The most entries that `first` keeps if `second` ignores zeros, and n otherwise.
        """
        inner = self.second.compressor if isinstance(self.second, Scaled) else self.second
        return self.first.most_kept(n) if inner.ignores_zeros and isinstance(self.first, Sparsifier) else n

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        from qsim.compressors.qsgd import QSGD
        from qsim.compressors.randk import RandK
        from qsim.compressors.scaled import Scaled
        from qsim.compressors.topk import TopK

        return (cls(RandK(k=10), QSGD(levels=4)), cls(TopK(k=10), Scaled(QSGD(levels=4))))


def _plan_keys(program: Program, keys: NDArray[np.uint64], part: int) -> NDArray[np.uint64]:
    """Have a program mix a part into the words of keys; return where."""
    from qsim.kernels.bernoulli import fold_words

    words = np.empty_like(keys)
    program.call(fold_words, keys, part, words)
    return words
