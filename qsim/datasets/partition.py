"""Partitions: which worker holds which rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets.checks import as_array, whole_numbers
from qsim.datasets.dataset import Dataset
from qsim.datasets.errors import DataError
from qsim.keys import Key, require_key
from qsim.options import number, option, shown, whole


@final
@dataclass(frozen=True, eq=False, repr=False)
class Shards:
    """The rows of a data set, shared out to workers.

    Worker w holds the rows order[offsets[w]], ..., order[offsets[w + 1] - 1].

    Parameters
    ----------
    dataset : Dataset
        The data set.
    order : array-like of int, shape (rows,)
        A permutation of the row numbers. Kept as int64.
    offsets : array-like of int, shape (workers + 1,)
        Where the rows of each worker lie; a shard may be empty. Kept as int64.
    width : int, default 1
        The number of weights that the objective has for a feature.

    Raises
    ------
    DataError
        If a row is in no shard or in two.

    Notes
    -----
    The *support* of a worker are the columns that its rows touch. With `width` weights per feature, its gradient can
    fill `width` coordinates for each of them: weight c of feature j is number j * width + c.

    Examples
    --------
    >>> shards = Shards(Dataset([0, 2, 3], [1, 3, 0], None, [1, 0], 4), np.array([0, 1]), np.array([0, 1, 2]))
    >>> shards
    Shards(2 rows of 'unnamed' on 2 workers, 1 to 1 each)
    >>> shards.support, shards.support_offsets, shards.local
    (array([1, 3, 0], dtype=int32), array([0, 2, 3]), array([0, 1, 0], dtype=int32))
    """

    dataset: Dataset
    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    width: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, Dataset):
            raise TypeError(f"shards are of a Dataset, found {self.dataset!r}")
        whole("width", self.width, least=1)
        for name in ("order", "offsets"):
            numbers = whole_numbers(name, as_array(name, getattr(self, name)))
            object.__setattr__(self, name, np.ascontiguousarray(numbers, np.int64))
        rows = self.dataset.rows
        if self.order.shape != (rows,) or not np.array_equal(np.sort(self.order), np.arange(rows)):
            missing = np.setdiff1d(np.arange(rows), self.order)
            found = f"row {missing[0]} is missing" if missing.size else f"found shape {self.order.shape}"
            raise DataError(f"order must hold each row number from 0 to {rows - 1} once; {found}")
        if self.offsets.ndim != 1 or self.offsets.size < 2:
            raise DataError(f"offsets must be one more than the workers, found shape {self.offsets.shape}")
        if self.offsets[0] != 0 or self.offsets[-1] != rows:
            raise DataError(f"offsets must go from 0 to the {rows} rows, found {self.offsets[0]} to {self.offsets[-1]}")
        falls = np.flatnonzero(np.diff(self.offsets) < 0)
        if falls.size:
            raise DataError(f"offsets must not fall, as they do after worker {falls[0]}")

    def of_width(self, width: int) -> Shards:
        """Return the same shards, for objectives with several weights per feature."""
        return self if width == self.width else replace(self, width=width)

    @property
    def n(self) -> int:
        """The length of a vector of weights: features times width."""
        return self.dataset.features * self.width

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self.offsets.size - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The rows n_i of each worker, shape (workers,)."""
        return np.diff(self.offsets)

    @property
    def weights(self) -> NDArray[np.float64]:
        """The share n_i/n of all rows that each worker holds, shape (workers,); they sum to 1."""
        return self.sizes / self.dataset.rows

    @property
    def support(self) -> NDArray[np.signedinteger[Any]]:
        """The supports of all workers, one after the other, each sorted; of the type of `dataset.indices`."""
        return self._supports[0]

    @property
    def support_offsets(self) -> NDArray[np.int64]:
        """Where they lie: worker w has support[support_offsets[w] : support_offsets[w + 1]]; shape (workers + 1,)."""
        return self._supports[1]

    @property
    def local(self) -> NDArray[np.int32]:
        """For each entry of the data set, the place of its column in the support of the worker that holds its row."""
        return self._supports[2]

    @cached_property
    def _supports(self) -> tuple[NDArray[np.signedinteger[Any]], NDArray[np.int64], NDArray[np.int32]]:
        from qsim.kernels.support import find_support

        data = self.dataset
        columns = data.indices.view(f"u{data.indices.itemsize}")
        place = np.full(data.features, -1, np.int32)
        support, local = np.empty_like(data.indices), np.empty(data.nonzeros, np.int32)
        support_offsets = np.empty(self.workers + 1, np.int64)
        used = find_support(data.indptr, columns, self.order, self.offsets, place, support, support_offsets, local)
        return support[:used].copy(), support_offsets, local

    def __repr__(self) -> str:
        sizes = self.sizes
        return (
            f"Shards({self.dataset.rows:,} rows of {self.dataset.name!r} on {self.workers:,} workers,"
            f" {sizes.min():,} to {sizes.max():,} each)"
        )


