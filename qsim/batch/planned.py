"""What a program does with batches: to arrays that stay, whose numbers are there when it comes to them."""

from __future__ import annotations

import numpy as np

from qsim.batch.messages import Floats, Levels, Message
from qsim.batch.vectors import Vectors
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
