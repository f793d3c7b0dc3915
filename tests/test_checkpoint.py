"""Checkpoints: a run killed at any instant goes on to the same bits; another run's file is refused."""

from __future__ import annotations

import os
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
from qsim.checkpoint import CheckpointError
from qsim.engines import Processes, Serial
from qsim.methods import Passes

PACKAGE = Path(qsim.__file__).parent
RUN = qsim.Run(
    qsim.datasets.synthetic(300, 400, 6, seed=5),
    objective=qsim.LogisticRegression(l2=1e-3),
    method=qsim.SGD(step=qsim.steps.Constant(0.5), batch=4, sampling=Passes()),
    compressor=qsim.ErrorFeedback(qsim.Scaled(qsim.QSGD(levels=2))),
    workers=11,
    rounds=20,
    evaluate_every=3,
)


def same(a: qsim.Trace, b: qsim.Trace) -> bool:
    return np.array_equal(a.weights, b.weights) and a.frame.equals(b.frame)


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
    run = replace(RUN, until=qsim.until.Suboptimality(bound))
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
    for words in ("compressor was", "QSGD(levels=3", "the data's digest was", RUN.load().digest):
        assert words in str(caught.value)
    assert "seed" not in str(caught.value).replace("seed=", "")


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
        assert all(stored[name].dtype.kind in "iufU" for name in stored)


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
    settings = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
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
