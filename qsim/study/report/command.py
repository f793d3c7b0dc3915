"""The command `qsim study report`."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from qsim.storage import can_write
from qsim.study import asked, catalog
from qsim.study.catalog import RequestError
from qsim.study.report import page, parts
from qsim.study.report.page import Part
from qsim.study.store import Store
from qsim.study.stored import Request, Shelf


def report(options: Namespace) -> int:
    """Write a page about studies; returns 1 if cells are missing."""
    page.require()
    start = time.perf_counter()
    found = _stored(options) if options.written is None else _written(options.written, options.names)
    path = options.html or Path(f"{found[0].name}.html" if len(found) == 1 else "studies.html")
    require_folder(path)
    size = page.write(path, found)
    many = f"{len(found)} studies, " if len(found) > 1 else ""
    print(f"wrote {path}: {many}{size / 1e6:,.1f} MB, in {time.perf_counter() - start:.1f} s")
    return 1 if options.written is None and any(part.notices for part in found) else 0


def request(given: str, options: Namespace) -> Request:
    """Return what a command asks for by a name or path."""
    name, study = catalog.find(given)
    settings, compressors = asked.settings(study, options), asked.compressors(options, {name: study})
    return Request(given, name, study, settings, compressors, ["qsim", "study", given, *asked.words(options)])


def require_folder(path: Path) -> None:
    """Refuse a file that could not be written. Raises RequestError."""
    if path.is_dir() or not can_write(path.parent):
        raise RequestError(f"--html {path} is not a file that can be written")


def _stored(options: Namespace) -> list[Part]:
    """Return the parts of studies of which cells are stored; without names, of all such studies."""
    shelf, found = Shelf(Store()), []
    for given in options.names or catalog.names():
        try:
            wanted = request(given, options)
            if not wanted.keeps_cells:
                raise RequestError(
                    f"{wanted.name} stores no cells: qsim study {given} writes its results, and"
                    f" qsim study report {wanted.name} --from paper_figures makes a page of them"
                )
            stored = shelf.find(wanted)
        except RequestError:
            if options.names:
                raise
            continue
        if stored.curves or options.names:
            found.append(parts.of_stored(stored))
            _say(found[-1].notices)
    if not any(part.data for part in found):
        what = ", ".join(options.names) if options.names else "any study"
        raise RequestError(f"no page is written, as there is nothing to draw of {what}")
    return found


def _written(folder: Path, names: Sequence[str]) -> list[Part]:
    """Return the parts of what studies wrote to a folder."""
    known = sorted(path.stem for path in folder.glob("*.csv") if path.with_suffix(".json").is_file())
    if not (names or known):
        raise RequestError(f"--from {folder} is not a folder with results that studies wrote")
    return [parts.of_files(folder, Path(name).stem) for name in names or known]


def _say(notices: Sequence[str]) -> None:
    for text in notices:
        print(text, file=sys.stderr)
