"""Data in many files, of which every worker reads its own: no process holds all rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from glob import glob
from hashlib import sha256
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, TypeGuard, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets.dataset import Dataset, Source
from qsim.datasets.errors import DataError
from qsim.datasets.files import expanded, stem
from qsim.datasets.labels import Kind
from qsim.datasets.libsvm import LibSVM, label_of_plus_one
from qsim.datasets.npz import Npz
from qsim.datasets.partition import Shards, require_rows
from qsim.datasets.table import Table, common_columns, table_suffix
from qsim.options import option, shown

_KINDS: Final = ("signs", "classes", "targets")


@final
@option
class Parts(Source):
    """Data in many files, which are read where their workers are: the driver holds no row.

    A worker holds a file, or a piece of one.

    Parameters
    ----------
    source : Source, str or path-like
        What one file is, with a pattern as its path: `HashedText("clicks/*.tsv.gz")`. A pattern alone stands for
        tables (.csv, .tsv, .parquet), .npz or LIBSVM files, as in `load`. ``**`` stands for any folders.

    Raises
    ------
    DataError
        When loaded: if no file fits the pattern, for parts with different numbers of features or kinds of labels, by
        the names of both, and for what is wrong with one of them. Tables must have the same columns in the same order,
        and their categories be hashed.
    TypeError
        For another source.

    Notes
    -----
    The files are taken in the order of their names. W workers share P files so that worker i holds a piece of file
    floor(i P / W), in consecutive rows; there must be as many workers as files, or more. Where a run starts, its engine
    has each file read and its rows counted; from then on they are mapped wherever the files are read (`docs/data.md`
    says where). All machines must see the files under the same paths.

    In a run the loss, its gradient and the error are measured by the workers, which costs no bits, and summed in
    their order: the same bits on all engines. So are the optimum and the constants of theory, by workers of their own
    that the engine starts before the run; what is of F alone, such as the optimum, by a worker for each file, so that
    it does not depend on the number of workers.

    Examples
    --------
    >>> import qsim
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for part in range(3):
    ...         qsim.datasets.save_clicks(Path(folder) / f"day-{part}.tsv", rows=100, part=part)
    ...     clicks = Parts(qsim.datasets.HashedText(f"{folder}/day-*.tsv", features=2**12))
    ...     run = qsim.Run(clicks, qsim.LogisticRegression(l2=1e-2), qsim.GradientDescent(), workers=6, rounds=3)
    ...     len(qsim.simulate(run).frame)
    4
    """

    source: Source | str | PathLike[str]
    name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.source, str | PathLike):
            pattern = fspath(self.source)
            made = Npz if Path(pattern).suffix == ".npz" else Table if table_suffix(pattern) is not None else LibSVM
            object.__setattr__(self, "source", made(pattern))
        if not isinstance(self.source, Source) or not isinstance(getattr(self.source, "path", None), str):
            raise TypeError(
                "parts are of a source of files, such as qsim.datasets.HashedText('clicks/*.tsv.gz'), found"
                f" {shown(self.source)}"
            )
        object.__setattr__(self, "name", stem(self._pattern))

    def load(self) -> Dataset:
        """Return what is known of all rows, without one of them.

        Returns
        -------
        RowsElsewhere
            Stands for the data set.
        """
        files = self.files()
        marks = _marks(files)
        if (self, marks) not in _KNOWN:
            for _ in self.pieces(files):
                pass
        found: Any = _KNOWN[self, marks]
        return found  # type: ignore[no-any-return]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name the content of all files, in their order."""
        return self.load().digest

    def files(self) -> list[str]:
        """Return the paths of the files, in their order.

        Returns
        -------
        list of str
            The paths.
        """
        found = sorted(glob(str(expanded(self._pattern).absolute()), recursive=True))  # noqa: PTH207
        if not found:
            called = "; one is called so: write the pattern by glob.escape" * expanded(self._pattern).exists()
            raise DataError(f"no file fits {self._pattern!r}{called}")
        return found

    def sources(self, files: list[str]) -> tuple[Source, ...]:
        """Return a source for each of the files."""
        source: Any = self.source
        return tuple(replace(source, path=path) for path in files)

    def pieces(self, files: list[str]) -> Iterator[Dataset]:
        """Yield the data of one file after the other; at last, take what was counted."""
        counts = []
        for source in self.sources(files):
            data = source.load()
            counts.append(counts_of(data))
            yield data
        self.remember(files, counts)

    def is_known(self, files: list[str]) -> bool:
        """Return whether the rows of the files were counted, as they are now."""
        return (self, _marks(files)) in _KNOWN

    def remember(self, files: list[str], counts: list[NDArray[np.float64]]) -> None:
        """Take what was counted, a row of numbers for each file; refuse files that do not fit together."""
        first = counts[0]
        for path, these in zip(files, counts, strict=True):
            if these[7] != first[7]:
                if isinstance(self.source, LibSVM):
                    raise DataError(
                        f"the label {these[7]:g} is +1 in {path}, but {first[7]:g} in {files[0]}; say which it is in"
                        " all files, as in qsim.datasets.LibSVM(..., positive=1)"
                    )
                raise DataError(
                    f"{path} has other columns than {files[0]}, or in another order; give all files the same, since"
                    " features are told apart by their place"
                )
            if these[2] != first[2]:
                raise DataError(
                    f"{path} has {int(these[2]):,} features, but {files[0]} has {int(first[2]):,}; say how many there"
                    " are, as in qsim.datasets.LibSVM(..., features=...)"
                )
            if these[3] != first[3]:
                raise DataError(
                    f"the labels of {path} are {_KINDS[int(these[3])]}, but those of {files[0]} {_KINDS[int(first[3])]}"
                )
        if len(_KNOWN) >= 64:
            _KNOWN.pop(next(iter(_KNOWN)))
        _KNOWN[self, _marks(files)] = RowsElsewhere(self, self.sources(files), np.stack(counts))

    @property
    def _pattern(self) -> str:
        return str(getattr(self.source, "path"))  # noqa: B009


