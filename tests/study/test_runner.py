"""Running cells: side by side, once each, whatever fails or is killed on the way, to the same bits."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

import qsim
from helpers.paths import process_environment
from helpers.studies import local
from helpers.traces import same
from qsim import identity
from qsim.datasets import DataError, Dataset, Source
from qsim.engines import Engine, EngineError, Serial
from qsim.study import Cell, Settings, Study, catalog, runner
from qsim.study.compute_cell import Done, compute, seconds
from qsim.study.pool import ProcessEndedError
from qsim.study.progress import Log, Progress
from qsim.study.runner import CellsFailedError, Runner, run_study
from qsim.study.store import Store, StoreError

RUN = qsim.Run(
    qsim.datasets.load("spark_sample"),
    objective=qsim.LogisticRegression(l2=0.1),
    method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
    compressor=qsim.QSGD(2),
    workers=4,
    rounds=3,
)
CELLS = [Cell(f"s = {s}", replace(RUN, compressor=qsim.QSGD(s), seed=seed)) for s in (1, 2) for seed in range(3)]


def run_cells(cells: list[Cell], **options: object) -> list[Done]:
    return Runner(**options).run(cells)


@qsim.option
class Odd(qsim.compressors.Compressor):
    """Does what a test needs: notes the process it is in, fails, or ends it."""

    where: str
    act: str = ""
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        with Path(self.where).open("a") as file:
            file.write(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\n")
        if self.act == "fail":
            raise RuntimeError("no luck")
        if self.act == "exit":
            raise SystemExit(3)
        if self.act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return qsim.batch.Floats.single(v)


@qsim.option
class Noting(Source):
    """Notes which process loads it."""

    where: str
    name = "noting"

    def load(self) -> Dataset:
        with Path(self.where).open("a") as file:
            file.write(f"{os.getpid()}\n")
        return qsim.datasets.load("spark_sample")


def pids(path: Path) -> set[int]:
    return {int(line.split()[0]) for line in path.read_text().splitlines()}


def odd(path: Path, *acts: str) -> list[Cell]:
    return [
        Cell(f"{place} {act}".strip(), replace(RUN, compressor=Odd(str(path), act), seed=place))
        for place, act in enumerate(acts)
    ]


def test_cells_are_computed_stored_and_found_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_cells(CELLS)
    for cell, one in zip(CELLS, done, strict=True):
        assert same(one.trace, qsim.simulate(cell.run))
        assert one.trace.provenance == qsim.simulate(cell.run).provenance
        assert len(one.seconds) == 3
        assert not one.found
    assert len(Store().cells()) == len(CELLS)
    monkeypatch.setattr(runner, "compute", lambda *_: pytest.fail("a stored cell was computed again"))
    again = run_cells(CELLS)
    assert all(one.found and same(one.trace, two.trace) for one, two in zip(again, done, strict=True))


def test_side_by_side(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In processes of one thread each, on data that are loaded once: the same bits, whatever fails or is killed."""
    notes, loads, log = tmp_path / "notes", tmp_path / "loads", Log(tmp_path / "log")
    before = os.environ.get("OMP_NUM_THREADS")
    acts = odd(notes, "", "fail", "exit", "die", "")
    acts = [replace(cell, run=replace(cell.run, data=Noting(str(loads)))) for cell in acts]
    unknown = Cell("local", replace(RUN, compressor=local(2)))
    cells = [*acts, unknown, *CELLS]
    with (
        pytest.raises(
            CellsFailedError, match=r"3 of 12 cells failed; the first, '1 fail, seed 1': RuntimeError: no"
        ) as seen,
        pytest.warns(UserWarning, match="cells are not stored: .* inside a function"),
    ):
        run_cells(cells, jobs=2, log=log)
    assert [failure.cell for failure in seen.value.failures] == cells[1:4]
    ended = seen.value.failures[2].error
    assert isinstance(ended, ProcessEndedError)
    assert "-9, killed for want of memory?" in str(ended)
    assert "in quantize" in (tmp_path / "log").read_text()  # the traceback
    assert os.getpid() not in pids(notes)
    assert {line.split()[1] for line in notes.read_text().splitlines()} == {"1"}
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert pids(loads) == {os.getpid()}
    assert len(Store().cells()) == 8
    monkeypatch.setattr(runner, "over_processes", lambda *_: pytest.fail("a stored cell was computed again"))
    for cell, one in zip(CELLS, run_cells(CELLS, jobs=2), strict=True):
        assert one.found
        assert same(one.trace, qsim.simulate(cell.run))
        assert one.trace.provenance == qsim.simulate(cell.run).provenance
    assert run_cells(acts[:1])[0].trace.provenance["run"] == repr(acts[0].run)


