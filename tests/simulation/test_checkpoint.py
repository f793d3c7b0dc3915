"""Checkpoints: a run killed at any instant goes on to the same bits; another run's file is refused."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qsim
from helpers.paths import process_environment
from helpers.traces import same
from qsim.engines import Processes, Serial
from qsim.methods import Passes
from qsim.simulation.checkpoint import Checkpoint, CheckpointError
from qsim.storage import read_arrays

RUN = qsim.Run(
    qsim.datasets.synthetic(300, 400, 6, seed=5),
    objective=qsim.LogisticRegression(l2=1e-3),
    method=qsim.SGD(step=qsim.steps.Constant(0.5), batch=4, sampling=Passes()),
    compressor=qsim.ErrorFeedback(qsim.Scaled(qsim.QSGD(levels=2))),
    workers=11,
    rounds=20,
    evaluate_every=3,
)


class StopError(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, rounds: int, run: qsim.Run, path: Path, **options: object) -> None:
    """Simulate, but break off after so many rounds."""
    real = qsim.SGD.round

    def breaking(self, w, state, exchange):
        if exchange.round == rounds:
            raise StopError
        real(self, w, state, exchange)

    with monkeypatch.context() as patch:
        patch.setattr(qsim.SGD, "round", breaking)
        with pytest.raises(StopError):
            qsim.simulate(run, checkpoint=path, **options)


@pytest.mark.usefixtures("through_the_exchange")
@pytest.mark.parametrize("downlink", [qsim.downlinks.DenseWeights(), qsim.downlinks.SparseSum()])
@pytest.mark.parametrize("rounds", [1, 4, 13, 19])
def test_a_resumed_run_gives_the_same_bits(tmp_path, monkeypatch, rounds: int, downlink) -> None:
    run = replace(RUN, downlink=downlink)
    path = tmp_path / "run.npz"
    stop_after(monkeypatch, rounds, run, path, every=4)
    assert path.exists() == (rounds >= 4)
    played: list[int] = []
    real = qsim.SGD.round
    monkeypatch.setattr(qsim.SGD, "round", lambda self, w, s, ex: (played.append(ex.round), real(self, w, s, ex)))
    assert same(qsim.simulate(run, checkpoint=path, every=7), qsim.simulate(run))
    assert played[0] == rounds // 4 * 4
    played.clear()
    qsim.simulate(run, checkpoint=path)
    assert played == []  # a finished run is not run again


def test_engines_may_change_at_a_break(tmp_path, monkeypatch) -> None:
    expected = qsim.simulate(RUN)
    engines = [Serial(block=2), Processes(2), Serial(threads=2, block=3), Processes(3)]
    path = tmp_path / "run.npz"
    for rounds, engine in zip((5, 10, 15), engines, strict=False):
        stop_after(monkeypatch, rounds, RUN, path, every=5, engine=engine)
    assert same(qsim.simulate(RUN, checkpoint=path, engine=engines[-1]), expected)


def test_a_rule_that_ended_the_run_is_remembered(tmp_path) -> None:
    bound = float(qsim.simulate(RUN).frame["suboptimality"].dropna().iloc[3])
    run = replace(RUN, until=qsim.stopping.Suboptimality(bound))
    first = qsim.simulate(run, checkpoint=tmp_path / "run.npz", every=2)
    assert len(first.frame) < 21
    assert same(first, qsim.simulate(run, checkpoint=tmp_path / "run.npz", every=2))


def test_another_runs_checkpoint_is_refused_and_the_differences_named(tmp_path) -> None:
    path = tmp_path / "run.npz"
    qsim.simulate(RUN, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"seed was 0, now 1; .*|seed was 0, now 1"):
        qsim.simulate(replace(RUN, seed=1), checkpoint=path)
    other = replace(RUN, compressor=qsim.QSGD(3), data=qsim.datasets.synthetic(300, 400, 6, seed=6))
    with pytest.raises(CheckpointError) as caught:
        qsim.simulate(other, checkpoint=path)
    for words in ("compressor was", "QSGD(levels=3", "data was", RUN.load().digest):
        assert words in str(caught.value)
    assert "seed" not in str(caught.value).replace("seed=", "")


@pytest.mark.usefixtures("through_the_exchange")
def test_torn_files_fall_back_a_generation(tmp_path, monkeypatch) -> None:
    path = tmp_path / "run.npz"
    stop_after(monkeypatch, 13, RUN, path, every=4)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="torn"):
        assert same(qsim.simulate(RUN, checkpoint=path), qsim.simulate(RUN))
    for torn in tmp_path.iterdir():
        torn.write_bytes(b"PK")
    with pytest.warns(UserWarning, match="torn"), pytest.raises(CheckpointError, match="delete it"):
        qsim.simulate(RUN, checkpoint=path)
    path.unlink()
    (tmp_path / "run.before.npz").unlink()
    with pytest.raises(ValueError, match="run.ckpt.npz"):
        qsim.simulate(RUN, checkpoint=tmp_path / "run.ckpt")
    with pytest.raises(ValueError, match="every"):
        qsim.simulate(RUN, checkpoint=path, every=0)


def test_only_arrays_and_text_are_stored(tmp_path) -> None:
    qsim.simulate(RUN, checkpoint=tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz", allow_pickle=False) as stored:
        assert all(stored[name].dtype.kind in "biufU" for name in stored)


PROGRAM = """
import sys, qsim
run = {run}
trace = qsim.simulate(run, checkpoint=sys.argv[1], every=1)
print(trace.weights.tobytes().hex(), trace.frame.to_csv())
"""


def test_a_run_killed_at_random_instants_ends_with_the_same_bits(tmp_path) -> None:
    """kill -9, five times, at random moments of a run that writes a checkpoint every round."""
    run = replace(RUN, rounds=1500, evaluate_every=50)
    program = PROGRAM.format(run=run)
    settings = process_environment()
    path, generator = tmp_path / "run.npz", random.Random(1)
    command = [sys.executable, "-c", program, str(path)]
    kills = 0
    for _ in range(12):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=settings)
        started = time.monotonic()
        while not path.exists() and process.poll() is None and time.monotonic() - started < 60:
            time.sleep(0.01)
        time.sleep(0.9 + 0.5 * generator.random())
        if kills < 5 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        out, _ = process.communicate()
        if process.returncode == 0:
            break
    assert kills >= 2
    trace = qsim.simulate(run)
    assert out.strip() == f"{trace.weights.tobytes().hex()} {trace.frame.to_csv()}".strip()
    assert (
        not [leftover for leftover in tmp_path.iterdir() if leftover.name not in ("run.npz", "run.before.npz")] or kills
    )


@pytest.mark.usefixtures("through_the_exchange")
def test_a_torn_file_does_not_take_the_place_of_a_good_one(tmp_path, monkeypatch) -> None:
    path, before = tmp_path / "run.npz", tmp_path / "run.before.npz"
    stop_after(monkeypatch, 13, RUN, path, every=4)
    path.write_bytes(b"PK")
    with pytest.warns(UserWarning, match="torn"):
        stop_after(monkeypatch, 13, RUN, path, every=4)
    done = []
    for file in (path, before):
        with np.load(file) as stored:
            done.append(int(stored["done"]))
    assert done == [12, 8]


# What a run is known by.

SMALL = qsim.Run(
    qsim.datasets.load("spark_sample"),
    objective=qsim.LogisticRegression(l2=0.1),
    method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
    workers=2,
    rounds=6,
    optimum=False,
)


def stopped(run: qsim.Run, path: Path, after: int = 5) -> None:
    """Run until a round, with a checkpoint every two."""

    def stop(done: int) -> None:
        if done == after:
            raise StopError

    with pytest.raises(StopError):
        qsim.simulate(run, checkpoint=path, every=2, after_round=stop)


def with_values(data: qsim.Dataset, values: np.ndarray) -> qsim.Dataset:
    return qsim.Dataset(data.indptr, data.indices, values, data.labels, data.features, data.name)


@pytest.mark.parametrize("part", ["data", "test"])
def test_other_content_with_the_same_repr_is_another_run(tmp_path, part: str) -> None:
    data = SMALL.load()
    one, other = with_values(data, data.values), with_values(data, -data.values)
    assert repr(one) == repr(other)
    stopped(replace(SMALL, **{part: one}), tmp_path / "run.npz")
    with pytest.raises(CheckpointError, match=f"{part} was .* content {one.digest}, now .* content {other.digest}"):
        qsim.simulate(replace(SMALL, **{part: other}), checkpoint=tmp_path / "run.npz")
    resumed = qsim.simulate(replace(SMALL, **{part: one}), checkpoint=tmp_path / "run.npz")
    assert same(resumed, qsim.simulate(replace(SMALL, **{part: one})))


@qsim.option
class At(qsim.starts.Start):
    """Starts at given weights, whose repr leaves the middle out when there are many."""

    values: np.ndarray

    def weights(self, n, key):
        return np.resize(self.values, n).astype(float)


def test_arrays_that_print_the_same_are_told_apart(tmp_path) -> None:
    one, other = np.zeros(5000), np.zeros(5000)
    other[2500] = 1.0
    assert repr(At(one)) == repr(At(other))
    stopped(replace(SMALL, start=At(one)), tmp_path / "run.npz")
    with pytest.raises(CheckpointError, match="start holds something else, though it prints as"):
        qsim.simulate(replace(SMALL, start=At(other)), checkpoint=tmp_path / "run.npz")


def test_of_long_parameters_the_difference_is_shown(tmp_path) -> None:
    networks = [qsim.Network(timelines=[*range(1, 300), last]) for last in (300, 301)]
    stopped(replace(SMALL, network=networks[0]), tmp_path / "run.npz")
    with pytest.raises(CheckpointError, match=r"network was .* 299, 300\)\), now .* 299, 301\)\)") as caught:
        qsim.simulate(replace(SMALL, network=networks[1]), checkpoint=tmp_path / "run.npz")
    assert len(str(caught.value)) < 1000


MINE = """
import numpy as np, qsim
FACTOR = 1.0

