"""The check of an engine finds engines that break what they promise."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

from qsim.engines import Serial
from qsim.testing import check_engine


def test_check_engine_finds_broken_promises(monkeypatch) -> None:
    """One that forgets what workers keep, replies out of order, swallows errors, asks all, or leaves a process."""

    class Forgetful(Serial):
        def open(self, job):
            session = super().open(job)
            session.restore = lambda snapshot: None
            return session

    class Backwards(Serial):
        def open(self, job):
            session = super().open(job)
            ordered = session.round
            session.round = lambda order: iter(list(ordered(order))[::-1])
            return session

    class Silent(Serial):
        def open(self, job):
            session = super().open(job)
            ordered = session.round

            def quiet(order) -> Iterator:
                try:
                    yield from ordered(order)
                except ZeroDivisionError:
                    return

            session.round = quiet
            return session

    class Tireless(Serial):
        def open(self, job):
            session = super().open(job)
            ordered = session.round
            session.round = lambda order: ordered(replace(order, participants=None))
            return session

    left = subprocess.Popen(["sleep", "100"])

    class Littering(Serial):
        def open(self, job):
            session = super().open(job)
            kind = type("Session", (type(session),), {"pids": [left.pid], "ending_pids": [left.pid]})
            session.__class__ = kind
            return session

    monkeypatch.setattr("qsim.testing.engine._END_SECONDS", 0.1)
    monkeypatch.setattr("qsim.testing.engine._kill", lambda pids: None)
    planted = {
        Forgetful: "survives",
        Backwards: "same bits",
        Silent: "exception",
        Tireless: "whole",
        Littering: "leaves",
    }
    for broken, promise in planted.items():
        report = check_engine(broken(block=1))
        failed = [line for line, kept, _ in report.lines if not kept]
        assert any(promise in line for line in failed), str(report)
        assert "BROKEN" in str(report)
        assert len(failed) == 1 or promise in ("survives", "same bits"), str(report)
    left.kill()
    left.wait()
