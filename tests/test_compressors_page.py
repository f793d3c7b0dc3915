"""The tables of docs/compressors.md hold what its program computes, and every compressor."""

from __future__ import annotations

import re

import pytest

import qsim
from helpers.paths import DOCS

PAGE = DOCS / "compressors.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")


def test_the_tables_are_what_the_program_computes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    space = {name: getattr(qsim, name) for name in dir(qsim)}
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    exec(compile(program, "compressors.md", "exec"), space)
    rows = re.findall(r"^\| `([^`]*)` \| (.*) \| [^|]+ \|$", text, flags=re.M)
    assert len(rows) > 20
    for code, numbers in rows:
        found = [None if word == "-" else float(word) for word in numbers.split(" | ")]
        right = space["row"](eval(code, space))
        assert found == [None if number is None else float(f"{number:.3g}") for number in right], code


def test_every_compressor_is_on_the_page() -> None:
    parts = [part for part in vars(qsim.compressors).values() if isinstance(part, type)]
    compressors = [part for part in parts if issubclass(part, qsim.compressors.Compressor)]
    missing = {part.__name__ for part in compressors if f"`{part.__name__}" not in PAGE.read_text(encoding="utf-8")}
    assert missing == {"Compressor", "Identity", "Philox", "ErrorFeedback"} & missing, missing
