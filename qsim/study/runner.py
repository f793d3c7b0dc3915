"""Running a study: what is stored is read, what is missing is computed, on all cores, whatever fails on the way."""

from __future__ import annotations

import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import cast

from qsim.compressors import Compressor, NotFiniteError
from qsim.engines import Engine, Serial
from qsim.engines.shared import SharedPickle
from qsim.identity import Identity, UnknowableError, identify
from qsim.study.cells import Cell, Settings
from qsim.study.compute_cell import Done, Task, compute, cores, cost, prepare, processor_seconds, seconds
from qsim.study.extra_curves import shown_cells, with_compressors
from qsim.study.journal import Entry, Journal
from qsim.study.pool import over_processes, share
from qsim.study.progress import Log, Progress
from qsim.study.results import Results
from qsim.study.store import Store, StoreError
from qsim.study.study import SETTINGS, Study
from qsim.study.tuning import Candidate, Tuned
from qsim.trace import Trace

_WORTH_PROCESSES = 3.0  # estimated seconds: processes take about one to start
_AGAIN = 0.2  # seconds between two looks at a cell that another program is computing


@dataclass(frozen=True)
class Failure:
    """A cell that failed, and with what."""

    cell: Cell
    error: BaseException


class CellsFailedError(RuntimeError):
    """Raised if cells of a study failed. The others are done, and stored.

    Parameters
    ----------
    failures : sequence of Failure
        The cells that failed, and with what.
    cells : int
        How many cells there were.
    """

    def __init__(self, failures: Sequence[Failure], cells: int) -> None:
        first = failures[0]
        super().__init__(
            f"{len(failures)} of {cells} cells failed; the first, {first.cell.name!r}: "
            f"{type(first.error).__name__}: {first.error}"
        )
        self.failures, self.cells = failures, cells


def run_study(
    study: Study,
    settings: Settings | None = None,
    *,
    name: str = "study",
    compressors: Mapping[str, Compressor] | None = None,
    jobs: int | None = None,
    cache: bool | Store = True,
    progress: bool | None = None,
    log: Log | None = None,
    engine: Engine | None = None,
) -> Results:
    """Run all cells of a study that are not stored already, and return the results.

    Parameters
    ----------
    study : Study
        The study.
    settings : Settings, optional
        By default the study's own.
    name : str, default "study"
        What it is called in the progress bar.
    compressors : mapping of str to Compressor, optional
        Further ones, by the names of their curves: copies of the study's template.
    jobs : int, optional
        How many processes; 1: this one. By default a process for each core, if at least two cells are missing and the
        estimated work is above three seconds, else this one. Cells with an engine of their own run in this one, one
        after the other, and so do all of a timed study.
    cache : bool or Store, default True
        Where finished cells are kept and looked for: True: `Store()`, False: nowhere, or a store. Those of a timed
        study are never kept.
    progress : bool, optional
        As in `simulate`.
    log : Log, optional
        A file that records what happens.
    engine : Engine, optional
        Where the workers of cells run that have no engine of their own. Not for a timed study.

    Returns
    -------
    Results
        The results.

    Raises
    ------
    CellsFailedError
        If cells failed, once all others are done.
    StoreError
        At once, if a cell cannot be stored.
    ValueError
        For an engine of a timed study, and for a setting that differs from the study's own and that it does not take.

    Examples
    --------
    >>> from qsim.study import Settings, catalog
    >>> _, study = catalog.find("seminar")
    >>> results = run_study(study, Settings("spark_sample", workers=4, rounds=5, seeds=2), cache=False)
    >>> results.curves[:5]
    ['uncompressed', 's = 1', 's = 2', 's = 3', 's = 4']
    """
    start = processor_seconds()
    settings = study.defaults if settings is None else settings
    study.require(name for name in SETTINGS if getattr(settings, name) != getattr(study.defaults, name))
    runner = Runner(name, study.timed, jobs, cache, progress, log, engine)
    tuned = runner.tune(study, settings, compressors or {})
    cells = shown_cells(study, settings, compressors or {}, tuned)
    done = runner.run(cells)
    return Results(settings, cells, [one.trace for one in done], [one.seconds for one in done], tuned, start)