def test_sources_that_were_edited_meanwhile_are_not_mixed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New processes would load the new sources, under keys of the old ones."""
    monkeypatch.setattr(identity, "sources_digest", lambda: "of the sources that this process has loaded")
    with pytest.raises(CellsFailedError, match="the source of qsim was edited while the study ran") as seen:
        run_cells(CELLS[:2], jobs=2)
    assert len(seen.value.failures) == 2
    assert not Store().cells()


def test_a_changed_parameter_computes_its_cells_alone(cache: Path) -> None:
    run_cells(CELLS)
    changed = [*CELLS[:4], *(replace(cell, run=replace(cell.run, rounds=4)) for cell in CELLS[4:])]
    assert [one.found for one in run_cells(changed)] == [True] * 4 + [False] * 2


def test_curves_and_studies_share_cells(cache: Path) -> None:
    twice = [*CELLS, *(replace(cell, curve=f"again, {cell.curve}") for cell in CELLS)]
    done = run_cells(twice)
    assert len(Store().cells()) == len(CELLS)
    assert all(one is two for one, two in zip(done, done[len(CELLS) :], strict=False))


def test_without_the_cache_nothing_is_read_or_written(cache: Path) -> None:
    run_cells(CELLS[:2])
    before = {path: path.stat().st_mtime_ns for path in Store().cells()}
    assert not any(one.found for one in run_cells(CELLS, cache=False))
    assert {path: path.stat().st_mtime_ns for path in Store().cells()} == before


def test_a_torn_cell_is_computed_again(cache: Path) -> None:
    first = run_cells(CELLS)
    path = Store().path(CELLS[2].run)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.warns(UserWarning, match="computed again"):
        second = run_cells(CELLS)
    assert [one.found for one in second] == [True, True, False, True, True, True]
    assert all(same(one.trace, two.trace) for one, two in zip(first, second, strict=True))
    assert all(one.found for one in run_cells(CELLS))


def study_of(cells: list[Cell], timed: bool = False) -> Study:
    return Study(
        title="", questions=[], defaults=Settings("spark_sample", 1, 1, 1), cells=lambda _: cells, setting=lambda _: "",
        answers=lambda _: [], draw=lambda _: None, timed=timed,
    )  # fmt: skip


def test_cells_of_a_timed_study_run_here_in_turn_and_are_not_stored(cache: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    results = run_study(study_of(odd(notes, "", ""), timed=True), jobs=2)
    assert pids(notes) == {os.getpid()}
    assert [len(rounds) for rounds in results.seconds] == [3, 3]
    assert not Store().cells()


def test_cells_with_an_engine_of_their_own_run_last_and_from_here(cache: Path, monkeypatch) -> None:
    """Their engine has the cores for itself: the processes of the other cells have ended by then."""
    cells = [Cell("engine", replace(RUN, seed=9), Serial(threads=2)), *CELLS[:2]]
    order = []

    def beside(job, numbers, *_):
        order.append(sorted(numbers))
        yield from ((number, compute(runner.Task(cells[number].run), None, print)) for number in numbers)

    def here(task, *_):
        order.append(task.engine)
        return compute(task, None, lambda _: None)

    monkeypatch.setattr(runner, "over_processes", beside)
    monkeypatch.setattr(runner, "compute", here)
    done = run_cells(cells, jobs=2)
    assert order == [[1, 2], Serial(threads=2)]
    assert same(done[0].trace, qsim.simulate(cells[0].run))


@qsim.option
class Started(Engine):
    """An engine that counts how often it is started, or cannot be."""

    fails: bool = False

    def started(self):
        if self.fails:
            raise EngineError("no luck")
        return self._counted()

    @contextmanager
    def _counted(self):
        STARTS.append("start")
        yield
        STARTS.append("end")

    def open(self, job):
        STARTS.append("open")
        with self.started() if self.fails else nullcontext():
            return Serial().open(job)


STARTS: list[str] = []


def test_an_engine_is_started_once_for_all_its_cells(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "STARTS", [])
    run_cells([replace(cell, engine=Started()) for cell in CELLS[:3]], cache=False)
    assert STARTS == ["start", "open", "open", "open", "end"]


def test_an_engine_that_cannot_be_started_fails_its_own_cells_alone(cache: Path) -> None:
    cells = [replace(CELLS[0], engine=Started(fails=True)), *CELLS[1:3]]
    with pytest.raises(CellsFailedError, match=r"1 of 3 cells failed; the first, .*EngineError: no luck"):
        run_cells(cells)


def test_a_failing_cell_stops_no_other(cache: Path, tmp_path: Path) -> None:
    cells = [*odd(tmp_path / "notes", "fail", "exit", ""), *CELLS]
    with pytest.raises(
        CellsFailedError, match=r"2 of 9 cells failed; the first, '0 fail, seed 0': RuntimeError: no"
    ) as seen:
        run_cells(cells)
    assert [failure.cell for failure in seen.value.failures] == cells[:2]
    assert len(Store().cells()) == 7
    assert all(one.found for one in run_cells(cells[2:]))


def test_processes_are_for_much_work(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {place: runner.Task(cell.run) for place, cell in enumerate(CELLS)}
    monkeypatch.setattr(runner, "cores", lambda: 4)
    assert runner._processes(tasks, None, timed=False) == 1
    monkeypatch.setattr(runner, "seconds", lambda _: 1.0)
    assert runner._processes(tasks, None, timed=False) == 4
    assert runner._processes(tasks, None, timed=True) == 1
    assert runner._processes(tasks, 1, timed=False) == 1
    assert runner._processes(tasks, 100, timed=False) == 6
    assert runner._processes({0: tasks[0]}, 100, timed=False) == 1
    long = replace(RUN, rounds=10**6)
    assert seconds(long) > 100 > seconds(RUN)


def test_what_cannot_be_sent_runs_here(cache: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    def refuse(_: object) -> None:
        raise TypeError("cannot pickle 'generator' object")

    monkeypatch.setattr(runner, "share", refuse)
    assert len(run_cells(CELLS, jobs=2)) == len(CELLS)
    assert "cannot pickle 'generator' object" in capsys.readouterr().err


def test_cells_that_cannot_be_told_run_unstored_with_a_warning(cache: Path) -> None:
    with pytest.warns(UserWarning, match="cells are not stored: .* inside a function"):
        (done,) = run_cells([Cell("local", replace(RUN, compressor=local(2)))])
    assert same(done.trace, qsim.simulate(replace(RUN, compressor=local(2))))
    assert not Store().cells()


def test_a_full_disk_stops_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def full(self: qsim.Trace, path: Path) -> Path:
        calls.append(path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(qsim.Trace, "save", full)
        with pytest.raises(StoreError, match="No space left on device"):
            run_cells(CELLS)
    assert len(calls) == 1
    assert len(run_cells(CELLS)) == len(CELLS)


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(cache: Path, monkeypatch) -> None:
    (cache / "cells").write_text("a file where the folder should be")
    monkeypatch.setattr(runner, "compute", lambda *_: pytest.fail("a cell was computed in vain"))
    with pytest.raises(StoreError, match="no cell can be stored in .*cells, .* or run with --no-cache"):
        run_cells(CELLS)


def test_a_wrong_request_is_an_error_of_each_cell(cache: Path) -> None:
    with pytest.raises(CellsFailedError) as seen:
        run_cells([replace(cell, run=replace(cell.run, workers=1000)) for cell in CELLS])
    assert all(isinstance(failure.error, DataError) for failure in seen.value.failures)


def test_what_another_program_computes_is_waited_for(cache: Path) -> None:
    """The other computes cell 1 meanwhile: here 0 and 2 come first, and 1 is taken from the store."""
    order: list[int] = []
    real, store = compute, Store()

    def busy(task, where, after_round):
        number = next(n for n, cell in enumerate(CELLS) if cell.run == task.run)
        order.append(number)
        if number == 1 and order.count(1) == 1:
            return None
        if number == 1:
            store.save(task.identity, qsim.simulate(task.run))
        return real(task, where, after_round)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "compute", busy)
        done = run_cells(CELLS[:3])
    assert order == [0, 1, 2, 1]
    assert [one.found for one in done] == [False, True, False]


SLOW = """
import os
import time
from pathlib import Path
import numpy as np
import qsim
from matplotlib.figure import Figure
from qsim.study import Cell, Settings, Study

