"""Data sets: sparse rows with a label each, checked once at the door and never changed afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from qsim.options import one_of, refuse_masked, whole

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from qsim.datasets.sources import Source


Kind = Literal["signs", "classes", "targets"]
"""What the labels of a data set are; see `Dataset`."""


class DataError(ValueError):
    """Data that cannot be used. The text says what was found, where, and what to write instead."""


@final
@dataclass(frozen=True, init=False, repr=False, eq=False)
class Dataset:
    """Rows x_i in R^features, stored sparse (CSR), with a label y_i each. Immutable; equal by content.

    indptr: int64, shape (rows + 1,): row i has the entries indptr[i], ..., indptr[i + 1] - 1.
    indices: shape (nonzeros,): their columns, increasing inside a row; int32 while the last column fits, else int64.
    values: float32, shape (nonzeros,), or None when all are one.
    labels: shape (rows,), of the type that `kind` says.
    features: the length of a row. name: what figures call the data.
    source: the option that loads the same data again, if there is one.
    kind: what the labels are. "signs": int8, -1 and +1 (labels 0 and 1 are taken too; 0 becomes -1). "classes": int32,
        whole numbers from 0 to K - 1. "targets": float64, any finite numbers, for regression.

    K is one more than the largest label, and every class must have a row: labels from 1 on, or with gaps, are usually a
    slip, and refused. `classes` says K where classes may lack rows, as in a test split.

    An array that is read-only and has the right type is kept as it is (a mapped file, say); any other is copied.

    Raises DataError for anything else, for a value that float32 cannot hold, and for no rows or no features.

    >>> Dataset([0, 2, 3], [0, 2, 1], [0.5, 2.0, 1.0], [1, 0], features=3, name="tiny")
    Dataset('tiny', 2 x 3, 3 non-zeros, 1 positive)
    >>> Dataset([0, 2, 3], [0, 2, 1], None, [0.25, -3.0], features=3, name="tiny", kind="targets")
    Dataset('tiny', 2 x 3, 3 non-zeros, targets from -3 to 0.25)
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.signedinteger[Any]]
    values: NDArray[np.float32] | None
    labels: NDArray[Any]
    features: int
    name: str
    source: Source | None
    kind: Kind

    def __init__(
        self,
        indptr: ArrayLike,
        indices: ArrayLike,
        values: ArrayLike | None,
        labels: ArrayLike,
        features: int,
        name: str = "unnamed",
        source: Source | None = None,
        kind: Kind = "signs",
        classes: int | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise DataError(f"name must be a text, found {name!r}")
        one_of("kind", kind, tuple(_LABELS))
        if classes is not None:
            if kind != "classes":
                raise DataError(f"only data of kind='classes' have a number of classes, found classes={classes!r}")
            classes = whole("classes", classes, least=1, most=2**31)
        columns = as_array("indices", indices)
        starts = _starts(indptr, columns.size)
        features = _feature_count(features)
        self.__dict__.update(
            indptr=starts,
            indices=_columns(columns, starts, features),
            values=_values(values, starts, columns),
            labels=_labels(labels, starts.size - 1, kind, classes),
            features=features,
            name=name,
            source=source,
            kind=kind,
            _classes=classes,
        )

    @classmethod
    def from_scipy(
        cls,
        matrix: Any,
        labels: ArrayLike,
        *,
        name: str = "unnamed",
        empty: Literal["refuse", "keep"] = "refuse",
        kind: Kind = "signs",
        classes: int | None = None,
    ) -> Dataset:
        """Make a data set of a SciPy sparse matrix or array of any format, or of a 2-d NumPy array.

        Stored zeros of a sparse matrix stay entries; zeros of a NumPy array are left out. The matrix is not changed.
        Rows and columns without any entry are usually a slip, and refused; `empty="keep"` takes them.

        Raises DataError as the constructor does, and for an entry that is stored twice.

        >>> Dataset.from_scipy(np.array([[0.5, 0.0], [0.0, 1.0]]), [True, False])
        Dataset('unnamed', 2 x 2, 2 non-zeros, 1 positive)
        >>> Dataset.from_scipy(np.eye(3), [0, 1, 2], kind="classes")
        Dataset('unnamed', 3 x 3, 3 non-zeros, 3 classes)
        """
        one_of("empty", empty, ("refuse", "keep"))
        indptr, indices, values = _csr(matrix)
        dataset = cls(*_in_order(indptr, indices, values), labels, matrix.shape[1], name, None, kind, classes)
        if empty == "refuse":
            _refuse_empty(dataset)
        return dataset

    def to_scipy(self) -> csr_array[Any]:
        """Return the rows as a float32 array of shape (rows, features). It shares what it can: do not write to it."""
        from scipy.sparse import csr_array

        values = np.ones(self.nonzeros, np.float32) if self.values is None else self.values
        indptr = (
            self.indptr.astype(self.indices.dtype) if self.nonzeros < 2**31 else self.indptr
        )  # SciPy wants one type
        return csr_array((values, self.indices, indptr), shape=(self.rows, self.features))

    def with_intercept(self) -> Dataset:
        """Return the data with one more feature, the last, that is 1 in every row: the same object on every call.

        >>> Dataset([0, 1, 1], [0], None, [1, 0], features=2).with_intercept().to_scipy().toarray()
        array([[1., 0., 1.],
               [0., 0., 1.]], dtype=float32)
        """
        return self._intercepted

    def take(self, rows: ArrayLike, name: str | None = None) -> Dataset:
        """Return the given rows, in that order; a row may be taken more than once.

        rows: whole numbers in [0, self.rows), shape (k,). name: by default "k rows of" the whole's name. There is no
            source: a run over some rows does not print as code that loads them. A class may lose all its rows, and
            stays one.

        Raises DataError for other rows, and for none.
        """
        chosen = self._row_numbers(rows)
        sizes = np.diff(self.indptr)[chosen]
        indptr = _offsets(sizes)
        entries = np.arange(indptr[-1]) + np.repeat(self.indptr[chosen] - indptr[:-1], sizes)
        values = None if self.values is None else self.values[entries]
        name = f"{chosen.size:,} row{'s' * (chosen.size != 1)} of {self.name}" if name is None else name
        return self._with(indptr, self.indices[entries], values, self.labels[chosen], self.features, name)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.labels.size

    @property
    def nonzeros(self) -> int:
        """How many entries are stored (some of which may be zero)."""
        return self.indices.size

    @property
    def density(self) -> float:
        """The share of all rows x features that is stored."""
        return self.nonzeros / (self.rows * self.features)

    @cached_property
    def positives(self) -> int:
        """How many labels are +1."""
        return int(np.count_nonzero(self.labels == 1))

    @cached_property
    def classes(self) -> int:
        """How many classes there are: 2 for signs. Raises DataError for targets.

        A class is without rows only if the data set was told how many there are.
        """
        if self.kind == "targets":
            raise DataError(f"{self!r} has no classes, but targets")
        if self.kind == "signs":
            return 2
        known: int | None = self.__dict__["_classes"]
        return int(self.labels.max()) + 1 if known is None else known

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that name the content: shape, entries and labels, but not the name."""
        ones = "" if self.values is not None else " ones"
        classes = f", {self.classes} classes" if self.kind == "classes" else ""
        digest = sha256(f"{self.rows} x {self.features}, {self.nonzeros}{ones}{classes}\n".encode())
        for array in (
            self.indptr,
            self.indices,
            self.values,
            self.labels,
        ):  # labels of each kind have a size of their own
            if array is not None:
                digest.update(array)
        return digest.hexdigest()[:16]

    @cached_property
    def _intercepted(self) -> Dataset:
        indptr = self.indptr + np.arange(self.rows + 1)
        indices = np.insert(self.indices.astype(_index_type(self.features + 1)), self.indptr[1:], self.features)
        values = None if self.values is None else np.insert(self.values, self.indptr[1:], 1)
        return self._with(indptr, indices, values, self.labels, self.features + 1, self.name)

    def _with(self, *parts: Any) -> Dataset:
        """Return other rows with labels of the same kind, and as many classes."""
        classes = self.classes if self.kind == "classes" else None
        indptr, indices, values, labels, features, name = parts
        return Dataset(indptr, indices, values, labels, features, name, None, self.kind, classes)

    def _row_numbers(self, rows: ArrayLike) -> NDArray[np.int64]:
        chosen = as_array("rows", rows)
        if chosen.dtype.kind == "b":
            raise DataError("rows must be row numbers, found a mask of booleans; write np.flatnonzero(mask)")
        chosen = whole_numbers("rows", chosen)
        bad = np.flatnonzero((chosen < 0) | (chosen >= self.rows))
        if bad.size:
            raise DataError(f"rows must be from 0 to {self.rows - 1}, found {chosen[bad[0]]} at place {bad[0]}")
        return chosen.astype(np.int64)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dataset):
            return NotImplemented
        return self is other or self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        labels = f"targets from {self.labels.min():g} to {self.labels.max():g}" if self.kind == "targets" else ""
        labels = labels or (f"{self.positives:,} positive" if self.kind == "signs" else f"{self.classes:,} classes")
        return f"Dataset({self.name!r}, {self.rows:,} x {self.features:,}, {self.nonzeros:,} non-zeros, {labels})"


def as_array(name: str, given: ArrayLike) -> NDArray[Any]:
    """Return what was given as an array."""
    refuse_masked(name, given, DataError)
    return np.asarray(given)


def _index_type(features: int) -> type[np.signedinteger[Any]]:
    """Return the type of column numbers: int32 while the last one fits."""
    return np.int32 if features <= 2**31 else np.int64


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(sizes)))


def _frozen(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
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


def _feature_count(features: Any) -> int:
    try:
        return whole("features", features, least=1, most=2**62)
    except ValueError as error:
        raise DataError(str(error)) from None


def _starts(indptr: ArrayLike, nonzeros: int) -> NDArray[np.int64]:
    starts = whole_numbers("indptr", as_array("indptr", indptr))
    if starts.size < 2:
        raise DataError(f"there must be at least one row, so two entries in indptr, found {starts.size}")
    if starts[0] != 0 or starts[-1] != nonzeros:
        raise DataError(f"indptr must go from 0 to the {nonzeros} entries, found {starts[0]} to {starts[-1]}")
    bad = np.flatnonzero(starts[1:] < starts[:-1])
    if bad.size:
        row = bad[0]
        raise DataError(f"indptr must not fall, found {starts[row]} and then {starts[row + 1]} in row {row}")
    return _frozen(starts, np.int64)


def _row_of(entry: int, starts: NDArray[np.int64]) -> int:
    return int(np.searchsorted(starts, entry, side="right")) - 1


def _columns(columns: NDArray[Any], starts: NDArray[np.int64], features: int) -> NDArray[np.signedinteger[Any]]:
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
            " sort them, or let Dataset.from_scipy do it"
        )
    return _frozen(columns, _index_type(features))


def _not_rising(columns: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the entries whose successor in the same row does not have a larger column; shape (nonzeros - 1,)."""
    wrong: NDArray[np.bool_] = columns[1:] <= columns[:-1]
    last = starts[1:-1] - 1
    wrong[last[(last >= 0) & (last < wrong.size)]] = False
    return wrong


def _values(values: ArrayLike | None, starts: NDArray[np.int64], columns: NDArray[Any]) -> NDArray[np.float32] | None:
    if values is None:
        return None
    given = as_array("values", values)
    if given.shape != columns.shape:
        raise DataError(f"values must have shape {columns.shape}, as indices has, found shape {given.shape}")
    if given.dtype.kind not in "biuf":
        raise DataError(f"values must be real numbers, found {given.dtype}; write values.astype(np.float32)")
    with np.errstate(over="ignore"):
        cast = _frozen(given, np.float32)
    bad = np.flatnonzero(~np.isfinite(cast))
    if bad.size:
        entry = bad[0]
        advice = "scale it down" if np.isfinite(given[entry]) else "leave the entry out, or put a number"
        raise DataError(
            f"values must be finite in float32, found {given[entry]} in row {_row_of(entry, starts)},"
            f" column {columns[entry]}; {advice}"
        )
    return None if (cast == 1).all() else cast


def _labels(labels: ArrayLike, rows: int, kind: Kind, classes: int | None) -> NDArray[Any]:
    given = as_array("labels", labels)
    if given.shape != (rows,):
        raise DataError(f"labels must have shape ({rows},), one for each row, found shape {given.shape}")
    found = _frozen(*_LABELS[kind](given))
    if kind == "classes":
        _require_rows_of_all(found, classes)
    return found


def _require_rows_of_all(labels: NDArray[np.int32], classes: int | None) -> None:
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


_LABELS = {"signs": _signs, "classes": _classes, "targets": _targets}


def _csr(matrix: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return indptr, indices and values of a matrix, row by row but in any order inside a row; duplicates stay."""
    from scipy.sparse import issparse

    sparse = bool(issparse(matrix))
    if not (sparse or isinstance(matrix, np.ndarray)) or matrix.ndim != 2:
        found = f"{type(matrix).__qualname__} of shape {getattr(matrix, 'shape', 'unknown')}"
        raise DataError(f"the matrix must be a SciPy sparse one or a NumPy array, with two axes, found {found}")
    if not sparse:
        dense = as_array("the matrix", matrix)
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


def _in_order(
    indptr: NDArray[Any], indices: NDArray[Any], values: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Sort the entries of every row by column, into copies if they are not sorted."""
    starts = _starts(indptr, indices.size)
    if _not_rising(indices, starts).any():
        order = np.lexsort((indices, np.repeat(np.arange(starts.size - 1), np.diff(starts))))
        indices, values = indices[order], values[order]
    return starts, indices, values


def _refuse_empty(dataset: Dataset) -> None:
    used = np.zeros(dataset.features, np.bool_)
    used[dataset.indices] = True
    for name, numbers in (("rows", np.flatnonzero(np.diff(dataset.indptr) == 0)), ("columns", np.flatnonzero(~used))):
        if numbers.size:
            first = ", ".join(map(str, numbers[:5].tolist())) + (", ..." if numbers.size > 5 else "")
            raise DataError(
                f'{numbers.size:,} {name} without any entry: {first}; pass empty="keep" if they are meant'
                " (test splits, text data), or leave them out"
            )
