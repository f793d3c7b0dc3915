"""Progressive validation: rows are scored at the weights that came down, before anybody has learnt from them."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.block import Block, Rows
from qsim.objectives import Objective
from qsim.objectives.wrapper import innermost
from qsim.weights import Replica
from qsim.workers.measurements import is_measurable


def scored(objective: Objective, block: Block, met: list[Rows], weights: Replica) -> NDArray[np.float64]:
    """Return three numbers for each worker: of rows that met the weights, how many, and the sums of losses and errors.

    The losses are without the regulariser; the errors are NaN for an objective that does not tell them from margins.
    Nothing of it is counted as work.
    """
    inner: Any = innermost(objective)
    apart = copy(block)
    apart.met = apart.touched = None
    found = np.zeros((block.workers, 3))
    with np.errstate(over="ignore", invalid="ignore"):  # of weights that diverge
        for rows in met:
            counts = np.diff(rows.offsets)
            found[:, 0] += counts
            if is_measurable(objective):
                found[:, 1:] += np.stack(inner.score_rows(apart, rows, weights), axis=1)
            else:
                found[:, 1] += counts * inner.losses(apart, rows, weights).to_dense()[:, 0]
                found[:, 2] = np.nan
    return found
