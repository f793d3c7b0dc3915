"""Lines as of click logs, drawn at random: a label, 13 counts and 26 categories, of which some are missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import leading_zeros, ones
from qsim.kernels.hashing import fold

LONGEST = 2 + 13 * 12 + 26 * 9
"""The most bytes that a line may have."""

_COUNTS, _CATEGORIES = 13, 26
_TAB, _NEWLINE, _ZERO = np.uint8(9), np.uint8(10), np.uint8(48)
_SIZES = np.geomspace(10, 2_000_000, _CATEGORIES).astype(np.int64)
_MISSING = np.array([0.0, 0.03, 0.1, 0.25, 0.45])
_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
_UNIT = 2.0**-53
_BIAS, _EFFECT = -1.3, 0.25


@inlined
def _uniform(word: np.uint64) -> float:
    """Return a number in [0, 1)."""
    return float(np.float64(word >> np.uint64(11)) * _UNIT)


@inlined
def _effect(word: np.uint64) -> float:
    """Return a number that is near-normal, with mean 0 and variance 1."""
    return float((np.float64(ones(word)) - 32.0) * 0.25)


@kernel
def write_clicks(model: np.uint64, draw: np.uint64, first: int, rows: int, out: NDArray[np.uint8]) -> int:
    """Write the lines first, ..., first + rows - 1 of a draw to `out`; return how many bytes they are.

    model: the word of what a feature means for the label.
    draw: the word of all that is drawn for a line.
    out: needs room for LONGEST bytes a row.

    A count is missing, or x from 0 on with P(x >= t) near t^-1/(1 + k % 3) for column k, so that its logarithm matters.
    Category k is one of so many, the j-th most frequent with a share near j^-3/4. The label is 1 with probability
    1/(1 + exp(-m)), where m is a sum of near-normal effects of all that is there.
    """
    at = 0
    for row in range(first, first + rows):
        line = fold(draw, np.uint64(row))
        label = at
        at += 1
        margin = _BIAS
        for field in range(_COUNTS + _CATEGORIES):
            out[at] = _TAB
            at += 1
            word = fold(line, np.uint64(field))
            if _uniform(fold(word, np.uint64(0))) < _MISSING[field % 5]:
                continue
            here = fold(model, np.uint64(field))
            if field < _COUNTS:
                bits = min(leading_zeros(word | np.uint64(1)) * np.uint64(1 + field % 3), np.uint64(30))
                number = (np.uint64(1) << bits) - np.uint64(1)
                number += fold(word, np.uint64(1)) & number
                margin += _EFFECT * _effect(here) * (np.float64(bits) - 1.0) * 0.5
                digits = 1
                power = np.uint64(10)
                while number >= power:
                    power *= np.uint64(10)
                    digits += 1
                for place in range(at + digits - 1, at - 1, -1):
                    out[place] = _ZERO + np.uint8(number % np.uint64(10))
                    number //= np.uint64(10)
                at += digits
                continue
            u = _uniform(word)
            which = fold(here, np.uint64(np.int64(np.float64(_SIZES[field - _COUNTS]) * (u * u) * (u * u))))
            margin += _EFFECT * _effect(which)
            for place in range(8):
                out[at] = _DIGITS[(which >> np.uint64(4 * place)) & np.uint64(15)]
                at += 1
        out[at] = _NEWLINE
        at += 1
        clicked = _uniform(fold(line, np.uint64(_COUNTS + _CATEGORIES))) * (1.0 + np.exp(-margin)) < 1.0
        out[label] = _ZERO + np.uint8(clicked)
    return at
