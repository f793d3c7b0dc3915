"""The kernel decorator: how every jitted function of qsim is compiled and cached.

Numba's disk cache does not notice an edit in a function that a kernel of *another* file calls. Here the cache folder
is named by the digest of all kernel sources, so that any edit to any of them starts from an empty folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from os import environ
from pathlib import Path
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

import numba
from numba.core import config as _config
from numba.core import event

from qsim.storage import can_write, locked, private_temporary, user_cache

_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)
_CONFIG: Any = _config  # its names are made at run time


class Kernel(Protocol, Generic[_P, _R_co]):
    """A compiled function: called like the Python function it was made from."""

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co:
        """Run the machine code, compiling it for new argument types first."""
        ...

    @property
    def py_func(self) -> Callable[_P, _R_co]:
        """The Python function."""
        ...


def kernel(function: Callable[_P, _R_co]) -> Kernel[_P, _R_co]:
    """Compile a pure function of arrays and numbers: cached on disk, without the GIL, IEEE arithmetic as written."""
    _DISPATCHERS.append(_compile(function))
    return cast("Kernel[_P, _R_co]", _DISPATCHERS[-1])


def inlined(function: Callable[_P, _R_co]) -> Kernel[_P, _R_co]:
    """Make a function that is written out where kernels call it: passing arrays to another function costs as much."""
    return cast("Kernel[_P, _R_co]", numba.njit(inline="always", error_model="numpy")(function))


_DISPATCHERS: list[Any] = []


def _compile(function: Callable[..., Any]) -> Any:
    """Call Numba with its cache folder set to ours for this one function: a user's setting is put back at once."""
    users = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = str(cache_folder())
    try:
        dispatcher: Any = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        _CONFIG.CACHE_DIR = users
    _save_alone(dispatcher._cache)
    return dispatcher


def _save_alone(cache: Any) -> None:
    """Let one process at a time add to the cache.

    Numba reads the index of a function, chooses a file name that is not in it, and writes both: two processes that do
    so at once can leave the entry of one signature on the code of another.
    """
    save = cache.save_overload

    def locked_save(*arguments: Any) -> Any:
        with locked(cache_folder() / "lock"):
            return save(*arguments)

    cache.save_overload = locked_save


@cache
def source_digest() -> str:
    """Return the digest of all kernel sources."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> Path:
    """Return (and make) the folder of compiled kernels, named by their sources and by what changes their code.

    It is under `QSIM_CACHE_DIR`, else the user's cache folder, else a temporary folder that is only this user's.
    """
    flags = (
        "-boundscheck" * bool(_CONFIG.BOUNDSCHECK)
        + "-debug" * bool(_CONFIG.DEBUGINFO_DEFAULT)
        + f"-o{int(_CONFIG.OPT)}"
    )
    for base in (user_cache(), private_temporary()):
        folder = base / "kernels" / (source_digest() + flags)
        if can_write(folder):
            return folder
    raise OSError(
        f"no folder for compiled kernels can be written: tried {user_cache()} and {private_temporary()};"
        " set QSIM_CACHE_DIR to a folder that can"
    )


class _Announcer(event.Listener):
    """Tell a person, once a process, why the first call of a kernel takes seconds."""

    def __init__(self) -> None:
        self.said = "QSIM_QUIET" in environ

    def on_start(self, event: Any) -> None:
        if not self.said and any(event.data["dispatcher"] is dispatcher for dispatcher in _DISPATCHERS):
            self.said = True
            print(
                "qsim: compiling kernels for this machine (cached for later runs) ...",
                file=sys.stderr,
                flush=True,
            )

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcer())  # type: ignore[no-untyped-call]
