"""Vectors cut into pieces that are rotated, with a level for every coordinate and a scale for each piece."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Levels, Message, Vectors, dense_offsets, index_type
from qsim.compressors.base import Compressor, NotFiniteError, as_float32, require_finite
from qsim.compressors.signs import filled
from qsim.options import whole


class InPieces(Compressor):
    """Base of what rotates the pieces of a vector.

    A row is cut into pieces of `chunk` coordinates, and the remainder joins the last piece.
    """

    chunk: int

    dense = True
    keeps_sparse = False

    def __post_init__(self) -> None:
        whole("chunk", self.chunk, least=1, most=2**30)
        if self.chunk & (self.chunk - 1):
            raise ValueError(f"chunk must be a power of two, found {self.chunk}; use {1 << self.chunk.bit_length()}")

    def _pieces(self, v: Vectors) -> tuple[Vectors, NDArray[np.int64], NDArray[np.float64]]:
        """Return dense float32 vectors, where pieces begin, and their norms; refuse what is not finite."""
        from qsim.kernels.norms import l2_norms
        from qsim.kernels.rotations import piece_offsets

        v = filled(as_float32(v))
        pieces = piece_offsets(v.rows, v.n, self.chunk)
        norms = l2_norms(pieces, None, v.value)
        if not np.isfinite(norms).all():
            require_finite(v)
        return v, pieces, norms

    def _levels(self, v: Vectors, level: NDArray[np.int32], scale: NDArray[np.float64], s: int) -> Levels:
        """Give every run of `chunk` coordinates the scale of its piece, and leave out the levels where it is zero."""
        if not np.isfinite(scale).all():
            row = int(np.argmax(~np.isfinite(scale))) * v.rows // scale.size
            raise NotFiniteError(f"row {row} of the batch is so large that it may be decoded as infinite", row)
        n, rows = v.n, v.rows
        scales = scale.astype(np.float32).reshape(rows, max(1, n // self.chunk))
        bucket = self._bucket(n)
        if bucket and n % bucket:
            scales = np.concatenate([scales, scales[:, -1:]], axis=1)  # the rest is in the last piece
        index = np.tile(np.arange(n, dtype=index_type(n)), rows)
        offsets = dense_offsets(rows, n)
        if not scales.all():
            kept = np.repeat(scales != 0, self.chunk, axis=1)[:, :n]
            offsets = np.concatenate([offsets[:1], np.cumsum(kept.sum(axis=1), dtype=np.int64)])
            index, level = index[kept.reshape(-1)], level[kept.reshape(-1)]
        return Levels(n, offsets, index, level, scales.reshape(-1), s, bucket)

    def _own(self, message: Message, s: int) -> Levels:
        """Return the levels if they are such as `_levels` makes, and refuse others."""
        bucket = self._bucket(message.n)
        if not isinstance(message, Levels) or (message.s, message.bucket) != (s, bucket):
            raise ValueError(f"{self!r} makes Levels with s = {s} and bucket = {bucket}")
        return message

    def _bucket(self, n: int) -> int:
        return self.chunk if n > self.chunk else 0
