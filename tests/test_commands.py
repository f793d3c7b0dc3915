"""Commands end in words: what is wrong with a request, and what the world around them did."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import PACKAGE, process_environment
from qsim import calibrate, verify
from qsim.commands import command
from qsim.study import cli


@pytest.mark.parametrize("arguments", [["list"], ["show", "s_sweep"]], ids=str)
def test_a_reader_that_has_seen_enough_ends_a_command(arguments: list[str]) -> None:
    """As in `... | head -1`: without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    command_line = [sys.executable, "-m", "qsim.study", *arguments]
    done = subprocess.run(
        command_line, stdout=writer, stderr=subprocess.PIPE, text=True, env=process_environment(), check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_file_too_large_is_said_when_figures_are_written(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command_line = [sys.executable, "-m", "qsim.study", "compare", "paper_figures", "paper_figures", "s_sweep"]
    done = subprocess.run(
        [*command_line, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        env=process_environment(PYTHONDONTWRITEBYTECODE="1"),
        cwd=PACKAGE.parent,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: File too large: results can't be written to")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "s_swep",
        "nothing.py",
        "s_sweep --workers 0",
        "s_sweep --rounds -3",
        "s_sweep --seeds 0",
        "s_sweep --jobs 0",
        "s_sweep --out /dev/null/x",
        "s_sweep --out /proc/x",
        "s_sweep --data nowhere.svm",
        "s_sweep --compressor mine",
        "s_sweep --compressor .:x",
        "s_sweep --network os:sep",
        "s_sweep --wrong 3",
        "s_sweep list",
        "mean_estimation --vectors nowhere.npy",
        "show",
        "list all",
        "compare /dev/null /dev/null",
        "compare nowhere nowhere s_sweep",
        "export s_sweep --out /dev/null/x",
    ],
)
def test_a_wrong_request_is_said(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("line", ["s_sweep --workers x", "compare", "clean now", "export s_sweep --format xls"])
def test_what_is_no_number_or_choice_is_said(line: str) -> None:
    with pytest.raises(SystemExit) as end:  # argparse's own
        sys.exit(cli.main(line.split()))
    assert end.value.code == 2


@pytest.mark.parametrize("text", ["mine", "nowhere.py:Own()", "os:sep", "qsim:QSGD", "qsim:QSGD(0)", ".:x"])
def test_the_other_commands_say_it_too(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([text]) == 2
    with pytest.raises(SystemExit) as end:
        calibrate.main([text])
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "\nstopped\n"),
        (OSError(errno.EROFS, "Read-only file system", "x/y"), 1, "error: Read-only file system: x/y\n"),
        (OSError("of its own"), 1, "error: of its own\n"),
    ],
)
def test_how_a_command_ends(error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def failing(_: object) -> int:
        raise error

    assert failing() == code
    assert capsys.readouterr().err == words
