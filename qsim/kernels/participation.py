"""Who takes part in a planned round, and whose messages arrive: what that makes of counts, weights and rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel


@kernel
def nonzeros_of(offsets: NDArray[np.int64], value: NDArray[np.float32], present: NDArray[np.bool_] | None) -> int:
    """Return how many values are not zero in all rows, or in those of the workers that take part."""
    found = 0
    if present is None:
        for k in range(offsets[offsets.size - 1]):
            found += int(value[k] != np.float32(0.0))
        return found
    for row in range(offsets.size - 1):
        if present[row]:
            for k in range(offsets[row], offsets[row + 1]):
                found += int(value[k] != np.float32(0.0))
    return found


@kernel
def bytes_of(offsets: NDArray[np.int64], present: NDArray[np.bool_] | None) -> int:
    """Return the bytes of all packets, or of those of the workers that take part."""
    if present is None:
        return int(offsets[offsets.size - 1])
    found = 0
    for row in range(offsets.size - 1):
        if present[row]:
            found += offsets[row + 1] - offsets[row]
    return found


@kernel
def rows_of(offsets: NDArray[np.int64], present: NDArray[np.bool_]) -> int:
    """Return how many rows the workers that take part have."""
    found = 0
    for worker in range(offsets.size - 1):
        if present[worker]:
            found += offsets[worker + 1] - offsets[worker]
    return found


@kernel
def weights_of(of_workers: NDArray[np.float64], delivered: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """Write the weights of those whose messages are summed, which are scaled to sum 1; zero for the others.

    Returns what they summed to before, which is 1 if all are summed: their weights are as they are then.
    """
    kept = np.empty(of_workers.size)
    count = 0
    for worker in range(of_workers.size):
        if delivered[worker]:
            kept[count] = of_workers[worker]
            count += 1
    share: float = 1.0 if count == of_workers.size else pairwise_sum(kept[:count])
    for worker in range(of_workers.size):
        weights[worker] = of_workers[worker] / share if delivered[worker] else 0.0
    return share


@kernel
def pairwise_sum(x: NDArray[np.float64]) -> float:
    """Return the sum of numbers, added in the order in which NumPy adds them, so that it is theirs to the last bit."""
    size = x.size
    if size > 128:
        half = size // 2
        half -= half % 8
        return float(pairwise_sum(x[:half]) + pairwise_sum(x[half:]))
    if size < 8:
        first = 0.0
        for k in range(size):
            first += x[k]
        return first
    lanes = x[:8].copy()
    whole = size - size % 8
    for k in range(8, whole):
        lanes[k % 8] += x[k]
    total: float = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
    for k in range(whole, size):
        total += x[k]
    return total


@kernel
def silence(offsets: NDArray[np.int64], value: NDArray[np.float32], heard: NDArray[np.bool_]) -> None:
    """Make the rows of some workers zero: of all that are not heard."""
    for row in range(offsets.size - 1):
        if not heard[row]:
            for k in range(offsets[row], offsets[row + 1]):
                value[k] = np.float32(0.0)


@kernel
def take_entry(entries: NDArray[np.generic], turn: NDArray[np.int64], out: NDArray[np.generic]) -> None:
    """Write the entry of the round, a row."""
    for k in range(out.size):
        out[k] = entries[turn[1], k]


@kernel
def entry(flags: NDArray[np.bool_], turn: NDArray[np.int64]) -> int:
    """Return the flag of the round."""
    return int(flags[turn[1]])


@kernel
def copy_rows(
    offsets: NDArray[np.int64], which: NDArray[np.bool_] | None, x: NDArray[np.floating], out: NDArray[np.floating]
) -> None:
    """Write rows somewhere else: all, or some of them."""
    for row in range(offsets.size - 1):
        if which is None or which[row]:
            for k in range(offsets[row], offsets[row + 1]):
                out[k] = x[k]


@kernel
def is_zero(x: float) -> int:
    """Return whether a number is zero."""
    return int(x == 0.0)


@kernel
def product(x: float, y: float) -> float:
    """Return the product of two numbers."""
    return x * y
