"""Another process, where what depends on more than its arguments shows: the process, the clock, the order of calls."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import IO, Any, ParamSpec, TypeVar

from qsim.engines.shared import portable
from qsim.testing.report import BrokenError

_P = ParamSpec("_P")
_T = TypeVar("_T")


def elsewhere(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a function in a process of its own, started for the first call and kept for those that follow.

    Its hashes of strings have another seed than here. Raises BrokenError for an error there, and if it ends.
    """
    process, call = _process(), portable((function, args, kwargs))
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _write(process.stdin, call)
        good, answer = pickle.loads(_read(process.stdout))
    except BaseException as error:  # Ctrl-C too: an answer that nobody waited for must not be taken for another
        _process.cache_clear()
        process.kill()
        if isinstance(error, (OSError, EOFError)):
            raise BrokenError("a process of its own ended while it worked there") from None
        raise
    if not good:
        raise BrokenError(f"it fails in a process of its own: {answer}")
    found: _T = answer
    return found


@cache
def _process() -> subprocess.Popen[bytes]:
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    settings |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "QSIM_QUIET": "1"}
    command = [sys.executable, "-c", "from qsim.testing.subprocess_call import _serve; _serve()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=settings)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.communicate()  # its input ends, and so it does


def _serve() -> None:
    """Answer the calls that come, until no more can."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks
    answers, calls = os.fdopen(os.dup(1), "wb"), sys.stdin.buffer
    os.dup2(2, 1)  # what is printed must not come between
    while True:
        try:
            call = _read(calls)
        except EOFError:
            return
        try:
            function, args, kwargs = pickle.loads(call)
            answer = True, function(*args, **kwargs)
        except Exception as error:
            answer = False, f"{type(error).__name__}: {error}"
        _write(answers, pickle.dumps(answer))


def _write(pipe: IO[bytes], blob: bytes) -> None:
    pipe.write(len(blob).to_bytes(8, "little") + blob)
    pipe.flush()


def _read(pipe: IO[bytes]) -> Any:
    head = pipe.read(8)
    blob = pipe.read(int.from_bytes(head, "little"))
    if len(head) < 8 or len(blob) < int.from_bytes(head, "little"):
        raise EOFError
    return blob
