"""What engines of processes share: recovery at every moment, lines that know a key, hosts that are refused."""

from __future__ import annotations

import contextlib
import pickle
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import cloudpickle
import numpy as np
import pytest

import qsim
from helpers.paths import process_environment
from helpers.transports import Loose
from qsim.engines import EngineError, Session, recovery
from qsim.engines.caller import serve
from qsim.engines.hosts import inspector, refusal
from qsim.engines.members import Compiling, Members, awaited
from qsim.engines.recovery import RecoveringSession, Transport
from qsim.engines.sockets import Home, Line, call, frames
from qsim.testing.engine import _dropping, _expected, _job, _run
from qsim.workers.tasks import Job


def everything(session: Session, job: Job) -> list[list[bytes]]:
    """Ask a session for all that there is: rounds with news of what was delivered, snapshots, a restore."""
    found = _run(session, range(3), job)
    saved = session.snapshot()
    _run(session, range(3, 5), job)
    session.restore(saved)
    return found + _run(session, range(3, 7), job)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kept", [2, 50])
def test_a_place_that_is_lost_at_any_message_is_made_again(monkeypatch, when: str, kept: int) -> None:
    """At each of its messages in turn, with snapshots that are close and far between; twice in a row as well."""
    monkeypatch.setattr(recovery, "_LOG_ROUNDS", kept)
    job = _dropping()
    expected = _expected(job, range(7))
    transport = Loose(job, {})
    with RecoveringSession(transport, job) as session:
        assert everything(session, job) == expected
    assert transport.closed
    messages = transport.places[0].posted
    assert messages > 20
    for number in range(messages):
        for losses in ({number: when}, {number: when, number + 1: "before"}):
            transport = Loose(job, losses)
            with RecoveringSession(transport, job) as session:
                assert everything(session, job) == expected, losses
            assert transport.places[0].starts >= 2 + ("before" in list(losses.values())[1:])


def test_a_place_that_is_always_lost_is_an_error() -> None:
    job = _job(qsim.QSGD(2))
    with RecoveringSession(Loose(job, dict.fromkeys(range(4, 40), "after")), job) as session:
        _run(session, range(2), job)
        with pytest.raises(EngineError, match="the process of workers 0 to 2 ended 3 times in a row, lost"):
            _run(session, range(2, 4), job)


def test_an_error_while_opening_closes_the_transport() -> None:
    @qsim.option
    class Fussy(qsim.compressors.Compressor):
        emits = qsim.batch.Floats

        def quantize(self, v, key):
            return qsim.batch.Floats.single(v)

        def memory(self, support):
            raise LookupError("no memory")

    transport = Loose(_job(qsim.QSGD(2)), {})
    for place in transport.places:
        place._job = _job(Fussy())
        place.start = lambda place=place: setattr(place, "_members", partial(Members, place._job, 0, 3, None, 1)())
    with pytest.raises(LookupError, match="no memory"):
        RecoveringSession(transport, _job(qsim.QSGD(2)))
    assert transport.closed


def test_what_places_are_waited_for() -> None:
    """Compiling stops the clock, and its end starts it again."""
    said, patience = iter([Compiling(True), Compiling(False), (True, 7)]), []

    def receive(left: float | None) -> object:
        patience.append(left)
        return next(said)

    assert awaited(receive, 5.0) == 7
    assert patience == [5.0, None, 5.0]


def connected() -> tuple[Line, Line, Home]:
    """Both ends of a line; the driver's first."""
    admitted: list[tuple[Line, object]] = []
    home = Home("127.0.0.1", 0, lambda line, hello: admitted.append((line, hello)))
    theirs = call(("127.0.0.1", home.port), home.key, "hello")
    while not admitted:
        time.sleep(0.01)
    line, hello = admitted[0]
    assert hello == "hello"
    return line, theirs, home


def test_objects_of_any_size_pass_a_line_both_ways() -> None:
    line, theirs, home = connected()
    things = [None, b"", "x" * 100_000, np.arange(3), {"w": np.arange(2_000_000.0), "i": np.zeros(0, np.int32)}]
    for sender, receiver in ((line, theirs), (theirs, line)):
        for thing in things:
            thread = threading.Thread(target=sender.send, args=(frames(thing),))
            thread.start()
            found = receiver.receive(10.0)
            thread.join()
            assert pickle.dumps(found) == pickle.dumps(thing)
            if isinstance(found, dict):
                found["w"][0] = 1.0  # kernels write to what they are given
    for each in (line, theirs, home):
        each.close()


def test_a_silent_end_is_told_from_one_that_is_gone() -> None:
    line, theirs, home = connected()
    with pytest.raises(TimeoutError):
        line.receive(0.05)
    theirs.close()
    with pytest.raises(OSError, match="closed|reset"):
        line.receive(5.0)
    line.close()
    home.close()


loaded: list[str] = []


def spring(text: str) -> None:
    loaded.append(text)


class Trap:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self):
        return spring, ("trap",)


