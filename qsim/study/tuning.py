"""Tuning: a number (a step, say) chosen for each curve from one grid, by runs on seeds that are not shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from qsim.compressors import NotFiniteError
from qsim.options import number, option, whole
from qsim.simulation import Run
from qsim.study.study import Cell, Settings, timed_on
from qsim.trace import LABELS, Trace

FIRST_SEED = 1_000_000
"""Tuning runs have this seed and those after it; the runs that are shown have 0, 1, ..."""


class Rule(ABC):
    """What a run is scored by: least is best."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What a caption calls the mean score over seeds."""

    @abstractmethod
    def score(self, trace: Trace) -> float:
        """Return the score of a run, infinite for one that is no good."""


@final
@option
class LeastFinal(Rule):
    """The value of a quantity at the end of the run."""

    quantity: str = "suboptimality"

    @property
    def words(self) -> str:
        return f"least mean final {LABELS.get(self.quantity, self.quantity)}"

    def score(self, trace: Trace) -> float:
        return float(trace.axis(self.quantity)[-1])


@final
@option
class FewestRounds(Rule):
    """The first evaluated round at which a quantity is at most `target`; infinite if it never is."""

    target: float
    quantity: str = "suboptimality"

    def __post_init__(self) -> None:
        number("target", self.target)

    @property
    def words(self) -> str:
        return f"fewest mean iterations to {LABELS.get(self.quantity, self.quantity)} {self.target:g}"

    def score(self, trace: Trace) -> float:
        reached = trace.axis(self.quantity) <= self.target
        return float(trace.axis("round")[reached.argmax()]) if reached.any() else float("inf")


@dataclass(frozen=True)
class Candidate(Cell):
    """A run that is only made to choose: how well a curve does with one choice of the grid."""

    choice: float = field(kw_only=True)

    @property
    def name(self) -> str:
        """What one calls it: the curve, the choice and the seed."""
        return f"{self.curve}, {self.choice:g}, seed {self.run.seed}"


@dataclass(frozen=True)
class Choice:
    """What was chosen for a curve: the number, and the mean score of each number of the grid (infinite: diverged)."""

    value: float
    scores: Mapping[float, float]

    @property
    def edge(self) -> str:
        """The end of the grid that the choice is at, "smallest" or "largest", or nothing: beyond may be better."""
        ends = {min(self.scores): "smallest", max(self.scores): "largest"}
        return ends.get(self.value, "")


@dataclass(frozen=True)
class Tuning:
    """How a number is chosen for each curve. Every curve has the same grid, seeds and rule: the same budget.

    of: what the number is, in words ("multiple of 1/L").
    curves: the names of the curves, for given settings.
    run: the run of a curve with a choice and a seed.
    grid: the numbers that are tried.
    rule: `LeastFinal()`, `FewestRounds(target)` or your own; the mean over seeds counts.
    seeds: how many, from `FIRST_SEED` on, so that none of them is among those that are shown.

    Of equal scores the larger number is taken. A run that diverges (`NotFiniteError`) scores infinitely, and its number
    is never taken.
    """

    of: str
    curves: Callable[[Settings], Sequence[str]]
    run: Callable[[Settings, str, float, int], Run]
    grid: Sequence[float]
    rule: Rule = field(default_factory=LeastFinal)
    seeds: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", whole("seeds", self.seeds, least=1))
        grid = tuple(number(f"grid[{place}]", choice) for place, choice in enumerate(self.grid))
        object.__setattr__(self, "grid", grid)

    def candidates(self, settings: Settings) -> list[Candidate]:
        """Return all runs that are made to choose."""
        if settings.seeds > FIRST_SEED:
            raise ValueError(f"seeds from {FIRST_SEED:,} on are for tuning, found {settings.seeds:,} seeds to show")
        found = [
            Candidate(curve, self.run(settings, curve, choice, FIRST_SEED + seed), choice=choice)
            for curve in self.curves(settings)
            for choice in self.grid
            for seed in range(self.seeds)
        ]
        return timed_on(settings.network, found)

    def choose(self, candidates: Sequence[Candidate], traces: Sequence[Trace | NotFiniteError]) -> Tuned:
        """Return what is chosen for each curve; traces: of the candidates, or the error that ended one.

        Raises NotFiniteError if all numbers of the grid diverge for a curve.
        """
        scores: dict[str, dict[float, list[float]]] = {}
        diverged: dict[str, set[float]] = {}
        for candidate, trace in zip(candidates, traces, strict=True):
            score = float("inf")
            if isinstance(trace, NotFiniteError):
                diverged.setdefault(candidate.curve, set()).add(candidate.choice)
            else:
                score = self.rule.score(trace)
            scores.setdefault(candidate.curve, {}).setdefault(candidate.choice, []).append(
                float("inf") if np.isnan(score) else score
            )
        choices = {}
        for curve, found in scores.items():
            means = {choice: float(np.mean(values)) for choice, values in found.items()}
            usable = [choice for choice in means if choice not in diverged.get(curve, ())]
            if not usable:
                raise NotFiniteError(f"every {self.of} of {_listed(self.grid)} diverges for {curve}: add smaller ones")
            least = min(means[choice] for choice in usable)
            choices[curve] = Choice(max(choice for choice in usable if means[choice] == least), means)
        return Tuned(self, tuple(candidates), choices)


@dataclass(frozen=True)
class Tuned:
    """What tuning chose, and by which runs."""

    tuning: Tuning
    candidates: Sequence[Candidate]
    choices: Mapping[str, Choice]

    @property
    def words(self) -> str:
        """State the rule, what was chosen, and which choices are at an end of the grid."""
        tuning = self.tuning
        by_value: dict[float, list[str]] = {}
        for curve, choice in self.choices.items():
            by_value.setdefault(choice.value, []).append(curve)
        chosen = "".join(f"\n- {value:g}: {'; '.join(by_value[value])}" for value in sorted(by_value))
        unscored = [curve for curve, choice in self.choices.items() if not np.isfinite(choice.scores[choice.value])]
        ends = [f"{curve} ({c.edge})" for curve, c in self.choices.items() if c.edge and curve not in unscored]
        edge = f" At an end of the grid, where more might be gained beyond it: {'; '.join(ends)}." if ends else ""
        none = (
            f" With no number do all seeds get there, so the largest is taken: {'; '.join(unscored)}."
            if unscored
            else ""
        )
        return (
            f"For every curve the {tuning.of} with the {tuning.rule.words} among {_listed(tuning.grid)}, over"
            f" {tuning.seeds} seeds of their own ({FIRST_SEED:,}, ...); of equals the larger, and never one with which"
            f" a run diverges.{edge}{none} Chosen:\n{chosen}"
        )


def _listed(grid: Sequence[float]) -> str:
    return ", ".join(f"{choice:g}" for choice in grid)
