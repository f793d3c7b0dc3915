"""Objects of a user's own, named on a command line: `module:expression` or `path.py:expression`."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from sysconfig import get_paths
from types import ModuleType
from typing import Any

from qsim.options import nearest

FILE_MODULE = "qsim_file_"
"""The prefix of the names of modules that are files named by their path."""
INSTALLED = tuple(
    {str(Path(path).resolve()) + os.sep for path in get_paths().values()} | {str(Path(__file__).parent) + os.sep}
)
"""Where modules of Python, of installed packages and of qsim itself lie: they are found everywhere."""


class NotFoundError(ValueError):
    """A module, a file or an object that was named is not there."""


def load_file(path: Path, name: str) -> ModuleType:
    """Run a Python file as a module of a name, under which its classes can be found again."""
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # so that classes defined in the file can be pickled
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half of it would be found there
        raise
    return module


def evaluate(text: str) -> Any:
    """Return what `module:expression` or `path.py:expression` stands for; the names are those of the module, and qsim.

    >>> evaluate("qsim.compressors:QSGD(levels=3)")
    qsim.QSGD(levels=3)

    Raises NotFoundError if the module, the file or a name is not there, or the expression cannot be evaluated.
    """
    place, expression = split(text)
    if not place.strip() or not expression.strip():
        raise NotFoundError(f"write module:expression or file.py:expression, such as mine.py:Ternary(), found {text!r}")
    try:
        module = _module(place)
    except NotFoundError:
        raise
    except Exception as error:
        raise NotFoundError(f"{place} can't be run: {type(error).__name__}: {error}") from error
    try:
        code = compile(expression.strip(), "<command line>", "eval")
        lazy = {name: getattr(module, name) for name in code.co_names if hasattr(module, name)}
        return eval(code, {"qsim": import_module("qsim"), **vars(module), **lazy})
    except NameError as error:
        missing = getattr(error, "name", None) or ""
        raise NotFoundError(f"{place} has no {missing!r}{nearest(missing, dir(module))}") from None
    except Exception as error:
        raise NotFoundError(f"{expression!r} of {place} fails: {type(error).__name__}: {error}") from error


def split(text: str) -> tuple[str, str]:
    """Return the two sides of `module:expression` or `path.py:expression`; a path may have colons too.

    >>> split("C:/mine/a:b.py:Ternary(1)"), split("qsim:QSGD(levels=4)")
    (('C:/mine/a:b.py', 'Ternary(1)'), ('qsim', 'QSGD(levels=4)'))
    """
    ends = [found.start() + len(".py") for found in re.finditer(r"\.py:", text)]
    files = [end for end in ends if Path(text[:end]).is_file()]
    place, _, expression = text.partition(":")
    module = all(part.isidentifier() for part in place.strip().split(".")) and expression[:1] not in ("/", "\\")
    if files or (ends and not module):
        end = (files or ends)[0]
        return text[:end], text[end + 1 :]
    return place, expression


def _module(place: str) -> ModuleType:
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise NotFoundError(f"there is no file {place!r}")
        return _loaded_once(path.resolve())
    try:
        return import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # a module that this one imports
        raise NotFoundError(f"there is no module {place!r} (a file is named with its .py)") from None


def _loaded_once(path: Path) -> ModuleType:
    """Run a file that was not run before: twice would make two classes of each. Files of one name get two modules."""
    name = FILE_MODULE + path.stem
    while name in sys.modules:
        if sys.modules[name].__file__ == str(path):
            return sys.modules[name]
        name += "_"
    return load_file(path, name)
