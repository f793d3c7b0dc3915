"""Workers in Spark: on this machine, with its Python workers and executors killed, stopped, and refused."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

import qsim
from helpers.clusters import run_script, spark_session
from helpers.paths import ROOT, process_environment
from helpers.rows_elsewhere import click_parts, require_same, run_of
from qsim.engines import EngineError, Spark
from qsim.testing import check_engine
from qsim.testing.engine import _dropping, _expected, _job, _run

pytest.importorskip("pyspark", reason="needs Spark: pip install 'pyspark>=4'")
if which("java") is None:
    pytest.skip("needs Java, for Spark", allow_module_level=True)
sys.path.insert(0, str(ROOT / "tools"))
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of Spark, about pandas
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of its sockets
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def spark() -> Iterator[Any]:
    with spark_session() as session:
        yield session


def test_spark_keeps_its_promises(spark) -> None:
    """And leaves the session as it was: no job runs, its processes are used again, and it can be used."""
    report = check_engine(Spark())
    assert report.good, str(report)
    assert "not checked" not in str(report)
    pids = []
    for _ in range(2):
        with Spark(session=spark).open(_job(qsim.QSGD(2))) as session:
            pids.append(set(session.pids))
            assert session.ending_pids == []
        assert list(spark.sparkContext.statusTracker().getActiveJobsIds()) == []
    assert pids[0] == pids[1]
    assert spark.range(5).count() == 5


def test_workers_killed_at_random_give_the_same_bits(spark) -> None:
    kill_workers = pytest.importorskip("kill_workers", reason="needs the checkout's tools")
    lines: list[dict] = []
    kills, wrong = kill_workers.survives(Spark(), 4, rounds=600, log=lines.append)
    assert kills >= 4
    assert wrong == 0, lines


@pytest.mark.long
def test_executors_killed_at_random_give_the_same_bits() -> None:
    kill_workers = pytest.importorskip("kill_workers", reason="needs the checkout's tools")
    lines: list[dict] = []
    with spark_session("local-cluster[2,1,1024]"):
        kills, wrong = kill_workers.survives(Spark(), 2, victims=kill_workers.executors, rounds=600, log=lines.append)
    assert kills >= 2
    assert wrong == 0, lines


@pytest.mark.parametrize(
    ("settings", "groups"),
    [({"spark.python.worker.reuse": "false"}, 2), ({"spark.task.cpus": "2"}, 1), ({"spark.task.maxFailures": "1"}, 2)],
)
def test_settings_that_engines_trip_over(settings: dict[str, str], groups: int) -> None:
    job = _dropping()
    with spark_session(**settings), Spark().open(job) as session:
        assert len(session.pids) == groups
        found = _run(session, range(3), job)
        os.kill(session.pids[-1], signal.SIGKILL)
        assert found + _run(session, range(3, 6), job) == _expected(job, range(6))


def test_a_stopped_process_is_replaced(spark) -> None:
    job = _dropping()
    with Spark(patience=3.0).open(job) as session:
        found = _run(session, range(2), job)
        stopped = session.pids[0]
        os.kill(stopped, signal.SIGSTOP)
        found += _run(session, range(2, 5), job)
        assert stopped not in session.pids
    assert found == _expected(job, range(5))


def test_rows_stay_in_their_files(spark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted, measured for the step and the optimum, learnt and tested where the workers are."""
    for name in ("today", "tomorrow"):
        (tmp_path / name).mkdir()
    today, tomorrow = click_parts(tmp_path / "today"), click_parts(tmp_path / "tomorrow", (9, 14))
    run = run_of(today, method=qsim.EF21(), compressor=qsim.TopK(5), test=tomorrow, rounds=4, optimum=True)
    monkeypatch.setattr("qsim.datasets.HashedText.load", lambda self: pytest.fail("the driver read a file"))
    monkeypatch.setattr("qsim.storage.user_cache", lambda: tmp_path / "cache")  # of optima: none is known
    found, bound = qsim.simulate(run, engine=Spark()), run.bound(Spark())
    monkeypatch.undo()
    monkeypatch.setattr("qsim.storage.user_cache", lambda: tmp_path / "another")
    require_same(found, qsim.simulate(run))
    assert bound == run.bound()


