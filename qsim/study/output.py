"""The files that a study writes: figure, numbers, findings, provenance. Each file is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsim.identity import environment, identify
from qsim.options import one_of
from qsim.plotting import styled
from qsim.simulation import Run
from qsim.storage import replacing
from qsim.study.cells import Cell
from qsim.study.results import Results
from qsim.study.study import Study
from qsim.study.tuning import Tuned, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: dict[str, dict[str, Any]] = {  # without dates, so that the same numbers give the same bytes
    "pdf": {"metadata": {"CreationDate": None, "Producer": None, "Creator": "qsim"}},
    "png": {"metadata": {"Software": "qsim"}, "dpi": 300},
    "svg": {"metadata": {"Date": None, "Creator": "qsim"}},
}
"""The formats of figures, with what is asked of Matplotlib for each."""


def write(
    folder: Path, name: str, study: Study, results: Results, formats: Sequence[str] = ("pdf", "png")
) -> list[Path]:
    """Write the figure, NAME.csv (numbers), .md (findings) and .json (provenance) into a folder; returns the paths.

    formats: of the figure, keys of `FORMATS`. Raises ValueError for another.
    """
    for kind in formats:
        one_of("formats", kind, tuple(FORMATS))
    paths = {kind: folder / f"{name}.{kind}" for kind in (*formats, "csv", "md", "json")}
    figure = study.draw(results)
    for kind in formats:
        save(figure, paths[kind])
    numbers = results.numbers() if study.numbers is None else study.numbers(results)
    with replacing(paths["csv"]) as temporary:
        numbers.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n", errors="backslashreplace")
    _write_text(paths["md"], findings(name, study, results))
    _write_text(paths["json"], json.dumps(provenance(name, results) | study.summary(results), indent=1) + "\n")
    return list(paths.values())


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix: fonts embedded (PDF), no dates, the same bytes every time."""
    kind = path.suffix.removeprefix(".")
    one_of("the suffix", kind, tuple(FORMATS))
    whole = BytesIO()  # on a full disk one plain write fails in one plain way, and a PDF does not
    with styled():
        figure.savefig(whole, format=kind, **FORMATS[kind])
    with replacing(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def findings(name: str, study: Study, results: Results) -> str:
    """Return the caption, and each question with its answer, as Markdown; last, what tuning chose."""
    lines = [f"# {study.title}", "", f"![{study.title}]({name}.png)", "", study.setting(results.settings)]
    if results.settings.network is not None:
        lines[-1] += f" On {results.settings.network!r}: the figure has its virtual seconds where it would have bits."
    for question, answer in zip(study.questions, study.answers(results), strict=True):
        lines += ["", f"**{question}** {answer}"]
    if results.tuned is not None:
        lines += ["", f"**What was tuned?** {results.tuned.words}"]
    return "\n".join(lines) + "\n"


def provenance(name: str, results: Results) -> dict[str, Any]:
    """Return where every number comes from: each curve's run and seeds, and those that tuning chose by.

    `run` is the one of the first of `seeds`; the others are the same run with another seed. Where cells of a curve
    differ in more, `runs` lists them all. `sources` has the files of a user's own classes in it, with their digests.
    """
    curves = {
        curve: _runs([cell for cell in results.cells if cell.curve == curve])
        | _sources(next(cell.run for cell in results.cells if cell.curve == curve))
        | _choice(results.tuned, curve)
        for curve in results.curves
    }
    traces = [trace for curve in results.traces.values() for trace in curve]
    of_one_run = ("run", "arguments")
    known = traces[0].provenance if traces else environment()
    shared = {key: value for key, value in known.items() if key not in of_one_run}
    tuning = {} if results.tuned is None else {"tuning": _tuning(results.tuned)}
    return {"study": name, "settings": repr(results.settings), **shared, "curves": curves, **tuning}


def _runs(cells: Sequence[Cell]) -> dict[str, Any]:
    runs: list[Run] = [cell.run for cell in cells]
    if all(replace(runs[0], seed=run.seed) == run for run in runs):
        return {"run": repr(runs[0]), "seeds": [run.seed for run in runs]}
    return {"runs": [repr(run) for run in runs]}


def _sources(run: Run) -> dict[str, Any]:
    try:
        modules = identify(run).modules
    except Exception:  # nothing can be told of it: such a run is not stored either
        return {}
    return {"sources": {Path(path).name: digest for path, digest in modules.items()}} if modules else {}


def _choice(tuned: Tuned | None, curve: str) -> dict[str, Any]:
    return {} if tuned is None or curve not in tuned.choices else {"choice": tuned.choices[curve].value}


def _tuning(tuned: Tuned) -> dict[str, Any]:
    """Return for each tuned curve the choice, and each candidate's mean score and runs."""
    found: dict[str, Any] = {"of": tuned.tuning.of, "rule": repr(tuned.tuning.rule), "curves": {}}
    for curve, choice in tuned.choices.items():
        tried = {
            written(value): {"score": score if score < float("inf") else "inf"}
            | _runs([c for c in tuned.candidates if c.curve == curve and c.choice == value])
            for value, score in choice.scores.items()
        }
        found["curves"][curve] = {"choice": choice.value, "tried": tried}
    return found


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
