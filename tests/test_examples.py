"""Scripts in examples/ that need no cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT, process_environment


def test_a_model_for_each_segment(tmp_path: Path) -> None:
    """Each is better on new rows of its segment than the common one, which is wrong about one of them."""
    example = ROOT / "examples" / "segments.py"
    if not example.exists():
        pytest.skip("needs the checkout's examples")
    command = [sys.executable, example]
    done = subprocess.run(command, cwd=tmp_path, env=process_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"(..): (\d+) rows, loss (.*) by the common model, (.*) by its own", done.stdout)
    assert [name for name, *_ in found] == ["fr", "it", "pl"]
    assert 1600 < sum(int(rows) for _, rows, *_ in found) < 2000
    assert all(float(own) < float(common) - 0.02 for *_, common, own in found)
