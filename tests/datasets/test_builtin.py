"""The built-in data sets: pinned, and for Adult derived again from the raw files by a slower way."""

from __future__ import annotations

import lzma
import re
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

import qsim
from qsim.datasets import Builtin, DataError, load, names
from qsim.datasets.builtin import feature_names

PINNED = {
    ("adult", "train"): ("91b03381fbdb5229", 32_561, 121, 7_841),
    ("adult", "test"): ("ff160d6c287f9840", 16_281, 121, 3_846),
    ("spark_sample", "train"): ("bd53c920adf489a4", 322, 16, 162),
}


@pytest.mark.parametrize(("name", "split"), PINNED)
def test_content_is_pinned(name: str, split: str) -> None:
    data = load(name, split)
    assert (data.digest, data.rows, data.features, data.positives) == PINNED[name, split]
    assert data.source == Builtin(name, split)
    assert eval(repr(data.source), {"qsim": qsim}) == data.source
    assert load(name, split) is data
    assert len(set(feature_names(name))) == data.features


def test_every_built_in_set_is_pinned() -> None:
    assert {name for name, _ in PINNED} == set(names())
    assert [load("adult").name, load("adult", "test").name] == ["adult", "adult-test"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_adult_rows_are_at_most_14_ones_one_a_column(split: str) -> None:
    data = load("adult", split)
    assert data.values is None
    assert np.diff(data.indptr).max() == 14
    owner = [re.sub(r"^\d+<|<=\d+$|=.*", "", feature) for feature in feature_names("adult")]
    assert len(set(owner)) == 14
    for column in set(owner):
        assert data.to_scipy()[:, [o == column for o in owner]].sum(axis=1).max() == 1


def test_every_adult_feature_has_a_training_row() -> None:
    assert set(load("adult").indices.tolist()) == set(range(121))


def test_adult_is_as_learnable_as_documented() -> None:
    train, test = load("adult"), load("adult", "test")
    x, y = train.to_scipy().astype(float), train.labels.astype(float)

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        margins = y * (x @ w)
        slopes = -y / (1 + np.exp(margins))
        return np.logaddexp(0, -margins).sum() + w @ w / 2, x.T @ slopes + w

    w = minimize(objective, np.zeros(train.features), jac=True, method="L-BFGS-B").x
    scores = test.to_scipy() @ w
    ranks = np.argsort(np.argsort(scores)) + 1.0
    positive, p = test.labels == 1, test.positives
    assert np.mean((scores > 0) == positive) == pytest.approx(0.852, abs=5e-4)
    assert (ranks[positive].sum() - p * (p + 1) / 2) / (p * (test.rows - p)) == pytest.approx(0.903, abs=5e-4)


def test_adult_again_from_the_raw_files(raw: Path) -> None:
    kinds = _columns_of(raw / "adult" / "adult.names")
    train, test = _rows_of(raw / "adult" / "adult.data.xz"), _rows_of(raw / "adult" / "adult.test.xz")
    blocks = [_block(name, kind, [row[i] for row in train]) for i, (name, kind) in enumerate(kinds)]
    assert feature_names("adult") == [feature for block in blocks for feature in block]
    for split, rows in (("train", train), ("test", test)):
        data = load("adult", split)
        dense = data.to_scipy().toarray()
        for row, raw_row in enumerate(rows):
            expected = [
                _holds(feature, value) for block, value in zip(blocks, raw_row, strict=False) for feature in block
            ]
            assert dense[row].tolist() == expected, (split, row, raw_row)
            assert (data.labels[row] == 1) == raw_row[14].startswith(">50K")


def test_spark_sample_again_from_the_raw_file(raw: Path) -> None:
    lines = (raw / "spark" / "sample_svm_data.txt").read_text().splitlines()
    data = load("spark_sample")
    for row, line, label in zip(data.to_scipy().toarray(), lines, data.labels, strict=True):
        first, *rest = map(float, line.split())
        assert row.tolist() == [float(np.float32(x)) for x in rest]
        assert label == (1 if first == 1 else -1)
    assert np.count_nonzero(data.to_scipy().data) == data.nonzeros


def test_the_package_stays_small() -> None:
    assert sum(path.stat().st_size for path in (Path(qsim.__file__).parent / "datasets/data").glob("*.npz")) < 500_000


@pytest.mark.parametrize(
    ("name", "split", "told"),
    [("adlut", "train", "'adlut'.*'adult'"), ("adult", "tets", "'tets'.*'test'"), ("spark_sample", "test", "'train'")],
)
def test_unknown_names_and_splits_are_refused_with_the_nearest(name: str, split: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        load(name, split)


def test_feature_names_of_an_unknown_set_are_refused() -> None:
    with pytest.raises(DataError, match="adlut"):
        feature_names("adlut")


# The slow way: text to features one cell at a time, quantiles by counting with exact fractions.


def _rows_of(path: Path) -> list[list[str]]:
    lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    return [line.split(", ") for line in lines if line and line[0] != "|"]


def _columns_of(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text().split(">50K, <=50K.")[1].split("\n")
    return [(line.split(": ")[0], line.split(": ")[1].rstrip(".")) for line in lines if line]


def _block(name: str, kind: str, values: list[str]) -> list[str]:
    if kind != "continuous":
        return [f"{name}={category}" for category in kind.split(", ")]
    counts, cuts, below = Counter(map(int, values)), [], 0
    for x in sorted(counts)[:-1]:
        before, below = Fraction(below, len(values)), below + counts[x]
        if any(before < Fraction(k, 5) <= Fraction(below, len(values)) for k in (1, 2, 3, 4)):
            cuts.append(x)
    inner = [f"{low}<{name}<={high}" for low, high in pairwise(cuts)]
    return [f"{name}<={cuts[0]}", *inner, f"{cuts[-1]}<{name}"]


def _holds(feature: str, value: str) -> bool:
    """Whether the statement that a feature's name makes is true of a cell."""
    if "<" not in feature:
        return feature.split("=")[1] == value
    low, high = "-1", "10000000"
    if "<=" in feature:
        feature, high = feature.split("<=")
    if "<" in feature:
        low = feature.split("<")[0]
    return int(low) < int(value) <= int(high)
