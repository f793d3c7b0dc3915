"""The check of formulas in docstrings finds what it is for; that docstrings pass it is checked with style and types."""

from __future__ import annotations

import sys

import pytest

from helpers.paths import ROOT

pytest.importorskip("numpydoc", reason="needs the extra dev, with which docstrings are checked")
sys.path.insert(0, str(ROOT / "tools"))

from docstrings import wrong_maths

HEAD = "Summary of v <- v^2.\n\n"


@pytest.mark.parametrize(
    "text",
    [
        r"With :math:`\omega = n/k - 1` and `v <- v^2` it is unbiased.",
        ".. math::\n\n    w &\\leftarrow w - a g, \\\\\n    g &= \\sqrt{n}\n\nwith the step.",
        "Parameters\n----------\nmu : float\n    The constant.\n\nExamples\n--------\n>>> 2 <= 3\nTrue",
    ],
)
def test_good_formulas_pass(text: str) -> None:
    assert not list(wrong_maths(HEAD + text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The variance is omega.", "plain text: omega."),
        ("Unbiased, with variance n^2.", "plain text: n^2."),
        ("It sends x_i.", "plain text: x_i."),
        (r"With :math:`\sqrt{n`.", r"cannot be read: \sqrt{n"),
        (".. math::\n\n    a = b, \\\\\n    c = \\nosuch\n\nfor all.", r"cannot be read: c = \nosuch"),
    ],
)
def test_bad_formulas_are_told(text: str, said: str) -> None:
    (wrong,) = wrong_maths(HEAD + text)
    assert said in wrong
