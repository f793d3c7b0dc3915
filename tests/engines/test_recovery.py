"""Recovery: processes killed after snapshots and restores, large mail, and which rounds a checkpoint holds."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qsim
from helpers.traces import same
from qsim.batch import Vectors
from qsim.engines import Processes, Serial, recovery
from qsim.methods import Method, Passes
from qsim.simulation.checkpoint import CheckpointError

RUN = qsim.Run(
    qsim.datasets.synthetic(300, 400, 6, seed=5),
    objective=qsim.LogisticRegression(l2=1e-3),
    method=qsim.SGD(step=qsim.steps.Constant(0.5), batch=4, sampling=Passes()),
    compressor=qsim.ErrorFeedback(qsim.Scaled(qsim.QSGD(levels=2))),
    workers=7,
    rounds=12,
    evaluate_every=4,
    optimum=False,
)


class Killing(Processes):
    """Kills a process before each of some rounds; notes how many orders are kept for replay."""

    rounds: Sequence[int] = ()
    kept: list[int]

    def open(self, job):
        session = super().open(job)
        running = session.round

        def kill(order):
            self.kept.append(len(session._log))
            if order.round in self.rounds:
                os.kill(session.pids[order.round % 2], signal.SIGKILL)
            return running(order)

        session.round = kill
        return session


def killing(*rounds: int) -> Killing:
    engine = Killing(2)
    object.__setattr__(engine, "rounds", rounds)
    object.__setattr__(engine, "kept", [])
    return engine


@pytest.mark.parametrize(
    ("name", "most", "kept"),
    [
        ("_LOG_ROUNDS", 3, [0, 1, 2] * 4),
        ("_LOG_BYTES", 4 * 400 * 3 - 1, [0, 1, 2, 3] * 3),  # the first weights are not counted
        ("_LOG_BYTES", 0, [0, 1] * 6),
    ],
)
def test_a_process_killed_after_a_snapshot_goes_on_from_it(monkeypatch, name: str, most: int, kept: list[int]) -> None:
    """Before the first, right after one, and some rounds later; with the orders since, and no others."""
    monkeypatch.setattr(recovery, name, most)
    engine = killing(1, 3, 8)
    assert same(qsim.simulate(RUN), qsim.simulate(RUN, engine=engine))
    assert engine.kept == kept


@pytest.mark.parametrize("most", [1, 3, 50])
def test_a_process_killed_before_it_knows_what_was_delivered(monkeypatch, most: int) -> None:
    """Between its reply and the news of what was dropped; with snapshots, which wait for the news, of any distance."""
    monkeypatch.setattr(recovery, "_LOG_ROUNDS", most)
    network = qsim.Network(
        machines=qsim.network.Machines(delay=qsim.network.Exponential(1.0)), rule=qsim.network.Fastest(2)
    )
    run = replace(RUN, network=network)

    class Hunting(Processes):
        def open(self, job):
            session = super().open(job)
            settle, turns = session.on_delivered, iter(range(100))

            def kill(delivered):
                turn = next(turns)
                if turn in (1, 4, 8):
                    os.kill(session.pids[turn % 2], signal.SIGKILL)
                settle(delivered)

            session.on_delivered = kill
            return session

    expected = qsim.simulate(run)
    assert expected.frame["dropped"].sum() > 0
    assert same(expected, qsim.simulate(run, engine=Hunting(2)))


def test_nothing_is_kept_for_replay_of_workers_without_a_state() -> None:
    run = replace(RUN, method=qsim.SGD(step=qsim.steps.Constant(0.5), batch=4), compressor=qsim.QSGD(levels=2))
    engine = killing(4)
    assert same(qsim.simulate(run), qsim.simulate(run, engine=engine))
    assert engine.kept == [0] * 12


def test_a_process_killed_after_a_restore_goes_on_from_it(tmp_path) -> None:
    """The run is resumed from round 5, and its processes are killed in rounds 5 and 7."""

    class StopError(Exception):
        pass

    def stop(done: int) -> None:
        if done == 6:
            raise StopError

    with pytest.raises(StopError):
        qsim.simulate(RUN, checkpoint=tmp_path / "run.npz", every=5, after_round=stop, engine=Serial(block=3))
    engine = killing(5, 7)
    assert same(qsim.simulate(RUN, checkpoint=tmp_path / "run.npz", engine=engine), qsim.simulate(RUN))
    assert engine.kept == [0, 1, 2, 3, 4, 5, 6]


@qsim.option
class Growing(Method):
    """Every worker sends more from round to round: 1, 2,001, 4,001, ... non-zeros of 5 bytes each."""

    def round(self, w, state, exchange):
        w.subtract(exchange("send", w).vector)

    def work(self, task, objective, block, memory):
        rows, size = block.high - block.low, 2000 * task.round + 1
        value = np.concatenate([np.arange(1, size + 1) + worker for worker in range(block.low, block.high)])
        index = np.tile(np.arange(size, dtype=np.int32), rows)
        return Vectors(block.n, np.arange(rows + 1) * size, index, (value / 64).astype(np.float32))


@pytest.mark.quick
@pytest.mark.parametrize("block", [1, 2, None])
def test_packets_of_any_size_come_back(block: int | None) -> None:
    """From a few bytes to 200,000 a process and round: the mail grows in the middle of a round, and between rounds."""
    data = qsim.Dataset.from_arrays(np.eye(10, 12_000), np.array([1, -1] * 5), empty="keep")
    run = replace(RUN, data=data, method=Growing(), compressor=qsim.Identity(), codec=qsim.codecs.SparseFloats())
    run = replace(run, rounds=6)
    trace = qsim.simulate(run, engine=Processes(2, block=block))
    weights = np.zeros(12_000)
    for t in range(6):
        size = 2000 * t + 1
        weights[:size] -= (np.arange(1, size + 1) + mean_worker(run)) / 64
    np.testing.assert_allclose(trace.weights, weights, rtol=1e-12)
    assert same(trace, qsim.simulate(run))


@pytest.fixture
def ram_disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A RAM disk with room for files of 64 kB each; and how often there was no room. Forked processes inherit it."""
    real, disk, refused = os.posix_fallocate, Path("/dev/shm").stat().st_dev, []

    def limited(descriptor: int, start: int, size: int) -> None:
        if os.fstat(descriptor).st_dev == disk and start + size > 1 << 16:
            refused.append(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor, start, size)

    monkeypatch.setattr(os, "posix_fallocate", limited)
    return refused


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no RAM disk")
def test_a_small_ram_disk_is_left_for_the_temporary_folder(ram_disk: list[int], monkeypatch) -> None:
    """By packets that grow in the middle of a run, by snapshots of what workers keep, and by the job, large at once."""
    data = qsim.Dataset.from_arrays(np.eye(10, 12_000), np.array([1, -1] * 5), empty="keep")
    growing = replace(RUN, data=data, method=Growing(), compressor=qsim.Identity(), codec=qsim.codecs.SparseFloats())
    keeping = replace(RUN, data=qsim.datasets.synthetic(3000, 60_000, 60, seed=1), workers=4)
    monkeypatch.setattr(recovery, "_LOG_ROUNDS", 2)
    for run in (growing, keeping):
        run = replace(run, rounds=6)
        ram_disk.clear()
        assert same(qsim.simulate(run), qsim.simulate(run, engine=Processes(2, start="fork")))
        assert ram_disk


