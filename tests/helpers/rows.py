"""Rows of data sets, as oracles take them."""

from __future__ import annotations

import numpy as np

from qsim.datasets import Dataset


def as_dicts(data: Dataset) -> list[dict[int, float]]:
    matrix = data.to_scipy().toarray().astype(np.float64)
    return [{j: float(x) for j, x in enumerate(row) if x} for row in matrix]