@dataclass(frozen=True)
class Runner:
    """Options of running cells; see `run_study`."""

    name: str = "study"
    timed: bool = False
    jobs: int | None = None
    cache: bool | Store = True
    progress: bool | None = None
    log: Log | None = None
    engine: Engine | None = None

    def __post_init__(self) -> None:
        if self.timed and self.engine is not None:
            raise ValueError(f"{self.name} measures time: its cells run on the engines that it names, and on no other")

    def run(self, cells: Sequence[Cell]) -> list[Done]:
        """Run cells; returns what each gave, in their order. Raises CellsFailedError once all others are done."""
        answers = self.attempt(cells)
        done = [answer for answer in answers if isinstance(answer, Done)]
        if len(done) < len(cells):
            pairs = zip(cells, answers, strict=True)
            raise CellsFailedError([Failure(c, found) for c, found in pairs if not isinstance(found, Done)], len(cells))
        return done

    def tune(self, study: Study, settings: Settings, compressors: Mapping[str, Compressor]) -> Tuned | None:
        """Run what a study chooses by, if it does, and choose. A run that diverges is an answer, other errors are not.

        Raises CellsFailedError once all others are done.
        """
        if study.tuning is None:
            return None
        candidates = cast("list[Candidate]", with_compressors(study, study.tuning.candidates(settings), compressors))
        price = cost([candidate.run for candidate in candidates])
        told = f"{self.name}, tuning: {len(candidates)} runs to choose by, {price}"
        (self.log or Log(None)).write(told)
        if self.progress is not False:
            print(told, file=sys.stderr, flush=True)
        answers = replace(self, name=f"{self.name}, tuning").attempt(candidates)
        traces = [answer.trace if isinstance(answer, Done) else answer for answer in answers]
        pairs = zip(candidates, traces, strict=True)
        failures = [Failure(c, f) for c, f in pairs if not isinstance(f, (Trace, NotFiniteError))]
        if failures:
            raise CellsFailedError(failures, len(candidates))
        return study.tuning.choose(candidates, cast("list[Trace | NotFiniteError]", traces))

    def attempt(self, cells: Sequence[Cell]) -> list[Done | BaseException]:
        """Run cells; returns what each gave or raised, in their order. Raises StoreError at once."""
        store = None if self.timed or self.cache is False else Store() if self.cache is True else self.cache
        log = self.log or Log(None)
        if self.engine is not None:
            cells = [replace(cell, engine=self.engine) if cell.engine == Serial() else cell for cell in cells]
        tasks, twins = _plan(cells, store, log)
        answers: dict[int, Done | BaseException] = {}
        for number, task in tasks.items():
            found = store.load(task.identity.key) if store is not None and task.identity is not None else None
            if found is not None:
                answers[number] = Done(found, [], found=True)
        missing = {number: task for number, task in tasks.items() if number not in answers}
        if missing and store is not None:
            store.require_writable()
        log.write(f"{self.name}: {len(tasks)} runs of {len(cells)} cells, {len(answers)} of them stored before")
        rounds = sum(task.run.rounds for task in missing.values())
        shown = Progress(self.name, len(tasks), len(answers), rounds, self.progress)
        try:
            processes = _processes(missing, self.jobs, self.timed)
            with ExitStack() as stack:
                _start(missing, self.engine, stack)
                journal = stack.enter_context(_journal(store, self.name, cells, missing))
                computed = stack.enter_context(closing(_compute(missing, store, processes, shown, log, journal)))
                for number, answer in computed:
                    _note(log, journal, cells[number], tasks[number], answer)
                    if isinstance(answer, StoreError):
                        raise StoreError(f"{answer}. {_kept(self.name, tasks, store)}") from answer
                    answers[number] = answer
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(self.name, tasks, store)) from None
        finally:
            shown.close()
        return [answers[twin] for twin in twins]


def _start(tasks: Mapping[int, Task], common: Engine | None, stack: ExitStack) -> None:
    """Start what the engines of tasks need, once for all of them: a session of Spark takes seconds.

    What the common engine cannot start ends it all. What that of some cells alone cannot start fails again in these
    cells, and is reported there.
    """
    for engine in {repr(task.engine): task.engine for task in tasks.values()}.values():
        with nullcontext() if engine is common else suppress(Exception):
            stack.enter_context(engine.started())


def _kept(name: str, tasks: Mapping[int, Task], store: Store | None) -> str:
    """Say what of a study is stored, when it is stopped."""
    if store is None:
        return f"nothing of {name} is stored"
    kept = sum(store.file(task.identity.key).exists() for task in tasks.values() if task.identity is not None)
    return f"{kept} of {len(tasks)} cells of {name} are stored; the same command goes on from there"


