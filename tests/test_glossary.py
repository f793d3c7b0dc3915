"""The names in docs/glossary.md exist, its links lead somewhere, and its terms are in order."""

from __future__ import annotations

import re
from pkgutil import resolve_name

import pytest

from helpers.paths import DOCS

PAGE = DOCS / "glossary.md"
pytestmark = [pytest.mark.quick, pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")]


def test_the_glossary_names_what_there_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    names = re.findall(r"`(qsim[\w.]*)`", text)
    assert len(names) > 60
    for name in names:
        resolve_name(name)
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (PAGE.parent / path).exists(), path


def test_terms_are_in_order() -> None:
    terms = re.findall(r"^\| ([^|]+?) \|", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]
    assert terms == sorted(terms, key=str.lower)
