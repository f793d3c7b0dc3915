"""HTML of objects for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any


def html_table(title: str, rows: Mapping[str, Any]) -> str:
    """Return a caption and a table of names and values as HTML; what they hold is escaped."""
    cell = "<{0} style='text-align:left'>{1}</{0}>"
    lines = [f"<tr>{cell.format('th', escape(name))}{cell.format('td', escape(str(rows[name])))}</tr>" for name in rows]
    return f"<table><caption style='text-align:left'>{escape(title)}</caption><tbody>{''.join(lines)}</tbody></table>"
