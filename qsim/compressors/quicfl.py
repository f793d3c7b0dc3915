"""QUIC-FL: rotated coordinates rounded at random and without bias to a few numbers, but for the large ones."""

from __future__ import annotations

from functools import lru_cache
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Memory, Message, Vectors, WithOutliers, dense_offsets, index_type
from qsim.compressors.pieces import InPieces
from qsim.compressors.quicfl_tables import OMEGA, TABLES
from qsim.options import option, whole

SHARED_BITS = {1: 6, 2: 5, 3: 4, 4: 4}
"""How many bits of a dither both ends draw for each coordinate, as in the paper, by the number of bits sent."""


_PARTS = 2**12


@final
@option
class QUICFL(InPieces):
    r"""A few bits per coordinate of a randomly rotated vector, rounded without bias; the largest as they are.

    Let :math:`z = R v / D` be the rotated coordinates over their root mean square :math:`D`. Those with
    :math:`|z_i| > 3.097`, which are 1/512 of all if they look Gaussian, are sent as floats, with their positions. Each
    other is rounded up or down at random, so that what is read, :math:`Y_i`, has the mean :math:`z_i`, and
    :math:`Q(v) = D R^{-1} Y`. Both ends draw a dither of :math:`l` bits for each coordinate, with which a level stands
    for one of :math:`2^l` numbers; without it, rounding is between :math:`2^{\mathrm{bits}}` numbers. A packet takes
    `bits` :math:`n` bits, 32 for every `chunk` coordinates begun, and some 48 for each float.

    Unbiased for every vector, with variance :math:`\omega = 2.996`, 0.512, 0.0980, 0.0219 for 1, 2, 3, 4 bits, and
    without a dither 9.59, 0.845, 0.159, 0.0383: whatever the rotation is. The error of vectors that look Gaussian when
    rotated is 1.474, 0.2155, 0.0431, 0.00959 of :math:`\|v\|^2`, and without a dither 8.60, 0.573, 0.0927, 0.0195.

    Parameters
    ----------
    bits : int
        Bits a coordinate, from 1 to 4.
    shared : bool, default True
        Whether both ends draw a dither for each coordinate, of 6, 5, 4, 4 bits with 1, 2, 3, 4 bits.
    rotations : int, default 2
        How many rotations are applied one after another, from 1 to 23: as for `DRIVE`.
    chunk : int, default 8192
        As for `DRIVE`.

    Raises
    ------
    ValueError
        If `bits` is outside [1, 4], `shared` is no bool, `rotations` is outside [1, 23], or `chunk` is not a power of
        two up to :math:`2^{30}`.

    Notes
    -----
    The variance is proved in docs/theory.md (derived here), for each rotation and every :math:`n`: no numbers whose
    mean square is 1 have a larger mean error. The paper has the error of uniform rotations in the limit of large
    :math:`n`, up to :math:`O(\sqrt{\log n / n})`, as that of a Gaussian coordinate. Two Hadamard transforms make
    vectors look Gaussian; after one, sparse vectors do not, which changes their error and not their mean.

    `EDEN` has a smaller error with 1, 2 and 3 bits (0.571, 0.133, 0.0358), but is unbiased in the limit only. In the
    paper all workers share a rotation, so that the server undoes it once, for the sum; here each has its own.

    Tables are solved for here, with the best rounding for each (derived here); in the paper by a solver, on a grid of
    quantiles. By the same formulas the authors' tables have the errors 1.467, 0.2149, 0.0431, 0.00968 and the variances
    3.19, 0.505, 0.0887, 0.0176.

    Precision: a draw has 24 bits, :math:`l` of them the dither, so that the mean is right to :math:`2^{-24}` of the
    numbers' distances; what is rotated is float32. A sparse vector is made dense, at :math:`O(n \log \mathrm{chunk})`
    time. A piece that is zero, or whose :math:`D` is below the least float32, has a scale of 0 and no entries; one with
    a norm so near float32's range that what is decoded might leave it is refused. What a level stands for follows its
    dither: decode messages with `decompress`.

    References
    ----------
    .. [1] Ben Basat, Vargaftik, Portnoy, Einziger, Ben-Itzhak, Mitzenmacher, "Accelerating Federated Learning with
           Quick Distributed Mean Estimation", ICML 2024 (arXiv 2205.13341; read in a version of 2022).

    Examples
    --------
    >>> import numpy as np, qsim
    >>> compressor, keys = qsim.compressors.QUICFL(bits=4), qsim.Key(0).words(0, 1)
    >>> v = np.linspace(-1, 1, 1000, dtype=np.float32)
    >>> message = compressor.compress(qsim.batch.Vectors.dense(v), keys)
    >>> error = compressor.decompress(message, keys).to_dense()[0] - v
    >>> message.bulk.s, round(float(error @ error / (v @ v)), 2)
    (8, 0.01)
    """

    bits: int
    shared: bool = True
    rotations: int = 2
    chunk: int = 2**13

    emits = WithOutliers

    def __post_init__(self) -> None:
        from qsim.kernels.rotations import MOST_ROUNDS

        whole("bits", self.bits, least=1, most=4)
        if not isinstance(self.shared, bool):
            raise TypeError(f"shared must be True or False, found {self.shared!r}")
        whole("rotations", self.rotations, least=1, most=MOST_ROUNDS)
        super().__post_init__()

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> WithOutliers:
        """Rotate and round a batch. Raises NotFiniteError for NaN, infinity, and numbers near float32's largest."""
        from qsim.kernels.quicfl import round_quicfl

        v, pieces, norms = self._pieces(v)
        level, scale = np.empty(v.value.size, np.int32), np.empty(norms.size)
        most = (
            v.value.size // 4 + norms.size
        )  # those above T are at most 1/T^2 of all, but for rounding of small scales
        offsets, index, exact = (
            np.empty(v.rows + 1, np.int64),
            np.empty(most, index_type(v.n)),
            np.empty(most, np.float32),
        )
        table = _table(self.bits, self._shared_bits)
        round_quicfl(
            pieces,
            v.value,
            norms,
            keys,
            self.rotations,
            self._shared_bits,
            *table,
            level,
            scale,
            offsets,
            index,
            exact,
        )
        bulk = self._levels(v, level, scale, self._s)
        kept = offsets[-1]
        return WithOutliers.of(bulk, Floats(v.n, offsets, index[:kept].copy(), exact[:kept].copy()))

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Rotate a message back, row b with keys[b]. Raises ValueError for one that `compress` does not make."""
        from qsim.kernels.quicfl import values_of_quicfl

        if not isinstance(message, WithOutliers):
            raise ValueError(f"{self!r} makes messages WithOutliers, found {type(message).__name__}")
        bulk, few = self._own(message.bulk, self._s), message.outliers
        assert few.index is not None
        value = np.empty(message.rows * message.n, np.float32)
        row = values_of_quicfl(
            message.n,
            self.chunk,
            bulk.offsets,
            bulk.index,
            bulk.level,
            bulk.scale,
            few.offsets,
            few.index,
            few.value,
            keys,
            self.rotations,
            self._shared_bits,
            _table(self.bits, self._shared_bits)[0],
            value,
        )
        if row >= 0:
            raise ValueError(
                f"row {row} of the message holds a scale, or an outlier beside it, that {self!r} never makes"
            )
        return Vectors(message.n, dense_offsets(message.rows, message.n), None, value)

    def variance(self, n: int) -> float:
        """Return omega, which holds for every n."""
        return OMEGA[self.bits, self._shared_bits]

    @property
    def _shared_bits(self) -> int:
        return SHARED_BITS[self.bits] if self.shared else 0

    @property
    def _s(self) -> int:
        return 1 << (self.bits - 1)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(bits=2), cls(bits=4, shared=False))


@lru_cache
def _table(bits: int, shared_bits: int) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int32]]:
    """Return the numbers in their order, the means of windows of 2^shared_bits of them, and where to look for a mean.

    That is, for even parts of the range, the last mean up to the start of each; so many that few hold a mean.
    """
    half = np.array(TABLES[bits, shared_bits], np.float32)
    table = np.concatenate([-half[::-1], half])
    windows = np.lib.stride_tricks.sliding_window_view(table.astype(np.float64), 1 << shared_bits)
    grid = windows.mean(axis=1)
    starts = np.linspace(grid[0], grid[-1], _PARTS + 1)
    cells = np.searchsorted(grid[:-1], starts, side="right") - 1
    return table, grid, cells.astype(np.int32)
