"""What a round does between its larger kernels: keys, steps, weights, shifts and counts, for rounds that are planned.

Each does to the last bit what the objects of a round in Python do (`Key`, `Weights`, `Memory`, `Vectors`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import NUMBER_BITS, fold

LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = 2.0**-64  # as in `qsim/weights.py`


@kernel
def fold_round(word: np.uint64, turn: NDArray[np.int64], low: int, out: NDArray[np.uint64]) -> None:
    """Write the words of workers low, low + 1, ... for a round: fold(fold(word, round), worker)."""
    of_round = fold(word, np.uint64(turn[0]))
    for worker in range(out.size):
        out[worker] = fold(of_round, np.uint64(low + worker))


@kernel
def fold_exchange(word: np.uint64, turn: NDArray[np.int64], low: int, out: NDArray[np.uint64]) -> None:
    """Write the words for the first exchange of a round: fold(fold(fold(word, round), 0), worker)."""
    of_exchange = fold(fold(word, np.uint64(turn[0])), np.uint64(0))
    for worker in range(out.size):
        out[worker] = fold(of_exchange, np.uint64(low + worker))


@kernel
def number_exchange(word: np.uint64, turn: NDArray[np.int64], low: int, out: NDArray[np.uint64]) -> None:
    """Write the numbered words for the first exchange of a round: fold(fold(word, round), 0) and the worker."""
    of_exchange = fold(fold(word, np.uint64(turn[0])), np.uint64(0))
    bits = np.uint64(NUMBER_BITS)
    for worker in range(out.size):
        out[worker] = of_exchange >> bits << bits | np.uint64(low + worker)


@kernel
def begin_round(
    turn: NDArray[np.int64],
    steps: NDArray[np.float64],
    step: NDArray[np.float64],
    l2: float,
    too_large: NDArray[np.int64],
) -> int:
    """Take the step of the round; return whether it would throw the weights past zero, or some are too large already.

    turn: the round, and which of the rounds that are run at once it is, which is the place of its step.
    """
    step[0] = steps[turn[1]]
    return int(1.0 - step[0] * l2 <= 0.0 or too_large[0] != 0)


@kernel
def fold_down(word: np.uint64, turn: NDArray[np.int64], out: NDArray[np.uint64]) -> None:
    """Write the word for the first trip down of the first exchange of a round."""
    of_exchange = fold(fold(word, np.uint64(turn[0])), np.uint64(0))
    out[0] = fold(fold(of_exchange, np.uint64(0)), np.uint64(0))


@kernel
def keep_weights(
    turn: NDArray[np.int64], every: int, scale: float, vector: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """Write scale times a vector into the next row if the round is one to evaluate: the last of `every`, and so on."""
    if (turn[0] + 1) % every == 0:
        for k in range(vector.size):
            out[turn[2], k] = scale * vector[k]
        turn[2] += 1


@kernel
def end_round(
    turn: NDArray[np.int64],
    nonzeros: int,
    up: int,
    down: int,
    down_offsets: NDArray[np.int64] | None,
    receivers: int,
    rows: int,
    counted: NDArray[np.int64],
) -> None:
    """Write what the round counted, and go on to the next.

    up: bytes. down: the bits of what goes down beside a packet for each receiver, if there is any.
    """
    counted[turn[1], 0] = nonzeros
    counted[turn[1], 1] = 8 * up
    counted[turn[1], 2] = down
    if down_offsets is not None:
        counted[turn[1], 2] += receivers * 8 * down_offsets[1]
    counted[turn[1], 3] = rows
    turn[0] += 1
    turn[1] += 1


@kernel
def to_float32(vector: NDArray[np.float64], scale: float, out: NDArray[np.float32]) -> int:
    """Write scale times a vector as float32; return how many numbers float32 does not reach, or that are none."""
    bad = 0
    for k in range(out.size):
        x = scale * vector[k]
        bad += int(not abs(x) <= LARGEST)
        out[k] = np.float32(x)
    return bad


@kernel
def scale_by_count(row_offsets: NDArray[np.int64], step: float, numbers: NDArray[np.floating]) -> None:
    """Multiply the numbers of each worker's rows, one or several a row, by step / (how many rows it has)."""
    for worker in range(row_offsets.size - 1):
        first, last = row_offsets[worker], row_offsets[worker + 1]
        factor = numbers.dtype.type(step / max(last - first, 1))
        for r in range(np.uint64(first), np.uint64(last)):
            numbers[r] *= factor


