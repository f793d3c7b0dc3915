"""Data in many files: which worker holds which piece, and what is said of files that do not fit."""

from __future__ import annotations

import pickle
from glob import escape
from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.datasets import DataError, Dataset, HashedText, LibSVM, Npz, Parts, Table, save_clicks, save_npz
from qsim.datasets.parts import PartShards, RowsElsewhere


def loaded(parts: Parts) -> RowsElsewhere:
    found = parts.load()
    assert isinstance(found, RowsElsewhere)
    return found


def clicks(folder: Path, sizes: tuple[int, ...] = (20, 31, 7)) -> Parts:
    for part, rows in enumerate(sizes):
        save_clicks(folder / f"day-{part}.tsv.gz", rows, part=part)
    return Parts(HashedText(folder / "day-*.tsv.gz", 2**10))


def test_counts_are_those_of_the_files(tmp_path: Path) -> None:
    parts = clicks(tmp_path)
    all_ = [HashedText(tmp_path / f"day-{part}.tsv.gz", 2**10).load() for part in range(3)]
    rows = loaded(parts)
    assert rows.rows == 58
    assert rows.nonzeros == sum(data.nonzeros for data in all_)
    assert rows.features == 2**10
    assert rows.kind == "signs"
    assert rows.with_intercept().features == 2**10 + 1
    assert rows.with_intercept().nonzeros == rows.nonzeros + 58
    assert repr(rows).endswith(f"(3 files, 58 x 1,024, {rows.nonzeros:,} non-zeros)")
    assert eval(repr(parts)) == parts


