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
from qsim.study.cells import Cell, Settings, timed_on
from qsim.trace import LABELS, Trace

FIRST_SEED = 1_000_000
"""Tuning runs have this seed and those after it; the runs that are shown have 0, 1, ..."""


class Rule(ABC):
    """Base class of rules by which tuning scores a run: least is best."""

    @property
    @abstractmethod
    def words(self) -> str:
        """The name of the mean score over seeds in a caption."""

    @abstractmethod
    def score(self, trace: Trace) -> float:
        """Return the score of a run.

        Parameters
        ----------
        trace : Trace
            The run.

        Returns
        -------
        float
            The score; infinite for a run that is no good.
        """


@final
@option
class LeastFinal(Rule):
    """Score a run by the value of a quantity at its end.

    Parameters
    ----------
    quantity : str, default "suboptimality"
        An axis of `Trace`.

    Examples
    --------
    >>> LeastFinal("loss")
    qsim.study.LeastFinal(quantity='loss')
    """

    quantity: str = "suboptimality"

    @property
    def words(self) -> str:
        return f"least mean final {LABELS.get(self.quantity, self.quantity)}"

    def score(self, trace: Trace) -> float:
        return float(trace.axis(self.quantity)[-1])


@final
@option
class FewestRounds(Rule):
    """Score a run by the first evaluated round at which a quantity is at most a target.

    Parameters
    ----------
    target : float
        The target; a run that never reaches it scores infinitely.
    quantity : str, default "suboptimality"
        An axis of `Trace`.

    Examples
    --------
    >>> FewestRounds(1e-3)
    qsim.study.FewestRounds(target=0.001)
    """

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
    """A run that is only made to choose: a curve with one number of the grid.

    Parameters
    ----------
    curve : str
        The curve.
    run : Run
        The run.
    engine : Engine, optional
        Where its workers run.
    choice : float
        The number of the grid.

    Examples
    --------
    >>> import qsim
    >>> run = qsim.Run("spark_sample", qsim.LogisticRegression(l2=0.1), qsim.GradientDescent(step=0.5))
    >>> Candidate("s = 1", run, choice=0.5).choice
    0.5
    """

    choice: float = field(kw_only=True)

    @property
    def name(self) -> str:
        """The name of the run: the curve, the choice and the seed."""
        return f"{self.curve}, {self.choice:g}, seed {self.run.seed}"


@dataclass(frozen=True)
class Choice:
    """The number that was chosen for a curve.

    Parameters
    ----------
    value : float
        The number.
    scores : mapping of float to float
        The mean score of each number of the grid; infinite if a run diverged.

    Examples
    --------
    >>> Choice(0.5, {0.25: 3.0, 0.5: 1.0}).edge
    'largest'
    """

    value: float
    scores: Mapping[float, float]

    @property
    def edge(self) -> str:
        """The end of the grid that the choice is at, "smallest" or "largest", or nothing: beyond may be better."""
        ends = {min(self.scores): "smallest", max(self.scores): "largest"}
        return ends.get(self.value, "")


@dataclass(frozen=True)
class Tuning:
    """The choice of a number, such as a step, for each curve, by runs on seeds that are not shown.

    Every curve has the same grid, seeds and rule: the same budget.

    Parameters
    ----------
    of : str
        What the number is, in words ("multiple of 1/L").
    curves : callable
        Returns the names of the curves, for given settings.
    run : callable
        Returns the `Run` of (settings, curve, number, seed).
    grid : sequence of float
        The numbers that are tried.
    rule : Rule, default `LeastFinal()`
        `LeastFinal()`, `FewestRounds(target)` or your own; the mean over seeds counts.
    seeds : int, default 2
        How many seeds, from `FIRST_SEED` on, so that none of them is among those that are shown.

    Raises
    ------
    ValueError
        For numbers that make no sense.

    Notes
    -----
    Ties go to the larger number. A run that diverges (`NotFiniteError`) scores infinitely, and its number is never
    chosen.

    Examples
    --------
    >>> import qsim
    >>> def run(settings, curve, choice, seed):
    ...     method = qsim.GradientDescent(step=choice)
    ...     return qsim.Run(settings.data, qsim.LogisticRegression(l2=0.1), method, rounds=settings.rounds, seed=seed)
    >>> tuning = Tuning("step", lambda settings: ["uncompressed"], run, grid=(0.1, 1.0))
    >>> [c.name for c in tuning.candidates(qsim.study.Settings("spark_sample", workers=8, rounds=5, seeds=2))][:1]
    ['uncompressed, 0.1, seed 1000000']
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
        """Return all runs that are made to choose.

        Parameters
        ----------
        settings : Settings
            The settings of the study.

        Returns
        -------
        list of Candidate
            The runs.

        Raises
        ------
        ValueError
            If there are so many seeds to show that they reach those for tuning.
        """
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
        """Return the numbers that are chosen for the curves.

        Parameters
        ----------
        candidates : sequence of Candidate
            The runs that were made.
        traces : sequence of Trace or NotFiniteError
            The trace of each, or the error that ended it.

        Returns
        -------
        Tuned
            What is chosen, by curve.

        Raises
        ------
        NotFiniteError
            If all numbers of the grid diverge for a curve.
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
    """The numbers that tuning chose, and by which runs.

    Parameters
    ----------
    tuning : Tuning
        How they were chosen.
    candidates : sequence of Candidate
        The runs that were made to choose.
    choices : mapping of str to Choice
        What was chosen, by curve.

    Examples
    --------
    >>> tuning = Tuning("step", lambda settings: ["one"], lambda *parts: None, grid=(0.25, 0.5))
    >>> Tuned(tuning, [], {"one": Choice(0.5, {0.25: 3.0, 0.5: 1.0})}).choices["one"].value
    0.5
    """

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
