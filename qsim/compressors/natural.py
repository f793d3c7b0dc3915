"""Natural compression: every number to a power of two."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Levels, Memory, Message, Vectors
from qsim.compressors.base import Compressor, as_float32, empty_entries
from qsim.compressors.norms import refuse_above
from qsim.options import option
from qsim.program import Program

_MOST = 254  # the largest biased exponent of a float32 that is a number


@final
@option
class NaturalCompression(Compressor):
    r"""Random rounding of every entry to a power of two.

    With :math:`2^e \leq |v_i| < 2^{e+1}`, :math:`|Q(v)_i|` is :math:`2^{e+1}` with probability :math:`|v_i| / 2^e - 1`,
    and :math:`2^e` otherwise.

    Exactly unbiased, with variance :math:`\omega = 1/8`, attained at 4/3 of a power of two, for entries of at least
    :math:`2^{-126}`.

    Notes
    -----
    A level is the sign times float32's biased exponent, :math:`e + 127`, from 1 to 254 (a sign and 8 bits); the scale
    is 1, which is not sent.

    Smaller entries (float32's subnormals) become 0 or :math:`2^{-126}`, unbiased too, with E
    :math:`(Q(v)_i - v_i)^2 < 2^{-126} |v_i|`. Entries above :math:`2^{127}` have no power of two above them and are
    refused. A sparse vector stays sparse.

    References
    ----------
    .. [1] Horvath, Ho, Horvath, Sahu, Canini, Richtarik, "Natural compression for distributed deep learning", MSML 2022
           (arXiv 2019), Definition 1 and Theorem 3.

    Examples
    --------
    >>> import qsim
    >>> compressor, keys = qsim.compressors.NaturalCompression(), qsim.Key(0).words(0, 1)
    >>> message = compressor.compress(qsim.batch.Vectors.dense([4.0, 0.0, -0.75, 1.5]), keys)
    >>> compressor.decompress(message, keys).to_dense()
    array([[ 4. ,  0. , -0.5,  2. ]], dtype=float32)
    """

    emits = Levels
    dense = True
    ignores_zeros = True

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        """Quantize a batch. Raises NotFiniteError for NaN, infinity and magnitudes above 2^127."""
        from qsim.kernels.powers import round_to_exponents

        v = as_float32(v)
        offsets, index, level = empty_entries(v, v.value.size, np.int32)
        kept, largest = round_to_exponents(v.offsets, v.index, v.value, keys, offsets, index, level)
        if not largest <= 2.0**127:
            refuse_above(v, 2.0**127, "there is no power of two above it in float32 (the largest is 2^127 = 1.7e38)")
        return Levels(v.n, offsets, index[:kept], level[:kept], np.ones(v.rows, np.float32), _MOST, fixed=1.0)

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        from qsim.kernels.powers import round_to_exponents
        from qsim.kernels.rounds import exceeds

        offsets, index, level = empty_entries(v, v.value.size, np.int32)
        _, largest = program.call(round_to_exponents, v.offsets, v.index, v.value, keys, offsets, index, level)
        program.call(exceeds, largest, 2.0**127, stop="not zero")
        return Levels(v.n, offsets, index, level, np.ones(v.rows, np.float32), _MOST, fixed=1.0)

    def plan_decompress(self, program: Program, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        assert isinstance(message, Levels)
        return plan_powers_of_two(program, message, 127)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return scale * 2^(|level| - 127) with the level's sign."""
        assert isinstance(message, Levels)
        return powers_of_two(message, 127)

    def variance(self, n: int) -> float:
        """Return omega = 1/8 (for entries of at least 2^-126)."""
        return 0.125

    def contraction(self, n: int) -> float:
        """Return delta = 1 - omega = 7/8 (for entries of at least 2^-126)."""
        return 0.875

    def expected_nonzeros(self, v: ArrayLike) -> float:
        """Return E nnz Q(v): the non-zeros, where |v_i| < 2^-126 counts as |v_i| / 2^-126."""
        return float(np.minimum(1.0, np.abs(np.asarray(v, np.float64)) * 2.0**126).sum())

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = sum_i (|v_i| - 2^e) (2^(e+1) - |v_i|), and |v_i| (2^-126 - |v_i|) below 2^-126."""
        return variance_between_powers(np.abs(np.asarray(v, np.float64)), 2.0**-126)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)


def powers_of_two(message: Levels, top: int) -> Vectors:
    """Return the vectors of a message in which level j stands for scale * 2^(j - top)."""
    from qsim.kernels.powers import look_up

    value = np.empty(message.level.size, np.float32)
    look_up(message.offsets, message.level, message.scale, _powers(message.s, top), value)
    return Vectors(message.n, message.offsets, message.index, value)


def plan_powers_of_two(program: Program, message: Levels, top: int) -> Vectors:
    """Have a program do what `powers_of_two` does; return where."""
    from qsim.kernels.powers import look_up

    value = np.empty(message.level.size, np.float32)
    program.call(look_up, message.offsets, message.level, message.scale, _powers(message.s, top), value)
    return Vectors(message.n, message.offsets, message.index, value)


def _powers(s: int, top: int) -> NDArray[np.float64]:
    """Return what the levels -s, ..., s stand for."""
    positive = np.ldexp(1.0, np.arange(1, s + 1) - top)
    return np.concatenate([-positive[::-1], [0.0], positive])


def variance_between_powers(size: NDArray[np.float64], least: float) -> float:
    """Return the variance of numbers rounded at random to the powers of two from `least` up, and zero."""
    below = np.where(size < least, 0.0, np.ldexp(1.0, np.frexp(size)[1] - 1))
    above = np.where(size < least, least, 2 * below)
    return float(((size - below) * (above - size)).sum())
