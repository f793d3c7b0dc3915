"""Engines: the promises that all keep, and the faults that `Processes` survives."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qsim
from helpers.paths import process_environment
from helpers.traces import same
from qsim.engines import EngineError, Processes, Serial
from qsim.testing import check_engine
from qsim.workers.tasks import Job

DATA = qsim.datasets.synthetic(400, 500, 6, seed=5)
RUN = qsim.Run(
    DATA,
    objective=qsim.LogisticRegression(l2=1e-3),
    method=qsim.SGD(step=qsim.steps.Constant(0.5), batch=4),
    compressor=qsim.ErrorFeedback(qsim.Scaled(qsim.QSGD(levels=2))),
    workers=11,
    rounds=12,
    optimum=False,
    evaluate_every=5,
)


@pytest.mark.parametrize(
    "engine",
    [
        Serial(),
        Serial(block=4),
        Serial(block=2, threads=2),
        Processes(2),
        Processes(3, block=2),
        Processes(2, start="fork"),
    ],
    ids=repr,
)
def test_engines_keep_their_promises(engine: qsim.engines.Engine) -> None:
    report = check_engine(engine)
    assert report.good, str(report)


def test_spawned_processes_give_the_same_bits() -> None:
    assert same(qsim.simulate(RUN), qsim.simulate(RUN, engine=Processes(2, start="spawn")))


def test_a_process_killed_inside_a_round_is_replaced(tmp_path: Path) -> None:
    """The compressor itself kills its process, once, in round 7: the run ends with the same bits as one without."""

    @qsim.option
    class Deadly(qsim.compressors.Compressor):
        mark: str
        emits = qsim.batch.Floats

        def quantize(self, v, key):
            Path(self.mark + str(os.getpid())).touch()
            if key == qsim.Key(0).fold(3, 7, 0, 10) and not Path(self.mark).exists():
                Path(self.mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return qsim.batch.Floats.single(np.round(v, 3))

        def contraction(self, n):
            return 0.5

    (tmp_path / "spared").touch()
    spared = replace(RUN, compressor=qsim.ErrorFeedback(Deadly(str(tmp_path / "spared"))))
    deadly = replace(RUN, compressor=qsim.ErrorFeedback(Deadly(str(tmp_path / "mark"))))
    assert same(qsim.simulate(spared), qsim.simulate(deadly, engine=Processes(2)))
    assert (tmp_path / "mark").exists()
    assert len(list(tmp_path.glob("mark[0-9]*"))) == 3  # two, and one in place of the killed; not in this one


def test_a_hung_process_is_replaced() -> None:
    expected = qsim.simulate(RUN)

    class Freezing(Processes):
        def open(self, job):
            session = super().open(job)
            running = session.round

            def freeze(order):
                if order.round == 5:
                    os.kill(session.pids[1], signal.SIGSTOP)
                return running(order)

            session.round = freeze
            return session

    start = time.monotonic()
    assert same(expected, qsim.simulate(RUN, engine=Freezing(2, patience=5.0)))
    assert time.monotonic() - start > 5.0


def test_a_process_that_always_dies_is_an_error() -> None:
    @qsim.option
    class Fatal(qsim.compressors.Compressor):
        parent: int
        emits = qsim.batch.Floats

        def quantize(self, v, key):
            if os.getpid() != self.parent:
                os._exit(3)
            return qsim.batch.Floats.single(v)

    with pytest.raises(EngineError, match=r"ended 3 times in a row.* exit code was 3"):
        qsim.simulate(replace(RUN, compressor=Fatal(os.getpid())), engine=Processes(2))


def test_errors_of_workers_arrive_with_their_traceback() -> None:
    @qsim.option
    class Mistaken(qsim.compressors.Compressor):
        emits = qsim.batch.Floats

        def quantize(self, v, key):
            if key == qsim.Key(0).fold(3, 4, 0, 9):
                raise LookupError("worker nine's mistake")
            return qsim.batch.Floats.single(v)

    for engine in (Serial(), Processes(2)):
        with pytest.raises(LookupError, match="worker nine's mistake") as caught:
            qsim.simulate(replace(RUN, compressor=Mistaken()), engine=engine)
        notes = "\n".join(caught.value.__notes__)
        assert "worker 9, round 4" in notes
        if isinstance(engine, Processes):
            assert "in quantize" in notes


def loaded_by_path(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_compressors_of_files_loaded_by_path_work(tmp_path: Path, monkeypatch) -> None:
    """Also if another file of that name could be imported, and inside what a class of `__main__` or a tuple holds."""
    text = (
        "import numpy as np, qsim\n"
        "@qsim.option\nclass Scaled(qsim.compressors.Compressor):\n    emits = qsim.batch.Floats\n"
        "    def quantize(self, v, key):\n        return qsim.batch.Floats.single(v / FACTOR)\n"
        "@qsim.option\nclass First(qsim.compressors.Compressor):\n    parts: tuple\n    emits = qsim.batch.Floats\n"
        "    def quantize(self, v, key):\n        return self.parts[0].quantize(v, key)\n"
    )
    for folder, factor in (("found", 3), ("hidden", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "hidden_part.py").write_text(text.replace("FACTOR", str(factor)))
    (tmp_path / "hidden" / "hidden_whole.py").write_text(text.replace("FACTOR", "5"))
    monkeypatch.syspath_prepend(tmp_path / "found")
    part = loaded_by_path("hidden_part", tmp_path / "hidden" / "hidden_part.py")
    whole = loaded_by_path("xml.hidden_whole", tmp_path / "hidden" / "hidden_whole.py")
    for compressor in (part.Scaled(), whole.First((part.Scaled(),))):
        run = replace(RUN, compressor=compressor, rounds=3)
        for start in ("forkserver", "spawn"):
            assert same(qsim.simulate(run), qsim.simulate(run, engine=Processes(2, start=start)))


def test_what_fails_while_a_process_sets_up_arrives(tmp_path: Path) -> None:
    @qsim.option
    class Fussy(qsim.compressors.Compressor):
        parent: int
        emits = qsim.batch.Floats

        def quantize(self, v, key):
            return qsim.batch.Floats.single(v)

        def memory(self, support):
            if os.getpid() != self.parent:
                raise LookupError("no memory for this process")

    with pytest.raises(LookupError, match="no memory for this process"):
        qsim.simulate(replace(RUN, compressor=Fussy(os.getpid())), engine=Processes(2))


def test_an_error_while_starting_leaves_nothing(monkeypatch) -> None:
    """The second of three processes cannot be started: the first ends, and every descriptor is closed."""
    from qsim.engines import processes
    from qsim.testing.engine import _job

    started = []
    real = processes._Child.start

    def start(self):
        if len(started) == 1:
            raise KeyboardInterrupt
        real(self)
        started.append(self.pid)

    monkeypatch.setattr(processes._Child, "start", start)
    with pytest.raises(KeyboardInterrupt):
        Processes(3, start="fork").open(_job(qsim.QSGD(2)))
    assert started
    assert not any(alive(pid) for pid in started)


def test_a_process_stopped_in_a_long_message_is_replaced() -> None:
    """Snapshots and restores of 180 kB, to and from a process that is stopped: patience holds there too."""
    data = qsim.datasets.synthetic(3000, 60_000, 60, seed=1)
    run = replace(RUN, data=data, workers=4)
    shards = run.partition.split(data, 4, qsim.Key(0))
    job = Job(shards, run.objective, run.method, qsim.Channel(run.compressor), qsim.Key(0))
    with Processes(2, patience=5.0).open(job) as session:
        first = session.snapshot()
        assert sum(array.nbytes for array in first.values()) > 150_000  # a pipe holds less unread
        for task in (session.snapshot, lambda: session.restore(first)):
            os.kill(session.pids[0], signal.SIGSTOP)
            task()
        again = session.snapshot()
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_a_session_goes_on_after_an_error(monkeypatch) -> None:
    """An error breaks a round off while others are still at it: their answers are not taken for the next round's."""
    from qsim.testing.engine import _expected, _Failing, _job, _run

    job = _job(_Failing())
    with Processes(3).open(job) as session:
        found = _run(session, range(2), job)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                _run(session, range(2, 3), job)
        found += _run(session, range(3, 5), job)
    assert found == _expected(job, range(2)) + _expected(job, range(3, 5))


