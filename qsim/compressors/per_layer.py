"""Blocks of coordinates with a compressor each."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Blocks, Memory, Message, Vectors
from qsim.batch.blocks import apart, beside
from qsim.compressors.base import Compressor, NotFiniteError, as_float32, require_compressor, require_finite
from qsim.options import option, whole


@final
@option
class PerLayer(Compressor):
    r"""Blocks of coordinates that are compressed separately, such as the layers of a network: each by its compressor.

    .. math::

        Q(v) = (C_1(v_1), C_2(v_2), \ldots),

    where :math:`v_1`, :math:`v_2`, ... are the blocks of :math:`v`, in their order. As the errors of the blocks add up,
    so does what is known of them: the largest variance, the smallest contraction, the largest bias.

    Parameters
    ----------
    layers : tuple of (int or None, Compressor)
        The size of each block, in coordinates, and its compressor. One size may be None: what the others leave.

    Raises
    ------
    TypeError
        If `layers` are not pairs of a size and a compressor.
    ValueError
        If there is no block, more than one size is None, a size is below 1, or a compressor has a memory or draws for
        several workers together. When compressing: if the sizes do not sum to the length of the vectors.

    Notes
    -----
    Each block has its own key, `key.fold(block)`, and the usual codec of its compressor (`qsim.codecs.Blockwise`); the
    length of its packet costs a byte or two. If all :math:`C_b` are unbiased, so is :math:`Q`, with :math:`\omega` =
    :math:`\max_b \omega_b(n_b)`, since
    :math:`\mathbb{E} \|Q(v) - v\|^2 = \sum_b \mathbb{E} \|C_b(v_b) - v_b\|^2 \leq \sum_b \omega_b \|v_b\|^2`. If all
    are contractions, so is :math:`Q`, in the same way, with :math:`\delta = \min_b \delta_b(n_b)`. A mix of both has
    :math:`\eta = \max_b \eta_b` and :math:`\omega = \max_b \omega_b` (`bias_and_variance`).

    The weights of `MultinomialLogistic` lie feature by feature, so blocks are groups of features; the intercept of
    `WithIntercept` is the last coordinate.

    References
    ----------
    .. [1] Dutta, Bergou, Abdelmoniem, Ho, Sahu, Canini, Kalnis, "On the Discrepancy between the Theoretical Analysis
       and Practical Implementations of Compressed Communication for Distributed Deep Learning", AAAI 2020. The
       constants are derived here.

    Examples
    --------
    >>> import qsim
    >>> compressor = qsim.PerLayer(((None, qsim.TopK(1)), (1, qsim.Identity())))
    >>> compressor.quantize([1.0, -5.0, 2.0, 0.5], qsim.Key(0)).vectors().to_dense().tolist()
    [[0.0, -5.0, 0.0, 0.5]]
    >>> compressor.contraction(4)
    0.3333333333333333
    """

    layers: tuple[tuple[int | None, Compressor], ...]

    emits = Blocks

    def __post_init__(self) -> None:
        if not isinstance(self.layers, tuple | list) or not all(
            isinstance(layer, tuple | list) and len(layer) == 2 for layer in self.layers
        ):
            raise TypeError(f"layers must be pairs of a size and a compressor, found {self.layers!r}")
        if not self.layers:
            raise ValueError("layers must hold a block at least, found none")
        sizes = [
            None if size is None else whole(f"the size of block {block}", size, least=1)
            for block, (size, _) in enumerate(self.layers)
        ]
        if sizes.count(None) > 1:
            raise ValueError(f"one size may be None, what the others leave; found {sizes.count(None)}")
        for block, (_, compressor) in enumerate(self.layers):
            require_compressor(
                f"the compressor of block {block}",
                compressor,
                "put it around the blocks, as ErrorFeedback(PerLayer(...))",
            )
        compressors = (compressor for _, compressor in self.layers)
        object.__setattr__(self, "layers", tuple(zip(sizes, compressors, strict=True)))

    @property
    def asymptotic(self) -> bool:
        """Whether the certificate of a block holds as its size grows only."""
        return any(compressor.asymptotic for compressor in self.compressors)

    @property
    def keeps_sparse(self) -> bool:
        return all(compressor.keeps_sparse for compressor in self.compressors)

    @property
    def compressors(self) -> tuple[Compressor, ...]:
        """The compressor of each block."""
        return tuple(compressor for _, compressor in self.layers)

    def sizes(self, n: int) -> list[int]:
        """Return the sizes of the blocks of vectors of length n.

        Parameters
        ----------
        n : int
            The length.

        Returns
        -------
        list of int
            The sizes, which sum to n.

        Raises
        ------
        ValueError
            If they do not.
        """
        known = sum(size for size, _ in self.layers if size is not None)
        sizes = [n - known if size is None else size for size, _ in self.layers]
        if sum(sizes) != n or min(sizes) < 1:
            rest = " and at least one more" if any(size is None for size, _ in self.layers) else ""
            raise ValueError(
                f"the {len(sizes)} blocks of {self!r} have {known}{rest} coordinates, the vectors have {n}"
            )
        return sizes

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Blocks:
        """Compress a batch block by block. Raises NotFiniteError for NaN, infinity and what a compressor refuses."""
        v, blocks = as_float32(v), []
        for block, (part, words) in enumerate(zip(apart(v, self.sizes(v.n)), self._words(keys), strict=True)):
            try:
                blocks.append(self.compressors[block].compress(part, words))
            except NotFiniteError as error:
                require_finite(v)
                raise NotFiniteError(f"block {block}, taken as vectors of its own: {error}", error.row) from None
        return Blocks.of(blocks)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return what the compressors make of their blocks."""
        assert isinstance(message, Blocks)
        sizes, found = self.sizes(message.n), [block.n for block in message.blocks]
        if sizes != found:
            raise ValueError(f"{self!r} makes blocks of {sizes} coordinates, the message has {found}")
        each = zip(self.compressors, message.blocks, self._words(keys), strict=True)
        return beside([compressor.decompress(block, words) for compressor, block, words in each])

    def variance(self, n: int) -> float | None:
        """Return the largest omega of a block; None unless all are unbiased."""
        found = [compressor.variance(size) for size, compressor in self._certified(n)]
        return None if None in found else max(omega for omega in found if omega is not None)

    def contraction(self, n: int) -> float | None:
        """Return the smallest delta of a block; None unless all are contractions."""
        found = [compressor.contraction(size) for size, compressor in self._certified(n)]
        return None if None in found else min(delta for delta in found if delta is not None)

    def bias_and_variance(self, n: int) -> tuple[float, float] | None:
        """Return the largest eta and the largest omega of a block; None unless they are known of all."""
        found = [compressor.bias_and_variance(size) for size, compressor in self._certified(n)]
        known = [pair for pair in found if pair is not None]
        return (max(eta for eta, _ in known), max(omega for _, omega in known)) if len(known) == len(found) else None

    def expected_nonzeros(self, v: ArrayLike) -> float | None:
        """Return the sum over the blocks."""
        found = [compressor.expected_nonzeros(part) for compressor, part in self._parts(v)]
        return None if None in found else float(sum(x for x in found if x is not None))

    def exact_variance(self, v: ArrayLike) -> float | None:
        """Return the sum over the blocks."""
        found = [compressor.exact_variance(part) for compressor, part in self._parts(v)]
        return None if None in found else float(sum(x for x in found if x is not None))

    def _parts(self, v: ArrayLike) -> list[tuple[Compressor, NDArray[np.generic]]]:
        vector = np.asarray(v)
        return list(zip(self.compressors, np.split(vector, np.cumsum(self.sizes(vector.size))[:-1]), strict=True))

    def _certified(self, n: int) -> list[tuple[int, Compressor]]:
        """Return the blocks whose constants count. No n is refused: wrappers ask for those of n = 1."""
        known = sum(size for size, _ in self.layers if size is not None)
        return [(max(1, n - known) if size is None else size, compressor) for size, compressor in self.layers]

    def _words(self, keys: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
        """Return the words of the keys of every block."""
        from qsim.kernels.bernoulli import fold_each

        return [fold_each(keys, block) for block in range(len(self.layers))]

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        from qsim.compressors.identity import Identity
        from qsim.compressors.qsgd import QSGD
        from qsim.compressors.signs import ScaledSign
        from qsim.compressors.topk import TopK

        return (cls(((None, QSGD(levels=4)), (2, Identity()))), cls(((3, ScaledSign()), (None, TopK(k=0.1)))))
