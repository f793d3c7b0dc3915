"""How processes end: compressors that end or hang them everywhere, and what a killed run leaves to the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import qsim
from helpers.paths import process_environment
from qsim.engines import EngineError, Processes

RUN = qsim.Run(
    qsim.datasets.synthetic(400, 500, 6, seed=5),
    objective=qsim.LogisticRegression(l2=1e-3),
    method=qsim.SGD(step=qsim.steps.Constant(0.5), batch=4),
    workers=11,
    rounds=12,
    optimum=False,
)


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("os._exit(7)", "the last exit code was 7"),
        ("ctypes.string_at(0)", "the last exit code was -11"),
        ("os.kill(os.getpid(), 9)", r"the last exit code was -9 \(killed for want of memory\?\)"),
        ("time.sleep(1000)", "killed after 1 s without an answer"),
    ],
)
def test_a_compressor_that_ends_or_hangs_everywhere_is_an_error(end: str, how: str) -> None:
    """Also before the first round: it is not run in this process, which it would take along."""
    import ctypes

    @qsim.option
    class Ending(qsim.compressors.Compressor):
        emits = qsim.batch.Floats

        def quantize(self, v, key):
            return eval(end, {"os": os, "time": time, "ctypes": ctypes})

    with pytest.raises(EngineError, match=rf"ended 3 times in a row, {how}"):
        qsim.simulate(replace(RUN, compressor=Ending()), engine=Processes(2, patience=1.0 if "sleep" in end else 600.0))


def test_a_compressor_that_exits_is_an_error() -> None:
    @qsim.option
    class Leaving(qsim.compressors.Compressor):
        emits = qsim.batch.Floats

        def quantize(self, v, key):
            sys.exit("enough")

    with pytest.raises(RuntimeError, match="SystemExit: enough"):
        qsim.simulate(replace(RUN, compressor=Leaving()), engine=Processes(2))


def test_compiling_does_not_try_ones_patience() -> None:
    @qsim.option
    class Compiled(qsim.compressors.Compressor):
        emits = qsim.batch.Floats

        def quantize(self, v, key):
            from qsim.kernels import _jit

            if key == qsim.Key(0).fold(3, 2, 0, 9):
                _jit._LISTENER.tell(True)
                time.sleep(8.0)
                _jit._LISTENER.tell(False)
            return qsim.batch.Floats.single(v)

    run = replace(RUN, compressor=Compiled(), rounds=3)
    assert qsim.simulate(run, engine=Processes(2, patience=6.0)).frame["nonzeros"].sum() > 0


def test_a_daemonic_process_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(EngineError, match=r"from a daemonic one, such as those of multiprocessing.Pool; take .*Serial"):
        qsim.simulate(RUN, engine=Processes(2))


@pytest.fixture
def short() -> Iterator[str]:
    """Yield a folder whose name is short enough for that of a socket in it."""
    with TemporaryDirectory(prefix="q", dir="/tmp") as folder:
        yield folder


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, short: str) -> None:
    """And what one that runs has is not; a temporary folder whose name is too long for a socket is not taken."""
    from qsim.engines.leftovers import _LONGEST

    ours = Path(short) / f"qsim-{os.getuid()}"
    code = (
        "import os, signal; from qsim.engines import leftovers; leftovers._SHORT = os.environ['SHORT'];"
        " print(leftovers.socket_folder(), flush=True);"
    )

    def run(temporary: Path, then: str) -> tuple[int, str]:
        command, environment = (
            [sys.executable, "-c", code + then],
            process_environment(TMPDIR=str(temporary), SHORT=short),
        )
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        return done.returncode, done.stdout.strip()

    def left() -> list[str]:
        return [str(path) for path in ours.glob("sockets-*")]

    long = tmp_path / ("long" * _LONGEST)[:200]
    long.mkdir()
    status, killed = run(long, "os.kill(os.getpid(), signal.SIGKILL)")
    assert (status, Path(killed).parent) == (-signal.SIGKILL, ours)
    assert killed in left()
    command = [sys.executable, "-c", code + "input()"]
    environment = process_environment(TMPDIR=str(long), SHORT=short)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as running:
        assert running.stdout is not None
        living = running.stdout.readline().strip()
        assert killed not in left()
        status, ended = run(long, "")
        assert status == 0
        assert living in left()
        assert ended not in left()
        running.communicate("\n")
    assert living not in left()
