"""The notebooks: made from one source, without the solution where there are blanks, and good from top to bottom."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qsim
from helpers.paths import ROOT
from qsim.lessons import TASKS, marking, quantizers
from qsim.lessons.submission import Submission

if not (ROOT / "lessons").exists():
    pytest.skip("needs the checkout's lessons", allow_module_level=True)
sys.path.insert(0, str(ROOT / "tools"))
import lessons

KINDS = ("exercise", "solution")
needs_extra = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("jupytext", "nbformat", "nbclient", "ipykernel")),
    reason="needs Jupyter: pip install '.[lessons]'",
)


def cells(kind: str) -> list[dict[str, Any]]:
    stored = json.loads((ROOT / "lessons" / f"{kind}.ipynb").read_text(encoding="utf-8"))
    return [{**cell, "source": "".join(cell["source"])} for cell in stored["cells"]]


@needs_extra
@pytest.mark.parametrize("kind", KINDS)
def test_the_notebooks_are_what_the_source_makes(kind: str) -> None:
    """If not: python tools/lessons.py."""
    assert (ROOT / "lessons" / f"{kind}.ipynb").read_text(encoding="utf-8") == lessons.text(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored(kind: str) -> None:
    """Nothing is installed unless somebody says what; no outputs; below every task's cell is one that checks it."""
    code = [cell for cell in cells(kind) if cell["cell_type"] == "code"]
    assert 'QSIM = ""\nif QSIM:\n    get_ipython().run_line_magic("pip"' in code[0]["source"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    sources = [cell["source"] for cell in code]
    for name, task in TASKS.items():
        (place,) = [k for k, source in enumerate(sources) if source.startswith(f"def {task.signature}:")]
        assert sources[place + 1] == f"lessons.check({name})"
    blanks = sum(source.count(lessons.BLANK) for source in sources)
    assert blanks == (len(TASKS) if kind == "exercise" else 0)
    assert not any(mark in source for source in sources for mark in (lessons.BEGIN, lessons.END))
    answers = sum("*Your answer:*" in cell["source"] for cell in cells(kind))
    discussions = sum("**Discussion.**" in cell["source"] for cell in cells(kind))
    assert (answers, discussions) == ((3, 0) if kind == "exercise" else (0, 3))


@pytest.mark.parametrize("name", TASKS)
def test_nothing_of_a_solution_is_in_the_exercise(name: str) -> None:
    """Its lines, but for those that nobody could do without, are in no cell."""
    function = Submission(lessons.SOURCE).function(name)
    assert function.__name__ == name
    text = "\n".join(cell["source"] for cell in cells("exercise") if cell["cell_type"] == "code")
    inside = lessons.SOURCE.read_text(encoding="utf-8").partition(f"def {name}(")[2]
    hidden = inside.partition(lessons.BEGIN)[2].partition(lessons.END)[0].strip().splitlines()
    assert hidden
    assert not any(line.strip() in text for line in hidden if len(line.strip()) > 12)


def test_marks_that_do_not_match_are_refused() -> None:
    for wrong in (f"a\n{lessons.END}", f"{lessons.BEGIN}\n{lessons.BEGIN}\n{lessons.END}", f"{lessons.BEGIN}\na"):
        with pytest.raises(AssertionError):
            lessons.without_marks(wrong, blank=True)
    source = f"def f():\n    {lessons.BEGIN}\n    return 1\n    {lessons.END}\n\nf()"
    assert lessons.without_marks(source, blank=True) == f"def f():\n    {lessons.BLANK}\n\nf()"
    assert lessons.without_marks(source, blank=False) == "def f():\n    return 1\n\nf()"


def test_the_page_for_teachers() -> None:
    """Its commands are understood, its points are those that are given, and its figures are all that there are."""
    page = (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8")
    commands = re.search(r"```sh\n(.*?)```", page, flags=re.S)[1].splitlines()
    assert len(commands) == 3
    for command in commands:
        words = command.split()
        assert words[:2] == ["qsim", "mark"]
        marking.parser().parse_args(words[2:])
    assert re.findall(r"\| `(\w+\(.*?\))` \| (\d) \|", page) == [
        (task.signature, str(task.points)) for task in TASKS.values()
    ]
    figures = {name for name in qsim.lessons.__all__ if hasattr(qsim.lessons.figures, name)}
    assert len(figures) == 5
    assert set(re.findall(r"`qsim\.lessons\.(\w+)\(\)`", page)) == figures
    assert f"chance below $10^{{{round(np.log10(quantizers.ALARM))}}}$" in page.replace("\n", " ")
    assert f"{quantizers.DRAWS:,} messages of each of three vectors" in page
    defaults = marking.parser().parse_args(["homework"])
    assert f"`--timeout` seconds ({defaults.timeout:g})" in page
    assert f"`--memory` GiB ({defaults.memory:g})" in page


@needs_extra
@pytest.mark.parametrize("kind", KINDS)
def test_the_notebooks_are_marked(kind: str) -> None:
    """As they are handed out, and as they should come back."""
    marked = marking.mark(ROOT / "lessons" / f"{kind}.ipynb", marking.Limits(60.0, 2**31), 5)
    for name, verdicts in marked.items():
        good = kind == "solution"
        assert marking.points(verdicts) == (TASKS[name].points if good else 0)
        assert marking.reasons(verdicts) == ("" if good else f"`{name}` is not written yet")


@needs_extra
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_they_run_from_top_to_bottom(kind: str, tmp_path: Path) -> None:
    """With two seeds instead of eight: all points or none, all figures, and the numbers of the discussion."""
    made = lessons.notebook(kind)
    (place,) = [k for k, cell in enumerate(made.cells) if "ROUNDS, SEEDS = 60, 8" in cell.source]
    made.cells[place].source = made.cells[place].source.replace("ROUNDS, SEEDS = 60, 8", "ROUNDS, SEEDS = 20, 2")
    lessons.run(made, tmp_path)
    outputs = [output for cell in made.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data for output in outputs if output.output_type in ("execute_result", "display_data")]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    reports = "\n".join(data.get("text/plain", "") for data in shown)
    for task in TASKS.values():
        got = task.points if kind == "solution" else 0
        assert f"{task.signature}: {got} of {task.points} points" in reports
    figures = sum("image/png" in data for data in shown)
    assert figures == (7 if kind == "solution" else 5)
    assert printed.count("First write") == (0 if kind == "solution" else 3)
    assert ("beyond the seed noise" in printed and "times fewer" in printed) == (kind == "solution")
