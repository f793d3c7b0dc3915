"""Child processes of engines and studies: how they begin and end."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from shutil import rmtree
from threading import Thread
from typing import Any

from qsim.engines.leftovers import socket_folder


def start_child(
    start: str, target: Callable[..., None], args: Sequence[Any], name: str, inherited: Sequence[Connection] = ()
) -> tuple[Any, Connection]:
    """Start a process that runs `target(pipe, *args)`, and ends when this one does; return it and this end of the pipe.

    start: "forkserver", "spawn" or "fork". A forked process holds this end of its pipe too, and those of the pipes to
    its siblings, `inherited`, which would hide this process's end: it closes them.

    Raises OSError or EOFError if it cannot be started, or ends before it has read what it shall do.
    """
    context: Any = mp.get_context(start)
    pipe, theirs = context.Pipe()
    leftover = socket_folder() if start == "forkserver" else None
    details = (target, theirs, args, [pipe, *inherited] if start == "fork" else [], leftover)
    process = context.Process(target=_begin, args=details, daemon=True, name=name)
    with closing(theirs), _without_main():
        process.start()
    return process, pipe


def stop_child(process: Any, pipe: Connection, patience: float) -> None:
    """End a process: by itself if it does within the patience, in seconds, else at once."""
    process.join(patience)
    if process.is_alive():
        process.kill()
    process.join()
    pipe.close()


@contextmanager
def _without_main() -> Iterator[None]:
    """Start a process that does not run the user's script again: what it needs of it comes by value."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def _begin(
    target: Callable[..., None],
    pipe: Connection,
    args: Sequence[Any],
    inherited: Sequence[Connection],
    leftover: str | None,
) -> None:
    """Run the target in its process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    Thread(target=_end_with_parent, args=(leftover,), daemon=True).start()
    for connection in inherited:
        connection.close()
    target(pipe, *args)


def _end_with_parent(leftover: str | None) -> None:
    """End this process at once when the parent has ended, whatever it is doing; remove a folder of the parent's."""
    parent, above = parent_process(), os.getppid()
    while parent is not None and os.getppid() == above:  # a forked bystander may hold the sentinel open
        if wait([parent.sentinel], timeout=1.0):
            if leftover is not None:
                rmtree(leftover, ignore_errors=True)
            break
    os._exit(1)


def portable_error(error: BaseException) -> bytes:
    """Return an exception as bytes that carry its traceback as a note, and its text if nothing else can be sent."""
    import cloudpickle

    error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)).rstrip())
    try:
        if not isinstance(error, Exception):
            raise TypeError("a SystemExit in a worker is an error, not the parent's end")
        blob: bytes = cloudpickle.dumps(error)
        cloudpickle.loads(blob)
    except Exception:
        try:
            text = str(error)
        except Exception:
            text = "(its text cannot be made)"
        plain = RuntimeError(f"{type(error).__name__}: {text}")
        for note in error.__notes__:
            plain.add_note(note)
        blob = cloudpickle.dumps(plain)
    return blob
