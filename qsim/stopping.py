"""When to stop before the last round: at a target that the run has reached, or at a budget that it has spent.

>>> import qsim
>>> rule = qsim.stopping.any_of(qsim.stopping.Suboptimality(1e-3), qsim.stopping.Bits(50_000))
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
from typing import Literal, final

from qsim.options import number, one_of, option, shown


class StoppingRule(ABC):
    """A rule that ends a run early."""

    @abstractmethod
    def reached(self, seen: Mapping[str, float]) -> bool:
        """Tell whether the run ends here.

        seen: after every round what has been spent so far: `round`, `bits_up`, `bits_down`, `bits` (both), `passes`
            over the data, `seconds` of virtual time (of runs with a network); and `loss`, `suboptimality`,
            `gradient_norm`, `train_error` and `test_error`, NaN after rounds that are not evaluated.
        """


class _Target(StoppingRule):
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
        return seen["gradient_norm"] <= self.bound


@final
@option
class Suboptimality(_Target):
    """Stop when the objective is within `bound` of its minimum: at an evaluated round."""

    bound: float

    def reached(self, seen: Mapping[str, float]) -> bool:
        return seen["suboptimality"] <= self.bound


class _Budget(StoppingRule):
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
    >>> qsim.stopping.Bits(1e6).reached({"bits": 1_000_001.0})
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
class AnyOf(StoppingRule):
    """Stop as soon as one of several rules says so; see `any_of`."""

    rules: tuple[StoppingRule, ...]

    def __post_init__(self) -> None:
        rules = self.rules
        if not isinstance(rules, tuple) or not rules or not all(isinstance(rule, StoppingRule) for rule in rules):
            raise TypeError(
                f"rules must be a tuple of rules such as (qsim.stopping.Bits(1e9), qsim.stopping.Passes(10)), found"
                f" {shown(rules)}"
            )

        parts = [rule.rules if isinstance(rule, AnyOf) else (rule,) for rule in rules]
        object.__setattr__(self, "rules", tuple(part for several in parts for part in several))

    def reached(self, seen: Mapping[str, float]) -> bool:
        return any(rule.reached(seen) for rule in self.rules)


def any_of(*rules: StoppingRule) -> AnyOf:
    """Return the rule that ends a run as soon as one of several does.

    >>> import qsim
    >>> qsim.stopping.any_of(qsim.stopping.Bits(1e9), qsim.stopping.Passes(10)).reached({"bits": 0.0, "passes": 10.0})
    True
    """
    return AnyOf(rules)


__all__ = ["AnyOf", "Bits", "GradientNorm", "Passes", "Seconds", "StoppingRule", "Suboptimality", "any_of"]


def __dir__() -> list[str]:
    return __all__
