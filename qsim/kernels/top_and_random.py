"""The largest entries and chance: as many as have some share of the energy, some of them, or some others with them.

The largest come from `keep_largest`, rising by coordinate. Uniform numbers are 53 bits of fold(key, 0).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import MAGNITUDE
from qsim.kernels.hashing import fold


@kernel
def keep_energy(
    keys: NDArray[np.uint64],
    energies: NDArray[np.float64],
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger],
    value: NDArray[np.float32],
    out_offsets: NDArray[np.int64],
) -> int:
    """Keep the fewest of the largest entries of every row whose squares sum to its energy, or one fewer, at random.

    The chance is such that the squares of what is kept have the energy as their mean. The entries that are kept are
    moved to the front, row by row; returns how many there are.
    """
    longest = np.int64(0)
    for row in range(offsets.size - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    magnitudes, counts, sums = np.empty(longest, np.int32), np.empty(256, np.int64), np.empty(256)
    kept = np.uint64(0)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first, size = offsets[row], offsets[row + 1] - offsets[row]
        least, ties = np.int32(0), 0
        if size > 0:
            bits = value[first : first + size].view(np.int32)
            for k in range(size):
                magnitudes[k] = bits[k] & MAGNITUDE
            least, wanted = _least_with_energy(magnitudes[:size], energies[row], counts, sums)
            uniform = np.float64(fold(np.uint64(keys[row]), np.uint64(0)) >> np.uint64(11)) * 2.0**-53
            ties = int(np.floor(wanted)) + int(uniform < wanted - np.floor(wanted))
        for k in range(first, first + size):
            coordinate, x = index[k], value[k]  # read before anything is written, which may be there
            magnitude = np.int32(np.float32(abs(x)).view(np.int32))
            if magnitude > least or (magnitude == least and ties > 0):
                ties -= magnitude == least
                index[kept], value[kept] = coordinate, x
                kept += np.uint64(1)
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def _least_with_energy(
    magnitudes: NDArray[np.int32], energy: float, counts: NDArray[np.int64], sums: NDArray[np.float64]
) -> tuple[np.int32, float]:
    """Return the largest number such that those from it on have the energy, and how many equal to it make it up.

    Digit by digit, as `_kth_largest` in `select`. What was in `magnitudes` is lost.
    """
    left, shift, lacking = magnitudes.size, 23, energy
    while shift >= 0:
        counts[:] = 0
        sums[:] = 0.0
        for k in range(left):
            bucket = np.uint64((magnitudes[k] >> shift) & 255)
            counts[bucket] += 1
            sums[bucket] += np.float64(np.int32(magnitudes[k]).view(np.float32)) ** 2
        chosen, digit = -1, 255
        while digit >= 0 and (chosen < 0 or lacking > sums[chosen]):
            if counts[digit] > 0:
                if chosen >= 0:
                    lacking -= sums[chosen]
                chosen = digit
            digit -= 1
        remaining = np.uint64(0)
        for k in range(left):
            number = magnitudes[k]
            magnitudes[remaining] = number
            remaining += np.uint64(((number >> shift) & 255) == chosen)
        left = int(remaining)
        shift = 0 if shift == 7 else shift - 8
    square = np.float64(np.int32(magnitudes[0]).view(np.float32)) ** 2
    return magnitudes[0], min(max(lacking / square, 0.0), np.float64(left))


@kernel
def pick(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger],
    value: NDArray[np.float32],
    places: NDArray[np.signedinteger],
    k: int,
    scale: float,
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.signedinteger],
    out_value: NDArray[np.float32],
) -> int:
    """Keep the entries at k places of every row, rising, times the scale; behind the last entry there are none.

    Returns how many are kept.
    """
    kept = np.uint64(0)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first, last = offsets[row], offsets[row + 1]
        for j in range(row * k, (row + 1) * k):
            entry = first + np.int64(places[j])
            if entry < last:
                out_index[kept] = index[entry]
                out_value[kept] = np.float32(np.float64(value[entry]) * scale)
                kept += np.uint64(1)
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def with_others(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.float32],
    top_offsets: NDArray[np.int64],
    top_index: NDArray[np.signedinteger],
    top_value: NDArray[np.float32],
    places: NDArray[np.signedinteger],
    others: int,
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.signedinteger],
    out_value: NDArray[np.float32],
) -> int:
    """Keep the largest entries of every row, and what it has at `others` places, rising, among the other coordinates.

    Zeros are left out. Returns how many are kept.
    """
    kept = np.uint64(0)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        entry, last = offsets[row], offsets[row + 1]
        top, end = top_offsets[row], top_offsets[row + 1]
        passed = 0  # largest ones
        for j in range(row * others, (row + 1) * others):
            coordinate = np.int64(places[j]) + passed
            while top < end and top_index[top] <= coordinate:
                out_index[kept], out_value[kept] = top_index[top], top_value[top]
                kept += np.uint64(1)
                top += 1
                passed += 1
                coordinate += 1
            x = np.float32(0.0)
            if index is None:
                x = value[np.uint64(offsets[row] + coordinate)]
            else:
                while entry < last and index[entry] < coordinate:
                    entry += 1
                if entry < last and index[entry] == coordinate:
                    x = value[entry]
            out_index[kept], out_value[kept] = coordinate, x
            kept += np.uint64(x != np.float32(0.0))
        while top < end:
            out_index[kept], out_value[kept] = top_index[top], top_value[top]
            kept += np.uint64(1)
            top += 1
        out_offsets[row + 1] = kept
    return int(kept)
