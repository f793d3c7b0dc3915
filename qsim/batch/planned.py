"""Batches in programs: arrays that stay, whose numbers are there when it comes to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch.messages import Floats, Levels, Message, SharedSupport
from qsim.batch.vectors import Support, Vectors, index_type
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


def as_they_are(v: Vectors) -> Vectors:
    """Return a copy of the rows that are in the arrays of a program."""
    end = int(v.offsets[-1])
    return Vectors(v.n, v.offsets.copy(), None if v.index is None else v.index[:end].copy(), v.value[:end].copy())


_FULL = 2**20  # numbers
