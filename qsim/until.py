"""When to stop before the last round: at a target that the run has reached, or at a budget that it has spent.

>>> import qsim
>>> rule = qsim.until.any_of(qsim.until.Suboptimality(1e-3), qsim.until.Bits(50_000))
>>> trace = qsim.simulate(
...     "spark_sample",
...     objective=qsim.LogisticRegression(l2=0.1),
...     method=qsim.GradientDescent(step=0.1),
...     compressor=qsim.QSGD(levels=2),
...     until=rule,
... )
>>> bits = trace.axis("bits")
>>> bool(bits[-2] < 50_000 <= bits[-1])
True
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import inf
from typing import Literal, final

from qsim.options import number, one_of, option, shown


class Until(ABC):
    """A rule that ends a run early."""

    @abstractmethod
    def reached(self, seen: Mapping[str, float]) -> bool:
        """Tell whether the run ends here.

        seen: after every round what has been spent so far: `round`, `bits_up`, `bits_down`, `bits` (both), `passes`
            over the data, `seconds` of virtual time (of runs with a network); and where the run was evaluated, which
            is every `evaluate_every` rounds, `loss`, `suboptimality`, `gradient_norm`, `train_error` and `test_error`.
        """


class _Target(Until):
    """A bound on something that is evaluated."""

    bound: float

    def __post_init__(self) -> None:
        number("bound", self.bound, above=0)


@final
@option
class GradientNorm(_Target):
    """Stop when the l2 norm of the objective's gradient is at most `bound`: at an evaluated round."""

    bound: float

    def reached(self, seen: Mapping[str, float]) -> bool:
        return seen.get("gradient_norm", inf) <= self.bound


@final
@option
class Suboptimality(_Target):
    """Stop when the objective is within `bound` of its minimum: at an evaluated round."""

    bound: float

    def reached(self, seen: Mapping[str, float]) -> bool:
        return seen.get("suboptimality", inf) <= self.bound


class _Budget(Until):
    """A limit of something that every round adds to."""

    budget: float

    def __post_init__(self) -> None:
        number("budget", self.budget, above=0)


@final
@option
class Bits(_Budget):
    """Stop after the first round with which at least `budget` bits have been sent; the last round is evaluated.

    direction: "both", "up" (from workers to the server) or "down".

    >>> import qsim
    >>> qsim.until.Bits(1e6).reached({"bits": 1_000_001.0})
    True
    """

    budget: float
    direction: Literal["both", "up", "down"] = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("direction", self.direction, ("both", "up", "down"))

    def reached(self, seen: Mapping[str, float]) -> bool:
        return seen["bits" if self.direction == "both" else f"bits_{self.direction}"] >= self.budget


@final
@option
class Seconds(_Budget):
    """Stop after the first round with which at least `budget` virtual seconds have passed: for runs with a network."""

    budget: float

    def reached(self, seen: Mapping[str, float]) -> bool:
        return seen["seconds"] >= self.budget


@final
@option
class Passes(_Budget):
    """Stop after the first round with which at least `budget` passes over the data have been made."""

    budget: float

    def reached(self, seen: Mapping[str, float]) -> bool:
        return seen["passes"] >= self.budget


@final
@option
class AnyOf(Until):
    """Stop as soon as one of several rules says so; see `any_of`."""

    rules: tuple[Until, ...]

    def __post_init__(self) -> None:
        rules = self.rules
        if not isinstance(rules, tuple) or not rules or not all(isinstance(rule, Until) for rule in rules):
            raise TypeError(
                f"rules must be a tuple of rules such as (qsim.until.Bits(1e9), qsim.until.Passes(10)), found"
                f" {shown(rules)}"
            )

    def reached(self, seen: Mapping[str, float]) -> bool:
        return any(rule.reached(seen) for rule in self.rules)


def any_of(*rules: Until) -> AnyOf:
    """Return the rule that ends a run as soon as one of several does.

    >>> import qsim
    >>> qsim.until.any_of(qsim.until.Bits(1e9), qsim.until.Passes(10)).reached({"bits": 0.0, "passes": 10.0})
    True
    """
    return AnyOf(rules)


def rules_of(until: Until | None) -> tuple[Until, ...]:
    """Return the single rules that a rule is made of."""
    if isinstance(until, AnyOf):
        return tuple(part for rule in until.rules for part in rules_of(rule))
    return () if until is None else (until,)


__all__ = ["AnyOf", "Bits", "GradientNorm", "Passes", "Seconds", "Suboptimality", "Until", "any_of"]
