"""Random rotations: what is rotated looks Gaussian, and a few bits per coordinate carry it without bias."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Levels, Memory, Message, Vectors, dense_offsets
from qsim.compressors.pieces import InPieces
from qsim.options import option, whole

CENTROIDS: dict[int, tuple[float, ...]] = {
    1: (0.7978845608028654,),
    2: (0.45278003463649197, 1.5104176084990952),
    3: (0.24509417894422172, 0.7560052812058778, 1.343909278505, 2.1519457045369883),
    4: (
        0.12839502985114704,
        0.3880482994902913,
        0.6567591185324666,
        0.9423404564869677,
        1.2562311973471816,
        1.6180463860218874,
        2.0690172265313924,
        2.7325895709951706,
    ),
}
"""The positive half of the Lloyd-Max quantizer of a standard Gaussian, by the number of bits."""

OMEGA = {1: 0.5707963267948966, 2: 0.1331211687151896, 3: 0.0357840184996819, 4: 0.0095921430359923}
"""D/(1 - D), D the quantizer's mean squared error: the variance in the limit. The first is pi/2 - 1."""

_ROTATIONS, _CHUNK = 2, 256
"""From how many rotations, and of how many coordinates, the limit says something."""


class Rotated(InPieces):
    """Base of what sends a level for every coordinate of the rotated pieces of a vector, and a scale for each piece."""

    emits = Levels

    @property
    @abstractmethod
    def _s(self) -> int:
        """The largest level."""

    @abstractmethod
    def _round(
        self,
        pieces: NDArray[np.int64],
        value: NDArray[np.float32],
        norms: NDArray[np.float64],
        keys: NDArray[np.uint64],
        level: NDArray[np.int32],
        scale: NDArray[np.float64],
    ) -> None:
        """Fill in levels and scales, infinity where what is decoded may not fit float32."""

    @abstractmethod
    def _values(self, message: Levels, keys: NDArray[np.uint64], out: NDArray[np.float32]) -> None:
        """Fill in the values."""

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        """Rotate and round a batch. Raises NotFiniteError for NaN, infinity, and numbers near float32's largest."""
        v, pieces, norms = self._pieces(v)
        level, scale = np.empty(v.value.size, np.int32), np.empty(norms.size)
        self._round(pieces, v.value, norms, keys, level, scale)
        return self._levels(v, level, scale, self._s)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Rotate a message back, row b with keys[b]. Raises ValueError for one that `compress` does not make."""
        levels = self._own(message, self._s)
        value = np.empty(message.rows * message.n, np.float32)
        self._values(levels, keys, value)
        return Vectors(message.n, dense_offsets(message.rows, message.n), None, value)


class _Gaussian(Rotated):
    """Base of both: round to the nearest centroid, with a scale for each piece that makes it unbiased."""

    rotations: int

    asymptotic = True

    @property
    @abstractmethod
    def _bits(self) -> int:
        """Bits per coordinate."""

    @property
    @abstractmethod
    def _centroids(self) -> NDArray[np.float32]:
        """The magnitudes that levels 1, 2, ... stand for."""

    @property
    def _s(self) -> int:
        return self._centroids.size

    def __post_init__(self) -> None:
        from qsim.kernels.rotations import MOST_ROUNDS

        whole("rotations", self.rotations, least=1, most=MOST_ROUNDS)
        super().__post_init__()

    def _round(
        self,
        pieces: NDArray[np.int64],
        value: NDArray[np.float32],
        norms: NDArray[np.float64],
        keys: NDArray[np.uint64],
        level: NDArray[np.int32],
        scale: NDArray[np.float64],
    ) -> None:
        from qsim.kernels.rotations import round_rotated

        round_rotated(pieces, value, norms, keys, self.rotations, self._centroids, level, scale)

    def _values(self, message: Levels, keys: NDArray[np.uint64], out: NDArray[np.float32]) -> None:
        from qsim.kernels.rotations import values_of_rotated

        m = message
        values_of_rotated(
            m.n, self.chunk, m.offsets, m.index, m.level, m.scale, keys, self.rotations, self._centroids, out
        )

    def variance(self, n: int) -> float | None:
        """Return omega in the limit of large n, E ||Q(v) - v||^2 / ||v||^2 for every v.

        None for a single rotation, or a chunk below 256, with which some vectors are further off however large n is.
        """
        return OMEGA[self._bits] if self.rotations >= _ROTATIONS and self.chunk >= _CHUNK else None

    def contraction(self, n: int) -> float | None:
        """Return delta = 1 - omega in the limit of large n; None where there is no omega."""
        omega = self.variance(n)
        return None if omega is None else 1.0 - omega


@final
@option
class DRIVE(_Gaussian):
    r"""Signs of a randomly rotated vector.

    .. math::

        Q(v) = S R^{-1} \operatorname{sign}(R v),

    with :math:`S = \|v\|_2^2 / \|R v\|_1`. The rotation :math:`R` is `rotations` times random signs and a Hadamard
    transform, which both ends draw from the key. A packet takes :math:`n` bits, and 32 for every `chunk` coordinates
    begun.

    In the limit of large :math:`n` and `chunk`, :math:`\mathbb{E} Q(v) = v` and
    :math:`\mathbb{E} \|Q(v) - v\|^2 = (\pi/2 - 1) \|v\|^2`, since the rotated entries look Gaussian whatever :math:`v`
    is.

    Parameters
    ----------
    rotations : int, default 2
        How many rotations are applied one after another, from 1 to 23.
    chunk : int, default 8192
        The number of coordinates that are rotated and scaled together: a power of two up to :math:`2^{30}`. The default
        fits a cache.

    Raises
    ------
    ValueError
        If `rotations` is outside [1, 23], or `chunk` is not a power of two up to :math:`2^{30}`.

    Notes
    -----
    One rotation is *not* enough: for :math:`n` a power of two :math:`v = (1, 1/2, 0, \ldots, 0)` always comes back as
    (5/4, 0, 0, ..., 0), a bias of half the norm, and (1, 1, 0, ..., 0) with an error as large as itself, at any
    :math:`n`; so no certificate is given for one. With two, the bias of the first falls as :math:`1/n`. The remaining
    bias is largest for one large entry among many small ones: two rotations of it hold zeros, whose signs the small
    entries decide, and these are then made too large. That bias is :math:`0.8 / \sqrt{n}` of :math:`\|v\|` (0.025 at
    :math:`n = 1024`), and up to 0.08 if :math:`n` is not a power of two (:math:`n = 1023`; 0.03 at 8191). With
    `rotations=3` it was below 0.002 at :math:`n = 1000` and above, for up to half as much time again.

    Any :math:`n` is accepted: a row is cut into pieces of `chunk` coordinates, and the remainder joins the last piece,
    which is then rotated in blocks of powers of two after a random permutation. Nothing is padded. (The last two scales
    of a row are the same one if there is a remainder.)

    Short vectors are far from the limit. The largest mean error that was found, over :math:`\|v\|^2`, at :math:`n = 4`,
    8, 16, 32, 64, 128, 256: 1.5, 1.5, 1.1, 0.81, 0.64, 0.60, 0.58 instead of 0.571 (single entries, and two or four
    equal ones); at :math:`n = 255`, 511, 1023, 8191, with blocks of every size: 0.72, 0.66, 0.62, 0.58.

    A sparse vector is made dense, at O(:math:`n` log chunk) time. A piece that is zero, or whose scale is below the
    least float32, has a scale of 0 and no entries. A piece whose decoded norm is above float32's range is refused.

    References
    ----------
    .. [1] Vargaftik, Ben-Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher, "DRIVE: One-bit Distributed Mean
           Estimation", NeurIPS 2021, with its unbiased scale.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> drive, keys = qsim.compressors.DRIVE(), qsim.Key(0).words(0, 1)
    >>> v = np.linspace(-1, 1, 1000, dtype=np.float32)
    >>> message = drive.compress(qsim.batch.Vectors.dense(v), keys)
    >>> error = drive.decompress(message, keys).to_dense()[0] - v
    >>> message.nonzeros, bool(0.5 < error @ error / (v @ v) < 0.65)
    (1000, True)
    """

    rotations: int = 2
    chunk: int = 2**13

    @property
    def _bits(self) -> int:
        return 1

    @property
    def _centroids(self) -> NDArray[np.float32]:
        return np.ones(1, np.float32)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)


@final
@option
class EDEN(_Gaussian):
    r"""A few bits per coordinate of a randomly rotated vector.

    :math:`Q(v) = S R^{-1} c(R v)`, with :math:`S = \|v\|_2^2 / \langle R v, c(R v) \rangle`, where :math:`c` rounds to
    the nearest of the :math:`2^{\mathrm{bits}}` numbers that are best for a Gaussian (Lloyd-Max), times the root mean
    square of :math:`v`. The rotation :math:`R` is that of `DRIVE`, to which bits=1 is equal but for rounding. A packet
    takes `bits` :math:`n` bits, and 32 for every `chunk` coordinates begun.

    In the limit of large :math:`n` and `chunk` it is unbiased with variance :math:`\omega = 0.571`, 0.133, 0.0358,
    0.00959 for 1, 2, 3, 4 bits.

    Parameters
    ----------
    bits : int
        Bits a coordinate, from 1 to 4.
    rotations : int, default 2
        As for `DRIVE`.
    chunk : int, default 8192
        As for `DRIVE`.

    Raises
    ------
    ValueError
        If `bits` is outside [1, 4], `rotations` is outside [1, 23], or `chunk` is not a power of two up to
        :math:`2^{30}`.

    Notes
    -----
    Short vectors are nearer to the limit than with `DRIVE`: from :math:`n = 8` on no mean error above 0.16, 0.045,
    0.012 was found for 2, 3, 4 bits.

    The level is the index of the number, from +-1 to :math:`\pm2^{\mathrm{bits} - 1}` and never 0. Levels are not
    proportional to what they stand for: decode messages with `decompress`.

    References
    ----------
    .. [1] Vargaftik, Ben-Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher, "EDEN: Communication-Efficient and Robust
           Distributed Mean Estimation for Federated Learning", ICML 2022.
    .. [2] Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory, 1982 (the quantizer).
    .. [3] Max, "Quantizing for minimum distortion", IRE Transactions on Information Theory, 1960 (the quantizer).

    Examples
    --------
    >>> import numpy as np, qsim
    >>> eden, keys = qsim.compressors.EDEN(bits=4), qsim.Key(0).words(0, 1)
    >>> v = np.linspace(-1, 1, 1000, dtype=np.float32)
    >>> message = eden.compress(qsim.batch.Vectors.dense(v), keys)
    >>> error = eden.decompress(message, keys).to_dense()[0] - v
    >>> message.s, round(float(error @ error / (v @ v)), 2)
    (8, 0.01)
    """

    bits: int
    rotations: int = 2
    chunk: int = 2**13

    def __post_init__(self) -> None:
        whole("bits", self.bits, least=1, most=4)
        super().__post_init__()

    @property
    def _bits(self) -> int:
        return self.bits

    @property
    def _centroids(self) -> NDArray[np.float32]:
        return np.array(CENTROIDS[self.bits], np.float32)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(bits=2), cls(bits=4))
