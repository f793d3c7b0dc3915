"""The LIBSVM parser against plain Python and scikit-learn: rows, numbers to the last bit, where bad lines are bad."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from decimal import Decimal
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.paths import process_environment
from oracles import libsvm
from qsim.datasets import DataError, LibSVM
from qsim.datasets.libsvm import Rows, read
from qsim.kernels import decimals as decimal_kernels
from qsim.kernels import libsvm as kernels

FIELD = LibSVM("data.svm")


def rows_of(text: bytes, format: LibSVM = FIELD, block: int = 1 << 20) -> list[tuple[float, list[tuple[int, float]]]]:
    rows = read(BytesIO(text), format, block)
    ends = rows.indptr.tolist()
    entries = list(zip(rows.indices.tolist(), rows.values.tolist(), strict=True))
    return [(label, entries[ends[k] : ends[k + 1]]) for k, label in enumerate(rows.labels.tolist())]


def outcome(text: bytes, block: int) -> Any:
    """What the parser says: its rows, or where it stopped."""
    try:
        return rows_of(text, block=block)
    except DataError as error:
        place = re.search(r"line ([\d,]+), column ([\d,]+)", str(error))
        return place.group().replace(",", "") if place else []


def expected(text: bytes) -> Any:
    try:
        return libsvm.parse(text)
    except libsvm.BadError as error:
        return str(error).replace(",", "")


def decimals() -> st.SearchStrategy[str]:
    """Numbers as people and programs write them."""
    digits = st.text("0123456789", min_size=1, max_size=25)
    exponent = st.one_of(st.just(""), st.builds("{}{}".format, st.sampled_from(["e", "E-", "e+"]), st.integers(0, 50)))
    return st.one_of(
        st.floats(-1e30, 1e30).map(repr),
        st.floats(-(2.0**100), 2.0**100, width=32).map(lambda x: f"{x:.9g}"),
        st.integers(-(10**12), 10**12).map(str),
        st.builds("{}{}.{}{}".format, st.sampled_from(["", "-", "+"]), digits, digits, exponent),
        st.sampled_from(["1", "+1", "-1", "0", "-0", "5.", ".5", "1e0", "00", "1e-400", "0e999999999999999999999"]),
    )


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Good files."""
    blank = st.sampled_from([" ", "  ", "\t", " \t "])
    lines = []
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.integers(0, 5)) == 0:
            lines.append(draw(st.sampled_from(["", "  ", "# nothing", "\t# 1:2"])))
            continue
        tokens = [draw(decimals().filter(lambda x: abs(float(x)) < 1e300))]
        if draw(st.booleans()):
            tokens.append(f"qid:{draw(st.integers(0, 10**12))}")
        indices = sorted(draw(st.sets(st.one_of(st.integers(1, 20), st.integers(1, 2**31)), max_size=5)))
        tokens += [f"{index}:{draw(decimals().filter(lambda x: abs(float(x)) < 3e38))}" for index in indices]
        ending = draw(st.sampled_from(["", " ", " # 3:4", "#", "\t"]))
        lines.append("".join(token + draw(blank) for token in tokens).strip() + ending)
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines).encode() + draw(st.sampled_from([b"", b"\n", b"\r\n"]))


@given(text=texts(), block=st.sampled_from([1, 7, 40, 1 << 20]))
def test_good_files_are_read_as_in_plain_python(text: bytes, block: int) -> None:
    assert outcome(text, block) == libsvm.parse(text)


@given(text=texts(), edits=st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=3)), max_size=3))
@example(text=b"1 1:1", edits=[(4, b"\0")])
def test_files_with_a_slip_are_refused_where_plain_python_stops(text: bytes, edits: list[tuple[int, bytes]]) -> None:
    for place, bytes_ in edits:
        place %= len(text) + 1
        text = text[:place] + bytes_ + text[place + 1 :]
    assert outcome(text, 11) == expected(text)


