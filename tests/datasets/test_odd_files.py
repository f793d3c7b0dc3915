"""Files as users have them: damaged in a later part, of other formats, with odd names; and odd paths of code."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.datasets import DataError, libsvm, load, npz
from qsim.kernels._jit import cache_folder
from qsim.object_loader import NotFoundError, evaluate
from qsim.study import cli

PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
HALVES = b"+1 1:0.5\n-1 2:1\n", b"+1 2:2\n-1 1:3\n"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty cache; kernels stay in the usual one."""
    cache_folder()
    monkeypatch.setenv("QSIM_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    yield
    libsvm.load_as.cache_clear()
    npz._load.cache_clear()


def refusal(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        load(path)
    return str(caught.value)


@pytest.mark.parametrize("kind", PACKERS)
def test_streams_behind_one_another_are_one_file(tmp_path: Path, kind: str) -> None:
    """In small pieces too; with zeros behind, as tapes and some tools leave them."""
    first, second = map(PACKERS[kind], HALVES)
    for number, whole in enumerate((first + second, first + bytes(8) + second + bytes(8), PACKERS[kind](b"") + first)):
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(whole)
        assert load(path).rows == (2 if number == 2 else 4)
    rng = np.random.default_rng(1)
    lines = [b"%d 1:%r\n" % (k % 2, x) for k, x in enumerate(rng.random(9000).tolist())]
    path.write_bytes(b"".join(PACKERS[kind](b"".join(lines[k : k + 700])) for k in range(0, 9000, 700)))
    assert load(path).rows == 9000


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda second: b"X" + second[1:],
        lambda second: second[:1],
        lambda second: second[:2] + bytes([second[2] ^ 1]) + second[3:],
        lambda second: second[: len(second) // 2],
        lambda second: second[:-1],
        lambda second: second + b"spam",
    ],
    ids=["first byte", "cut behind it", "head", "cut in the middle", "cut at the end", "more behind it"],
)
def test_a_damaged_second_stream_is_refused(tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]) -> None:
    """Python's readers of bzip2 and xz end there without a word: half the rows were lost."""
    first, second = map(PACKERS[kind], HALVES)
    path = tmp_path / f"data.{kind}"
    path.write_bytes(first + damage(second))
    assert "is torn or damaged: " in refusal(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            b"1 %b:2\n" % (b"7" * 5000),
            r"column 3: the index '7777777777777777777777777777777777777...' is above 2147483648",
        ),
        (b"1 %b1:2 1:3\n" % (b"0" * 5000), "has 5,001 digits; write it without the zeros in front"),
        (b"%b 1:2\n" % (b"7" * 5000), "is not finite"),
        (b"1 1:%b\n" % (b"7" * 5000), "is too large for float32"),
        (b"age,income\n39,1\n", "a CSV file's columns"),
        (b"1\t0.5\t2\n", "found '0.5' instead of index:value; a line is label index:value"),
        (b"\xef\xbb\xbf1 1:2\n", "is not a number"),
        (b"1 1:2\n\0\0\0\0", "line 2, column 1: the label"),
        (b"", "has no rows"),
        (b"\n# nothing\n", "has no rows"),
        ("1 1:2\n".encode("utf-16"), "is not a number"),
    ],
    ids=["index", "zeros", "label", "value", "CSV", "tabs", "mark", "NUL", "empty", "comment", "UTF-16"],
)
def test_other_text_is_refused(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "own.data").write_bytes(text)
    assert words in refusal(tmp_path / "own.data")


def test_a_name_that_is_no_utf8_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.svm")
    path.write_bytes(b"".join(HALVES))
    data = load(path)
    assert data.name == r"caf\xe9"
    assert eval(repr(data.source), {"qsim": qsim}).load() is data
    out = tmp_path / os.fsdecode(b"\xe9")
    command = ["mean_estimation", "--data", str(path), "--seeds", "2", "--rounds", "2", "--workers", "2"]
    assert cli.main([*command, "--jobs", "1", "--out", str(out)]) == 0
    assert r"caf\udce9" in (out / "mean_estimation.md").read_text("utf-8")
    path.write_bytes(b"")
    assert cli.main([*command, "--out", str(out)]) == 2
    assert "has no rows" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-this-name/x", "a\0b", "", ".", "\udcff", "~"], ids=repr)
def test_odd_names_are_errors_that_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    said = refusal(name)
    assert any(words in said for words in ("no such file", "there is no file", "can't be read: File name too long"))


def test_what_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.svm"
    path.write_bytes(HALVES[0])
    real = Path.open

    def refused(self: Path, *arguments: object, **options: object) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    assert refusal(path) == f"{str(path)!r} can't be read: Permission denied"


def test_paths_of_code_may_have_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a:b" / "mine.py").write_text("def of(text): return text\n")
    assert evaluate(f"{tmp_path}/a:b/mine.py:of('x.py:y')") == "x.py:y"
    monkeypatch.chdir(tmp_path)
    assert evaluate("a:b/mine.py:of(3)") == 3
    assert evaluate("qsim.compressors:QSGD(levels=int('3'))") == qsim.QSGD(3)
    with pytest.raises(NotFoundError, match=r"there is no file 'C:\\\\mine\\\\own.py'"):
        evaluate(r"C:\mine\own.py:Own()")


@pytest.mark.parametrize(
    "text", ["", ":", "x", ".:x", "..:x", "a..b:x", "a\0b:x", "-:x", "os:nothing", "os:1/0", "os:("]
)
def test_code_that_is_not_there_is_said(text: str) -> None:
    with pytest.raises(NotFoundError):
        evaluate(text)


def test_a_file_of_code_that_fails_is_said(tmp_path: Path) -> None:
    for text, words in (
        ("1/0", "ZeroDivisionError"),
        ("x = (", "SyntaxError"),
        ("import nothing_of_this_name", "nothing_of"),
    ):
        (tmp_path / "own.py").write_text(text)
        with pytest.raises(NotFoundError, match=rf"own.py can't be run: .*{words}"):
            evaluate(f"{tmp_path}/own.py:x")
