"""The cache of compiled kernels: damaged files, Numba's switches, odd environments, interrupts while code is made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from helpers.paths import process_environment
from qsim import kernels
from qsim.kernels import _jit
from qsim.storage import private_temporary, user_cache

DRAW = "from qsim.kernels.hashing import below; from numpy import uint64; print(below(uint64(2**63), 10))"


def python(code: str, **settings: str | None) -> subprocess.CompletedProcess[str]:
    """Run a program with variables set, or without those that are None."""
    environment = process_environment() | settings
    environment = {name: value for name, value in environment.items() if value is not None}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def succeeded(done: subprocess.CompletedProcess[str], expected: str) -> None:
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


def compiled_again(number: int) -> int:
    """A kernel as a new process sees it."""

    def plus_one(x: int) -> int:
        return x + 1

    return _jit.kernel(plus_one)(number)


@pytest.mark.parametrize(
    "damage",
    [
        lambda blob: b"",
        lambda blob: blob[:20],
        lambda blob: blob[:-1],
        lambda blob: b"garbage" * 100,
        lambda blob: blob[:-300] + bytes([blob[-300] ^ 1]) + blob[-299:],
        lambda blob: bytes(len(blob)),
    ],
    ids=["empty", "cut in its head", "cut at its end", "garbage", "a bit flipped", "zeros"],
)
def test_a_damaged_file_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(_jit, "cache_folder", lambda: tmp_path)
    assert compiled_again(1) == 2
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="is damaged, so it is compiled again"):
        assert compiled_again(1) == 2
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    monkeypatch.setattr(_jit._KernelCache, "save_overload", None)
    assert compiled_again(1) == 2  # it is whole now: nothing is saved


def test_a_folder_that_cannot_be_used_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(_jit, "cache_folder", lambda: tmp_path / "file" / "folder")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert compiled_again(3) == 4
    assert ["can't be read" in str(one.message) for one in caught] == [True, False]
    assert "can't be kept" in str(caught[1].message)


@pytest.mark.parametrize(
    "settings",
    [
        {"NUMBA_DISABLE_JIT": "1"},
        {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CAPTURED_ERRORS": "old_style"},
        {"NUMBA_OPT": "0", "NUMBA_DEBUGINFO": "1", "NUMBA_CACHE_LOCATOR_CLASSES": "InTreeCacheLocator"},
    ],
    ids=str,
)
def test_numbas_switches_work_and_leave_the_usual_cache_alone(tmp_path: Path, settings: dict[str, str]) -> None:
    """With NUMBA_DISABLE_JIT a user's functions run as Python, and qsim's are compiled as always."""
    own = "import numba; print(type(numba.njit(lambda x: x)).__name__)"
    done = python(f"{DRAW}; {own}", QSIM_CACHE_DIR=str(tmp_path), QSIM_QUIET="1", **settings)
    succeeded(done, f"5\n{'function' if 'NUMBA_DISABLE_JIT' in settings else 'CPUDispatcher'}")
    (folder,) = (tmp_path / "kernels").iterdir()
    changes = {"NUMBA_BOUNDSCHECK", "NUMBA_OPT", "NUMBA_DEBUGINFO"} & settings.keys()
    same = all(os.environ.get(name) == settings[name] for name in changes)  # the whole suite may run with one of them
    assert (folder.name == _jit.cache_folder().name) == same


@pytest.mark.parametrize("name", ["BOUNDSCHECK", "OPT", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "DISABLE_INTEL_SVML"])
def test_settings_that_change_code_have_a_folder_of_their_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = _jit.cache_folder()
    with monkeypatch.context() as patch:
        patch.setattr(_jit, "can_write", lambda folder: True)
        patch.setattr(_jit._CONFIG, name, 2)
        assert _jit.cache_folder() != usual
    assert _jit.cache_folder() == usual


def test_a_bad_temporary_folder_is_not_looked_at(tmp_path: Path) -> None:
    """Unless the cache cannot be used either: then both are named."""
    (tmp_path / f"qsim-{os.getuid()}").touch()
    succeeded(python(DRAW, TMPDIR=str(tmp_path)), "5")
    (tmp_path / "cache").touch()
    done = python(DRAW, TMPDIR=str(tmp_path), QSIM_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "cache/kernels" in done.stderr
    assert f"qsim-{os.getuid()} is not a folder that this user alone can write to" in done.stderr
    succeeded(python(DRAW, TMPDIR=str(tmp_path / "none")), "5")


def test_a_user_without_a_home_has_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError("no entry in the passwd file")

    for name in ("HOME", "QSIM_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert user_cache() == private_temporary() == tmp_path / f"qsim-{os.getuid()}"
    monkeypatch.setenv("QSIM_CACHE_DIR", "~/cache")
    with pytest.raises(OSError, match="QSIM_CACHE_DIR='~/cache' can't be found"):
        user_cache()


@pytest.mark.parametrize(("given", "found"), [("~/x", "home/x"), ("x", "x")])
def test_the_chosen_folder_is_the_same_one_everywhere(tmp_path: Path, given: str, found: str) -> None:
    """A home is put in for ~, and a relative path is of the folder where qsim is imported, in other processes too."""
    home = tmp_path / "home"
    home.mkdir()
    look = "from qsim.storage import user_cache; print(user_cache())"
    code = (
        f"import os; os.chdir({str(tmp_path)!r}); import qsim, subprocess, sys; os.chdir({str(home)!r}); {look};"
        f"sys.stdout.flush(); subprocess.run([sys.executable, '-c', {look!r}])"
    )
    succeeded(python(code, HOME=str(home), QSIM_CACHE_DIR=given), f"{tmp_path / found}\n{tmp_path / found}")


def test_kernels_of_one_name_and_signature_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the constants and functions around them, which are written into their code."""
    monkeypatch.setattr(_jit, "cache_folder", lambda: tmp_path)

    def times(factor: int) -> Callable[[int], int]:
        return _jit.inlined(lambda x: x * factor)

    def adding(more: int, then: Callable[[int], int]) -> Callable[[int], int]:
        def add(x: int) -> int:
            return then(x + more)

        return _jit.kernel(add)

    for _ in range(2):
        assert [adding(more, times(factor))(1) for more in (1, 2) for factor in (1, 10)] == [2, 20, 3, 30]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("where", ["load_overload", "save_overload"])
def test_an_interrupt_while_code_is_made_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """LLVM calls Python there, and loses what it raises: Ctrl-C waits until the kernel is ready."""
    done, real = [], getattr(_jit._KernelCache, where)

    def interrupted(*arguments: object) -> object:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            done.append("lost")
        done.append(real(*arguments))
        return done[-1]

    handler = signal.default_int_handler  # a background job may have been started with none
    before = signal.signal(signal.SIGINT, handler)
    monkeypatch.setattr(_jit, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(_jit._KernelCache, where, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            compiled_again(1)
        assert done == [None]
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_no_two_kernels_have_one_name() -> None:
    """By which machine code is found: of two from the cache with one name, one would run in the place of the other."""
    for module in iter_modules(kernels.__path__):
        import_module(f"qsim.kernels.{module.name}")
    found: dict[str, set[tuple[str, ...]]] = {}
    for function in (dispatcher.py_func for dispatcher in _jit._DISPATCHERS):
        around = tuple(_jit._named(cell.cell_contents) for cell in function.__closure__ or ())
        found.setdefault(f"{function.__module__}.{function.__qualname__}", set()).add(around)
    assert len(found) > 250
    assert [name for name, codes in found.items() if len(codes) > 1] == []
