"""What classes declare: the defaults are those that are documented, and nothing can be set once it is made."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from importlib import import_module
from pkgutil import walk_packages

import pytest

import qsim
from helpers.options import options


@pytest.mark.parametrize("cls", options(), ids=lambda cls: cls.__name__)
def test_defaults_are_the_documented_ones(cls: type) -> None:
    """A line `name : type, default value` of the docstring, where the value may leave out its module."""
    default = {field.name: field.default for field in fields(cls)}
    for name, said in re.findall(r"^(\w+) : .*, default (.+)$", inspect.getdoc(cls) or "", re.MULTILINE):
        assert repr(default[name]).endswith(said.strip("`").replace('"', "'")), name


def test_dataclasses_are_frozen() -> None:
    """So that what was checked when it was made still holds."""
    modules = [import_module(found.name) for found in walk_packages(qsim.__path__, "qsim.")]
    classes = {thing for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    found = [cls for cls in classes if is_dataclass(cls)]
    assert len(found) > 150
    assert [cls for cls in found if not cls.__dataclass_params__.frozen] == []