def test_too_few_slots_are_said(spark) -> None:
    """At once on this machine, where no more can come; after a while where others hold them."""
    job = _job(qsim.QSGD(2))
    with pytest.raises(EngineError, match=r"groups=3 needs 3 slots, and Spark has 2 \(.*take fewer groups"):
        Spark(groups=3).open(job)
    with Spark().open(job) as session:
        with pytest.raises(EngineError, match=r"no slot for the task of workers 0 to 3 in 1 s .*take fewer groups"):
            Spark(slot_patience=1.0).open(job)
        assert _run(session, range(2), job) == _expected(job, range(2))
    assert list(spark.sparkContext.statusTracker().getActiveJobsIds()) == []


def test_executors_that_would_give_other_numbers_are_refused(spark, monkeypatch) -> None:
    from qsim.engines import spark as module

    real = module.inspector

    def inspectors(changes: dict[str, Any]) -> Any:
        def other(paths: Any = None) -> Any:
            here = real()()
            return real() if paths is None else lambda: here | {"host": "node7"} | changes

        return other

    versions = real()()["versions"]
    lacking = {"versions": {"Python": versions["Python"]}, "error": "ModuleNotFoundError: No module named 'qsim'"}
    for changes, words in (
        (
            lacking,
            r"node7 \(.*\) can't run workers \(ModuleNotFoundError: No module named 'qsim'\); install qsim there",
        ),
        ({"versions": versions | {"qsim": "0.0.1"}}, r"node7 .*: qsim is 0.0.1, here "),
    ):
        monkeypatch.setattr(module, "inspector", inspectors(changes))
        with pytest.raises(EngineError, match=words):
            Spark().open(_job(qsim.QSGD(2)))


def test_a_driver_that_executors_cannot_reach_is_said(spark) -> None:
    with pytest.raises(EngineError, match=r"can't reach the driver at 127.0.0.9, port \d+ .*give the engine a host"):
        Spark(host="127.0.0.9").open(_job(qsim.QSGD(2)))


def test_a_stopped_session_is_said() -> None:
    with spark_session() as session:
        pass
    with pytest.raises(EngineError, match="the Spark session has been stopped; make a new one"):
        Spark(session=session).open(_job(qsim.QSGD(2)))


def test_a_port_that_is_taken_is_said(spark) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=rf"can't listen at 127.0.0.1, port {port}: .*in use.*; give .*port"):
            Spark(port=port).open(_job(qsim.QSGD(2)))


def test_what_is_no_session_is_said() -> None:
    from pyspark.sql import SparkSession

    for session in (7, "local[2]", SparkSession):
        with pytest.raises(TypeError, match=r"session must be a pyspark.sql.SparkSession .*found"):
            Spark(session=session).open(_job(qsim.QSGD(2)))


def test_an_old_or_missing_pyspark_is_said(monkeypatch) -> None:
    import pyspark

    with monkeypatch.context() as patch:
        patch.setattr(pyspark, "__version__", "3.5.1")
        with pytest.raises(ImportError, match=r"needs PySpark 4, found 3.5.1: .*pyspark>=4"):
            Spark().open(_job(qsim.QSGD(2)))
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(ImportError, match=r"needs PySpark 4: python -m pip install 'pyspark>=4'"):
        Spark().open(_job(qsim.QSGD(2)))


