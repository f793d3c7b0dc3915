"""Batches in programs: arrays that stay, whose numbers are there when it comes to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qsim.batch.messages import Floats, Levels, Message, SharedSupport
from qsim.batch.vectors import Batch, Support, Vectors, index_type
from qsim.options import shown
from qsim.program import NoProgram, Program


def plan_vectors(program: Program, message: Message) -> Vectors:
    """Have a program do what `Message.vectors` does; return where. Raises NoProgram for other kinds of messages."""
    from qsim.kernels.quantize import levels_to_values

    if isinstance(message, Floats):
        return message.vectors()
    if not isinstance(message, Levels):
        raise NoProgram
    value, bucket = np.empty(message.level.size, np.float32), message.bucket or message.n
    program.call(
        levels_to_values, message.offsets, message.index, message.level, message.scale, bucket, message.s, value
    )
    return Vectors(message.n, message.offsets, message.index, value)


def plan_scaled(program: Program, message: Message, factor: float) -> Message:
    """Have a program do what `Message.scaled` does; return where. It ends where a number becomes zero.

    Raises NoProgram for other kinds of messages.
    """
    from qsim.kernels.rounds import multiplied

    if isinstance(message, Levels) and message.fixed is not None:
        return message.scaled(factor)  # its scales are the same in every round
    if isinstance(message, Levels):
        numbers, offsets = message.scale, np.array([0, message.scale.size])
    elif isinstance(message, (Floats, SharedSupport)) and message.value.dtype == np.float32:
        numbers, offsets = message.value, message.offsets
    else:
        raise NoProgram
    out = np.empty_like(numbers)
    program.call(multiplied, offsets, numbers, np.float32(factor), out, stop="not zero")
    return replace(message, scale=out) if isinstance(message, Levels) else replace(message, value=out)


def plan_add(program: Program, of: Support, rows: NDArray[Any], v: Vectors, sign: float) -> None:
    """Have a program add sign times v to rows on their support, as `Memory.add` does; v is zero off it.

    Where each coordinate lies on the support is looked up, if a table of that is small; else both are gone through.
    """
    from qsim.kernels.vectors import add_at_places, add_on_support

    factor = rows.dtype.type(sign)
    if of.index is None or v.index is None or v.rows * of.n > _TABLE:
        program.call(add_on_support, of.offsets, of.index, v.offsets, v.index, v.value, factor, rows)
    else:
        program.call(add_at_places, of.places, of.offsets, v.offsets, v.index, v.value, factor, rows)


_TABLE = 2**20
"""Numbers that a table may have."""


def plan_check(name: str, program: Program, message: Message, kind: type[Message], v: Vectors) -> None:
    """Refuse where a user's plan says that the message of v is, and end a program in whose rounds it is unsound.

    Raises TypeError for another kind of message, and for arrays that are not those of one; NoProgram for kinds other
    than floats with their coordinates, and levels.
    """
    from qsim.kernels.rounds import unsound_offsets
    from qsim.kernels.vectors import first_unordered

    if not isinstance(message, kind) or (message.n, message.rows) != (v.n, v.rows):
        raise TypeError(f"{name} must return {kind.__name__} of {v.rows} rows of length {v.n}, found {shown(message)}")
    numbers = message.level if isinstance(message, Levels) else getattr(message, "value", None)
    index = getattr(message, "index", None)
    if not isinstance(message, (Floats, Levels)) or index is None or numbers is None:
        raise NoProgram
    wanted = (np.int64, index_type(v.n), np.int32 if isinstance(message, Levels) else np.float32)
    arrays = (message.offsets, index, numbers)
    if [a.dtype for a in arrays] != list(map(np.dtype, wanted)) or index.shape != numbers.shape:
        found = ", ".join(f"{a.dtype} of shape {a.shape}" for a in arrays)
        types = " and ".join(kind.__name__ for kind in wanted)
        raise TypeError(f"the arrays of what {name} returns must be {types}, the last two of one size, found {found}")
    program.call(unsound_offsets, message.offsets, index.size, stop="not zero")
    program.call(first_unordered, message.offsets, index, v.n, stop="not negative")


def plan_by_python(program: Program, like: Vectors, make: Callable[[], Vectors], dense: bool = False) -> Vectors:
    """Have a program call a function that returns rows; return where they are. It ends where the function raises.

    like: rows as many and as long. dense: whether the rows fill all coordinates, and say none.

    Raises NoProgram where there is no room for rows that all are full.
    """
    rows, n = like.rows, like.n
    if rows * n > _FULL:
        raise NoProgram
    index = None if dense else np.empty(rows * n, index_type(n))
    offsets = np.arange(rows + 1) * n if dense else np.zeros(rows + 1, np.int64)
    found = Vectors(n, offsets, index, np.empty(rows * n, np.float32))

    def write() -> None:
        made = make()
        if (made.rows, made.n) != (rows, n) or made.value.dtype != np.float32 or (dense and made.index is not None):
            raise TypeError(f"found {shown(made)}")
        found.value[: made.value.size] = made.value
        if index is not None:
            offsets[:] = made.offsets
            index[: made.value.size] = np.tile(np.arange(n), rows) if made.index is None else made.index

    program.python(write)
    return found


def as_they_are(batch: _Batch) -> _Batch:
    """Return a copy of the rows that are in the arrays of a program."""
    end = batch.offsets[-1]
    return _made_of(batch, lambda name, array: array[:end].copy() if name in _ENTRIES else array.copy())


def room_like(batch: _Batch) -> _Batch:
    """Return a batch with arrays like those of another: as long; with coordinates, with room for full rows."""
    room = batch.rows * batch.n
    if getattr(batch, "index", None) is None:
        room = int(batch.offsets[-1])
    return _made_of(batch, lambda name, array: np.zeros(room if name in _ENTRIES else array.size, array.dtype))


def _made_of(batch: _Batch, make: Callable[[str, NDArray[Any]], NDArray[Any]]) -> _Batch:
    """Return a batch with other arrays than another, which are made of its own."""
    parts = [(name, getattr(batch, name)) for name in _names(type(batch))]
    kind: Callable[..., _Batch] = type(batch)
    return kind(*[make(name, part) if isinstance(part, np.ndarray) else part for name, part in parts])


def take(batch: _Batch, into: _Batch) -> bool:
    """Copy a batch into the arrays of a program, if they are for batches like it: tells whether they are.

    Numbers of other types are not converted, and what they say is not looked at.
    """
    if not _alike(batch.offsets, into.offsets, into.offsets.size):
        return False
    entries = int(batch.offsets[-1])
    for name in _names(type(into)):
        found, own = getattr(batch, name), getattr(into, name)
        if not isinstance(own, np.ndarray):
            if type(found) is not type(own) or found != own:
                return False
        elif _alike(found, own, entries if name in _ENTRIES else own.size):
            own[: found.size] = found
        else:
            return False
    return True


def _alike(array: Any, own: NDArray[Any], size: int) -> bool:
    """Tell whether an array has so many numbers, of the type of a program's own, and no more than that has."""
    plain = type(array) is np.ndarray and array.dtype == own.dtype and array.ndim == 1 and array.flags.c_contiguous
    return plain and array.size == size <= own.size


@cache
def _names(kind: type[Batch]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


_Batch = TypeVar("_Batch", bound=Batch)
_ENTRIES = ("index", "value", "level", "positive")
"""The arrays of a batch that have a number for each entry."""

_FULL = 2**20  # numbers
