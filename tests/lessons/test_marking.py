"""`qsim mark`: hostile files lose their points and nothing else; CSV, JSON, exit codes."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import pytest

from helpers.paths import ROOT
from qsim.cli import main
from qsim.lessons import TASKS, marking
from qsim.lessons.answers import Answers, Failure, UnreadableError, decode, encode, plain
from qsim.lessons.marking import Limits, mark, points, reasons

pytestmark = pytest.mark.skipif(not (ROOT / "lessons").exists(), reason="needs the checkout's lessons")
SOLUTION = ROOT / "lessons" / "exercise.py"
LIMITS = Limits(timeout=30.0, memory=2**30)
RIGHT = "def average(norms, levels, s): return (norms[:, None] * levels / s).mean(axis=0)\n"


def marked(path: Path, code: str, limits: Limits = LIMITS) -> dict[str, tuple[int, str]]:
    """Mark a file with a bad `simple_variance` and a good `average`, which comes behind it."""
    path.write_text(code + "\n" + RIGHT)
    found = mark(path, limits, 1, ("simple_variance", "average"))
    return {name: (points(verdicts), reasons(verdicts)) for name, verdicts in found.items()}


HOSTILE = {
    "a loop without end": ("while True: pass", "takes more than 2 s: is there a loop that does not end?"),
    "sleep": ("import time; time.sleep(100)", "takes more than 2 s"),
    "much memory": ("import numpy; return numpy.ones(10**9)", "needs more memory than it may have"),
    "much memory, bit by bit": ("a = [bytes(10**8)]\n while True: a.append(bytes(10**8))", "needs more memory"),
    "an exit": ("import os; os._exit(0)", "ends its process, with exit code 0, instead of returning"),
    "another exit": ("import sys; sys.exit(0)", "ends the program (exit) instead of returning"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "by the signal SIGSEGV: a crash"),
    "a closed pipe": ("import os; os.closerange(3, 256)\n while True: pass", "closes the pipe that answers go by"),
    "an error": ("raise ValueError('no\\nidea')", "raises ValueError: no idea (line 2 of simple_variance)"),
    "an error without a text": (
        "class Mute(Exception):\n  def __str__(self): return 1 / 0\n raise Mute",
        "raises Mute (line",
    ),
    "a forged result": (
        "import os\n print('20 of 20 points')\n for f in range(3, 64):\n"
        '  try: os.write(f, b\'{"points": 20, "good": 1}\\n\')\n'
        "  except OSError: pass\n os._exit(0)",
        "has answers that cannot be read",
    ),
    "forged answers": (
        'import os\n for f in range(3, 64):\n  try: os.write(f, b\'{"answers": [[{"other": "right"}]]}\\n\')\n'
        "  except OSError: pass\n os._exit(0)",
        "has answers that cannot be read",
    ),
    "a pickle": (
        "class Bad:\n  def __reduce__(self): return (print, ('run by the marker',))\n return Bad()",
        "must be a number, found of the type Bad",
    ),
    "a number that lies": (
        "import numpy as np\n class Equal(float):\n  def __eq__(self, other): return True\n return Equal(1)",
        "it is .*, found 1",
    ),
    "a huge answer": ("import numpy as np; return np.zeros(2 * 10**6)", "an array of 2,000,000 numbers"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_hostile_functions_lose_their_points_alone(fault: str, tmp_path: Path) -> None:
    body, reason = HOSTILE[fault]
    limits = Limits(timeout=2.0, memory=2**30) if "2 s" in reason else LIMITS
    found = marked(tmp_path / "one.py", f"def simple_variance(v):\n {body}", limits)
    assert found["average"] == (2, ""), "the function behind it is marked all the same"
    assert found["simple_variance"][0] == 0
    text = found["simple_variance"][1]
    assert reason.split(".*")[0] in text, text
    assert reason.split(".*")[-1] in text, text


def test_endless_answers_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marking, "LONGEST", 10**5)
    flood = (
        "import os\n while True:\n  for f in range(3, 64):\n   try: os.write(f, b'0' * 4096)\n   except OSError: pass"
    )
    found = marked(tmp_path / "one.py", f"def simple_variance(v):\n {flood}")
    assert found["simple_variance"] == (0, "`simple_variance` answers with more than 100,000 bytes")
    assert found["average"][0] == 2


def test_processes_that_it_starts_are_ended(tmp_path: Path) -> None:
    """As root they can be started; others may start none."""
    pid = tmp_path / "pid"
    fork = (
        "import os, time\n pid = os.fork()\n if pid == 0:\n  time.sleep(600)\n"
        f" open({str(pid)!r}, 'w').write(str(pid))\n return 0.0"
    )
    marked(tmp_path / "one.py", f"def simple_variance(v):\n {fork}")
    if not pid.exists():
        assert os.geteuid() != 0
        return
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid.read_text()}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail("it is still there")


def test_what_a_function_does_not_need_is_not_run(tmp_path: Path) -> None:
    """A loop and an error at the top level; constants, helpers, and tables that are filled later are needed."""
    code = (
        "from __future__ import annotations\nimport numpy as np\nwhile True: pass\nv = 1 / 0\n"
        "TABLE = {}\nTABLE['factor'] = 1.0\nif True:\n    from math import sqrt\n"
        "def norm(v): return TABLE['factor'] * sqrt(v @ v)\nprint(input())\n"
        "simple_variance = lambda v: np.abs(v).sum() * norm(v) - norm(v) ** 2"
    )
    assert marked(tmp_path / "one.py", code)["simple_variance"] == (2, "")


def test_what_it_needs_is(tmp_path: Path) -> None:
    code = "FACTOR = 1 / 0\ndef simple_variance(v): return FACTOR"
    reason = "`simple_variance` cannot be had: the file raises ZeroDivisionError: division by zero (line 1)"
    assert marked(tmp_path / "one.py", code)["simple_variance"] == (0, reason)
    assert marked(tmp_path / "one.py", "simple_variance = 3")["simple_variance"][1].endswith(
        "is no function, found int"
    )
    assert marked(tmp_path / "one.py", "")["simple_variance"] == (0, "`simple_variance` is not defined")
    wrong = marked(tmp_path / "one.py", "def simple_variance(v) return 1")
    reason = "`{}` is not defined; the file cannot be read: expected ':' (line 1)"
    assert wrong == {name: (0, reason.format(name)) for name in ("simple_variance", "average")}
    for refused in ("nonlocal x", "x = " + "-" * 5000 + "1", "x = '\0'"):
        found = marked(tmp_path / "one.py", refused)
        assert found["average"][1].startswith("`average` is not defined; the file cannot be read: "), found
    twice = "def simple_variance(v): return 0.0\nreturn 1\nimport numpy as np\n"
    twice += "def simple_variance(v): return np.abs(v).sum() * np.sqrt(v @ v) - v @ v"
    assert marked(tmp_path / "one.py", twice)["simple_variance"] == (2, "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The solution, a blank, one half, one that a spreadsheet would run; and what is not marked."""
    made = tmp_path / "homework"
    (made / "group 2").mkdir(parents=True)
    (made / ".hidden").mkdir()
    (made / "__pycache__").mkdir()
    (made / "good.py").write_text(SOLUTION.read_text())
    (made / "group 2" / "half.py").write_text(RIGHT + "def simple(v, rng): return v\n")
    (made / "=cmd.py").write_text("def bits(levels, s): raise NotImplementedError\n")
    for name in (".hidden/one.py", "__pycache__/two.py", "notes.txt"):
        (made / name).write_text(RIGHT)
    (made / "link.py").symlink_to(made / "good.py")
    return made


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["mark", str(folder), "--out", str(out), "--jobs", "2"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[-1] for line in said.splitlines()[:5]] == ["total", "20", "0", "20", "2"]
    rows = list(csv.DictReader((out / "marks.csv").read_text().splitlines()))
    assert [(row["file"], row["total"]) for row in rows] == [
        ("./=cmd.py", "0"),
        ("good.py", "20"),
        ("group 2/half.py", "2"),
    ]
    assert rows[0]["bits: why"] == "`bits` is not written yet"
    assert rows[2]["simple: why"].startswith("must return two things, norm and levels, found an array")
    stored = json.loads((out / "marks.json").read_text())
    assert stored["of"] == {name: task.points for name, task in TASKS.items()}
    assert stored["files"]["good.py"]["points"] == 20
    (criterion,) = stored["files"]["group 2/half.py"]["tasks"]["average"]["criteria"]
    assert (criterion["what"], criterion["points"], criterion["good"]) == ("the value", 2, True)
    for row in stored["files"].values():
        assert row["points"] == sum(task["points"] for task in row["tasks"].values())