def counts_of(data: Dataset) -> NDArray[np.float64]:
    """Return what a driver must know of a part.

    Rows, non-zeros, features, kind of labels, two halves of the digest, classes, and how the file is to be understood:
    the columns of a table, the label that is +1.
    """
    digest, kind = int(data.digest, 16), _KINDS.index(data.kind)
    classes = 0 if data.kind == "targets" else data.classes
    sense = 0
    if isinstance(data.source, Table):
        sense = common_columns(data.source, data.features)
    elif isinstance(data.source, LibSVM):
        sense = label_of_plus_one(data.source, int(data.labels[0]))
    counted = data.rows, data.nonzeros, data.features, kind, digest >> 32, digest & 0xFFFFFFFF, classes, sense
    return np.array(counted, np.float64)


def _marks(files: list[str]) -> tuple[tuple[str, int, int], ...]:
    """Return what the file system says of files, which another content would change."""
    try:
        return tuple((path, (about := Path(path).stat()).st_size, about.st_mtime_ns) for path in files)
    except OSError as error:
        raise DataError(f"{error.filename!r} can't be read: {error.strerror}") from None


class Reader(Protocol):
    """Has rows measured where they are."""

    def mean(self, task: str, w: NDArray[np.float64], length: int, **vectors: NDArray[Any]) -> NDArray[np.float64]:
        """Return sum_i n_i/n v_i over the workers i, in their order, of v_i that the task finds at w."""

    def total(
        self,
        task: str,
        w: NDArray[np.float64],
        length: int,
        factors: NDArray[np.float64] | None = None,
        **vectors: NDArray[Any],
    ) -> NDArray[np.float64]:
        """Return the same with other factors than n_i/n, 1 by default."""

    def each(self, task: str, *points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a number for each worker."""


@dataclass(frozen=True, eq=False, repr=False)
class RowsElsewhere:
    """Stands for a data set where nobody has its rows: what was counted is known, all else is an error.

    counts: a row for each part, as `counts_of` returns it. reader: who measures the rows, if anybody does.
    """

    source: Parts
    parts: tuple[Source, ...]
    counts: NDArray[np.float64]
    intercept: bool = False
    reader: Reader | None = None

    @property
    def name(self) -> str:
        """The name of the data in figures."""
        return self.source.name

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return int(self.counts[:, 0].sum())

    @property
    def nonzeros(self) -> int:
        """The number of all entries."""
        return int(self.counts[:, 1].sum()) + self.intercept * self.rows

    @property
    def features(self) -> int:
        """The length of a row."""
        return int(self.counts[0, 2]) + self.intercept

    @property
    def kind(self) -> Kind:
        """The kind of the labels."""
        return _KINDS[int(self.counts[0, 3])]

    @property
    def classes(self) -> int:
        """The number of classes: 2 for signs, 0 for targets."""
        return int(self.counts[:, 6].max())

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name the content of all parts, in their order."""
        return sha256(f"{self.intercept} {self.counts[:, 4:6].tolist()}".encode()).hexdigest()[:16]

    def with_intercept(self) -> RowsElsewhere:
        """Return the same with one more feature, which is 1 in every row."""
        return replace(self, intercept=True)

    def shared_out(self, workers: int, width: int) -> PartShards:
        """Return which worker holds which piece of which part."""
        require_rows(self, workers)
        if workers < len(self.parts):
            raise DataError(
                f"{workers:,} workers cannot hold the {len(self.parts):,} files of {self.source!r}: a worker holds one"
                f" of them or a piece, so take at least {len(self.parts):,} workers, or join files"
            )
        return PartShards(self.parts, workers, self, width)

    def mean(self, task: str, w: NDArray[np.float64], length: int, **vectors: NDArray[Any]) -> NDArray[np.float64]:
        """Return what the reader finds, as `Reader.mean` does."""
        return self._read(task).mean(task, w, length, **vectors)

    def total(self, task: str, w: NDArray[np.float64], length: int) -> NDArray[np.float64]:
        """Return what the reader finds, as `Reader.total` does."""
        return self._read(task).total(task, w, length)

    def _read(self, task: str) -> Reader:
        if self.reader is None:
            self._refuse(task)
        return self.reader

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        raise DataError(
            f"no process holds the rows of {self.source!r}, so what needs all of them ({name}) is not known: leave out"
            " the optimum (optimum=False), and give the step, as in qsim.GradientDescent(step=0.1)"
        )

    def __repr__(self) -> str:
        return (
            f"{self.source!r} ({len(self.parts):,} file{'s' * (len(self.parts) != 1)}, {self.rows:,} x"
            f" {self.features:,}, {self.nonzeros:,} non-zeros)"
        )


def are_elsewhere(data: object) -> TypeGuard[RowsElsewhere]:
    """Return whether data have their rows elsewhere."""
    return isinstance(data, RowsElsewhere)


Rows = Dataset | RowsElsewhere | Parts
"""Data that are known by a digest of their rows."""


@dataclass(frozen=True, eq=False)
class PartShards:
    """The shards of parts: pieces of files, which are read by who has workers of them.

    dataset: what is known of the rows; None until they were counted.
    """

    parts: tuple[Source, ...]
    workers: int
    dataset: RowsElsewhere | None
    width: int = 1

    @property
    def n(self) -> int:
        """The length of a vector of weights; 1 until the rows were counted."""
        return 1 if self.dataset is None else self.dataset.features * self.width

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The rows n_i of each worker, shape (workers,)."""
        assert self.dataset is not None
        rows = self.dataset.counts[:, 0].astype(np.int64).tolist()
        pieces = [np.diff(_ends(rows[part], last - first)) for part, (first, last) in enumerate(self._spans)]
        return np.concatenate(pieces)

    @property
    def weights(self) -> NDArray[np.float64]:
        """The share n_i/n of all rows that each worker holds, shape (workers,)."""
        sizes = self.sizes
        return sizes / int(sizes.sum())

    @property
    def support_offsets(self) -> NDArray[np.int64]:
        """Where the supports of the workers would lie if they were as large as they can be; shape (workers + 1,)."""
        if self.dataset is None:
            return np.arange(self.workers + 1)
        most = int(self.dataset.counts[:, 1].max()) + self.dataset.intercept
        return np.arange(self.workers + 1) * min(most, self.dataset.features)

    def of_width(self, width: int) -> PartShards:
        """Return the same shards, for objectives with several weights per feature."""
        return replace(self, width=width)

    def blocks(self, low: int, high: int, size: int) -> list[tuple[int, int]]:
        """Cut workers low, ..., high - 1 to blocks of at most `size`, none of which has workers of two files."""
        return [
            (begin, min(begin + size, last, high))
            for first, last in self._spans
            for begin in range(max(first, low), min(last, high), size)
        ]

    def held(self, low: int, high: int) -> tuple[Shards, int]:
        """Return the shards of the file whose workers low, ..., high - 1 are, and which of them the first one is."""
        part, (first, last) = next(
            (part, span) for part, span in enumerate(self._spans) if span[0] <= low and high <= span[1]
        )
        known, source = self.dataset, self.parts[part]
        counts = None if known is None else tuple(known.counts[part].tolist())
        mark = _marks([getattr(source, "path", "")])
        found = _shards(source, mark, counts, known is not None and known.intercept, last - first, self.width)
        return found, low - first

    @property
    def _spans(self) -> list[tuple[int, int]]:
        """The first and the one after the last worker of each part."""
        ends = -(-np.arange(len(self.parts) + 1) * self.workers // len(self.parts))
        return list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))


@lru_cache(maxsize=64)
def _shards(
    source: Source, mark: Any, counts: tuple[float, ...] | None, intercept: bool, pieces: int, width: int
) -> Shards:
    """Return the pieces of a file, whose rows are mapped; refuse one that is not what was counted."""
    data = source.load()
    if counts is not None and counts_of(data).tolist() != list(counts):
        raise DataError(f"{getattr(source, 'path', '')} has changed since its rows were counted; start the run again")
    data = data.with_intercept() if intercept else data
    return Shards(data, np.arange(data.rows), _ends(data.rows, pieces), width)


def _ends(rows: int, pieces: int) -> NDArray[np.int64]:
    return np.arange(pieces + 1) * rows // pieces


_KNOWN: dict[tuple[Parts, tuple[tuple[str, int, int], ...]], RowsElsewhere] = {}
