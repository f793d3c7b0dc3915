"""The check of an engine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Event, Thread
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Arrays, Floats, Levels, Memory, Message, Vectors
from qsim.block import Block
from qsim.channel import Channel
from qsim.compressors import QSGD, Compressor, ErrorFeedback, Identity, Scaled
from qsim.datasets import Dirichlet, Synthetic
from qsim.engines import Engine, Serial, Session
from qsim.keys import Key
from qsim.methods import MARINA, SGD, Exchange, GradientDescent, Method, Passes, Task
from qsim.objectives import LogisticRegression, Objective
from qsim.options import option
from qsim.steps import Constant
from qsim.testing.engine_runs import whole_runs
from qsim.testing.report import Finding, Report
from qsim.weights import Replica, Weights
from qsim.workers.tasks import Instruction, Job, Order, Reply

_WORKERS, _FEATURES = 9, 60
_END_SECONDS = 10.0  # that a process that was told to end may take


def check_engine(engine: Engine) -> Report:
    """Check that an engine keeps the promises that all engines make, against `Serial(block=1)`.

    Parameters
    ----------
    engine : Engine
        The engine.

    Returns
    -------
    Report
        What was found.

    Notes
    -----
    The same bits for stateless and stateful, dense and sparse, shipped and user-defined parts, with dropped messages,
    and in whole runs of every method, with memories, sampled clients and `SparsePull`; what workers keep survives a
    snapshot, a restore into the same session, a new one and another engine; processes of this machine that are killed,
    at any moment, are replaced, to the same bits; an exception in a worker arrives with its worker and round; closing
    leaves no process that the session started.

    Examples
    --------
    >>> import qsim
    >>> qsim.testing.check_engine(qsim.engines.Serial(block=2, threads=2)).good
    True
    """
    checks: dict[str, Callable[[Engine], str]] = {
        "the same bits as Serial": _same_bits,
        "whole runs of all methods are those of Serial": whole_runs,
        "what workers keep survives snapshot and restore": _state_survives,
        "killed processes are replaced, to the same bits": _killed_recover,
        "an exception in a worker arrives with its worker and round": _errors_arrive,
        "closing leaves no process": _closes_clean,
    }
    findings = {}
    with engine.started():
        with engine.open(_job(QSGD(2))) as session:
            seen_inside = session.pids
        for promise, check in checks.items():
            try:
                seen = check(engine)
            except Exception as error:
                seen = f"{type(error).__name__}: {error}"
            if not seen and "process" in promise and not seen_inside:
                findings[promise] = Finding(True, "not checked, since the engine names no processes")
            else:
                findings[promise] = Finding(not seen, seen)
    return Report(repr(engine), findings)


@option
class _Users(Compressor):
    """A user's compressor: plain NumPy, one row at a time."""

    emits = Levels

    def quantize(self, v: ArrayLike, key: Key) -> Message:
        vector = np.asarray(v)
        scale = float(np.abs(vector).max())
        keep = key.generator().random(vector.size) * scale < np.abs(vector)
        return Levels.single(np.sign(vector) * keep, scale=scale, s=1)


@option
class _Failing(Compressor):
    """Raises for one worker in its third round, which it tells by the size of the update."""

    emits = Floats

    def quantize(self, v: ArrayLike, key: Key) -> Message:
        if key == _key().fold(3, 2, 0, 7):
            raise ZeroDivisionError("a worker's own mistake")
        return Floats.single(v)


def _key() -> Key:
    return Key(20)


def _job(compressor: Compressor, method: Method | None = None) -> Job:
    data = Synthetic(rows=80, features=_FEATURES, nonzeros_per_row=5).load()
    shards = Dirichlet(0.3).split(data, _WORKERS, _key())
    method = method or SGD(step=Constant(0.5), batch=3, sampling=Passes())
    return Job(shards, LogisticRegression(l2=0.0), method, Channel(compressor), _key())


def _jobs() -> Iterator[tuple[str, Job]]:
    yield "QSGD", _job(QSGD(2))
    yield "tasks", _job(QSGD(3), _Tasks())
    yield "Identity, full batch", _job(Identity(), GradientDescent(Constant(0.5)))
    yield "error feedback", _job(ErrorFeedback(Scaled(QSGD(2))))
    yield "a user's compressor", _job(_Users())
    yield "dropped messages", _dropping()


def _dropping() -> Job:
    return replace(_job(ErrorFeedback(Scaled(QSGD(2))), MARINA(Constant(0.5), p=0.5)), drops=True, timed=True)


@option
class _Tasks(Method):
    """A method whose workers' updates depend on the task."""

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        w.subtract(exchange("update", w).vector)

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        return objective.update(block, block.all_rows(), task.weights, float(len(task.name)))


def _order(t: int) -> Order:
    """Return an order that differs from the others in all that it holds."""
    weights = _key().fold(t).generator().standard_normal(_FEATURES).astype(np.float32)
    return Order(t, t % 2, "update" * (1 + t % 3), Replica(weights, 0.5 + 0.1 * t))


