"""Studies on other engines, and in shares: jobs side by side that fill one store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import process_environment
from qsim.study import cli
from qsim.study.runner import Runner, run_study
from qsim.study.store import Store

STUDY = """
import qsim
from qsim.study import LeastFinal, Panel, Settings, Study, Tuning, each_seed, panels

def run(settings, curve, step, seed):
    return qsim.Run(settings.load(), objective=qsim.LogisticRegression(l2=0.0), optimum=False,
        method=qsim.SGD(step=step, batch=2), compressor=qsim.QSGD(levels=4),
        workers=settings.workers, rounds=settings.rounds, seed=seed)

def cells(settings, choices):
    return each_seed(settings, choices, lambda choice, seed: run(settings, "plain", choice.value, seed))

study = Study(
    title="Steps", questions=["Which?"], defaults=Settings("spark_sample", 2, 8, 5), cells=cells,
    setting=lambda settings: "A setting.", answers=lambda results: [str(results.tuned.choices["plain"].value)],
    draw=lambda results: panels(results, Panel("round", "loss")),
    tuning=Tuning("step", lambda settings: ["plain"], run, (0.01, 0.1, 1e300), LeastFinal("loss")),
)
"""
LOCAL = """
import qsim
from qsim.study import Settings, each_seed, Study

def one(settings, curve, seed):
    @qsim.option
    class Local(qsim.compressors.Compressor):
        emits = qsim.batch.Floats
        def quantize(self, v, key):
            return qsim.batch.Floats.single(v)
    return qsim.Run(settings.load(), objective=qsim.LogisticRegression(l2=0.1), method=qsim.SGD(0.1, batch=1),
                    compressor=Local(), workers=2, rounds=2, seed=seed, optimum=False)

study = Study(
    title="Local", questions=["?"], defaults=Settings("spark_sample", 2, 2, 2),
    cells=lambda settings: each_seed(settings, {"x": 1}, lambda value, seed: one(settings, "x", seed)),
    setting=lambda settings: "", answers=lambda results: [""], draw=lambda results: None,
)
"""


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "steps.py").write_text(STUDY)
    (tmp_path / "local.py").write_text(LOCAL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shares_fill_the_store_between_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then the study finds all cells. What it is tuned by is all run by the first share, as no other is there."""
    assert cli.main(["steps.py", "--part", "2/3"]) == 0
    assert "steps, part 2/3: 2 cells are done, 2 of all 5 are stored; when all are, qsim" in capsys.readouterr().out
    assert not (here / "paper_figures" / "steps.csv").exists()
    assert cli.main(["steps.py", "--part", "1/3"]) == 0
    assert cli.main(["steps.py", "--part", "3/3"]) == 0
    assert "part 3/3: 1 cells are done, 5 of all 5 are stored" in capsys.readouterr().out
    stored = set(Store().cells())
    assert cli.main(["steps.py"]) == 0
    assert "**Which?** 0.01" in capsys.readouterr().out
    assert set(Store().cells()) == stored


def test_shares_side_by_side_compute_nothing_twice(here: Path) -> None:
    """Four programs at once: every cell that does not diverge is computed by one of them."""
    command = [sys.executable, "-m", "qsim.study", "steps.py", "--jobs", "1", "--part"]
    running = [
        subprocess.Popen(
            [*command, f"{part}/4"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=process_environment(),
        )
        for part in range(1, 5)
    ]
    said = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0] * 4, said
    logs = [Path(errors.split("log: ")[1].strip()).read_text() for _, errors in said]
    assert sum(log.count(": computed in") for log in logs) == len(Store().cells())
    assert any("5 of all 5 are stored" in out for out, _ in said)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("steps.py --part 0/3", "--part must be I/K with 1 <= I <= K, such as 3/16, found 0/3"),
        ("steps.py --part 4/3", "found 4/3"),
        ("steps.py --part 3", "found 3"),
        ("steps.py --part 1/3 --no-cache", "takes neither --no-cache nor --only"),
        ("engines --part 1/3", "--part is not for engines, whose cells are not stored"),
        ("certificates --part 1/3", "--part is not for certificates, whose cells are not stored"),
        ("local.py --part 1/2", "these can't be: what "),
        ("steps.py --engine qsim.engines:Serial", "is a class: make one of it"),
        (
            "steps.py --engine qsim:QSGD(2)",
            "is not an engine, such as qsim.engines:Processes(2); found qsim.QSGD(levels=2)",
        ),
        ("engines --engine qsim.engines:Serial(block=2)", "--engine is not for engines, which measures time"),
    ],
)
def test_bad_requests_say_why(command: str, words: str, here: Path, capsys) -> None:
    assert cli.main(command.split(" ")) == 2
    assert words in capsys.readouterr().err
    assert not Store().cells()


def test_a_study_gives_the_same_table_on_another_engine(here: Path, capsys) -> None:
    command = ["export", "steps.py", "--no-cache", "--out"]
    assert cli.main([*command, "serial"]) == 0
    assert cli.main([*command, "other", "--engine", "qsim.engines:Processes(2)"]) == 0
    assert (here / "serial" / "steps_cells.csv").read_bytes() == (here / "other" / "steps_cells.csv").read_bytes()


def test_an_engine_is_started_only_if_something_is_missing(here: Path, monkeypatch, capsys) -> None:
    from contextlib import contextmanager

    from qsim.engines import EngineError, Serial
    from qsim.study import catalog

    starts = []

    class Counted(Serial):
        @contextmanager
        def started(self):
            starts.append(self)
            yield

    study = catalog.find("steps.py")[1]
    run_study(study, engine=Counted(), progress=False)
    assert len(starts) == 2  # for what is tuned by, and for what is shown
    run_study(study, engine=Counted(), progress=False)
    assert len(starts) == 3  # for the step that diverges, which is not stored
    with pytest.raises(ValueError, match="study measures time: its cells run on the engines that it names"):
        Runner(timed=True, engine=Counted())

    def cannot(self):
        raise EngineError("no Spark here")

    monkeypatch.setattr("qsim.engines.Spark.started", cannot)
    assert cli.main(["steps.py", "--no-cache", "--engine", "qsim.engines:Spark()"]) == 1
    assert "error: no Spark here" in capsys.readouterr().err
