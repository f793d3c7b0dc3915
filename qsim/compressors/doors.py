"""Checks of what goes into compressors and comes out of them, also where users write their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import local
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Memory, Message, Vectors
from qsim.batch.checks import require_keys, require_memory, require_message, require_vectors
from qsim.options import refuse_masked


class UnsoundMessageError(ValueError):
    """Raised if a compressor returns a message that is not valid for the vectors it was given."""


def at_the_door(compress: Callable[..., Message]) -> Callable[..., Message]:
    """Check what a compressor's `compress` is given, and what a user's own makes, before a kernel takes it."""

    @wraps(compress)
    def checked(self: Any, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        with _door() as outer:
            if outer:
                require_vectors("v", v)
                require_keys(keys, v.rows)
                if memory is not None:
                    require_memory(memory, v)
            message = compress(self, v, keys, memory)
        if not _is_shipped(self):
            try:
                require_message(f"what {type(self).__name__} makes", message, self.emits, v.n, v.rows)
            except (TypeError, ValueError) as error:
                raise UnsoundMessageError(str(error)) from None
        return message

    return checked


def read_at_the_door(decompress: Callable[..., Vectors]) -> Callable[..., Vectors]:
    """Check what a compressor's `decompress` is given, and what a user's own reads."""

    @wraps(decompress)
    def checked(self: Any, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        with _door() as outer:
            if outer:
                if not isinstance(message, Message):
                    raise TypeError(
                        f"decompress takes a message, such as compress returns, found {type(message).__name__}"
                    )
                require_keys(keys, message.rows)
            vectors = decompress(self, message, keys)
        if not _is_shipped(self):
            name = f"what {type(self).__name__} reads"
            require_vectors(name, vectors)
            if (vectors.rows, vectors.n) != (message.rows, message.n):
                raise ValueError(
                    f"{name} must be {message.rows} vectors of length {message.n}, found {vectors.rows} of {vectors.n}"
                )
        return vectors

    return checked


_Law = Callable[[Any, ArrayLike], float | None]


def vector_at_the_door(law: _Law) -> _Law:
    """Check the vector that a law of a compressor's messages is asked of."""

    @wraps(law)
    def checked(self: Any, v: ArrayLike) -> float | None:
        return law(self, one_vector(law.__name__, v))

    return checked


def one_vector(name: str, v: ArrayLike) -> NDArray[Any]:
    """Return one vector of real numbers as an array."""
    refuse_masked("v", v)
    vector = np.asarray(v)
    if vector.dtype.kind not in "fiubO":
        raise ValueError(f"{name} takes real numbers, found an array of {vector.dtype}")
    if vector.ndim != 1:
        advice = "; use compress for batches" if name == "quantize" else ""
        raise ValueError(f"{name} takes one vector, found an array of shape {vector.shape}{advice}")
    return vector


def _is_shipped(compressor: Any) -> bool:
    return type(compressor).__module__.startswith("qsim.")


class _door:  # noqa: N801
    """Enter a compressor: True from outside, False where a wrapper passes on what was looked at."""

    __slots__ = ("_outer",)

    def __enter__(self) -> bool:
        self._outer = not getattr(_inside, "door", False)
        _inside.door = True
        return self._outer

    def __exit__(self, *error: object) -> None:
        _inside.door = not self._outer


_inside = local()
"""Whether this thread is inside of a compressor, by `door`."""
