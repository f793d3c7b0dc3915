"""Tables in files: CSV, TSV and Parquet."""

from __future__ import annotations

from dataclasses import field
from functools import lru_cache
from hashlib import blake2b
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, final

from qsim.datasets.dataset import Dataset, Source
from qsim.datasets.errors import DataError
from qsim.datasets.files import File, kept, stem
from qsim.options import nearest, one_of, option, whole

TABLES = (".csv", ".tsv", ".parquet")
_LABELS = ("label", "target", "y")


@final
@option
class Table(Source):
    r"""A table with named columns in a file: CSV, TSV or Parquet.

    Parameters
    ----------
    path : str or path-like
        The file: .csv or .tsv, with a header line, also compressed (.gz, .bz2, .xz), or .parquet, which needs the
        package pyarrow.
    label : str, optional
        The column that holds the labels; by default the one that is called "label", "target" or "y".
    hashed : int, optional
        See `Dataset.from_arrays`, which the other columns are given to. Rows may be without entries.
    kind : {"signs", "classes", "targets"}, default "signs"
        What the labels are; see `Dataset`.
    classes : int, optional
        How many classes there are, where some may have no rows in the file; see `Dataset`.

    Raises
    ------
    DataError
        When loaded: for a file that is missing or cannot be read, for a label column that is missing, and as
        `Dataset.from_arrays` does.

    Notes
    -----
    A file is read once, and mapped from then on (`docs/data.md` says where); if it changes, it is read again.

    Examples
    --------
    >>> import qsim
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "people.csv"
    ...     _ = path.write_text("age,job,income\n30,nurse,1\n40,clerk,0\n50,nurse,1\n")
    ...     Table(path, label="income").load()
    Dataset('people', 3 x 3, 6 non-zeros, 2 positive)
    """

    path: str | PathLike[str]
    label: str | None = None
    hashed: int | None = None
    kind: Literal["signs", "classes", "targets"] = "signs"
    classes: int | None = None
    name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", fspath(self.path))
        object.__setattr__(self, "name", stem(fspath(self.path)))
        if self.hashed is not None:
            whole("hashed", self.hashed, least=1, most=2**31 - 1)
        if self.classes is not None:
            whole("classes", self.classes, least=2)
        one_of("kind", self.kind, ("signs", "classes", "targets"))
        if table_suffix(fspath(self.path)) is None:
            raise DataError(f"a table is a file that ends in {', '.join(TABLES)} (or .csv.gz), found {self.path!r}")

    def load(self) -> Dataset:
        return _load(self, File.at(fspath(self.path)))


def table_suffix(path: str) -> str | None:
    """Return which of the endings of tables a path has, before those of compression; None if it has none."""
    suffixes = [suffix for suffix in Path(path).suffixes if suffix not in (".gz", ".bz2", ".xz")]
    return suffixes[-1] if suffixes and suffixes[-1] in TABLES else None


@lru_cache(maxsize=8)
def _load(source: Table, file: File) -> Dataset:
    def make() -> Dataset:
        frame = _read(file)
        label = _label(source, [str(column) for column in frame.columns])
        missing = int(frame[label].isna().sum())
        if missing:
            raise DataError(f"{file.path}: {missing:,} rows have no label in column {label!r}; leave them out")
        try:
            return Dataset.from_arrays(
                frame.drop(columns=label),
                frame[label],
                name=source.name,
                empty="keep",
                kind=source.kind,
                classes=source.classes,
                hashed=source.hashed,
            )
        except ValueError as error:
            raise DataError(f"{file.path}: {error}") from None

    how = f"table {source.label!r} {source.hashed} {source.kind}" + f" {source.classes}" * (source.classes is not None)
    return kept(file, how, source, source.name, make)


def common_columns(source: Table, features: int) -> int:
    """Return a number that tables share which have the same columns in the same order, whatever their rows are.

    features: how many the table has.

    Raises DataError if the features depend on the rows, too: those of categories that are not hashed.
    """
    first = _read(File.at(fspath(source.path)), rows=1)
    first = first.drop(columns=_label(source, [str(column) for column in first.columns]))
    names = [str(column) for column in first.columns]
    if source.hashed is None:
        texts = [name for name, kind in zip(names, first.dtypes, strict=True) if kind.kind not in "biuf"]
        if texts or features != len(names):
            which = f"column {texts[0]!r} holds" if texts else "some columns hold"
            raise DataError(
                f"{source.path}: {which} categories, whose features would not be the same in all files: share out"
                " features by a hash, as in qsim.datasets.Table(..., hashed=2**18)"
            )
    return int.from_bytes(blake2b("\0".join(names).encode(), digest_size=6).digest(), "little")


def _read(file: File, rows: int | None = None) -> Any:
    """Return the frame in a file; with a number of rows, at most as many (of Parquet none), if that is less work."""
    import pandas as pd

    suffix = table_suffix(file.path)
    try:
        if suffix == ".parquet":
            if rows is None:
                return pd.read_parquet(file.path)
            from pyarrow.parquet import read_schema

            return read_schema(file.path).empty_table().to_pandas()
        separator = "\t" if suffix == ".tsv" else ","
        with file.open() as stream:
            frame = pd.read_csv(stream, sep=separator, nrows=rows)
        with file.open() as stream:  # pandas numbers columns of one name
            header = pd.read_csv(stream, sep=separator, nrows=1, header=None, dtype=str).iloc[0]
    except ImportError as error:
        raise DataError(f"{file.path}: a Parquet file needs the package pyarrow: pip install pyarrow") from error
    except (ValueError, OSError) as error:  # of pandas and of pyarrow, all of them
        raise DataError(f"{file.path} is no table that can be read: {error}") from error
    again = header[header.duplicated() & header.notna()]
    if again.size:
        raise DataError(f"{file.path}: column {again.iloc[0]!r} is there more than once; give each a name of its own")
    return frame


def _label(source: Table, columns: list[str]) -> str:
    if source.label is not None:
        if source.label not in columns:
            raise DataError(
                f"{source.path} has no column {source.label!r}{nearest(source.label, columns)} (it has"
                f" {', '.join(columns)})"
            )
        return source.label
    found = [name for name in _LABELS if name in columns]
    if len(found) != 1:
        raise DataError(
            f"{source.path}: which column holds the labels? Write qsim.datasets.Table({source.path!r}, label=...) with"
            f" one of {', '.join(columns)}"
        )
    return found[0]
