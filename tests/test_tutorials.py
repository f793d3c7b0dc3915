"""The tutorials, from beginning to end: their programs, studies and commands, at small sizes."""

from __future__ import annotations

import re
import shlex
import shutil
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import DOCS

TUTORIALS = DOCS / "tutorials"
pytestmark = pytest.mark.skipif(not TUTORIALS.exists(), reason="needs the checkout's documents")


def blocks(name: str, kind: str) -> list[str]:
    text = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, flags=re.S | re.M)


def commands(name: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for text in blocks(name, "sh") for line in text.splitlines()]


def execute(program: str, space: dict[str, Any] | None = None) -> dict[str, Any]:
    space = {"__name__": "tutorial"} if space is None else space
    exec(compile(program, "tutorial", "exec"), space)
    return space


def run_study(words: list[str], *small: str) -> None:
    from qsim import cli

    assert words[:2] == ["qsim", "study"]
    assert cli.main([*words[1:], *small]) == 0


@pytest.fixture(autouse=True)
def folder(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_reproduce_a_figure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first,) = blocks("reproduce-a-figure", "python")
    trace = execute(first)["trace"]
    norm = trace.axis("gradient_norm")
    assert norm[-1] < norm[0]
    (study,) = blocks("reproduce-a-figure", "python study")
    (folder / "ef21_again.py").write_text(study)
    (command,) = commands("reproduce-a-figure")
    run_study(command, "--rounds", "20", "--seeds", "2", "--jobs", "1")
    assert "| EF21 outperforms EF, both with tuned steps | abstract, read |" in capsys.readouterr().out
    wrote = {path.suffix for path in (folder / "paper_figures").glob("ef21_again.*")}
    assert wrote == {".pdf", ".png", ".csv", ".json", ".md"}


def test_is_my_compressor_any_good(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checks that are quick; all of them take a minute, and were run when the page was written."""
    from qsim.object_loader import evaluate
    from qsim.testing.compressor import findings

    name = "is-my-compressor-any-good"
    (compressor,) = blocks(name, "python compressor")
    (folder / "rms_grid.py").write_text(compressor)
    verify, compare = commands(name)
    assert verify[:3] == ["qsim", "verify", "--full"]
    checked = dict(islice(findings(evaluate(verify[3])), 8))
    assert "it compresses" in checked
    assert all(finding.kept for finding in checked.values()), checked
    (program,) = blocks(name, "python")
    execute(program)
    assert capsys.readouterr().out == blocks(name, "text")[-1]
    (study,) = blocks(name, "python study")
    (folder / "comparison.py").write_text(study)
    run_study(compare, "--rounds", "20", "--seeds", "2", "--jobs", "1")
    assert "over QSGD: " in capsys.readouterr().out


def test_laptop_to_cluster(folder: Path) -> None:
    space: dict[str, Any] = {"__name__": "tutorial"}
    for program in blocks("laptop-to-cluster", "python"):
        execute(program, space)
    (study,) = blocks("laptop-to-cluster", "python study")
    (folder / "levels.py").write_text(study)
    figure = folder / "paper_figures" / "levels.pdf"
    for words in commands("laptop-to-cluster"):
        figure.unlink(missing_ok=True)
        run_study(words, "--rounds", "20")
        assert figure.exists() == ("--part" not in words), "shares draw nothing"
    assert (folder / "paper_figures" / "levels.md").read_text().startswith("# Levels")


@pytest.mark.parametrize("engine", ["spark", "ray"])
def test_laptop_to_cluster_on(engine: str) -> None:
    package = {"spark": "pyspark", "ray": "ray"}[engine]
    if find_spec(package) is None or (engine == "spark" and shutil.which("java") is None):
        pytest.skip(f"needs {package}" + (" and Java" if engine == "spark" else ""))
    first, *_ = blocks("laptop-to-cluster", "python")
    (program,) = blocks("laptop-to-cluster", f"python {engine}")
    execute(program, execute(first))


def test_every_command_in_a_block_of_its_own_kind_is_one() -> None:
    """What cannot be run here, a queue and a cluster, at least names files that exist."""
    for text in blocks("laptop-to-cluster", "sh batch"):
        for path in re.findall(r"examples/\w+\.\w+", text):
            assert (DOCS.parent / path).exists()


def test_links_lead_somewhere() -> None:
    for page in TUTORIALS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
