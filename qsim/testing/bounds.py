"""Proof that the mean of a sample is above zero: bets that can hardly be won where it is not."""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

SURE = log(1e13)
"""The logarithm of the wealth that is proof. Each bet is won by chance with probability below 1e-13, and a check makes
fewer than 10,000, so that all promises kept are reported as kept but with probability below 1e-9."""
EXTENSION = 4
"""Bets that are doing better than chance lets them, when the rows end, go on with up to this many times the rows."""
FOUND = "is found with probability 99.9%"
_UNLUCKY = 4.0  # standard deviations: enough for 0.001, as the wealth of few rows is a little skewed


class Wager:
    """A bet for each column of numbers that its mean is above zero.

    The wealth is 1 at first, and is multiplied by 1 + stake x for every number x. If the mean of x is 0 or less, and x
    never below -reach, the expected wealth never grows, so that it reaches a factor of 1e13 with probability 1e-13 at
    most, whatever the distribution is and whenever the bets end (Ville's inequality; Waudby-Smith and Ramdas,
    "Estimating means of bounded random variables by betting", JRSS B 2024). The stake must not depend on the numbers.

    For `rows` numbers of standard deviation `spread`, it is the one that sees the smallest mean.
    """

    def __init__(self, spread: Any, reach: Any, rows: int) -> None:
        self.spread, self.rows = np.asarray(spread, np.float64), rows
        reach = np.maximum(np.asarray(reach, np.float64), 1e-12)
        self.stake = np.minimum(0.9 / reach, sqrt(2 * SURE / rows) / np.maximum(self.spread, 1e-12 * reach))
        self.wealth = np.zeros(np.broadcast(self.stake).shape)
        drift = rows * (self.stake * self.spread) ** 2 / 2  # where the mean is 0, the wealth is about normal
        self._promising = 3.0 - drift + 3.3 * np.sqrt(2 * drift)

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Bet on a chunk of rows."""
        self.wealth = self.wealth + np.log1p(np.maximum(self.stake * numbers, -0.99)).sum(axis=0)

    @property
    def strain(self) -> Any:
        """The logarithm of the wealth over that which is proof: from 1 on the bet is won."""
        return self.wealth / SURE

    @property
    def is_won(self) -> bool:
        """Whether a bet is won."""
        return bool(self.wealth.max(initial=-np.inf) >= SURE)

    def is_decided(self, taken: int) -> bool:
        """Tell whether there is no use in more rows than were taken."""
        return self.is_won or (taken >= self.rows and bool((self.wealth < self._promising).all()))

    @property
    def seen(self) -> Any:
        """The least mean that is found with probability 0.999: it looks promising, and is proved by the extension."""
        noise = self.stake * self.spread
        needed = [
            goal / rows + noise**2 / 2 + _UNLUCKY * noise / sqrt(rows)
            for goal, rows in ((self._promising, self.rows), (SURE, EXTENSION * self.rows))
        ]
        return np.expm1(np.maximum(*needed)) / self.stake


def excess(draw: Callable[[int, int], NDArray[np.float64]], count: int) -> tuple[float, float, float]:
    """Bet that ratios, which are never below 0, have a mean above 1; return strain, their mean, and what would be seen.

    draw: returns as many ratios as it is told, others for another number.
    """
    bet = Wager(draw(count // 8, 0).std(), np.array([1.0]), count)
    total, taken = 0.0, 0
    while taken < EXTENSION * count and not bet.is_decided(taken):
        found = draw(count // 4, 1 + taken)
        bet.add(found[:, None] - 1.0)
        total, taken = total + float(found.sum()), taken + found.size
    return float(bet.strain.max()), total / taken, float(bet.seen.max())
