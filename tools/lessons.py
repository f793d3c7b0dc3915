"""Make the notebooks of the lesson from its source: `python tools/lessons.py [--execute FOLDER]`.

`lessons/exercise.py` (the percent format of Jupytext) becomes `lessons/exercise.ipynb`, for students, and
`lessons/solution.ipynb`: so the two cannot drift apart. Cells tagged `solution` or `exercise` are in one of them only.
What stands between `# BEGIN SOLUTION` and `# END SOLUTION` is a blank in the exercise. With `--execute` both are run
from top to bottom, and written with their outputs to a folder.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LESSONS = Path(__file__).parents[1] / "lessons"
SOURCE = LESSONS / "exercise.py"
BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
BLANK = 'raise NotImplementedError("your code")'
KINDS = ("exercise", "solution")


def notebook(kind: str) -> Any:
    """Return the notebook of a kind, without outputs."""
    import jupytext
    import nbformat

    made = jupytext.read(SOURCE)
    other = ({*KINDS} - {kind}).pop()
    made.cells = [cell for cell in made.cells if other not in cell.metadata.get("tags", [])]
    for number, cell in enumerate(made.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        cell.source = without_marks(cell.source, blank=kind == "exercise")
    made.metadata.pop("jupytext")
    nbformat.validate(made)
    return made


def without_marks(source: str, *, blank: bool) -> str:
    """Return the source of a cell without the marks of its solution; blank: without the solution, too."""
    lines: list[str] = []
    inside = False
    for line in source.splitlines():
        if line.strip() in (BEGIN, END):
            assert inside == (line.strip() == END), f"{line.strip()} stands where it cannot"
            inside = not inside
            if inside and blank:
                lines.append(line.replace(BEGIN, BLANK))
        elif not (inside and blank):
            lines.append(line)
    assert not inside, f"{END} is missing"
    return "\n".join(lines)


def text(kind: str) -> str:
    """Return the file of a notebook."""
    import nbformat

    return nbformat.writes(notebook(kind), indent=1) + "\n"


def execute(kind: str, folder: Path) -> float:
    """Run a notebook, and write it with what its cells show; return the seconds that it took."""
    import nbformat

    made, began = notebook(kind), time.monotonic()
    run(made, folder)
    took = time.monotonic() - began
    nbformat.write(made, folder / f"{kind}.ipynb")
    return took


def run(made: Any, folder: Path) -> None:
    """Run a notebook from top to bottom, in a kernel that works in a folder; it has the outputs then."""
    from nbclient import NotebookClient

    NotebookClient(made, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the notebooks; return the exit code."""
    parser = ArgumentParser(description="Make the notebooks of the lesson from lessons/exercise.py.")
    parser.add_argument("--execute", type=Path, metavar="FOLDER", help="run them, and write them there with outputs")
    options = parser.parse_args(arguments)
    for kind in KINDS:
        if options.execute is None:
            (LESSONS / f"{kind}.ipynb").write_text(text(kind), encoding="utf-8")
        else:
            options.execute.mkdir(parents=True, exist_ok=True)
            print(f"{kind}: {execute(kind, options.execute):.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