def test_a_session_goes_on_after_an_interrupted_wait(monkeypatch) -> None:
    """The answers that were not waited for are not taken for the next round's."""
    from qsim.engines import processes
    from qsim.testing.engine import _expected, _job, _run

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    job = _job(qsim.QSGD(levels=2))
    with Processes(3).open(job) as session:
        found = _run(session, range(2), job)
        with monkeypatch.context() as patch:
            patch.setattr(processes, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                _run(session, range(2, 3), job)
        found += _run(session, range(3, 5), job)
    assert found == _expected(job, range(2)) + _expected(job, range(3, 5))


def test_processes_killed_while_they_are_revived() -> None:
    """Each twice, at moments that drift through start, restore, replay and work: at most two ends in a row."""
    expected = qsim.simulate(RUN)
    hunters: list[threading.Timer] = []

    def hunt(session, number: int) -> None:
        for _ in range(2):
            with contextlib.suppress(ProcessLookupError):
                os.kill(session.pids[number], signal.SIGKILL)
            time.sleep(0.3)

    class Hunted(Processes):
        def open(self, job):
            session = super().open(job)
            running = session.round

            def round_while_hunted(order):
                if order.round in (3, 8):
                    for hunter in hunters:
                        hunter.join()  # or a child might be killed three times in a row
                    for number in range(2):
                        hunters.append(threading.Timer(0.1 * order.round * number, hunt, (session, number)))
                        hunters[-1].start()
                return running(order)

            session.round = round_while_hunted
            return session

    found = qsim.simulate(RUN, engine=Hunted(2, start="fork"))
    for hunter in hunters:
        hunter.join()
    assert same(expected, found)
    assert len(hunters) == 4


def test_opening_and_closing_leaks_nothing() -> None:
    from qsim.testing.engine import _job, _run

    def descriptors() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    counts = []
    for _ in range(6):
        job = _job(qsim.QSGD(2))
        with Processes(2, start="fork").open(job) as session:
            _run(session, range(2), job)
        del session
        counts.append(descriptors())
    assert counts[-1] <= counts[0]


@pytest.mark.parametrize(
    "bad", [{"processes": 0}, {"threads": 0}, {"start": "thread"}, {"block": 0}, {"patience": 0}, {"threads": 1000}]
)
def test_bad_options_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Processes(**bad)


SCRIPT = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may have been told to ignore it
import numpy as np
import qsim

@qsim.option
class Slow(qsim.compressors.Compressor):
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        time.sleep({delay})
        return qsim.batch.Floats.single(v)

data = qsim.datasets.synthetic(100, 50, 4, seed=1)
run = qsim.Run(data, objective=qsim.LogisticRegression(l2=0.1), method=qsim.GradientDescent(qsim.steps.Constant(0.1)),
               compressor=Slow(), workers=6, rounds={rounds}, optimum=False)
engine = qsim.engines.{engine}
if {watch}:
    opened = qsim.engines.Processes.open
    def open(self, job):
        session = opened(self, job)
        print(*session.pids, flush=True)
        return session
    qsim.engines.Processes.open = open
trace = qsim.simulate(run, engine=engine)
print(trace.weights.tobytes().hex())
"""


def script(tmp_path: Path, **values: object) -> list[str]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(**values))
    return [sys.executable, str(path)]


@pytest.mark.parametrize("start", ["spawn", "forkserver", "fork"])
def test_a_class_from_an_unguarded_script_works_in_processes(tmp_path: Path, start: str) -> None:
    """As a user writes it, without `if __name__ == "__main__"`; and as a notebook does, without a file."""
    engines = ("Serial()", f"Processes(2, start={start!r})")
    outputs = []
    for engine in engines:
        command = script(tmp_path, delay=0, rounds=3, engine=engine, watch=False)
        done = subprocess.run(
            command, capture_output=True, text=True, env=process_environment(), cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    text = SCRIPT.format(delay=0, rounds=3, engine=engines[1], watch=False)
    done = subprocess.run(
        [sys.executable],
        input=text,
        capture_output=True,
        text=True,
        env=process_environment(),
        cwd=tmp_path,
        check=False,
    )
    outputs.append(done.stdout)
    assert outputs[0] == outputs[1] == outputs[2] != ""


@pytest.mark.parametrize("start", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_parents_end_leaves_nothing(tmp_path: Path, start: str, how: signal.Signals) -> None:
    """Killed or interrupted in the middle of a round: every process ends, and no shared memory has a name."""
    before, temporary = named_shared_memory(), tmp_path / "temporary"
    temporary.mkdir()
    command = script(tmp_path, delay=0.3, rounds=1000, engine=f"Processes(2, start={start!r})", watch=True)
    environment = process_environment(TMPDIR=str(temporary))
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.5)
    parent.send_signal(how)
    try:
        _, errors = parent.communicate(timeout=30)
    finally:
        parent.kill()
    assert parent.returncode != 0
    assert how == signal.SIGKILL or "KeyboardInterrupt" in errors
    end = time.monotonic() + 20
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)
    assert named_shared_memory() <= before
    assert {path.name for path in temporary.rglob("*")} <= {f"qsim-{os.getuid()}", "sockets.lock"}


def named_shared_memory() -> set[str]:
    folder = Path("/dev/shm")  # semaphores, which we make none of, come and go with other programs
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return {name for name in names if not name.startswith("sem.")}


def alive(pid: int) -> bool:
    """Whether a process runs (one that ended, but nobody waited for, does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_many_processes_start_on_an_empty_cache(tmp_path: Path) -> None:
    """The parent compiles before the children start: 6 of them find all kernels, 3 times over, with one notice each."""
    for attempt in range(3):
        command = script(tmp_path, delay=0, rounds=2, engine="Processes(6)", watch=False)
        environment = process_environment(QSIM_CACHE_DIR=str(tmp_path / str(attempt)))
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("compiling kernels") == 1
        assert len(done.stdout.strip()) == 16 * 50


@pytest.mark.parametrize("workers", [3, 100, 300])
def test_blocks_fit_the_cache_and_feed_the_threads(workers: int) -> None:
    """What passes through the stages together stays near a megabyte, be it sparse or dense; each thread has work."""
    from qsim.workers.group import WorkerGroup

    def blocks(data, threads: int = 1, **options: object) -> list[int]:
        run = replace(RUN, data=data, compressor=qsim.QSGD(2), workers=workers, **options)
        shards = run.partition.split(data, workers, qsim.Key(0))
        job = Job(shards, run.objective, run.method, qsim.Channel(run.compressor, run.codec), qsim.Key(0))
        host = WorkerGroup(job, 0, workers, threads=threads)
        host.close()
        return [part.block.workers for part in host._blocks]

    wide = qsim.datasets.synthetic(300, 100_000, 20, seed=1)
    assert len(blocks(DATA)) == 1
    assert sum(blocks(wide)) == workers
    assert max(blocks(wide, codec=qsim.codecs.Dense())) <= 2
    assert min(len(blocks(DATA, threads=2)), 4) >= min(workers, 4) - 1


def test_dense_rounds_that_no_machine_holds_are_refused() -> None:
    data = qsim.datasets.synthetic(20_000, 1_000_000, 2, seed=1)
    run = replace(RUN, data=data, compressor=qsim.Identity(), workers=10_000, rounds=1)
    with pytest.raises(ValueError, match=r"40 GB per round; .*SparseFloats"):
        qsim.simulate(run)
    trace = qsim.simulate(replace(run, codec=qsim.codecs.SparseFloats(), downlink=qsim.downlinks.SparseSum()))
    assert trace.columns["nonzeros"][1] > 0
