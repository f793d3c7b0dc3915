"""The findings of a conformance check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qsim.notebooks import html_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Finding:
    """The finding about one promise.

    Parameters
    ----------
    kept : bool or None
        Whether it was kept; None if it is not made, so that there was nothing to check.
    seen : str, default ""
        What was claimed and what was measured, in words.
    claimed : float, optional
        What was claimed, if it is a number.
    measured : float, optional
        What was measured, if it is a number.

    Examples
    --------
    >>> import qsim
    >>> qsim.testing.Finding(True, "omega = 3 is claimed, 2.98 was measured", 3.0, 2.98).kept
    True
    """

    kept: bool | None
    seen: str = ""
    claimed: float | None = None
    measured: float | None = None


def not_made(why: str) -> Finding:
    """Return that a promise is not made."""
    return Finding(None, why)


class BrokenError(Exception):
    """A promise was broken; the text says how."""


def refuse_unless(good: bool | np.bool_, text: str) -> None:
    """Raise BrokenError with a text unless something holds."""
    if not good:
        raise BrokenError(text)


@dataclass(frozen=True)
class Report:
    """The promises that a subject makes, and what was found about each.

    `str(report)` is a text, `report.frame` a table; `report.good` is for tests.

    Parameters
    ----------
    subject : str
        What was checked.
    findings : dict of Finding
        What was found, by promise.

    Examples
    --------
    >>> import qsim
    >>> report = qsim.testing.check_engine(qsim.engines.Serial(block=2))
    >>> report.good, report.broken
    (True, [])
    """

    subject: str
    findings: dict[str, Finding]

    @property
    def good(self) -> bool:
        """Whether no promise was broken."""
        return not self.broken

    @property
    def broken(self) -> list[str]:
        """The promises that were broken."""
        return [promise for promise, finding in self.findings.items() if finding.kept is False]

    @property
    def lines(self) -> tuple[tuple[str, bool | None, str], ...]:
        """For every promise: its name, whether it was kept (None: it is not made), and what was seen."""
        return tuple((promise, finding.kept, finding.seen) for promise, finding in self.findings.items())

    @property
    def frame(self) -> pd.DataFrame:
        """A row for every promise: promise, kept (True, False, or None: not made), claimed, measured, seen."""
        import pandas as pd

        rows = [(name, f.kept, f.claimed, f.measured, f.seen) for name, f in self.findings.items()]
        frame = pd.DataFrame(rows, columns=["promise", "kept", "claimed", "measured", "seen"])
        return frame.astype({"kept": object, "claimed": float, "measured": float})

    def _repr_html_(self) -> str:
        """Show the report as a table, in a notebook."""
        words = {True: "kept", False: "BROKEN", None: "not made"}
        rows = {promise: f"{words[kept]} {seen}" for promise, kept, seen in self.lines}
        return html_table(self.subject, rows)

    def __str__(self) -> str:
        """Show the report as text."""
        words = {True: "kept  ", False: "BROKEN", None: "-     "}
        shown = [f"  {words[kept]}  {promise}{seen and f': {seen}'}" for promise, kept, seen in self.lines]
        return "\n".join([self.subject, *shown])
