"""Many keys for one vector, with every sum over its errors tested at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.testing.bounds import EXTENSION, Wager
from qsim.testing.compressor_under_test import ASYMPTOTIC_SLACK, CompressorUnderTest, sums_of
from qsim.testing.probes import MAIN, Probe

_ROWS, _PILOT = 16, 17  # each part of the check has its own keys
_TARGET, _COARSE = 0.0045, 0.3  # biases that are small enough, on many coordinates and on few: more keys are a waste
_RARE, _ENOUGH = 30, 200  # as many rows that differ, or numbers that change, show how large errors can be
_SAME = 1000  # as many keys that give one message, where the variance is ...
_SURELY = 0.1  # ... at least this, and which is ...
_NEAR = 0.25  # ... as near to v, in squared norms, did not miss a rare event


@dataclass(frozen=True, eq=False)
class Pool:
    """The statistics of many keys for one vector, for each direction of a probe and for each certificate.

    `strain` is the logarithm of the wealth of the best bet on a breach, over the one that is proof: above 1 it is
    broken. `seen` is the least breach that is found with probability 0.999. `errors` has both for each certificate.
    """

    probe: Probe
    rows: int
    mean: NDArray[np.float64]
    strain: NDArray[np.float64]
    seen: NDArray[np.float64]
    error: float
    errors: dict[str, tuple[float, float]]
    largest: NDArray[np.float64]
    together: bool
    rare: bool

    @property
    def place(self) -> str:
        """The direction with the largest strain, and the bias there."""
        worst = int(self.strain.argmax())
        name = list(self.probe.columns)[worst]
        unit = " of ||v||" if self.probe.in_norms(name) else ""
        return f"({self.probe.name}): along {name} it is off by {percent(self.mean[worst], '+')}{unit}"


def pool(
    subject: CompressorUnderTest,
    probe: Probe,
    keys: tuple[int, ...],
    rows: tuple[int, int],
    before: Pool | None = None,
    length: int | None = None,
) -> Pool:
    """Test E <Q(v) - v, d> = 0 for every direction d, if a variance is claimed, and the mean of ||Q(v) - v||^2.

    With as many keys, between the two of `rows`, as show a bias of _TARGET along the main directions. A pilot says how
    errors scatter and how far they reach; `before` is a pool of the same directions at another length, with more keys.
    `keys` are parts that make the keys others than those of other pools; `length` is the one that the certificates are
    taken for.
    """
    pilot = _Pilot(subject, probe, keys, max(64, min(rows[0] // 8, 512)))
    bets = _Bets(subject, pilot, rows, before, length or probe.v.size)
    total, square, taken, same = 0.0 * pilot.spread, 0.0, 0, pilot.same
    words = subject.words(bets.most, _ROWS, *keys)
    parts = (subject.sums(probe.v, pilot.directions, part) for part in (words[: bets.rows], words[bets.rows :]))
    for errors, squares, _ in chain.from_iterable(parts):
        taken += len(errors)
        total += errors.sum(axis=0)
        square += float(squares.sum())
        same &= bool((errors == errors[0]).all() and (squares == squares[0]).all())
        bets.add(errors, squares)
        if (same and bets.is_one_sided and subject.deterministic) or bets.are_decided(taken):
            break
    mean, error = total / taken, square / taken
    if same and subject.deterministic:
        bets.settle_errors(error)
    if same and taken >= _SAME and bets.omega >= _SURELY and error < _NEAR and probe.is_flat:
        bets.settle_bias(mean)
    growth = np.maximum(pilot.largest, 0.0 if before is None else before.largest)
    return Pool(probe, taken, mean, bets.strain, bets.seen, error, bets.errors, growth, pilot.together, pilot.rare)


class _Pilot:
    """Statistics of sums of errors over a few keys: how they scatter, and how far they may reach."""

    def __init__(self, subject: CompressorUnderTest, probe: Probe, keys: tuple[int, ...], rows: int) -> None:
        self.probe, self.v, self.directions = probe, probe.v.astype(np.float64), probe.directions
        sums: list[NDArray[np.float64]] = []
        squares: list[NDArray[np.float64]] = []
        self._errors, self._changes = np.zeros(self.v.size), np.zeros(self.v.size, np.int64)
        for found in subject.arrivals(probe.v, subject.words(rows, _PILOT, *keys)):
            for kept, more in zip((sums, squares), sums_of(found, probe.v, self.directions)[:2], strict=True):
                kept.append(more)
            dense = found.to_dense()
            self._errors = np.maximum(self._errors, np.abs(dense - self.v).max(axis=0))
            self._changes += (dense[1:] != dense[:-1]).sum(axis=0)
        self._sums = np.concatenate(sums)
        self.spread: NDArray[np.float64] = self._sums.std(axis=0)
        self.scatter = float(np.concatenate(squares).std())
        self.same = bool((self._sums == self._sums[0]).all())  # and the squared errors, as the rows that follow show
        self.largest: NDArray[np.float64] = np.abs(self._sums).max(axis=0)
        self._names = list(probe.columns)
        differs = np.abs(self._sums - np.median(self._sums, axis=0)) > 1e-6
        self.rare = bool(differs.any(axis=1).sum() < _RARE)  # nearly all rows are the same

    @property
    def together(self) -> bool:
        """Whether the errors of the coordinates go up and down together: more along sign(v) than along random signs."""
        if "sign(v)" not in self._names:
            return False
        along, random = (self.spread[self._names.index(name)] for name in ("sign(v)", "random signs 1"))
        return bool(along > 2 * random)

    def reach(self, omega: float, growth: float, before: Pool | None) -> NDArray[np.float64]:
        """Return what sums of errors stay below.

        It is twice the largest that was seen, here or before. Single coordinates that arrive too rarely for that may
        take a sum further; and if nearly all rows are the same, (1 + omega) v may be what comes back at times.
        """
        found = 2 * self.largest
        if before is not None:
            found = np.maximum(found, 2 * before.largest * (growth if before.together else 1.0))
        one = np.abs(self.directions) * self._coordinates(omega)[:, None]
        found = np.maximum(found, one.max(axis=0))
        if self.rare and (before is None or before.rare):
            found = np.maximum(found, (1 + omega) * (np.abs(self.v) @ np.abs(self.directions)))
        return np.asarray(found)

    def _coordinates(self, omega: float) -> NDArray[np.float64]:
        """Return how far each coordinate can be off: twice what was seen on those of about its size.

        At least as far as the largest coordinate is from 0, for a rule that rounds some of these with it. If too few
        changed from key to key: as far as by a rule that keeps a coordinate with some probability, or rounds it to
        levels of a norm.
        """
        v = np.abs(self.v)
        norm = float(np.linalg.norm(v))
        _, sizes = np.unique(np.where(v > 0, np.frexp(v)[1], -9999), return_inverse=True)
        changes = np.bincount(sizes, self._changes)
        seen, most = np.zeros(changes.size), np.zeros(changes.size)
        np.maximum.at(seen, sizes, self._errors)
        np.maximum.at(most, sizes, v)
        assumed = np.maximum((1 + omega) * np.maximum(norm / v.size**0.5, most), norm)
        reach = np.maximum(2 * seen, np.where(changes < _ENOUGH, 2 * assumed, v.max()) * (most > 0))
        return np.asarray(reach[sizes])


class _Bets:
    """The bets on a bias along each direction, up and down, and on an error above each certificate."""

    def __init__(
        self, subject: CompressorUnderTest, pilot: _Pilot, rows: tuple[int, int], before: Pool | None, length: int
    ) -> None:
        bounds, self._allowed = subject.bounds(length), subject.allowed(length)
        self.omega = bounds.get("variance", 0.0)
        shorter = subject.bounds(before.probe.v.size).get("variance", 0.0) if before is not None else self.omega
        main = [column for column, name in enumerate(pilot.probe.columns) if name in MAIN]
        spread = pilot.spread[main].max() / _TARGET if main else pilot.spread.max(initial=0.0) / _COARSE
        needed = (6.8 * spread) ** 2
        self.rows = subject.effort * int(min(max(rows[0], needed), rows[1]))
        self.most = EXTENSION * self.rows
        self.slack = _slack(subject, pilot)
        reach = pilot.reach(self.omega, (1 + self.omega) / (1 + shorter), before)
        self._bias = [Wager(pilot.spread, reach, self.rows) for _ in range(2 * ("variance" in bounds))]
        self._excess = {kind: Wager(pilot.scatter / most, 1.0, self.rows) for kind, most in self._allowed.items()}
        self._broken: NDArray[Any] | None = None
        self._exceeds: dict[str, float] | None = None

    @property
    def is_one_sided(self) -> bool:
        """Whether there are bets on errors only."""
        return not self._bias

    def add(self, errors: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
        """Bet on a chunk of rows."""
        for sign, wager in zip((1, -1), self._bias, strict=False):
            wager.add(sign * errors - self.slack)
        for kind, wager in self._excess.items():
            wager.add(squares / self._allowed[kind] - 1)

    def are_decided(self, taken: int) -> bool:
        """Tell whether one is won, or all are given up."""
        wagers = [*self._bias, *self._excess.values()]
        return any(w.is_won for w in wagers) or all(w.is_decided(taken) for w in wagers)

    def settle_bias(self, mean: NDArray[np.float64]) -> None:
        """Decide by what all keys give: nothing is left to chance."""
        self._broken = 2.0 * (np.abs(mean) > self.slack)

    def settle_errors(self, error: float) -> None:
        """Decide by what all keys give: nothing is left to chance."""
        self._exceeds = {kind: 2.0 * (error > most) for kind, most in self._allowed.items()}

    @property
    def strain(self) -> NDArray[np.float64]:
        """The logarithm of the wealth of the better bet along each direction, over that which is proof."""
        if not self._bias:
            return np.zeros(self.slack.size)
        won = np.maximum(self._bias[0].strain, self._bias[1].strain)
        return np.asarray(won if self._broken is None else np.maximum(won, self._broken))

    @property
    def seen(self) -> NDArray[np.float64]:
        """The least bias along each direction that is found."""
        if not self._bias:
            return np.full(self.slack.size, np.inf)
        return np.asarray(self.slack + (self._bias[0].seen if self._broken is None else 0.0))

    @property
    def errors(self) -> dict[str, tuple[float, float]]:
        """For each certificate the strain, and the least excess that is found, in parts of the bound."""
        if self._exceeds is not None:
            return {kind: (strain, 0.0) for kind, strain in self._exceeds.items()}
        return {kind: (float(wager.strain), float(wager.seen)) for kind, wager in self._excess.items()}


def _slack(subject: CompressorUnderTest, pilot: _Pilot) -> NDArray[np.float64]:
    """Return what is let pass: 2^-20 |v_i| + 2^-22 ||v|| of rounding to float32, and what is granted for large n."""
    v, directions = np.abs(pilot.v), np.abs(pilot.directions)
    norm = float(np.linalg.norm(v))
    granted = ASYMPTOTIC_SLACK * subject.compressor.asymptotic * norm * np.sqrt((directions**2).sum(axis=0))
    return np.asarray((2.0**-20 * v + 2.0**-22 * norm) @ directions + granted)


def percent(part: float, sign: str = "") -> str:
    """Return a part as a percentage, in two digits."""
    return f"{100 * part:{sign}.2g}%"
