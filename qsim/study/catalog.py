"""Finding studies: the shipped ones by name, any other by the path of its file."""

from __future__ import annotations

from pathlib import Path
from traceback import extract_tb

import qsim
from qsim.object_loader import load_file
from qsim.options import nearest
from qsim.study.study import Study

COMMANDS = ("all", "run", "list", "papers", "show", "status", "clean", "export", "compare", "report", "watch")
"""Words that the command line takes in the place of a study."""


class RequestError(ValueError):
    """The command line asked for something that there is not, or that makes no sense."""


def folder() -> Path:
    """Return the folder of the shipped studies: inside an installed package, beside it in a checkout."""
    package = Path(qsim.__file__).parent
    installed = package / "studies"
    return installed if installed.is_dir() else package.parent / "studies"


def names() -> list[str]:
    """Return the names of the shipped studies, those of papers among them."""
    return sorted(_files())


def papers() -> list[str]:
    """Return the names of the shipped studies of papers."""
    return sorted(name for name, path in _files().items() if path.parent.name == "papers")


def _files() -> dict[str, Path]:
    """Return the files of the shipped studies by their names; those of papers are in a folder of their own."""
    found = [*folder().glob("*.py"), *folder().glob("papers/*.py")]
    return {path.stem: path for path in found if not path.name.startswith("_")}


def find(name: str) -> tuple[str, Study]:
    """Return the short name of a study, given by name or by path, and the study.

    Raises RequestError for a study that there is not, naming the nearest, and for a file that defines none.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise RequestError(f"there is no study file {name!r}")
    else:
        path = _files().get(name, Path())
        if name not in _files():
            known = [*names(), *COMMANDS]
            raise RequestError(f"there is no study {name!r}{nearest(name, known)} (there are: {', '.join(names())})")
    return path.stem, _read(path)


def _read(path: Path) -> Study:
    try:
        module = load_file(path, f"qsim_study_{path.stem}")
    except Exception as error:
        raise RequestError(f"{path} can't be run{_line(path, error)}: {type(error).__name__}: {error}") from error
    found = getattr(module, "study", None)
    if not isinstance(found, Study):
        raise RequestError(f"{path} defines no study: it must say study = qsim.study.Study(...), found {found!r}")
    return found


def _line(path: Path, error: Exception) -> str:
    """Say at which line of a file an error came, if one of it is known."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if Path(frame.filename) == path.resolve()]
    return f" (line {lines[-1]})" if lines else ""
