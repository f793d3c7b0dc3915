"""Delays, from uniform numbers."""

from __future__ import annotations

from math import exp, log


def uniform(word: int) -> float:
    return ((word >> 12) + 0.5) / 2**52


def exponential(scale: float, u: float) -> float:
    return -scale * log(1 - u)


def pareto_above(least: float, shape: float, x: float) -> float:
    """P(delay > x)."""
    return exp(-shape * log(x / least)) if x > least else 1.0
