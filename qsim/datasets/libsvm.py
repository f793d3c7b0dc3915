"""LIBSVM files: `label index:value index:value ...`, a line a row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BufferedIOBase
from os import PathLike, fspath
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from qsim.datasets.dataset import Dataset, Source
from qsim.datasets.errors import DataError
from qsim.datasets.files import File, kept, stem
from qsim.datasets.labels import Kind
from qsim.datasets.lines import blocks_of_lines
from qsim.options import number, option, whole

_MOST_FEATURES = 2**31  # what an int32 tells apart
_BLOCK = 1 << 20  # bytes of text parsed at a time
_PAIRS = ({-1, 1}, {0, 1}, {1, 2})
_TOKEN = re.compile(rb"[^\s#]*")


@final
@option
class LibSVM(Source):
    r"""A file in the format of LIBSVM and SVMlight, plain or compressed with gzip, bzip2 or xz.

    Parameters
    ----------
    path : str or path-like
        The file. How it is compressed is seen from its first bytes.
    features : int, optional
        The length of a row; by default the largest index of the file. Give it for a test split, which may lack the last
        features.
    zero_based : bool, default False
        Whether index 0 is the first column. Otherwise it is index 1, even if no row has it.
    positive : float, optional
        The label that becomes +1, all others becoming -1. By default the labels must be -1 and 1, 0 and 1, or 1 and 2,
        and the larger becomes +1.
    classes : sequence of float, optional
        The labels of the classes, such as range(1, 8): the first becomes class 0, and so on, in every split alike.
    targets : bool, default False
        Whether the labels are numbers to be predicted (regression), kept in float64. At most one of `positive`,
        `classes` and `targets` may be given.

    Raises
    ------
    DataError
        When loaded: for a file that is missing, torn or without rows, for other labels, and for a bad line, by its
        number and column: no label; an index that is not a whole number, is not above the one before it, or is not from
        1 (or 0) to `features` or :math:`2^{31}`; a value that is not a number, not finite, or too large for float32.
    ValueError, TypeError
        For options that make no sense.

    Notes
    -----
    A line is a row: a label, then an `index:value` for each entry, with increasing indices. A row may have no entries;
    values that are zero stay entries. Blank lines are no rows, what follows a # is a comment, and a `qid:number` in
    front of the entries is skipped. Numbers are read as `float` reads them and rounded to float32: the entries are, bit
    for bit, those of scikit-learn's `load_svmlight_file(path, dtype=np.float32)`.

    A file is parsed once, and mapped from then on (`docs/data.md` says where); if it changes, it is parsed again.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "tiny.svm"
    ...     _ = path.write_text("+1 1:0.5 3:2 # the first row\n-1 2:1e-3\n")
    ...     LibSVM(path).load()
    Dataset('tiny', 2 x 3, 3 non-zeros, 1 positive)
    """

    path: str | PathLike[str]
    features: int | None = None
    zero_based: bool = False
    positive: float | None = None
    classes: Sequence[float] | None = None
    targets: bool = False
    name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", fspath(self.path))
        object.__setattr__(self, "name", stem(fspath(self.path)))
        if self.features is not None:
            whole("features", self.features, least=1, most=_MOST_FEATURES)
        if self.positive is not None:
            number("positive", self.positive)
        if self.classes is not None:
            for place, label in enumerate(self.classes):
                number(f"classes[{place}]", label)
            if len(set(self.classes)) < max(2, len(self.classes)):
                raise ValueError(f"classes must be at least two different labels, found {self.classes!r}")
        if (self.positive is not None) + (self.classes is not None) + self.targets > 1:
            raise ValueError("labels are of one kind: say positive=..., classes=... or targets=True, not two of them")

    def load(self) -> Dataset:
        return load_as(self, self, File.at(fspath(self.path)), self.name)


@lru_cache(maxsize=8)
def load_as(source: Source, format: LibSVM, file: File, name: str) -> Dataset:
    """Return what a file of a format holds, as the data set of a source, under a name."""

    def make() -> Dataset:
        with file.open() as stream:
            rows = read(stream, format)
        labels, kind = _labels(rows.labels, format, file)
        features = format.features or int(rows.indices.max(initial=-1)) + 1
        if not features:
            raise DataError(f"{format.path} has no entries, so no features; say how many: features=...")
        classes = None if format.classes is None else len(format.classes)
        return Dataset(rows.indptr, rows.indices, rows.values, labels, features, name, source, kind, classes)

    how = f"libsvm {format.features} {format.zero_based} {format.positive}"
    if format.classes is not None:
        how += f" classes {[float(label) for label in format.classes]}"
    return kept(file, how + " targets" * format.targets, source, name, make)


@dataclass(frozen=True)
class Rows:
    """The rows of a text: CSR arrays with columns from 0 on, and the labels as they are. The arrays are read-only."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    labels: NDArray[np.float64]

    def __post_init__(self) -> None:
        for array in (self.indptr, self.indices, self.values, self.labels):
            array.flags.writeable = False


