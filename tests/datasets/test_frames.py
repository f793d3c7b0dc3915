"""Data as researchers have them: arrays, frames of pandas and Polars, tables in files; parts of data sets."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import qsim
from qsim.datasets import DataError, Dataset, Table, load

pytestmark = pytest.mark.quick

FRAME = pd.DataFrame(
    {
        "age": [30, 0, 50, 41],
        "job": ["nurse", "clerk", "nurse", "smith"],
        "member": [True, False, False, True],
        "pay": np.array([1.5, -2.0, 0.0, 4.0], np.float32),
        "town": pd.Categorical(["B", "A", "B", "B"]),
    }
)
LABELS = [1, 0, 0, 1]
DENSE = [  # age, clerk, nurse, smith, member, pay, A, B
    [30, 0, 1, 0, 1, 1.5, 0, 1],
    [0, 1, 0, 0, 0, -2.0, 1, 0],
    [50, 0, 1, 0, 0, 0.0, 0, 1],
    [41, 0, 0, 1, 1, 4.0, 0, 1],
]


def test_a_frame_is_one_hot_in_the_order_of_its_columns() -> None:
    data = Dataset.from_arrays(FRAME, pd.Series(LABELS))
    assert data.to_scipy().toarray().tolist() == DENSE
    assert data.labels.tolist() == [1, -1, -1, 1]
    assert data == Dataset.from_arrays(np.array(DENSE), LABELS)


def test_hashed_categories_share_features_behind_the_numbers() -> None:
    data = Dataset.from_arrays(FRAME, LABELS, hashed=2, empty="keep")
    assert data.shape == (4, 5)
    dense = data.to_scipy().toarray()
    assert dense[:, :3].tolist() == [[row[0], row[4], row[5]] for row in DENSE]
    assert dense[:, 3:].sum(axis=1).tolist() == [2, 2, 2, 2]  # two values in each row, also where they meet
    assert dense[0, 3:].tolist() == dense[2, 3:].tolist()  # nurse in B, both
    wide = Dataset.from_arrays(FRAME, LABELS, hashed=2**18, empty="keep")
    assert wide.features == 3 + 2**18
    assert np.unique(wide.indices[wide.indices >= 3]).size == 5  # as many as there are values
    assert wide == Dataset.from_arrays(FRAME.iloc[:, ::1], LABELS, hashed=2**18, empty="keep")


def test_a_polars_frame_is_the_same_data() -> None:
    polars = pytest.importorskip("polars", reason="needs Polars: pip install '.[test]'")
    frame = polars.DataFrame({name: FRAME[name].tolist() for name in FRAME})
    assert Dataset.from_arrays(frame, polars.Series(LABELS)) == Dataset.from_arrays(FRAME, LABELS)


def test_what_a_frame_cannot_say_is_refused_by_the_name_of_its_column() -> None:
    for column, words in (
        ([1.0, np.nan, 2.0, 3.0], "column 'x' has 1 missing values"),
        (["a", None, "b", "c"], "column 'x' has 1 missing values"),
        (pd.array([1, None, 2, 3], dtype="Int64"), "column 'x' has 1 missing values"),
        (pd.to_datetime(["2020-01-01"] * 4), "column 'x' holds datetime64"),
        ([[1], [2], [3], [4]], "column 'x' holds object"),
    ):
        with pytest.raises(DataError, match=words):
            Dataset.from_arrays(FRAME.assign(x=column), LABELS)
    twice = pd.concat([FRAME, FRAME["age"]], axis=1)
    with pytest.raises(DataError, match="column 'age' is there more than once"):
        Dataset.from_arrays(twice, LABELS)
    with pytest.raises(DataError, match="hashed=4 is for the categorical columns of a frame, found ndarray"):
        Dataset.from_arrays(np.eye(2), [0, 1], hashed=4)
    with pytest.raises(DataError, match="NumPy array or a SciPy sparse matrix"):
        Dataset.from_arrays([[1, 2], [3, 4]], [0, 1])
    assert Dataset.from_arrays(FRAME.astype({"age": "Int64"}), LABELS) == Dataset.from_arrays(FRAME, LABELS)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_tables_in_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"people{suffix}"
    text = FRAME.assign(label=LABELS).to_csv(index=False, sep="\t" if suffix == ".tsv" else ",")
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    data = load(path)
    assert data == Dataset.from_arrays(FRAME, LABELS)
    assert data.name == "people"
    assert data.source == Table(path)
    assert eval(repr(data.source)) == Table(path)
    path.write_bytes(path.read_bytes()[:-20] + b"\xff\xfe")
    with pytest.raises(DataError, match="people"):
        load(path)


def test_the_label_column_is_found_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    FRAME.assign(income=LABELS).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"which column holds the labels\? Write qsim.datasets.Table"):
        load(path)
    with pytest.raises(DataError, match="did you mean 'income'"):
        Table(path, label="incom").load()
    assert Table(path, label="income").load() == Dataset.from_arrays(FRAME, LABELS)
    assert Table(path, label="age", kind="targets").load().kind == "targets"
    with pytest.raises(DataError, match=r"\.csv, \.tsv, \.parquet"):
        Table(tmp_path / "people.xls")
    (tmp_path / "short.csv").write_text("a,b,label\n1,2,1\n3,4\n")
    with pytest.raises(DataError, match="1 rows have no label in column 'label'"):
        load(tmp_path / "short.csv")
    (tmp_path / "twice.csv").write_text("label,a,b,a\n1,2,3,4\n-1,2,3,4\n")
    with pytest.raises(DataError, match=r"twice\.csv: column 'a' is there more than once"):
        load(tmp_path / "twice.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="no table that can be read"):
        load(tmp_path / "empty.csv")


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    FRAME.assign(label=LABELS).to_parquet(tmp_path / "people.parquet")
    assert load(tmp_path / "people.parquet") == Dataset.from_arrays(FRAME, LABELS)


def test_parquet_without_pyarrow_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "people.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"pip install pyarrow"):
        load(tmp_path / "people.parquet")


def test_a_run_takes_names_paths_and_arrays(tmp_path: Path) -> None:
    options = {"objective": qsim.LogisticRegression(l2=0.1), "method": qsim.GradientDescent(step=0.1), "rounds": 2}
    data = load("spark_sample")
    expected = qsim.simulate(data, **options).weights.tobytes()
    path = tmp_path / "sample.npz"
    qsim.datasets.save_npz(path, data)
    for spelling in ("spark_sample", qsim.datasets.Builtin("spark_sample"), path, str(path)):
        assert qsim.simulate(spelling, **options).weights.tobytes() == expected
    X, y = data.to_scipy(), data.labels
    assert qsim.simulate((X, y), **options, test=(X, y)).weights.tobytes() == expected
    assert qsim.Run("spark_sample", **options) == qsim.Run(data, **options)


def test_split_and_slices() -> None:
    data = load("spark_sample")
    train, test = data.split(test=0.25, seed=3)
    assert (len(train), len(test), train.shape[1]) == (242, 80, 16)
    rows = [tuple(row) for part in (train, test) for row in np.column_stack([part.to_scipy().toarray(), part.labels])]
    whole = [tuple(row) for row in np.column_stack([data.to_scipy().toarray(), data.labels])]
    assert sorted(rows) == sorted(whole)
    assert data.split(test=0.25, seed=3)[1] == test != data.split(test=0.25, seed=4)[1]
    assert data[10:20] == data.take(np.arange(10, 20))
    assert data[::-1] == data.take(np.arange(322)[::-1])
    for bad in (0, 1.0, 1e-9, -0.5, "a", True):
        with pytest.raises(ValueError, match="test must be"):
            data.split(test=bad)
    with pytest.raises(TypeError, match="data.take"):
        data[3]
    with pytest.raises(DataError, match=r"slice\(5, 5, None\) takes none of the 322 of spark_sample"):
        data[5:5]


def test_a_warm_start_goes_on_where_another_run_ended() -> None:
    options = {"objective": qsim.LogisticRegression(l2=0.1), "method": qsim.GradientDescent(step=0.1)}
    whole = qsim.simulate("spark_sample", **options, rounds=6, workers=1)
    first = qsim.simulate("spark_sample", **options, rounds=4, workers=1)
    start = qsim.starts.Weights(first.weights)
    second = qsim.simulate("spark_sample", **options, rounds=2, workers=1, start=start)
    assert second.frame["loss"].iloc[0] == first.frame["loss"].iloc[-1]
    assert np.allclose(second.weights, whole.weights, rtol=1e-5, atol=0)
    assert eval(repr(start)) == start
    with pytest.raises(ValueError, match="must return 16 finite numbers"):
        qsim.simulate("spark_sample", **options, start=qsim.starts.Weights([1.0]))
