"""Buckets: runs of coordinates with a norm each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Levels, Memory, Message, Vectors, dense_offsets, index_type
from qsim.compressors.base import Compressor, NotFiniteError, as_float32, require_compressor, require_finite
from qsim.compressors.wrapper import Wrapper
from qsim.options import option, whole


@final
@option
class Bucketed(Wrapper):
    r"""Buckets: runs of coordinates that are compressed separately, each with a scale of its own.

    .. math::

        Q(v) = (C(v_1), C(v_2), \ldots),

    where :math:`v_1`, :math:`v_2`, ... are runs of `size` coordinates, the last of which may be shorter. The variance
    and the contraction are those of :math:`C` at length :math:`\min(n, \mathrm{size})`, since the errors of the buckets
    add up.

    Parameters
    ----------
    compressor : Compressor
        The compressor :math:`C`, which makes `Levels` with one scale.
    size : int
        Coordinates in a bucket.

    Raises
    ------
    TypeError
        If `compressor` is not a compressor.
    ValueError
        If `size` is below 1, or the compressor makes no levels, has a memory, or is bucketed.

    Notes
    -----
    A bucket costs 32 bits more on the wire (unless all scales are one fixed number) and has its own key,
    `key.fold(bucket)`. The last one is padded with zeros that are not sent. If the certificates of :math:`C` hold only
    as :math:`n` grows, there are none: a bucket does not grow.

    A sparse vector stays sparse if :math:`C` keeps it so, at a cost of :math:`O(\text{non-zeros} + \mathrm{buckets})`.

    References
    ----------
    .. [1] Alistarh et al., "QSGD", NeurIPS 2017, section 4.

    Examples
    --------
    >>> import qsim
    >>> compressor = qsim.compressors.Bucketed(qsim.QSGD(levels=1), size=2)
    >>> message = compressor.quantize([3.0, 0.0, 0.0, 0.0, -0.5], qsim.Key(0))
    >>> message.scale.tolist(), message.vectors().to_dense().tolist()
    ([3.0, 0.0, 0.5], [[3.0, 0.0, 0.0, 0.0, -0.5]])
    """

    compressor: Compressor
    size: int

    emits = Levels
    asymptotic = False
    few_levels = False

    def __post_init__(self) -> None:
        whole("size", self.size, least=1)
        inner = self.compressor
        if isinstance(inner, Bucketed):
            raise ValueError(f"a bucket has one scale, so buckets hold no buckets, found {inner!r}")
        require_compressor("compressor", inner, "put it around the buckets, as ErrorFeedback(Bucketed(...))")
        if inner.emits is not Levels:
            raise ValueError(f"only levels have a scale for every bucket, but {inner!r} makes {inner.emits.__name__}")

    @property
    def ignores_zeros(self) -> bool:
        return self.compressor.ignores_zeros

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Levels:
        """Compress a batch. Raises NotFiniteError for NaN, infinity and what the compressor refuses."""
        from qsim.kernels.buckets import fold_buckets

        v, buckets = as_float32(v), self._buckets(v.n)
        try:
            message = self.compressor.compress(self._split(v), fold_buckets(keys, buckets))
        except NotFiniteError as error:
            require_finite(v)
            raise self._placed(error, buckets) from None
        assert isinstance(message, Levels)
        if message.bucket:
            raise ValueError(f"{self.compressor!r} makes buckets of its own, of size {message.bucket}")
        offsets, index, level = self._joined(message.offsets, message.index, message.level, v.n)
        return Levels(v.n, offsets, index, level, message.scale, message.s, self.size, message.fixed)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return what the compressor makes of every bucket."""
        from qsim.kernels.buckets import fold_buckets

        assert isinstance(message, Levels)
        n, width, buckets = message.n, self._width(message.n), self._buckets(message.n)
        offsets, index = self._cut(message.offsets, message.index, n)
        parts = replace(message, n=width, offsets=offsets, index=index, bucket=0)
        v = self.compressor.decompress(parts, fold_buckets(keys, buckets))
        if v.index is None:
            value = v.value.reshape(message.rows, buckets * width)[:, :n]
            return Vectors(n, dense_offsets(message.rows, n), None, np.ascontiguousarray(value).reshape(-1))
        return Vectors(n, *self._joined(v.offsets, v.index, v.value, n))

    def variance(self, n: int) -> float | None:
        """Return omega of the compressor at length min(n, size)."""
        return None if self.compressor.asymptotic else self.compressor.variance(self._width(n))

    def contraction(self, n: int) -> float | None:
        """Return delta of the compressor at length min(n, size)."""
        return None if self.compressor.asymptotic else self.compressor.contraction(self._width(n))

    def expected_nonzeros(self, v: ArrayLike) -> float | None:
        """Return the sum over the buckets."""
        found = [self.compressor.expected_nonzeros(part) for part in self._parts(v)]
        return None if None in found else float(sum(x for x in found if x is not None))

    def exact_variance(self, v: ArrayLike) -> float | None:
        """Return the sum over the buckets."""
        found = [self.compressor.exact_variance(part) for part in self._parts(v)]
        return None if None in found else float(sum(x for x in found if x is not None))

    def _width(self, n: int) -> int:
        return min(n, self.size)

    def _buckets(self, n: int) -> int:
        return -(-n // self.size)

    def _parts(self, v: ArrayLike) -> list[NDArray[Any]]:
        vector = np.asarray(v)
        return np.split(vector, range(self.size, vector.size, self.size))

    def _split(self, v: Vectors) -> Vectors:
        """Return the buckets of all rows as rows."""
        width, buckets = self._width(v.n), self._buckets(v.n)
        if v.index is None:
            value = v.value.reshape(v.rows, v.n)
            if v.n < buckets * width:
                value = np.pad(value, ((0, 0), (0, buckets * width - v.n)))
            return Vectors(width, dense_offsets(v.rows * buckets, width), None, value.reshape(-1))
        return Vectors(width, *self._cut(v.offsets, v.index, v.n), v.value)

    def _cut(self, offsets: NDArray[np.int64], index: NDArray[Any], n: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the offsets of the buckets of sparse rows, and the coordinates in them."""
        from qsim.kernels.buckets import split_rows

        width, buckets = self._width(n), self._buckets(n)
        cut = np.empty((offsets.size - 1) * buckets + 1, np.int64)
        inside = np.empty(index.size, index_type(width))
        split_rows(offsets, index, width, buckets, cut, inside)
        return cut, inside

    def _joined(
        self, offsets: NDArray[np.int64], index: NDArray[Any], entry: NDArray[Any], n: int
    ) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        """Return the offsets, coordinates and entries of rows that are cut into buckets."""
        from qsim.kernels.buckets import join_buckets

        width, buckets = self._width(n), self._buckets(n)
        whole_offsets = np.empty((offsets.size - 1) // buckets + 1, np.int64)
        coordinates, entries = np.empty(index.size, index_type(n)), np.empty_like(entry)
        kept = join_buckets(offsets, index, entry, width, buckets, n, whole_offsets, coordinates, entries)
        return whole_offsets, coordinates[:kept], entries[:kept]

    def _placed(self, error: NotFiniteError, buckets: int) -> NotFiniteError:
        """Return an error that names the row and the bucket, for one that takes the bucket for the row."""
        if error.row is None:
            return error
        row, bucket = divmod(error.row, buckets)
        return NotFiniteError(f"row {row} of the batch, bucket {bucket}, taken as a row of its own: {error}", row)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        from qsim.compressors.qsgd import QSGD

        return (cls(QSGD(levels=4), size=16),)