@qsim.option
class Mine(qsim.compressors.Compressor):
    emits = qsim.batch.Floats
    def quantize(self, v, key):
        return qsim.batch.Floats.single(FACTOR * v)
"""
RESUME = """
import sys, qsim
sys.path.insert(0, sys.argv[1])
import mine
run = qsim.Run(qsim.datasets.load("spark_sample"), qsim.LogisticRegression(l2=0.1),
               qsim.GradientDescent(step=qsim.steps.Constant(0.1)), mine.Mine(), workers=2, rounds=6, optimum=False)
def stop(done):
    if done == int(sys.argv[2]):
        raise SystemExit("killed")
try:
    print(qsim.simulate(run, checkpoint=sys.argv[1] + "/run.npz", every=2, after_round=stop))
except qsim.simulation.checkpoint.CheckpointError as error:
    print(error)
"""


def test_an_edit_of_a_users_source_between_kill_and_resume_is_told(tmp_path) -> None:
    def run(stop: int) -> str:
        settings = process_environment(PYTHONDONTWRITEBYTECODE="1")
        command = [sys.executable, "-c", RESUME, str(tmp_path), str(stop)]
        return subprocess.run(command, capture_output=True, text=True, env=settings, check=False).stdout

    (tmp_path / "mine.py").write_text(MINE)
    assert run(5) == ""
    (tmp_path / "mine.py").write_text(MINE.replace("1.0", "0.1"))
    assert "run.npz is of another run: the source mine.py was edited. Name another file" in run(9)
    (tmp_path / "mine.py").write_text(MINE)
    assert run(9).startswith("Trace(6 rounds")


def test_a_class_without_a_source_is_refused(tmp_path) -> None:
    @qsim.option
    class Local(qsim.compressors.Compressor):
        emits = qsim.batch.Floats

        def quantize(self, v, key):
            return qsim.batch.Floats.single(v)

    run = replace(SMALL, compressor=Local())
    qsim.simulate(run)
    with pytest.raises(CheckpointError, match="made inside a function; define it at the top of a file"):
        qsim.simulate(run, checkpoint=tmp_path / "run.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "told"), [("numpy", "numpy was .*, now another"), ("processor", "processor was .*, now another")]
)
def test_another_version_or_machine_is_told(tmp_path, monkeypatch, name: str, told: str) -> None:
    from qsim import identity

    stopped(SMALL, tmp_path / "run.npz")
    here = dict(identity.place())
    monkeypatch.setattr(identity, "place", lambda: here | {name: "another"})
    with pytest.raises(CheckpointError, match=told):
        qsim.simulate(SMALL, checkpoint=tmp_path / "run.npz")
    monkeypatch.undo()
    monkeypatch.setattr(identity, "sources_digest", lambda: "edited")
    with pytest.raises(CheckpointError, match="another run: the sources of qsim are others"):
        qsim.simulate(SMALL, checkpoint=tmp_path / "run.npz")


def test_whichever_byte_is_harmed_the_older_generation_is_taken(tmp_path) -> None:
    """Members, their headers, the directory, the seal: a flipped bit is seen anywhere, and so is what is cut off."""
    path, before = tmp_path / "run.npz", tmp_path / "run.before.npz"
    stopped(SMALL, path)
    whole, older = path.read_bytes(), before.read_bytes()
    generator = random.Random(0)
    places = [*range(0, len(whole), 11), *range(len(whole) - 600, len(whole))]
    harmed = [whole[:at] + bytes([whole[at] ^ (1 << generator.randrange(8))]) + whole[at + 1 :] for at in places]
    harmed += [whole[:at] for at in range(0, len(whole), 997)]
    harmed += [whole + b"0", b"0" + whole, whole[: len(whole) // 2] + whole[len(whole) // 2 + 1 :], whole + whole]
    store = Checkpoint(path, SMALL)
    for content in harmed:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is torn, or was not written by qsim"):
            read_arrays(path)
    for content in harmed[::20]:
        path.write_bytes(content)
        with pytest.warns(UserWarning, match=r"can't be used: .* is torn"):
            state = store.load()
        assert state is not None
        assert int(state["done"]) == 2
    before.write_bytes(older[:-1] + bytes([older[-1] ^ 1]))
    with pytest.warns(UserWarning, match="torn"), pytest.raises(CheckpointError, match="no generation"):
        store.load()


def test_the_files_are_read_by_numpy_too(tmp_path) -> None:
    stopped(SMALL, tmp_path / "run.npz")
    saved = Checkpoint(tmp_path / "run.npz", SMALL).load()
    assert saved is not None
    with np.load(tmp_path / "run.npz", allow_pickle=False) as stored:
        assert set(stored) == {*saved, "identity"}
        assert all(stored[name].tobytes() == saved[name].tobytes() for name in saved)
