"""Floats of 16 bits."""

from __future__ import annotations

from typing import Literal, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats, Memory, Vectors
from qsim.compressors.base import Compressor, as_float32
from qsim.compressors.norms import refuse_above
from qsim.options import one_of, option

_KEPT = {"float16": 10, "bfloat16": 7}  # bits of the mantissa
_MOST = {"float16": 65504.0, "bfloat16": (2 - 2.0**-7) * 2.0**127}
_LOWEST = {"float16": -14, "bfloat16": -126}  # exponent of the least normal number


@final
@option
class RoundedFloats(Compressor):
    r"""Rounding of every entry to a float of 16 bits.

    Parameters
    ----------
    format : {"float16", "bfloat16"}
        The format: binary16 of IEEE 754, or bfloat16, which has the exponents of float32.
    rounding : {"stochastic", "nearest"}, default "stochastic"
        "stochastic" rounds up or down at random, "nearest" to the nearest number (ties to even).

    Raises
    ------
    ValueError
        For another format or rounding.

    Notes
    -----
    With :math:`b` bits of mantissa (10 or 7) and :math:`r = 2^{-b}`, for entries in the normal range of the format (at
    least :math:`2^{-14}` or :math:`2^{-126}`):

    - "stochastic" is exactly unbiased, with variance :math:`\omega = r^2 / (4 (1 + r))`, below :math:`2^{-22}` or
      :math:`2^{-16}`; attained;
    - "nearest" is a contraction with :math:`\delta = 1 - (r / (2 + r))^2`, above :math:`1 - 2^{-22}` or
      :math:`1 - 2^{-16}`; attained at ties just above a power of two. It is biased.

    Smaller entries are rounded in the same way to multiples of :math:`2^{-24}` (float16) or :math:`2^{-133}`
    (bfloat16): the absolute error is at most that spacing (half of it for "nearest"), the relative error has no bound,
    and for float16 the mean is right to :math:`2^{-48}`. Entries above the largest number, 65504 or 3.39e38, are
    refused. A sparse vector stays sparse.

    References
    ----------
    .. [1] Gupta et al., "Deep learning with limited numerical precision", ICML 2015, section 3.
    .. [2] IEEE 754-2019 (binary16).

    Examples
    --------
    >>> import qsim
    >>> compressor = qsim.compressors.RoundedFloats("bfloat16", rounding="nearest")
    >>> compressor.quantize([1.0, 0.1, -3.0], qsim.Key(0)).value.tolist()
    [1.0, 0.10009765625, -3.0]
    >>> qsim.Channel(compressor).codec
    qsim.codecs.Dense(dtype='bfloat16')
    """

    format: Literal["float16", "bfloat16"]
    rounding: Literal["stochastic", "nearest"] = "stochastic"

    emits = Floats
    dense = True
    ignores_zeros = True

    def __post_init__(self) -> None:
        one_of("format", self.format, tuple(_KEPT))
        one_of("rounding", self.rounding, ("stochastic", "nearest"))

    @property
    def dtype(self) -> Literal["float16", "bfloat16"]:
        return self.format

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Floats:
        """Round a batch. Raises NotFiniteError for NaN, infinity and what is above the format's largest number."""
        from qsim.kernels.half_precision import round_at_random, round_to_nearest

        v = as_float32(v)
        value, dropped = np.empty_like(v.value), 23 - _KEPT[self.format]
        least = np.float32(2.0**-14 if self.format == "float16" else 0.0)  # bfloat16 has the range of float32
        if self.rounding == "nearest":
            largest = round_to_nearest(v.value, dropped, least, value)
        else:
            largest = round_at_random(v.offsets, v.index, v.value, keys, dropped, least, value)
        most = _MOST[self.format]
        if not largest <= most:
            refuse_above(v, most, f"{self.format} ends at {most:g}")
        return Floats(v.n, v.offsets, v.index, value)

    def variance(self, n: int) -> float | None:
        """Return omega = r^2 / (4 (1 + r)), r = 2^-10 or 2^-7; None if rounded to nearest, which is not unbiased."""
        return self._step**2 / (4 * (1 + self._step)) if self.rounding == "stochastic" else None

    def contraction(self, n: int) -> float | None:
        """Return delta = 1 - (r / (2 + r))^2 if rounded to nearest, and 1 - omega otherwise."""
        omega = self.variance(n)
        return 1 - (self._step / (2 + self._step)) ** 2 if omega is None else 1 - omega

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v): sum_i min(1, |v_i| / g), g = 2^-24 or 2^-133 the least number; nearest: above g/2."""
        size = np.abs(np.asarray(v, np.float64)) / 2.0 ** (_LOWEST[self.format] - _KEPT[self.format])
        return float((np.minimum(size, 1.0) if self.rounding == "stochastic" else size > 0.5).sum())

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = sum_i g_i^2 p_i (1 - p_i), g_i the format's gap at v_i, p_i where v_i lies in it.

        If rounded to nearest, it is the error itself.
        """
        size = np.abs(np.asarray(v, np.float64))
        exponent = np.maximum(np.frexp(size)[1] - 1, _LOWEST[self.format])
        gap = np.ldexp(1.0, exponent - _KEPT[self.format])
        part = size / gap - np.floor(size / gap)
        square = part * (1 - part) if self.rounding == "stochastic" else np.minimum(part, 1 - part) ** 2
        return float((gap**2 * square).sum())

    @property
    def _step(self) -> float:
        return 2.0 ** -_KEPT[self.format]

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls("float16"), cls("bfloat16"), cls("bfloat16", rounding="nearest"))