def test_no_room_anywhere_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        OSError, match=r"no room for .* MB that processes share \(No space left on device; there are .* set TMPDIR"
    ):
        qsim.simulate(RUN, engine=Processes(2))


def mean_worker(run: qsim.Run) -> float:
    shards = run.partition.split(run.load(), run.workers, qsim.Key(run.seed).fold(0))
    return float(shards.weights @ np.arange(run.workers))


def done(path) -> int:
    with np.load(path) as stored:
        return int(stored["done"])


@pytest.mark.parametrize(
    ("every", "last", "before"), [(1, 12, 11), (5, 12, 10), (6, 12, 6), (12, 12, None), (50, 12, None)]
)
def test_two_generations_are_kept(tmp_path, every: int, last: int, before: int | None) -> None:
    """The last round whatever `every` is, and the multiple of `every` before it."""
    qsim.simulate(RUN, checkpoint=tmp_path / "run.npz", every=every)
    assert done(tmp_path / "run.npz") == last
    older = tmp_path / "run.before.npz"
    assert (done(older) if older.exists() else None) == before


def test_a_checkpoint_of_other_sources_is_refused(tmp_path, monkeypatch) -> None:
    qsim.simulate(RUN, checkpoint=tmp_path / "run.npz")
    monkeypatch.setattr("qsim.identity.sources_digest", lambda: "edited")
    with pytest.raises(CheckpointError, match="the sources of qsim are others"):
        qsim.simulate(RUN, checkpoint=tmp_path / "run.npz")


def test_the_older_generation_is_gone_on_from(tmp_path) -> None:
    """And not the start: with the newer torn, 2 of 12 rounds are left."""
    qsim.simulate(RUN, checkpoint=tmp_path / "run.npz", every=10)
    (tmp_path / "run.npz").write_bytes(b"")
    played: list[int] = []
    with pytest.warns(UserWarning, match="torn"):
        again = qsim.simulate(RUN, checkpoint=tmp_path / "run.npz", every=10, after_round=played.append)
    assert played == [11, 12]
    assert same(again, qsim.simulate(RUN))
