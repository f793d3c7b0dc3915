"""Data in files: compressed, kept for other processes, torn, changed; LIBSVM's labels; .npz; `load` by name or path."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import qsim
from helpers.paths import DOCS, process_environment
from qsim.datasets import DataError, Dataset, LibSVM, Npz, download, files, libsvm, load, load_libsvm, npz, save_npz
from qsim.kernels._jit import cache_folder
from qsim.study import cli

TEXT = b"+1 1:0.5 3:2\n-1 2:1e-3\n-1\n"
ROWS = [[0.5, 0, 2], [0, np.float32(1e-3), 0], [0, 0, 0]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache (of the disk and of this process); kernels stay in the usual one."""
    cache_folder()
    folder = tmp_path / "cache"
    monkeypatch.setenv("QSIM_CACHE_DIR", str(folder))
    forget()
    yield folder
    forget()


def forget() -> None:
    """Start as a new process does."""
    libsvm.load_as.cache_clear()
    npz._load.cache_clear()


def written(path: Path, text: bytes = TEXT) -> Path:
    path.write_bytes(text)
    return path


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are parsed, in order."""
    seen: list[str] = []
    read = libsvm.read

    def counted(stream: Any, format: LibSVM, **options: Any) -> Any:
        seen.append(Path(format.path).name)
        return read(stream, format, **options)

    monkeypatch.setattr(libsvm, "read", counted)
    return seen


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain.svm": bytes,
    "data.svm.gz": gzip.compress,
    "data.bz2": bz2.compress,
    "data.txt.xz": lzma.compress,
    "two parts.gz": lambda text: gzip.compress(text[:9]) + gzip.compress(text[9:]),
}


@pytest.mark.parametrize("name", PACKERS)
def test_compressed_or_not(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, PACKERS[name](TEXT))
    data = LibSVM(path).load()
    assert data.to_scipy().toarray().tolist() == ROWS
    assert data.labels.tolist() == [1, -1, -1]
    assert data.name == name.split(".")[0]
    assert data.source == LibSVM(str(path))
    assert eval(repr(data.source), {"qsim": qsim}).load() is data
    assert load_libsvm(path) is data
    assert load(str(path)) is data
    named_wrongly = written(tmp_path / "other", path.read_bytes())
    assert load(str(named_wrongly)) == data


@pytest.mark.parametrize("name", ["data.svm.gz", "data.bz2", "data.txt.xz"])
@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:40] + b"spam" + b[44:]], ids=["cut", "changed"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    text = b"".join(b"%d 1:%d\n" % (k % 2, k) for k in range(2000))
    path = written(tmp_path / name, damage(PACKERS[name](text)))
    with pytest.raises(DataError, match=r"data.*is torn or damaged: .*; get the file again"):
        LibSVM(path).load()


def test_arrays_are_mapped_and_the_file_is_parsed_once(tmp_path: Path, cache: Path, parses: list[str]) -> None:
    path = written(tmp_path / "data.svm")
    first = LibSVM(path).load()
    forget()
    second = LibSVM(path).load()
    assert parses == ["data.svm"]
    assert first is not second
    assert first == second
    for array in (second.indptr, second.indices, second.values, second.labels):
        assert array is not None
        base = array
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)
        assert Path(base.filename).is_relative_to(cache)
        assert not array.flags.writeable
    moved = path.rename(tmp_path / "moved.svm")
    assert LibSVM(moved).load().name == "moved"
    LibSVM(moved, features=3).load()
    assert parses == ["data.svm", "moved.svm"], "the same content in another place is mapped, another format is parsed"


def test_a_changed_file_is_parsed_again(tmp_path: Path, parses: list[str]) -> None:
    path = written(tmp_path / "data.svm")
    before = LibSVM(path).load()
    assert LibSVM(path).load() is before
    stamp = path.stat()
    written(path, TEXT.replace(b"0.5", b"0.7"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    after = LibSVM(path).load()
    assert after.to_scipy()[0, 0] == np.float32(0.7)
    assert before.to_scipy()[0, 0] == 0.5
    assert len(parses) == 2


@pytest.mark.parametrize("rested", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("suffix", ["svm", "npz"])
def test_the_same_size_and_time_do_not_hide_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rested: bool, replaced: bool, suffix: str
) -> None:
    """Written in place or replaced, with the size and the time of before; at once, or after the clock has ticked."""
    monkeypatch.setattr(files, "_TICK", 0 if rested else 10**15)
    path, other = tmp_path / f"data.{suffix}", tmp_path / f"other.{suffix}"
    for place, value in ((path, 0.5), (other, 0.75)):
        data = Dataset.from_arrays(np.diag([value, 1.0]), [0, 1])
        written(place, b"0 1:%.2f\n1 2:1\n" % value) if suffix == "svm" else qsim.datasets.save_npz(place, data)
    source = LibSVM(path) if suffix == "svm" else qsim.datasets.Npz(path)
    before = source.load()
    assert source.load() is before
    assert before.values is not None
    assert before.values[0] == 0.5
    stamp = path.stat()
    assert other.stat().st_size == stamp.st_size
    other.replace(path) if replaced else path.write_bytes(other.read_bytes())
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    after = source.load()
    assert after.values is not None
    assert after.values[0] == 0.75


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "data.svm")
    read = libsvm.read

    def late(*arguments: Any) -> Any:
        rows = read(*arguments)
        written(path, TEXT + b"1 1:1\n")
        return rows

    monkeypatch.setattr(libsvm, "read", late)
    with pytest.raises(DataError, match="was written to while it was read"):
        LibSVM(path).load()
    monkeypatch.undo()


@pytest.mark.parametrize("part", ["about.json", "indptr.npy", "indices.npy", "values.npy", "labels.npy"])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "empty"])
def test_a_torn_entry_is_made_again(tmp_path: Path, cache: Path, parses: list[str], part: str, damage: str) -> None:
    path = written(tmp_path / "data.svm")
    good = LibSVM(path).load().digest
    (entry,) = (found for found in (cache / "datasets").iterdir() if found.is_dir())
    torn = entry / part
    content = torn.read_bytes()
    if damage == "missing":
        torn.unlink()
    else:
        last = bytes([content[-1] ^ 1])
        torn.write_bytes({"cut": content[:-3], "changed": content[:-1] + last, "empty": b""}[damage])
    forget()
    with pytest.warns(UserWarning, match=r"what was kept of data in .* is torn; .*data.svm is read again"):
        assert LibSVM(path).load().digest == good
    assert len(parses) == 2
    forget()
    assert LibSVM(path).load().digest == good
    assert len(parses) == 2
    assert [found.name for found in (cache / "datasets").iterdir() if found.is_dir()] == [entry.name]


def test_data_of_ones_and_without_entries_are_kept(tmp_path: Path, parses: list[str]) -> None:
    ones, none = written(tmp_path / "ones", b"1 1:1 2:1\n0 2:1"), written(tmp_path / "none", b"1\n-1\n")
    for _ in range(2):
        assert LibSVM(ones).load().values is None
        assert LibSVM(none, features=4).load().to_scipy().shape == (2, 4)
        forget()
    assert parses == ["ones", "none"]
    with pytest.raises(DataError, match=r"none has no entries.*features=\.\.\."):
        LibSVM(none).load()


def test_what_cannot_be_kept_is_used_all_the_same(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "data.svm")
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="data is not kept, and will be read again: .* cannot be written"):
        assert LibSVM(path).load().to_scipy().toarray().tolist() == ROWS
    cache.unlink()
    forget()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.np, "save", full)
    with pytest.warns(UserWarning, match="data is not kept, and will be read again: .*No space left"):
        data = LibSVM(path).load()
    assert (data.rows, data.source) == (3, LibSVM(str(path)))
    assert not [found for found in (cache / "datasets").iterdir() if found.is_dir()], "nothing half-written stays"


def test_processes_that_load_at_once_parse_once(tmp_path: Path, cache: Path) -> None:
    """Three processes, each slow to parse: the second and the third wait and map."""
    cache.mkdir()
    (cache / "kernels").symlink_to(cache_folder().parent)  # compiled already
    path = written(tmp_path / "data.svm")
    code = (
        "import sys, time; from qsim.datasets import libsvm; read = libsvm.read\n"
        "def slow(*arguments): print('parsed', flush=True); time.sleep(0.5); return read(*arguments)\n"
        f"libsvm.read = slow; print(libsvm.LibSVM({str(path)!r}).load().digest)"
    )
    settings = process_environment()
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=settings) for _ in range(3)]
    said = [process.communicate(timeout=120)[0].decode().split() for process in started]
    assert sorted(map(len, said)) == [1, 1, 2]
    assert len({lines[-1] for lines in said}) == 1


@pytest.mark.parametrize(
    ("labels", "signs"),
    [
        ("-1 +1", [-1, 1]),
        ("0 1", [-1, 1]),
        ("2 1", [1, -1]),
        ("1.0 -1.0", [1, -1]),
        ("0 0", [-1, -1]),
        ("-1 -1", [-1, -1]),
        ("0 -0", [-1, -1]),
        ("2 2", [1, 1]),
    ],
)
def test_labels_of_the_field(tmp_path: Path, labels: str, signs: list[int]) -> None:
    path = written(tmp_path / "data", "".join(f"{label} 1:1\n" for label in labels.split()).encode())
    assert LibSVM(path).load().labels.tolist() == signs


def test_a_file_of_one_label(tmp_path: Path) -> None:
    """A part of a file with labels 1 and 2 in which all are 1 is negative, one of -1 and 1 positive."""
    ones, zeros, fives = (written(tmp_path / name, f"{name} 1:1\n".encode() * 2) for name in "105")
    with pytest.raises(DataError, match=r"all labels of .* are 1, which .* positive=1 or positive=2"):
        LibSVM(ones).load()
    for path, positive, sign in ((ones, 1, 1), (ones, 2, -1), (zeros, 1, -1), (zeros, 0, 1), (fives, 5, 1)):
        assert LibSVM(path, positive=positive).load().labels.tolist() == [sign] * 2
    for path, positive in ((ones, 3), (zeros, 2), (fives, 1)):
        with pytest.raises(DataError, match=f"has no label {positive}"):
            LibSVM(path, positive=positive).load()


def test_other_labels_are_refused_until_one_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "data", b"# classes\n3 1:1\n\n5 1:2\r\n4 1:3\n3 1:4\n")
    with pytest.raises(DataError, match=r"found 3, 4, 5 \(4 in line 5\); .*positive=5"):
        LibSVM(path).load()
    assert LibSVM(path, positive=3).load().labels.tolist() == [1, -1, -1, 1]
    with pytest.raises(DataError, match=r"has no label 7; it has 3, 4, 5"):
        LibSVM(path, positive=7).load()
    two = written(tmp_path / "two", b"3 1:1\n7 1:1\n")
    with pytest.raises(DataError, match=r"must be -1 and 1, 0 and 1, or 1 and 2, found 3, 7; .*positive=7"):
        LibSVM(two).load()


def test_options_that_make_no_sense() -> None:
    for options, error, told in (
        ({"features": 0}, ValueError, "features"),
        ({"features": 2**31 + 1}, ValueError, "features"),
        ({"zero_based": "auto"}, ValueError, "zero_based must be True or False"),
        ({"positive": np.nan}, ValueError, "positive"),
    ):
        with pytest.raises(error, match=told):
            LibSVM("data", **options)  # type: ignore[arg-type]


def test_a_bad_line_names_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "data.bz2", bz2.compress(b"1 1:1\n1 1:x\n"))
    with pytest.raises(DataError, match=r"data\.bz2, line 2, column 5: the value 'x' is not a number"):
        LibSVM(path).load()


def test_a_run_prints_as_code_and_counts_the_content(tmp_path: Path) -> None:
    path = written(tmp_path / "data.svm", TEXT * 4)
    run = qsim.Run(
        load(str(path)),
        objective=qsim.LogisticRegression(l2=0.1),
        method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
        workers=2,
        rounds=2,
        test=LibSVM(path, features=3),
    )
    again = eval(repr(run), {"qsim": qsim})
    assert again == run
    first = qsim.simulate(again)
    assert first.provenance["data"]["digest"] == LibSVM(path).load().digest
    written(path, TEXT * 3)
    assert qsim.simulate(again).provenance["data"]["digest"] != first.provenance["data"]["digest"]


PAGE = DOCS / "data.md"
needs_checkout = pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")


@needs_checkout
def test_the_program_of_the_docs_runs_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program, *others = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    for code in (*others, program):
        exec(compile(code, str(PAGE), "exec"), {"__name__": "docs"})
        assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", code)
    text = "1 1:1\n\n1 7:1 5:1\n"
    (tmp_path / "mine.svm").write_text(text)
    with pytest.raises(DataError) as caught:
        load("mine.svm")
    assert f"error: {caught.value}" in PAGE.read_text(encoding="utf-8")


@needs_checkout
def test_the_docs_list_all_downloads() -> None:
    rows = re.findall(r"^\| `(.*?)`.*? \| ([\d,]+) \| (.*?) \| (.*?) \|$", PAGE.read_text(encoding="utf-8"), flags=re.M)
    for (name, features, splits, checksum), (known, entry) in zip(rows, download.REGISTRY.items(), strict=True):
        remotes = [entry.train, *([entry.test] if entry.test else [])]
        assert (name, int(features.replace(",", ""))) == (known, entry.features)
        assert splits == "train, test"[: 5 if entry.test is None else None]
        published = {remote.checksum is not None for remote in remotes}
        assert checksum == (
            "published; test: trusted at first use"
            if len(published) == 2
            else "published"
            if True in published
            else "trusted at first use"
        )


# .npz


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_npz_of_scipy_with_labels(tmp_path: Path, format: str, kind: str) -> None:
    dense = np.array([[0.5, 0, 2], [0, 1e-3, 0], [0, 0, 0]])
    path = tmp_path / "data.npz"
    sp.save_npz(path, getattr(sp, f"coo_{kind}")(dense).asformat(format))
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, labels=[1, 0, 0], **arrays)
    data = load(str(path))
    assert data.to_scipy().toarray().tolist() == ROWS
    assert data.labels.tolist() == [1, -1, -1]
    assert (data.name, data.source) == ("data", Npz(str(path)))
    assert eval(repr(data.source), {"qsim": qsim}).load() is data


def test_npz_round_trip_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Dataset([0, 2, 2, 3], [0, 2, 1], [5.5, 6, 0], [1, -1, 1], 4)
    path = tmp_path / "mine.npz"
    save_npz(path, data)
    assert Npz(path).load() == data
    assert (sp.load_npz(path).toarray() == data.to_scipy().toarray()).all()
    forget()
    monkeypatch.setattr(npz, "_read", None)
    assert Npz(path).load() == data
    with pytest.raises(ValueError, match=r"end in \.npz, found 'mine\.np'"):
        save_npz("mine.np", data)


def test_other_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    advice = r"write it with qsim.datasets.save_npz\(path, qsim.Dataset.from_arrays\(matrix, labels\)\)"
    sp.save_npz(path, sp.csr_array(np.eye(2)))
    with pytest.raises(DataError, match=f"data.npz holds a matrix without the array 'labels'; {advice}"):
        Npz(path).load()
    with np.load(path) as stored:
        arrays = dict(stored)
    for labels, told in (([1, 0, 1], r"data.npz: labels must have shape \(2,\)"), ([3, 4], "found 3, 4")):
        np.savez(path, labels=labels, **arrays)
        with pytest.raises(DataError, match=told):
            Npz(path).load()
    np.savez(path, x=np.eye(2), labels=[0, 1])
    with pytest.raises(DataError, match=f"holds no sparse matrix, but labels, x; {advice}"):
        Npz(path).load()
    np.savez(path, format="hat", shape=(2, 2), labels=[0, 1])
    with pytest.raises(DataError, match="torn, or no .npz"):
        Npz(path).load()
    whole = path.read_bytes()
    with path.open("wb") as stream:
        np.save(stream, np.eye(2))
    for content in (path.read_bytes(), whole[:-40], b"", b"1 1:1\n"):
        written(path, content)
        with pytest.raises(DataError, match="data.npz is torn"):
            Npz(path).load()


# load


def test_unknown_names_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "clicks.svm")
    for name, told in (
        ("adlt", "no built-in data set 'adlt', and no such file; did you mean 'adult'"),
        ("rcv1.binry", "did you mean 'rcv1.binary'"),
        ("click.svm", "did you mean 'clicks.svm'"),
        (str(tmp_path / "click.svm"), f"did you mean '{tmp_path}/clicks.svm'"),
        ("nowhere/at/all.svm", r"no such file \(built in: adult, spark_sample; qsim.datasets.fetch knows a9a"),
        (".", "there is no file .*; it is a folder"),
    ):
        with pytest.raises(DataError, match=told.replace("(tmp", r"\(tmp")):
            load(name)
    with pytest.raises(DataError, match="a file has no split 'test'"):
        load("clicks.svm", split="test")
    with pytest.raises(DataError, match="there is no file 'gone'"):
        LibSVM("gone").load()
    with pytest.raises(DataError, match="it is a folder"):
        LibSVM(tmp_path).load()


def test_names_come_before_files_and_files_before_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("adult", "a9a"):
        written(tmp_path / name)
    assert load("adult").rows == 32_561
    assert load("./adult").rows == 3
    assert load("a9a").source == LibSVM("a9a")


def test_studies_take_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A study of a file gives the numbers of the data set that is in it; its provenance makes the runs again."""
    data = load("spark_sample")
    assert data.values is not None
    entries = [f"{column + 1}:{value!r}" for column, value in zip(data.indices, data.values.tolist(), strict=True)]
    lines = [
        " ".join([str(label), *entries[data.indptr[row] : data.indptr[row + 1]]])
        for row, label in enumerate(data.labels)
    ]
    path = written(tmp_path / "my.libsvm.bz2", bz2.compress("\n".join(lines).encode()))
    options = ["--workers", "4", "--rounds", "5", "--seeds", "2", "--out", str(tmp_path)]
    assert cli.main(["s_sweep", "--data", str(path), *options]) == 0
    assert "on my (322 rows, 16 features)" in capsys.readouterr().out
    provenance = json.loads((tmp_path / "s_sweep.json").read_text())
    assert provenance["data"]["digest"] == data.digest
    run = eval(provenance["curves"]["s = 2"]["run"], {"qsim": qsim})
    assert run.data == LibSVM(str(path))
    losses = [qsim.simulate(replace(run, data=data, seed=seed)).frame["loss"].iloc[-1] for seed in (0, 1)]
    numbers = pd.read_csv(tmp_path / "s_sweep.csv")
    assert numbers[numbers["curve"] == "s = 2"]["loss"].iloc[-1] == pytest.approx(np.mean(losses), rel=1e-8)
    assert cli.main(["s_sweep", "--data", str(path)[:-1], *options]) == 2
    assert "did you mean" in capsys.readouterr().err
