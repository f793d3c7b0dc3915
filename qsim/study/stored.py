"""What of a study is stored: the traces that are there, and the cells that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from qsim.compressors import Compressor, NotFiniteError
from qsim.identity import identify
from qsim.study.cells import Cell, Settings
from qsim.study.extra_curves import shown_cells, with_compressors
from qsim.study.journal import sweeps
from qsim.study.results import Results
from qsim.study.store import Store
from qsim.study.study import Study
from qsim.study.tuning import Tuned
from qsim.trace import Trace


@dataclass(frozen=True)
class Request:
    """A study with its settings and further compressors.

    Parameters
    ----------
    given : str
        The name or path by which it was asked for.
    name : str
        Its short name.
    study : Study
        The study.
    settings : Settings
        Its settings.
    compressors : mapping of str to Compressor
        Further ones, by the names of their curves.
    command : sequence of str
        The words of the command that runs its cells.
    """

    given: str
    name: str
    study: Study
    settings: Settings
    compressors: Mapping[str, Compressor]
    command: Sequence[str]

    @property
    def keeps_cells(self) -> bool:
        """Whether the study trains, and its cells are stored."""
        return not self.study.timed and bool(self.first_cells)

    @cached_property
    def first_cells(self) -> Sequence[Cell]:
        """The cells that are run first: those to choose by, or those that are shown."""
        study = self.study
        if study.tuning is None:
            return shown_cells(study, self.settings, self.compressors, None)
        return with_compressors(study, study.tuning.candidates(self.settings), self.compressors)


@dataclass(frozen=True)
class Stored:
    """The cells of a study, and the traces of those that are stored.

    Parameters
    ----------
    request : Request
        The study.
    cells : sequence of Cell
        The cells that are shown; those to choose by, as long as not all of these are known.
    traces : sequence of Trace or None
        The trace of each cell; None where none is stored.
    tuned : Tuned, optional
        What was chosen, if the study is tuned and all runs to choose by are known.
    """

    request: Request
    cells: Sequence[Cell]
    traces: Sequence[Trace | None]
    tuned: Tuned | None

    @property
    def choosing(self) -> bool:
        """Whether the cells are those to choose by."""
        return self.request.study.tuning is not None and self.tuned is None

    @property
    def missing(self) -> list[Cell]:
        """The cells that are not stored."""
        return [cell for cell, trace in zip(self.cells, self.traces, strict=True) if trace is None]

    @property
    def curves(self) -> dict[str, list[tuple[Cell, Trace]]]:
        """The stored cells with their traces, by curve."""
        found: dict[str, list[tuple[Cell, Trace]]] = {}
        for cell, trace in zip(self.cells, self.traces, strict=True):
            if trace is not None:
                found.setdefault(cell.curve, []).append((cell, trace))
        return found

    @property
    def results(self) -> Results | None:
        """The results of the study; None if cells are missing."""
        traces = [trace for trace in self.traces if trace is not None]
        whole = len(traces) == len(self.cells) and not self.choosing
        return Results(self.request.settings, self.cells, traces, tuned=self.tuned) if whole else None


class Shelf:
    """Cells read from a store, each once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._traces: dict[str, Trace] = {}

    def find(self, request: Request) -> Stored:
        """Return what of a study is stored. What it is tuned by must be known before the other cells are."""
        tuned = None
        if request.study.tuning is not None:
            candidates = request.first_cells
            traces = self._load(candidates)
            diverged = {key: NotFiniteError(error) for key, error in self._diverged().items()}
            answers = [trace or diverged.get(key(cell) or "") for cell, trace in zip(candidates, traces, strict=True)]
            known = [answer for answer in answers if answer is not None]
            if len(known) < len(candidates):
                unknown = [at for at, answer in enumerate(answers) if not isinstance(answer, NotFiniteError)]
                return Stored(request, [candidates[at] for at in unknown], [traces[at] for at in unknown], None)
            tuned = request.study.tuning.choose(candidates, known)  # type: ignore[arg-type]  # they are candidates
        cells = shown_cells(request.study, request.settings, request.compressors, tuned)
        return Stored(request, cells, self._load(cells), tuned)

    def _diverged(self) -> dict[str, str]:
        """Return the errors of runs that are known to diverge, by key: they are not stored, but journals tell."""
        return {key: sweep.failures[key] for sweep in sweeps(self.store) for key in sweep.diverged}

    def _load(self, cells: Sequence[Cell]) -> list[Trace | None]:
        return [self._trace(key(cell)) for cell in cells]

    def _trace(self, name: str | None) -> Trace | None:
        if name is not None and name not in self._traces:
            found = self.store.load(name)
            if found is None:
                return None
            self._traces[name] = found
        return None if name is None else self._traces[name]


def key(cell: Cell) -> str | None:
    """Return the key of a cell; None for one whose content cannot be told, which is never stored."""
    with suppress(Exception):  # the run fails with it, too
        return identify(cell.run).key
    return None
