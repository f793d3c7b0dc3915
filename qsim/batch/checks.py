"""Checks at the door: arrays that come from outside, before a kernel takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch.blocks import Blocks
from qsim.batch.messages import Floats, Levels, Message, SharedSupport, Signs
from qsim.batch.outliers import WithOutliers
from qsim.batch.vectors import Batch, Memory, Support, Vectors
from qsim.options import refuse_masked


def require_vectors(name: str, v: Any) -> None:
    """Refuse what is no sound batch of vectors.

    Raises TypeError for another object, and ValueError for arrays that do not fit each other.
    """
    if not isinstance(v, Vectors):
        raise TypeError(
            f"{name} must be a batch of vectors, such as qsim.batch.Vectors.dense(array), found {type(v).__name__}"
        )
    _require_array(f"the values of {name}", v.value, "fiub")
    _require_entries(name, v, v.value.size, v.index, v.n if v.index is None else None)


def require_rows(name: str, v: Any, rows: int, n: int) -> None:
    """Refuse what is no sound batch of `rows` vectors of length n, of float32 or float64."""
    require_vectors(name, v)
    if (v.rows, v.n) != (rows, n):
        raise ValueError(f"{name} must be {rows} vectors of length {n}, found {v.rows} of {v.n}")
    if v.value.dtype not in (np.float32, np.float64):
        raise ValueError(f"the values of {name} must be float32 or float64, found {v.value.dtype}")


def require_message(name: str, message: Any, kind: type[Message], n: int, rows: int) -> None:
    """Refuse what is no sound message of a kind for this many rows of length n."""
    if not isinstance(message, kind):
        raise TypeError(f"{name} must be a message of kind {kind.__name__}, found {message!r}")
    if message.n != n:
        raise ValueError(f"{name} must stand for vectors of length {n}, found n = {message.n}")
    if not isinstance(message.offsets, np.ndarray) or message.rows != rows:
        raise ValueError(f"{name} must have a row for each of {rows} vectors, found offsets {message.offsets!r}")
    if isinstance(message, Levels):
        if not 1 <= message.s < 2**31 or message.bucket < 0:
            raise ValueError(f"{name} must have 1 <= s < 2^31 and bucket >= 0, found {message.s} and {message.bucket}")
        _require_array(f"the levels of {name}", message.level, "i", np.int32)
        _require_array(f"the scales of {name}", message.scale, "f", np.float32)
        _require_size(f"the scales of {name}", message.scale, rows * message.scales)
        _require_entries(name, message, message.level.size, message.index, None)
    elif isinstance(message, Signs):
        _require_array(f"the signs of {name}", message.positive, "b")
        for means in (message.low, message.high):
            _require_array(f"the means of {name}", means, "f", np.float32)
            _require_size(f"the means of {name}", means, rows)
        _require_entries(name, message, message.positive.size, message.index, n if message.index is None else None)
    elif isinstance(message, Floats):
        _require_array(f"the values of {name}", message.value, "f")
        each = n if message.index is None else None
        _require_entries(name, message, message.value.size, message.index, each)
    elif isinstance(message, SharedSupport):
        _require_array(f"the values of {name}", message.value, "f")
        _require_entries(name, message, message.value.size, None, message.k)
    elif isinstance(message, Blocks):
        if not message.blocks or sum(block.n for block in message.blocks) != n:
            raise ValueError(f"{name} must have blocks of {n} coordinates together, found {message.blocks!r}")
        for place, block in enumerate(message.blocks):
            require_message(f"block {place} of {name}", block, Message, block.n, rows)  # type: ignore[type-abstract]
    elif isinstance(message, WithOutliers):
        require_message(f"the bulk of {name}", message.bulk, Message, n, rows)  # type: ignore[type-abstract]
        require_message(f"the outliers of {name}", message.outliers, Floats, n, rows)
        if message.outliers.index is None or not message.outliers.value.all():
            raise ValueError(f"the outliers of {name} must be sparse, and none of them zero")
    _require_numbers(name, message)


def _require_numbers(name: str, message: Message) -> None:
    """Refuse levels out of range, and floats that are not finite or scales below zero."""
    from qsim.kernels.vectors import first_not_finite, first_wrong_level

    if isinstance(message, Levels):
        if first_wrong_level(message.level, message.s) >= 0:
            raise ValueError(f"the levels of {name} must be from 1 to s = {message.s} or from -{message.s} to -1")
        if not (message.scale >= 0).all():
            raise ValueError(f"the scales of {name} must be numbers of at least 0")
    for kind, field, plural in _NUMBERS:
        if isinstance(message, kind):
            numbers: NDArray[Any] = getattr(message, field)
            compiled = numbers.dtype in (np.float32, np.float64)
            if not (first_not_finite(numbers) < 0 if compiled else np.isfinite(numbers).all()):
                raise ValueError(f"the {plural} of {name} must be finite")


_NUMBERS: tuple[tuple[type[Message], str, str], ...] = (
    (Levels, "scale", "scales"),
    (Signs, "low", "means"),
    (Signs, "high", "means"),
    (Floats, "value", "values"),
    (SharedSupport, "value", "values"),
)
"""The floats of messages, and what they are called."""


def require_keys(keys: Any, rows: int) -> None:
    """Refuse what is no array of a key's word for each row."""
    if not isinstance(keys, np.ndarray) or keys.dtype != np.uint64:
        found = f"an array of {keys.dtype}" if isinstance(keys, np.ndarray) else type(keys).__name__
        raise TypeError(f"keys must be the words of keys, such as qsim.Key(0).words(0, {rows}), found {found}")
    if keys.shape != (rows,):
        raise ValueError(f"keys must be {rows} words, one for each row, found an array of shape {keys.shape}")


