"""What a study writes: figure, numbers, findings, provenance. Each file is written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsim.storage import replacing
from qsim.study.results import Results
from qsim.study.study import Study
from qsim.trace import environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(folder: Path, name: str, study: Study, results: Results) -> list[Path]:
    """Write NAME.pdf, .png, .csv, .md and .json into a folder; returns their paths."""
    import matplotlib as mpl

    from qsim.study.figures import STYLE

    paths = {kind: folder / f"{name}.{kind}" for kind in ("pdf", "png", "csv", "md", "json")}
    figure = study.draw(results)
    with mpl.rc_context(STYLE):
        _save_figure(figure, paths["pdf"], metadata={"CreationDate": None, "Producer": None, "Creator": "qsim"})
        _save_figure(figure, paths["png"], dpi=300, metadata={"Software": "qsim"})
    numbers = results.numbers() if study.numbers is None else study.numbers(results)
    with replacing(paths["csv"]) as temporary:
        numbers.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")
    _write_text(paths["md"], findings(name, study, results))
    _write_text(paths["json"], json.dumps(provenance(name, results), indent=1) + "\n")
    return list(paths.values())


def findings(name: str, study: Study, results: Results) -> str:
    """Return the caption, and each question with its answer, as Markdown."""
    lines = [f"# {study.title}", "", f"![{study.title}]({name}.png)", "", study.setting(results.settings)]
    for question, answer in zip(study.questions, study.answers(results), strict=True):
        lines += ["", f"**{question}** {answer}"]
    return "\n".join(lines) + "\n"


def provenance(name: str, results: Results) -> dict[str, Any]:
    """Return where every number comes from: for each curve the run of its first seed, and all its seeds."""
    curves = {}
    for curve in results.curves:
        runs = [cell.run for cell in results.cells if cell.curve == curve]
        curves[curve] = {"run": repr(runs[0]), "seeds": [run.seed for run in runs]}
    traces = [trace for curve in results.traces.values() for trace in curve]
    shared = {key: value for key, value in traces[0].provenance.items() if key != "run"} if traces else environment()
    return {"study": name, "settings": repr(results.settings), **shared, "curves": curves}


def _save_figure(figure: Figure, path: Path, **options: Any) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, **options)


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
