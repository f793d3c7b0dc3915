"""Subtractive dither: an error that does not depend on what is quantized."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Levels, Memory, Message, Vectors, dense_offsets
from qsim.compressors.base import Compressor, as_float32, empty_entries
from qsim.compressors.norms import FEW, Norm, exact_norm, few_at, require_norm, row_norms, spread
from qsim.options import option, whole


@final
@option
class SubtractiveDither(Compressor):
    r"""Rounding with a uniform dither that the receiver subtracts.

    With :math:`D = N/s`, :math:`N` the norm of :math:`v` and :math:`s` = `levels`, :math:`v_i / D + u_i` is rounded to
    the nearest whole level, and read as :math:`D (\mathrm{level}_i - u_i)`. Both ends draw :math:`u_i`, uniform in
    (-1/2, 1/2), from the key and the coordinate. The error of every coordinate is uniform in :math:`[-D/2, D/2]`
    whatever :math:`v` is, so its variance is :math:`D^2 / 12`.

    Unbiased, with variance :math:`\omega = n^{2/\min(p, 2)} / (12 s^2)`, which is :math:`n / (12 s^2)` with the
    :math:`\ell_2` and the max norm: attained by every :math:`v` with :math:`\ell_2`, by a single entry with
    :math:`p \geq 2`, by constant vectors with :math:`p \leq 2`.

    Parameters
    ----------
    levels : int
        The number :math:`s` of steps :math:`D` in the norm, from 1 to :math:`2^{23}`.
    norm : {"l2", "max"} or float, default "l2"
        The norm :math:`N`. A number :math:`p \geq 1` stands for :math:`(\sum_i |v_i|^p)^{1/p}`.

    Raises
    ------
    ValueError
        If `levels` is outside :math:`[1, 2^{23}]`, or `norm` is not a norm.

    Notes
    -----
    The message holds the non-zero levels, few for a sparse vector; but the decoded vector is dense, unless :math:`v` is
    zero, so decoding costs :math:`O(n)`.

    Precision: :math:`u_i` is one of :math:`2^{24}` values, symmetric around 0, hence
    :math:`|\mathbb{E} Q(v)_i - v_i| \leq 2^{-25} D` before the result is rounded to float32. :math:`N` is rounded up to
    float32 first; a norm above float32's range is refused.

    References
    ----------
    .. [1] Roberts, "Picture coding using pseudo-random noise", IRE Transactions on Information Theory 8, 1962.
    .. [2] Schuchman, "Dither signals and their effect on quantization noise", IEEE Transactions on Communication
           Technology 12, 1964.

    Examples
    --------
    >>> import qsim
    >>> compressor, keys = qsim.compressors.SubtractiveDither(levels=8, norm="max"), qsim.Key(0).words(0, 1)
    >>> message = compressor.compress(qsim.batch.Vectors.dense([8.0, -4.25, 0.0]), keys)
    >>> error = compressor.decompress(message, keys).to_dense() - [8.0, -4.25, 0.0]
    >>> bool(abs(error).max() <= 0.5)
    True
    """

    levels: int
    norm: Norm = "l2"

    emits = Levels
    keeps_sparse = False

    def __post_init__(self) -> None:
        whole("levels", self.levels, least=1, most=2**23)
        require_norm(self.norm)

    @property
    def few_levels(self) -> bool:
        return self.levels == 1 or (self.levels <= FEW and few_at(self.norm))

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        """Quantize a batch. Raises NotFiniteError for NaN, infinity and a norm above float32's range."""
        from qsim.kernels.dither import round_with_dither

        v = as_float32(v)
        scale = row_norms(v, self.norm)
        offsets, index, level = empty_entries(v, v.value.size, np.int32)
        kept = round_with_dither(v.offsets, v.index, v.value, scale, self.levels, keys, offsets, index, level)
        return Levels(v.n, offsets, index[:kept], level[:kept], scale, self.levels)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return (level - u_i) scale / s at every coordinate, with the keys that the message was made with."""
        from qsim.kernels.dither import subtract_dither

        assert isinstance(message, Levels)
        value = np.zeros(message.rows * message.n, np.float32)
        subtract_dither(
            message.offsets, message.index, message.level, message.scale, self.levels, keys, message.n, value
        )
        return Vectors(message.n, dense_offsets(message.rows, message.n), None, value)

    def variance(self, n: int) -> float:
        """Return omega = n^(2/min(p,2)) / (12 s^2), attained."""
        return spread(n, self.norm) / (12 * self.levels**2)

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return n, or 0 for a zero vector."""
        return float(np.size(v)) if np.any(v) else 0.0

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = n D^2 / 12."""
        return float(np.size(v)) * (exact_norm(v, self.norm) / self.levels) ** 2 / 12

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(levels=4),)
