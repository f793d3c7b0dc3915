"""Parts of a page: of stored cells, or of the files that a study wrote."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsim.plotting import styled
from qsim.study.catalog import RequestError
from qsim.study.cells import Cell
from qsim.study.report import points
from qsim.study.report.page import Part
from qsim.study.stored import Stored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 5  # of the cells that are missing
_DPI = 150


def of_stored(stored: Stored) -> Part:
    """Return what there is of a study: its curves and, once all its cells are stored, its findings and figure."""
    request, results = stored.request, stored.results
    study = request.study
    findings = [study.setting(request.settings)]
    figure = None
    if results is None:
        findings.append("The findings are drawn from all cells: they stand here when all are stored.")
    else:
        pairs = zip(study.questions, study.answers(results), strict=True)
        findings += [f"**{question}** {answer}" for question, answer in pairs]
        if results.tuned is not None:
            findings.append(f"**What was tuned?** {results.tuned.words}")
        figure = _png(study.draw(results))
    curves = {} if stored.choosing else stored.curves
    data = points.of_cells(curves) if curves else {}
    return Part(request.name, study.title, "\n\n".join(findings), data, missing(stored), figure)


def missing(stored: Stored) -> list[str]:
    """Say which cells are missing, and what command makes them; nothing if none are."""
    lacking = stored.missing
    if not lacking:
        return []
    what = "runs to choose by" if stored.choosing else "cells"
    done = "until all are known, there are no cells to show" if stored.choosing else "curves have the seeds that are"
    return [
        f"{len(lacking)} of {len(stored.cells)} {what} of {stored.request.name} are not stored: {_listed(lacking)};"
        f" {done}. To run them: {shlex.join(stored.request.command)}"
    ]


def of_files(folder: Path, name: str) -> Part:
    """Return what a study has written to a folder. Raises RequestError for files that are not a study's."""
    import pandas as pd

    try:
        table = pd.read_csv(folder / f"{name}.csv")
        about = _json(folder / f"{name}.json")
        text = _text(folder / f"{name}.md")
        data = points.of_table(table, about.get("curves") or {})
    except FileNotFoundError as error:
        raise RequestError(f"there are no results {error.filename}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # pandas' errors of parsing are ValueErrors
        raise RequestError(f"{folder / name}.csv and .json are not what a study wrote: {error}") from None
    first, _, rest = text.partition("\n")
    findings = "\n".join(line for line in rest.splitlines() if not line.startswith("!["))  # the figure stands below
    image = folder / f"{name}.png"
    notice = f"From the files {folder / name}.csv, .json and .md, with the settings {about.get('settings', '?')}."
    figure = image.read_bytes() if image.is_file() else None
    return Part(name, first.removeprefix("# ") or name, findings, data, [notice], figure)


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_text(path) or "{}")
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _listed(cells: Sequence[Cell]) -> str:
    names = ", ".join(repr(cell.name) for cell in cells[:_NAMED])
    return names + (f" and {len(cells) - _NAMED} more" if len(cells) > _NAMED else "")


def _png(figure: Figure) -> bytes:
    image = BytesIO()
    with styled():
        figure.savefig(image, format="png", dpi=_DPI)
    return image.getvalue()
