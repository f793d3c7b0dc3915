"""Feature hashing: text with a field for each column, such as click logs, as rows of a fixed number of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import lru_cache
from hashlib import blake2b
from io import BufferedIOBase
from os import PathLike, fspath
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets.checks import offsets_of
from qsim.datasets.dataset import Dataset, Source
from qsim.datasets.errors import DataError
from qsim.datasets.files import File, kept, stem
from qsim.datasets.lines import blocks_of_lines
from qsim.options import nearest, one_of, option, shown, whole

_BLOCK = 1 << 18  # bytes: where the fields end, and the rows, stay in the cache
_ENTRIES = 1 << 22  # that are allocated together: memory that nothing was written to costs nothing
_LONGEST = 1 << 30  # bytes of a line


def _names(which: str, columns: Any) -> tuple[str, ...]:
    """Return names of columns as a tuple; refuse what is none."""
    if isinstance(columns, str) or not all(isinstance(column, str) and column for column in columns):
        raise ValueError(f"{which} must be names of columns, found {shown(columns)}")
    return tuple(columns)


def _refuse_twice(which: str, columns: Sequence[str]) -> None:
    twice = [column for column in columns if list(columns).count(column) > 1]
    if twice:
        raise ValueError(f"{which} must be different columns, found {twice[0]!r} twice")


@final
@option
class TextColumns:
    r"""The fields of a text's lines: a label, numbers and categories.

    Parameters
    ----------
    label : str, default "label"
        The column that holds the labels.
    numbers : sequence of str, optional
        The columns of numbers.
    categories : sequence of str, optional
        The columns of categories: any text.
    names : sequence of str, optional
        The names of all columns, in their order; those that are not in `label`, `numbers` or `categories` are passed
        over. By default the first line of a text is a header that says them.
    delimiter : str, default "\t"
        What stands between two fields: one character of ASCII. Quotes mean nothing; behind other delimiters than tabs
        they are refused.
    log1p : bool, default False
        Whether a number x becomes sign(x) log(1 + abs(x)), as counts of a wide range should.

    Raises
    ------
    ValueError
        For a column that is there twice, or is not in `names`, and for no numbers and no categories.

    Examples
    --------
    >>> import qsim
    >>> qsim.datasets.TextColumns("bought", numbers=["age"], categories=["job", "city"], delimiter=",")
    qsim.datasets.TextColumns(label='bought', numbers=('age',), categories=('job', 'city'), delimiter=',')
    >>> len(qsim.datasets.CLICK_LOG.names)
    40
    """

    label: str = "label"
    numbers: Sequence[str] = ()
    categories: Sequence[str] = ()
    names: Sequence[str] | None = None
    delimiter: str = "\t"
    log1p: bool = False

    def __post_init__(self) -> None:
        for which in ("numbers", "categories", "names"):
            columns = getattr(self, which)
            if columns is not None:
                object.__setattr__(self, which, _names(which, columns))
        _names("label", [self.label])
        read = [self.label, *self.numbers, *self.categories]
        if len(read) == 1:
            raise ValueError("there must be a column of numbers or of categories, found neither")
        _refuse_twice("label, numbers and categories", read)
        if self.names is not None:
            _refuse_twice("names", self.names)
            for column in read:
                if column not in self.names:
                    raise ValueError(f"names must hold all columns, found no {column!r}{nearest(column, self.names)}")
        one = self.delimiter
        if not (isinstance(one, str) and len(one) == 1 and one.isascii()) or one.isalnum() or one in '\r\n"+-.':
            raise ValueError(f"delimiter must be one character of ASCII, such as '\\t' or ',', found {one!r}")


CLICK_LOG = TextColumns(
    label="label",
    numbers=[f"I{k}" for k in range(1, 14)],
    categories=[f"C{k}" for k in range(1, 27)],
    names=["label", *(f"I{k}" for k in range(1, 14)), *(f"C{k}" for k in range(1, 27))],
    log1p=True,
)
"""The columns of the usual click logs: a label, 13 counts, and 26 categories, between tabs and without a header."""


@final
@option
class HashedText(Source):
    r"""Feature hashing of a text with a field for each column, such as a click log.

    Parameters
    ----------
    path : str or path-like
        The file, plain or compressed (gzip, bzip2, xz), in UTF-8.
    features : int, default 1048576
        How many features there are: a power of two, up to 2**31.
    columns : TextColumns, optional
        What the fields are. By default `CLICK_LOG`.
    pairs : sequence of (str, str), optional
        Pairs of columns that are features too: their values are the products of the two.
    signed : bool, default True
        Whether the hash also says the sign of a value, so that features which meet in one place cancel on average.
    missing : {"skip", "feature"}, default "skip"
        What an empty field is: nothing, or a feature of its column.
    kind : {"signs", "targets"}, default "signs"
        What the labels are; see `Dataset`.

    Raises
    ------
    DataError
        When loaded: for a file that is missing, torn, not in UTF-8 or without rows, and for a bad line, by its number:
        too few or too many fields, a label or a number that is none, a number too large for float32.
    ValueError
        For options that make no sense.

    Notes
    -----
    A category is a feature for each column and text, whose value is 1; a number is a feature for each column, whose
    value it is. A hash of both says which of the features that is, and with which sign [1]_. Values that meet in one
    feature of a row add up, in float32, in the order of the fields. A zero is no entry. There is no dictionary, so
    files can be read one by one, anywhere, and a text that was never seen has a place.

    A file is read once, and mapped from then on (`docs/data.md` says where); if it changes, it is read again.

    References
    ----------
    .. [1] Weinberger, Dasgupta, Langford, Smola and Attenberg, "Feature hashing for large scale multitask learning"
           (ICML 2009).

    Examples
    --------
    >>> import qsim
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> people = qsim.datasets.TextColumns("bought", numbers=["age"], categories=["job"], delimiter=",")
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "people.csv"
    ...     _ = path.write_text("age,job,bought\n30,nurse,1\n,clerk,0\n50,nurse,1\n")
    ...     HashedText(path, 2**18, people, pairs=[("age", "job")]).load()
    Dataset('people', 3 x 262,144, 7 non-zeros, 2 positive)
    """

    path: str | PathLike[str]
    features: int = 2**20
    columns: TextColumns = CLICK_LOG
    pairs: Sequence[tuple[str, str]] = ()
    signed: bool = True
    missing: Literal["skip", "feature"] = "skip"
    kind: Literal["signs", "targets"] = "signs"
    name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", fspath(self.path))
        object.__setattr__(self, "name", stem(fspath(self.path)))
        features = whole("features", self.features, least=2, most=2**31)
        if features & (features - 1):
            raise ValueError(f"features must be a power of two, such as 2**20, found {features}")
        if not isinstance(self.columns, TextColumns):
            raise TypeError(f"columns must be TextColumns, such as CLICK_LOG, found {shown(self.columns)}")
        object.__setattr__(self, "pairs", tuple(tuple(pair) for pair in self.pairs))
        known = [*self.columns.numbers, *self.columns.categories]
        for pair in self.pairs:
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ValueError(f"a pair must be of two different columns, found {pair!r}")
            for column in pair:
                if column not in known:
                    raise ValueError(
                        f"a pair must be of columns of numbers or categories, found {column!r}{nearest(column, known)}"
                    )
        if len(set(self.pairs)) < len(self.pairs):
            raise ValueError("a pair of columns is there twice")
        one_of("missing", self.missing, ("skip", "feature"))
        one_of("kind", self.kind, ("signs", "targets"))

    def load(self) -> Dataset:
        return _load(self, File.at(fspath(self.path)))


@lru_cache(maxsize=8)
def _load(source: HashedText, file: File) -> Dataset:
    def make() -> Dataset:
        with file.open() as stream:
            rows = read(stream, source)
        try:
            indptr, indices, values, labels = rows
            return Dataset(indptr, indices, values, labels, source.features, source.name, source, source.kind)
        except DataError as error:
            raise DataError(f"{source.path}: {error}") from None

    how = (source.features, source.columns, source.pairs, source.signed, source.missing, source.kind)
    return kept(file, f"hashed text {how}", source, source.name, make)


def read(stream: BufferedIOBase, source: HashedText, block: int = _BLOCK) -> tuple[NDArray[Any], ...]:
    """Return indptr, indices, values and labels of a text, read `block` bytes at a time, or more if a line is longer.

    Raises DataError for a bad line, and for no rows.
    """
    from qsim.kernels.hashed_text import PADDING

    reader = _Reader(source, stream)
    parts = [reader.rows(text, end) for text, end in blocks_of_lines(stream, block, PADDING)]
    if not parts:
        raise DataError(f"{source.path} has no rows")
    sizes, *others = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    arrays = (offsets_of(sizes), *others)
    for array in arrays:
        array.flags.writeable = False
    return arrays


class _Reader:
    """Reads blocks of lines, one after the other."""

    def __init__(self, source: HashedText, stream: BufferedIOBase) -> None:
        from qsim.kernels.hashed_text import CATEGORY, LABEL, NUMBER, UNREAD

        self._source, columns = source, source.columns
        self._lines = 0  # that were read
        self._names = columns.names if columns.names is not None else self._header(stream)
        kinds = {columns.label: LABEL} | dict.fromkeys(columns.numbers, NUMBER)
        kinds |= dict.fromkeys(columns.categories, CATEGORY)
        self._kinds = np.array([kinds.get(name, UNREAD) for name in self._names], np.uint8)
        self._words = np.array([word_of(name) for name in self._names], np.uint64)
        places = {name: place for place, name in enumerate(self._names)}
        self._pairs = np.array([[places[one] for one in pair] for pair in source.pairs], np.int64).reshape(-1, 2)
        self._places = np.empty(0, np.uint32)
        self._columns: NDArray[np.int32] = np.empty(0, np.int32)
        self._values: NDArray[np.float32] = np.empty(0, np.float32)

    def rows(self, text: bytearray, end: int) -> tuple[NDArray[Any], ...]:
        """Return how many entries each row has, their columns and values, and the labels."""
        from qsim.kernels.hashed_text import FINE, find_separators, parse

        strange = self._strange_bytes(text, end)
        if strange is not None:  # the lines before that are read first, so that the first one is named that is bad
            end = text.rfind(b"\n", 0, strange[0]) + 1
        source, data = self._source, np.frombuffer(text, np.uint8)
        if self._places.size < end:
            self._places = np.empty(end, np.uint32)
        count = find_separators(data, end, np.uint8(ord(source.columns.delimiter)), self._places)
        most = count // self._kinds.size  # rows
        offsets, labels = np.empty(most + 1, np.int64), np.empty(most)
        columns, values = self._room(most * (self._kinds.size + len(self._pairs)))
        hard, known = np.empty(count, np.int64), np.empty(0)
        while True:
            reason, place, rows, left = parse(
                data,
                self._places[:count],
                self._kinds,
                self._words,
                self._pairs,
                source.features.bit_length() - 1,
                source.signed,
                source.columns.log1p,
                source.missing == "feature",
                offsets,
                columns,
                values,
                labels,
                hard,
                known,
            )
            if left == known.size:
                break
            known = np.array([float(self._token(text, place)) for place in hard[:left].tolist()])
        labels = labels[:rows].copy()
        self._refuse_labels(labels)
        if reason != FINE:
            raise DataError(self._refusal(reason, text, place))
        if strange is not None:
            raise DataError(f"{self._at(text, strange[0])}: {strange[1]}")
        self._lines += rows
        entries = int(offsets[rows])
        self._columns, self._values = self._columns[entries:], self._values[entries:]
        return np.diff(offsets[: rows + 1]), columns[:entries], values[:entries], labels

    def _header(self, stream: BufferedIOBase) -> tuple[str, ...]:
        """Read the line that names the columns."""
        path, columns = self._source.path, self._source.columns
        try:
            line = stream.readline(1 << 20).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line 1: the header is not in UTF-8 ({error.reason})") from None
        self._lines = 1
        names = tuple(line.rstrip("\r\n").split(columns.delimiter))
        for column in (columns.label, *columns.numbers, *columns.categories):
            if names.count(column) != 1:
                found = "twice" if column in names else f"not{nearest(column, names)}"
                shown_names = ", ".join(map(repr, names[:10])) + ", ..." * (len(names) > 10)
                raise DataError(
                    f"{path}, line 1: the header must have the column {column!r} once, and has it {found} (it has"
                    f" {shown_names}; for a text without a header say the names: TextColumns(..., names=...))"
                )
        return names

    def _room(self, entries: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return arrays for columns and values, at least so many: those of many blocks are parts of one."""
        if self._columns.size < entries:
            room = max(entries, _ENTRIES)
            self._columns, self._values = np.empty(room, np.int32), np.empty(room, np.float32)
        return self._columns, self._values

    def _strange_bytes(self, text: bytearray, end: int) -> tuple[int, str] | None:
        """Return where the first byte is that cannot be read, and why: no UTF-8, or a quote that means something."""
        if end > _LONGEST:
            return 0, f"the line has more than {_LONGEST:,} bytes"
        found = []
        if not text.isascii():
            try:
                str(memoryview(text)[:end], "utf-8")
            except UnicodeDecodeError as error:
                what = f"the byte {text[error.start]:#04x} is no UTF-8 ({error.reason}); convert the file, as by iconv"
                found.append((error.start, what))
        quote = text.find(b'"', 0, end) if self._source.columns.delimiter != "\t" else -1
        if quote >= 0:
            table = "separate the fields by tabs, or take qsim.datasets.Table(..., hashed=...)"
            found.append((quote, f"quotes are not read; {table}"))
        return min(found, default=None)

    def _refuse_labels(self, labels: NDArray[np.float64]) -> None:
        """Refuse labels that are not of their kind, by their line."""
        signs = self._source.kind == "signs"
        good = (labels == 0) | (np.abs(labels) == 1) if signs else np.isfinite(labels)
        if good.all():
            return
        row = int(np.argmin(good))
        wanted = "0 or 1, or -1 or 1" if signs else "finite"
        advice = '; for numbers to be predicted say kind="targets"' if signs else ""
        raise DataError(
            f"{self._source.path}, line {self._lines + row + 1:,}: the label {self._source.columns.label!r} must be"
            f" {wanted}, found {labels[row]:g}{advice}"
        )

    def _at(self, text: bytearray, place: int) -> str:
        line = self._lines + text.count(b"\n", 0, place) + 1
        return f"{self._source.path}, line {line:,}"

    def _token(self, text: bytearray, place: int) -> str:
        """Return the field that starts at a place."""
        delimiter = self._source.columns.delimiter.encode()
        line = text[place : text.find(b"\n", place)].rstrip(b"\r")
        return line.partition(delimiter)[0].decode()

    def _refusal(self, reason: int, text: bytearray, place: int) -> str:
        """Say where something is wrong, what it is, and what to write instead."""
        from qsim.kernels.hashed_text import NO_LABEL, TOO_LARGE, WRONG_FIELDS

        delimiter = self._source.columns.delimiter
        begin = text.rfind(b"\n", 0, place) + 1
        line = text[begin : text.find(b"\n", place)]
        where = self._at(text, place)
        if reason == WRONG_FIELDS:
            found, wanted = line.count(delimiter.encode()) + 1, len(self._names)
            if not line.strip(b"\r"):
                return f"{where}: the line is empty; leave it out"
            return (
                f"{where}: {found:,} field{'s' * (found != 1)} instead of {wanted:,} with {delimiter!r} between them,"
                f" from {self._names[0]!r} to {self._names[-1]!r}"
            )
        name, token = self._names[text.count(delimiter.encode(), begin, place)], self._token(text, place)
        token = repr(token if len(token) <= 40 else f"{token[:37]}...")
        if reason == TOO_LARGE:
            pair = " (or its product with another of a pair)" if self._source.pairs else ""
            return f"{where}: {name!r} is {token}{pair}, too large for float32; scale it down, or take log1p=True"
        if reason == NO_LABEL and token == "''":
            return f"{where}: the label {name!r} is missing; leave the line out"
        what = "label" if reason == NO_LABEL else "number"
        return f"{where}: the {what} {name!r} is {token}, which is not a number; a missing one is an empty field"


def word_of(name: str) -> int:
    """Return the word of a column, which the hashes of its cells begin with: the same in every process."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
