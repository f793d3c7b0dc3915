"""What a study is: cells to run, questions to answer, a figure to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qsim.engines import Engine, Serial
from qsim.options import option, whole
from qsim.simulation import Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from qsim.study.results import Results


@option
class Settings:
    """What the command line can change: the data set by name, workers, rounds, and how many seeds (0, 1, ...).

    vectors: a .npy file of recorded vectors, for studies that take one.
    """

    data: str
    workers: int
    rounds: int
    seeds: int
    vectors: str | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "rounds", "seeds"):
            whole(name, getattr(self, name), least=1)

    @property
    def statistics(self) -> str:
        """What a caption says of seeds and bands."""
        if self.seeds == 1:
            return "One seed, so no bands."
        return (
            f"Means of {self.seeds} seeds; bands are 95% t-intervals; differences are paired by seed, their intervals"
            " jointly at 95% (Bonferroni)."
        )


@dataclass(frozen=True)
class Cell:
    """One run of a study, on one curve of its figure: the cells of a curve differ only in the seed."""

    curve: str
    run: Run
    engine: Engine = field(default_factory=Serial)

    @property
    def name(self) -> str:
        """What one calls it: the curve and the seed."""
        return f"{self.curve}, seed {self.run.seed}"


@dataclass(frozen=True)
class Study:
    """A study. A file that defines one as `study = Study(...)` can be run by name or by path.

    title: one line.
    questions: what is asked; `answers` returns as many findings in words, with numbers computed from the results.
    defaults: the settings of the committed figure.
    cells: the runs for given settings.
    setting: what the caption says about data, workers, step and seeds.
    draw: the figure.
    numbers: the frame behind it, the means and bands of all quantities by default.
    timed: the study measures time: its cells run one after the other, and its numbers differ from run to run.
    recorded: the study takes recorded vectors (`Settings.vectors`); others refuse them.
    carrier: the curve whose runs are copied, with another compressor, to add a curve of a user's own; None: the study
        has no place for one. `answers` and `draw` must take such curves, which come last.
    """

    title: str
    questions: Sequence[str]
    defaults: Settings
    cells: Callable[[Settings], Sequence[Cell]]
    setting: Callable[[Settings], str]
    answers: Callable[[Results], Sequence[str]]
    draw: Callable[[Results], Figure]
    numbers: Callable[[Results], pd.DataFrame] | None = None
    timed: bool = False
    recorded: bool = False
    carrier: str | None = None