def test_who_does_not_know_the_key_is_not_admitted() -> None:
    """Nor is anything unpickled of what a stranger says; one that says nothing keeps nobody else waiting."""
    admitted: list[object] = []
    home = Home("127.0.0.1", 0, lambda line, hello: (admitted.append(hello), line.close()))
    address = ("127.0.0.1", home.port)
    silent = socket.create_connection(address)
    with pytest.raises(ConnectionError):
        call(address, b"0" * 32, "stranger")
    with socket.create_connection(address) as bold:  # does not ask for a proof
        bold.sendall(b"0" * 64)
        with contextlib.suppress(ConnectionError):
            Line(bold).send(frames(Trap()))
            while bold.recv(1000):
                pass
    call(address, home.key, "friend").close()
    end = time.monotonic() + 5.0
    while not admitted and time.monotonic() < end:
        time.sleep(0.01)
    assert (admitted, loaded) == (["friend"], [])
    silent.close()
    home.close()


def test_a_caller_tells_a_driver_from_another_that_took_its_port() -> None:
    """One that does not know the key is told nothing."""
    server = socket.create_server(("127.0.0.1", 0))

    def pretend() -> None:
        connected, _ = server.accept()
        with connected:
            connected.sendall(b"n" * 32)
            connected.recv(64)
            connected.sendall(b"p" * 32)
            heard.append(connected.recv(1000))

    heard: list[bytes] = []
    thread = threading.Thread(target=pretend)
    thread.start()
    with pytest.raises(ConnectionRefusedError, match="is not the driver"):
        call(server.getsockname(), b"k" * 32, "secret")
    thread.join()
    assert heard == [b""]
    server.close()


def test_a_driver_that_cannot_be_reached_is_named(monkeypatch) -> None:
    monkeypatch.setattr("qsim.engines.sockets._CALLING_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    said = serve(("127.0.0.1", port), b"k", 0, {"host": "node7"}, lambda: _job(qsim.QSGD(2)), 0, 3, None, 1)
    assert said.startswith(f"node7 can't reach the driver at 127.0.0.1, port {port} (")
    assert said.endswith("give the engine a host and a port that can be reached from there")


def test_hosts_that_would_give_other_numbers_are_refused_by_name() -> None:
    here = inspector()()
    there = here | {"host": "node7", "pid": 1, "machine": "m", "interpreter": "/usr/bin/python3"}
    assert refusal(here, here["versions"]) == refusal(there, here["versions"]) == ""
    for name in ("qsim", "Python", "NumPy", "Numba", "SciPy", "the digest of qsim's kernels"):
        text = refusal(there | {"versions": here["versions"] | {name: "0.1"}}, here["versions"])
        assert text.startswith("node7 (/usr/bin/python3)")
        assert f"{name} is 0.1, here {here['versions'][name]};" in text


def test_a_host_without_qsim_is_refused_by_name() -> None:
    """The inspector itself needs nothing there: it travels by value."""
    code = (
        "import sys, pickle, cloudpickle; sys.modules['qsim'] = None\n"
        "sys.stdout.buffer.write(pickle.dumps(cloudpickle.loads(sys.stdin.buffer.read())()))"
    )
    command = [sys.executable, "-c", code]
    blob = cloudpickle.dumps(inspector())
    done = subprocess.run(command, input=blob, capture_output=True, env=process_environment(), check=True)
    facts = pickle.loads(done.stdout)
    assert list(facts["versions"]) == ["Python"]
    text = refusal(facts, inspector()()["versions"])
    assert text.startswith(f"{socket.gethostname()} ({sys.executable}) can't run workers (ModuleNotFoundError: ")
    assert "install qsim there" in text


def test_folders_of_the_driver_are_looked_in_last(tmp_path, monkeypatch) -> None:
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", before.copy())
    inspector([str(tmp_path), before[-1], str(tmp_path / "missing")])()
    assert sys.path == [*before, str(tmp_path)]


def test_a_second_caller_of_a_task_is_a_spare() -> None:
    """As Spark's speculation makes, or an executor that it takes for lost: it waits, and is then told everything."""
    from qsim.engines.spark import Spark, _Seat

    job, facts = _dropping(), inspector()()
    seat = _Seat(Spark(), None, facts, None, "name", 0, 9)
    home = Home("127.0.0.1", 0, lambda line, hello: seat.admit(line, hello[1]))

    class One(Transport):
        places = (seat,)

        def message(self, task: str, detail: object) -> object:
            return frames((task, detail))

        def close(self, patient: bool) -> None:
            seat.close()

    def member(pid: int) -> None:
        with contextlib.suppress(OSError):
            serve(("127.0.0.1", home.port), home.key, 0, facts | {"pid": pid}, lambda: job, 0, 9, None, 1)

    threads = [threading.Thread(target=member, args=(pid,)) for pid in (1, 2, 3)]
    for number, thread in enumerate(threads):
        thread.start()
        while len(seat._waiting) <= number:
            time.sleep(0.01)
    with RecoveringSession(One(), job) as session:
        found = _run(session, range(3), job)
        assert session.pids == [1]
        seat._line.close()
        found += _run(session, range(3, 5), job)
        assert session.pids == [2]
    assert found == _expected(job, range(5))
    for thread in threads:
        thread.join()
    home.close()