def _plan(cells: Sequence[Cell], store: Store | None, log: Log) -> tuple[dict[int, Task], list[int]]:
    """Return the tasks by the number of their cell, and for each cell the number of the task that does it."""
    tasks: dict[int, Task] = {}
    firsts: dict[tuple[str, str], int] = {}
    twins = []
    for number, cell in enumerate(cells):
        identity: Identity | None = None
        if store is not None:
            try:
                identity = identify(cell.run)
            except UnknowableError as error:
                warnings.warn(f"cells are not stored: {error}", stacklevel=3)
            except Exception as error:  # the run will fail with it, too
                log.write_error(f"{cell.name}: its content can't be told", error)
        twin = number if identity is None else firsts.setdefault((identity.key, repr(cell.engine)), number)
        twins.append(twin)
        if twin == number:
            tasks[number] = Task(cell.run, cell.engine, identity)
    return tasks, twins


def _processes(tasks: Mapping[int, Task], jobs: int | None, timed: bool) -> int:
    """Return how many processes shall compute the tasks that can run side by side; 1: this one."""
    side_by_side = [task for task in tasks.values() if _has_no_engine(task)]
    if timed or jobs == 1 or len(side_by_side) < 2:
        return 1
    if jobs is None and sum(seconds(task.run) for task in side_by_side) < _WORTH_PROCESSES:
        return 1
    return min(jobs or cores(), len(side_by_side))


def _has_no_engine(task: Task) -> bool:
    return task.engine == Serial()


def _compute(
    tasks: Mapping[int, Task], store: Store | None, processes: int, shown: Progress, log: Log, journal: Journal
) -> Generator[tuple[int, Done | BaseException]]:
    """Compute tasks, the long ones first; yields each number with what came of it."""
    counted = dict.fromkeys(tasks, 0)

    def tick(number: int, rounds: int) -> None:
        counted[number] += rounds
        shown.rounds(rounds)
        journal.rounds(_key(tasks[number]), rounds)

    here = dict(tasks)
    with ExitStack() as stack:
        parts: list[Iterator[tuple[int, Done | BaseException]]] = []
        if processes > 1:
            beside = {number: task for number, task in tasks.items() if _has_no_engine(task)}
            job = _shared(beside, shown, log)
            if job is not None:
                stack.callback(job.close)
                here = {number: task for number, task in tasks.items() if number not in beside}
                order = sorted(beside, key=lambda number: -seconds(tasks[number].run))
                parts.append(stack.enter_context(closing(over_processes(job, order, store, processes, tick))))
        parts.append(_in_turn(here, store, tick))
        for number, answer in chain(*parts):
            if isinstance(answer, Done):
                shown.cell(tasks[number].run.rounds - counted[number], answer.found)
            yield number, answer


def _shared(tasks: Mapping[int, Task], shown: Progress, log: Log) -> SharedPickle | None:
    """Make ready for processes; None if the tasks can't be sent to any."""
    prepare(tasks.values())
    try:
        return share(tasks)
    except Exception as error:
        log.write_error("cells can't be sent to processes", error)
        shown.say(f"cells run in this process alone, as they can't be sent to others: {error}")
        return None


def _in_turn(
    tasks: Mapping[int, Task], store: Store | None, tick: Callable[[int, int], None]
) -> Iterator[tuple[int, Done | BaseException]]:
    """Compute tasks in this process; those that another program is at come again after the others."""
    waiting, passed = deque(tasks), 0
    while waiting:
        number = waiting.popleft()
        try:
            done = compute(tasks[number], store, partial(_one_round, tick, number))
        except (Exception, SystemExit) as error:
            yield number, error
            continue
        if done is not None:
            passed = 0
            yield number, done
            continue
        waiting.append(number)
        passed += 1
        if passed >= len(waiting):
            time.sleep(_AGAIN)


def _one_round(tick: Callable[[int, int], None], number: int, _: int) -> None:
    tick(number, 1)


def _journal(store: Store | None, name: str, cells: Sequence[Cell], tasks: Mapping[int, Task]) -> Journal:
    """Open the journal of the cells that are computed and stored."""
    keys = {number: _key(task) for number, task in tasks.items()}
    found = {key: Entry(cells[n].name, tasks[n].run.rounds) for n, key in keys.items() if key is not None}
    return Journal(store, name, found)


def _key(task: Task) -> str | None:
    return None if task.identity is None else task.identity.key


def _note(log: Log, journal: Journal, cell: Cell, task: Task, answer: Done | BaseException) -> None:
    if isinstance(answer, BaseException):
        log.write_error(f"{cell.name}: FAILED", answer)
        journal.failed(_key(task), answer)
        return
    if not answer.found:
        journal.done(_key(task))
    how = "stored by another program" if answer.found else f"computed in {sum(answer.seconds):.2f} s"
    where = f", cell {task.identity.key[:12]}" if task.identity else ", not stored"
    log.write(f"{cell.name}: {how}{where}")
