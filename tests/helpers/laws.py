"""What a function of one 24-bit uniform gives, and how often, in exact fractions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

DRAWS = 2**24


def law(draw: Callable[[int], float]) -> dict[float, Fraction]:
    """What a function of the 24-bit uniform gives, and how often: it takes two neighbouring values, changing once."""
    first, last = draw(0), draw(DRAWS - 1)
    if first == last:
        return {first: Fraction(1)}
    low, high = 0, DRAWS - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if draw(middle) == first else (low, middle)
    return {first: Fraction(high, DRAWS), last: 1 - Fraction(high, DRAWS)}


def mean(found: dict[float, Fraction]) -> Fraction:
    return sum(Fraction(value) * chance for value, chance in found.items())


def square_error(found: dict[float, Fraction], x: float) -> Fraction:
    return sum((Fraction(value) - Fraction(x)) ** 2 * chance for value, chance in found.items())
