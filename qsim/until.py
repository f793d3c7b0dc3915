"""When to stop before the last round: looked at whenever the run is evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

from qsim.options import number, option


class Until(ABC):
    """A rule that ends a run early."""

    @abstractmethod
    def reached(self, evaluation: Mapping[str, float]) -> bool:
        """Tell whether an evaluation (loss, suboptimality, gradient_norm, ...) is good enough."""


@final
@option
class GradientNorm(Until):
    """Stop when the l2 norm of the objective's gradient is at most `bound`."""

    bound: float

    def __post_init__(self) -> None:
        number("bound", self.bound, above=0)

    def reached(self, evaluation: Mapping[str, float]) -> bool:
        return evaluation["gradient_norm"] <= self.bound


@final
@option
class Suboptimality(Until):
    """Stop when the objective is within `bound` of its minimum."""

    bound: float

    def __post_init__(self) -> None:
        number("bound", self.bound, above=0)

    def reached(self, evaluation: Mapping[str, float]) -> bool:
        return evaluation["suboptimality"] <= self.bound
