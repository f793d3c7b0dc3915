"""Plans of users' own compressors: which of them count, and what they say of their messages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Memory, Message, Vectors
from qsim.batch.planned import plan_check
from qsim.options import is_shipped
from qsim.program import NoProgram, Program

_Compressor = TypeVar("_Compressor")


def planned_at_the_door(plan: Callable[..., Message]) -> Callable[..., Message]:
    """Check where the plan of a user's own compressor says that its messages are."""

    @wraps(plan)
    def checked(
        self: Any, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None
    ) -> Message:
        message = plan(self, program, v, keys, memory)
        plan_check(f"the plan of {type(self).__name__}", program, message, self.emits, v)
        return message

    return checked


def with_own_plan(compressor: _Compressor) -> _Compressor:
    """Return a compressor that has a plan of its own.

    Raises NoProgram for a user's subclass without one: what it overrides, the plan that it inherits does not know.
    """
    if not is_shipped(compressor) and "plan" not in vars(type(compressor)):
        raise NoProgram
    return compressor
