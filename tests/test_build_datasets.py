"""The tool that makes the built-in data sets' files from the raw data."""

from __future__ import annotations

import lzma
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.paths import PACKAGE, ROOT
from qsim.datasets import names

sys.path.insert(0, str(ROOT / "tools"))
build = pytest.importorskip("build_datasets", reason="needs the checkout's tools")


def test_building_again_gives_the_shipped_content_and_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    shipped = PACKAGE / "datasets/data"
    for folder in ("one", "two"):
        assert build.main([str(raw), str(tmp_path / folder)]) == 0
    for name in names():
        one, two = ((tmp_path / folder / f"{name}.npz").read_bytes() for folder in ("one", "two"))
        assert one == two
        with np.load(tmp_path / "one" / f"{name}.npz") as new, np.load(shipped / f"{name}.npz") as old:
            assert set(new) == set(old)
            assert all((new[key] == old[key]).all() and new[key].dtype == old[key].dtype for key in new)


def test_building_names_missing_and_malformed_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main([str(tmp_path)]) == 2
    assert "adult.data.xz" in capsys.readouterr().err
    (tmp_path / "adult").mkdir()
    (tmp_path / "spark").mkdir()
    for name in ("adult.data.xz", "adult.test.xz"):
        (tmp_path / "adult" / name).write_bytes(lzma.compress(b"39, State-gov\n"))
    (tmp_path / "adult" / "adult.names").write_text("age: continuous.\n")
    (tmp_path / "spark" / "sample_svm_data.txt").write_text("1 0 2\n")
    assert build.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "15 columns expected, found 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("ages", "bins"),
    [
        ([1, 2, 3, 4, 5], ["age<=1", "1<age<=2", "2<age<=3", "3<age<=4", "4<age"]),
        ([1, 1, 1, 7, 7, 7, 7, 7, 7, 8], ["age<=1", "1<age<=7", "7<age"]),
        ([1, 1, 1, 7, 7, 7, 7, 7, 7, 7], ["age<=1", "1<age"]),
    ],
)
def test_equal_cuts_and_a_cut_at_the_maximum_are_dropped(ages: list[int], bins: list[str]) -> None:
    column = build._Bins.quintiles("age", list(map(str, ages)))
    assert column.features == bins
    assert set(column.codes(list(map(str, ages))).tolist()) == set(range(len(bins)))
