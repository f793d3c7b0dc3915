"""The benchmarks run, their contestants agree, and the table says what was measured. No time is judged."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT

if not (ROOT / "benchmarks").exists():
    pytest.skip("needs the checkout's benchmarks", allow_module_level=True)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_quick_run_of_all(tmp_path: Path) -> None:
    done = command("--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert table in done.stdout
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    without = {path.stem for path in (ROOT / "benchmarks/suite").glob("[!_]*.py")} - {row["benchmark"] for row in rows}
    assert without <= {"seminar"}  # it has one peer, which may not be there
    assert not without or "PySpark" in table
    for row in rows:
        assert float(row["slower ms"]) / float(row["ms"]) == pytest.approx(float(row["ratio"]), rel=0.01)
        assert row["verdict"] == ("" if not row["target"] else "met" if is_met(row) else "missed")
        assert row["cpu"]
        assert row["numba"]


def is_met(row: dict[str, str]) -> bool:
    return float(row["slower ms"]) / float(row["ms"]) >= float(row["target"])


def test_unknown_name_is_refused() -> None:
    done = command("quantiser")
    assert done.returncode == 2
    names = sorted(path.stem for path in (ROOT / "benchmarks/suite").glob("[!_]*.py"))
    assert f"choose from {', '.join(names)}" in done.stderr


def test_the_table_says_which_clock_was_read() -> None:
    done = command("quantizer", "--quick", "--cpu-time")
    assert done.returncode == 0, done.stderr
    assert "clock: CPU time." in done.stdout


def test_disagreement_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.case import Case, Timed
    from benchmarks.runner import measure

    def check(results: dict[str, int]) -> None:
        assert results["one"] == results["other"], "they disagree"

    case = Case("a case", "call", [Timed("one", lambda: 1), Timed("other", lambda: 2)], [], check)
    with pytest.raises(AssertionError, match="they disagree"):
        measure(case, 1, "test")


def test_the_page_of_performance_quotes_the_everyday_round() -> None:
    with (ROOT / "benchmarks/everyday/results.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["slower"] in ("NumPy loop", "NumPy step")]
    measured = {
        (f"{1e3 * float(row['ms']):.4g}", f"{1e3 * float(row['slower ms']):.4g}", row["ratio"], row["target"])
        for row in rows
        if "(per run)" not in row["case"]
    }
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| [^|]+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$", page, flags=re.M)
    assert len(measured) == len(quoted) == 30
    assert set(quoted) == measured


def test_the_page_of_performance_quotes_what_was_measured() -> None:
    with (ROOT / "benchmarks/results.csv").open(encoding="utf-8") as file:
        measured = list(csv.DictReader(file))
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| (\w+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([\d.]+) \| ([\d.]+) \|$", page, flags=re.M)
    assert len(quoted) > 20
    for benchmark, case, faster, slower, ratio, target in quoted:
        names = (benchmark, faster, slower)
        (row,) = (
            row
            for row in measured
            if (row["benchmark"], row["faster"], row["slower"]) == names
            and re.split(r"; bits| \(per", row["case"])[0] == case
        )
        assert (row["ratio"], row["target"]) == (ratio, target), case
