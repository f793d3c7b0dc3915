"""What a round does between its larger kernels, number by number."""

from __future__ import annotations

import math
import struct
from itertools import pairwise
from typing import Any

import numpy as np

from oracles.hashing import fold

LARGEST = float(np.finfo(np.float32).max)
F32 = np.float32


def fold_round(word: int, turn: Any, low: int, out: Any) -> None:
    for k, _ in enumerate(out):
        out[k] = fold(fold(int(word), int(turn[0])), low + k)


def fold_exchange(word: int, turn: Any, low: int, out: Any) -> None:
    for k, _ in enumerate(out):
        out[k] = fold(fold(fold(int(word), int(turn[0])), 0), low + k)


def number_exchange(word: int, turn: Any, low: int, out: Any) -> None:
    stream = fold(fold(int(word), int(turn[0])), 0) // 2**24 * 2**24
    for k, _ in enumerate(out):
        out[k] = stream + low + k


def fold_down(word: int, turn: Any, out: Any) -> None:
    out[0] = fold(fold(fold(fold(int(word), int(turn[0])), 0), 0), 0)


def begin_round(turn: Any, steps: Any, step: Any, l2: float, too_large: Any) -> int:
    step[0] = steps[turn[1]]
    return int(step[0] * l2 >= 1 or too_large[0] > 0)


def keep_weights(turn: Any, every: int, scale: float, vector: Any, out: Any) -> None:
    done = turn[0] + 1
    if done % every == 0:
        out[turn[2]] = [scale * x for x in vector.tolist()]
        turn[2] += 1


def end_round(
    turn: Any, nonzeros: int, up: int, down: int, down_offsets: Any, receivers: int, rows: int, counted: Any
) -> None:
    packet = 0 if down_offsets is None else int(down_offsets[1])
    counted[turn[1]] = [nonzeros, 8 * up, down + 8 * packet * receivers, rows]
    turn[:2] += 1


def _reached(x: float) -> bool:
    return math.isfinite(x) and -LARGEST <= x <= LARGEST


def to_float32(vector: Any, scale: float, out: Any) -> int:
    found = [scale * x for x in vector.tolist()]
    out[:] = [F32(x) for x in found]
    return sum(not _reached(x) for x in found)


def scale_by_count(row_offsets: Any, step: float, numbers: Any) -> None:
    for first, last in pairwise(row_offsets):
        for r in range(first, last):
            numbers[r] = numbers[r] * F32(step / (last - first))


def shrink(step: float, l2: float, vector: Any, scale: Any) -> None:
    _shrink(1.0 - step * l2, vector, scale)


def shrink_by(factor: Any, turn: Any, scale: Any, vector: Any) -> None:
    _shrink(factor[turn[1]], vector, scale)


def _shrink(factor: float, vector: Any, scale: Any) -> None:
    scale[0] = scale[0] * factor
    if scale[0] < 1 / 2**64:
        vector[:] = [x * float(scale[0]) for x in vector.tolist()]
        scale[0] = 1


def descend(step: float, along: Any, scale: float, vector: Any, too_large: Any) -> None:
    vector[:] = [x - step * g / scale for x, g in zip(vector.tolist(), along.tolist(), strict=True)]
    too_large[0] += sum(not _reached(scale * x) for x in vector.tolist())


def _entries(offsets: Any, index: Any, value: Any) -> list[tuple[int, Any]]:
    """The coordinates and values of the one row that there is."""
    count = int(offsets[1])
    return list(zip(range(count) if index is None else index[:count].tolist(), value[:count], strict=True))


def subtract(offsets: Any, index: Any, value: Any, factor: float, scale: float, vector: Any, too_large: Any) -> None:
    for j, x in _entries(offsets, index, value):
        vector[j] = vector[j] - x * factor / scale
        too_large[0] += not _reached(scale * float(vector[j]))


def weighted(offsets: Any, value: Any, weight: float, out: Any) -> None:
    for k, x in _entries(offsets, None, value):
        zero = 0.0
        out[k] = zero + weight * float(x)


def add_row(offsets: Any, index: Any, value: Any, factor: float, out: Any) -> None:
    for j, x in _entries(offsets, index, value):
        out[j] = out[j] + factor * x


def take_dense(total: Any, marks: Any, out: Any) -> None:
    out[:] = total.tolist()
    total[:], marks[:] = 0, 0


