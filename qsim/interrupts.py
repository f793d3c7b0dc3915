"""Ctrl-C where it would be lost: compiled code that calls Python swallows what that raises, or raises another thing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back a first Ctrl-C until the block ends; a second one comes at once."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[tuple[int, Any]] = []

    def hold(number: int, frame: Any) -> None:
        came.append((number, frame))
        if len(came) > 1:
            handler(number, frame)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])


def uninterrupted(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a function with interrupts held."""

    @wraps(function)
    def held(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with interrupts_held():
            return function(*args, **kwargs)

    return held
