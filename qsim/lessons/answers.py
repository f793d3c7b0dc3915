"""What a student's functions are asked, and what they answer: plain values, which pass from process to process as JSON.

An answer is never unpickled: whoever marks reads numbers, bytes and arrays of numbers, checks their sizes, and computes
with them. Nothing else gets through.
"""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 10**6
"""The numbers that an array, and the bytes that an answer, may have."""
_TEXT = 300
_DTYPES = {"i": np.dtype("<i8"), "f": np.dtype("<f8")}


@dataclass(frozen=True)
class Calls:
    """Calls of a function with the same arguments; with seeds, one for each, with a random generator of it behind."""

    arguments: tuple[Any, ...]
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Other:
    """A value that is none of the plain ones, and what it is."""

    what: str


@dataclass(frozen=True)
class Failure:
    """Why there is no answer."""

    why: str


class UnreadableError(ValueError):
    """Raised for an answer that has not the form of one."""


Value = float | int | bytes | NDArray[Any] | tuple[Any, ...] | Other
Answers = list[list[Value]]
"""What came back of each call: a list for each `Calls`."""


def ask(function: Callable[..., Any], calls: Sequence[Calls]) -> Answers | Failure:
    """Call a function; what it raises is a failure, whatever it is."""
    answers: Answers = []
    try:
        for call in calls:
            draws: list[tuple[Any, ...]] = [(np.random.default_rng(seed),) for seed in call.seeds] or [()]
            answers.append([plain(function(*map(_copied, call.arguments), *draw)) for draw in draws])
    except NotImplementedError:
        return Failure("is not written yet")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        return Failure(explained(error))
    return answers


def _copied(argument: Any) -> Any:
    return argument.copy() if isinstance(argument, np.ndarray) else argument


def explained(error: BaseException) -> str:
    """Return what was raised, and at which line of the student's code."""
    if isinstance(error, MemoryError):
        return "needs more memory than it may have"
    if isinstance(error, SystemExit):
        return "ends the program (exit) instead of returning"
    try:
        text = f"{type(error).__name__}: {error}"[:_TEXT]
    except Exception:  # the text of an error of one's own may raise, too
        text = type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    if not frames or frames[-1].filename == __file__:
        return f"raises {text}"
    place = f" in {frames[-1].filename}" if frames[-1].filename.startswith("cell ") else ""
    name = "" if frames[-1].name == "<module>" else f" of {frames[-1].name}"
    return f"raises {text} (line {frames[-1].lineno}{name}{place})"


def plain(value: Any) -> Value:
    """Return what a function returned as a plain value: copies, of no class of the student's own."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value) if len(value) <= LARGEST else Other(f"{len(value):,} bytes")
    if isinstance(value, tuple):
        return tuple(plain(one) for one in value[:8]) if value else Other("an empty tuple")
    if isinstance(value, np.ndarray | list) or hasattr(value, "dtype"):
        return _array(value)
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else Other("a whole number of more than 64 bits")
    if isinstance(value, float):
        return float(value)
    return Other("None: is a return missing?" if value is None else f"of the type {type(value).__name__}"[:_TEXT])


def _array(value: Any) -> Value:
    found = np.asarray(value)
    if found.size > LARGEST:
        return Other(f"an array of {found.size:,} numbers")
    if found.size == 0:
        return Other("an empty array")
    if found.dtype.kind not in "biuf":
        return Other(f"an array of {found.dtype}, not of numbers"[:_TEXT])
    found = found.astype(_DTYPES["f" if found.dtype.kind == "f" else "i"])
    if found.ndim == 0:
        number: float | int = found.item()
        return number
    return np.array(found)  # no subclass


def encode(answers: Answers | Failure) -> bytes:
    """Return answers as a line of JSON."""
    if isinstance(answers, Failure):
        return json.dumps({"failure": answers.why}).encode() + b"\n"
    return json.dumps({"answers": [_packed(values) for values in answers]}).encode() + b"\n"


def _packed(values: list[Any]) -> dict[str, Any]:
    """Return values as JSON has them: those of one form together."""
    first = values[0]
    for name, kind in (("int", int), ("float", float)):
        if all(type(value) is kind for value in values):
            return {name: _packed_array(np.array(values, _DTYPES["i" if kind is int else "f"]))}
    if isinstance(first, np.ndarray) and all(
        isinstance(one, np.ndarray) and (one.dtype, one.shape) == (first.dtype, first.shape) for one in values
    ):
        return {"array": _packed_array(np.stack(values))}
    if isinstance(first, tuple) and all(isinstance(one, tuple) and len(one) == len(first) for one in values):
        return {"tuple": [_packed(list(column)) for column in zip(*values, strict=True)]}
    if len(values) > 1:
        return {"each": [_packed([value]) for value in values]}
    if isinstance(first, bytes):
        return {"bytes": base64.b64encode(first).decode()}
    return {"other": first.what}


def _packed_array(array: NDArray[Any]) -> dict[str, Any]:
    return {"kind": array.dtype.kind, "shape": array.shape, "data": base64.b64encode(array.tobytes()).decode()}


def decode(line: bytes) -> Answers | Failure:
    """Return the answers of a line that anybody may have written; raises UnreadableError if it holds anything else."""
    try:
        found = json.loads(line)
        if "failure" in found:
            return Failure(printable(found["failure"]))
        answers = [_unpacked(values) for values in found["answers"]]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise UnreadableError("this is no answer") from error
    return answers


def _unpacked(packed: Any) -> list[Value]:
    ((form, content),) = packed.items()
    if form in ("int", "float", "array"):
        array = _unpacked_array(content)
        if form == "array":
            return list(array)
        numbers: list[Value] = array.reshape(-1).tolist()
        return numbers
    if form == "tuple":
        return list(zip(*(_unpacked(column) for column in content), strict=True))
    if form == "each":
        return [value for one in content for value in _unpacked(one)]
    return [base64.b64decode(content, validate=True) if form == "bytes" else Other(printable(content))]


def _unpacked_array(content: Any) -> NDArray[Any]:
    data = base64.b64decode(content["data"], validate=True)
    if not data:
        raise UnreadableError("an array is never empty, so that few bytes cannot stand for many values")
    return np.frombuffer(data, _DTYPES[content["kind"]]).reshape([int(length) for length in content["shape"]]).copy()


def printable(text: Any) -> str:
    """Return a text of somebody else's as one short line of printable characters."""
    return "".join(sign if sign.isprintable() else " " for sign in str(text)[:_TEXT])
