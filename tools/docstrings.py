"""Check the docstrings of the public names against the rules of numpydoc: `python tools/docstrings.py`.

The rules are `[tool.numpydoc_validation]` in pyproject.toml. A public name is a class or a function that `qsim` or one
of its public modules exports; of a base class, the abstract methods are checked too. Exceptions and base classes need
no example. Formulas are set as maths, in LaTeX that Matplotlib reads too, which keeps them short enough for `help()`:
in a summary, in code, in examples and in references they stay as they are. Prints what is wrong, and ends with 1 if
something is.
"""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from matplotlib.mathtext import MathTextParser
from numpydoc.validate import validate

import qsim

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
SETTINGS = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["numpydoc_validation"]

MATHS = re.compile(r":math:`([^`]*)`|\.\. math::\n\n((?: *\n| {4}.*\n)*)")
CODE = re.compile(r"``.*?``|`[^`]*`|\"[^\"]*\"", flags=re.DOTALL)
PLAIN = re.compile(r"\S*(?:\^|\|\||<-|[<>]=|\b(?:sqrt|omega|mu)\b|\b[A-Za-z]_\w\b)\S*")
VERBATIM = re.compile(r"^(?:Examples|References)\n-+\n.*|^\w+ : .*?$", flags=re.DOTALL | re.MULTILINE)
PARSER = MathTextParser("path")


def public_names() -> dict[str, Any]:
    """Return the classes and functions that are public; of one that has two names, the shorter."""
    found = {f"qsim.{name}": getattr(qsim, name) for name in qsim.__all__}
    for module, part in list(found.items()):
        if isinstance(part, ModuleType):
            found |= {f"{module}.{name}": thing for name, thing in exported(part)}
    once: dict[int, tuple[str, Any]] = {}
    for name, thing in found.items():
        if isinstance(thing, type | FunctionType):
            once.setdefault(id(thing), (name, thing))
    return dict(once.values())


def exported(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield what a module lists in `__all__`; without one, what it defines itself."""
    for name, thing in vars(module).items():
        own = getattr(thing, "__module__", None) == module.__name__
        if name in getattr(module, "__all__", [name] if own and name[0] != "_" else []):
            yield name, thing


def checked() -> Iterator[tuple[str, bool]]:
    """Yield the names of what is checked, and whether it needs an example."""
    for name, thing in public_names().items():
        if any(re.search(pattern, name) for pattern in SETTINGS["exclude"]):
            continue
        abstract = inspect.isabstract(thing)
        yield name, not (abstract or (isinstance(thing, type) and issubclass(thing, Exception)))
        for method in sorted(thing.__abstractmethods__) if abstract else ():
            if method[0] != "_":
                yield f"{name}.{method}", False


def wrong_maths(docstring: str) -> Iterator[str]:
    """Yield what is wrong with the formulas of a docstring."""
    text = VERBATIM.sub("", docstring.partition("\n")[2]) + "\n"
    for inline, block in MATHS.findall(text):
        for formula in [inline] if inline else re.split(r"\\\\", block.replace("&", "")):
            try:
                PARSER.parse(f"${' '.join(formula.split())}$")
            except ValueError as error:
                yield f"a formula cannot be read: {' '.join(formula.split())} ({error})".splitlines()[0]
    for found in PLAIN.findall(CODE.sub("", MATHS.sub("", text))):
        yield f"a formula is plain text: {found}"


def main() -> int:
    """Print what is wrong; return the exit code."""
    wrong = 0
    for name, needs_example in checked():
        found = validate(name)
        for code, text in found["errors"]:
            if code in SETTINGS["checks"] and (code != "EX01" or needs_example):
                print(f"{found['file']}:{found['file_line']}: {name}: {code} {text}")
                wrong += 1
        for text in wrong_maths(found["docstring"]):
            print(f"{found['file']}:{found['file_line']}: {name}: {text}")
            wrong += 1
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
