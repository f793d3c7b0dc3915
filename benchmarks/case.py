"""What a benchmark declares: contestants, what they must agree on, and the ratios that are claimed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any, Protocol

_clock = perf_counter


def count_cpu_time() -> None:
    """Count the CPU time of this process from now on, where other programs want the machine too.

    It says nothing of threads and other processes.
    """
    global _clock
    _clock = process_time


def now() -> float:
    """Return the seconds of the clock that counts."""
    return _clock()


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
    many: bool = False
    """Whether it works on several cores: its clock is the wall's."""

    def result(self) -> Any:
        return self.call()

    def seconds(self, least: float = 0.02) -> float:
        clock = perf_counter if self.many else now
        calls, start = 0, clock()
        while True:
            self.call()
            calls += 1
            passed = clock() - start
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
        start = now()
        self.run(self.short)
        middle = now()
        self.run(self.long)
        return (now() - middle - (middle - start)) / (self.long - self.short)


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
