"""The program of a task on a cluster that calls the driver: its workers, until the driver closes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from qsim.engines.hosts import Facts
from qsim.engines.members import Compiling, Members, attempted
from qsim.engines.sockets import call, frames
from qsim.workers.tasks import Job


def serve(
    address: tuple[str, int],
    key: bytes,
    place: int,
    facts: Facts,
    load: Callable[[], Job],
    low: int,
    high: int,
    block: int | None,
    threads: int,
) -> str:
    """Call the driver and do the tasks of a place, until it says that it is over.

    facts: what is on this machine.

    Returns a text if the driver can't be reached. Raises OSError if the connection breaks.
    """
    from qsim.kernels._jit import tell_of_compiling

    try:
        line = call(address, key, (place, facts))
    except OSError as error:
        return (
            f"{facts['host']} can't reach the driver at {address[0]}, port {address[1]} ({error}); give the"
            " engine a host and a port that can be reached from there"
        )
    members: Members | None = None

    def do(task: str, detail: Any) -> Any:
        nonlocal members
        members = members or Members(load(), low, high, block, threads)
        return getattr(members, task)(detail)

    def tell(begins: bool) -> None:
        with suppress(OSError):  # the answer will find it broken, too
            line.send(frames(Compiling(begins)))

    tell_of_compiling(tell)
    try:
        while True:
            task, detail = line.receive()
            if task == "close":
                return ""
            line.send(frames(attempted(partial(do, task, detail))))
    finally:
        tell_of_compiling(lambda begins: None)
        line.close()
        if members is not None:
            members.end()
