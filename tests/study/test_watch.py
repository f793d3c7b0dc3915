"""Watching a sweep: one that another process runs, which is killed, fails, or ends well; its journal; and the page."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from helpers.paths import process_environment
from helpers.studies import TUNED
from qsim.compressors import NotFiniteError
from qsim.study import cli
from qsim.study.journal import Entry, Journal, remove_old, sweeps
from qsim.study.store import Store
from qsim.study.watch import State

needs_pages = pytest.mark.skipif(
    find_spec("plotly") is None or find_spec("markdown_it") is None,
    reason="needs plotly and markdown-it-py: pip install plotly markdown-it-py",
)

STUDY = """
import time
import qsim
from matplotlib.figure import Figure
from qsim.study import Cell, Settings, Study

@qsim.option
class Slow(qsim.compressors.Compressor):
    seconds: float
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        if self.seconds < 0:
            raise RuntimeError("no luck")
        time.sleep(self.seconds)
        return qsim.batch.Floats.single(v)

def run(settings, seconds, seed):
    return qsim.Run(settings.load(), objective=qsim.LogisticRegression(l2=0.1), method=qsim.GradientDescent(step=0.1),
                    compressor=Slow(seconds), workers=2, rounds=settings.rounds, seed=seed, optimum=False)

study = Study(
    title="Slow", questions=["Which?"], defaults=Settings("spark_sample", 2, 10, 2), template="slow",
    cells=lambda s: [Cell("slow", run(s, 0.05, seed)) for seed in range(s.seeds)],
    setting=lambda settings: "A setting.", answers=lambda results: ["an answer"], draw=lambda results: Figure(),
)
"""
FAILING = ["slow.py", "--compressor", "slow.py:Slow(-1.0)"]


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "slow.py").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.startswith("qsim_file_slow")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.fixture
def start() -> Iterator[object]:
    """Start commands in processes of their own, which are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def command(*words: str, **options: object) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "qsim.study", *words]
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        started.append(subprocess.Popen(line, env=process_environment(QSIM_QUIET="1"), **settings))
        return started[-1]

    yield command
    for process in started:
        process.kill()
        process.communicate()


