"""The identity of a run: a digest of everything that its numbers depend on.

Whatever is taken up again is found by it: checkpoints, cells of studies, optima.
"""

from __future__ import annotations

import ast
import dis
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache, cached_property, lru_cache, partial
from hashlib import sha256
from importlib.metadata import version
from inspect import unwrap
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from qsim._version import __version__
from qsim.datasets import Source
from qsim.datasets.parts import Rows
from qsim.object_loader import INSTALLED
from qsim.options import shown

_FORMAT = 3  # of the text below: another number makes all cells new
_PACKAGE = Path(__file__).parent
_NO_PART = ("study", "studies", "testing", "verify.py", "entropy.py", "notebooks.py", "cli.py", "__main__.py")
"""Modules that no run's numbers depend on."""
_LONGEST = 5000  # characters of a parameter that are kept to name differences
_VERSIONED = frozenset({"qsim", "numpy", "numba", "scipy", *sys.stdlib_module_names})
"""Packages whose classes are told by their names: the digest of qsim's sources and the versions tell the rest."""


class UnknowableError(TypeError):
    """A run that holds something whose content, or whose source, cannot be told."""


class SourcesChangedError(RuntimeError):
    """Raised if a process has loaded other sources than those that the key of its cell was made of."""


@dataclass(frozen=True)
class Identity:
    """The identity of a run.

    key: 64 hexadecimal digits, the digest of the run's content (every parameter of every object in it, and the data),
        of qsim's sources and versions (`sources`, `place`) and of a user's own files (`modules`: path and digest).
    parts: each parameter of the run: how it prints, and the digest of its content.
    """

    key: str
    sources: str
    place: Mapping[str, str]
    modules: Mapping[str, str]
    parts: Mapping[str, Sequence[str]]

    @property
    def stale(self) -> bool:
        """Whether a run of this identity is a new one here and now: qsim, a version or a user's file is another."""
        if self.sources != sources_digest() or self.place != place():
            return True
        return any(_file_digest(Path(path)) != digest for path, digest in self.modules.items())

    def require_loaded(self) -> None:
        """Refuse to compute in a process that has loaded sources which were edited since the key was made.

        Raises SourcesChangedError. A class that came by value is the one that was keyed, whatever its file is now.
        """
        loaded = {str(Path(file).resolve()) for module in list(sys.modules.values()) if (file := _file(module))}
        edited = [path for path, old in self.modules.items() if path in loaded and _file_digest(Path(path)) != old]
        if edited or self.sources != sources_digest():
            what = ", ".join(edited) or "qsim"
            raise SourcesChangedError(f"the source of {what} was edited while the study ran: give the command again")

    def about(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def differences(self, other: Identity) -> list[str]:
        """Return how another identity is not this one, in words; nothing for the same key."""
        if self.key == other.key:
            return []
        none = ("nothing", "")
        edited = sorted({name for name, _ in set(_sources(self.modules)) ^ set(_sources(other.modules))})
        parts = {
            name: (self.parts.get(name, none), other.parts.get(name, none)) for name in {**self.parts, **other.parts}
        }
        found = [
            _difference(name, mine, others)
            for name, (mine, others) in parts.items()
            if mine[1] != others[1] and not (edited and mine[0] == others[0])  # the source says it
        ]
        found += [f"the source {name} was edited" for name in edited]
        found += [
            f"{name} was {self.place.get(name)}, now {other.place.get(name)}"
            for name in {**self.place, **other.place}
            if self.place.get(name) != other.place.get(name)
        ]
        return found + ["the sources of qsim are others"] * (self.sources != other.sources or not found)


def identify(run: Any) -> Identity:
    """Return what a run (or any object) is known by. Two runs with equal keys have the same trace, bit for bit.

    Raises UnknowableError for a run with an object that has no content to tell (an open file, a generator), or with a
    class whose source is in no file or depends on a function call.

    >>> import qsim
    >>> run = qsim.Run(qsim.datasets.load("spark_sample"), objective=qsim.LogisticRegression(l2=0.1),
    ...                method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)))
    >>> identify(run).key == identify(run).key != identify(qsim.Run(run.data, run.objective, run.method, seed=1)).key
    True
    """
    reader = _Reader()
    text = reader.text(run)
    modules = {str(path): digest for path, digest in sorted(reader.files.items())}
    whole = json.dumps([_FORMAT, text, sources_digest(), place(), _sources(modules)], sort_keys=True)
    held = {field.name: getattr(run, field.name) for field in fields(run)} if is_dataclass(run) else {}
    parts = {
        name: (_printed(value), sha256(_Reader().text(value).encode()).hexdigest()[:16]) for name, value in held.items()
    }
    return Identity(sha256(whole.encode()).hexdigest(), sources_digest(), place(), modules, parts)


def _sources(modules: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return names and digests of files, wherever they lie."""
    return sorted((Path(path).name, digest) for path, digest in modules.items())


def _printed(value: Any) -> str:
    """Return how a parameter prints, cut if that is long; of data the digest too."""
    data = value.load() if isinstance(value, Source) else value
    return shown(value, _LONGEST) + (f" with the content {data.digest}" if isinstance(data, Rows) else "")


def _difference(name: str, was: Sequence[str], now: Sequence[str]) -> str:
    if was[0] == now[0]:
        return f"{name} holds something else, though it prints as {shown(now[0])[1:-1]}"
    first = next((at for at, (a, b) in enumerate(zip(was[0], now[0], strict=False)) if a != b), 0)
    return f"{name} was {_around(was[0], first)}, now {_around(now[0], first)}"


def _around(text: str, place: int) -> str:
    """Return a text, or of a long one what is around a place."""
    low, high = max(0, place - 100), place + 100
    return text if len(text) <= 300 else "..." * (low > 0) + text[low:high] + "..." * (high < len(text))


@cache
def environment() -> dict[str, Any]:
    """Return what numbers depend on beside the call: versions, the kernels' digest, the kind of machine."""
    from qsim.kernels._jit import source_digest

    packages = ("numpy", "numba", "scipy", "pandas", "matplotlib")
    return {
        "qsim": __version__,
        "kernels": source_digest(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}",
    }


@cache
def sources_digest(package: Path = _PACKAGE) -> str:
    """Return the digest of all sources of qsim, without the packages that look at finished runs only."""
    digest = sha256()
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if relative.parts[0] not in _NO_PART:
            digest.update(f"{relative.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def place() -> Mapping[str, str]:
    """Return the versions and the kind of machine: numbers are equal to the last bit only where these are.

    The processor counts, since compilers choose instructions by it (fused multiply-add), and so does the C library.
    """
    from llvmlite import binding

    versions = {name: environment()["versions"][name] for name in ("python", "numpy", "numba", "scipy")}
    versions["qsim"] = environment()["qsim"]
    features = binding.get_host_cpu_features().flatten()
    chosen = {name: os.environ[name] for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES") if name in os.environ}
    return (
        versions
        | chosen
        | {
            "machine": environment()["machine"],
            "processor": f"{binding.get_host_cpu_name()} {sha256(features.encode()).hexdigest()[:16]}",
            "c library": " ".join(platform.libc_ver()).strip(),
        }
    )


class _Reader:
    """Turns objects into text that tells them apart, and notes the files of a user's classes and functions."""

    def __init__(self) -> None:
        self.files: dict[Path, str] = {}
        self._inside: list[int] = []
        self._told: list[Any] = []  # functions and classes, which may refer to each other

    def text(self, thing: Any) -> str:
        """Return the content of an object as text."""
        if thing is None or type(thing) in (bool, int, float, complex, str, bytes):
            return repr(thing)
        if isinstance(thing, np.generic):
            return f"{_type_of(thing)} {thing.item()!r}"
        if id(thing) in self._inside:
            raise UnknowableError(f"an object of {_called(type(thing))} refers to itself")
        self._inside.append(id(thing))
        try:
            return self._composed(thing)
        finally:
            self._inside.pop()

    def _composed(self, thing: Any) -> str:
        if isinstance(thing, type):
            return self._class(thing)
        if type(thing) in (np.ndarray, np.memmap) and not thing.dtype.hasobject:
            content = sha256(np.ascontiguousarray(thing).tobytes()).hexdigest()
            return f"array({_type_of(thing)}, {thing.shape}, {content})"
        if isinstance(thing, np.ma.MaskedArray):  # pickle tells when its fill value was first looked at
            return f"masked({self.text((thing.data, np.ma.getmaskarray(thing), thing.fill_value))})"
        if type(thing) in (list, tuple):
            return f"{type(thing).__name__}({', '.join(map(self.text, thing))})"
        if type(thing) in (set, frozenset):
            return f"{type(thing).__name__}({', '.join(sorted(map(self.text, thing)))})"
        if type(thing) is dict:
            return f"dict({', '.join(f'{self.text(k)}: {self.text(v)}' for k, v in thing.items())})"
        if isinstance(thing, Rows):
            return f"data({thing.name!r}, {thing.digest})"
        if isinstance(thing, Enum):
            return f"{self._class(type(thing))}.{thing.name}"
        if isinstance(thing, np.ufunc) and thing.types == [f"{'O' * thing.nin}->{'O' * thing.nout}"]:
            raise UnknowableError(f"what {thing!r} does cannot be told, as it is made of a function")
        if isinstance(thing, BuiltinFunctionType | np.ufunc):
            of = getattr(thing, "__self__", None)  # whose method it is
            name = f"built-in {getattr(thing, '__module__', '')} {thing.__name__}"
            return name if of is None or isinstance(of, ModuleType) else f"{name} of {self.text(of)}"
        if isinstance(thing, FunctionType):
            return self._function(thing)
        if isinstance(thing, MethodType):
            return f"method({self.text(thing.__func__)}, {self.text(thing.__self__)})"
        if isinstance(thing, partial):
            return f"partial({self.text((thing.func, thing.args, thing.keywords))})"
        return self._object(thing)

    def _object(self, thing: Any) -> str:
        """Return the fields of an option and what else a user's holds, or what pickle would keep of another object."""
        cls = type(thing)
        if is_dataclass(thing):
            state = {field.name: getattr(thing, field.name) for field in fields(thing)}
            if not _is_versioned(cls):
                state |= {name: value for name, value in vars(thing).items() if not _is_cached(cls, name)}
        else:
            try:
                reduced = thing.__reduce_ex__(2)
            except TypeError as error:
                raise UnknowableError(f"what an object of {_called(cls)} holds cannot be told: {error}") from None
            if isinstance(reduced, str):  # it is known by a name, as a function with a memo is
                return f"{self._class(cls)}({reduced}, {self.text(getattr(thing, '__wrapped__', None))})"
            make, given, kept, *items = (*reduced, None, None)[:5]
            if isinstance(kept, dict):
                kept = {name: value for name, value in kept.items() if not _is_cached(cls, name)}
            state = {"make": make, "of": given, "state": kept, "items": [list(part or ()) for part in items]}
        loaded = f", {self.text(thing.load())}" if isinstance(thing, Source) else ""
        listed = ", ".join(f"{name}={self.text(value)}" for name, value in state.items())
        return f"{self._class(cls)}({listed}{loaded})"

    def _class(self, cls: type) -> str:
        names = []
        for part in cls.__mro__:
            if _is_versioned(part):
                names.append(f"{part.__module__}.{part.__qualname__}")
            else:  # told by the content of its file, wherever that lies and whatever it was imported as
                self._note(part)
                names.append(part.__qualname__ + self._once(part, self._body))
        return f"class({', '.join(names)})"

    def _once(self, defined: Any, content: Callable[[Any], str]) -> str:
        """Return the content of a user's class or function the first time that it is met."""
        place = next((at for at, told in enumerate(self._told) if told is defined), None)
        if place is not None:
            return f" {place}"
        self._told.append(defined)
        return content(defined)

    def _body(self, cls: type) -> str:
        """Return what a class has now that its file need not say: plain attributes, and the functions in it."""
        parts = []
        functions = {name: found for name, part in vars(cls).items() if (found := _function_in(part)) is not None}
        codes = [_does(function.__code__) for function in functions.values()]
        written, changes = {name for code in codes for name in code.written}, any(code.changes for code in codes)
        for name, value in vars(cls).items():
            if name in functions and (not name.startswith("__") or name == "__call__"):
                with suppress(UnknowableError):  # its file is known all the same
                    parts.append(f"{name}={self.text(functions[name])}")
            elif not name.startswith("__") and name not in written and _is_plain(value, changes):
                parts.append(f"{name}={self.text(value)}")
        return f"{{{', '.join(parts)}}}"

    def _function(self, function: FunctionType) -> str:
        if _is_versioned(function):
            return f"function({function.__qualname__}{self._once(function, self._made)})"
        self._note(function)
        code, read = function.__code__, lambda _: self._read(function)
        return f"function({function.__qualname__}{self._once(function, self._made)}{self._once(code, read)})"

    def _made(self, function: FunctionType) -> str:
        """Return what a function was made of."""
        held = [part.cell_contents for part in function.__closure__ or ()]
        inside = (function.__defaults__, function.__kwdefaults__, held, dict(vars(function)))
        return f", {self._code(function.__code__)}, {self.text(inside)}"

    def _code(self, code: CodeType) -> str:
        consts = [self._code(part) if isinstance(part, CodeType) else self.text(part) for part in code.co_consts]
        return f"code({code.co_code.hex()}, {code.co_names}, {', '.join(consts)})"

    def _read(self, function: FunctionType) -> str:
        """Return the plain values now of the globals that a function reads, and of those that it calls."""
        code, found = _does(function.__code__), []
        for name in sorted(code.names - code.written):
            value = function.__globals__.get(name)
            if isinstance(value, ModuleType) and _is_own(value):
                values = {f"{name}.{part}": vars(value).get(part) for part in sorted(code.names - code.written)}
            else:
                values = {name: value}
            for called, held in values.items():
                if held is not None and _is_plain(held, code.changes):
                    found.append(f"{called}={self.text(held)}")
                elif isinstance(held, FunctionType | type) and _is_own(held):
                    with suppress(UnknowableError):
                        found.append(f"{called}={self.text(held)}")
        return f", {', '.join(found)}"

    def _note(self, defined: Any) -> None:
        """Note the file that a class or function comes from, and what that imports."""
        file = _file(sys.modules.get(defined.__module__))
        where = "it is in no file" if file is None else "it is made inside a function"
        if file is None or (isinstance(defined, type) and "<locals>" in defined.__qualname__):
            raise UnknowableError(
                f"what {_called(defined)} does cannot be told from its source, as {where};"
                " define it at the top of a file, with its parameters as fields"
            )
        self._note_file(Path(file).resolve())

    def _note_file(self, path: Path) -> None:
        if path not in self.files:
            digest = _file_digest(path)
            if digest is None:
                raise UnknowableError(f"the source {path} cannot be read any more")
            self.files[path] = digest
            for imported in _imports(path, digest):
                self._note_file(imported)


class _Code:
    """The uses of names in a code, nested codes included.

    names: of globals and attributes. written: those that it binds anew, as a counter. changes: whether it may change a
    list or a dict.
    """

    def __init__(self, code: CodeType) -> None:
        self.names, self.written, self.changes = set(code.co_names), set[str](), False
        for step in dis.get_instructions(code):
            if step.opname in ("STORE_GLOBAL", "STORE_ATTR"):
                self.written.add(step.argval)
            self.changes |= step.opname in ("STORE_SUBSCR", "DELETE_SUBSCR")
        self.changes |= not self.names.isdisjoint(_CHANGE)
        for part in code.co_consts:
            if isinstance(part, CodeType):
                inner = _does(part)
                self.names |= inner.names
                self.written |= inner.written
                self.changes |= inner.changes


@lru_cache(maxsize=1024)
def _does(code: CodeType) -> _Code:
    return _Code(code)


def _is_own(held: Any) -> bool:
    """Tell whether a module, or the one that a class or function is of, is a user's file, not of a package."""
    module = held if isinstance(held, ModuleType) else sys.modules.get(held.__module__)
    file = _file(module)
    if module is None or file is None or module.__name__.partition(".")[0] in _VERSIONED:
        return False
    return _is_users(Path(file).resolve())


_CHANGE = ("add", "append", "clear", "extend", "insert", "pop", "remove", "setdefault", "update")


def _is_plain(value: Any, changes: bool = False) -> bool:
    """Tell whether a value is a number, a text, an array or a collection of them; of none that a code `changes`."""
    if value is None or type(value) in (bool, int, float, complex, str, bytes) or isinstance(value, np.generic):
        return True
    if type(value) is np.ndarray:
        return not (changes or value.dtype.hasobject)
    if type(value) in (tuple, frozenset) or (type(value) in (list, set) and not changes):
        return all(_is_plain(part, changes) for part in value)
    return type(value) is dict and not changes and all(_is_plain(part) for pair in value.items() for part in pair)


def _function_in(part: Any) -> FunctionType | None:
    """Return the function of a method, a property and the like."""
    for name in ("__func__", "fget", "func"):
        part = getattr(part, name, part) if not isinstance(part, FunctionType | partial) else part
    part = unwrap(part) if isinstance(part, FunctionType) else None
    return part if isinstance(part, FunctionType) else None


def _type_of(array: Any) -> str:
    return array.dtype.str if array.dtype.names is None else repr(array.dtype)


def _is_versioned(defined: Any) -> bool:
    return defined.__module__.partition(".")[0] in _VERSIONED


def _file(module: Any) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else None


def _is_cached(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name, None), cached_property)


def _called(defined: Any) -> str:
    return f"{defined.__module__}.{defined.__qualname__}"


def _file_digest(path: Path) -> str | None:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


@lru_cache(maxsize=256)
def _imports(path: Path, _: str) -> tuple[Path, ...]:
    """Return a user's files that a file of a digest imports: modules that are loaded, or lie beside it.

    Installed packages are left out; but from a file of one, what it imports from the same package is followed.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # compiled code
        return ()
    found = {file for folder, name in _imported_names(tree, path) for file in _files_of(folder, name)}
    return tuple(sorted(file for file in found if _is_users(file) or _package(file) == _package(path)))


def _imported_names(tree: ast.AST, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield each name that a source imports, and the folder in which a relative or a neighbour's name starts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((path.parent, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder, start = path.parents[max(node.level - 1, 0)], "." * bool(node.level) + (node.module or "")
            yield folder, start
            yield from ((folder, f"{start}.{alias.name}") for alias in node.names)


def _files_of(folder: Path, name: str) -> Iterator[Path]:
    """Yield the file of a module and those of the packages that it is in; a relative name begins with a dot."""
    parts = name.strip(".").split(".")
    for length in range(1, len(parts) + 1):
        loaded = None if name.startswith(".") else sys.modules.get(".".join(parts[:length]))
        beside = folder.joinpath(*parts[:length])
        places = [_file(loaded), beside.with_suffix(".py"), beside / "__init__.py"]
        first = next((Path(place) for place in places if place and Path(place).is_file()), None)
        if first is not None:
            yield first.resolve()


def _is_users(path: Path) -> bool:
    return not str(path).startswith(INSTALLED)


def _package(path: Path) -> Path:
    """Return the outermost package that a file is in, the file itself if in none."""
    while (path.parent / "__init__.py").exists():
        path = path.parent
    return path
