"""Levels that are powers of two of the norm: natural dithering and NUQSGD."""

from __future__ import annotations

from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Levels, Memory, Message, Vectors
from qsim.compressors.alias import Alias
from qsim.compressors.base import Compressor, as_float32, empty_entries
from qsim.compressors.natural import plan_powers_of_two, powers_of_two, variance_between_powers
from qsim.compressors.norms import FEW, Norm, exact_norm, few_at, plan_norms, require_norm, row_norms, spread
from qsim.options import option, whole
from qsim.program import Program


@final
@option
class NaturalDithering(Compressor):
    r"""Random rounding to powers of two of the norm.

    Every :math:`|v_i| / N`, with :math:`N` the norm of :math:`v` and :math:`s` = `levels`, is rounded up or down at
    random to 0, :math:`2^{1-s}`, ..., 1/2 or 1: level :math:`j` from 1 to :math:`s` stands for :math:`N 2^{j-s}`.

    Unbiased. With :math:`q = n^{1/\min(p, 2)} 2^{1-s}` the variance is at most :math:`\omega = q - 1` if
    :math:`q \geq 9/4`, and :math:`1/8 + 2 q^2 / 9` otherwise. For :math:`p \leq 2` constant vectors attain the first;
    the second is a bound, and 1/8 of it is attained at 4/3 of a power of two.

    Parameters
    ----------
    levels : int
        The number :math:`s` of levels above zero, from 1 to 126.
    norm : {"l2", "max"} or float, default "l2"
        The norm :math:`N`. A number :math:`p \geq 1` stands for :math:`(\sum_i |v_i|^p)^{1/p}`.

    Raises
    ------
    ValueError
        If `levels` is outside [1, 126], or `norm` is not a norm.

    Notes
    -----
    Precision: :math:`N` is rounded up to float32 first.
    :math:`|\mathbb{E} Q(v)_i - v_i| \leq 2^{-22} |v_i| + 2^{-23} N 2^{1-s}`, provided that :math:`N 2^{1-s}` is a
    normal float32 (above 1.2e-38). A norm above float32's range is refused. A sparse vector stays sparse.

    References
    ----------
    .. [1] Horvath et al., "Natural compression for distributed deep learning", MSML 2022, section 3 (Theorem 7 states
           the weaker 1/8 + q min(1, q)).

    Examples
    --------
    >>> import qsim
    >>> compressor, keys = qsim.compressors.NaturalDithering(levels=4, norm="max"), qsim.Key(0).words(0, 1)
    >>> message = compressor.compress(qsim.batch.Vectors.dense([8.0, -4.0, 1.0, 0.0]), keys)
    >>> message.level.tolist(), compressor.decompress(message, keys).to_dense().tolist()
    ([4, -3, 1], [[8.0, -4.0, 1.0, 0.0]])
    """

    levels: int
    norm: Norm = "l2"

    emits = Levels
    ignores_zeros = True

    def __post_init__(self) -> None:
        whole("levels", self.levels, least=1, most=126)  # 2^-125 is the least ratio that is worth a level
        require_norm(self.norm)

    @property
    def few_levels(self) -> bool:
        return 2**self.levels <= 2 * FEW and few_at(self.norm)

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        """Quantize a batch. Raises NotFiniteError for NaN, infinity and a norm above float32's range."""
        from qsim.kernels.powers import round_to_powers

        v = as_float32(v)
        scale = row_norms(v, self.norm)
        offsets, index, level = empty_entries(v, v.value.size, np.int32)
        kept = round_to_powers(v.offsets, v.index, v.value, scale, self.levels, keys, offsets, index, level)
        return Levels(v.n, offsets, index[:kept], level[:kept], scale, self.levels)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return scale * 2^(|level| - s) with the level's sign."""
        assert isinstance(message, Levels)
        return powers_of_two(message, self.levels)

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        from qsim.kernels.powers import round_to_powers

        scale, (offsets, index, level) = plan_norms(program, v, self.norm), empty_entries(v, v.value.size, np.int32)
        row = v.offsets, v.index, v.value
        program.call(round_to_powers, *row, scale, self.levels, keys, offsets, index, level)
        return Levels(v.n, offsets, index, level, scale, self.levels)

    def plan_decompress(self, program: Program, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        assert isinstance(message, Levels)
        return plan_powers_of_two(program, message, self.levels)

    def variance(self, n: int) -> float:
        """Return omega(n), as the class says."""
        q = sqrt(spread(n, self.norm)) * self._least
        return q - 1 if q >= 2.25 else 0.125 + 2 * q**2 / 9

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v) = sum_i min(1, 2^(s-1) |v_i| / N), in exact arithmetic."""
        return float(np.minimum(1.0, self._ratios(v) / self._least).sum())

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = N^2 sum_i (r_i - a_i) (b_i - r_i), r_i = |v_i| / N between the levels a_i, b_i."""
        return exact_norm(v, self.norm) ** 2 * variance_between_powers(self._ratios(v), self._least)

    @property
    def _least(self) -> float:
        return 2.0 ** (1 - self.levels)

    def _ratios(self, v: ArrayLike) -> NDArray[np.float64]:
        norm = exact_norm(v, self.norm)
        size: NDArray[np.float64] = np.abs(np.asarray(v, np.float64))
        return np.minimum(size / norm, 1.0) if norm > 0 else size

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(levels=4), cls(levels=4, norm="max"))


@final
@option
class NUQSGD(Alias):
    r"""Random rounding to powers of two of the l2 norm, with one level more.

    Every :math:`|v_i| / N`, with :math:`N` the :math:`\ell_2` norm of :math:`v` and :math:`s` = `levels`, is rounded up
    or down at random to 0, :math:`2^{-s}`, ..., 1/2 or 1: level :math:`j` from 1 to :math:`s + 1` stands for
    :math:`N 2^{j-s-1}`. This is `NaturalDithering(levels=s + 1, norm="l2")`.

    Unbiased. With :math:`q = \sqrt{n} 2^{-s}` the variance is at most :math:`\omega = q - 1` if :math:`q \geq 9/4`
    (attained), and :math:`1/8 + 2 q^2 / 9` otherwise.

    Parameters
    ----------
    levels : int
        The number :math:`s`, from 1 to 125.

    Raises
    ------
    ValueError
        If `levels` is outside [1, 125].

    References
    ----------
    .. [1] Ramezani-Kebrya, Faghri, Markov, Aksenov, Alistarh, Roy, "NUQSGD", JMLR 22 (114), 2021 (the variance is
           derived here).

    Examples
    --------
    >>> import qsim
    >>> qsim.compressors.NUQSGD(levels=3).variance(4)
    0.1388888888888889
    """

    levels: int

    def __post_init__(self) -> None:
        whole("levels", self.levels, least=1, most=125)

    @property
    def compressor(self) -> Compressor:
        return NaturalDithering(self.levels + 1, "l2")

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(levels=3),)
