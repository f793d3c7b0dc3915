"""What a run is known by: a digest of everything that its numbers depend on.

Whatever is taken up again is found by it: checkpoints, cells of studies, optima.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache, cached_property, lru_cache, partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

from qsim._version import __version__
from qsim.datasets import Dataset, Source
from qsim.object_loader import INSTALLED
from qsim.options import shown

_FORMAT = 2  # of the text below: another number makes all cells new
_PACKAGE = Path(__file__).parent
_NO_PART = ("study", "studies", "testing", "verify.py", "entropy.py", "notebooks.py")
"""What no run's numbers depend on."""
_LONGEST = 5000  # characters of a parameter that are kept to name differences
_VERSIONED = frozenset({"qsim", "numpy", "numba", "scipy", *sys.stdlib_module_names})
"""Packages whose classes are told by their names: the digest of the rooms and the versions tell the rest."""


class UnknowableError(TypeError):
    """A run that holds something whose content, or whose source, cannot be told."""


class SourcesChangedError(RuntimeError):
    """What a process has loaded is not what the key of its cell was made of."""


@dataclass(frozen=True)
class Identity:
    """What a run is known by.

    key: 64 hexadecimal digits, the digest of the run's content (every parameter of every object in it, and the data),
        of qsim's sources and versions (`rooms`, `place`) and of a user's own files (`modules`: path and digest).
    parts: each parameter of the run: how it prints, and the digest of its content.
    """

    key: str
    rooms: str
    place: Mapping[str, str]
    modules: Mapping[str, str]
    parts: Mapping[str, Sequence[str]]

    @property
    def stale(self) -> bool:
        """Whether a run of this identity is a new one here and now: qsim, a version or a user's file is another."""
        if self.rooms != rooms_digest() or self.place != place():
            return True
        return any(_file_digest(Path(path)) != digest for path, digest in self.modules.items())

    def require_loaded(self) -> None:
        """Refuse to compute in a process that has loaded sources which were edited since the key was made.

        Raises SourcesChangedError. A class that came by value is the one that was keyed, whatever its file is now.
        """
        loaded = {str(Path(file).resolve()) for module in list(sys.modules.values()) if (file := _file(module))}
        edited = [path for path, old in self.modules.items() if path in loaded and _file_digest(Path(path)) != old]
        if edited or self.rooms != rooms_digest():
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
        found = [
            _difference(name, self.parts.get(name, none), other.parts.get(name, none))
            for name in {**self.parts, **other.parts}
            if self.parts.get(name, none)[1] != other.parts.get(name, none)[1]
        ]
        mine, others = _sources(self.modules), _sources(other.modules)
        found += [f"the source {name} was edited" for name in sorted({name for name, _ in set(mine) ^ set(others)})]
        found += [
            f"{name} was {self.place.get(name)}, now {other.place.get(name)}"
            for name in {**self.place, **other.place}
            if self.place.get(name) != other.place.get(name)
        ]
        return found + ["the sources of qsim are others"] * (self.rooms != other.rooms or not found)


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
    whole = json.dumps([_FORMAT, text, rooms_digest(), place(), _sources(modules)], sort_keys=True)
    held = {field.name: getattr(run, field.name) for field in fields(run)} if is_dataclass(run) else {}
    parts = {
        name: (_printed(value), sha256(reader.text(value).encode()).hexdigest()[:16]) for name, value in held.items()
    }
    return Identity(sha256(whole.encode()).hexdigest(), rooms_digest(), place(), modules, parts)


def _sources(modules: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return names and digests of files, wherever they lie."""
    return sorted((Path(path).name, digest) for path, digest in modules.items())


def _printed(value: Any) -> str:
    """Return how a parameter prints, cut if that is long; of data the digest too."""
    data = value.load() if isinstance(value, Source) else value
    return shown(value, _LONGEST) + (f" with the content {data.digest}" if isinstance(data, Dataset) else "")


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
def rooms_digest(package: Path = _PACKAGE) -> str:
    """Return the digest of all sources of qsim, without the rooms that look at finished runs only."""
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

    def text(self, thing: Any) -> str:
        """Return the content of an object as text."""
        if thing is None or type(thing) in (bool, int, float, complex, str, bytes):
            return repr(thing)
        if isinstance(thing, np.generic):
            return f"{thing.dtype.str} {thing.item()!r}"
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
        if isinstance(thing, np.ndarray) and thing.dtype.kind != "O":
            content = sha256(np.ascontiguousarray(thing).tobytes()).hexdigest()
            return f"array({thing.dtype.str}, {thing.shape}, {content})"
        if type(thing) in (list, tuple):
            return f"{type(thing).__name__}({', '.join(map(self.text, thing))})"
        if type(thing) in (set, frozenset):
            return f"{type(thing).__name__}({', '.join(sorted(map(self.text, thing)))})"
        if type(thing) is dict:
            return f"dict({', '.join(f'{self.text(k)}: {self.text(v)}' for k, v in thing.items())})"
        if isinstance(thing, Dataset):
            return f"data({thing.name!r}, {thing.digest})"
        if isinstance(thing, Enum):
            return f"{self._class(type(thing))}.{thing.name}"
        if isinstance(thing, BuiltinFunctionType | np.ufunc):
            return f"built-in {getattr(thing, '__module__', '')} {thing.__name__}"
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
                make, given, kept, *items = (*thing.__reduce_ex__(2), None, None)[:5]
            except TypeError as error:
                raise UnknowableError(f"what an object of {_called(cls)} holds cannot be told: {error}") from None
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
                names.append(part.__qualname__)
        return f"class({', '.join(names)})"

    def _function(self, function: FunctionType) -> str:
        code = function.__code__
        if not _is_versioned(function):
            self._note(function)
        held = [part.cell_contents for part in function.__closure__ or ()]
        inside = self.text((function.__defaults__, function.__kwdefaults__, held))
        return f"function({function.__qualname__}, {code.co_code.hex()}, {code.co_names}, {inside})"

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
