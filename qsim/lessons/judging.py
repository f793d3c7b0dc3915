"""What all judges need: a wrong answer, and values as what they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.lessons.answers import Other, Value

Array = NDArray[Any]


class Wrong(Exception):  # noqa: N818
    """An answer is wrong; the text says how."""


def number_like(name: str, value: Value) -> float:
    """Return a value as a number; an array with one number in it is one."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = float(value.reshape(()))
    if not isinstance(value, int | float):
        raise Wrong(f"{name} must be a number, found {shown(value)}")
    return value


def array_like(name: str, value: Value, shape: tuple[int, ...]) -> Array:
    """Return a value as an array of a shape."""
    if not isinstance(value, np.ndarray):
        raise Wrong(f"{name} must be an array of shape {shape}, found {shown(value)}")
    if value.shape != shape:
        raise Wrong(f"{name} must be an array of shape {shape}, found one of shape {value.shape}")
    return value


def shown(value: Value) -> str:
    """Return a value in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, Other):
        return value.what
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def example(v: Array) -> str:
    """Return the first numbers of a vector."""
    return f"({', '.join(f'{x:.4g}' for x in v[:4])}{', ...' if v.size > 4 else ''})"
