"""Feature hashing against plain Python: rows to the last bit, where bad lines are bad; how far the features spread."""

from __future__ import annotations

import gzip
import math
import re
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from oracles import hashed_text as oracle
from qsim.datasets import CLICK_LOG, DataError, HashedText, TextColumns
from qsim.datasets.hashed_text import read
from qsim.kernels import hashed_text as kernels

SMALL = TextColumns("y", ["a", "b"], ["c", "d"], ["c", "a", "y", "unread", "b", "d"])


def rows_of(text: bytes, source: HashedText, block: int = 1 << 18) -> list[oracle.Row]:
    indptr, indices, values, labels = read(BytesIO(text), source, block)
    rows = []
    for row, label in enumerate(labels.tolist()):
        here = slice(indptr[row], indptr[row + 1])
        assert (np.diff(indices[here]) > 0).all()
        rows.append((label, dict(zip(indices[here].tolist(), values[here].tolist(), strict=True))))
    return rows


def outcome(text: bytes, source: HashedText, block: int) -> Any:
    """What the reader says: its rows, or where it stopped."""
    try:
        return rows_of(text, source, block)
    except DataError as error:
        place = re.search(r"line ([\d,]+)", str(error))
        return place.group() if place else []


def expected(text: bytes, source: HashedText) -> Any:
    try:
        return oracle.parse(text, source)
    except oracle.BadError as error:
        return str(error)


NUMBERS = st.one_of(
    st.just(""),
    st.integers(-3, 2000).map(str),
    st.integers(-(10**30), 10**30).map(str),
    st.floats(-1e30, 1e30).map(repr),
    st.sampled_from(["0", "-0", "1023", "1024", "+7", "007", ".5", "1e-400", "12345678901234567890123", "-1"]),
)
CATEGORIES = st.one_of(
    st.text("0123456789abcdef", max_size=20),
    st.text(st.characters(codec="utf-8", exclude_characters='\t,\r\n"'), max_size=9),
)
SOURCES = st.builds(
    HashedText,
    path=st.just("data.tsv"),
    features=st.integers(1, 31).map(lambda bits: 2**bits),
    columns=st.builds(
        TextColumns,
        label=st.just("y"),
        numbers=st.just(["a", "b"]),
        categories=st.just(["c", "d"]),
        names=st.sampled_from([SMALL.names, None]),
        delimiter=st.sampled_from("\t,| "),
        log1p=st.booleans(),
    ),
    pairs=st.lists(st.sampled_from(list(combinations("abcd", 2))), unique=True),
    signed=st.booleans(),
    missing=st.sampled_from(["skip", "feature"]),
    kind=st.sampled_from(["signs", "targets"]),
)


@st.composite
def texts(draw: st.DrawFn, source: HashedText) -> bytes:
    """Good files, but for spaces in categories where the delimiter is one, and products that are too large."""
    end, rows = draw(st.sampled_from(["\n", "\r\n"])), []
    for _ in range(draw(st.integers(1, 6))):
        label = draw(
            st.sampled_from(["0", "1", "-1", "+1", "1.0", "1" + 30 * "0" if source.kind == "targets" else "0"])
        )
        kinds = {"a": NUMBERS, "b": NUMBERS, "y": st.just(label), "unread": CATEGORIES}
        rows.append([draw(kinds.get(name, CATEGORIES)) for name in SMALL.names])
    header = [list(SMALL.names)] * (source.columns.names is None)
    lines = end.join(source.columns.delimiter.join(row) for row in header + rows)
    return lines.encode() + draw(st.sampled_from([b"", end.encode()]))


@given(data=st.data(), source=SOURCES, block=st.sampled_from([1, 30, 1 << 18]))
def test_texts_are_read_as_in_plain_python(data: st.DataObject, source: HashedText, block: int) -> None:
    text = data.draw(texts(source))
    assert outcome(text, source, block) == expected(text, source)