@given(text=st.one_of(st.binary(max_size=60), st.text("01 \n:.-+e#qid", max_size=60).map(str.encode)))
def test_any_bytes(text: bytes) -> None:
    assert outcome(text, 5) == expected(text)


@given(text=st.text("1:0. \ne9", max_size=80).map(str.encode))
def test_nothing_is_written_outside_the_room_that_is_asked_for(text: bytes) -> None:
    """Hostile text, with guards behind every array."""
    text = text.rstrip(b"\n") + b"\n"
    end, guard = len(text), 8
    data = np.full(end + decimal_kernels.PADDING, ord("1"), np.uint8)
    data[:end] = np.frombuffer(text, np.uint8)
    sizes = {np.int64: end // 2 + 2, np.int32: end // 4 + 1, np.float32: end // 4 + 1, np.float64: end // 2 + 1}
    arrays = [np.full(size + guard, 77, dtype) for dtype, size in sizes.items()]
    hard = np.full(2 * (end // 4 + 1) + guard, 77, np.int64)
    kernels.parse(data, end, 1, 2**31, *(array[:-guard] for array in arrays), hard[:-guard])
    for array in (*arrays, hard):
        assert (array[-guard:] == 77).all()


GUARDED = """
import ctypes, mmap, random
import numpy as np
from qsim.kernels.decimals import PADDING
from qsim.kernels.libsvm import parse

page = mmap.PAGESIZE
memory = mmap.mmap(-1, 2 * page)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address + page), page, 0) == 0
outputs = [np.empty(page, dtype) for dtype in (np.int64, np.int32, np.float32, np.float64, np.int64)]
choose = random.Random(3)
for _ in range(20_000):
    text = bytes(choose.choices(b"0123456789 :.-+e#qid\\t\\x00\\xff", k=choose.randrange(60))) + b"\\n"
    if choose.random() < 0.5:
        text = b"1 1:1 " + text
    start = page - PADDING - len(text)
    memory[start:page] = text + bytes(choose.choices(b"1:e.", k=PADDING))
    parse(np.frombuffer(memory, np.uint8)[start:page], len(text), 1, 2**31, *outputs)
print("read within bounds")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="protects a page of memory")
def test_nothing_is_read_behind_the_padding() -> None:
    """The padding ends where memory ends: to read on is a segmentation fault."""
    settings = process_environment()
    done = subprocess.run([sys.executable, "-c", GUARDED], capture_output=True, text=True, env=settings, check=False)
    assert done.stdout == "read within bounds\n", (done.returncode, done.stderr)


def numbers_of(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers as labels (float64) and as values (float32)."""
    rows = read(BytesIO("".join(f"{text} 1:{text}\n" for text in texts).encode()), FIELD)
    return rows.labels, rows.values


def assert_exact(texts: list[str]) -> None:
    labels, values = numbers_of(texts)
    doubles = np.array([float(text) for text in texts])
    wrong = np.flatnonzero(labels.view(np.uint64) != doubles.view(np.uint64))
    assert not wrong.size, f"{texts[wrong[0]]} is read as {labels[wrong[0]]!r}"
    assert (values.view(np.uint32) == doubles.astype(np.float32).view(np.uint32)).all()


@given(st.lists(decimals().filter(lambda text: abs(float(text)) < 3e38), min_size=1, max_size=20))
def test_numbers_are_those_of_float(texts: list[str]) -> None:
    assert_exact(texts)


def test_many_numbers_are_those_of_float() -> None:
    """100,000 of each kind: shortest forms, 15 to 19 digits with any exponent, and those near or on a tie.

    Of the random 19-digit numbers, one in 2,048 needs the second half of the power of five.
    """
    choose = random.Random(1)
    kinds = {
        "shortest": lambda: repr(choose.uniform(0, 1)),
        "digits": lambda: f"{choose.randrange(10**14, 10**19)}e{choose.randrange(-60, 20)}",
        "ties": lambda: str(2 * choose.randrange(2**52, 2**53) + 1),
        "divided ties": lambda: str(Decimal(2 * choose.randrange(2**52, 2**53) + 1) / 2 ** choose.randrange(1, 5)),
        "near ties": lambda: str(1024 * (2 * choose.randrange(2**52, 2**53) + 1) + choose.choice([-1, 1])),
        "carries": lambda: f"{2**53 - choose.randrange(1, 4)}.{choose.choice(['5', '49', '51', '99'])}",
    }
    for make in kinds.values():
        assert_exact([make() for _ in range(100_000)])


@pytest.mark.parametrize(
    "text",
    [
        "0.1234567890123456789012345",  # more digits than fit 64 bits
        "0." + "0" * 30 + "1234567890123456789",
        "0." + "0" * 400 + "1",
        "1" * 30 + "e-20",
        "123456789012345678901234567890e-25",
        "3.4028235677973361e38",  # rounds to the largest float32
        "1e-45",
        "7e-46",  # half of the smallest: to even, zero
        "1e-60",
        "4e-324",
        "1e-9999",
        "1e-00000000000000000000000000005",
        "9007199254740993",
        "-0",
        "-0.0e-5",
    ],
)
def test_rare_numbers(text: str) -> None:
    assert_exact([text])


def test_powers_of_five_are_rounded_as_the_proof_wants() -> None:
    """Lemire's table: 128 bits of 5^q, down for q >= 0 and q < -27, up between."""
    from fractions import Fraction

    for q in range(-64, 39):
        high, low = decimal_kernels._FIVES[2 * (q + 64) : 2 * (q + 64) + 2].tolist()
        found, true = high << 64 | low, Fraction(5) ** q
        scale = Fraction(2) ** (127 - (true.numerator.bit_length() - true.denominator.bit_length()))
        scale *= 2 if true * scale < 2**127 else Fraction(1, 2) if true * scale >= 2**128 else 1
        assert 2**127 <= found < 2**128
        assert found == (-(-true * scale // 1) if -27 <= q < 0 else true * scale // 1)


def complaint(line: str, format: LibSVM = FIELD) -> str:
    with pytest.raises(DataError) as caught:
        read(BytesIO(f"# a comment\n-1 1:1\n\n{line}\r\n+1 2:2\n".encode()), format, block=16)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "column", "told"),
    [
        ("3:1 4:2", 1, r"no label in front of '3:1'; a line is label index:value"),
        ("1,3 4:2", 1, r"'1,3' is a list, of labels or of a CSV file's columns, .* qsim.Dataset.from_arrays"),
        ("  spam 4:2", 3, r"the label 'spam' is not a number"),
        ("nan 4:2", 1, r"the label 'nan' is not finite"),
        ("1 7:1 5:1", 7, r"the index 5 follows 7; sort the entries"),
        ("1 7:1 7:2", 7, r"the index 7 is there twice"),
        ("1 0:1 1:1", 3, r"the index is 0, but indices count from 1.*zero_based=True"),
        ("1 -3:1", 3, r"the index '-3' is negative"),
        ("1 1.5:1", 3, r"the index '1.5' is not a whole number"),
        ("1 +2:1", 3, r"the index '\+2' is not a whole number"),
        ("1 :1", 3, r"the index '' is not a whole number"),
        ("1 2147483649:1", 3, r"2147483649 is above 2147483648, the largest"),
        ("1 99999999999999999999999:1", 3, r"the index 99999999999999999999999 is above"),
        ("1 18446744073709551617:1", 3, r"18446744073709551617 is above"),  # 2^64 + 1
        ("1 5", 3, r"found '5' instead of index:value"),
        ("1 qid:x 5:1", 3, r"found 'qid:x'; write qid: and a whole number"),
        ("1 5:1 qid:3", 7, r"found 'qid:3'; write qid:.* behind the label"),
        ("1 5: 1", 5, r"no value behind the colon"),
        ("1 5:", 5, r"no value behind the colon"),
        ("1 5:nan", 5, r"the value 'nan' is not finite; leave it out"),
        ("1 5:-inf", 5, r"the value '-inf' is not finite"),
        ("1 5:1_0", 5, r"the value '1_0' is not a number"),
        ("1 5:0x1p3", 5, r"the value '0x1p3' is not a number"),
        ("1 5:1e", 5, r"the value '1e' is not a number"),
        ("1 5:.", 5, r"the value '.' is not a number"),
        ("1 5:/ 6:1", 5, r"the value '/' is not a number"),
        ("1 5:- 6:1", 5, r"the value '-' is not a number"),
        ("1 5:: 6:1", 5, r"the value ':' is not a number"),
        ("1 5:1:2", 5, r"the value '1:2' is not a number"),
        ("1 5:1e39", 5, r"the value '1e39' is too large for float32; scale"),
        ("1 5:3.5e38", 5, r"the value '3.5e38' is too large"),
        ("1 5:1e999", 5, r"the value '1e999' is too large"),
        ("1 5:" + "9" * 70, 5, r"the value '9{37}\.\.\.' is too large"),
        ("1\x005:1", 1, r"the label '1\\x005:1' is not|no label in front of"),
        ("1 5:1\xa0", 5, r"the value '1\\\\xc2\\\\xa0' is not a number"),
    ],
)
def test_bad_lines_are_named_by_number_and_column(line: str, column: int, told: str) -> None:
    text = complaint(line)
    assert text.startswith(f"data.svm, line 4, column {column}: "), text
    assert re.search(told, text), text


def test_the_range_of_indices() -> None:
    assert "the index 4 is above 3, the last of features=3" in complaint("1 4:1", LibSVM("data.svm", features=3))
    zero = LibSVM("data.svm", features=3, zero_based=True)
    assert rows_of(b"1 0:5 2:6", zero) == [(1.0, [(0, 5.0), (2, 6.0)])]
    assert "the index 3 is above 2" in complaint("1 3:1", zero)
    assert rows_of(b"1 2147483648:1") == [(1.0, [(2**31 - 1, 1.0)])]
    with pytest.raises(DataError, match="2147483648 is above 2147483647"):
        rows_of(b"1 2147483648:1", LibSVM("data.svm", zero_based=True))


def test_no_rows() -> None:
    for text in (b"", b"\n", b"# 1:1\n \n"):
        with pytest.raises(DataError, match=r"data.svm has no rows"):
            rows_of(text)


def test_lines_are_counted_across_blocks() -> None:
    text = b"1 1:1\n\n# none\n" * 5000 + b"1 1:x"
    with pytest.raises(DataError, match=r"line 15,001, column 5"):
        read(BytesIO(text), FIELD, block=1000)


def test_the_arrays_are_read_only() -> None:
    rows = read(BytesIO(b"1 1:1\n" * 9), FIELD, block=20)
    assert isinstance(rows, Rows)
    for array in (rows.indptr, rows.indices, rows.values, rows.labels):
        assert not array.flags.writeable


def test_equal_to_scikit_learn(tmp_path: Any) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn: pip install '.[test]'")
    choose = random.Random(2)
    lines = []
    for _ in range(2000):
        entries = " ".join(
            f"{index}:{choose.choice(['{!r}', '{:.4g}', '{:.18e}', '{:.0f}']).format(choose.gauss(0, 100))}"
            for index in sorted(choose.sample(range(1, 10**6), choose.randrange(9)))
        )
        lines.append(f"{choose.choice(['+1', '-1', '0.5'])} {entries}{choose.choice(['', ' ', ' # note'])}")
    path = tmp_path / "data.svm"
    path.write_text("\r\n".join(lines))
    matrix, labels = datasets.load_svmlight_file(str(path), dtype=np.float32, zero_based=False)
    with path.open("rb") as stream:
        rows = read(stream, FIELD)
    assert (rows.labels == labels).all()
    assert (rows.indptr == matrix.indptr).all()
    assert (rows.indices == matrix.indices).all()
    assert (rows.values.view(np.uint32) == matrix.data.view(np.uint32)).all()
