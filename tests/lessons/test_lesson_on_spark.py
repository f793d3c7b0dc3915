"""The exercise on Spark: one line of the notebook is changed, and the numbers are the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from helpers.paths import ROOT, process_environment

pytest.importorskip("pyspark", reason="needs Spark: pip install 'pyspark>=4'")
if which("java") is None:
    pytest.skip("needs Java, for Spark", allow_module_level=True)
SOURCE = ROOT / "lessons" / "exercise.py"
COMPARE = """
for setting, curves in traces.items():
    for name, found in curves.items():
        serial = qsim.simulate(run(ways[name], setting, 0))
        assert serial.weights.tobytes() == found[0].weights.tobytes(), name
        assert serial.frame.equals(found[0].frame), name
print("the same in", sum(len(curves) for curves in traces.values()), "runs")
"""


def test_a_changed_line_takes_part_two_to_spark(tmp_path: Path) -> None:
    if not SOURCE.exists():
        pytest.skip("needs the checkout's lessons")
    text = SOURCE.read_text(encoding="utf-8").partition("# ## Part 3")[0]
    for old, new in (
        ("ENGINE = qsim.engines.Serial()", "ENGINE = qsim.engines.Spark()"),
        ("ROUNDS, SEEDS = 60, 8", "ROUNDS, SEEDS = 3, 1"),
        (
            "runs = {name: [train(quantized, seed) for seed in range(10)]",
            "runs = {name: [train(quantized, seed, 3) for seed in (0, 1)]",
        ),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    lines = [line for line in text.splitlines() if not line.startswith("lessons.")]  # checks and figures
    script = tmp_path / "exercise.py"
    script.write_text("\n".join(["display = id", *lines, COMPARE]))
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=process_environment(SPARK_LOCAL_IP="127.0.0.1"),
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "the same in 10 runs" in done.stdout
