"""The formulas of docs/theory.md are those of the code: the page's programs run, and its tables leave nothing out."""

from __future__ import annotations

import re

import pytest

import qsim
from helpers.paths import DOCS

PAGE = DOCS / "theory.md"
pytestmark = [pytest.mark.quick, pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")]


def test_programs_run() -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    assert len(programs) == 8
    space: dict[str, object] = {}
    for program in programs:
        exec(compile(program, "theory.md", "exec"), space)


@pytest.mark.parametrize("package", [qsim.compressors, qsim.codecs], ids=lambda package: package.__name__)
def test_every_part_is_on_the_page(package: object) -> None:
    text = PAGE.read_text(encoding="utf-8")
    base = {qsim.compressors: qsim.compressors.Compressor, qsim.codecs: qsim.codecs.Codec}[package]
    parts = [part for part in vars(package).values() if isinstance(part, type) and issubclass(part, base)]
    missing = {part.__name__ for part in parts if part is not base and f"`{part.__name__}" not in text}
    assert missing <= {"Identity", "Philox", "SparseFloats", "Blockwise", "Outliers", "Auto"}, (
        missing
    )  # no constant and no length of their own
