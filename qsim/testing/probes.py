"""Vectors of any length on which sums of errors show a bias, and the sums that are taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.keys import Key
from qsim.testing.gallery import Vector

MAIN = ("v", "sign(v)", "the large coordinates", "the middle ones", "the small ones")
"""The directions whose power is reported: errors along v, along its signs, and on thirds of the coordinates by size."""

_EDGES = tuple(2**k + step for k in range(8, 17) for step in (-1, 0, 1))


@dataclass(frozen=True, eq=False)
class Probe:
    """A vector and the directions along which its error is summed: columns d, scaled so that <v, d> is 1.

    So a mean of <Q(v) - v, d> is the part by which these coordinates come back too large.
    """

    name: str
    v: Vector
    columns: dict[str, NDArray[np.float64]]

    @property
    def directions(self) -> NDArray[np.float64]:
        """The columns as an array (n, directions)."""
        return np.stack(list(self.columns.values()), axis=1) if self.columns else np.zeros((self.v.size, 0))

    @property
    def is_flat(self) -> bool:
        """Whether all numbers but zeros are of one magnitude, which rounding to levels of a norm treats alike."""
        return np.unique(np.abs(self.v[self.v != 0])).size == 1

    def in_norms(self, name: str) -> bool:
        """Whether a direction is of length 1 / ||v||, so that a mean along it is a part of ||v||."""
        return name.startswith(("random", "coordinate")) and not self.name.startswith("the first")


def probe(name: str, v: Vector, key: Key, coordinates: bool = False) -> Probe:
    """Return a vector with all its directions: `MAIN`, signs and places of coordinates, and two random ones.

    `coordinates`: every coordinate by itself too, in parts of ||v||.
    """
    exact = v.astype(np.float64)
    n, norm, place, filled = v.size, float(np.linalg.norm(exact)), np.arange(v.size), np.flatnonzero(exact)
    signs, random = np.sign(exact), key.generator()
    large, middle, small = np.array_split(filled[np.argsort(-np.abs(exact[filled]), kind="stable")], 3)
    sets: dict[str, NDArray[Any]] = {MAIN[2]: large, MAIN[3]: middle, MAIN[4]: small}
    sets |= {"the positive coordinates": exact > 0, "the negative coordinates": exact < 0}
    sets |= {"the even coordinates": place % 2 == 0, "the odd coordinates": place % 2 == 1}
    sets |= {"the first half": place < n // 2, "the last half": place >= n // 2}
    block = 1 << max(n - 1, 1).bit_length() - 1
    sets[f"the coordinates from {block:,} on"] = place >= block
    columns = {"v": exact / norm**2, "sign(v)": signs / np.abs(exact).sum()}
    for title, chosen in sets.items():
        part = np.zeros(n)
        part[chosen] = signs[chosen]
        if part.any():
            columns[title] = part / (part @ exact)
    for number in (1, 2):
        columns[f"random signs {number}"] = random.choice([-1.0, 1.0], n) / (n**0.5 * norm)
    if coordinates:
        columns |= {f"coordinate {i}": unit / norm for i, unit in enumerate(np.eye(n))}
    return Probe(f"{name}, n = {n:,}", v, columns)


def three_sizes(n: int, key: Key) -> Probe:
    """Return magnitudes from 0.7 to 1.3, so that each third by size has much of the sum."""
    random = key.fold(n).generator()
    v = random.uniform(0.7, 1.3, n) * random.choice([-1.0, 1.0], n)
    return probe("three sizes", v.astype(np.float32), key.fold(n, 1))


def bell(n: int, key: Key) -> Probe:
    """Return a Gaussian vector."""
    return probe("gaussian", key.fold(n).generator().standard_normal(n).astype(np.float32), key.fold(n, 1))


def six_decades(n: int, key: Key) -> Probe:
    """Return one large coordinate and, ever more of them, ones of a tenth to a millionth of it, each decade a column.

    The further they lie below the norm, the more there are, so that levels of the norm are not too rare on them.
    """
    random = key.fold(n).generator()
    decade = np.full(n, 5)
    for d, count in ((4, n // 3 + n // 3), (3, n // 3), (2, n // 20), (1, 10), (0, 1)):
        decade[:count] = d
    random.shuffle(decade)
    magnitude = 10.0**-decade * np.where(decade > 0, random.uniform(0.3, 1.0, n), 1.0)
    v = (magnitude * random.choice([-1.0, 1.0], n)).astype(np.float32)
    exact, columns = v.astype(np.float64), {}
    for d in range(6):
        part = np.where(decade == d, np.sign(exact), 0.0)
        if part.any():
            columns[f"the coordinates of about 1e-{d} of the norm"] = part / (part @ exact)
    return Probe(f"six decades, n = {n:,}", v, columns)


def places(n: int) -> Probe:
    """Return equal magnitudes at the first, the last and those beside powers of two, else 0: each its own column."""
    chosen = np.unique([0, 1, n - 2, n - 1, *(edge for edge in _EDGES if edge < n)])
    v = np.zeros(n, np.float32)
    v[chosen] = np.where(np.arange(chosen.size) % 3, 1, -1)
    exact, columns = v.astype(np.float64), {}
    for i in chosen:
        columns[f"coordinate {i:,}"] = np.where(np.arange(n) == i, exact, 0.0)
    return Probe(f"the first, the last, and beside powers of two, n = {n:,}", v, columns)
