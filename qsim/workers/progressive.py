"""Progressive validation: rows are scored at the weights that came down, before anybody has learnt from them."""

from __future__ import annotations

from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.block import Block, Rows
from qsim.objectives import MarginModel, Objective, WithRegulariser
from qsim.weights import Replica
from qsim.workers.measurements import _Labels


def scored(objective: Objective, block: Block, met: list[Rows], weights: Replica) -> NDArray[np.float64]:
    """Return three numbers for each worker: of rows that met the weights, how many, and the sums of losses and errors.

    The losses are without the regulariser. Nothing of it is counted as work.
    """
    inner: Any = objective.objective if isinstance(objective, WithRegulariser) else objective
    apart = copy(block)
    apart.met = apart.touched = None
    found = np.zeros((block.workers, 3))
    with np.errstate(over="ignore", invalid="ignore"):  # of weights that diverge
        for rows in met:
            counts = np.diff(rows.offsets)
            found[:, 0] += counts
            found[:, 1] += counts * inner.losses(apart, rows, weights).to_dense()[:, 0]
            found[:, 2] += counts * _errors(inner, apart, rows, weights)
    return found


def _errors(objective: Any, block: Block, rows: Rows, weights: Replica) -> NDArray[np.float64]:
    """Return the error on some rows of each worker; NaN for an objective that does not tell it from margins."""
    if not isinstance(objective, MarginModel) or type(objective).error is not MarginModel.error:
        return np.full(block.workers, np.nan)
    margins, labels = block.margins(rows, weights), block.labels[rows.index]
    return np.array(
        [
            objective.error_of_margins(margins[low:high], _Labels(labels[low:high], block.data.kind))  # type: ignore[arg-type]
            if low < high
            else 0.0
            for low, high in pairwise(rows.offsets.tolist())
        ]
    )
