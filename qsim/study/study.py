"""Studies: cells to run, questions to answer, a figure to draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsim.options import nearest
from qsim.study.cells import Cell, Settings, timed_on
from qsim.study.results import Results
from qsim.study.tuning import Tuned, Tuning

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SETTINGS = ("data", "workers", "rounds", "seeds", "vectors")
"""The settings that a study may depend on, or not."""
TAKEN = SETTINGS[:-1]
"""Those of a study that says nothing."""


@dataclass(frozen=True)
class Study:
    """A study: cells to run, questions to answer, a figure to draw.

    A file that defines one as `study = Study(...)` can be run by name or by path.

    Parameters
    ----------
    title : str
        One line.
    questions : sequence of str
        What is asked.
    defaults : Settings
        The settings of the committed figure.
    cells : callable
        Returns the cells for given settings; with `tuning`, for settings and the choices (by curve).
    setting : callable
        Returns what the caption says about data, workers, step and seeds, for given settings.
    answers : callable
        Returns a finding in words for each question, with numbers computed from the `Results`.
    draw : callable
        Returns the figure, for given `Results`.
    numbers : callable, optional
        Returns the frame behind the figure; by default the means and bands of all quantities.
    tuning : Tuning, optional
        How a number for each curve is chosen, by runs of its own, before the cells are run.
    timed : bool, default False
        Whether the study measures time: its cells run one after the other, and its numbers differ from run to run.
    takes : sequence of str, default `("data", "workers", "rounds", "seeds")`
        Names of the `Settings` that the study depends on: the command line refuses the others, and so does `run_study`
        where they differ from the defaults. Bands and networks are not named.
    template : str, optional
        The curve whose runs are copied, with another compressor, to add a curve of a user's own; by default the study
        has no place for one. `answers` and `draw` must take such curves, which come last.

    Examples
    --------
    >>> from qsim.study import catalog
    >>> _, study = catalog.find("seminar")
    >>> len(study.cells(study.defaults))
    320
    """

    title: str
    questions: Sequence[str]
    defaults: Settings
    cells: Callable[..., Sequence[Cell]]
    setting: Callable[[Settings], str]
    answers: Callable[[Results], Sequence[str]]
    draw: Callable[[Results], Figure]
    numbers: Callable[[Results], pd.DataFrame] | None = None
    tuning: Tuning | None = None
    timed: bool = False
    takes: Sequence[str] = TAKEN
    template: str | None = None

    def __post_init__(self) -> None:
        for name in self.takes:
            if name not in SETTINGS:
                raise ValueError(
                    f"takes names settings ({', '.join(SETTINGS)}), found {name!r}{nearest(name, SETTINGS)}"
                )

    def require(self, names: Iterable[str]) -> None:
        """Raise ValueError if a setting is named that the study does not depend on."""
        for name in names:
            if name not in self.takes:
                taken = f"which takes {', '.join(self.takes)}" if self.takes else "which takes no settings"
                raise ValueError(f"{name} is not for this study ({self.title}), {taken}")

    def shown(self, settings: Settings, tuned: Tuned | None = None) -> Sequence[Cell]:
        """Return the cells that are shown; a study with tuning needs what was chosen."""
        if self.tuning is None:
            return timed_on(settings.network, self.cells(settings))
        if tuned is None:
            raise ValueError("this study is tuned: run study.tuning.candidates(settings), then tuning.choose")
        return timed_on(settings.network, self.cells(settings, tuned.choices))

    def summary(self, results: Results) -> dict[str, Any]:
        """Return what of the findings goes into the provenance (`NAME.json`); nothing by default.

        Parameters
        ----------
        results : Results
            The results.

        Returns
        -------
        dict
            What JSON can hold, by name.
        """
        return {}
