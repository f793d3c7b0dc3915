"""Tuning: a number (a step, say) or a pair chosen for each curve from one grid, by runs on seeds that are not shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

import numpy as np

from qsim.compressors import NotFiniteError
from qsim.options import number, option, whole
from qsim.simulation import Run
from qsim.study.cells import Cell, Settings, timed_on
from qsim.trace import LABELS, Trace

FIRST_SEED = 1_000_000
"""Tuning runs have this seed and those after it; the runs that are shown have 0, 1, ..."""
Value: TypeAlias = float | tuple[float, float]
"""A choice: a number, or a pair for two parameters."""


def powers_of_two(first: int, last: int) -> tuple[float, ...]:
    """Return 2^first, ..., 2^last: the grid of papers, to be multiplied by the step of theory.

    Parameters
    ----------
    first : int
        The smallest exponent.
    last : int
        The largest exponent.

    Returns
    -------
    tuple of float
        The numbers.

    Raises
    ------
    ValueError
        If `last` is below `first`.

    Examples
    --------
    >>> powers_of_two(-1, 2)
    (0.5, 1.0, 2.0, 4.0)
    """
    if last < first:
        raise ValueError(f"powers_of_two needs first <= last, found {first} and {last}")
    return tuple(2.0**exponent for exponent in range(first, last + 1))


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
    choice : float or tuple of two
        The number of the grid, or the pair.

    Examples
    --------
    >>> import qsim
    >>> run = qsim.Run("spark_sample", qsim.LogisticRegression(l2=0.1), qsim.GradientDescent(step=0.5))
    >>> Candidate("s = 1", run, choice=0.5).choice
    0.5
    """

    choice: Value = field(kw_only=True)

    @property
    def name(self) -> str:
        """The name of the run: the curve, the choice and the seed."""
        return f"{self.curve}, {written(self.choice)}, seed {self.run.seed}"


@dataclass(frozen=True)
class Choice:
    """The number, or the pair, that was chosen for a curve.

    Parameters
    ----------
    value : float or tuple of two
        The number, or the pair.
    scores : mapping of float or tuple to float
        The mean score of each number of the grid; infinite if a run diverged.
    diverged : frozenset, default empty
        The numbers of the grid with which a run diverged.

    Examples
    --------
    >>> choice = Choice(0.5, {0.25: 3.0, 0.5: 1.0, 1.0: float("inf")}, frozenset([1.0]))
    >>> choice.edge, choice.beside_diverged
    ('', True)
    """

    value: Value
    scores: Mapping[Value, float]
    diverged: frozenset[Value] = frozenset()

    @property
    def edge(self) -> str:
        """The end of the grid that the choice is at, "smallest" or "largest", or nothing: beyond may be better.

        Of a pair, the ends that its parts are at, in their order: "largest first", "smallest second". A part of a pair
        on which no score depends is at no end.
        """
        ends = []
        for place, (mine, tried) in enumerate(zip(_parts(self.value), self._tried, strict=True)):
            end = {tried[0]: "smallest", tried[-1]: "largest"}.get(mine, "")
            which = f" {('first', 'second')[place]}" if isinstance(self.value, tuple) else ""
            if end and (not which or (len(tried) > 1 and self._matters(place))):
                ends.append(end + which)
        return ", ".join(ends)

    def _matters(self, place: int) -> bool:
        """Whether a score depends on this part of a pair."""
        by_other: dict[float, set[float]] = {}
        for choice, score in self.scores.items():
            by_other.setdefault(_parts(choice)[1 - place], set()).add(score)
        return any(len(scores) > 1 for scores in by_other.values())

    @property
    def beside_diverged(self) -> bool:
        """Whether a run diverged with a neighbour in the grid: the best is near what breaks."""
        near = []
        for place, (mine, tried) in enumerate(zip(_parts(self.value), self._tried, strict=True)):
            at = tried.index(mine)
            for other in tried[max(0, at - 1) : at + 2]:
                parts = [*_parts(self.value)]
                parts[place] = other
                near.append(parts[0] if len(parts) == 1 else (parts[0], parts[1]))
        return any(other in self.diverged for other in near)

    @property
    def _tried(self) -> list[list[float]]:
        """The numbers that were tried for each parameter, in order."""
        return [sorted(set(numbers)) for numbers in zip(*map(_parts, self.scores), strict=True)]


