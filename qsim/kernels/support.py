"""The columns that each worker's rows touch, and where each entry lies among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel


@kernel
def find_support(
    indptr: NDArray[np.int64],
    columns: NDArray[np.uint32],
    order: NDArray[np.int64],
    offsets: NDArray[np.int64],
    place: NDArray[np.int32],
    support: NDArray[np.int32],
    support_offsets: NDArray[np.int64],
    local: NDArray[np.int32],
) -> int:
    """Write each worker's columns, sorted, to `support`, and the place of each entry's column among them to `local`.

    Worker w has the rows order[offsets[w] : offsets[w + 1]] and the columns support[support_offsets[w] :
    support_offsets[w + 1]]. `support` must hold as many as there are entries. `place` is scratch, -1 for each feature,
    and is so again at the end. Returns how many columns were written. The time is that of sorting each support.
    """
    written = 0
    support_offsets[0] = 0
    for worker in range(offsets.size - 1):
        first = written
        for r in range(offsets[worker], offsets[worker + 1]):
            for k in range(indptr[order[r]], indptr[order[r] + 1]):
                if place[columns[k]] < 0:
                    place[columns[k]] = 0
                    support[written] = columns[k]
                    written += 1
        support[first:written].sort()
        for k in range(first, written):
            place[support[k]] = k - first
        for r in range(offsets[worker], offsets[worker + 1]):
            for k in range(indptr[order[r]], indptr[order[r] + 1]):
                local[k] = place[columns[k]]
        for k in range(first, written):
            place[support[k]] = -1
        support_offsets[worker + 1] = written
    return written
