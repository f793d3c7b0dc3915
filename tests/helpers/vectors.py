"""Vectors as examples and as batches, and what arrives of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qsim.batch import Levels, Vectors
from qsim.compressors import Compressor

floats = st.floats(-(2.0**90), 2.0**90, width=32)
few = st.integers(-3, 3).map(np.float32)  # so that there are ties
vectors = arrays(np.float32, st.integers(1, 150), elements=st.one_of(few, floats))
sizes = st.one_of(st.integers(1, 20), st.integers(1, 200))
words = st.integers(0, 2**64 - 1)


def sparse(v: np.ndarray, kept: np.ndarray) -> Vectors:
    """One sparse row with the entries of v at the coordinates in `kept`."""
    return Vectors(v.size, np.array([0, kept.size]), kept.astype(np.int32), v[kept])


def tiled(v: np.ndarray, rows: int) -> Vectors:
    return Vectors.dense(np.tile(np.asarray(v, np.float32), (rows, 1)))


def decoded(compressor: Compressor, v: Vectors, keys: np.ndarray) -> np.ndarray:
    return compressor.decompress(compressor.compress(v, keys), keys).to_dense()


def levels_of(message: Levels) -> dict[int, int]:
    return dict(zip(message.index.tolist(), message.level.tolist(), strict=True))
