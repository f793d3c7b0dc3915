"""The command line `python -m qsim.verify`, objects named on a command line, and the documented example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import qsim
from helpers.paths import DOCS, process_environment
from qsim import verify
from qsim.compressors import Compressor
from qsim.object_loader import NotFoundError, evaluate, load_file
from qsim.testing import Finding, Report

PAGE = DOCS / "your-own-compressor.md"
needs_page = pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")

MINE = """
import numpy as np
import qsim


@qsim.option
class Largest(qsim.compressors.Compressor):
    claim: float = 1.0

    emits = qsim.batch.Floats

    def quantize(self, v, key):
        return qsim.batch.Floats.single(v * (np.arange(v.size) == np.abs(v).argmax()))

    def contraction(self, n):
        return min(1.0, self.claim / n)


ready = Largest()
number = 7
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_a_users_compressor_by_path(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([f"{mine}:Largest()", f"{mine}:ready"]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 compressors keep every promise" in out
    assert out.count("good") == 2
    assert "BROKEN" not in out
    assert "pickling" not in out


def test_a_broken_promise_ends_with_1_and_is_shown(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([f"{mine}:Largest(1.5)", "qsim:Identity()"]) == 1
    out = capsys.readouterr().out
    assert "BROKEN: contraction" in out
    assert "BROKEN  contraction: claimed" in out
    assert "1 of 2 compressors keep every promise" in out
    assert out.count("pickling") == 1  # only the broken one is shown in full


OBJECTIVES = """
import numpy as np
import qsim


@qsim.option
class Mine(qsim.objectives.LinearModel):
    l2: float
    sign: int = -1

    def loss(self, margins, labels):
        return np.logaddexp(0, -labels * margins)

    def slope(self, margins, labels):
        return self.sign * labels * 0.5 * (1 - np.tanh(labels * margins / 2))

    def curvature(self, margins, labels):
        return 0.25 / np.cosh(np.clip(margins / 2, -40, 40)) ** 2

    def curvature_bound(self):
        return 0.25
"""


def test_a_users_objective_by_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "losses.py"
    path.write_text(OBJECTIVES)
    assert verify.main([f"{path}:Mine(1e-3)", "qsim:Identity()"]) == 0
    assert "2 of 2 parts keep every promise" in capsys.readouterr().out
    assert verify.main([f"{path}:Mine(1e-3, sign=1)"]) == 1
    out = capsys.readouterr().out
    assert "BROKEN  the gradient is that of the value" in out
    assert "-1 times as much" in out
    assert verify.main([f"{path}:Mine"]) == 2


def test_a_method(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("the loss falls", "the regulariser counts")
    monkeypatch.setattr(verify.method, "CHECKS", {name: verify.method.CHECKS[name] for name in names})
    assert verify.main(["--full", "qsim:SGD(step=qsim.steps.Constant(0.5))"]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 parts keep every promise" in out
    assert "kept    the regulariser counts" in out


def test_full_shows_all(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([f"{mine}:ready", "--full"]) == 0
    assert "  kept    pickling" in capsys.readouterr().out


def test_as_a_program(mine: Path) -> None:
    """From another folder, by the name of a module there."""
    command = [sys.executable, "-m", "qsim.verify", "mine:Largest(2.0)"]
    settings = process_environment()
    done = subprocess.run(command, capture_output=True, text=True, cwd=mine.parent, env=settings, check=False)
    assert done.returncode == 1, done.stderr
    assert "mine.Largest(claim=2.0)" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere.py:X()", "there is no file 'nowhere.py'"),
        ("no_such_module:X()", "there is no module 'no_such_module'"),
        ("qsim.no_such:X()", "there is no module 'qsim.no_such'"),
        ("qsim.compressors:QSDG(4)", "did you mean 'QSGD'"),
        ("qsim:QSGD", "is a class: make one of it, such as qsim:QSGD"),
        ("qsim:QSGD(levels=0)", "levels must be a whole number"),
        ("qsim:QSGD(", "SyntaxError"),
        ("qsim:Key(1)", "is not a compressor, an objective or a method, found"),
        ("QSGD(4)", "write module:expression"),
        (":QSGD(4)", "write module:expression"),
        ("qsim:", "write module:expression"),
    ],
)
def test_wrong_requests_end_with_2_and_say_why(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main(["qsim:Identity()", text]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.out == ""


def test_an_error_inside_a_users_module_is_not_hidden(tmp_path: Path) -> None:
    path = tmp_path / "wants.py"
    path.write_text("import a_module_that_is_not_there")
    with pytest.raises(
        NotFoundError, match=r"wants.py can't be run: ModuleNotFoundError: .*a_module_that_is_not_there"
    ):
        evaluate(f"{path}:x")


def test_expressions_see_their_module_and_qsim(mine: Path) -> None:
    assert evaluate(f"{mine}:number") == 7
    found = evaluate(f"{mine}:qsim.ErrorFeedback(Largest(claim=0.5))")
    assert found.contraction(10) == 0.05
    with pytest.raises(NotFoundError, match="did you mean 'Largest'"):
        evaluate(f"{mine}:Larget()")


def test_files_of_one_name_are_two_modules(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "mine.py"
    other.parent.mkdir()
    other.write_text(MINE.replace("number = 7", "number = 8"))
    first = evaluate(f"{mine}:Largest()")
    assert evaluate(f"{other}:number") == 8
    assert evaluate(f"{mine}:number") == 7
    assert evaluate(f"{mine}:Largest()") == first


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        verify.main(["--help"])
    assert end.value.code == 0
    assert "exit code is 0 if every promise is kept" in capsys.readouterr().out


def test_ctrl_c_shows_what_was_done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = verify.findings

    def interrupted(compressor: Compressor, seed: int, effort: int):
        if compressor != qsim.Identity():
            raise KeyboardInterrupt
        return real(compressor, seed, effort)

    monkeypatch.setattr(verify, "findings", interrupted)
    assert verify.main(["qsim:Identity()", "qsim:QSGD(1)"]) == 130
    assert "Identity()" in capsys.readouterr().out


def test_every_shipped_compressor_is_an_example() -> None:
    exported = [getattr(qsim.compressors, name) for name in qsim.compressors.__all__]
    classes = {cls for cls in exported if issubclass(cls, Compressor) and cls is not Compressor}
    assert classes == {type(example) for example in verify.EXAMPLES}


def test_the_table() -> None:
    reports = [
        Report("qsim.compressors.A()", {"variance": Finding(True, "", 2.0, 1.23456), "x": Finding(None)}),
        Report("B()", {"contraction": Finding(False, "", 0.5, 0.75)}),
    ]
    frame = verify.table(reports)
    assert frame["part"].tolist() == ["A()", "B()"]
    assert frame["kept"].tolist() == ["1 of 1", "0 of 1"]
    lines = verify.as_text(frame).splitlines()
    assert re.split(r"  +", lines[1]) == ["A()", "2", "1.235", "-", "-", "1 of 1", "good"]
    assert re.split(r"  +", lines[2]) == ["B()", "-", "-", "0.5", "0.75", "0 of 1", "BROKEN: contraction"]


@needs_page
def test_the_documented_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's program as one module, and the command that it shows on the class of its first block."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len(blocks) == 5
    assert len(blocks[0].splitlines()) <= 25
    monkeypatch.chdir(tmp_path)
    Path("page.py").write_text("\n".join(blocks))
    load_file(Path("page.py"), "page")
    Path("mine.py").write_text(blocks[0])
    (argument,) = re.findall(r'qsim verify "(.*)"', text)
    assert verify.main([argument]) == 0
