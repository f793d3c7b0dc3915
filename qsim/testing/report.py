"""What a conformance check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsim.notebooks import html_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Finding:
    """What was found about one promise. kept None: it is not made, so there was nothing to check.

    `seen` says in words what was claimed and what was measured; where these are numbers, they are given too.
    """

    kept: bool | None
    seen: str = ""
    claimed: float | None = None
    measured: float | None = None


@dataclass(frozen=True)
class Report:
    """The promises that a subject makes, and what was found about each.

    As text with `str(report)`, as a table with `report.frame`; `report.good` is for tests.
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