@dataclass(frozen=True)
class Tuning:
    """The choice of a number, such as a step, or of a pair for each curve, by runs on seeds that are not shown.

    Every curve has the same grid, seeds and rule: the same budget. Papers take the step of theory times powers of two:
    `qsim.steps.TimesTheory(number)` in the run, and `powers_of_two` for the grid.

    Parameters
    ----------
    of : str
        What the number is, in words ("multiple of 1/L").
    curves : callable
        Returns the names of the curves, for given settings.
    run : callable
        Returns the `Run` of (settings, curve, number or pair, seed).
    grid : sequence of float, or of pairs
        The numbers that are tried, or pairs for two parameters, such as `itertools.product(steps, server_steps)`.
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
    run: Callable[..., Run]
    grid: Sequence[Value]
    rule: Rule = field(default_factory=LeastFinal)
    seeds: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", whole("seeds", self.seeds, least=1))
        grid = tuple(_checked(f"grid[{place}]", choice) for place, choice in enumerate(self.grid))
        if not grid:
            raise ValueError("grid must hold numbers or pairs to choose from, found none")
        if len({isinstance(choice, tuple) for choice in grid}) > 1:
            raise ValueError(f"grid must hold numbers, or pairs alone, found {_listed(grid)}")
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
        scores: dict[str, dict[Value, list[float]]] = {}
        diverged: dict[str, set[Value]] = {}
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
            best: Value = max(choice for choice in usable if means[choice] == least)
            choices[curve] = Choice(best, means, frozenset(diverged.get(curve, ())))
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
        by_value: dict[Value, list[str]] = {}
        for curve, choice in self.choices.items():
            by_value.setdefault(choice.value, []).append(curve)
        ordered: list[Value] = sorted(by_value)
        chosen = "".join(f"\n- {written(value)}: {'; '.join(by_value[value])}" for value in ordered)
        unscored = [curve for curve, choice in self.choices.items() if not np.isfinite(choice.scores[choice.value])]
        ends = [f"{curve} ({c.edge})" for curve, c in self.choices.items() if c.edge and curve not in unscored]
        edge = f" At an end of the grid, where more might be gained beyond it: {'; '.join(ends)}." if ends else ""
        risky = [curve for curve, choice in self.choices.items() if choice.beside_diverged]
        edge += f" Beside a number with which a run diverges: {'; '.join(risky)}." if risky else ""
        none = (
            f" With no number do all seeds get there, so the largest is taken: {'; '.join(unscored)}."
            if unscored
            else ""
        )
        seeds = f"{tuning.seeds} seed{'s' * (tuning.seeds > 1)} of their own ({FIRST_SEED:,}, ...)"
        return (
            f"For every curve the {tuning.of} with the {tuning.rule.words} among {_listed(tuning.grid)}, over {seeds};"
            f" of equals the larger, and never one with which a run diverges.{edge}{none} Chosen:\n{chosen}"
        )


def written(choice: Value) -> str:
    """Write a number, or a pair."""
    return f"({choice[0]:.10g}, {choice[1]:.10g})" if isinstance(choice, tuple) else f"{choice:.10g}"


def _parts(choice: Value) -> tuple[float, ...]:
    return choice if isinstance(choice, tuple) else (choice,)


def _checked(name: str, choice: object) -> Value:
    """Return a number, or a pair of numbers, of a grid."""
    if not isinstance(choice, (tuple, list)):
        return number(name, choice)
    if len(choice) != 2:
        raise ValueError(f"{name} must be a number or a pair, found {choice!r}")
    return number(f"{name}[0]", choice[0]), number(f"{name}[1]", choice[1])


def _listed(grid: Sequence[Value]) -> str:
    return ", ".join(map(written, grid))