def _run(session: Session, rounds: range, job: Job) -> list[list[bytes]]:
    """Return every worker's packet of every round, by worker; of a job that drops, some are not delivered.

    Behind the packet comes what the worker had to do, if the job is timed.
    """
    out = []
    for t in rounds:
        packets: list[bytes] = []
        for reply in session.round(_order(t)):
            assert reply.low == len(packets), f"worker {reply.low} replied after {len(packets)} workers"
            work = [row.tobytes() for row in reply.work] if reply.work is not None else [b""] * len(reply.packets)
            packets += [reply.header + reply.packets[row] + work[row] for row in range(len(reply.packets))]
        out.append(packets)
        if job.drops:
            session.on_delivered(_key().fold(t).generator().random(_WORKERS) < 0.6)
    return out


def _expected(job: Job, rounds: range) -> list[list[bytes]]:
    with Serial(block=1).open(job) as session:
        return _run(session, rounds, job)


def _same_bits(engine: Engine) -> str:
    for name, job in _jobs():
        with engine.open(job) as session:
            if _run(session, range(6), job) != _expected(job, range(6)):
                return f"other packets with {name}"
    return ""


def _state_survives(engine: Engine) -> str:
    """Snapshots are the same on every engine: a session goes on from one of another's, or of its own."""
    for name, job in _jobs():
        expected = _expected(job, range(8))
        with Serial(block=3).open(job) as session:
            _run(session, range(4), job)
            serial = session.snapshot()
        with engine.open(job) as session:
            session.restore(serial)
            saved = session.snapshot()
            if saved.keys() != serial.keys() or any(saved[key].tobytes() != serial[key].tobytes() for key in serial):
                return f"a snapshot right after a restore is another, with {name}"
            if _run(session, range(4, 6), job) != expected[4:6]:
                return f"other packets after a restore into a new session, with {name}"
            later = session.snapshot()
            _run(session, range(6, 7), job)
            session.restore(later)
            if _run(session, range(6, 8), job) != expected[6:]:
                return f"other packets after a restore in place, with {name}"
        with Serial(block=2).open(job) as session:
            session.restore(later)
            if _run(session, range(6, 8), job) != expected[6:]:
                return f"other packets after a restore into {Serial(block=2)!r}, with {name}"
    return ""


def _killed_recover(engine: Engine) -> str:
    """Kill one process, or all at once, before and in the middle of everything that a session is asked for."""
    job = _dropping()
    expected = _expected(job, range(10))
    with engine.open(job) as session:
        found = _run(session, range(2), job)
        for t in range(2, 6):
            _kill(session.pids if t == 3 else session.pids[t % 2 :][:1])
            if t == 4:
                session.snapshot()
            if t == 5:
                _kill_before_delivery(session)
            found += _run(session, range(t, t + 1), job)
        found += [_killed_in_a_round(session, 6, job)]
        _kill(session.pids[:1])
        saved = session.snapshot()
        _kill(session.pids[-1:])
        session.restore(saved)
        _kill(session.pids[-1:])
        found += _run(session, range(7, 8), job)
        with _hunted(session):
            found += _run(session, range(8, 10), job)
        _kill(session.pids[:1])  # closing must not wait for it
    return "" if found == expected else "other packets after a kill"


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _kill_before_delivery(session: Session) -> None:
    """Have a process killed once between its reply and the news of what was delivered."""
    tell: Any = session.on_delivered

    def told(delivered: NDArray[np.bool_]) -> None:
        session.on_delivered = tell  # type: ignore[method-assign]
        _kill(session.pids[:1])
        tell(delivered)

    session.on_delivered = told  # type: ignore[method-assign]


def _killed_in_a_round(session: Session, t: int, job: Job) -> list[bytes]:
    """Kill the last process as soon as the first reply is there; return the packets."""
    real: Any = session.round

    def killed(instruction: Instruction) -> Iterator[Reply]:
        replies = real(instruction)
        yield next(replies)
        _kill(session.pids[-1:])
        yield from replies

    session.round = killed  # type: ignore[method-assign]
    try:
        return _run(session, range(t, t + 1), job)[0]
    finally:
        session.round = real  # type: ignore[method-assign]


@contextmanager
def _hunted(session: Session) -> Iterator[None]:
    """Kill the first process, and whatever comes in its place a moment later, while the block runs."""
    over = Event()

    def hunt() -> None:
        before: list[int] = []
        for _ in range(2):
            while session.pids[:1] == before and not over.is_set():
                time.sleep(0.01)
            before = session.pids[:1]
            _kill(before)

    hunter = Thread(target=hunt)
    hunter.start()
    try:
        yield
    finally:
        over.set()
        hunter.join()


def _errors_arrive(engine: Engine) -> str:
    job = _job(_Failing())
    with engine.open(job) as session:
        _run(session, range(2), job)
        try:
            _run(session, range(2, 3), job)
        except ZeroDivisionError as error:
            notes = " ".join(getattr(error, "__notes__", []))
            return "" if "worker 7, round 2" in notes else f"worker and round are not named, only {notes!r}"
    return "no exception came"


def _closes_clean(engine: Engine) -> str:
    """Look whether closing ends what the session started, also after an error; what is a cluster's may stay."""
    job = _job(QSGD(2))
    with engine.open(job) as session:
        pids = session.ending_pids
        _run(session, range(1), job)
    with suppress(ZeroDivisionError), engine.open(job) as session:
        pids += session.ending_pids
        raise ZeroDivisionError
    end = time.monotonic() + _END_SECONDS
    while any(map(_alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    alive = [pid for pid in pids if _alive(pid)]
    return f"processes {alive} are alive" if alive else ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
