"""Data sets: sparse rows with a label each, checked once at the door and never changed afterwards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.datasets.checks import (
    as_array,
    columns_of,
    feature_count,
    in_order,
    index_type,
    labels_of,
    offsets_of,
    starts_of,
    values_of,
    whole_numbers,
)
from qsim.datasets.errors import DataError
from qsim.datasets.frames import csr_parts, encoded, is_frame
from qsim.datasets.labels import CODINGS, Kind
from qsim.notebooks import html_table
from qsim.options import number, one_of, whole

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class Source(ABC):
    """Base class of sources: options that know how to make a data set, so that a run can be printed and evaluated.

    A subclass is an option (`qsim.option`), has a `name`, and loads.

    Attributes
    ----------
    name : str
        What figures call the data.

    Examples
    --------
    >>> import qsim
    >>> source = qsim.datasets.load("spark_sample").source
    >>> source
    qsim.datasets.Builtin(name='spark_sample')
    >>> eval(repr(source)).load() is source.load()
    True
    """

    name: str

    @abstractmethod
    def load(self) -> Dataset:
        """Return the data set; a source that was loaded lately is not loaded again.

        Returns
        -------
        Dataset
            The data set, whose `source` is this option.
        """


@final
@dataclass(frozen=True, init=False, repr=False, eq=False)
class Dataset:
    """Sparse rows with a label each. Immutable; equal by content.

    The rows :math:`x_i` are stored in compressed sparse row (CSR) format.

    Parameters
    ----------
    indptr : array-like of int, shape (rows + 1,)
        Row i has the entries `indptr[i]`, ..., `indptr[i + 1] - 1`. Kept as int64.
    indices : array-like of int, shape (nonzeros,)
        Their columns, increasing inside a row. Kept as int32 if the last column fits, and int64 otherwise.
    values : array-like of float, shape (nonzeros,), or None
        What they hold, kept as float32; None if all are one.
    labels : array-like of shape (rows,)
        The labels :math:`y_i`, of the type that `kind` says.
    features : int
        The length of a row.
    name : str, default "unnamed"
        What figures call the data.
    source : Source, optional
        The option that loads the same data again.
    kind : {"signs", "classes", "targets"}, default "signs"
        What the labels are. "signs": int8, -1 and +1 (labels 0 and 1 are taken too; 0 becomes -1). "classes": int32,
        whole numbers from 0 to :math:`K - 1`. "targets": float64, any finite numbers, for regression.
    classes : int, optional
        The number :math:`K` of classes, needed if classes may lack rows, as in a test split. By default it is one more
        than the largest label, and every class must have a row: labels from 1 on, or with gaps, are usually a mistake,
        and refused.

    Raises
    ------
    DataError
        For anything else, for a value that float32 cannot hold, and for no rows or no features.

    Notes
    -----
    An array that is read-only and has the right type is kept as it is (a mapped file, say); any other is copied.

    Examples
    --------
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
        starts = starts_of(indptr, columns.size)
        features = feature_count(features)
        self.__dict__.update(
            indptr=starts,
            indices=columns_of(columns, starts, features),
            values=values_of(values, starts, columns),
            labels=labels_of(labels, starts.size - 1, kind, classes),
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
        """Return the data set of features and labels in arrays, matrices or frames.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or array, or frame of pandas or Polars, shape (rows, features)
            The features. Zeros of arrays and frames are left out; stored zeros of a sparse matrix stay entries. X is
            not changed, and nothing is scaled. Categorical columns of a frame (text, `category`) are one-hot encoded, a
            feature per value in sorted order, the columns in their order.
        y : array-like of shape (rows,)
            The labels: -1 and 1, or 0 and 1, as numbers or truth values; with kind="classes" or "targets" as in
            `Dataset`.
        name : str, default "unnamed"
            What figures call the data.
        empty : {"refuse", "keep"}, default "refuse"
            Whether rows and columns without any entry, usually a mistake, are kept.
        kind, classes : str and int
            As in `Dataset`.
        hashed : int, optional
            Categorical columns share this many features behind the others, and a hash of column and value says which.

        Returns
        -------
        Dataset
            The data set.

        Raises
        ------
        DataError
            As the constructor does, for an entry that is stored twice, and for missing values.

        Examples
        --------
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
        dataset = cls(*in_order(indptr, indices, values), y, X.shape[1], name, None, kind, classes)
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

        Returns
        -------
        Dataset
            The data.

        Examples
        --------
        >>> Dataset([0, 1, 1], [0], None, [1, 0], features=2).with_intercept().to_scipy().toarray()
        array([[1., 0., 1.],
               [0., 0., 1.]], dtype=float32)
        """
        return self._intercepted

    def take(self, rows: ArrayLike, name: str | None = None) -> Dataset:
        """Return some of the rows.

        Parameters
        ----------
        rows : array-like of int, shape (count,)
            The rows, in this order; a row may be taken more than once.
        name : str, optional
            By default "k rows of" the name of all.

        Returns
        -------
        Dataset
            The rows, without a source: a run over them does not print as code that loads them. A class that loses all
            its rows stays one.

        Raises
        ------
        DataError
            For other rows, and for none.
        """
        chosen = self._row_numbers(rows)
        sizes = np.diff(self.indptr)[chosen]
        indptr = offsets_of(sizes)
        entries = np.arange(indptr[-1]) + np.repeat(self.indptr[chosen] - indptr[:-1], sizes)
        values = None if self.values is None else self.values[entries]
        name = f"{chosen.size:,} row{'s' * (chosen.size != 1)} of {self.name}" if name is None else name
        return self._with(indptr, self.indices[entries], values, self.labels[chosen], self.features, name)

    def split(self, test: float = 0.2, *, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Return training and test data, drawn at random.

        Parameters
        ----------
        test : float, default 0.2
            The share of all rows that is for the test. Each class keeps its share only on average.
        seed : int, default 0
            The seed of the draw.

        Returns
        -------
        train, test : Dataset
            The rows, in their order.

        Raises
        ------
        ValueError
            For a share that leaves either of them without rows.

        Examples
        --------
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
        chosen = np.arange(self.rows)[rows]
        if not chosen.size:
            raise DataError(
                f"a data set has at least one row, and {rows!r} takes none of the {self.rows:,} of {self.name}"
            )
        return self.take(chosen)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.rows, self.features

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.labels.size

    @property
    def nonzeros(self) -> int:
        """The number of stored entries, some of which may be zero."""
        return self.indices.size

    @property
    def density(self) -> float:
        """The share of all rows x features that is stored."""
        return self.nonzeros / (self.rows * self.features)

    @cached_property
    def positives(self) -> int:
        """The number of labels that are +1."""
        return int(np.count_nonzero(self.labels == 1))

    @cached_property
    def classes(self) -> int:
        """The number of classes: 2 for signs.

        Raises
        ------
        DataError
            For targets.
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
        indices = np.insert(self.indices.astype(index_type(self.features + 1)), self.indptr[1:], self.features)
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
