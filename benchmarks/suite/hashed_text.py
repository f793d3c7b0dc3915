"""Feature hashing of a click log against scikit-learn's `FeatureHasher` and Vowpal Wabbit's parser, on one thread.

From a file to hashed rows in memory, with 2^20 features. scikit-learn is timed twice: with the lines split in Python,
as it needs them, and with all cells ready as pairs of a name and a number, which leaves out the reading. Vowpal Wabbit
reads the same rows in a file of its own format, and learns nothing (`--noop`); it uses two threads, so that its time is
the wall's, with that of starting it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from itertools import islice
from math import log1p
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.case import Case, Claim, Contestant, Timed
from qsim.datasets import CLICK_LOG, HashedText, save_clicks
from qsim.datasets.hashed_text import read, word_of

ROWS, QUICK_ROWS = 100_000, 300
LEAST = 5.0
SLOW = 2000  # so many lines are enough for the clock where Python touches every cell
BITS = 20
NUMBERS, CATEGORIES = CLICK_LOG.numbers, CLICK_LOG.categories
Arrays = tuple[np.ndarray[Any, Any], ...]


def cases(quick: bool) -> Iterator[Case]:
    """Yield a click log, in a file."""
    rows = QUICK_ROWS if quick else ROWS
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.tsv"
        save_clicks(path, rows)
        yield _case(path, rows)


def _case(path: Path, rows: int) -> Case:
    source = HashedText(path, 2**BITS)
    head = _head(path)
    contestants: list[Contestant] = [
        Timed("qsim", lambda: _ours(source), rows),
        Timed("plain Python", lambda: [_plain(line) for line in head], len(head)),
    ]
    claims, absent = [Claim("qsim", "plain Python")], []
    if find_spec("sklearn") is None:
        absent.append("scikit-learn is not installed: python -m pip install '.[peers]'")
    else:
        ready = [list(_cells(line)) for line in head]
        contestants.append(Timed("FeatureHasher from lines", _hasher(lambda: map(_cells, head)), len(head)))
        contestants.append(Timed("FeatureHasher from pairs", _hasher(lambda: iter(ready)), len(head)))
        claims += [Claim("qsim", "FeatureHasher from lines", LEAST), Claim("qsim", "FeatureHasher from pairs")]
    if find_spec("vowpalwabbit") is None:
        absent.append("Vowpal Wabbit is not installed: python -m pip install '.[peers]'")
    else:
        theirs = path.with_suffix(".vw")
        with path.open(encoding="ascii") as lines, theirs.open("w", encoding="ascii") as file:
            file.writelines(_vw_line(line) for line in lines)
        contestants.append(Timed("Vowpal Wabbit", lambda: _vowpal_wabbit(theirs), rows, many=True))
        claims.append(Claim("qsim", "Vowpal Wabbit", 1.0))

    def check(results: Mapping[str, Any]) -> None:
        indptr, indices, values, labels = results["qsim"]
        for row, (label, expected) in enumerate(results["plain Python"]):
            here = slice(indptr[row], indptr[row + 1])
            found = dict(zip(indices[here].tolist(), values[here].tolist(), strict=True))
            assert (labels[row], found) == (label, expected), f"row {row} is not that of plain Python"
        for name in ("FeatureHasher from lines", "FeatureHasher from pairs"):
            if name in results:  # its hash is another, so that other cells meet
                most = indptr[len(head)]
                assert 0.99 * most < results[name].nnz < 1.01 * most, f"{name} found other cells"

    return Case(f"click log, {path.stat().st_size / 1e6:.3g} MB", "row", contestants, claims, check, absent)


def _head(path: Path) -> list[str]:
    with path.open(encoding="ascii") as lines:
        return list(islice(lines, SLOW))


def _ours(source: HashedText) -> Arrays:
    with Path(source.path).open("rb") as stream:
        return read(stream, source)


def _cells(line: str) -> Iterator[tuple[str, float]]:
    """Yield what there is in a line: a name, and a number that is not zero."""
    cells = line.rstrip("\n").split("\t")
    for name, cell in zip(NUMBERS, cells[1:14], strict=True):
        if cell and cell != "0":
            yield name, log1p(int(cell))
    for name, cell in zip(CATEGORIES, cells[14:], strict=True):
        if cell:
            yield f"{name}={cell}", 1.0


def _hasher(rows: Callable[[], Iterator[Any]]) -> Callable[[], Any]:
    from sklearn.feature_extraction import FeatureHasher

    hasher = FeatureHasher(2**BITS, input_type="pair", dtype=np.float32)
    return lambda: hasher.transform(rows())


def _vw_line(line: str) -> str:
    cells = line.rstrip("\n").split("\t")
    numbers = (f" {k}:{cell}" for k, cell in enumerate(cells[1:14]) if cell and cell != "0")
    categories = (f" {k}={cell}" for k, cell in enumerate(cells[14:]) if cell)
    return f"{2 * int(cells[0]) - 1} |i{''.join(numbers)} |c{''.join(categories)}\n"


def _vowpal_wabbit(path: Path) -> None:
    from vowpalwabbit import Workspace

    Workspace(f"--data {path} --noop --quiet --bit_precision {BITS}").finish()


_WORDS = {name: word_of(name) for name in (*NUMBERS, *CATEGORIES)}
_ODD, _WORD = 0x9E3779B97F4A7C15, 2**64 - 1


def _mixed(word: int) -> int:
    word = (word ^ word >> 32) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 29) * _ODD & _WORD
    return word ^ word >> 32


def _plain(line: str) -> tuple[float, dict[int, float]]:
    """Hash a line whose categories have eight characters, as those that are drawn."""
    label, *cells = line.rstrip("\n").split("\t")
    row: dict[int, float] = {}
    for name, cell in zip((*NUMBERS, *CATEGORIES), cells, strict=True):
        if not cell or cell == "0":
            continue
        word, x = _WORDS[name], np.float32(1.0)
        if name in NUMBERS:
            x, word = np.float32(log1p(int(cell))), _mixed(word)
        else:
            word = _mixed(word ^ (len(cell) * _ODD & _WORD) ^ int.from_bytes(cell.encode(), "little"))
        place = word % 2**BITS
        x = -x if word >> 63 else x
        row[place] = float(np.float32(row[place]) + x) if place in row else float(x)
    return float(label), row
