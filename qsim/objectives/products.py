"""Products of the rows of a data set with weights, and of their transpose with a number for each row, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.datasets import Dataset
from qsim.options import refuse_masked


def margins_of(data: Dataset, w: Any, width: int = 1) -> NDArray[np.float64]:
    """Return the margins of every row, in float64, shape (rows,) or (rows, width).

    Raises ValueError if w has the wrong shape.
    """
    refuse_masked("w", w)
    weights = np.ascontiguousarray(w, np.float64)
    if weights.shape != (data.features * width,):
        raise ValueError(f"w must have shape ({data.features * width},) for {data!r}, found {weights.shape}")
    columns = data.indices.view(f"u{data.indices.itemsize}")
    if width == 1:
        from qsim.kernels.csr import margins

        out = np.empty(data.rows)
        margins(data.indptr, columns, data.values, None, weights, out)
    else:
        from qsim.kernels.multiclass import class_margins

        out = np.empty((data.rows, width))
        class_margins(data.indptr, columns, data.values, None, weights, out)
    return out


def rmatvec(data: Dataset, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return X^T slopes, in float64, for slopes of the shape of margins: one number for each weight."""
    columns = data.indices.view(f"u{data.indices.itemsize}")
    out = np.zeros(data.features * (slopes.size // data.rows))
    if slopes.ndim == 1:
        from qsim.kernels.csr import scatter

        scatter(data.indptr, columns, data.values, slopes, out)
    else:
        from qsim.kernels.multiclass import scatter_classes_support

        whole, every = np.array([0, data.rows]), np.arange(data.rows)
        support = np.array([0, data.features])
        scatter_classes_support(data.indptr, columns, data.values, every, whole, slopes, support, out)
    return out
