"""Signs: the sums that their scales are made of, and the signs themselves.

Rows are dense here, or their zeros are left out; a sum takes entry k of a row in lane k % 32, in float64, and adds the
lanes in halves, so that it has one order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.simd import LANES, lanes_total


@kernel
def signs_to_levels(
    offsets: NDArray[np.int64],
    value: NDArray[np.float32],
    wanted: NDArray[np.bool_],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
    out_level: NDArray[np.int32],
) -> None:
    """Write 1 for every entry >= 0 and -1 for the others, in the dense rows that are wanted; the others stay empty."""
    used = 0
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        if wanted[row]:
            entries = value[offsets[row] : offsets[row + 1]]
            index = out_index[used : used + entries.size]
            level = out_level[used : used + entries.size]
            for k in range(entries.size):
                index[k] = k
                level[k] = 1 if entries[k] >= np.float32(0.0) else -1
            used += entries.size
        out_offsets[row + 1] = used


@kernel
def means_of_signs(
    offsets: NDArray[np.int64],
    value: NDArray[np.float32],
    positive: NDArray[np.bool_],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
) -> bool:
    """Fill in which entries are >= 0, and for every row the means of the others and of those; 0 for none.

    Means are rounded once to float32, to nearest. Returns whether all entries are finite.
    """
    finite = True
    below, above = np.empty(LANES, np.float64), np.empty(LANES, np.float64)
    zero = np.float32(0.0)
    for row in range(low.size):
        below[:] = 0.0
        above[:] = 0.0
        entries = value[offsets[row] : offsets[row + 1]]
        bits = positive[offsets[row] : offsets[row + 1]]
        whole = entries.size - entries.size % LANES
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                x = entries[start + lane]
                below[lane] += np.float64(zero if x >= zero else x)  # a NaN goes here, and is seen in the sum
                above[lane] += np.float64(x if x >= zero else zero)
        for k in range(whole, entries.size):
            x = entries[k]
            below[k - whole] += np.float64(zero if x >= zero else x)
            above[k - whole] += np.float64(x if x >= zero else zero)
        count = 0
        for k in range(entries.size):
            bits[k] = entries[k] >= zero
            count += bits[k]
        sums = lanes_total(below), lanes_total(above)
        finite = finite and np.isfinite(sums[0]) and np.isfinite(sums[1])
        low[row] = sums[0] / max(entries.size - count, 1)
        high[row] = sums[1] / max(count, 1)
    return finite


@kernel
def without_zeros(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32] | None,
    value: NDArray[np.float32],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
    out_value: NDArray[np.float32],
) -> int:
    """Write the entries that are not zero, with their coordinates; return how many there are."""
    kept = np.uint64(0)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first = offsets[row]
        for k in range(first, offsets[row + 1]):
            out_index[kept] = k - first if index is None else index[k]
            out_value[kept] = value[k]
            kept += np.uint64(value[k] != np.float32(0.0))
        out_offsets[row + 1] = kept
    return int(kept)