@pytest.mark.parametrize(
    ("java", "words"),
    [
        (None, "Spark needs Java 17 or later, and there is none: JAVA_HOME is "),
        ("exit 1", "; java -version says nothing, and Spark 4 needs 17 or later"),
        ("echo 'openjdk version \"11.0.2\"' >&2; exit 1", '; openjdk version "11.0.2", and Spark 4 needs 17 or later'),
    ],
)
def test_a_missing_or_old_java_is_said(java: str | None, words: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    if java is not None:
        (tmp_path / "bin" / "java").write_text(f"#!/bin/sh\n{java}\n")
        (tmp_path / "bin" / "java").chmod(0o755)
    code = "import qsim; from qsim.testing.engine import _job; qsim.engines.Spark().open(_job(qsim.QSGD(2)))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    environment = process_environment(JAVA_HOME=str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "EngineError: " in done.stderr
    assert words in done.stderr


@pytest.mark.parametrize("as_notebook", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_class_of_a_script_or_notebook_works_and_nothing_is_left(tmp_path: Path, as_notebook: bool) -> None:
    """In a session that the engine starts for itself, and stops with its JVM."""
    assert "left: []" in run_script("qsim.engines.Spark(groups=2)", tmp_path, as_notebook)


def test_the_example_runs_under_spark_submit() -> None:
    example = ROOT / "examples" / "spark_submit.py"
    if not example.exists():
        pytest.skip("needs the checkout's examples")
    submit = Path(sys.executable).with_name("spark-submit")
    command = [submit, "--master", "local[2]", "--conf", "spark.ui.enabled=false", example]
    environment = process_environment(SPARK_LOCAL_IP="127.0.0.1", PYSPARK_PYTHON=sys.executable)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "the same bits as on one machine: True" in done.stdout


def test_the_exercise_prints_the_numbers_of_the_study(tmp_path: Path) -> None:
    """Loss, error, non-zeros and bits of every curve that both have: means over seeds."""
    from qsim.study import Settings, catalog, run_study

    example = ROOT / "examples" / "spark_exercise.py"
    if not example.exists():
        pytest.skip("needs the checkout's examples")
    command = [sys.executable, example, "--workers", "5", "--rounds", "9", "--seeds", "2"]
    environment = process_environment(SPARK_LOCAL_IP="127.0.0.1", PYSPARK_PYTHON=sys.executable)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    _, study = catalog.find("seminar")
    results = run_study(study, Settings("spark_sample", workers=5, rounds=9, seeds=2), cache=False)
    _, *lines = done.stdout.splitlines()
    curves = ["uncompressed", *(f"s = {s}" for s in (1, 2, 3, 4)), "s = 1; sparse sum"]
    assert len(lines) == len(curves)
    for line, curve in zip(lines, curves, strict=True):
        final = {
            name: results.final(curve, name) for name in ("loss", "train_error", "nonzeros", "bits_up", "bits_down")
        }
        shown = [f"{final.pop(name):.5f}" for name in ("loss", "train_error")]
        assert line.split() == [*curve.split(), *shown, *(f"{number:,.0f}" for number in final.values())]


def test_what_spark_reads_is_written_for_workers_by_its_executors(spark, tmp_path: Path) -> None:
    """As docs/clusters.md says, with JSON; three files, and a word that each of them has at another place."""
    lines = [f'{{"label": {k % 2}, "price": {k}.5, "site": "s{k % 7}"}}' for k in range(60)]
    (tmp_path / "clicks.json").write_text("\n".join(lines))
    rows = spark.read.json(str(tmp_path / "clicks.json")).select("label", "price", "site")
    rows.repartition(3).write.parquet(str(tmp_path / "shared"))
    clicks = qsim.datasets.Parts(qsim.datasets.Table(tmp_path / "shared/*.parquet", hashed=2**10))
    run = qsim.Run(clicks, qsim.LogisticRegression(0.1), qsim.GradientDescent(0.01), workers=4, rounds=5, optimum=False)
    trace = qsim.simulate(run, engine=Spark())
    assert trace.frame.equals(qsim.simulate(run).frame)
    assert run.load().rows == 60
    assert run.load().features == 1 + 2**10  # of numbers, and of words
