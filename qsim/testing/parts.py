"""Checks that all kinds of parts share: one promise after the other, pickling, and printing as code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import qsim
from qsim.testing.report import BrokenError, Finding, refuse_unless

_S = TypeVar("_S")


def carried_out(checks: Mapping[str, Callable[[_S], Finding]], subject: _S) -> Iterator[tuple[str, Finding]]:
    """Check one promise after the other; an exception is a promise that is broken."""
    for promise, check in checks.items():
        try:
            finding = check(subject)
        except BrokenError as error:
            finding = Finding(False, str(error))
        except Exception as error:
            finding = Finding(False, f"{type(error).__name__}: {error}")
        yield promise, finding


def copied(part: Any) -> Any:
    """Return a part as a worker process gets it. Raises BrokenError if it cannot be sent to one."""
    from qsim.engines.shared import SharedPickle

    try:
        held = SharedPickle(part)
    except Exception as error:
        raise BrokenError(f"it cannot be sent to a worker process: {type(error).__name__}: {error}") from None
    try:
        return held.load()
    finally:
        held.close()


def prints_as_code(part: Any) -> Finding:
    """Check eval(repr(part)) == part, given `import qsim` and the module of its class."""
    text = repr(part)
    try:
        again = _evaluated(text)
    except Exception as error:
        return Finding(False, f"{text!r} does not evaluate: {type(error).__name__}: {error} (is it a @qsim.option?)")
    refuse_unless(again == part, f"{text} makes another one")
    return Finding(True)


def _evaluated(text: str) -> Any:
    code = compile(text, "<repr>", "eval")
    modules = {name: sys.modules[name] for name in code.co_names if name in sys.modules}
    return eval(code, {**vars(sys.modules["__main__"]), **modules, "qsim": qsim})
