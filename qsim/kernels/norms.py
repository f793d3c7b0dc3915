"""The l_p norm of every row, for any p >= 1."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.lanes import LANES
from qsim.kernels.quantize import max_norms


@kernel
def lp_norms(
    offsets: NDArray[np.int64], index: NDArray[np.int32] | None, value: NDArray[np.float32], p: float
) -> NDArray[np.float64]:
    """Return M (sum_i (|x_i| / M)^p)^(1/p), M the largest magnitude, so that nothing overflows or vanishes.

    In float64, summed in lanes by coordinate and the lanes in halves, as in `l2_norms`. The norm of a row with NaN or
    infinity is M.
    """
    norms = max_norms(offsets, value)
    ratio, power, lanes = np.empty(LANES, np.float64), np.empty(LANES, np.float64), np.empty(LANES, np.float64)
    for row in range(norms.size):
        largest = norms[row]
        if largest > 0.0 and math.isfinite(largest):
            inverse, lanes[:] = 1.0 / largest, 0.0
            first, last = offsets[row], offsets[row + 1]
            for start in range(first, last, LANES):
                size = min(LANES, last - start)
                ratio[size:] = 0.0
                x = value[start : start + size]
                for k in range(size):
                    ratio[k] = abs(np.float64(x[k])) * inverse
                _raise_to(ratio, p, power)
                if index is None:
                    for k in range(LANES):
                        lanes[k] += power[k]
                else:
                    for k in range(size):
                        lanes[np.uint64(index[start + k] & (LANES - 1))] += power[k]
            half = LANES // 2
            while half > 0:
                for lane in range(half):
                    lanes[lane] += lanes[lane + half]
                half //= 2
            norms[row] = largest * lanes[0] ** (1.0 / p)
    return norms


@kernel
def _raise_to(x: NDArray[np.float64], p: float, out: NDArray[np.float64]) -> None:
    """Write LANES numbers in [0, 1] to the power p: by products and a root if p is a multiple of 1/2 up to 16."""
    whole = math.floor(p)
    if p > 16.0 or (p != whole and p != whole + 0.5):
        for k in range(LANES):
            out[k] = x[k] ** p
        return
    for k in range(LANES):
        out[k] = x[k] if p == whole else x[k] * math.sqrt(x[k])
    for _ in range(int(whole) - 1):
        for k in range(LANES):
            out[k] *= x[k]