@kernel
def shrink(step: float, l2: float, vector: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
    """Multiply the weights, which are scale times a vector, by 1 - step l2."""
    scale[0] *= 1.0 - step * l2
    if scale[0] < _SMALLEST:
        for k in range(vector.size):
            vector[k] *= scale[0]
        scale[0] = 1.0


@kernel
def descend(
    step: float, along: NDArray[np.float64], scale: float, vector: NDArray[np.float64], too_large: NDArray[np.int64]
) -> None:
    """Subtract step times a dense vector from weights that are scale times a vector.

    too_large: how many weights float32 does not reach any more.
    """
    bad = 0
    for k in range(vector.size):
        vector[k] -= step * along[k] / scale
        bad += int(not abs(scale * vector[k]) <= LARGEST)
    too_large[0] += bad


@kernel
def subtract(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32] | None,
    value: NDArray[np.float64],
    factor: float,
    scale: float,
    vector: NDArray[np.float64],
    too_large: NDArray[np.int64],
) -> None:
    """Subtract factor times the one row that there is from weights that are scale times a vector.

    too_large: how many weights float32 does not reach any more.
    """
    for k in range(offsets[1]):
        coordinate = np.uint64(k if index is None else index[k])
        vector[coordinate] -= value[k] * factor / scale
        too_large[0] += int(not abs(scale * vector[coordinate]) <= LARGEST)


@kernel
def weighted(offsets: NDArray[np.int64], value: NDArray[np.float32], weight: float, out: NDArray[np.float64]) -> None:
    """Write weight times the values of the one row that there is, as adding them to zeros does."""
    for k in range(offsets[1]):
        out[k] = 0.0 + weight * np.float64(value[k])


@kernel
def add_row(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32] | None,
    value: NDArray[np.float64],
    factor: float,
    out: NDArray[np.float64],
) -> None:
    """Add factor times the one row that there is to a dense vector."""
    for k in range(offsets[1]):
        out[np.uint64(k if index is None else index[k])] += factor * value[k]


@kernel
def take_dense(total: NDArray[np.float64], marks: NDArray[np.uint64], out: NDArray[np.float64]) -> None:
    """Move all of `total` out; total and marks are zero afterwards."""
    for k in range(total.size):
        out[k] = total[k]
        total[k] = 0.0
    marks[:] = np.uint64(0)


@kernel
def first_wrong(offsets: NDArray[np.int64], value: NDArray[np.float32]) -> int:
    """Return the place of the first value of the rows that is not finite, or -1."""
    for k in range(offsets[offsets.size - 1]):
        if not math.isfinite(value[k]):
            return k
    return -1


@kernel
def times(turn: NDArray[np.int64], number: int) -> int:
    """Return the round times a number."""
    return int(turn[0] * number)


@kernel
def reaches(number: np.int32, bound: int) -> int:
    """Return whether a number is at least the bound."""
    return int(number >= bound)


@kernel
def exceeds(number: float, most: float) -> int:
    """Return whether a number is above the largest, or none."""
    return int(not number <= most)


@kernel
def multiply(factor: float, out: NDArray[np.float32]) -> None:
    """Multiply numbers by a factor, rounded to float32."""
    rounded = np.float32(factor)
    for k in range(out.size):
        out[k] *= rounded


@kernel
def difference(scale: float, vector: NDArray[np.float64], known: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    """Write scale times a vector, less what is known, as float32."""
    for k in range(out.size):
        out[k] = np.float32(scale * vector[k] - known[k])


@kernel
def round_nonzeros(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32] | None,
    value: NDArray[np.float64],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.int32],
    out_value: NDArray[np.float32],
) -> int:
    """Write the numbers of the one row that there is as float32, without those that are zero then.

    Returns how many float32 does not reach, or are none.
    """
    bad = kept = 0
    for k in range(offsets[1]):
        x = np.float32(value[k])
        if x != np.float32(0.0):
            bad += int(not math.isfinite(x))
            out_index[kept] = k if index is None else index[k]
            out_value[kept] = x
            kept += 1
    out_offsets[1] = kept
    return bad


@kernel
def widen(offsets: NDArray[np.int64], value: NDArray[np.float32], out: NDArray[np.float64]) -> None:
    """Write the numbers of the one row that there is as float64."""
    for k in range(offsets[1]):
        out[k] = np.float64(value[k])


