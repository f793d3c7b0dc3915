"""The commands of `qsim study`: a function for each, which returns the exit code."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
import traceback
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from qsim.datasets import DataError
from qsim.identity import UnknowableError, identify
from qsim.options import nearest
from qsim.storage import can_write
from qsim.study import asked, catalog, compare_results, export, output, progress
from qsim.study.catalog import RequestError
from qsim.study.cells import Cell
from qsim.study.compute_cell import cost
from qsim.study.extra_curves import shown_cells
from qsim.study.journal import remove_old
from qsim.study.papers import index
from qsim.study.progress import Log
from qsim.study.runner import CellsFailedError, Runner, run_study
from qsim.study.store import Store, StoreError, free
from qsim.study.study import SETTINGS, Study

_SHOWN = 5  # of the cells that fail alike
_OLD_LOG = 30 * 86400.0  # seconds


def list_studies(options: Namespace) -> int:
    """Print the names and titles of the shipped studies."""
    if options.names:
        raise RequestError(f"list takes no names, found {' '.join(options.names)}")
    titles = {name: catalog.find(name)[1].title for name in catalog.names()}
    if options.json:
        print(json.dumps(titles))
        return 0
    width = max(map(len, titles))
    for name, title in titles.items():
        print(f"{name:{width}}  {title}")
    return 0


def papers(options: Namespace) -> int:
    """Print the studies of papers with their badges, or run some."""
    known = catalog.papers()
    if not options.names:
        print(index(options.out, known))
        return 0
    names = known if options.names == ["all"] else options.names
    for name in names:
        if name not in known:
            raise RequestError(f"there is no paper {name!r}{nearest(name, known)} (there are: {', '.join(known)})")
    return run(Namespace(**{**vars(options), "names": names}))


def show(options: Namespace) -> int:
    """Print what a study asks and runs."""
    if len(options.names) != 1:
        raise RequestError("show takes the name of one study: qsim study show s_sweep")
    name, study = catalog.find(options.names[0])
    cells = asked.first_cells(study, options)
    print(
        f"{name}: {study.title}\n\n{study.setting(asked.settings(study, options))}\n\noptions: {_taken(study, cells)}"
    )
    print("\nquestions:")
    for question in study.questions:
        print(f"  - {question}")
    runs = f"{len(cells)} runs"
    if study.tuning is not None:
        runs = f"{len(cells)} runs to choose by, {cost([cell.run for cell in cells])}"
    print(f"\ncurves ({runs}):")
    for curve in dict.fromkeys(cell.curve for cell in cells):
        print(f"  - {curve}")
    if cells:
        print(f"\na run of it:\n  {cells[0].run!r}")
    return 0


def run(options: Namespace) -> int:
    """Run studies, one after the other, and write what they found."""
    if "all" in options.names and len(options.names) > 1:
        raise RequestError(f"all takes no further names, found {' '.join(options.names[1:])}")
    given = catalog.names() if options.names == ["all"] else options.names
    studies = [(text, *catalog.find(text)) for text in given]  # all are found before the first is run
    if options.only and len(studies) > 1:
        raise RequestError("--only is for the cells of one study")
    asked.compressors(options, {name: study for _, name, study in studies})
    for _, name, study in studies:
        asked.running(options, name, study)
        asked.settings(study, options)
    part = _part(options, studies)
    _require_folder(options)
    with _logged([name for _, name, _ in studies]) as log:
        if options.only:
            return _run_only(*studies[0], options, log)
        if part is not None:
            return max([_run_part(*study, options, log, *part) for study in studies])
        return max([_run(*study, options, log) for study in studies])


def status(options: Namespace) -> int:
    """Print how many cells of studies are stored, and how large the store is."""
    store, stored = Store(), {}
    for name in options.names or catalog.names():
        study = catalog.find(name)[1]
        if options.names or asked.given(options).keys() <= set(study.takes):
            stored[name] = _stored(study, options, store)
        else:
            stored[name] = "does not take all of these settings"
    cells, stale = store.cells(), store.stale()
    if options.json:
        folder = {"folder": str(store.folder), "cells": len(cells), "stale": len(stale), "bytes": store.size()}
        print(json.dumps({"studies": stored, "store": folder}))
        return 0
    width = max(map(len, stored))
    for name, text in stored.items():
        print(f"{name:{width}}  {text}")
    print(f"\n{store.folder}: {len(cells):,} cells, {store.size() / 1e6:,.1f} MB")
    if stale:
        print(f"{len(stale):,} of them are of other versions or sources: qsim study clean")
    return 0


def clean(options: Namespace) -> int:
    """Remove what is stale, or all; print what was removed."""
    store = Store()
    removed = store.clean(everything=options.all)
    past = time.time() - (0 if options.all else _OLD_LOG)
    logs = [path for path in progress.folder().glob("*.log") if path.stat().st_mtime <= past]
    size = sum(path.stat().st_size for path in logs)
    for path in logs:
        path.unlink(missing_ok=True)
    remove_old(store, past)
    kind = "cells" if options.all else "stale cells"
    print(
        f"removed {removed.cells:,} {kind}, {removed.leftovers:,} half-written files and {len(logs):,} logs,"
        f" {(removed.bytes + size) / 1e6:,.1f} MB; {len(store.cells()):,} cells are left in {store.folder}"
    )
    return 0


def export_cells(options: Namespace) -> int:
    """Run what is missing of a study, and write all cells as one table."""
    if len(options.names) != 1:
        raise RequestError(f"export takes the name of one study, found {' '.join(options.names)}")
    given = options.names[0]
    name, study = catalog.find(given)
    export.require(options.format)
    _require_folder(options)
    with _logged([name]) as log:
        runner = Runner(name, study.timed, log=log, **asked.running(options, name, study))
        try:
            cells = _cells(study, options, runner)
            done = runner.run(cells)
        except CellsFailedError as error:
            return _report(given, name, error, options, log, ", no table is written")
        frame = export.frame(name, cells, [one.trace for one in done])
        with _with_room(options.out):
            path = export.write(frame, options.out / f"{name}_cells.{options.format}")
        _say(log, f"{name}: {len(cells)} cells, {len(frame):,} rows; wrote {path}")
    return 0


def compare(options: Namespace) -> int:
    """Draw results against others, and print how they differ."""
    _require_folder(options)
    first, second = compare_results.find(options.names)
    text, figure = compare_results.compare(first, second)
    paths = [options.out / f"compare_{first.name}.{kind}" for kind in ("pdf", "png")]
    with _with_room(options.out):
        for path in paths:
            output.save(figure, path)
    print(f"{text}\n\nwrote {', '.join(map(str, paths))}")
    return 0


def _run(given: str, name: str, study: Study, options: Namespace, log: Log) -> int:
    start = time.perf_counter()
    compressors = asked.compressors(options, {name: study})
    try:
        results = run_study(
            study,
            asked.settings(study, options),
            name=name,
            compressors=compressors,
            log=log,
            **asked.running(options, name, study),
        )
    except CellsFailedError as error:
        return _report(given, name, error, options, log, ", no figure is drawn")
    with _with_room(options.out):
        paths = output.write(options.out, name, study, results, formats=("pdf", "png", *(options.format or ())))
    print(output.findings(name, study, results))
    took = f"{len(results.cells)} runs in {time.perf_counter() - start:.1f} s"
    _say(log, f"{name}: {took}; wrote {', '.join(map(str, paths))}")
    return 0


def _run_only(given: str, name: str, study: Study, options: Namespace, log: Log) -> int:
    """Run a few cells of a study, and say what came of each."""
    runner = Runner(name, study.timed, log=log, **asked.running(options, name, study))
    try:
        tried = [] if study.tuning is None else asked.first_cells(study, options)
        try:
            cells = _selected(tried, options.only)
        except RequestError:
            cells = _selected([*tried, *_cells(study, options, runner)], options.only)
        done = runner.run(cells)
    except CellsFailedError as error:
        traceback.print_exception(error.failures[0].error)
        return _report(given, name, error, options, log)
    for cell, one in zip(cells, done, strict=True):
        print(f"{cell.name}{' (stored before)' if one.found else ''}: {one.trace!r}\n  {cell.run!r}")
        with suppress(UnknowableError):
            if not (options.no_cache or study.timed):
                print(f"  {Store().path(cell.run)}")
    print("no figure is drawn: that takes all cells")
    return 0


def _part(options: Namespace, studies: Sequence[tuple[str, str, Study]]) -> tuple[int, int] | None:
    """Return which of how many shares of the cells to run; None: all of them."""
    if options.part is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", options.part)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise RequestError(f"--part must be I/K with 1 <= I <= K, such as 3/16, found {options.part}")
    if options.no_cache or options.only:
        raise RequestError("--part stores a share of the cells: it takes neither --no-cache nor --only")
    for _, name, study in studies:
        if study.timed or not asked.first_cells(study, options):
            raise RequestError(f"--part is not for {name}, whose cells are not stored")
    return int(found[1]), int(found[2])


def _run_part(given: str, name: str, study: Study, options: Namespace, log: Log, part: int, parts: int) -> int:
    """Run a share of a study's cells, so that all of them are stored when all shares have been run.

    Of what the study is tuned by, a share is run first, and then what no other program has done by then: all of it must
    be known before there are cells to share.
    """
    runner = Runner(f"{name}, part {part}/{parts}", log=log, **asked.running(options, name, study))
    try:
        if study.tuning is not None:
            runner.attempt(asked.first_cells(study, options)[part - 1 :: parts])
        cells = _cells(study, options, runner)
        share = cells[part - 1 :: parts]
        for cell in share:
            identify(cell.run)
        runner.run(share)
    except CellsFailedError as error:
        return _report(given, name, error, options, log)
    except UnknowableError as error:
        raise RequestError(f"--part stores its share of the cells, and these can't be: {error}") from None
    store = Store()
    stored = sum(store.path(cell.run).exists() for cell in cells)
    _say(
        log,
        f"{name}, part {part}/{parts}: {len(share)} cells are done, {stored} of all {len(cells)} are stored; when all"
        f" are, qsim study {given} draws them",
    )
    return 0


def _selected(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    found = []
    for wanted in only:
        chosen = [cell for cell in cells if wanted in (cell.name, cell.curve)]
        if not chosen:
            names = dict.fromkeys([*(cell.name for cell in cells), *(cell.curve for cell in cells)])
            raise RequestError(f"--only: there is no cell {wanted!r}{nearest(wanted, names)}")
        found += chosen
    return found


def _report(given: str, name: str, error: CellsFailedError, options: Namespace, log: Log, without: str = "") -> int:
    """Say which cells failed, how, and how to run each alone. Returns the exit code."""
    alike: dict[str, list[Cell]] = {}
    for failure in error.failures:
        alike.setdefault(f"{type(failure.error).__name__}: {failure.error}", []).append(failure.cell)
    first = error.failures[0].error
    of_data = all(isinstance(failure.error, DataError) for failure in error.failures)
    if of_data and len(error.failures) == error.cells:
        raise first  # not a cell that fails, but a wrong request
    done = "" if len(error.failures) == error.cells else ", the others are done"
    lines = [f"{name}: {len(error.failures)} of {error.cells} cells failed{done}{without}"]
    for text, cells in alike.items():
        lines += [f"  {text}", *(f"    {cell.name}: {_command(given, cell, options)}" for cell in cells[:_SHOWN])]
        if len(cells) > _SHOWN:
            lines.append(f"    and {len(cells) - _SHOWN} more cells, which the log names")
        log.write("\n".join(f"run alone: {_command(given, cell, options)}" for cell in cells))
    print("\n".join(lines), file=sys.stderr)
    return 1


def _command(given: str, cell: Cell, options: Namespace) -> str:
    """Return the command that runs a cell alone."""
    words = ["python", "-m", "qsim.study", given, *asked.words(options)]
    if options.engine is not None:
        words += ["--engine", options.engine]
    return shlex.join([*words, "--only", cell.name])


def _stored(study: Study, options: Namespace, store: Store) -> str:
    if study.timed:
        return "not stored: it measures time"
    cells = asked.first_cells(study, options)
    if not cells:
        return "no cells: nothing is trained"
    done = unknown = 0
    for cell in cells:
        try:
            done += store.path(cell.run).exists()
        except UnknowableError:
            unknown += 1
    missing = len(cells) - done - unknown
    kind = "cells" if study.tuning is None else "cells to choose by"
    return f"{done} of {len(cells)} {kind} stored, {missing} missing" + f", {unknown} cannot be stored" * bool(unknown)


def _cells(study: Study, options: Namespace, runner: Runner) -> list[Cell]:
    """Return the cells that are shown; what they are tuned by is run first."""
    settings, compressors = asked.settings(study, options), asked.compressors(options, {study.title: study})
    return shown_cells(study, settings, compressors, runner.tune(study, settings, compressors))


def _taken(study: Study, cells: Sequence[Cell]) -> str:
    """Return the options of a study's own that change what it runs, or where."""
    timeable = bool(cells) and all(cell.run.network is None for cell in cells)
    taken = {name: name in study.takes for name in SETTINGS}
    taken |= {"compressor": study.template is not None, "network": timeable, "engine": bool(cells) and not study.timed}
    return ", ".join(f"--{name}" for name, takes in taken.items() if takes) or "none"


@contextmanager
def _with_room(folder: Path) -> Iterator[None]:
    """Say it plainly if the block can't write to a folder: a full disk, a limit on files. Raises StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{error.strerror or error}: results can't be written to {folder} ({free(folder)}). Make room there, or"
            " name another folder by --out. The cells that were computed are kept"
        ) from error


def _require_folder(options: Namespace) -> None:
    if not can_write(options.out):
        raise RequestError(f"--out {options.out} is not a folder that can be written")


@contextmanager
def _logged(names: Sequence[str]) -> Iterator[Log]:
    """Yield a log of what this command does, and say at the end where it is."""
    log = Log.new("-".join(names[:3]) + "-and-more" * (len(names) > 3))
    log.write(f"python -m qsim.study {shlex.join(sys.argv[1:])}")
    try:
        yield log
    except BaseException as error:
        log.write_error("stopped", error)
        raise
    finally:
        if log.path is not None and log.path.exists():
            print(f"log: {log.path}", file=sys.stderr)


def _say(log: Log, text: str) -> None:
    log.write(text)
    print(text)