def test_wrong_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["mark", str(tmp_path / "none")]) == 2
    assert main(["mark", str(tmp_path)]) == 2
    (tmp_path / "one.ipynb").write_text("{}")
    monkeypatch.setitem(sys.modules, "nbformat", None)
    assert main(["mark", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"error: {tmp_path / 'none'} is no folder",
        f"error: there is no .ipynb or .py file in {tmp_path}",
        "error: notebooks are read with nbformat: pip install nbformat",
    ]
    for wrong in (["--timeout", "0"], ["--jobs", "1.5"], ["--memory", "nan"], ["--seed", "-1"]):
        with pytest.raises(SystemExit, match="2"):
            main(["mark", str(tmp_path), *wrong])


def test_ctrl_c_keeps_what_is_done(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = marking.mark

    def interrupted(path: Path, *options: object) -> object:
        if path.name == "half.py":
            raise KeyboardInterrupt
        return real(path, *options)

    monkeypatch.setattr(marking, "mark", interrupted)
    assert main(["mark", str(folder), "--out", str(tmp_path), "--jobs", "1", "--json"]) == 130
    said = capsys.readouterr()
    assert said.err.strip() == "stopped: 2 of 3 files are marked"
    assert set(json.loads(said.out)["files"]) == {"./=cmd.py", "good.py"}


def test_stop_ends_a_running_function(tmp_path: Path) -> None:
    limits = Limits(timeout=600.0, memory=2**30)
    limits.stop.set()
    with pytest.raises(KeyboardInterrupt):
        marked(tmp_path / "one.py", "def simple_variance(v):\n while True: pass", limits)


@pytest.mark.skipif(importlib.util.find_spec("nbformat") is None, reason="needs nbformat: pip install nbformat")
def test_notebooks(tmp_path: Path) -> None:
    """A cell that cannot be read, magics and markdown spoil no other; a broken file is said to be one."""
    import nbformat.v4 as made

    cells = [
        made.new_markdown_cell("def average(*a): return 0"),
        made.new_code_cell("%matplotlib inline\nimport numpy as np\n!ls"),
        made.new_code_cell("def bits(levels, s) return"),
        made.new_code_cell("%%bash\nexit 1"),
        made.new_code_cell("%%time\n" + RIGHT),
        made.new_code_cell("def simple_variance(v):\n    return np.inf / v[0] / 0 * missing"),
    ]
    path = tmp_path / "one.ipynb"
    path.write_text(json.dumps(made.new_notebook(cells=cells)))
    found = mark(path, LIMITS, 1, ("simple_variance", "average", "bits"))
    assert points(found["average"]) == 2
    assert reasons(found["bits"]) == "`bits` is not defined; cell 3 cannot be read: expected ':' (line 1)"
    assert "NameError: name 'missing' is not defined (line 2 of simple_variance in cell 6)" in reasons(
        found["simple_variance"]
    )
    path.write_text("[1, 2")
    assert "cannot be had: the file cannot be read" in reasons(mark(path, LIMITS, 1, ("bits",))["bits"])


def test_answers_come_back_as_they_were() -> None:
    import numpy as np

    given = [
        [1, -(2**63) + 1],
        [0.5, float("nan")],
        [(1.5, np.array([1, -2])), (2.5, np.array([0, 3]))],
        [np.zeros((2, 3))],
        [b"\x00\xff"],
        [(1.0, np.array([1.0])), 3, "text", None],
    ]
    answers = [[plain(value) for value in values] for values in given]
    again = decode(encode(answers))
    assert not isinstance(again, Failure)
    assert repr(again) == repr(answers)
    assert decode(encode(Failure("is lost"))) == Failure("is lost")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"answers": 3}',
        b'{"answers": [{"int": 3}]}',
        b'{"answers": [{"int": {"kind": "O", "shape": [1], "data": "AAAAAAAAAAA="}}]}',
        b'{"answers": [{"array": {"kind": "i", "shape": [2], "data": "AAAAAAAAAAA="}}]}',
        b'{"answers": [{"array": {"kind": "i", "shape": [1000000000, 0], "data": ""}}]}',
        b'{"answers": [{"array": {"kind": "i", "shape": [1e999], "data": "AAAAAAAAAAA="}}]}',
        b'{"answers": [{"bytes": "!"}]}',
        b'{"answers": [{"bytes": "AA==", "more": 1}]}',
        b'{"answers": [' * 100_000,
        b'{"answers": [{"each": ' + b'[{"each": ' * 5000,
        b"9" * 10_000,
        b"\xff\xfe",
    ],
    ids=lambda line: line[:40].decode("latin-1"),
)
def test_what_is_no_answer_is_refused(line: bytes) -> None:
    with pytest.raises(UnreadableError):
        decode(line)


def test_reasons_are_one_line() -> None:
    failure = decode(json.dumps({"failure": "a\nb\x1b[31m" + "c" * 1000}).encode())
    assert isinstance(failure, Failure)
    assert failure.why.startswith("a b [31mc")
    assert len(failure.why) == 300
    answers: Answers = [[1]]
    assert decode(encode(answers)) == answers