def first_wrong(offsets: Any, value: Any) -> int:
    return next((k for k in range(offsets[-1]) if not math.isfinite(value[k])), -1)


def times(turn: Any, number: int) -> int:
    return int(turn[0]) * number


def reaches(number: int, bound: int) -> int:
    return int(int(number) >= bound)


def exceeds(number: float, most: float) -> int:
    return int(math.isnan(number) or number > most)


def multiply(factor: float, out: Any) -> None:
    out[:] = [x * F32(factor) for x in out]


def difference(scale: float, vector: Any, known: Any, out: Any) -> None:
    out[:] = [F32(scale * x - y) for x, y in zip(vector.tolist(), known.tolist(), strict=True)]


def round_nonzeros(offsets: Any, index: Any, value: Any, out_offsets: Any, out_index: Any, out_value: Any) -> int:
    kept = [(j, F32(x)) for j, x in _entries(offsets, index, value)]
    kept = [(j, x) for j, x in kept if x != 0]
    out_offsets[1] = len(kept)
    out_index[: len(kept)] = [j for j, _ in kept]
    out_value[: len(kept)] = [x for _, x in kept]
    return sum(not math.isfinite(x) for _, x in kept)


def widen(offsets: Any, value: Any, out: Any) -> None:
    for k, x in _entries(offsets, None, value):
        out[k] = float(x)


def plain_step(step: float, l2: float, scale: float, vector: Any, out: Any) -> None:
    out[:] = [step * (l2 * (scale * x)) for x in vector.tolist()]


def accelerate(beta: float, step: Any, velocity: Any) -> None:
    velocity[:] = [v * beta + s for v, s in zip(velocity.tolist(), step.tolist(), strict=True)]


def add_to_average(share: Any, turn: Any, scale: float, vector: Any, average: Any) -> None:
    part = float(share[turn[1]])
    average[:] = [a + part * (scale * x - a) for a, x in zip(average.tolist(), vector.tolist(), strict=True)]


def look_ahead(beta: float, step: Any, velocity: Any, out: Any) -> None:
    out[:] = [s + beta * v for s, v in zip(step.tolist(), velocity.tolist(), strict=True)]


def average(eta: Any, offsets: Any, new: Any, old: Any, out_new: Any, out: Any) -> None:
    out[:] = [(F32(1) - eta) * x for x in old]
    for k in range(offsets[-1]):
        out_new[k] = eta * new[k]


def less(x: Any, shift: Any, out: Any) -> None:
    wide = shift.dtype.type
    out[:] = [F32(wide(a) - b) for a, b in zip(x, shift, strict=True)]


def store(number: int, out: Any) -> None:
    out[0] = number


def copy(x: Any, out: Any) -> None:
    out[:] = x[: len(out)].tolist()


def negative(x: Any, out: Any) -> None:
    out[:] = [-number for number in x[: len(out)].tolist()]


def multiplied(offsets: Any, x: Any, factor: Any, out: Any) -> int:
    lost = 0
    for k in range(offsets[-1]):
        out[k] = x[k] * factor
        lost += int(out[k] == 0) - int(out[k] == 0 and x[k] == 0)
    return lost


def rounded(x: Any, out: Any) -> None:
    out[:] = [F32(number) for number in x.tolist()]


def fill(out: Any, x: float) -> None:
    out[:] = [x] * len(out)


def write_floats(value: Any, data: Any) -> None:
    for k, x in enumerate(value.tolist()):
        data[4 * k : 4 * k + 4] = list(struct.pack("<f", x))


def write_dense(offsets: Any, index: Any, value: Any, n: int, data: Any) -> None:
    data[:] = 0
    for row, (first, last) in enumerate(pairwise(offsets)):
        for k in range(first, last):
            at = 4 * (row * n + int(index[k]))
            data[at : at + 4] = list(struct.pack("<f", value[k]))


def read_floats(data: Any, out: Any) -> None:
    out[:] = [struct.unpack("<f", bytes(data[4 * k : 4 * k + 4]))[0] for k in range(len(out))]


def unsound_offsets(offsets: Any, size: int) -> int:
    """Whether a condition is broken; the kernel counts how many."""
    return int(offsets[0] != 0 or offsets[-1] > size or any(a > b for a, b in pairwise(offsets)))


def clear_behind(offsets: Any, size: int, data: Any) -> None:
    data[offsets[-1] : offsets[-1] + size] = 0
