"""A student's file: what it takes to call one of its functions, and nothing else of it.

Of a notebook or a script, marking runs the statements that a function needs: its definition, and the imports,
definitions and assignments of what it reads, and so on. Training, figures and prints are left out, so that marking is
quick, and an error in one cell spoils the functions of no other.
"""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qsim.lessons.answers import explained

_MAGIC = re.compile(r"^(\s*)[%!].*$", re.M)
_Names = tuple[set[str], set[str]]
_TIMED = ("%%time", "%%timeit", "%%capture")


class UnusableError(Exception):
    """Raised if a function cannot be had from a file; the text says why, behind the function's name."""


class Submission:
    """A student's notebook (.ipynb) or script (.py)."""

    def __init__(self, path: Path) -> None:
        self._problems: list[str] = []
        self._statements: list[tuple[str, ast.stmt, _Names]] = []
        for place, source in _sources(path):
            try:
                for statement in ast.parse(source).body:
                    self._statements.append((place, statement, _names(statement)))
            except SyntaxError as error:  # of the symbol table, too: such as a return outside of functions
                self._problems.append(f"{place} cannot be read: {error.msg} (line {error.lineno})")
            except (ValueError, RecursionError, MemoryError) as error:
                self._problems.append(f"{place} cannot be read: {error}")

    def function(self, name: str) -> Callable[..., Any]:
        """Run what a function needs, in a space of its own, and return it."""
        space: dict[str, Any] = {"__name__": "submission"}
        for place, statement in self._needed(name):
            try:
                exec(compile(ast.Module([statement], []), place, "exec"), space)
            except BaseException as error:
                raise UnusableError(f"cannot be had: {place} {explained(error)}") from error
        if name not in space:
            raise UnusableError("; ".join(["is not defined", *self._problems]))
        if not callable(space[name]):
            raise UnusableError(f"is no function, found {type(space[name]).__name__}")
        function: Callable[..., Any] = space[name]
        return function

    def _needed(self, name: str) -> list[tuple[str, ast.stmt]]:
        wanted, chosen = {name}, set[int]()
        while found := {k for k, (*_, names) in enumerate(self._statements) if names[0] & {*wanted, "*"}} - chosen:
            chosen |= found
            wanted |= set().union(*(self._statements[k][2][1] for k in found))
        return [self._statements[k][:2] for k in sorted(chosen)]


def _names(statement: ast.stmt) -> _Names:
    """Return the names that a statement at the top level binds or changes, and those that it reads, in functions too.

    Every import of all names binds "*".
    """
    if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
        return {"*"}, set()
    top = symtable.symtable(ast.unparse(statement), "submission", "exec")
    bound = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    read = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    tables = list(top.get_children())
    while tables:
        table = tables.pop()
        tables += table.get_children()
        read |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    for node in ast.walk(statement) if not isinstance(statement, ast.FunctionDef | ast.ClassDef) else ():
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            bound |= {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
    return bound, read


def _sources(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the places of a file and their code: the cells of a notebook, or the whole of a script."""
    if path.suffix != ".ipynb":
        yield "the file", path.read_text(encoding="utf-8", errors="replace").removeprefix("\ufeff")
        return
    import nbformat

    for number, cell in enumerate(nbformat.read(path, as_version=4).cells, 1):
        source = str(cell.source)
        if source.startswith(_TIMED):
            source = source.partition("\n")[2]
        if cell.cell_type == "code" and not source.startswith("%%"):
            yield f"cell {number}", _MAGIC.sub(r"\1pass", source)