@given(
    data=st.data(), source=SOURCES, edits=st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=3)), max_size=3)
)
def test_slips_are_refused_where_plain_python_stops(
    data: st.DataObject, source: HashedText, edits: list[tuple[int, bytes]]
) -> None:
    text = data.draw(texts(source))
    start = text.find(b"\n") + 1 if source.columns.names is None else 0
    for place, bytes_ in edits:
        place = start + place % (len(text) - start + 1)
        text = text[:place] + bytes_ + text[place + 1 :]
    assert outcome(text, source, 11) == expected(text, source)


@pytest.mark.parametrize("features", [2, 2**6, 2**20])
@pytest.mark.parametrize("pairs", [0, 25, 26, 325])
def test_rows_of_any_length_are_sorted(features: int, pairs: int) -> None:
    """Around the 64 entries up to which ranks are counted, with and without features that meet."""
    chosen = list(combinations(CLICK_LOG.categories, 2))[:pairs]
    source = HashedText("x", features, pairs=chosen)
    lines = []
    for row in range(500):
        counts, words = (k * row % 1500 for k in range(13)), (row * k for k in range(26))
        cells = [*map(str, counts), *(f"{word:x}" for word in words)]
        lines.append("\t".join(["1", *("" if (row + k) % 5 == 0 or k == 38 else cell for k, cell in enumerate(cells))]))
    text = "\n".join(lines).encode()
    assert rows_of(text, source) == oracle.parse(text, source)


def test_the_kernel_stays_inside_the_room_that_is_asked_for() -> None:
    """Guards behind every array, and lines as dense as can be."""
    text, guard = b"1,2,3\n1,,\n,,\n,,x", 8
    end = len(text)
    data = np.frombuffer(text + bytes(kernels.PADDING), np.uint8)
    places = np.full(end + guard, 77, np.uint32)
    count = kernels.find_separators(data, end, np.uint8(ord(",")), places[:-guard])
    assert places[:count].tolist() == [k for k, byte in enumerate(text) if byte in b",\n"]
    assert (places[count:] == 77).all()


def test_features_spread_evenly_and_signs_are_fair() -> None:
    """Chi-squared of 64 cells (63 degrees of freedom) is below 156 but for 1e-9; a hash of too few bits fails it."""
    source = HashedText("x", 2**30, TextColumns("y", [], ["c"], ["y", "c"]))
    count = 1 << 16
    for form in ("%d", "%08x", "a long name, of which the tail says it: %d"):
        text = "".join(f"1\t{form % k}\n" for k in range(count)).encode()
        _, indices, values, _ = read(BytesIO(text), source)
        assert np.unique(indices).size > count - 40  # 2 meet on average
        assert abs(float(values.sum())) < 6.2 * math.sqrt(count)
        for shift in (0, 6, 12, 18, 24):
            cells = np.bincount(indices >> shift & 63, minlength=64)
            assert ((cells - count / 64) ** 2).sum() / (count / 64) < 156, (form, shift)


def test_a_click_log_loads_and_prints_as_what_loads_it(tmp_path: Path) -> None:
    path = tmp_path / "day.tsv.gz"
    line = b"\t".join([b"1", b"5", *[b""] * 12, *(b"%08x" % k for k in range(26))])
    path.write_bytes(gzip.compress(line + b"\n" + line.replace(b"1", b"0", 1) + b"\n"))
    data = HashedText(path).load()
    assert data.shape == (2, 2**20)
    assert data.nonzeros == 54
    assert data.labels.tolist() == [1, -1]
    assert data.name == "day"
    assert eval(repr(data.source)) == data.source
    number = oracle.hashed("I1", b"")
    sign = -1 if number >> 63 else 1
    assert data.to_scipy()[0, number % 2**20] == pytest.approx(sign * math.log(6))


