"""Batches of vectors: the server's sum, and the search for numbers that are not finite."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import trailing_zeros


@kernel
def add_rows(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32] | None,
    value: NDArray[np.floating],
    weight: NDArray[np.float64],
    total: NDArray[np.float64],
    marks: NDArray[np.uint64],
) -> None:
    """Add weight times row to `total`, row after row in float64, and mark (a bit each) the coordinates that came.

    Rows of weight zero are passed over.
    """
    for row in range(offsets.size - 1):
        if weight[row] == 0.0:
            continue
        first = offsets[row]
        for k in range(first, offsets[row + 1]):
            coordinate = np.uint64(k - first if index is None else index[k])
            total[coordinate] += weight[row] * np.float64(value[k])
            if index is not None:
                marks[coordinate >> np.uint64(6)] |= np.uint64(1) << (coordinate & np.uint64(63))


@kernel
def take_marked(
    total: NDArray[np.float64],
    marks: NDArray[np.uint64],
    out_index: NDArray[np.int32],
    out_value: NDArray[np.float64],
) -> int:
    """Move the marked coordinates out of `total`, in order; total and marks are zero afterwards. Returns how many."""
    taken = 0
    for word in range(marks.size):
        left = marks[word]
        marks[word] = np.uint64(0)
        while left != np.uint64(0):
            coordinate = np.int64(word) * 64 + np.int64(trailing_zeros(left))
            left &= left - np.uint64(1)
            out_index[taken] = coordinate
            out_value[taken] = total[coordinate]
            total[coordinate] = 0.0
            taken += 1
    return taken


@kernel
def subtract_at(
    index: NDArray[np.int32], value: NDArray[np.floating], scale: float, vector: NDArray[np.float64]
) -> None:
    """Subtract value / scale from the vector's entries at the index."""
    for k in range(index.size):
        vector[np.uint64(index[k])] -= np.float64(value[k]) / scale


@kernel
def first_not_finite(value: NDArray[np.floating]) -> int:
    """Return the place of the first NaN or infinity, or -1."""
    for start in range(0, value.size, 4096):
        bad = 0
        part = value[start : start + 4096]
        for k in range(part.size):
            bad += not np.isfinite(part[k])
        if bad > 0:
            for k in range(part.size):
                if not np.isfinite(part[k]):
                    return start + k
    return -1


@kernel
def first_wrong_level(level: NDArray[np.signedinteger], s: int) -> int:
    """Return the place of the first level that is zero, above s or below -s, or -1."""
    for k in range(level.size):
        x = np.int64(level[k])
        if x == 0 or x > s or x < -s:
            return k
    return -1


@kernel
def first_above(value: NDArray[np.floating], most: float) -> int:
    """Return the place of the first magnitude above `most`, or NaN, or -1."""
    for start in range(0, value.size, 4096):
        good = 0
        part = value[start : start + 4096]
        for k in range(part.size):
            good += int(abs(np.float64(part[k])) <= most)
        if good < part.size:
            for k in range(part.size):
                if not abs(np.float64(part[k])) <= most:
                    return start + k
    return -1


@kernel
def first_wrong_row(offsets: NDArray[np.int64], each: int) -> int:
    """Return the first row whose number of entries is not `each`, or below zero if that is -1; -1 if there is none."""
    for row in range(offsets.size - 1):
        size = offsets[row + 1] - offsets[row]
        if size < 0 or (each >= 0 and size != each):
            return row
    return -1


@kernel
def first_unordered(offsets: NDArray[np.int64], index: NDArray[np.int32], n: int) -> int:
    """Return the first row whose coordinates do not rise from 0 on and stay below n, or -1."""
    for row in range(offsets.size - 1):
        previous = np.int64(-1)
        for k in range(offsets[row], offsets[row + 1]):
            if not previous < index[k] < n:
                return row
            previous = np.int64(index[k])
    return -1


@kernel
def add_at_places(
    places: NDArray[np.int32],
    support_offsets: NDArray[np.int64],
    offsets: NDArray[np.int64],
    index: NDArray[np.int32],
    value: NDArray[np.float32],
    sign: np.float32,
    out: NDArray[np.float32],
) -> None:
    """Add sign times each row to its support's entries in `out`; `places` has each coordinate's place on it, or -1."""
    for row in range(offsets.size - 1):
        for k in range(offsets[row], offsets[row + 1]):
            place = np.int64(places[row, np.uint64(index[k])])
            if place >= 0:
                out[np.uint64(support_offsets[row] + place)] += sign * value[k]


@kernel
def add_on_support(
    support_offsets: NDArray[np.int64],
    support: NDArray[np.int32] | None,
    offsets: NDArray[np.int64],
    index: NDArray[np.int32] | None,
    value: NDArray[np.float32],
    sign: np.float32,
    out: NDArray[np.float32],
) -> int:
    """Add sign times each row to its support's entries in `out`; return how many non-zeros of the rows were added.

    Row b of the support has the coordinates support[support_offsets[b] : support_offsets[b + 1]] (all of them if None).
    """
    added = 0
    for row in range(offsets.size - 1):
        here = support_offsets[row]
        last = support_offsets[row + 1]
        for k in range(offsets[row], offsets[row + 1]):
            coordinate = k - offsets[row] if index is None else np.int64(index[k])
            if support is None:
                here = support_offsets[row] + coordinate
            else:
                while here < last and support[here] < coordinate:
                    here += 1
            if here < last and (support is None or support[here] == coordinate):
                out[here] += sign * value[k]
                added += value[k] != 0
    return added
