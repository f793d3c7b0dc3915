"""Rules that stop a run early: at a target that the run has reached, or at a budget that it has spent.

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
    """Base class of stopping rules, which end a run early."""

    @abstractmethod
    def reached(self, seen: Mapping[str, float]) -> bool:
        """Tell whether the run ends after this round.

        Parameters
        ----------
        seen : mapping of str to float
            What has been spent so far: `round`, `bits_up`, `bits_down`, `bits` (both), `passes` over the data,
            `seconds` of virtual time (of runs with a network); and `loss`, `suboptimality`, `gradient_norm`,
            `train_error`, `test_loss` and `test_error`, NaN after rounds that are not evaluated.

        Returns
        -------
        bool
            Whether it ends.
        """


class _Target(StoppingRule):
    """A bound on something that is evaluated."""

    bound: float

    def __post_init__(self) -> None:
        number("bound", self.bound, above=0)


@final
@option
class GradientNorm(_Target):
    """Stop when the l2 norm of the gradient of the objective is at most a bound, at an evaluated round.

    Parameters
    ----------
    bound : float
        The bound.

    Raises
    ------
    ValueError
        For a bound that makes no sense.

    Examples
    --------
    >>> import qsim
    >>> qsim.stopping.GradientNorm(1e-6).reached({"gradient_norm": 1e-7})
    True
    """

    bound: float

    def reached(self, seen: Mapping[str, float]) -> bool:
        return seen["gradient_norm"] <= self.bound


@final
@option
class Suboptimality(_Target):
    """Stop when the objective is within a bound of its minimum, at an evaluated round.

    Parameters
    ----------
    bound : float
        The bound on F(w) - F*.

    Raises
    ------
    ValueError
        For a bound that makes no sense.

    Examples
    --------
    >>> import qsim
    >>> qsim.stopping.Suboptimality(1e-3).reached({"suboptimality": 2e-3})
    False
    """

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
    """Stop when a budget of bits is spent.

    The run ends after the first round with which at least `budget` bits have been sent; that round is evaluated.

    Parameters
    ----------
    budget : float
        Bits, over all workers and rounds.
    direction : {"both", "up", "down"}, default "both"
        What counts: the uplink ("up"), the downlink ("down"), or both.

    Raises
    ------
    ValueError
        For a budget or a direction that makes no sense.

    Examples
    --------
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
    """Stop when a budget of virtual time is spent, for runs with a network.

    The run ends after the first round with which at least `budget` virtual seconds have passed; that round is
    evaluated.

    Parameters
    ----------
    budget : float
        Virtual seconds.

    Raises
    ------
    ValueError
        For a budget that makes no sense.

    Examples
    --------
    >>> import qsim
    >>> qsim.stopping.Seconds(60).reached({"seconds": 59.0})
    False
    """

    budget: float

    def reached(self, seen: Mapping[str, float]) -> bool:
        return seen["seconds"] >= self.budget


@final
@option
class Passes(_Budget):
    """Stop when a budget of passes over the data is spent.

    The run ends after the first round with which at least `budget` passes have been made; that round is evaluated.

    Parameters
    ----------
    budget : float
        Passes.

    Raises
    ------
    ValueError
        For a budget that makes no sense.

    Examples
    --------
    >>> import qsim
    >>> qsim.stopping.Passes(10).reached({"passes": 10.0})
    True
    """

    budget: float

    def reached(self, seen: Mapping[str, float]) -> bool:
        return seen["passes"] >= self.budget


@final
@option
class AnyOf(StoppingRule):
    """Stop as soon as one of several rules does; see `any_of`.

    Parameters
    ----------
    rules : tuple of StoppingRule
        The rules, at least one.

    Raises
    ------
    TypeError
        For anything else.

    Examples
    --------
    >>> import qsim
    >>> rule = qsim.stopping.AnyOf((qsim.stopping.Bits(1e9), qsim.stopping.Passes(10)))
    >>> rule.reached({"bits": 0.0, "passes": 10.0})
    True
    """

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

    Parameters
    ----------
    *rules : StoppingRule
        The rules.

    Returns
    -------
    AnyOf
        The combined rule.

    Raises
    ------
    TypeError
        For no rules, and for anything else.

    Examples
    --------
    >>> import qsim
    >>> qsim.stopping.any_of(qsim.stopping.Bits(1e9), qsim.stopping.Passes(10)).reached({"bits": 0.0, "passes": 10.0})
    True
    """
    return AnyOf(rules)


__all__ = ["AnyOf", "Bits", "GradientNorm", "Passes", "Seconds", "StoppingRule", "Suboptimality", "any_of"]


def __dir__() -> list[str]:
    return __all__
