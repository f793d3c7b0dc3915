"""QSGD: random rounding to a few levels of the norm."""

from __future__ import annotations

from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Levels, Memory, Vectors
from qsim.compressors.base import Compressor, as_float32, empty_entries
from qsim.compressors.norms import FEW, Norm, exact_norm, few_at, plan_norms, require_norm, row_norms, spread
from qsim.options import option, whole
from qsim.program import Program


@final
@option
class QSGD(Compressor):
    r"""Random rounding to a few levels of the norm.

    Every :math:`|v_i| s / N`, with :math:`N` the norm of :math:`v` and :math:`s` = `levels`, is rounded up or down at
    random to a whole level: :math:`Q(v)_i = N \operatorname{sign}(v_i) \mathrm{level}_i / s`. `QSGD(levels=1)` sends 0
    or :math:`N \operatorname{sign}(v_i)`.

    Unbiased. With the :math:`\ell_2` norm the variance is :math:`\omega = \sqrt{n}/s - 1` if :math:`n \geq 4 s^2` and
    :math:`n/(4 s^2)` otherwise; with the max norm it is :math:`(\sqrt{1 + (n - 1)/s^2} - 1)/2`.

    Parameters
    ----------
    levels : int
        The number :math:`s` of levels above zero, from 1 to :math:`2^{23}`.
    norm : {"l2", "max"} or float, default "l2"
        The norm :math:`N`, taken of the whole vector. A number :math:`p \geq 1` stands for
        :math:`(\sum_i |v_i|^p)^{1/p}`.

    Raises
    ------
    ValueError
        If `levels` is outside :math:`[1, 2^{23}]`, or `norm` is not a norm.

    Notes
    -----
    With a norm :math:`p` the variance of :math:`\ell_2` is a bound for :math:`p > 2`. For :math:`p < 2`, with
    :math:`q = n^{1/p}`, it is :math:`q/s - 1` if :math:`q \geq 2 s`, attained by constant vectors, and at most
    :math:`q^2/(4 s^2)` otherwise.

    Precision: :math:`N` is rounded up to float32 before anything is rounded to levels, so the norm on the wire is the
    norm that was used. :math:`|\mathbb{E} Q(v)_i - v_i| \leq 2^{-22} |v_i| + 2^{-24} N/s`, and the variance bound grows
    by a factor of at most :math:`1 + s 2^{-20}`, provided that :math:`N/s` is a normal float32 (above 1.2e-38). A norm
    above float32's range is refused.

    Long vectors, of :math:`n \geq 4096 s^2`, are *thinned* where nearly all levels are zero: in a block of 2048
    coordinates, at least 512 of them non-zero, in which all :math:`|v_i| s / N` are at most :math:`2^{-j}`, from
    :math:`2^{-6}` down, :math:`j` fair coins each choose the candidates, and only these are rounded, up with
    probability :math:`2^j |v_i| s / N`. The distribution of messages is the same, to within :math:`2^{-24} 2^{-j} N/s`;
    which message belongs to a key is not. (`qsim/kernels/quantize.py` specifies the rule to the last bit.)

    A sparse vector stays sparse, and gives the same message as the same vector stored densely.

    References
    ----------
    .. [1] Alistarh, Grubic, Li, Tomioka, Vojnovic, "QSGD", NeurIPS 2017, section 3.1 and Lemma 3.1 (which states the
           weaker omega = min(n/s^2, sqrt(n)/s)); the max norm: section 4.

    Examples
    --------
    >>> import qsim
    >>> message = qsim.QSGD(levels=1).quantize([3.0, 0.0, -4.0], qsim.Key(1))
    >>> float(message.scale[0]), message.level.tolist()
    (5.0, [1, -1])
    """

    levels: int
    norm: Norm = "l2"

    emits = Levels
    ignores_zeros = True

    def __post_init__(self) -> None:
        whole("levels", self.levels, least=1, most=2**23)  # a float32 above 2^23 has no fraction to round
        require_norm(self.norm)

    @classmethod
    def of_bits(cls, bits: int, norm: Norm = "l2") -> Self:
        """Return the quantizer whose entries take `bits` bits at a fixed width.

        Parameters
        ----------
        bits : int
            Bits of an entry, from 2 to 24: a sign and s = 2^(bits - 1) - 1 levels, so 2, 4 and 8 bits are s = 1, 7 and
            127.
        norm : {"l2", "max"} or float, default "l2"
            As for the class.

        Returns
        -------
        QSGD
            The quantizer. (The default codec sends fewer bits than that, since most levels are 0.)

        Raises
        ------
        ValueError
            If `bits` is outside [2, 24].

        Examples
        --------
        >>> import qsim
        >>> qsim.QSGD.of_bits(4).levels
        7
        """
        return cls(2 ** (whole("bits", bits, least=2, most=24) - 1) - 1, norm)

    @property
    def few_levels(self) -> bool:
        return self.levels == 1 or (self.levels <= FEW and few_at(self.norm))

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        """Quantize a batch. Raises NotFiniteError for NaN, infinity and a norm above float32's range."""
        from qsim.kernels.quantize import round_to_levels

        v = as_float32(v)
        scale = self.scales(v)
        offsets, index, level = empty_entries(v, v.value.size, np.int32)
        kept = round_to_levels(v.n, v.offsets, v.index, v.value, scale, self.levels, keys, offsets, index, level)
        return Levels(v.n, offsets, index[:kept], level[:kept], scale, self.levels)

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        from qsim.kernels.quantize import round_to_levels

        scale, (offsets, index, level) = plan_norms(program, v, self.norm), empty_entries(v, v.value.size, np.int32)
        program.call(round_to_levels, v.n, v.offsets, v.index, v.value, scale, self.levels, keys, offsets, index, level)
        return Levels(v.n, offsets, index, level, scale, self.levels)

    def scales(self, v: Vectors) -> NDArray[np.float32]:
        """Return the norm of every row, rounded up to float32."""
        return row_norms(v, self.norm)

    def variance(self, n: int) -> float:
        """Return omega(n): E ||Q(v) - v||^2 <= omega ||v||^2.

        Attained by some v with the max norm, and with l2 if n >= 4 s^2; an upper bound otherwise.
        """
        s = self.levels
        if self.norm == "max":
            return (sqrt(1 + (n - 1) / s**2) - 1) / 2
        square = spread(n, self.norm)
        return sqrt(square) / s - 1 if square >= 4 * s**2 else square / (4 * s**2)

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v) = sum_i min(1, s |v_i| / N), in exact arithmetic."""
        return float(np.minimum(1.0, self._positions(v)).sum())

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = (N/s)^2 sum_i p_i (1 - p_i), p_i the fraction of s |v_i| / N."""
        position = self._positions(v)
        up = position - np.floor(position)
        return float((exact_norm(v, self.norm) / self.levels) ** 2 * (up * (1 - up)).sum())

    def _positions(self, v: ArrayLike) -> NDArray[np.float64]:
        norm = exact_norm(v, self.norm)
        magnitude: NDArray[np.float64] = np.abs(np.asarray(v, np.float64))
        return magnitude / norm * self.levels if norm > 0 else magnitude

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (
            cls(levels=1),
            cls(levels=4),
            cls(levels=255),
            cls(levels=4, norm="max"),
            cls(levels=4, norm=1),
            cls(levels=4, norm=3),
        )
