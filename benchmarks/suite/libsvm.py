"""Reading LIBSVM text against scikit-learn's `load_svmlight_file`: files as of words, of numbers in full, of clicks.

From a file to arrays in memory, both in float32 and on one thread; nothing is kept on disk. The arrays must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import qsim
from benchmarks.case import Case, Claim, Contestant, Timed
from qsim.datasets import LibSVM, Synthetic
from qsim.datasets.libsvm import Rows, read

TARGET = 5.0
TEXT, CLICKS = Synthetic(40_000, 47_000, 73, values="tfidf"), Synthetic(100_000, 10**6, 39)
FILES: dict[str, tuple[Synthetic, Callable[[float], str]]] = {
    "as text, 6 digits": (TEXT, lambda x: f"{x:.6g}"),
    "as text, 16 digits": (TEXT, lambda x: f"{x * 1.1:.16g}"),
    "as clicks, all 1": (CLICKS, lambda x: "1"),
}
QUICK = {"small": (Synthetic(500, 500, 10, values="tfidf"), lambda x: f"{x:.9g}")}
PLAIN = 1000  # so many lines are enough for the clock in plain Python


def cases(quick: bool) -> Iterator[Case]:
    """Yield each kind of file."""
    for title, (source, form) in (QUICK if quick else FILES).items():
        with TemporaryDirectory() as folder:
            path = Path(folder) / "data.svm"
            path.write_text("".join(_lines(source.load(), form)), encoding="ascii")
            yield _case(title, path)


def _lines(data: qsim.Dataset, form: Callable[[float], str]) -> Iterator[str]:
    values = np.ones(data.nonzeros) if data.values is None else data.values
    for row, label in enumerate(data.labels.tolist()):
        here = slice(data.indptr[row], data.indptr[row + 1])
        entries = zip((data.indices[here] + 1).tolist(), values[here].tolist(), strict=True)
        yield f"{label:+d} {' '.join(f'{index}:{form(value)}' for index, value in entries)}\n"


def _case(title: str, path: Path) -> Case:
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = list(islice(stream, PLAIN))
    contestants: list[Contestant] = [
        Timed("qsim", lambda: _ours(path), size),
        Timed("plain Python", lambda: _plain(head), len(b"".join(head))),
    ]
    claims, absent = [Claim("qsim", "plain Python")], []
    if find_spec("sklearn") is None:
        absent.append("scikit-learn is not installed: python -m pip install '.[peers]'")
    else:
        contestants.append(Timed("scikit-learn", lambda: _sklearn(path), size))
        claims.insert(0, Claim("qsim", "scikit-learn", TARGET))

    def check(results: Mapping[str, Any]) -> None:
        ours, plain = results["qsim"], results["plain Python"]
        for name in ("indices", "values"):
            found, expected = getattr(ours, name), getattr(plain, name)
            assert np.array_equal(found[: expected.size], expected), f"{name} are not those of plain Python"
        if "scikit-learn" in results:
            matrix, labels = results["scikit-learn"]
            theirs = (matrix.indptr, matrix.indices, matrix.data, labels)
            for found, expected in zip((ours.indptr, ours.indices, ours.values, ours.labels), theirs, strict=True):
                assert np.array_equal(found, expected), "the arrays are not scikit-learn's"

    return Case(f"{title}, {size / 1e6:.3g} MB", "byte", contestants, claims, check, absent)


def _ours(path: Path) -> Rows:
    with path.open("rb") as stream:
        return read(stream, LibSVM(path))


def _sklearn(path: Path) -> Any:
    from sklearn.datasets import load_svmlight_file

    return load_svmlight_file(str(path), dtype=np.float32, zero_based=False)


def _plain(lines: list[bytes]) -> Rows:
    labels, starts, indices, values = [], [0], [], []
    for line in lines:
        label, *entries = line.split()
        labels.append(float(label))
        for entry in entries:
            index, _, value = entry.partition(b":")
            indices.append(int(index) - 1)
            values.append(float(value))
        starts.append(len(indices))
    return Rows(np.array(starts), np.array(indices, np.int32), np.array(values, np.float32), np.array(labels))
