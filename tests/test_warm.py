"""The command `qsim warm`: what it compiles, how often, and that it is what a script needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT, process_environment
from qsim import warm
from qsim.kernels._jit import cache_folder


def test_it_compiles_once_and_says_where(tmp_path: Path) -> None:
    """In an empty folder, with a kind of one small kernel; what comes after it compiles nothing and says nothing."""
    settings = process_environment(QSIM_CACHE_DIR=str(tmp_path))
    draw = "from numpy import uint64; from qsim.kernels.hashing import below; below(uint64(1), 3)"
    code = f"from qsim import warm; warm.KINDS['files'] = lambda: [('a draw', lambda: exec({draw!r}))]; warm.main({{}})"

    def python(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings, check=True)

    found = [python(code.format(["files", "--json"])) for _ in range(2)]
    first, second = (json.loads(done.stdout) for done in found)
    assert [done.stderr for done in found] == ["", ""]
    kernels = len(list(Path(first["folder"]).glob("*.kernel")))
    assert first["compiled"] == kernels > 0
    assert first["there before"] == 0
    assert (second["compiled"], second["there before"]) == (0, kernels)
    assert Path(first["folder"]).is_relative_to(tmp_path)
    assert python(draw).stderr == ""


def test_every_kind_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert warm.main([]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+ kernels compiled in \d+ s, \d+ were there before, in .*", line)
    assert line.endswith(str(cache_folder()))


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs the checkout's README")
def test_the_everyday_kernels_are_those_of_the_readme(tmp_path: Path) -> None:
    """What the first program of the README calls, for every type of arguments, `qsim warm everyday` has made."""
    code = """
import contextlib, io, os, pathlib, re, sys
from qsim import warm
from qsim.kernels import _jit

def made():
    return {(d.py_func.__qualname__, str(types)) for d in _jit._DISPATCHERS for types in d.overloads}

with contextlib.redirect_stdout(io.StringIO()):
    warm.main(["everyday"])
    before = made()
    exec(re.search(r"```python\\n(.*?)```", pathlib.Path(sys.argv[1]).read_text(), flags=re.S)[1])
print(sorted(made() - before))
"""
    settings = os.environ | {"MPLBACKEND": "Agg"}
    command = [sys.executable, "-c", code, str(ROOT / "README.md")]
    done = subprocess.run(command, capture_output=True, text=True, env=settings, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_what_is_no_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        warm.main(["compressor"])
    assert "there is no kind 'compressor'; there are everyday, compressors, " in capsys.readouterr().err