def require_memory(memory: Any, v: Vectors) -> None:
    """Refuse what is no memory of as many workers, for vectors of the same length."""
    if not isinstance(memory, Memory):
        raise TypeError(f"memory must be what the compressor's memory(support) returned, found {type(memory).__name__}")
    support: Support = memory.support
    if support.n != v.n or support.offsets.size - 1 != v.rows:
        raise ValueError(
            f"the memory is of {support.offsets.size - 1} workers with vectors of length {support.n}, found"
            f" {v.rows} vectors of length {v.n}"
        )


def _require_entries(name: str, batch: Batch, size: int, index: NDArray[Any] | None, each: int | None) -> None:
    """Refuse offsets and coordinates that do not fit; `each`: how many entries every row has, None: any number."""
    offsets = batch.offsets
    _require_array(f"the offsets of {name}", offsets, "i", np.int64)
    if batch.n < 1 or offsets.size < 1 or offsets[0] != 0 or offsets[-1] != size:
        raise ValueError(
            f"{name}: offsets must rise from 0 to the number of entries, {size}, for n of at least 1; found n ="
            f" {batch.n} and offsets {_shown(offsets)}"
        )
    if index is not None:
        _require_array(f"the coordinates of {name}", index, "i")
        _require_size(f"the coordinates of {name}", index, size)
    if each is not None and size != each * batch.rows:
        raise ValueError(f"{name}: {batch.rows} rows of {each} numbers take {each * batch.rows}, found {size}")
    from qsim.kernels.vectors import first_unordered, first_wrong_row

    if first_wrong_row(offsets, -1 if each is None else each) >= 0:
        raise ValueError(f"{name}: offsets must rise, row by row, found {_shown(offsets)}")
    if index is not None:
        row = first_unordered(offsets, index, batch.n)
        if row >= 0:
            raise ValueError(f"row {row} of {name}: coordinates must rise from 0 on and stay below n = {batch.n}")


def _require_array(name: str, array: Any, kinds: str, dtype: type[np.generic] | None = None) -> None:
    plain = type(array) is np.ndarray and array.ndim == 1 and array.flags.c_contiguous
    if plain and array.dtype.kind in kinds and (dtype is None or array.dtype == dtype):
        return
    refuse_masked(name, array)
    good = isinstance(array, np.ndarray) and array.ndim == 1 and array.flags.c_contiguous
    if not good or array.dtype.kind not in kinds or (dtype is not None and array.dtype != dtype):
        wanted = (
            dtype.__name__
            if dtype is not None
            else {"f": "floats", "i": "integers", "b": "bools", "fiub": "numbers"}[kinds]
        )
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{name} must be a contiguous array of {wanted} in one dimension, found {found}")


def _require_size(name: str, array: NDArray[Any], size: int) -> None:
    if array.size != size:
        raise ValueError(f"{name} must be {size}, found {array.size}")


def _shown(offsets: NDArray[np.int64]) -> str:
    return np.array2string(offsets, threshold=8)