def good(fields: dict[int, str] | None = None) -> str:
    cells = ["1", *"0" * 13, *["ab"] * 26]
    for place, text in (fields or {}).items():
        cells[place] = text
    return "\t".join(cells)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (good()[:-3], r"line 2: 39 fields instead of 40 with '\\t' between them, from 'label' to 'C26'"),
        (good() + "\t", "line 2: 41 fields instead of 40"),
        ("", "line 2: the line is empty"),
        (good({3: "12x"}), "line 2: the number 'I3' is '12x', which is not a number; a missing one is an empty field"),
        (good({3: "-"}), "line 2: the number 'I3' is '-'"),
        (good({13: "nan"}), "line 2: the number 'I13' is 'nan'"),
        (good({1: "9" * 400}), "line 2: 'I1' is '9999999999999999999999999999999999999...', too large for float32"),
        (good({0: ""}), "line 2: the label 'label' is missing; leave the line out"),
        (good({0: "yes"}), "line 2: the label 'label' is 'yes', which is not a number"),
        (good({0: "3"}), 'line 2: the label .* found 3; for numbers to be predicted say kind="targets"'),
        (good({39: "\udcff"}), "line 2: the byte 0xff is no UTF-8"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "clicks.tsv"
    path.write_bytes(f"{good()}\n{line}\n{good()}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=rf"clicks\.tsv, {message}"):
        HashedText(path).load()


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "clicks.tsv"
    with pytest.raises(DataError, match="there is no file"):
        HashedText(path).load()
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"clicks\.tsv has no rows"):
        HashedText(path).load()
    path.write_bytes(gzip.compress(good().encode() * 999)[:-9])
    with pytest.raises(DataError, match=r"clicks\.tsv is torn or damaged"):
        HashedText(path).load()
    people = TextColumns("bought", ["age"], delimiter=",")
    path.write_text("age,bougth\n3,1\n")
    with pytest.raises(DataError, match=r"line 1: .*'bought' once, and has it not; did you mean 'bougth'\?"):
        HashedText(path, columns=people).load()
    path.write_text('age,bought\n"3",1\n')
    with pytest.raises(DataError, match="line 2: quotes are not read"):
        HashedText(path, columns=people).load()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HashedText("x", 1000), "features must be a power of two"),
        (lambda: HashedText("x", 2**32), "features must be a whole number"),
        (lambda: HashedText("x", pairs=[("I1", "C99")]), "did you mean 'C9'"),
        (lambda: HashedText("x", pairs=[("I1", "I1")]), "two different columns"),
        (lambda: HashedText("x", missing="drop"), "missing must be one of"),
        (lambda: HashedText("x", columns="clicks"), "columns must be TextColumns"),
        (lambda: TextColumns("y"), "a column of numbers or of categories"),
        (lambda: TextColumns("y", ["a"], ["a"]), "different columns, found 'a' twice"),
        (lambda: TextColumns("y", ["a"], names=["y", "b"]), "found no 'a'"),
        (lambda: TextColumns("y", "abc"), "names of columns, found 'abc'"),
        (lambda: TextColumns("y", ["a"], delimiter="::"), "one character of ASCII"),
    ],
)
def test_options_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_other_options_are_other_data(tmp_path: Path) -> None:
    """What is kept of a file is found by all of them."""
    path = tmp_path / "x.tsv"
    path.write_text("\n".join([good({1: "7"}), good({2: "", 1: "3"})]))
    plain = TextColumns(CLICK_LOG.label, CLICK_LOG.numbers, CLICK_LOG.categories, CLICK_LOG.names)
    sources = [
        HashedText(path),
        HashedText(path, 2**18),
        HashedText(path, columns=plain),
        HashedText(path, pairs=[("I1", "C1")]),
        HashedText(path, signed=False),
        HashedText(path, missing="feature"),
        HashedText(path, kind="targets"),
    ]
    digests = [source.load().digest for source in sources]
    assert len(set(digests)) == len(digests)
    assert qsim.datasets.HashedText(path).load().digest == digests[0]