@kernel
def plain_step(step: float, l2: float, scale: float, vector: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write step times the gradient of the regulariser at scale times a vector."""
    for k in range(out.size):
        out[k] = step * (l2 * (scale * vector[k]))


@kernel
def accelerate(beta: float, step: NDArray[np.float64], velocity: NDArray[np.float64]) -> None:
    """Multiply a velocity by beta, and add a step to it."""
    for k in range(velocity.size):
        velocity[k] *= beta
        velocity[k] += step[k]


@kernel
def add_to_average(
    share: NDArray[np.float64],
    turn: NDArray[np.int64],
    scale: float,
    vector: NDArray[np.float64],
    average: NDArray[np.float64],
) -> None:
    """Move an average towards scale times a vector, by the share of the round."""
    for k in range(average.size):
        average[k] += share[turn[1]] * (scale * vector[k] - average[k])


@kernel
def shrink_by(
    factor: NDArray[np.float64], turn: NDArray[np.int64], scale: NDArray[np.float64], vector: NDArray[np.float64]
) -> None:
    """Multiply the weights, which are scale times a vector, by the factor of the round."""
    scale[0] *= factor[turn[1]]
    if scale[0] < _SMALLEST:
        for k in range(vector.size):
            vector[k] *= scale[0]
        scale[0] = 1.0


@kernel
def look_ahead(beta: float, step: NDArray[np.float64], velocity: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write a step plus beta times a velocity."""
    for k in range(out.size):
        out[k] = step[k] + beta * velocity[k]


@kernel
def average(
    eta: np.float32,
    offsets: NDArray[np.int64],
    new: NDArray[np.float32],
    old: NDArray[np.float32],
    out_new: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write 1 - eta times the old, and eta times the new, of which there are as many as the offsets say."""
    rest = np.float32(1) - eta
    for k in range(out.size):
        out[k] = rest * old[k]
    for k in range(offsets[offsets.size - 1]):
        out_new[k] = eta * new[k]


@kernel
def less(x: NDArray[np.float32], shift: NDArray[np.floating], out: NDArray[np.float32]) -> None:
    """Write numbers less their shifts, in the precision of these, as float32."""
    for k in range(out.size):
        out[k] = np.float32(-shift[k] + x[k])


@kernel
def store(number: int, out: NDArray[np.int64]) -> None:
    """Write a number into an array."""
    out[0] = number


@kernel
def copy(x: NDArray[np.floating], out: NDArray[np.floating]) -> None:
    """Write numbers somewhere else."""
    for k in range(out.size):
        out[k] = x[k]


@kernel
def negative(x: NDArray[np.floating], out: NDArray[np.floating]) -> None:
    """Write the negatives of numbers."""
    for k in range(out.size):
        out[k] = -x[k]


@kernel
def multiplied(offsets: NDArray[np.int64], x: NDArray[np.float32], factor: np.float32, out: NDArray[np.float32]) -> int:
    """Write factor times the numbers of rows; return how many became zero, having been something else."""
    lost = 0
    for k in range(offsets[offsets.size - 1]):
        out[k] = x[k] * factor
        lost += int(out[k] == np.float32(0.0) and x[k] != np.float32(0.0))
    return lost


@kernel
def rounded(x: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    """Write numbers as float32."""
    for k in range(out.size):
        out[k] = np.float32(x[k])


@kernel
def fill(out: NDArray[np.floating], x: float) -> None:
    """Write one number everywhere."""
    for k in range(out.size):
        out[k] = x


@kernel
def write_floats(value: NDArray[np.float32], data: NDArray[np.uint8]) -> None:
    """Write float32 numbers as bytes, little-endian."""
    words = value.view(np.uint32)
    for k in range(words.size):
        for byte in range(4):
            data[4 * k + byte] = np.uint8(words[k] >> np.uint32(8 * byte) & np.uint32(255))


@kernel
def write_dense(
    offsets: NDArray[np.int64], index: NDArray[np.int32], value: NDArray[np.float32], n: int, data: NDArray[np.uint8]
) -> None:
    """Write sparse rows of length n as float32 of every coordinate, little-endian."""
    words = value.view(np.uint32)
    data[:] = np.uint8(0)
    for row in range(offsets.size - 1):
        for k in range(offsets[row], offsets[row + 1]):
            at = 4 * (row * n + index[k])
            for byte in range(4):
                data[at + byte] = np.uint8(words[k] >> np.uint32(8 * byte) & np.uint32(255))


@kernel
def read_floats(data: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Read float32 numbers from bytes, little-endian."""
    words = out.view(np.uint32)
    for k in range(out.size):
        word = np.uint32(0)
        for byte in range(4):
            word |= np.uint32(data[4 * k + byte]) << np.uint32(8 * byte)
        words[k] = word


@kernel
def unsound_offsets(offsets: NDArray[np.int64], size: int) -> int:
    """Return whether offsets do not rise from 0 to at most the size of what they are offsets in."""
    wrong = int(offsets[0] != 0) + int(offsets[offsets.size - 1] > size)
    for row in range(offsets.size - 1):
        wrong += int(offsets[row] > offsets[row + 1])
    return wrong


@kernel
def clear_behind(offsets: NDArray[np.int64], size: int, data: NDArray[np.uint8]) -> None:
    """Write zeros into the bytes behind the last packet, which decoders may read."""
    end = offsets[offsets.size - 1]
    for k in range(end, end + size):
        data[k] = np.uint8(0)
