"""Workers in actors of Ray: on this machine, with the actors killed, stopped, and refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qsim
from helpers.clusters import ray_cluster, run_script
from helpers.paths import ROOT, process_environment
from helpers.rows_elsewhere import click_parts, require_same, run_of
from qsim.engines import EngineError, Ray
from qsim.testing import check_engine
from qsim.testing.engine import _dropping, _expected, _job, _run

pytest.importorskip("ray", reason="needs Ray: pip install 'ray>=2.40'")
sys.path.insert(0, str(ROOT / "tools"))
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster() as ray:
        yield ray


@pytest.mark.long
def test_ray_keeps_its_promises(cluster) -> None:
    report = check_engine(Ray())
    assert report.good, str(report)
    assert "not checked" not in str(report)
    assert cluster.is_initialized()


def test_actors_killed_at_random_give_the_same_bits(cluster) -> None:
    kill_workers = pytest.importorskip("kill_workers", reason="needs the checkout's tools")
    lines: list[dict] = []
    kills, wrong = kill_workers.survives(Ray(), 4, rounds=600, log=lines.append)
    assert kills >= 4
    assert wrong == 0, lines


def test_a_stopped_actor_is_replaced(cluster) -> None:
    job = _dropping()
    with Ray(patience=3.0).open(job) as session:
        found = _run(session, range(2), job)
        stopped = session.pids[0]
        os.kill(stopped, signal.SIGSTOP)
        found += _run(session, range(2, 5), job)
        assert stopped not in session.pids
    assert found == _expected(job, range(5))


def test_large_weights_go_by_the_object_store(cluster) -> None:
    """And can be written to where they arrive, as everywhere."""
    data = qsim.datasets.synthetic(60, 60_000, 6, seed=5)
    run = qsim.Run(data, qsim.LogisticRegression(l2=0.1), qsim.GradientDescent(0.1), workers=4, rounds=3, optimum=False)
    assert qsim.simulate(run, engine=Ray()).weights.tobytes() == qsim.simulate(run).weights.tobytes()


def test_rows_stay_in_their_files(cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted, measured for the step and the optimum, learnt and tested where the workers are."""
    for name in ("today", "tomorrow"):
        (tmp_path / name).mkdir()
    today, tomorrow = click_parts(tmp_path / "today"), click_parts(tmp_path / "tomorrow", (9, 14))
    run = run_of(today, method=qsim.EF21(), compressor=qsim.TopK(5), test=tomorrow, rounds=4, optimum=True, workers=3)
    monkeypatch.setattr("qsim.datasets.HashedText.load", lambda self: pytest.fail("the driver read a file"))
    monkeypatch.setattr("qsim.storage.user_cache", lambda: tmp_path / "cache")  # of optima: none is known
    found = qsim.simulate(run, engine=Ray())
    monkeypatch.undo()
    monkeypatch.setattr("qsim.storage.user_cache", lambda: tmp_path / "another")
    require_same(found, qsim.simulate(run))


def test_too_few_cpus_are_said(cluster) -> None:
    job = _job(qsim.QSGD(2))
    with pytest.raises(EngineError, match=r"3 groups of 1 CPUs each are wanted, and Ray has CPUs for 2; take fewer"):
        Ray(groups=3, slot_patience=0.5).open(job)
    with Ray().open(job) as session:
        with pytest.raises(EngineError, match=r"no actor for workers 0 to 3 in 1 s \(of 2 CPUs 0 are free\)"):
            Ray(slot_patience=1.0).open(job)
        assert _run(session, range(2), job) == _expected(job, range(2))


def test_machines_that_would_give_other_numbers_are_refused(cluster, monkeypatch) -> None:
    from qsim.engines import ray as module

    real = module.inspector
    there = real()() | {"host": "node7", "versions": {}, "error": "no qsim"}
    monkeypatch.setattr(module, "inspector", lambda paths=None: real() if paths is None else lambda: there)
    with pytest.raises(EngineError, match=r"node7 \(.*\) can't run workers \(no qsim\); install qsim there"):
        Ray().open(_job(qsim.QSGD(2)))


def test_the_example_runs_on_a_cluster_that_is_there(cluster) -> None:
    """By its address; it goes on when the program has ended."""
    example = ROOT / "examples" / "ray_cluster.py"
    if not example.exists():
        pytest.skip("needs the checkout's examples")
    environment = process_environment(RAY_ADDRESS=cluster.get_runtime_context().gcs_address)
    command = [sys.executable, str(example)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "the same bits as on one machine: True" in done.stdout
    assert cluster.cluster_resources()["CPU"] == 2


def test_an_address_where_nobody_listens_is_said() -> None:
    """In a process that is not connected to any."""
    code = "import qsim; from qsim.testing.engine import _job; qsim.engines.Ray('127.0.0.1:1').open(_job(qsim.QSGD(2)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=process_environment(), check=False, timeout=60)
    assert "EngineError: no Ray could be reached at 127.0.0.1:1: " in done.stderr


def test_an_old_or_missing_ray_is_said(monkeypatch) -> None:
    import ray

    with monkeypatch.context() as patch:
        patch.setattr(ray, "__version__", "2.9.3")
        with pytest.raises(ImportError, match=r"needs Ray 2.40 or later, found 2.9.3: .*ray>=2.40"):
            Ray().open(_job(qsim.QSGD(2)))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"needs Ray: python -m pip install 'ray>=2.40'"):
        Ray().open(_job(qsim.QSGD(2)))


@pytest.mark.parametrize("as_notebook", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_class_of_a_script_or_notebook_works_and_nothing_is_left(tmp_path: Path, as_notebook: bool) -> None:
    """On a cluster that the engine starts for itself, and ends."""
    assert "left: []" in run_script("qsim.engines.Ray(groups=2)", tmp_path, as_notebook)
