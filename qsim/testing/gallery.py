"""Vectors that are hard on compressors: known ones, and ones found by search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qsim.keys import Key

Vector = NDArray[np.float32]
Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Tells of each row how much it strains the compressor."""

_RATIOS = (0.7, 0.5, 0.3, 0.1, 0.03, 0.01)
_GENERATIONS, _CHILDREN = 12, 12
_FACTORS = (0.0, 0.5, 0.8, 0.95, 1.05, 1.25, 2.0, -1.0)


def gallery(n: int, key: Key) -> dict[str, Vector]:
    """Return the known vectors of length n, by name. Signs are random but for `constant`."""
    random = key.fold(n).generator()
    place = np.arange(n)
    found = {
        "constant": np.ones(n),
        "equal magnitudes": np.ones(n),
        "single": 0.7 * (place == n // 2),
        "geometric, ratio 1/2": 0.5 ** np.minimum(place, 60),
        "geometric, ratio 0.9": 0.9 ** np.minimum(place, 400),
        "4/3 of powers of two": 4 / 3 * 2.0 ** -(place % 8),
        "1, 2, 3, ...": place + 1.0,
        "gaussian": random.standard_normal(n),
        "laplace": random.laplace(size=n),
        "sparse": random.standard_normal(n) * (random.random(n) < 0.1) + (place == n - 1),
    }
    for ratio in (*_RATIOS, n**-0.5):
        found[f"one large, others {ratio:.2g} of it"] = np.where(place == 0, 1.0, ratio)
    found["two equal entries"] = (place < 2) * 1.0
    found["1, 1/2 and zeros"] = (place == 0) + 0.5 * (place == 1)
    for name, v in found.items():
        if name != "constant":
            found[name] = v * random.choice([-1.0, 1.0], n)
    return {name: v.astype(np.float32) for name, v in found.items()}


def worsened(v: Vector, score: Score, key: Key) -> Vector:
    """Return the worst vector that a local search from v finds.

    Each generation tries children of the worst so far: one coordinate, or all of a random set, scaled or made equal to
    another coordinate.
    """
    random = key.generator()
    worst, most = v, -np.inf
    for _ in range(_GENERATIONS):
        children = np.stack([worst, *(_child(worst, random) for _ in range(_CHILDREN))])
        found = score(children)
        if found.max() > most:
            worst, most = children[found.argmax()], float(found.max())
    return worst


def _child(v: Vector, random: np.random.Generator) -> Vector:
    child = v.copy()
    chosen = random.integers(v.size) if random.random() < 0.5 else random.random(v.size) < random.random()
    if random.random() < 0.7:
        child[chosen] *= np.float32(random.choice(_FACTORS))
    else:
        child[chosen] = v[random.integers(v.size)]
    return child if child.any() else v
