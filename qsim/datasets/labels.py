"""Labels as they are given, and as a data set keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from qsim.datasets.errors import DataError

Kind = Literal["signs", "classes", "targets"]
"""The kinds of labels of a data set; see `Dataset`."""


@dataclass(frozen=True)
class Labels:
    """The labels of some rows: what an objective's `error_of_margins` reads of a data set."""

    labels: NDArray[Any]
    kind: Kind

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.labels.size


def require_rows_of_all(labels: NDArray[np.int32], classes: int | None) -> None:
    """Refuse classes above a number that was told, or if none was, classes without rows."""
    present = np.unique(labels)
    shown = ", ".join(map(str, present[:5])) + (f" and {present.size - 5} more" if present.size > 5 else "")
    if classes is not None and present[-1] >= classes:
        raise DataError(f"classes={classes} are 0 to {classes - 1}, found labels {shown}")
    if classes is None and present.size <= present[-1]:
        missing = int(np.argmax(present != np.arange(present.size)))
        raise DataError(
            f"no row has class {missing}, found labels {shown}; classes count from 0, so number them as"
            " np.searchsorted(names, y), with one sorted list of names for all splits, or, if they are numbered so"
            f" and some have no rows here, say how many there are: classes={present[-1] + 1}"
        )


def _signs(given: NDArray[Any]) -> tuple[NDArray[Any], DTypeLike]:
    if given.dtype.kind == "O":
        row = next((row for row, label in enumerate(given) if not isinstance(label, int | float | str)), None)
        if row is not None:
            raise DataError(f"labels must be numbers, found {given[row]!r} in row {row}")
    found = np.unique(given).tolist() if given.dtype.kind in "biuf" else sorted(set(given.tolist()), key=repr)
    if not (set(found) <= {-1, 1} or set(found) <= {0, 1}):
        row = next((row for row, label in enumerate(given.tolist()) if label not in (-1, 0, 1)), None)
        where = "" if row is None else f" ({given[row]} in row {row})"
        shown = ", ".join(map(repr, found[:5])) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise DataError(
            f"labels must be -1 and 1, or 0 and 1, found {shown}{where}; recode as np.where(y == positive, 1, -1), or"
            ' say kind="classes" for whole numbers from 0 on, kind="targets" for any numbers'
        )
    return (given if found[0] == -1 else np.where(given == 1, 1, -1)), np.int8


def _classes(given: NDArray[Any]) -> tuple[NDArray[Any], DTypeLike]:
    if given.dtype.kind not in "biuf":
        raise DataError(f"classes must be whole numbers, found {given.dtype}; number them as np.searchsorted(names, y)")
    bad = np.flatnonzero((given < 0) | (given >= 2**31) | (given != np.floor(given)))
    if bad.size:
        raise DataError(
            f"classes must be whole numbers from 0 on, found {given[bad[0]]} in row {bad[0]};"
            " number them as np.searchsorted(names, y), with one sorted list of names for all splits"
        )
    return given, np.int32


def _targets(given: NDArray[Any]) -> tuple[NDArray[Any], DTypeLike]:
    if given.dtype.kind not in "biuf":
        raise DataError(f"targets must be real numbers, found {given.dtype}; write y.astype(np.float64)")
    bad = np.flatnonzero(~np.isfinite(given))
    if bad.size:
        raise DataError(f"targets must be finite, found {given[bad[0]]} in row {bad[0]}; leave the row out")
    return given, np.float64


CODINGS = {"signs": _signs, "classes": _classes, "targets": _targets}
"""For each kind, what turns labels as given into those that are kept, and their type. Raises DataError."""
