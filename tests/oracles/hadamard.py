"""The fast Walsh-Hadamard transform."""

from __future__ import annotations

import math

import numpy as np


def hadamard(x: list[np.float32]) -> list[np.float32]:
    """The plain algorithm, level by level, in float32."""
    x = [np.float32(1.0 / math.sqrt(len(x))) * number for number in x]
    distance = 1
    while distance < len(x):
        for k in range(len(x)):
            if not k & distance:
                x[k], x[k + distance] = x[k] + x[k + distance], x[k] - x[k + distance]
        distance *= 2
    return x
