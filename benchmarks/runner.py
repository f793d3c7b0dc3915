"""Measures cases: every contestant in turn, again and again, and the medians compared."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from os import cpu_count
from pathlib import Path
from statistics import median

from benchmarks.case import Case, Claim

SUITE = Path(__file__).parent / "suite"


@dataclass(frozen=True)
class Finding:
    """A claim and the medians that were measured, in seconds a unit."""

    benchmark: str
    case: str
    unit: str
    claim: Claim
    fast: float
    slow: float

    @property
    def ratio(self) -> float:
        """How many times as fast."""
        return self.slow / self.fast

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if self.claim.target is None:
            return ""
        return "met" if self.ratio >= self.claim.target else "missed"


def names() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(path.stem for path in SUITE.glob("*.py") if path.stem != "__init__")


def run(name: str, quick: bool, absent: list[str]) -> Iterator[Finding]:
    """Measure a benchmark; yields its findings, and appends to `absent` who could not come."""
    for case in import_module(f"benchmarks.suite.{name}").cases(quick):
        absent += [note for note in case.absent if note not in absent]
        medians = measure(case, repetitions=1 if quick else 7, label=name)
        for claim in case.claims:
            yield Finding(name, case.title, case.unit, claim, medians[claim.fast], medians[claim.slow])


def measure(case: Case, repetitions: int, label: str) -> dict[str, float]:
    """Return each contestant's median, in seconds. Raises AssertionError if they disagree about the result."""
    case.check({contestant.name: contestant.result() for contestant in case.contestants})
    samples: dict[str, list[float]] = {contestant.name: [] for contestant in case.contestants}
    for repetition in range(repetitions):
        for contestant in case.contestants:
            samples[contestant.name].append(contestant.seconds())
        print(f"{label}: {case.title}: {repetition + 1} of {repetitions}", file=sys.stderr, flush=True)
    return {name: median(times) for name, times in samples.items()}


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    versions = {name: version(name) for name in ("numpy", "scipy", "numba")}
    return {"cpu": _cpu(), "cores": str(cpu_count()), "python": platform.python_version(), **versions}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
