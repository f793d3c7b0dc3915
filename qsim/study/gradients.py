"""The gradients of a run's workers, for studies of what is sent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.block import Block
from qsim.keys import Key, Purpose
from qsim.simulation import Run
from qsim.weights import Replica


def worker_gradients(run: Run, weights: NDArray[np.float64]) -> Vectors:
    """Return the gradient of each worker's rows at weights (the loss alone, without its regulariser), a row for each.

    >>> import qsim
    >>> data = qsim.datasets.load("spark_sample")
    >>> run = qsim.Run(data, qsim.LogisticRegression(l2=0.1), qsim.GradientDescent(), workers=4)
    >>> worker_gradients(run, np.zeros(data.features)).rows
    4
    """
    shards = run.partition.split(run.load(), run.workers, Key(run.seed).fold(Purpose.PARTITION))
    block = Block(shards, 0, run.workers)
    return run.objective.update(block, block.all_rows(), Replica(weights.astype(np.float32)), 1.0)
