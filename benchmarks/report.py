"""Findings as a table: on the terminal and as Markdown, and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.runner import Finding

_HEAD = ("benchmark", "case", "faster", "slower", "ms", "slower ms", "ratio", "target", "verdict")


def markdown(findings: Sequence[Finding], machine: Mapping[str, str], absent: Sequence[str]) -> str:
    """Return the table, with the machine above and who was absent below."""
    rows = [_HEAD, *map(_cells, findings)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return (
        "\n".join(
            [
                "# Benchmarks",
                "",
                "Written by `python -m benchmarks`: ratios of medians, of contestants that took turns in one run.",
                "Times are milliseconds. " + ", ".join(f"{name}: {value}" for name, value in machine.items()) + ".",
                "",
                *lines,
                "",
                *(f"- Not measured: {note}" for note in absent),
            ]
        ).rstrip()
        + "\n"
    )


def write(folder: Path, findings: Sequence[Finding], machine: Mapping[str, str], absent: Sequence[str]) -> None:
    """Write results.md and results.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(markdown(findings, machine, absent), encoding="utf-8", newline="\n")
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*_HEAD, *machine])
        table.writerows([*_cells(finding), *machine.values()] for finding in findings)


def _cells(finding: Finding) -> tuple[str, ...]:
    target = finding.claim.target
    return (
        finding.benchmark,
        f"{finding.case} (per {finding.unit})",
        finding.claim.fast,
        finding.claim.slow,
        f"{1e3 * finding.fast:.4g}",
        f"{1e3 * finding.slow:.4g}",
        f"{finding.ratio:.3g}",
        "" if target is None else f"{target:g}",
        finding.verdict,
    )
