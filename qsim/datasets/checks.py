"""Checks of the arrays that a data set is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from qsim.datasets.errors import DataError
from qsim.datasets.labels import CODINGS, Kind, require_rows_of_all
from qsim.options import refuse_masked, whole


def as_array(name: str, given: ArrayLike) -> NDArray[Any]:
    """Return what was given as an array."""
    refuse_masked(name, given, DataError)
    return np.asarray(given)


def index_type(features: int) -> type[np.signedinteger[Any]]:
    """Return the type of column numbers: int32 while the last one fits."""
    return np.int32 if features <= 2**31 else np.int64


def offsets_of(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where runs of these sizes begin, and where the last one ends."""
    return np.concatenate(([0], np.cumsum(sizes)))


def frozen(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return a read-only array of a type: the given one if it is that already, else a copy."""
    if array.dtype == dtype and not array.flags.writeable and array.flags.c_contiguous:
        return array
    copy = np.array(array, dtype, order="C")
    copy.flags.writeable = False
    return copy


def whole_numbers(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of whole numbers of one axis; an empty one may have any type."""
    if array.ndim != 1:
        raise DataError(f"{name} must be an array of one axis, found shape {array.shape}")
    if array.dtype.kind not in "iu" and array.size:
        advice = f"; write {name}.astype(np.int64)" if name.isidentifier() else ""
        raise DataError(f"{name} must be whole numbers, found {array.dtype}{advice}")
    return array


def feature_count(features: Any) -> int:
    """Return the number of features; refuse what is none."""
    try:
        return whole("features", features, least=1, most=2**62)
    except ValueError as error:
        raise DataError(str(error)) from None


def starts_of(indptr: ArrayLike, nonzeros: int) -> NDArray[np.int64]:
    """Return where the rows begin, read-only; refuse what does not go from 0 to the number of entries."""
    starts = whole_numbers("indptr", as_array("indptr", indptr))
    if starts.size < 2:
        raise DataError(f"there must be at least one row, so two entries in indptr, found {starts.size}")
    if starts[0] != 0 or starts[-1] != nonzeros:
        raise DataError(f"indptr must go from 0 to the {nonzeros} entries, found {starts[0]} to {starts[-1]}")
    bad = np.flatnonzero(starts[1:] < starts[:-1])
    if bad.size:
        row = bad[0]
        raise DataError(f"indptr must not fall, found {starts[row]} and then {starts[row + 1]} in row {row}")
    return frozen(starts, np.int64)


def _row_of(entry: int, starts: NDArray[np.int64]) -> int:
    return int(np.searchsorted(starts, entry, side="right")) - 1


def columns_of(columns: NDArray[Any], starts: NDArray[np.int64], features: int) -> NDArray[np.signedinteger[Any]]:
    """Return the columns of the entries, read-only; refuse those out of range, and rows whose columns do not rise."""
    whole_numbers("indices", columns)
    bad = np.flatnonzero((columns < 0) | (columns >= features))
    if bad.size:
        entry = bad[0]
        raise DataError(
            f"columns must be from 0 to {features - 1}, found column {columns[entry]} in row {_row_of(entry, starts)};"
            " count columns from 0, or pass more features"
        )
    wrong = np.flatnonzero(_not_rising(columns, starts))
    if wrong.size:
        row, before, after = _row_of(wrong[0], starts), columns[wrong[0]], columns[wrong[0] + 1]
        if before == after:
            raise DataError(
                f"row {row} holds column {after} twice; call sum_duplicates() on the SciPy matrix first, or keep one"
            )
        raise DataError(
            f"columns must increase inside a row, found {before} and then {after} in row {row};"
            " sort them, or let Dataset.from_arrays do it"
        )
    return frozen(columns, index_type(features))


def _not_rising(columns: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the entries whose successor in the same row does not have a larger column; shape (nonzeros - 1,)."""
    wrong: NDArray[np.bool_] = columns[1:] <= columns[:-1]
    last = starts[1:-1] - 1
    wrong[last[(last >= 0) & (last < wrong.size)]] = False
    return wrong


def values_of(values: ArrayLike | None, starts: NDArray[np.int64], columns: NDArray[Any]) -> NDArray[np.float32] | None:
    """Return the entries as float32, read-only, or None if all are one; refuse what is not finite."""
    if values is None:
        return None
    given = as_array("values", values)
    if given.shape != columns.shape:
        raise DataError(f"values must have shape {columns.shape}, as indices has, found shape {given.shape}")
    if given.dtype.kind not in "biuf":
        raise DataError(f"values must be real numbers, found {given.dtype}; write values.astype(np.float32)")
    with np.errstate(over="ignore"):
        cast = frozen(given, np.float32)
    bad = np.flatnonzero(~np.isfinite(cast))
    if bad.size:
        entry = bad[0]
        advice = "scale it down" if np.isfinite(given[entry]) else "leave the entry out, or put a number"
        raise DataError(
            f"values must be finite in float32, found {given[entry]} in row {_row_of(entry, starts)},"
            f" column {columns[entry]}; {advice}"
        )
    return None if (cast == 1).all() else cast


def labels_of(labels: ArrayLike, rows: int, kind: Kind, classes: int | None) -> NDArray[Any]:
    """Return the labels in the type of their kind, read-only; refuse those of another kind."""
    given = as_array("labels", labels)
    if given.shape != (rows,):
        raise DataError(f"labels must have shape ({rows},), one for each row, found shape {given.shape}")
    found = frozen(*CODINGS[kind](given))
    if kind == "classes":
        require_rows_of_all(found, classes)
    return found


def in_order(
    indptr: NDArray[Any], indices: NDArray[Any], values: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Sort the entries of every row by column, into copies if they are not sorted."""
    starts = starts_of(indptr, indices.size)
    if _not_rising(indices, starts).any():
        order = np.lexsort((indices, np.repeat(np.arange(starts.size - 1), np.diff(starts))))
        indices, values = indices[order], values[order]
    return starts, indices, values