def _at_the_door(split: Callable[..., Shards]) -> Callable[..., Shards]:
    """Check what a partition's `split` is given, and what it makes."""

    @wraps(split)
    def checked(self: Partition, dataset: Dataset, workers: int, key: Key) -> Shards:
        if not isinstance(dataset, Dataset):
            raise TypeError(f"a partition splits a Dataset, found {type(dataset).__name__}")
        require_key(key)
        shards = split(self, dataset, require_rows(dataset, workers), key)
        if not isinstance(shards, Shards):
            raise TypeError(f"{self!r} must return Shards(dataset, order, offsets), found {shown(shards)}")
        if shards.dataset is not dataset and shards.dataset != dataset:
            raise ValueError(f"{self!r} must share out the rows that it is given, {dataset!r}, found {shards!r}")
        if shards.workers != workers:
            raise ValueError(f"{self!r} made {shards.workers} shards for {workers} workers")
        return shards

    return checked


class Partition(ABC):
    """Base class of partitions: which worker holds which rows.

    A subclass is an option (`qsim.option`) with one method, `split`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Have what `split` takes checked, and what a user's own returns."""
        super().__init_subclass__(**options)
        if "split" in vars(cls):
            cls.split = _at_the_door(vars(cls)["split"])  # type: ignore[method-assign]

    @abstractmethod
    def split(self, dataset: Dataset, workers: int, key: Key) -> Shards:
        """Give each row to one worker.

        Parameters
        ----------
        dataset : Dataset
            The rows.
        workers : int
            How many workers there are.
        key : Key
            The source of all randomness.

        Returns
        -------
        Shards
            The rows of the workers.

        Raises
        ------
        ValueError
            For less than one worker.
        DataError
            For more workers than rows.
        """


@final
@option
class Contiguous(Partition):
    """Consecutive rows, in shards whose sizes differ by at most one.

    Examples
    --------
    >>> from qsim.keys import Key
    >>> data = Dataset([0, 1, 2, 3], [0, 1, 2], None, [1, 0, 1], features=3)
    >>> Contiguous().split(data, workers=2, key=Key(0)).order
    array([0, 1, 2])
    """

    def split(self, dataset: Dataset, workers: int, key: Key) -> Shards:
        return _evenly(dataset, np.arange(dataset.rows), workers)


@final
@option
class Shuffled(Partition):
    """Shuffled rows, in shards whose sizes differ by at most one: every worker sees the same distribution.

    Examples
    --------
    >>> from qsim.keys import Key
    >>> data = Dataset([0, 1, 2, 3], [0, 1, 2], None, [1, 0, 1], features=3)
    >>> sorted(Shuffled().split(data, workers=2, key=Key(0)).order.tolist())
    [0, 1, 2]
    """

    def split(self, dataset: Dataset, workers: int, key: Key) -> Shards:
        return _evenly(dataset, key.generator().permutation(dataset.rows), workers)


