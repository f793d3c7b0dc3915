"""The kernel decorator: how every jitted function of qsim is compiled and cached.

Numba's disk cache does not notice an edit in a function that a kernel of *another* file calls, and a damaged file of it
stops every later run. Here the cache folder is named by the digest of all kernel sources and by what changes their
code, so that any edit starts from an empty folder; and each file is led by its own digest.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from os import environ
from pathlib import Path
from types import FunctionType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba.core import config as _config
from numba.core import event
from numba.core import serialize as _serialize
from numba.core.compiler import CompileResult as _CompileResult

from qsim.interrupts import uninterrupted
from qsim.storage import can_write, private_temporary, replacing, user_cache

_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)
_CONFIG: Any = _config  # its names are made at run time
_RESULT: Any = _CompileResult
_DUMPS: Any = _serialize.dumps
_CHANGES_CODE = (
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
    "DEBUG_ARRAY_OPT_RUNTIME",
    "DEBUG_JIT",
    "DEBUG_NRT",
    "DISABLE_INTEL_SVML",
    "ENABLE_AVX",
    "ENABLE_PROFILING",
    "EXTEND_VARIABLE_LIFETIMES",
    "JIT_COVERAGE",
    "LLVM_REFPRUNE_FLAGS",
    "LLVM_REFPRUNE_PASS",
    "LOOP_VECTORIZE",
    "OPT",
    "SLP_VECTORIZE",
)
"""Numba's settings, set by variables NUMBA_..., of which compiled code depends."""


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
    """Compile a pure function of arrays and numbers: cached on disk, without the GIL, IEEE arithmetic as written.

    Machine code is found by name: functions that one source makes, with others around it, get names of their own.
    Numba numbers them in the order of a process, so that two from the cache, which two processes made, may have one.
    """
    if function.__closure__:
        function.__qualname__ += "_" + sha256(_named(function).encode()).hexdigest()[:12]
    dispatcher: Any = _jitted(function, nogil=True)
    dispatcher._cache = _KernelCache(function)
    dispatcher.compile = uninterrupted(dispatcher.compile)  # LLVM calls Python
    _DISPATCHERS.append(dispatcher)
    return cast("Kernel[_P, _R_co]", dispatcher)


def inlined(function: Callable[_P, _R_co]) -> Kernel[_P, _R_co]:
    """Make a function that is written out where kernels call it: passing arrays to another function costs as much."""
    return cast("Kernel[_P, _R_co]", _jitted(function, inline="always"))


_DISPATCHERS: list[Any] = []


def _jitted(function: Callable[..., Any], **options: Any) -> Any:
    """Call Numba, also where NUMBA_DISABLE_JIT is set: kernels have instructions that Python lacks.

    So a user's own jitted functions can be debugged in plain Python while qsim's are compiled.
    """
    users = _CONFIG.DISABLE_JIT
    _CONFIG.DISABLE_JIT = 0
    try:
        return numba.njit(error_model="numpy", **options)(function)
    finally:
        _CONFIG.DISABLE_JIT = users


class _KernelCache:
    """What Numba asks for machine code: a file for each function and signature, led by the digest of the rest.

    Files are replaced whole, so that processes may compile at once. One that is damaged, or can't be read, is compiled
    again with a warning; one that can't be written is not kept, with a warning.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self._function = _named(function)

    def load_overload(self, signature: Any, target: Any) -> Any:
        target.refresh()  # or it would not know what the code needs
        path = self._path(signature, target.codegen())
        try:
            blob = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return _warn(f"the compiled kernel {path} can't be read ({error.strerror}), so it is compiled again")
        if sha256(blob[32:]).digest() != blob[:32]:
            return _warn(f"the compiled kernel {path} is damaged, so it is compiled again")
        return _RESULT._rebuild(target, *pickle.loads(blob[32:]))

    def save_overload(self, signature: Any, result: Any) -> None:
        if result.library.has_dynamic_globals:  # addresses of this process
            return
        blob = _DUMPS(result._reduce())
        path = self._path(signature, result.codegen)
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(sha256(blob).digest() + blob)
        except OSError as error:
            _warn(
                f"a compiled kernel can't be kept in {path.parent} ({error.strerror}), and is compiled by every process"
            )

    def _path(self, signature: Any, codegen: Any) -> Path:
        made_for = sha256(repr((self._function, str(signature), codegen.magic_tuple())).encode()).hexdigest()[:16]
        return cache_folder() / f"{self._name}-{made_for}.kernel"


def _named(value: Any) -> str:
    """Name a function, with the constants and functions around it that are written into its code."""
    function = getattr(value, "py_func", value)
    if not isinstance(function, FunctionType):
        assert isinstance(value, (int, np.generic)), f"kernels take numbers and functions from around, found {value!r}"
        return repr(value)
    around = [_named(cell.cell_contents) for cell in function.__closure__ or ()]
    return f"{function.__module__}.{function.__qualname__}({', '.join(around)})"


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


@cache
def source_digest() -> str:
    """Return the digest of all kernel sources."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Return (and make) the folder of compiled kernels, named by their sources and by what changes their code.

    It is under `QSIM_CACHE_DIR`, else the user's cache folder, else a temporary folder that is only this user's.
    """
    settings = [repr(getattr(_CONFIG, name, None)) for name in _CHANGES_CODE]
    made_by = [numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, *settings]
    return _made_folder(f"{source_digest()}-{sha256(repr(made_by).encode()).hexdigest()[:8]}")


@cache
def _made_folder(name: str) -> Path:
    tried = []
    for base in (user_cache, private_temporary):  # the second is not looked at if the first is good
        try:
            folder = base() / "kernels" / name
        except OSError as error:
            tried.append(str(error))
            continue
        if can_write(folder):
            return folder
        tried.append(f"{folder} can't be written")
    raise OSError(
        f"there is no folder for compiled kernels: {'; '.join(tried)}. Set QSIM_CACHE_DIR to one that can be written"
    )


@cache
def announce() -> None:
    """Tell a person, once a process, why the first call of a kernel takes seconds."""
    if "QSIM_QUIET" not in environ:
        print(
            "qsim: compiling kernels for this machine, once (`qsim warm` does it ahead; QSIM_QUIET=1 hides this) ...",
            file=sys.stderr,
            flush=True,
        )


class _Listener(event.Listener):
    """Tells when this process begins (True) and ends (False) to compile a kernel, with those that the kernel calls."""

    def __init__(self) -> None:
        self.tell: Callable[[bool], None] = lambda begins: announce() if begins else None
        self._depth = 0

    def on_start(self, event: Any) -> None:
        self._step(event, 1)

    def on_end(self, event: Any) -> None:
        self._step(event, -1)

    def _step(self, event: Any, step: int) -> None:
        if any(event.data["dispatcher"] is dispatcher for dispatcher in _DISPATCHERS):
            self._depth += step
            if self._depth == max(step, 0):
                self.tell(step > 0)


_LISTENER = _Listener()
event.register("numba:compile", _LISTENER)  # type: ignore[no-untyped-call]


def tell_of_compiling(tell: Callable[[bool], None]) -> None:
    """Call a function at the beginning (True) and end (False) of compiling, instead of telling a person."""
    _LISTENER.tell = tell
