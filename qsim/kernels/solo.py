"""Rounds of a single worker, one after the other: draw a row, slope, quantize, encode, decode, step.

Nothing is computed in another way here than elsewhere: the kernels of a round are called without leaving machine code.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bitcodes import KERNELS as BITCODES
from qsim.kernels.bitcodes import RICE
from qsim.kernels.bits import load_low, store_low
from qsim.kernels.csr import logistic_slopes
from qsim.kernels.decode_status import LEVELS, SIGNS
from qsim.kernels.hashing import fold
from qsim.kernels.norms import l2_norms, max_norms, rounded_up
from qsim.kernels.quantize import levels_to_values, round_to_levels
from qsim.kernels.sampling import draw_passes, draw_with_replacement
from qsim.kernels.varint import KERNELS
from qsim.kernels.vectors import subtract_at

_ENCODE_ONES, _, _DECODE_ONES = KERNELS[SIGNS]
_ENCODE, _, _DECODE = KERNELS[LEVELS]
_ENCODE_RICE_ONES, _, _DECODE_RICE_ONES = BITCODES[RICE][SIGNS]
_ENCODE_RICE, _, _DECODE_RICE = BITCODES[RICE][LEVELS]
_PREFIX = 4  # the bytes of a packet's scale
_MOST = 20  # the bytes of an entry's number and its slack, at most
_SMALLEST = 2.0**-64  # as in `qsim/weights.py`


@kernel
def qsgd_rounds(
    indptr: NDArray[np.int64],
    columns: NDArray[np.uint32],
    values: NDArray[np.float32] | None,
    labels: NDArray[np.int8],
    order: NDArray[np.int64],
    shuffled: NDArray[np.int64],
    passes: NDArray[np.int64],
    data_word: np.uint64,
    wire_word: np.uint64,
    first: int,
    steps: NDArray[np.float64],
    l2: float,
    levels: int,
    largest: bool,
    rice: bool,
    index: NDArray[np.int32],
    vector: NDArray[np.float64],
    scale: float,
    counted: NDArray[np.int64],
) -> tuple[int, float]:
    """Do rounds `first`, `first` + 1, ..., one for each step, on w = scale * vector; (rounds done, scale).

    rice: packets are in Golomb-Rice code, else varints. Rows are drawn from `order`: in passes if `shuffled` has its
    size, else with replacement. `index` is scratch for the longest row. `counted` gets a row a round: the non-zeros of
    its packet, and the packet's bits. Ends before a round that cannot be done: its vector is not finite or too large,
    or the step throws the weights past zero.
    """
    most = index.size
    offsets, row_offsets, rows = np.array([0, order.size]), np.empty(2, np.int64), np.empty(1, np.int64)
    margin, slot, value = np.empty(1, np.float32), np.empty(2, np.int64), np.empty(most, np.float32)
    kept, level = np.empty_like(index), np.empty(most, np.int32)
    read, word = np.empty_like(index), np.empty(most, np.int32)
    span, ends = np.empty(2, np.int64), np.empty(2, np.int64)
    data = np.zeros(_PREFIX + _MOST * most + 64, np.uint8)
    received, total = np.empty(1, np.float32), np.empty(most, np.float32)
    keys, one, parameter = np.empty(1, np.uint64), np.uint64(1), np.empty(1, np.uint8)
    width = 0
    while (1 << width) < levels:
        width += 1
    for done in range(steps.size):
        t, step = np.uint64(first + done), steps[done]
        if step * l2 >= 1.0:
            return done, scale
        if shuffled.size > 0:
            keys[0] = fold(data_word, np.uint64(0))
            draw_passes(keys, order, offsets, 1, int(t), shuffled, passes, row_offsets, rows)
        else:
            keys[0] = fold(fold(data_word, t), np.uint64(0))
            draw_with_replacement(keys, order, offsets, 1, row_offsets, rows)
        row = np.uint64(rows[0])
        start, last = np.uint64(indptr[row]), np.uint64(indptr[row + one])
        size = last - start
        even, odd, k = np.float32(0.0), np.float32(0.0), start
        while k + one < last:  # as in `margins`
            if values is None:
                even += np.float32(scale * vector[columns[k]])
                odd += np.float32(scale * vector[columns[k + one]])
            else:
                even += np.float32(scale * vector[columns[k]]) * values[k]
                odd += np.float32(scale * vector[columns[k + one]]) * values[k + one]
            k += one + one
        if k < last:
            x = np.float32(scale * vector[columns[k]])
            even += x if values is None else x * values[k]
        margin[0] = even + odd
        logistic_slopes(margin, labels, rows)
        slope = margin[0] * np.float32(step)
        for i in range(size):
            index[i] = columns[start + i]
            value[i] = np.float32(0.0) + (slope if values is None else slope * values[start + i])
        span[0], span[1] = 0, size
        here, numbers = index[:size], value[:size]
        norms = max_norms(span, numbers) if largest else l2_norms(span, here, numbers)
        norm, finite = rounded_up(norms)
        if not (finite and math.isfinite(even + odd)):
            return done, scale
        keys[0] = fold(fold(fold(wire_word, t), np.uint64(0)), np.uint64(0))
        round_to_levels(vector.size, span, here, numbers, norm, levels, keys, slot, kept, level)
        if rice:
            parameter[0] = 0  # as in `GolombRice`
            ratio = 9 * (vector.size - slot[1]) // max(13 * slot[1], 1)
            while ratio > 1:
                ratio >>= 1
                parameter[0] += 1
            if levels == 1:
                _ENCODE_RICE_ONES(slot, kept, level, vector.size, levels, parameter, _PREFIX, ends, data)
            else:
                _ENCODE_RICE(slot, kept, level, vector.size, levels, parameter, _PREFIX, ends, data)
        elif levels == 1:
            _ENCODE_ONES(slot, kept, level, vector.size, levels, width, _PREFIX, ends, data)
        else:
            _ENCODE(slot, kept, level, vector.size, levels, width, _PREFIX, ends, data)
        head = load_low(data, np.uint64(0)) >> np.uint64(32) << np.uint64(32)
        store_low(data, np.uint64(0), head | np.uint64(norm.view(np.uint32)[0]))
        received.view(np.uint32)[0] = np.uint32(load_low(data, np.uint64(0)) & np.uint64(0xFFFFFFFF))
        if rice and levels == 1:
            _DECODE_RICE_ONES(data, ends, _PREFIX, vector.size, levels, slot, read, word)
        elif rice:
            _DECODE_RICE(data, ends, _PREFIX, vector.size, levels, slot, read, word)
        elif levels == 1:
            _DECODE_ONES(data, ends, _PREFIX, vector.size, levels, width, slot, read, word)
        else:
            _DECODE(data, ends, _PREFIX, vector.size, levels, width, slot, read, word)
        levels_to_values(slot, read, word, received, vector.size, levels, total)
        found = slot[1]
        count = 0
        for i in range(found):
            count += total[i] != np.float32(0.0)
        counted[done, 0], counted[done, 1] = count, 8 * ends[1]
        if l2 != 0.0:
            scale *= 1.0 - step * l2
            if scale < _SMALLEST:
                for j in range(vector.size):
                    vector[j] *= scale
                scale = 1.0
        subtract_at(read[:found], total[:found], scale, vector)
    return steps.size, scale
