"""`check_method`: shipped methods and honest ones of a user's pass; every planted mistake is caught."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import qsim
from helpers.paths import DOCS
from helpers.planted_methods import PLANTED, Plain, Shifted
from qsim.methods import (
    GradientDescent,
    Method,
)
from qsim.steps import Constant
from qsim.testing import check_method
from qsim.testing import method as checks
from qsim.testing.shipped import shipped

PAGE = DOCS / "your-own-method.md"
HALF = Constant(0.5)
SHIPPED = list(shipped(qsim.methods, Method))


@pytest.mark.parametrize("method", [*SHIPPED, Plain(), Shifted()], ids=lambda method: repr(method)[:60])
def test_what_is_right_passes(method: Method, monkeypatch) -> None:
    """Bounds of shipped methods are held to in `test_promises`; processes are started for few."""
    if method not in (GradientDescent(), Shifted()):
        monkeypatch.setattr(checks, "Processes", lambda count: qsim.engines.Serial(block=count))
    monkeypatch.setattr(checks, "_SEEDS", 3)
    report = check_method(method)
    assert report.good, str(report)


@pytest.mark.quick
@pytest.mark.parametrize(("method", "promise"), PLANTED, ids=lambda value: type(value).__name__)
def test_planted_mistakes_are_caught(method: Method, promise: str, monkeypatch) -> None:
    """Only the check that must find it is run, to save time."""
    monkeypatch.setattr(checks, "CHECKS", {promise: checks.CHECKS[promise]})
    monkeypatch.setattr(checks, "Processes", lambda count: qsim.engines.Serial(block=count))
    report = check_method(method, reference=GradientDescent(HALF))
    assert report.broken == [promise], str(report)


def test_a_reference() -> None:
    found = check_method(Plain(), reference=GradientDescent(HALF)).findings["its reference"]
    assert found.kept
    assert found.measured < 1e-6


@pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")
def test_the_page_runs(tmp_path: Path) -> None:
    """As a script: classes of `__main__` travel to the processes."""
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    assert len(programs) == 3
    script = tmp_path / "mine.py"
    script.write_text("\n".join(programs))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kept    its reference" in done.stdout


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(TypeError, match=r"only a Method can be checked, .* found 3"):
        check_method(3)  # type: ignore[arg-type]
