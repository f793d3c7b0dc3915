"""What a benchmark declares: contestants, what they must agree on, and the ratios that are claimed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol


class Contestant(Protocol):
    """Someone who can be timed."""

    name: str

    def result(self) -> Any:
        """Do the work once, untimed; return what is checked for agreement."""

    def seconds(self) -> float:
        """Return the seconds that one unit of work took just now."""


@dataclass(frozen=True)
class Timed:
    """A call, prepared outside the timing. Short calls are repeated until the clock can tell."""

    name: str
    call: Callable[[], Any]
    units: int = 1
    """How many units of work one call does."""

    def result(self) -> Any:
        return self.call()

    def seconds(self, least: float = 0.02) -> float:
        calls, start = 0, perf_counter()
        while True:
            self.call()
            calls += 1
            passed = perf_counter() - start
            if passed >= least:
                return passed / (calls * self.units)


@dataclass(frozen=True)
class LongMinusShort:
    """A run whose start and end are not the work: a long run minus a short one, divided by the units between them."""

    name: str
    run: Callable[[int], Any]
    short: int
    long: int

    def result(self) -> Any:
        return self.run(self.short)

    def seconds(self) -> float:
        start = perf_counter()
        self.run(self.short)
        middle = perf_counter()
        self.run(self.long)
        return (perf_counter() - middle - (middle - start)) / (self.long - self.short)


@dataclass(frozen=True)
class Claim:
    """That `fast` takes at most 1/target of the time of `slow`. Without a target the ratio is only reported."""

    fast: str
    slow: str
    target: float | None = None


@dataclass(frozen=True)
class Case:
    """Contestants that do the same work."""

    title: str
    unit: str
    """What the times are of, such as "round"."""
    contestants: Sequence[Contestant]
    claims: Sequence[Claim]
    check: Callable[[Mapping[str, Any]], None] = lambda results: None
    """Given each contestant's result by name, raises AssertionError if those disagree that should not."""
    absent: Sequence[str] = ()
    """Contestants that could not come, and why."""
