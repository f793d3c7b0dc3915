"""The pages of the API reference: one for each public module, with a table of its names; autosummary makes theirs."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

import qsim

HEAD = """{title}
{line}

.. automodule:: {module}
   :no-members:

.. currentmodule:: qsim

"""
TABLE = """.. autosummary::
   :toctree: .

{names}

"""
ALIAS = """.. py:data:: {name}

   Short for ``{of}``.

"""
DATA = """.. autodata:: {name}
   :no-value:

"""


def kind(thing: Any) -> str:
    """Return the heading under which a public name stands."""
    if isinstance(thing, type):
        return "Exceptions" if issubclass(thing, Exception) else "Classes"
    return "Functions" if inspect.isroutine(thing) else "Data"


def public() -> dict[str, dict[str, Any]]:
    """Return the names of each public module; those that are at the top level, too, by that name."""
    top = {name: getattr(qsim, name) for name in dir(qsim) if name != "__version__"}
    shorter = {id(thing): f"qsim.{name}" for name, thing in top.items() if not isinstance(thing, ModuleType)}
    pages = {"qsim": {f"qsim.{name}": thing for name, thing in top.items() if not isinstance(thing, ModuleType)}}
    for name, module in top.items():
        if isinstance(module, ModuleType):
            things = {inner: getattr(module, inner) for inner in dir(module)}
            pages[f"qsim.{name}"] = {
                shorter.get(id(thing), f"qsim.{name}.{inner}"): thing for inner, thing in things.items()
            }
    return pages


def data(name: str, thing: Any) -> str:
    """Return the entry of what is neither a class nor a function."""
    return (ALIAS if get_origin(thing) else DATA).format(name=name, of=thing)


def page(module: str, names: dict[str, Any]) -> str:
    """Return the page of a module."""
    text = HEAD.format(title=module, line="=" * len(module), module=module)
    for title in ("Classes", "Functions", "Exceptions", "Data"):
        here = [name for name, thing in names.items() if kind(thing) == title]
        if here:
            text += f"{title}\n{'-' * len(title)}\n\n"
        if title == "Data":
            text += "".join(data(name, names[name]) for name in here)
        elif here:
            text += TABLE.format(names="\n".join(f"   {name.removeprefix('qsim.')}" for name in here))
    return text


def write(folder: Path) -> None:
    """Write the pages of all public modules; those that are as they should be keep their time, and old ones go."""
    folder.mkdir(exist_ok=True)
    pages = public()
    wanted = {f"{module}.module" for module in pages} | {
        name for names in pages.values() for name, thing in names.items() if kind(thing) != "Data"
    }
    for path in folder.glob("*.rst"):
        if path.stem not in wanted:
            path.unlink()
    for module, names in pages.items():
        path, text = folder / f"{module}.module.rst", page(module, names)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
