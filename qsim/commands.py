"""The end of all commands, when the world around them does not go along."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps

Main = Callable[[Sequence[str] | None], int]


def command(main: Main) -> Callable[..., int]:
    """Make a command of a function that takes the arguments and returns an exit code.

    A reader that has seen enough, as in `... | head -1`, ends it without a word, with exit code 141; a full disk, or a
    file that cannot be used, with the system's own words and 1; Ctrl-C with 130. Bytes of file names that are no UTF-8
    are printed escaped.
    """

    @wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):  # it may have been replaced by anything, or closed
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        try:
            code = main(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where what goes wrong can be said
            return code
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            return 130
        except BrokenPipeError:
            with suppress(OSError, ValueError, AttributeError):  # Python would complain once more when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            print(f"error: {_words(error)}", file=sys.stderr)
            return 1

    return run


def _words(error: OSError) -> str:
    """Return what the system says, and of which file."""
    if error.strerror is None or type(error).__module__ != "builtins":
        return str(error)
    return error.strerror + (f": {os.fsdecode(error.filename)}" if error.filename is not None else "")