@qsim.option
class Slow(qsim.compressors.Compressor):
    pause: float
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        if self.pause > 1:
            Path(f"at-work-{os.getpid()}").touch()
        time.sleep(self.pause)
        return qsim.batch.Floats.single(v)

def cells(settings):
    return [
        Cell("slow", qsim.Run(qsim.datasets.load(settings.data), objective=qsim.LogisticRegression(l2=0.1),
             method=qsim.SGD(step=qsim.steps.Constant(0.1), batch=2), compressor=Slow(PAUSE),
             workers=settings.workers, rounds=settings.rounds, seed=seed))
        for seed in range(settings.seeds)
    ]

study = Study(title="Slow", questions=[], defaults=Settings("spark_sample", 2, 5, 8), cells=cells,
              setting=lambda s: "", answers=lambda r: [], draw=lambda r: Figure())
"""


def start(folder: Path, cache: Path, *arguments: str, pause: float = 0.03, heard: bool = True) -> subprocess.Popen[str]:
    """Start the slow study: eight cells, each of about ten pauses."""
    (folder / "slow.py").write_text(SLOW.replace("PAUSE", str(pause)))
    program = "import sys; from qsim.study.cli import main; sys.exit(main())"
    if heard:  # Ctrl-C, also as a background job
        program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {program}"
    environment = process_environment(QSIM_CACHE_DIR=str(cache))
    command = [sys.executable, "-c", program, "slow.py", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, env=environment, cwd=folder, start_new_session=True)


def wait_for(cells: int, seconds: float = 60) -> dict[Path, int]:
    """Wait until so many cells are stored; return when each was."""
    end = time.monotonic() + seconds
    while len(Store().cells()) < cells and time.monotonic() < end:
        time.sleep(0.01)
    return {path: path.stat().st_mtime_ns for path in Store().cells()}


def children(pid: int) -> set[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return {int(child) for child in found.read_text().split()} if found.exists() else set()


def test_a_killed_sweep_goes_on_and_ends_the_same(cache: Path, tmp_path: Path, monkeypatch) -> None:
    process = start(tmp_path, cache, "--jobs", "2", heard=False)
    before = wait_for(3)
    below = children(process.pid)
    process.kill()
    process.wait()
    assert 3 <= len(before) < 8
    assert below
    assert all_end(below)
    process.communicate()
    before = wait_for(3)  # what the children ended with
    process = start(tmp_path, cache, "--jobs", "2", heard=False)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    after = wait_for(8)
    assert len(after) == 8
    assert before.items() <= after.items()  # not written again
    (log,) = [path for path in (cache / "logs").iterdir() if f"-{process.pid}.log" in path.name]
    assert log.read_text().count("computed in") == 8 - len(before)
    _, study = catalog.find(str(tmp_path / "slow.py"))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for cell in study.cells(study.defaults):
        assert same(qsim.Trace.load(Store().path(cell.run)), qsim.simulate(cell.run))


def test_processes_end_with_the_program_whatever_they_are_doing(cache: Path, tmp_path: Path) -> None:
    process = start(tmp_path, cache, "--jobs", "2", heard=False, pause=60)
    end = time.monotonic() + 60
    while not (at_work := list(tmp_path.glob("at-work-*"))) and time.monotonic() < end:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert at_work
    assert all_end({int(path.name.rpartition("-")[2]) for path in at_work})
    process.communicate()  # not before: it waits for the processes that hold the pipes


def test_two_programs_share_the_work(cache: Path, tmp_path: Path) -> None:
    both = [start(tmp_path, cache, "--jobs", jobs, "--out", f"out{jobs}", heard=False) for jobs in ("1", "2")]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    logs = "".join(path.read_text() for path in (cache / "logs").iterdir())
    assert logs.count("computed in") == 8
    assert (tmp_path / "out1" / "slow.csv").read_bytes() == (tmp_path / "out2" / "slow.csv").read_bytes()


def all_end(pids: set[int], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while (left := any(Path(f"/proc/{pid}").exists() for pid in pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not left


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_what_is_finished(jobs: str, cache: Path, tmp_path: Path) -> None:
    process = start(tmp_path, cache, "--jobs", jobs)
    wait_for(2)
    below = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    stored = re.search(r"stopped; (\d) of 8 cells of slow are stored; the same command goes on", errors)
    assert stored, errors
    assert 2 <= int(stored.group(1)) <= len(Store().cells()) < 8
    assert "Traceback" not in errors
    assert not list((cache / "cells").rglob(".*"))
    assert all_end(below)


def test_lines_of_progress_are_few(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    shown = Progress("name", cells=100, found=10, rounds=9000)
    for cell in range(90):
        now += 1.0
        shown.rounds(60)
        shown.cell(40, found=cell == 0)
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == "name: 29 of 100 cells (11 stored before), 103 rounds/s, about 1:08 left"
