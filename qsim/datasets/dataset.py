"""Data sets: sparse rows with a label each, checked once at the door and never changed afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from qsim.datasets.errors import DataError
from qsim.datasets.frames import csr_parts, encoded, is_frame
from qsim.datasets.labels import CODINGS, Kind, require_rows_of_all
from qsim.notebooks import html_table
from qsim.options import number, one_of, refuse_masked, whole

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from qsim.datasets.sources import Source


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
        one_of("kind", kind, tuple(CODINGS))
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
    def from_arrays(
        cls,
        X: Any,
        y: ArrayLike,
        *,
        name: str = "unnamed",
        empty: Literal["refuse", "keep"] = "refuse",
        kind: Kind = "signs",
        classes: int | None = None,
        hashed: int | None = None,
    ) -> Dataset:
        """Make a data set of features X, shape (rows, features), and labels y, shape (rows,).

        X: a NumPy array, a SciPy sparse matrix or array of any format, or a frame of pandas or Polars. Zeros of arrays
            and frames are left out; stored zeros of a sparse matrix stay entries. X is not changed, and nothing is
            scaled.
        y: -1 and 1, or 0 and 1, as numbers or truth values; with kind="classes" or "targets" what `Dataset` says.
        empty: rows and columns without any entry are usually a slip, and refused; "keep" takes them.
        hashed: categorical columns of a frame (text, `category`) are one-hot, a feature per value in sorted order,
            the columns in their order; with `hashed` they share so many features behind the others, and a hash of
            column and value says which.

        Raises DataError as the constructor does, for an entry that is stored twice, and for missing values.

        >>> Dataset.from_arrays(np.array([[0.5, 0.0], [0.0, 1.0]]), [True, False])
        Dataset('unnamed', 2 x 2, 2 non-zeros, 1 positive)
        >>> Dataset.from_arrays(np.eye(3), [0, 1, 2], kind="classes")
        Dataset('unnamed', 3 x 3, 3 non-zeros, 3 classes)
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"age": [30, 40, 50], "job": ["nurse", "clerk", "nurse"]})
        >>> Dataset.from_arrays(frame, [1, 0, 1]).to_scipy().toarray()
        array([[30.,  0.,  1.],
               [40.,  1.,  0.],
               [50.,  0.,  1.]], dtype=float32)
        """
        one_of("empty", empty, ("refuse", "keep"))
        if is_frame(X):
            X = encoded(X, hashed)
        elif hashed is not None:
            raise DataError(
                f"hashed={hashed!r} is for the categorical columns of a frame, found {type(X).__qualname__}"
            )
        indptr, indices, values = csr_parts(X)
        dataset = cls(*_in_order(indptr, indices, values), y, X.shape[1], name, None, kind, classes)
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

    def split(self, test: float = 0.2, *, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Return training and test data: a share of all rows, drawn at random, for the test, and the others.

        The rows keep their order. Each class keeps its rows' shares only on average.

        Raises ValueError for a share that leaves either of them without rows.

        >>> import qsim
        >>> train, test = qsim.datasets.load("spark_sample").split(test=0.25)
        >>> len(train), len(test)
        (242, 80)
        """
        held_out = round(number("test", test, above=0) * self.rows)
        if not 0 < held_out < self.rows:
            raise ValueError(
                f"test must be a share of the {self.rows:,} rows that leaves some for training and some for the test,"
                f" found {test!r}"
            )
        drawn = np.random.default_rng(whole("seed", seed, least=0)).permutation(self.rows)
        parts = np.sort(drawn[held_out:]), np.sort(drawn[:held_out])
        return self.take(parts[0], f"{self.name}, training part"), self.take(parts[1], f"{self.name}, test part")

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self.rows

    def __getitem__(self, rows: slice) -> Dataset:
        """Return a slice of the rows, such as `data[:1000]`; for other choices there is `take`."""
        if not isinstance(rows, slice):
            raise TypeError(f"a data set is sliced, as in data[:1000], found {rows!r}; data.take takes row numbers")
        return self.take(np.arange(self.rows)[rows])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.rows, self.features

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

    def _repr_html_(self) -> str:
        """Show the size and the labels, in a notebook."""
        about = {"rows": f"{self.rows:,}", "features": f"{self.features:,}"}
        about |= {"non-zeros": f"{self.nonzeros:,} ({self.density:.3%} of all entries)", "labels": self._labels_text}
        return html_table(f"Dataset {self.name!r}", about)

    def __repr__(self) -> str:
        shape = f"{self.rows:,} x {self.features:,}"
        return f"Dataset({self.name!r}, {shape}, {self.nonzeros:,} non-zeros, {self._labels_text})"

    @property
    def _labels_text(self) -> str:
        labels = f"targets from {self.labels.min():g} to {self.labels.max():g}" if self.kind == "targets" else ""
        labels = labels or (f"{self.positives:,} positive" if self.kind == "signs" else f"{self.classes:,} classes")
        return labels


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
            " sort them, or let Dataset.from_arrays do it"
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
    found = _frozen(*CODINGS[kind](given))
    if kind == "classes":
        require_rows_of_all(found, classes)
    return found


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
