"""What workers find out about their rows for a driver that does not have them: exact, and apart from training."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.block import Block
from qsim.channel import EXACT
from qsim.datasets.labels import Kind
from qsim.datasets.parts import counts_of
from qsim.objectives import Objective
from qsim.objectives.linear import MarginModel
from qsim.objectives.regularised import WithRegulariser
from qsim.weights import Replica
from qsim.workers.tasks import Measurement, Reply


def measured(objective: Objective, block: Block, order: Measurement) -> Reply:
    """Return the answer of the workers of a block, a row each: it is not compressed, and nothing is counted."""
    rows, weights = block.all_rows(), order.weights
    if order.task == "count":
        found = Vectors.dense(np.tile(counts_of(block.data), (block.workers, 1)))
    elif order.task == "loss":
        found = objective.losses(block, rows, weights)
    elif order.task == "gradient":
        found = objective.update(block, rows, weights, 1.0)
    else:
        found = Vectors.dense(_errors(objective, block, weights)[:, None])
    return Reply(block.low, *EXACT["float64"].pack(found, no_keys(block.workers)))


def values(reply: Reply) -> NDArray[Any]:
    """Return what a reply holds, a row a worker."""
    found: NDArray[Any] = EXACT["float64"].unpack(reply.header, reply.packets, no_keys(len(reply.packets))).to_dense()
    return found


def no_keys(workers: int) -> NDArray[np.uint64]:
    """Return keys for what draws no random numbers."""
    return np.zeros(workers, np.uint64)


def require_measurable(objective: Objective) -> None:
    """Refuse objectives whose error cannot be told from the margins of a worker's rows."""
    inner = objective.objective if isinstance(objective, WithRegulariser) else objective
    if not isinstance(inner, MarginModel) or type(inner).error is not MarginModel.error:
        raise ValueError(
            f"{objective!r} cannot be evaluated where the rows are: Parts take objectives on margins that define"
            " error_of_margins, such as qsim.LogisticRegression(l2=1e-4)"
        )


@dataclass(frozen=True)
class _Labels:
    """The labels of some rows: what `error_of_margins` reads of a data set."""

    labels: NDArray[Any]
    kind: Kind

    @property
    def rows(self) -> int:
        return self.labels.size


def _errors(objective: Objective, block: Block, weights: Replica) -> NDArray[np.float64]:
    """Return the error on the rows of each worker; 0 for a worker without rows."""
    inner: Any = objective.objective if isinstance(objective, WithRegulariser) else objective
    rows = block.all_rows()
    margins, labels = block.margins(rows, weights), block.labels[rows.index]
    errors = [
        inner.error_of_margins(margins[low:high], _Labels(labels[low:high], block.data.kind)) if low < high else 0.0
        for low, high in pairwise(rows.offsets.tolist())
    ]
    return np.array(errors)