def until(condition: object, what: str) -> None:
    """Wait for what another process does."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within a minute")


def data(path: Path) -> dict:
    return json.loads(path.read_text().partition('id="data">')[2].partition("</script>")[0])


@needs_pages
def test_a_sweep_is_seen_from_before_its_start_to_its_end(here: Path, start, capsys) -> None:
    sweep = start("slow.py", "--jobs", "1")
    assert cli.main(["watch", "slow.py", "--json", "--every", "0.2", "--html", "page.html"]) == 0
    seen = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    states = list(dict.fromkeys(state["state"] for state in seen))
    assert states == ["waiting", "running", "finished"]
    done = [state["done"] for state in seen]
    assert done == sorted(done)
    assert (done[0], done[-1], seen[-1]["cells"], seen[-1]["failed"]) == (0, 2, 2, 0)
    rates = [state for state in seen if state["rounds_per_second"]]
    assert rates
    assert all(0 < state["rounds_per_second"] < 20 for state in rates)  # two workers sleep 0.05 s each
    assert all(0 <= state["seconds_left"] < 60 for state in rates)
    text = (here / "page.html").read_text()
    assert "slow: 2 of 2 cells, finished" in text
    assert "an answer" in text
    assert data(here / "page.html")["every"] is None  # it is not read again
    assert sweep.wait() == 0
    assert cli.main(["watch", "slow.py"]) == 0  # after it: at once
    assert capsys.readouterr().out == "slow: 2 of 2 cells, finished\n"


def test_a_sweep_that_is_killed_is_over(here: Path, start, capsys) -> None:
    sweep = start("slow.py", "--rounds", "20", "--jobs", "1")
    until(lambda: len(Store().cells()) == 1, "a stored cell")
    os.kill(sweep.pid, signal.SIGKILL)
    assert cli.main(["watch", "slow.py", "--rounds", "20", "--every", "0.2", "--wait", "0"]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "slow: 1 of 2 cells, not running"
    assert "1 cells are missing; to run them: qsim study slow.py --rounds 20" in said.err


@needs_pages
def test_failures_are_seen_while_it_runs_and_after(here: Path, start, capsys) -> None:
    """Without a name, the sweep that runs is watched, to its end."""
    sweep = start(*FAILING, "--rounds", "5", "--jobs", "1")
    assert cli.main(["watch", "--every", "0.2", "--json"]) == 1
    assert sweep.wait() == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    errors = {f"Slow(-1.0), seed {seed}": "RuntimeError: no luck" for seed in (0, 1)}
    assert (last["state"], last["cells"], last["done"], last["failures"]) == ("stopped", 4, 2, errors)
    assert cli.main(["watch", *FAILING, "--rounds", "5", "--html", "page.html"]) == 1  # at once: all else is there
    said = capsys.readouterr()
    assert said.out == "slow: 2 of 4 cells, 2 failed, not running\n"
    assert "Slow(-1.0), seed 1: RuntimeError: no luck" in said.err
    text = (here / "page.html").read_text()
    assert "<li>Slow(-1.0), seed 0: RuntimeError: no luck</li>" in text
    assert "2 of 4 cells of slow are not stored" in text


def test_of_a_tuned_study_the_runs_to_choose_by_are_watched_too(here: Path, capsys) -> None:
    """To diverge is an answer of theirs, and no failure."""
    (here / "tuned.py").write_text(TUNED)
    assert cli.main(["tuned.py"]) == 0
    capsys.readouterr()
    assert cli.main(["watch", "tuned.py"]) == 0
    assert capsys.readouterr().out == "tuned: 8 of 8 cells, finished\n"


@needs_pages
def test_ctrl_c_ends_the_watch_alone(here: Path, start) -> None:
    sweep = start("slow.py", "--rounds", "400", "--jobs", "1")
    watch = start("watch", "slow.py", "--rounds", "400", "--html", "page.html", "--every", "0.2")
    until(lambda: (here / "page.html").exists() and "rounds/s" in (here / "page.html").read_text(), "a page")
    assert data(here / "page.html")["every"] == 2.0
    watch.send_signal(signal.SIGINT)
    _, error = watch.communicate(timeout=60)
    assert watch.returncode == 130
    assert error.endswith("stopped; the sweep itself goes on\n")
    assert sweep.poll() is None
    assert "It is not watched any more" in (here / "page.html").read_text()
    assert data(here / "page.html")["every"] is None


def test_on_a_terminal_there_is_a_bar(here: Path, start) -> None:
    assert cli.main(["slow.py", "--rounds", "1"]) == 0
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    watch = start("watch", "slow.py", "--rounds", "1", stdout=terminal)
    os.close(terminal)
    assert watch.wait(timeout=60) == 0
    said = os.read(master, 10_000).decode()
    os.close(master)
    assert "slow: 2 of 2 cells, finished \u2588" in said  # the bar
    assert said.endswith("slow: 2 of 2 cells, finished\r\n")


CELLS = {"a" * 64: Entry("x, seed 0", 100), "b" * 64: Entry("x, seed 1", 50)}


def test_a_journal_says_what_a_sweep_is_at(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert sweeps(store) == []
    first, second = CELLS
    with suppress(ZeroDivisionError), Journal(store, "name", CELLS) as journal:
        journal.rounds(first, 30)
        (sweep,) = sweeps(store)
        assert (sweep.name, sweep.running, sweep.end, dict(sweep.cells)) == ("name", True, None, CELLS)
        assert (sweep.rounds, sweep.computed, sweep.rate) == (30, 30, 0)
        journal.done(first)
        journal.rounds("c" * 64, 3)  # of another sweep
        journal.failed(second, NotFiniteError("too far"))
        raise ZeroDivisionError
    (sweep,) = sweeps(store)
    assert (sweep.running, sweep.end, sweep.computed) == (False, "ZeroDivisionError", 100)
    assert (sweep.done, sweep.diverged) == ({first}, {second})
    assert sweep.failures == {second: "NotFiniteError: too far"}
    (path,) = (tmp_path / "sweeps").iterdir()
    with path.open("a") as file:
        file.write('{"at": 12')  # torn
    assert sweeps(store) == [sweep]
    (path.parent / "1.jsonl").write_text("what is this")
    (path.parent / "2.jsonl").touch()
    assert sweeps(store) == [sweep]
    with Journal(store, "later", CELLS):
        assert [found.name for found in sweeps(store)] == ["name", "later"]
        assert remove_old(store, time.time() + 1) == 3
        assert [found.name for found in sweeps(store)] == ["later"]


def test_what_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "sweeps").touch()
    for store in (Store(tmp_path), None):
        with Journal(store, "name", CELLS) as journal:
            journal.rounds("a" * 64, 1)
            journal.done("a" * 64)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State("s", "waiting", 4), "s: 0 of 4 cells, waiting"),
        (State("s", "running", 4, 1, {"x": "y"}), "s: 1 of 4 cells, 1 failed"),
        (
            State("s", "running", 4, 1, {}, 1234.6, 3.25, 119.7),
            "s: 1 of 4 cells, 1,235 rounds/s, 3.2 cells/min, about 2:00 left",
        ),
        (State("s", "stopped", 4, 3), "s: 3 of 4 cells, not running"),
    ],
    ids=lambda value: getattr(value, "state", ""),
)
def test_a_state_in_words(state: State, words: str) -> None:
    assert state.words == words
