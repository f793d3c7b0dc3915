"""The command `qsim`: its commands, exit codes, JSON, completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

import qsim
from qsim.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for name in ("study", "verify", "data", "calibrate", "warm", "mark", "bench", "completion"):
        assert f"\n  {name} " in out
    assert run(capsys)[0] == 2
    assert run(capsys, "--version")[:2] == (0, f"qsim {qsim.__version__}\n")
    for name in ("study", "verify", "data", "calibrate", "warm", "mark", "completion"):
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert "usage: " in capsys.readouterr().out


def test_a_wrong_command_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "stduy")[::2] == (2, "error: there is no command 'stduy'; did you mean 'study'? (qsim --help)\n")


def test_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "data", "list", "--json")
    assert code == 0
    assert json.loads(out)["built in"] == ["adult", "spark_sample"]
    code, out, _ = run(capsys, "data", "show", "adult", "--split", "test", "--json")
    about = json.loads(out)
    assert (about["rows"], about["features"]) == (16_281, 121)
    assert about["digest"] == qsim.datasets.load("adult", "test").digest
    path = tmp_path / "tiny.csv"
    path.write_text("a,b,label\n1,x,0\n2,y,1\n")
    code, out, _ = run(capsys, "data", "show", str(path))
    assert code == 0
    assert "2" in out
    code, _, err = run(capsys, "data", "show", "adlut")
    assert code == 2
    assert "did you mean 'adult'" in err


def test_a_download_without_pooch_is_refused_in_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    code, _, err = run(capsys, "data", "fetch", "real-sim")
    assert code == 2
    assert err.startswith("error: downloads need pooch")


def test_benchmarks_are_found_from_an_installed_command(tmp_path: Path) -> None:
    """Its `sys.path` has the folder of the command, not the one that it is run in."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "qsim").symlink_to(Path(qsim.__file__).parent)
    code = "import sys; from qsim.cli import main; sys.exit(main(['bench', '--help']))"
    settings = os.environ | {"PYTHONPATH": str(tmp_path / "site")}

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", code]
        return subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)

    assert run().returncode == 0  # its help; nothing else
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "runner.py").touch()
    (package / "__main__.py").write_text("def main(arguments):\n    print('found', *arguments)\n    return 0\n")
    assert run().stdout == "found --help\n"


def test_verify_and_studies_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "verify", "qsim:Identity()", "--json")
    (report,) = json.loads(out)
    assert (code, report["part"], report["good"]) == (0, "qsim.Identity()", True)
    code, out, _ = run(capsys, "study", "list", "--json")
    assert json.loads(out)["s_sweep"]
    code, out, _ = run(capsys, "study", "status", "s_sweep", "--json")
    assert set(json.loads(out)) == {"studies", "store"}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    code, out, err = run(capsys, "completion", shell)
    if find_spec("shtab") is None:
        assert (code, err) == (2, "error: this needs the package shtab: pip install shtab\n")
        return
    assert code == 0
    for word in ("study", "calibrate", "--no-cache", "--effort", "--split", "mark", "--timeout"):
        assert word in out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=out, text=True, check=True)


def test_completion_of_fish(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "completion", "fish")
    assert code == 0
    assert "complete -c qsim -n 'not __fish_seen_subcommand_from study verify" in out
    for line in ("-l no-cache -d", "-l effort -r", "-l split -x -a 'train test'", "-f -a 'bash zsh fish tcsh'"):
        assert line in out
    if which("fish") is None:
        return
    (tmp_path / "qsim.fish").write_text(out)
    for typed, offered in {
        "qsim st": {"study"},
        "qsim data ": {"list", "show", "fetch"},
        "qsim study export --f": {"--format"},
        "qsim data show --split ": {"train", "test"},
    }.items():
        asked = ["fish", "--no-config", "-c", f"source {tmp_path}/qsim.fish; complete -C '{typed}'"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert {line.split("\t")[0] for line in done.stdout.splitlines()} == offered


def test_bench_has_help_without_a_checkout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qsim.cli.find_spec", lambda name: None)
    assert run(capsys, "bench")[0] == 2
    code, out, _ = run(capsys, "bench", "--help")
    assert code == 0
    assert "checkout" in out


def test_it_is_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "qsim", "data", "list"], capture_output=True, text=True, check=True)
    assert "adult" in done.stdout
