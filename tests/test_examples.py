"""Scripts in examples/ that need no cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT, process_environment

GALLERY = ROOT / "examples" / "gallery"


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


@pytest.mark.skipif(not GALLERY.exists(), reason="needs the checkout's examples")
def test_the_gallery_has_questions_and_answers() -> None:
    """Each example is short, asks a question, answers it, draws one figure and is in the list; the site runs them."""
    listed = re.findall(r"`(plot_\w+\.py)`", (GALLERY / "GALLERY_HEADER.rst").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in GALLERY.glob("*.py"))
    assert len(listed) > 15
    for name in listed:
        text = (GALLERY / name).read_text(encoding="utf-8")
        _, title, line, blank, answer, *_ = text.splitlines()
        assert len(line) == len(title)
        assert set(line) == {"="}
        assert not blank
        assert text.count("plt.show()") == 1, name
        assert "assert " in text, name
        if name != "plot_tour.py":
            assert title.endswith("?")
            assert len(answer) > 60
            assert 20 <= text.count("\n") <= 60, name