@final
@option
class ByLabel(Partition):
    """Rows sorted by label, in shards whose sizes differ by at most one: most workers see few classes.

    The lowest label comes first. Targets, which are no classes, raise DataError.

    Raises
    ------
    DataError
        For targets, which are no classes.

    Examples
    --------
    >>> from qsim.keys import Key
    >>> data = Dataset([0, 1, 2, 3], [0, 1, 2], None, [1, 0, 1], features=3)
    >>> ByLabel().split(data, workers=2, key=Key(0)).order
    array([1, 0, 2])
    """

    def split(self, dataset: Dataset, workers: int, key: Key) -> Shards:
        _require_classes(dataset, self)
        return _evenly(dataset, np.argsort(dataset.labels, kind="stable"), workers)


@final
@option
class Dirichlet(Partition):
    """Label skew of any degree: the shares of the workers of each class are drawn from a Dirichlet distribution.

    For each class they are drawn from Dirichlet(alpha, ..., alpha). With a large alpha, shards are alike and
    near-equal; with a small one, each class is on few workers, shards are unequal and some are empty.

    Parameters
    ----------
    alpha : float
        The concentration, above 0 and at most 1e12.

    Raises
    ------
    ValueError
        For another `alpha`.
    DataError
        In a run, for targets, which are no classes.

    References
    ----------
    .. [1] Hsu, Qi and Brown, "Measuring the effects of non-identical data distribution for federated visual
           classification" (arXiv:1909.06335), who draw shares of the classes for each worker.
    .. [2] Yurochkin et al., "Bayesian nonparametric federated learning of neural networks" (ICML 2019), who draw shares
           of the workers for each class, as here.

    Examples
    --------
    >>> from qsim.keys import Key
    >>> data = Dataset([0, 1, 2, 3], [0, 1, 2], None, [1, 0, 1], features=3)
    >>> int(Dirichlet(alpha=0.1).split(data, workers=2, key=Key(0)).sizes.sum())
    3
    """

    alpha: float

    def __post_init__(self) -> None:
        number("alpha", self.alpha, above=0)
        if self.alpha > 1e12:
            raise ValueError(f"alpha must be at most 1e12, found {self.alpha!r}; for equal shares write Shuffled()")

    def split(self, dataset: Dataset, workers: int, key: Key) -> Shards:
        _require_classes(dataset, self)
        generator = key.generator()
        owner = np.empty(dataset.rows, np.int64)
        for label in (-1, 1) if dataset.kind == "signs" else range(dataset.classes):
            rows = generator.permutation(np.flatnonzero(dataset.labels == label))
            ends = np.cumsum(generator.dirichlet(np.full(workers, float(self.alpha)))) * rows.size
            owner[rows] = np.searchsorted(ends[:-1], np.arange(rows.size) + 0.5)
        sizes = np.bincount(owner, minlength=workers)
        return Shards(dataset, np.argsort(owner, kind="stable"), np.concatenate(([0], np.cumsum(sizes))))


def _evenly(dataset: Dataset, order: NDArray[np.int64], workers: int) -> Shards:
    return Shards(dataset, order, np.arange(workers + 1) * dataset.rows // workers)


def require_rows(dataset: Any, workers: int) -> int:
    """Return a number of workers; refuse more than there are rows."""
    workers = whole("workers", workers, least=1)
    if workers > dataset.rows:
        raise DataError(
            f"{workers:,} workers cannot share the {dataset.rows:,} rows of {dataset.name!r}:"
            f" take at most {dataset.rows:,} workers"
        )
    return workers


def _require_classes(dataset: Dataset, partition: Partition) -> None:
    if dataset.kind == "targets":
        raise DataError(
            f"{partition!r} shares out rows by class, but {dataset!r} has targets: take Shuffled(), or sort the rows"
            " yourself: Contiguous() of data.take(np.argsort(data.labels))"
        )
