"""The tables of docs/methods-by-family.md hold what its program computes."""

from __future__ import annotations

import re

import pytest

import qsim
from helpers.paths import DOCS

PAGE = DOCS / "methods-by-family.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")


def test_the_tables_are_what_the_program_computes() -> None:
    """Bits and passes to 2%, as local steps have libm's last digits; of what is left one digit is shown."""
    text = PAGE.read_text(encoding="utf-8")
    space = {name: getattr(qsim, name) for name in dir(qsim)}
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    exec(compile(program, "methods-by-family.md", "exec"), space)
    rows = re.findall(r"^\| `([^`]*)` \| (.*) \| [^|]+ \|$", text, flags=re.M)
    assert len(rows) > 25
    for code, numbers in rows:
        found = space["row"](*eval(f"({code},)", space))
        (left, *shown), (behind, *right) = (
            [float(word.replace(",", "")) for word in of] for of in (numbers.split(" | "), found)
        )
        assert shown == pytest.approx(right, rel=0.02), code
        assert left == pytest.approx(behind, rel=0.5) or max(left, behind) < 1e-7, code
