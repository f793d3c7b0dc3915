"""LIBSVM text to arrays: a line a row, `label index:value index:value ...`, every number rounded as `float` does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import load_low
from qsim.kernels.decimals import HARD, LARGEST, MOST_DIGITS, NO_NUMBER, decimal, more_digits

FINE, NO_LABEL, NO_INDEX, WRONG_INDEX, NO_VALUE, TOO_LARGE = range(6)
"""What was found: 0 for good lines; no label; no index with its colon; an index out of order or out of range; no value
behind the colon, or one that float32 cannot hold."""

_NEWLINE, _SPACE, _HASH, _COLON = (np.uint8(ord(byte)) for byte in "\n #:")
_TAB, _RETURN = np.uint8(9), np.uint8(13)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_QID, _FOUR_BYTES = np.uint64(int.from_bytes(b"qid:", "little")), np.uint64(0xFFFFFFFF)


@inlined
def _ends(byte: np.uint8) -> bool:
    """Tell whether a token ends before a byte."""
    return bool(_TAB <= byte <= _RETURN or byte == _SPACE or byte == _HASH)  # noqa: SIM109


@kernel
def parse(
    data: NDArray[np.uint8],
    end: int,
    first: int,
    last: int,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    labels: NDArray[np.float64],
    hard: NDArray[np.int64],
) -> tuple[int, int, int, int, int]:
    """Read the lines of data[:end], the last of which is complete, too: (reason, place, lines, rows, hard numbers).

    first, last: the smallest index there may be, which becomes column 0, and the largest.
    offsets, labels, indices, values: the rows. There must be room for end/2 + 1 rows and end/4 + 1 entries.
    hard: for each number that the caller has to read, its entry (its label: ~row) and its place; room for end/4 + 1.

    Blank lines are no rows; comments (from # to the end of a line) and a `qid:number` before the entries are passed
    over. Unless the reason is FINE, place is where the label, the index or the value starts that is none, or wrong.
    """
    at, place, finish = _ZERO, _ZERO, np.uint64(end)
    lines = row = entry = left = 0
    offsets[0] = 0
    while at < finish:
        least = np.uint64(first)
        labelled = False
        while True:
            while data[at] == _SPACE or (_TAB <= data[at] <= _RETURN and data[at] != _NEWLINE):
                at += _ONE
            if data[at] == _HASH:
                while data[at] != _NEWLINE:
                    at += _ONE
            if data[at] == _NEWLINE:
                break
            place = at
            column = np.int32(0)
            if labelled:
                if load_low(data, at) & _FOUR_BYTES == _QID and entry == offsets[row]:
                    begin = at + np.uint64(4)
                    at, _ = more_digits(data, begin, _ZERO)
                    if at == begin or not _ends(data[at]):
                        return NO_INDEX, int(np.int64(place)), lines, row, left
                    continue
                at, index = more_digits(data, at, _ZERO)
                if at == place or data[at] != _COLON:
                    return NO_INDEX, int(np.int64(place)), lines, row, left
                if index < least or index > np.uint64(last) or at - place > MOST_DIGITS:
                    return WRONG_INDEX, int(np.int64(place)), lines, row, left
                column = np.int32(index - np.uint64(first))
                least = index + _ONE
                at += _ONE
                place = at
                digit = np.uint64(data[at]) - np.uint64(48)
                if digit <= np.uint64(9) and data[at + _ONE] == _SPACE:  # as in data of indicators
                    indices[entry] = column
                    values[entry] = np.float32(digit)
                    entry += 1
                    at += _ONE
                    continue
            at, value, found = decimal(data, at)
            if found == NO_NUMBER or not _ends(data[at]):
                return (NO_VALUE if labelled else NO_LABEL), int(np.int64(place)), lines, row, left
            if found == HARD:
                hard[2 * left] = entry if labelled else ~row
                hard[2 * left + 1] = np.int64(place)
                left += 1
            if not labelled:
                labels[row] = value
                labelled = True
                continue
            if abs(value) > LARGEST:
                return TOO_LARGE, int(np.int64(place)), lines, row, left
            indices[entry] = column
            values[entry] = np.float32(value)
            entry += 1
        at += _ONE
        lines += 1
        if labelled:
            row += 1
            offsets[row] = entry
    return FINE, 0, lines, row, left