def read(stream: BufferedIOBase, format: LibSVM, block: int = _BLOCK) -> Rows:
    """Parse a text: `block` bytes at a time, or more if a line is longer.

    Raises DataError for a bad line, and for no rows.
    """
    from qsim.kernels.decimals import PADDING

    parts: list[Rows] = []
    lines = 0
    for text, end in blocks_of_lines(stream, block, PADDING):
        part, more = _parsed(text, end, format, lines)
        parts.append(part)
        lines += more
    if not any(part.labels.size for part in parts):
        raise DataError(f"{format.path} has no rows; a row is a line such as '+1 1:0.5 3:2'")
    if len(parts) == 1:
        return parts[0]
    sizes = np.concatenate([np.diff(part.indptr) for part in parts])
    return Rows(
        np.concatenate(([0], np.cumsum(sizes))),
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def _parsed(text: bytearray, end: int, format: LibSVM, before: int) -> tuple[Rows, int]:
    """Parse lines, in front of which there were others; returns the rows and the number of lines."""
    from qsim.kernels.decimals import LARGEST
    from qsim.kernels.libsvm import FINE, NO_LABEL, TOO_LARGE, parse

    first, last = _range(format)
    offsets, labels = np.empty(end // 2 + 2, np.int64), np.empty(end // 2 + 1)
    indices, values = np.empty(end // 4 + 1, np.int32), np.empty(end // 4 + 1, np.float32)
    hard = np.empty(2 * (end // 4 + 1), np.int64)
    data = np.frombuffer(text, np.uint8)
    reason, place, lines, rows, left = parse(data, end, first, last, offsets, indices, values, labels, hard)
    if reason != FINE:
        raise DataError(_refusal(reason, text, place, format, before))
    for entry, place in hard[: 2 * left].reshape(-1, 2).tolist():
        value = float(_token(text, place))
        if entry < 0:
            labels[~entry] = value
            if not np.isfinite(value):
                raise DataError(_refusal(NO_LABEL, text, place, format, before))
        elif abs(value) <= LARGEST:
            values[entry] = value
        else:
            raise DataError(_refusal(TOO_LARGE, text, place, format, before))
    entries = int(offsets[rows])
    return Rows(offsets[: rows + 1], indices[:entries], values[:entries], labels[:rows]), lines


def _range(format: LibSVM) -> tuple[int, int]:
    """Return the smallest and the largest index there may be."""
    first = 0 if format.zero_based else 1
    return first, first + (format.features or _MOST_FEATURES) - 1


def _token(text: bytearray, place: int) -> str:
    """Return what there is up to the next blank or comment."""
    found = _TOKEN.match(text, place)
    assert found is not None
    return found.group().decode("ascii", "backslashreplace")


def _refusal(reason: int, text: bytearray, place: int, format: LibSVM, before: int) -> str:
    """Say where something is wrong, what it is, and what to write instead."""
    from qsim.kernels.libsvm import NO_INDEX, NO_LABEL, NO_VALUE, WRONG_INDEX

    begin = text.rfind(b"\n", 0, place) + 1
    token = _token(text, place)
    if reason == NO_LABEL:
        what = _about_label(token)
    elif reason == NO_INDEX:
        what = _about_entry(token)
    elif reason == WRONG_INDEX:
        what = _about_index(token.partition(":")[0], text[begin:place].decode("ascii", "replace"), format)
    elif reason == NO_VALUE:
        what = f"the value {_kind(token)}" if token else "there is no value behind the colon; write 0, or no entry"
    else:
        what = f"the value {_shown(token)} is too large for float32; scale the feature down"
    line, column = before + text.count(b"\n", 0, place) + 1, place - begin + 1
    return f"{format.path}, line {line:,}, column {column:,}: {what}"


def _about_label(token: str) -> str:
    if ":" in token:
        return f"there is no label in front of {_shown(token)}; a line is label index:value index:value ..."
    if "," in token:
        return (
            f"{_shown(token)} is a list, of labels or of a CSV file's columns, and there must be one label; a line is"
            " label index:value index:value ... (for arrays read from another format: qsim.Dataset.from_arrays)"
        )
    return f"the label {_kind(token)}"


def _about_entry(token: str) -> str:
    if token.startswith("qid:"):
        return f"found {_shown(token)}; write qid: and a whole number, once, behind the label"
    index, colon, _ = token.partition(":")
    if not colon:
        return f"found {_shown(token)} instead of index:value; a line is label index:value index:value ..."
    if index.startswith("-") and index[1:].isdecimal():
        return f"the index {_shown(index)} is negative; indices count from 1"
    return f"the index {_shown(index)} is not a whole number"


def _about_index(written: str, before: str, format: LibSVM) -> str:
    first, last = _range(format)
    entries = [_index(entry.partition(":")[0]) for entry in before.split()[1:] if not entry.startswith("qid:")]
    index, shown = _index(written), written if len(written) <= 40 else _shown(written)
    if index <= last and len(written) > 19:
        return f"the index {shown} has {len(written):,} digits; write it without the zeros in front"
    if index < first:
        return "the index is 0, but indices count from 1; if they count from 0 in this file, say zero_based=True"
    if index > last and format.features is not None:
        return f"the index {shown} is above {last}, the last of features={format.features}"
    if index > last:
        return f"the index {shown} is above {last}, the largest there can be; number the features anew, or hash them"
    if index == entries[-1]:
        return f"the index {index} is there twice; keep one of its values"
    return f"the index {index} follows {entries[-1]}; sort the entries of a line by index"


def _index(written: str) -> int:
    """Return a whole number, or one that is too large for an index as well where it has more digits than that takes."""
    return int(written.lstrip("0")[:19] or "0")


def _kind(token: str) -> str:
    """Say of a token that is no number what it is."""
    try:
        float(token.replace("_", "-"))
    except ValueError:
        return f"{_shown(token)} is not a number"
    return f"{_shown(token)} is not finite; leave it out, or put a number"


def _shown(token: str) -> str:
    return repr(token if len(token) <= 40 else f"{token[:37]}...")


def _labels(labels: NDArray[np.float64], format: LibSVM, file: File) -> tuple[NDArray[Any], Kind]:
    """Return the labels as the options want them, and what they are then."""
    if format.targets:
        return labels, "targets"
    if format.classes is not None:
        return _classes(labels, format, file), "classes"
    return _signs(labels, format, file), "signs"


def _classes(labels: NDArray[np.float64], format: LibSVM, file: File) -> NDArray[np.int32]:
    """Return the number of each label's class."""
    assert format.classes is not None
    names = np.array(format.classes, np.float64)
    order = np.argsort(names)
    place = np.searchsorted(names[order], labels).clip(max=names.size - 1)
    numbers: NDArray[np.int32] = order[place].astype(np.int32)
    strange = np.flatnonzero(names[numbers] != labels)
    if strange.size:
        raise DataError(
            f"{format.path} has the label {labels[strange[0]]:g} in line {_line_of(strange[0], file):,}, which is none"
            f" of classes={format.classes!r}; it has {_listed(labels)}"
        )
    return numbers


def _signs(labels: NDArray[np.float64], format: LibSVM, file: File) -> NDArray[np.int8]:
    """Return -1 or +1 for each label."""
    if format.positive is not None:
        positive = labels == format.positive
        if not positive.any() and {*np.unique(labels).tolist(), format.positive} not in _PAIRS:  # a split may lack it
            raise DataError(f"{format.path} has no label {format.positive:g}; it has {_listed(labels)}")
    else:
        low, high = labels.min(), labels.max()
        if low == high == 1:
            raise DataError(
                f"all labels of {format.path} are 1, which is +1 beside -1 or 0, and -1 beside 2: say which is to"
                " be +1, positive=1 or positive=2"
            )
        third = np.flatnonzero((labels != low) & (labels != high))
        if third.size or not any({low, high} <= pair for pair in _PAIRS):
            where = f" ({labels[third[0]]:g} in line {_line_of(third[0], file):,})" if third.size else ""
            raise DataError(
                f"the labels of {format.path} must be -1 and 1, 0 and 1, or 1 and 2, found {_listed(labels)}{where};"
                f" say which is to be +1, all others being -1: positive={high:g}, or {_instead(labels)}"
            )
        positive = labels > (1 if high == 2 else 0)
    signs = np.where(positive, np.int8(1), np.int8(-1))
    signs.flags.writeable = False
    return signs


def label_of_plus_one(source: LibSVM, sign: int) -> int:
    """Return which label of a file is +1, 1 or 2, where the file itself decides it; 0 where the options do.

    sign: what the label of the first row became.
    """
    if source.positive is not None or source.classes is not None or source.targets:
        return 0
    with File.at(fspath(source.path)).open() as stream:
        label = float(next(words[0] for line in stream if (words := line.partition(b"#")[0].split())))
    return 2 if label == 2 or (label == 1 and sign < 0) else 1


def _instead(labels: NDArray[np.float64]) -> str:
    """Say how to read labels that are not two."""
    found = np.unique(labels)
    if found.size > 1000 or (found != np.floor(found)).any():
        return "that they are numbers to be predicted: targets=True"
    first, last = int(found[0]), int(found[-1])
    run = last - first < 1000
    names = f"range({first}, {last + 1})" if run else "[...], the list of them"
    return f"that they are classes: classes={names}, or numbers to be predicted: targets=True"


def _listed(labels: NDArray[np.float64]) -> str:
    found = np.unique(labels)
    return ", ".join(f"{label:g}" for label in found[:5]) + (f" and {found.size - 5} more" if found.size > 5 else "")


def _line_of(row: int, file: File) -> int:
    """Return the number of the line that a row is in."""
    with file.open() as stream:
        for number_, line in enumerate(stream, 1):
            row -= bool(line.partition(b"#")[0].strip())
            if row < 0:
                return number_
    return 0
