"""The compressor contract."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Message, Vectors
from qsim.keys import Key


class NotFiniteError(ValueError):
    """A vector to be compressed holds NaN or infinity, or is too large for float32."""


class Compressor(ABC):
    """Turns vectors into messages, at random but as a pure function of (vector, key).

    A compressor of your own is one class with `emits` (the kind of message it makes) and `quantize`, in plain NumPy:

    >>> import numpy as np, qsim
    >>> @qsim.option
    ... class Ternary(qsim.compressors.Compressor):
    ...     emits = qsim.batch.Levels
    ...     def quantize(self, v, key):
    ...         scale = np.abs(v).max()
    ...         keep = key.generator().random(v.size) * scale < np.abs(v)
    ...         return qsim.batch.Levels.single(np.sign(v) * keep, scale=scale, s=1)
    >>> Ternary().quantize(np.array([0.0, -2.0]), qsim.Key(0)).vectors().to_dense()
    array([[ 0., -2.]], dtype=float32)

    The shipped ones override `compress` instead, which takes a whole batch in one call; each of the two is defined by
    the other. Costs of the default `compress`: every row is made dense, O(n) a row.
    """

    emits: ClassVar[type[Message]]
    """The kind of message that `quantize` and `compress` return."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a class that defines neither `quantize` nor `compress`, which would call each other for ever."""
        super().__init_subclass__(**options)
        if cls.quantize is Compressor.quantize and cls.compress is Compressor.compress:
            raise TypeError(
                f"{cls.__name__} must define quantize(self, v, key), or compress(self, v, keys) for batches"
            )
        if not hasattr(cls, "emits"):
            raise TypeError(f"{cls.__name__} must say what it makes: emits = qsim.batch.Levels, or qsim.batch.Floats")

    def quantize(self, v: ArrayLike, key: Key) -> Message:
        """Compress one bare vector (any sequence of n numbers, taken as float32); returns a message of one row."""
        vector = np.asarray(v)
        if vector.ndim != 1:
            raise ValueError(
                f"quantize takes one vector, found an array of shape {vector.shape}; use compress for batches"
            )
        with np.errstate(over="ignore"):  # what overflows float32 is refused by compress
            return self.compress(Vectors.dense(vector.astype(np.float32)), np.array([key.word], np.uint64))

    def compress(self, v: Vectors, keys: NDArray[np.uint64]) -> Message:
        """Compress a batch, row b with the key whose word is keys[b]. Raises NotFiniteError for NaN and infinity."""
        require_finite(v)
        rows = v.to_dense()
        return self.emits.join([self.quantize(row, Key(int(word))) for row, word in zip(rows, keys, strict=True)])

    def decompress(self, message: Message) -> Vectors:
        """Return the vectors that a message stands for."""
        return message.vectors()


def require_finite(v: Vectors) -> None:
    """Refuse a batch with a NaN or an infinity, naming the first."""
    from qsim.kernels.vectors import first_not_finite

    place = first_not_finite(v.value)
    if place >= 0:
        row = int(np.searchsorted(v.offsets, place, side="right")) - 1
        coordinate = place - int(v.offsets[row]) if v.index is None else int(v.index[place])
        raise NotFiniteError(
            f"row {row} of the batch holds {v.value[place]} at coordinate {coordinate}: only finite float32 numbers"
            " can be compressed (in training, the usual cause is a step that is too large)"
        )