@pytest.mark.parametrize("workers", [3, 4, 7, 12, 40])
@pytest.mark.parametrize("intercept", [False, True])
def test_every_row_has_one_worker(tmp_path: Path, workers: int, intercept: bool) -> None:
    rows = loaded(clicks(tmp_path))
    rows = rows.with_intercept() if intercept else rows
    shards: PartShards = pickle.loads(pickle.dumps(rows.shared_out(workers, 1)))
    assert shards.sizes.sum() == 58
    assert np.ptp(shards.weights - shards.sizes / 58) == 0
    owner = [worker * 3 // workers for worker in range(workers)]
    labels: list[list[int]] = [[], [], []]
    for low, high in shards.blocks(0, workers, 2):
        held, first = shards.held(low, high)
        assert len(set(owner[low:high])) == 1
        assert held.dataset.features == rows.features
        for worker in range(low, high):
            mine = held.order[held.offsets[first + worker - low] : held.offsets[first + worker - low + 1]]
            assert mine.size == shards.sizes[worker]
            labels[owner[worker]] += held.dataset.labels[mine].tolist()
    for part in range(3):
        assert labels[part] == HashedText(tmp_path / f"day-{part}.tsv.gz", 2**10).load().labels.tolist()


def test_blocks_cover_any_range_of_workers(tmp_path: Path) -> None:
    shards = loaded(clicks(tmp_path)).shared_out(11, 1)
    for low in range(11):
        for high in range(low + 1, 12):
            for size in (1, 2, 100):
                spans = shards.blocks(low, high, size)
                assert [worker for span in spans for worker in range(*span)] == list(range(low, high))
                assert all(0 < last - first <= size for first, last in spans)


def test_a_pattern_alone_is_read_as_load_reads_files(tmp_path: Path) -> None:
    assert Parts("x/*.csv.gz").source == Table("x/*.csv.gz")
    assert Parts("x/*.npz").source == Npz("x/*.npz")
    assert Parts(tmp_path / "*.svm").source == LibSVM(tmp_path / "*.svm")
    for part in range(2):
        save_npz(tmp_path / f"{part}.npz", Dataset([0, 1, 2], [part, 2], None, [1, -1], 3))
    assert loaded(Parts(tmp_path / "*.npz")).rows == 4


def test_a_file_that_changes_is_counted_again(tmp_path: Path) -> None:
    parts = clicks(tmp_path)
    before = loaded(parts)
    save_clicks(tmp_path / "day-1.tsv.gz", 31, part=9)
    assert loaded(parts).digest != before.digest
    with pytest.raises(DataError, match=r"day-1\.tsv\.gz has changed since its rows were counted"):
        before.shared_out(3, 1).held(1, 2)
    (tmp_path / "day-1.tsv.gz").unlink()
    with pytest.raises(DataError, match=r"day-1\.tsv\.gz' can't be read"):
        before.shared_out(3, 1).held(1, 2)
    assert loaded(parts).rows == 27


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file fits '.*\*\.svm'"):
        Parts(tmp_path / "*.svm").load()
    (tmp_path / "a.svm").write_text("1 1:1 3:1\n-1 1:2\n")
    (tmp_path / "b.svm").write_text("1 4:1\n-1 1:2\n")
    with pytest.raises(DataError, match=r"b\.svm has 4 features, but .*a\.svm has 3; say how many"):
        Parts(tmp_path / "*.svm").load()
    assert loaded(Parts(LibSVM(tmp_path / "*.svm", features=9))).features == 9
    (tmp_path / "b.svm").write_text("")
    with pytest.raises(DataError, match=r"b\.svm has no rows"):
        Parts(LibSVM(tmp_path / "*.svm", features=9)).load()
    save_npz(tmp_path / "a.npz", Dataset([0, 1], [0], None, [1], 2))
    save_npz(tmp_path / "b.npz", Dataset([0, 1], [0], None, [0.5], 2, kind="targets"))
    with pytest.raises(DataError, match=r"the labels of .*b\.npz are targets, but those of .*a\.npz signs"):
        Parts(tmp_path / "*.npz").load()


def test_labels_that_mean_another_thing_in_another_file_are_named(tmp_path: Path) -> None:
    """The larger of two labels is +1: 1 beside 0, but 2 beside 1."""
    (tmp_path / "a.svm").write_text("0 1:1\n1 1:2\n")
    for lines in ("# classes\n1#one\n2 1:2\n", "2 1:2\n", "2 1:2\n1 1:1\n"):
        (tmp_path / "b.svm").write_text(lines)
        with pytest.raises(DataError, match=r"label 2 is \+1 in .*b\.svm, but 1 in .*a\.svm; say .*positive="):
            Parts(LibSVM(tmp_path / "*.svm", features=1)).load()
    assert loaded(Parts(LibSVM(tmp_path / "*.svm", features=1, positive=1))).rows == 4
    for lines in ("-1 1:1\n", "1 1:2\n-1 1:1\n", "0 1:1\n"):
        (tmp_path / "b.svm").write_text(lines)
        assert loaded(Parts(LibSVM(tmp_path / "*.svm", features=1))).features == 1


def test_tables_of_other_columns_are_named(tmp_path: Path) -> None:
    """Files have as many features, and a feature would not be the same in all of them."""
    tables = Table(tmp_path / "*.csv")
    (tmp_path / "a.csv").write_text("age,price,label\n1,2,0\n3,4,1\n")
    (tmp_path / "b.csv").write_text("price,label,age\n2,0,1\n4,1,3\n")
    with pytest.raises(DataError, match=r"b\.csv has other columns than .*a\.csv, or in another order"):
        Parts(tables).load()
    (tmp_path / "b.csv").write_text("label,age,price\n0,1,2\n")
    assert loaded(Parts(tables)).features == 2
    for name, lines in {"a": "job,label\nnurse,0\nclerk,1\n", "b": "job,label\ncook,0\nchef,1\n"}.items():
        (tmp_path / f"{name}.csv").write_text(lines)
    with pytest.raises(DataError, match=r"a\.csv: column 'job' holds categories.*hashed="):
        Parts(tables).load()
    for name, country in {"a": "CH", "b": "AT"}.items():
        (tmp_path / f"{name}.csv").write_text(f"country,label\n{country},0\n{country},1\n")
    with pytest.raises(DataError, match=r"a\.csv: column 'country' holds categories"):
        Parts(tables).load()
    with pytest.raises(DataError, match=r"column 'country' holds categories"):
        qsim.evaluate(np.zeros(1), Parts(tables), qsim.LogisticRegression(l2=0.1))
    assert loaded(Parts(Table(tmp_path / "*.csv", hashed=64))).features == 64


def test_parquet_tables_of_other_columns_are_named(tmp_path: Path) -> None:
    import pandas as pd

    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    pd.DataFrame({"age": [1.0], "label": [0]}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"price": [1.0], "label": [0]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has other columns than .*a\.parquet"):
        Parts(tmp_path / "*.parquet").load()
    for name in "ab":
        pd.DataFrame({"job": [name], "label": [0]}).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: column 'job' holds categories"):
        Parts(tmp_path / "*.parquet").load()


def test_a_class_may_be_missing_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,label\n1,0\n2,1\n3,2\n")
    (tmp_path / "b.csv").write_text("age,label\n1,0\n2,2\n")
    with pytest.raises(DataError, match=r"b\.csv: no row has class 1, .*classes=3"):
        Parts(Table(tmp_path / "*.csv", kind="classes")).load()
    assert loaded(Parts(Table(tmp_path / "*.csv", kind="classes", classes=3))).classes == 3
    assert Table(tmp_path / "a.csv", kind="classes", classes=4).load().classes == 4
    with pytest.raises(DataError, match=r"a\.csv: classes=2 are 0 to 1, found"):
        Table(tmp_path / "a.csv", kind="classes", classes=2).load()


def test_patterns_are_taken_for_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file 'x/\*\.svm'; many files are qsim\.datasets\.Parts\('x/\*\.svm'\)"):
        qsim.load("x/*.svm")
    (tmp_path / "a[1].svm").write_text("1 1:1\n-1 1:2\n")
    with pytest.raises(DataError, match=r"no file fits .*a\[1\]\.svm'; one is called so: .*glob\.escape"):
        Parts(tmp_path / "a[1].svm").load()
    assert loaded(Parts(escape(str(tmp_path / "a[1].svm")))).rows == 2


def test_what_needs_all_rows_is_refused(tmp_path: Path) -> None:
    rows = loaded(clicks(tmp_path))
    with pytest.raises(DataError, match=r"no process holds the rows of .*\(to_scipy\) is not known"):
        rows.to_scipy()
    with pytest.raises(DataError, match=r"workers cannot share the [0-9]+ rows of .*: take at most"):
        rows.shared_out(100_000, 1)
    with pytest.raises(DataError, match="2 workers cannot hold the 3 files"):
        rows.shared_out(2, 1)
    with pytest.raises(TypeError, match="parts are of a source of files"):
        Parts(qsim.datasets.Synthetic(10, 10, 2))
