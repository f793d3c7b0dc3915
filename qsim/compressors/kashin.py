"""Kashin's representation: twice as many coefficients, none of them large, rounded at random."""

from __future__ import annotations

from math import log
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Levels
from qsim.compressors.rotations import Rotated
from qsim.options import option, whole


@final
@option
class Kashin(Rotated):
    r"""Kashin's representation: every coordinate by two coefficients that are never large, rounded at random.

    With :math:`R_0` and :math:`R_1` random rotations (signs and a Hadamard transform),
    :math:`v = R_0^T a_0 + R_1^T a_1` for many pairs of vectors :math:`a_0` and :math:`a_1`. One whose largest magnitude
    :math:`M` is small is sought: coefficients of what is not represented yet are truncated at their root mean square,
    eight times, and the last are taken as they are. Each coefficient is then rounded up or down, at random without
    bias, to one of :math:`2^{\mathrm{bits}}` evenly spaced numbers from :math:`-M` to :math:`M`. A packet takes 2
    `bits` :math:`n` bits, and 32 for every `chunk` coordinates begun.

    Unbiased. With :math:`m` coordinates in the longest piece, :math:`2^k` the largest power of two up to :math:`m`, and
    :math:`T = 2^{\mathrm{bits}} - 1`, :math:`\mathbb{E} \|Q(v) - v\|^2 \leq \omega \|v\|^2` for
    :math:`\omega = \min(m/2, (m/2^k)(1 + \ln 4m))/T^2`, which does not depend on how long a vector is.

    Parameters
    ----------
    bits : int
        Bits of a coefficient, from 1 to 4: twice as many per coordinate.
    chunk : int, default 8192
        The number of coordinates that are represented together: a power of two up to :math:`2^{30}`.

    Raises
    ------
    ValueError
        If `bits` is outside [1, 4], or `chunk` is not a power of two up to :math:`2^{30}`.

    Notes
    -----
    :math:`\omega` is a bound in the mean over rotations, and holds without any truncation. What truncation gains
    follows the vector and is not proved for these rotations: Kashin's constant :math:`K = M \sqrt{4m}/\|v\|`, which is
    1 at best, was found to be 1.8 to 1.9 for Gaussian vectors, from :math:`n = 64` to 9000, and up to 2.3 for others;
    that of the plain coefficients :math:`R_i v/2` is above 3.2 for Gaussian vectors of :math:`n = 1000`. These are
    taken where theirs is smaller, which is rare.

    At equal bits the error is far above that of `EDEN`: 1.1 and 0.12 of :math:`\|v\|^2` for Gaussian vectors, at 2 and
    4 bits per coordinate, where `EDEN` has 0.133 and 0.0096. It is for theory: unbiased and bounded at any :math:`n`,
    not in a limit.

    Precision: coefficients are float32, so the representation is right to some 1e-6 of :math:`\|v\|`. A sparse vector
    is made dense, at O(:math:`n` log chunk) time, with 34 transforms where `EDEN` has 2. The level of a coordinate
    stands for both coefficients: decode messages with `decompress`. A piece that is zero has a scale of 0 and no
    entries; one that may be decoded as infinite is refused.

    References
    ----------
    .. [1] Lyubarskii, Vershynin, "Uncertainty principles and vector quantization", IEEE Transactions on Information
           Theory, 2010 (the idea of the truncation, from memory; its limits, and the variance, derived here).
    .. [2] Safaryan, Shulgin, Richtarik, "Uncertainty principle for communication compression in distributed and
           federated learning and the search for an optimal compressor", Information and Inference, 2022.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> kashin, keys = qsim.compressors.Kashin(bits=2), qsim.Key(0).words(0, 1)
    >>> v = np.linspace(-1, 1, 1000, dtype=np.float32)
    >>> message = kashin.compress(qsim.batch.Vectors.dense(v), keys)
    >>> error = kashin.decompress(message, keys).to_dense()[0] - v
    >>> message.s, bool(error @ error < 0.25 * (v @ v))
    (8, True)
    """

    bits: int
    chunk: int = 2**13

    def __post_init__(self) -> None:
        whole("bits", self.bits, least=1, most=4)
        super().__post_init__()

    def variance(self, n: int) -> float:
        """Return omega = min(m/2, (m/2^k)(1 + ln 4m))/(2^bits - 1)^2."""
        longest = n - self.chunk * (max(1, n // self.chunk) - 1)
        block = 1 << (longest.bit_length() - 1)
        return min(longest / 2, longest / block * (1 + log(4 * longest))) / self._top**2

    @property
    def _top(self) -> int:
        """How many steps there are from -M to M."""
        return (1 << self.bits) - 1

    @property
    def _s(self) -> int:
        return 1 << (2 * self.bits - 1)

    def _round(
        self,
        pieces: NDArray[np.int64],
        value: NDArray[np.float32],
        norms: NDArray[np.float64],
        keys: NDArray[np.uint64],
        level: NDArray[np.int32],
        scale: NDArray[np.float64],
    ) -> None:
        from qsim.kernels.kashin import round_kashin

        round_kashin(pieces, value, norms, keys, self._top, level, scale)

    def _values(self, message: Levels, keys: NDArray[np.uint64], out: NDArray[np.float32]) -> None:
        from qsim.kernels.kashin import values_of_kashin

        m = message
        values_of_kashin(m.n, self.chunk, m.offsets, m.index, m.level, m.scale, keys, self._top, out)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(bits=1), cls(bits=2))
