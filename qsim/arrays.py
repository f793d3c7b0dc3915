"""Arrays that users' own code makes, looked at before anything is done with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.options import refuse_masked, shown


def truths(name: str, found: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return truth values that a user's code made as an array of bools; refuse any other, 0 and 1 among them."""
    refuse_masked(name, found)
    if not isinstance(found, np.ndarray) or found.dtype != np.bool_ or found.shape != shape:
        what = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else shown(found)
        raise ValueError(f"{name} must be an array of truth values of shape {shape}, found {what}")
    return found.copy()


def reals(
    name: str,
    found: Any,
    shape: tuple[int, ...] | None = None,
) -> NDArray[Any]:
    """Return real numbers that a user's code made as an array of float32 or float64 that is nobody else's.

    shape: theirs; None: any. NaN and infinity pass.
    """
    refuse_masked(name, found)
    try:
        array = np.asarray(found)
    except ValueError:  # rows of several lengths
        array = np.empty((), object)
    if (shape is not None and array.shape != shape) or array.dtype.kind not in "fiub":
        of = "" if shape is None else f" of shape {shape}"
        what = shown(found) if array.ndim == 0 else f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{name} must be an array of real numbers{of}, found {what}")
    return np.array(array, array.dtype if array.dtype in (np.float32, np.float64) else np.float64)


def arrays_by_name(name: str, found: Any) -> dict[str, NDArray[Any]]:
    """Return arrays that a user's code keeps, by their names; refuse what cannot be kept from round to round."""
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and isinstance(array, np.ndarray) and not array.dtype.hasobject
        for key, array in found.items()
    ):
        raise TypeError(f"{name} must be arrays by name, found {shown(found)}")
    return found
