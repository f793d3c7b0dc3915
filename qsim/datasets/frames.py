"""The forms of features: matrices of NumPy and SciPy, and frames of named columns, as sparse rows."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.datasets.errors import DataError
from qsim.options import refuse_masked, whole


def is_frame(thing: Any) -> bool:
    """Tell whether something is a frame of named columns."""
    return hasattr(thing, "columns") and hasattr(thing, "dtypes") and hasattr(thing, "__getitem__")


def encoded(frame: Any, hashed: int | None = None) -> Any:
    """Return a frame as a float32 SciPy array, shape (rows, features), with the features in the order of its columns.

    A column of numbers or truth values is one feature. A column of categories (text, `category`, objects) is one-hot:
    a feature for each value, in sorted order; or, with `hashed` features for all such columns together, each value of
    each column is the feature that a hash of both gives, behind those of numbers.

    Raises DataError, by the column's name, for missing values and for columns that are neither.
    """
    from scipy.sparse import csr_array

    if hashed is not None:
        hashed = whole("hashed", hashed, least=1, most=2**31 - 1)
    rows, first = len(frame), 0
    row, column, value = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    late: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for name, numbers, categories in _columns(frame):
        if numbers is not None:
            filled = np.flatnonzero(numbers)
            row.append(filled)
            column.append(np.full(filled.size, first))
            value.append(numbers[filled])
            first += 1
            continue
        assert categories is not None
        words, codes = np.unique(categories, return_inverse=True)
        if hashed is None:
            row.append(np.arange(rows))
            column.append(first + codes)
            value.append(np.ones(rows))
            first += words.size
        else:
            places = np.array([_hash(f"{name}={word}", hashed) for word in words], np.int64)
            late.append((np.arange(rows), places[codes]))
    for where, places in late:
        row.append(where)
        column.append(first + places)
        value.append(np.ones(rows))
    entries = np.concatenate(value), (np.concatenate(row), np.concatenate(column))
    matrix = csr_array(entries, shape=(rows, first + (hashed or 0)))
    matrix.sum_duplicates()  # two values of a row that share a hashed feature
    return matrix


def csr_parts(matrix: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return indptr, indices and values of a matrix, row by row but in any order inside a row; duplicates stay."""
    from scipy.sparse import issparse

    sparse = bool(issparse(matrix))
    if not (sparse or isinstance(matrix, np.ndarray)) or matrix.ndim != 2:
        found = f"{type(matrix).__qualname__} of shape {getattr(matrix, 'shape', 'unknown')}"
        raise DataError(
            f"the features must be a NumPy array or a SciPy sparse matrix, with two axes, or a frame, found {found}"
        )
    if not sparse:
        refuse_masked("the matrix", matrix, DataError)
        dense = np.asarray(matrix)
        row, column = np.nonzero(dense)
        return _offsets(np.bincount(row, minlength=dense.shape[0])), column, dense[row, column]
    if matrix.format in ("csc", "bsr"):  # what SciPy changes the format of, it takes as it is
        try:
            matrix.check_format(full_check=True)
        except ValueError as error:
            raise DataError(f"the matrix is not sound: {error}") from None
    if matrix.format in ("csr", "csc"):
        csr = matrix.tocsr()
        return csr.indptr, csr.indices[: csr.nnz], csr.data[: csr.nnz]
    coo = matrix.tocoo(copy=False)  # other formats' tocsr would add up duplicates without a word
    for name, places, most in (("rows", coo.row, coo.shape[0]), ("columns", coo.col, coo.shape[1])):
        if places.size and not 0 <= places.min() <= places.max() < most:
            raise DataError(f"{name} must be from 0 to {most - 1}, found {places.min()} to {places.max()}")
    order = np.argsort(coo.row, kind="stable")
    return _offsets(np.bincount(coo.row, minlength=coo.shape[0])), coo.col[order], coo.data[order]


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(sizes)))


def _columns(frame: Any) -> Iterator[tuple[str, NDArray[np.float64] | None, NDArray[np.str_] | None]]:
    """Yield the name of each column, and its numbers or its categories."""
    for name in frame.columns:
        series = frame[name]
        if getattr(series, "ndim", 1) != 1:
            raise DataError(f"column {name!r} is there more than once; give each column a name of its own")
        missing = int(np.count_nonzero(series.is_null() if hasattr(series, "is_null") else series.isna()))
        if missing:
            raise DataError(
                f"column {name!r} has {missing:,} missing values; fill them in, or leave these rows or the column out"
            )
        kind = getattr(series.dtype, "kind", None)
        array = np.asarray(series.to_numpy())
        if kind in ("b", "i", "u", "f") or array.dtype.kind in "biuf":
            yield str(name), array.astype(np.float64), None
        elif array.dtype.kind in "OUST" and all(isinstance(value, str | bool | int) for value in array.tolist()):
            yield str(name), None, array.astype(np.str_)
        else:
            raise DataError(
                f"column {name!r} holds {series.dtype}, which is neither numbers nor categories; make it one of these,"
                " or leave it out"
            )


def _hash(text: str, features: int) -> int:
    """Return a feature for a text, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") % features
