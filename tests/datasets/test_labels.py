"""Signs, classes and targets: what a data set takes, keeps and refuses, in memory and in files; who uses which."""

from __future__ import annotations

import bz2
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import qsim
from qsim.datasets import (
    ByLabel,
    Contiguous,
    DataError,
    Dataset,
    Dirichlet,
    LibSVM,
    Shuffled,
    load,
    load_libsvm,
    save_npz,
)
from qsim.objectives import LeastSquares, LinearModel, MultinomialLogistic, NonconvexLogistic

EYE = np.eye(4, 3) + np.eye(4, 3, -1)
CLASSES = Dataset.from_arrays(EYE, [2, 0, 4, 0], kind="classes", classes=5)
TARGETS = Dataset.from_arrays(EYE, [0.1, -7, 1e300, 0], kind="targets")
SIGNS = Dataset.from_arrays(EYE, [1, 0, 1, 0])
ALL = pytest.mark.parametrize("data", [SIGNS, CLASSES, TARGETS], ids=lambda data: data.kind)


@pytest.mark.parametrize(
    ("kind", "labels", "dtype", "kept"),
    [
        ("classes", [0, 1, 2, 1], np.int32, [0, 1, 2, 1]),
        ("classes", np.array([0.0, 1.0, 0.0, 2.0]), np.int32, [0, 1, 0, 2]),
        ("classes", np.array([False, True, False, True]), np.int32, [0, 1, 0, 1]),
        ("targets", [1, 0, 1, 0], np.float64, [1, 0, 1, 0]),
        ("targets", np.array([0.1, -2, 5, 1], np.float32), np.float64, np.array([0.1, -2, 5, 1], np.float32)),
        ("signs", [1, 0, 1, 0], np.int8, [1, -1, 1, -1]),
    ],
)
def test_labels_have_the_type_of_their_kind(kind: Any, labels: Any, dtype: type, kept: Any) -> None:
    data = Dataset.from_arrays(EYE, labels, kind=kind)
    assert data.kind == kind
    assert kind != "classes" or data.classes == max(kept) + 1
    assert data.labels.dtype == dtype
    assert np.array_equal(data.labels, kept)
    assert not data.labels.flags.writeable


@pytest.mark.parametrize(
    ("kind", "labels", "told"),
    [
        ("classes", [0, 1, -1, 2], "from 0 on, found -1 in row 2"),
        ("classes", [0, 1, 1.5, 2], r"from 0 on, found 1\.5 in row 2"),
        ("classes", [0, np.nan, 1, 2], "from 0 on, found nan in row 1"),
        ("classes", [0, 2**31, 1, 2], "found 2147483648 in row 1"),
        ("classes", [1, 2, 3, 1], r"no row has class 0, found labels 1, 2, 3; .*searchsorted.*: classes=4"),
        ("classes", [1, 1, 1, 1], "no row has class 0, found labels 1; "),
        ("classes", [1.0, 2.0, 2.0, 1.0], "no row has class 0"),
        ("classes", [1, 3, 7, 1], "no row has class 0, found labels 1, 3, 7"),
        ("classes", [0, 3, 7, 1], "no row has class 2, found labels 0, 1, 3, 7"),
        ("classes", [True] * 4, "no row has class 0"),
        ("signs", [1, 2, 1, 2], r"-1 and 1, or 0 and 1, found 1, 2 \(2 in row 1\)"),
        ("classes", ["a", "b", "c", "d"], "classes must be whole numbers, found <U1; number them"),
        ("targets", [0, 1, np.inf, 2], "finite, found inf in row 2"),
        ("targets", [0, 1, 1j, 2], "real numbers, found complex128"),
        ("targets", [1.0, 2.0], r"shape \(4,\).*found shape \(2,\)"),
        ("signs", [0, 1, 2, 3], 'kind="classes" for whole numbers from 0 on, kind="targets"'),
        ("real", [0, 1, 1, 0], "kind must be one of 'signs', 'classes', 'targets', found 'real'"),
    ],
)
def test_other_labels_are_refused(kind: Any, labels: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Dataset.from_arrays(EYE, labels, kind=kind)


def test_the_content_is_told_apart_by_kind_and_printed() -> None:
    ones = [Dataset.from_arrays(EYE, [1, 0, 1, 1], kind=kind) for kind in ("signs", "classes", "targets")]
    assert len({data.digest for data in ones}) == 3
    assert repr(CLASSES).endswith("6 non-zeros, 5 classes)")
    assert repr(TARGETS).endswith("6 non-zeros, targets from -7 to 1e+300)")
    assert (SIGNS.classes, CLASSES.classes) == (2, 5)
    with pytest.raises(DataError, match="has no classes, but targets"):
        _ = TARGETS.classes


@ALL
def test_they_stay_what_they_are(data: Dataset, tmp_path: Path) -> None:
    assert data.with_intercept().kind == data.take([1, 2]).kind == data.kind
    if data.kind == "classes":
        assert data.with_intercept().classes == data.take([1]).classes == 5
    assert data.take([2, 2]).labels.tolist() == [data.labels[2]] * 2
    copy = pickle.loads(pickle.dumps(data))
    assert (copy.kind, copy.digest) == (data.kind, data.digest)
    save_npz(tmp_path / "data.npz", data)
    again = load(tmp_path / "data.npz")
    assert (again.kind, again.digest) == (data.kind, data.digest)
    assert again.labels.dtype == data.labels.dtype


def test_classes_without_rows_are_told() -> None:
    """A test split may lack classes: then it says how many there are, and none moves."""
    split = Dataset.from_arrays(EYE, [1, 3, 3, 1], kind="classes", classes=4)
    assert (split.classes, split.labels.tolist()) == (4, [1, 3, 3, 1])
    assert split.digest != Dataset.from_arrays(EYE, [1, 3, 3, 1], kind="classes", classes=5).digest
    every = [Dataset.from_arrays(EYE, [0, 1, 2, 0], kind="classes", classes=classes) for classes in (None, 3)]
    assert every[0] == every[1]
    with pytest.raises(DataError, match="classes=3 are 0 to 2, found labels 1, 3"):
        Dataset.from_arrays(EYE, [1, 3, 3, 1], kind="classes", classes=3)
    with pytest.raises(DataError, match="only data of kind='classes'"):
        Dataset.from_arrays(EYE, [1, 0, 0, 1], classes=2)
    for wrong in (0, 2.0, True, "4"):
        with pytest.raises(ValueError, match="classes must be a whole number"):
            Dataset.from_arrays(EYE, [1, 0, 0, 1], kind="classes", classes=wrong)


@ALL
def test_files_that_are_kept_stay_what_they_are(data: Dataset, tmp_path: Path, cache: Path) -> None:
    from qsim.datasets.npz import _load

    save_npz(tmp_path / "data.npz", data)
    first = load(tmp_path / "data.npz")
    _load.cache_clear()
    mapped = load(tmp_path / "data.npz")
    assert mapped is not first
    assert (mapped.kind, mapped) == (data.kind, data)


def test_a_file_with_a_kind_of_its_own(tmp_path: Path) -> None:
    matrix = sp.csr_array(EYE)
    parts = {"format": np.array(b"csr"), "shape": matrix.shape, "data": matrix.data, "indices": matrix.indices}
    parts |= {"indptr": matrix.indptr, "labels": np.array([3, 2, 0, 1])}  # all of four classes
    for name, kind, told in (("a", "classes", ""), ("b", "words", "b.npz: kind must be one of"), ("c", [1, 2], "kind")):
        np.savez(tmp_path / f"{name}.npz", **parts, kind=np.array(kind))
        if told:
            with pytest.raises(DataError, match=told):
                load(tmp_path / f"{name}.npz")
        else:
            assert load(tmp_path / f"{name}.npz").labels.tolist() == [3, 2, 0, 1]


# LIBSVM files.

TEXT = b"2 1:1\n# none\n7 2:1\n2 1:3 2:1\n4.5 1:2\n"


def test_libsvm_labels_as_classes_and_targets(tmp_path: Path) -> None:
    path = tmp_path / "data.bz2"
    path.write_bytes(bz2.compress(TEXT))
    targets = load_libsvm(path, targets=True)
    assert (targets.kind, targets.labels.tolist()) == ("targets", [2, 7, 2, 4.5])
    for names, numbers in (([7, 4.5, 2], [2, 0, 2, 1]), ((2, 3, 4.5, 7), [0, 3, 0, 2])):
        data = LibSVM(path, classes=names).load()
        assert (data.kind, data.labels.tolist()) == ("classes", numbers)
        assert eval(repr(data.source), {"qsim": qsim}) == data.source
    part = tmp_path / "part"
    part.write_text("7 1:1\n")
    assert load_libsvm(part, classes=[2, 4.5, 7]).classes == 3
    with pytest.raises(DataError, match=r"has the label 4\.5 in line 5, which is none of classes=range\(0, 8\)"):
        load_libsvm(path, classes=range(8))
    with pytest.raises(DataError, match=r"positive=7, or that they are numbers to be predicted: targets=True"):
        load_libsvm(path)
    assert load_libsvm(path, positive=2).labels.tolist() == [1, -1, 1, -1]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (
            [3, 5, 4],
            r"positive=5, or that they are classes: classes=range\(3, 6\), or numbers to be predicted: targets",
        ),
        ([1, 10**6, 5], r"that they are classes: classes=\[\.\.\.\], the list of them"),
    ],
)
def test_the_default_says_what_to_write_instead(tmp_path: Path, labels: list[int], told: str) -> None:
    path = tmp_path / "data"
    path.write_text("".join(f"{label} 1:1\n" for label in labels))
    with pytest.raises(DataError, match=told):
        load_libsvm(path)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"positive": 1, "targets": True}, ValueError, "of one kind: say positive"),
        ({"classes": [1, 2], "targets": True}, ValueError, "of one kind"),
        ({"classes": [1, 2], "positive": 1}, ValueError, "of one kind"),
        ({"classes": [1, 2, 1]}, ValueError, r"two different labels, found \(1.0, 2.0, 1.0\)"),
        ({"classes": [1]}, ValueError, "at least two"),
        ({"classes": ["a", "b"]}, ValueError, r"classes\[0\] must be a number, found 'a'"),
        ({"targets": 1}, ValueError, "targets must be True or False, found 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        LibSVM("data", **options)


# Partitions.


def test_partitions_by_class() -> None:
    labels = np.random.default_rng(0).integers(0, 5, 400)
    data = Dataset.from_arrays(np.ones((400, 1)), labels, kind="classes")
    sorted_ = ByLabel().split(data, 5, qsim.Key(0))
    assert (np.diff(labels[sorted_.order]) >= 0).all()
    skewed, even = (Dirichlet(alpha).split(data, 4, qsim.Key(1)) for alpha in (0.05, 1e6))
    for shards, least, most in ((skewed, 0.6, 1.0), (even, 0.2, 0.3)):
        parts = np.split(labels[shards.order], shards.offsets[1:-1])
        counts = np.array([np.bincount(part, minlength=5) for part in parts])
        assert np.array_equal(counts.sum(axis=0), np.bincount(labels))
        assert least <= (counts.max(axis=0) / counts.sum(axis=0)).mean() <= most


@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(1.0)])
def test_targets_are_no_classes(partition: qsim.datasets.Partition) -> None:
    with pytest.raises(DataError, match=r"by class, but Dataset.* has targets: take Shuffled\(\)"):
        partition.split(TARGETS, 2, qsim.Key(0))
    for other in (Contiguous(), Shuffled()):
        assert other.split(TARGETS, 2, qsim.Key(0)).workers == 2


# Objectives.


@qsim.option
class Absolute(LinearModel):
    """A user's own, which does not say what it takes."""

    l2: float = 0.0

    def loss(self, margins, labels):
        return np.abs(margins - labels)

    def slope(self, margins, labels):
        return np.sign(margins - labels)

    def curvature(self, margins, labels):
        return np.zeros_like(margins)

    def curvature_bound(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("objective", "data", "told"),
    [
        (qsim.LogisticRegression(0.1), TARGETS, r"takes the signs -1 and \+1, but the labels .* are targets.*LeastSqu"),
        (qsim.LogisticRegression(0.1, intercept=True), CLASSES, r"are classes 0, 1, 2, .*MultinomialLogistic\(l2"),
        (NonconvexLogistic(0.1), TARGETS, "takes the signs"),
        (LeastSquares(0.1), CLASSES, r"takes the signs -1 and \+1 or targets \(any numbers\), but"),
        (MultinomialLogistic(0.1, 5), SIGNS, r"takes classes .* are the signs -1 and \+1; for these.*LogisticRegr"),
        (MultinomialLogistic(0.1, 4), CLASSES, r"has classes up to 4: say .*MultinomialLogistic\(l2=0\.1, classes=5"),
        (Absolute(), TARGETS, r'or say in its class: takes = \("targets",\)'),
    ],
    ids=repr,
)
def test_objectives_refuse_labels_they_are_not_made_for(objective: Any, data: Dataset, told: str) -> None:
    w = np.zeros(data.features * objective.width)
    for call in (
        lambda: objective.value(w, data),
        lambda: objective.error(w, data),
        lambda: objective.smoothness(data),
        lambda: objective.optimum(data),
        lambda: qsim.simulate(data, objective=objective, method=qsim.GradientDescent(), workers=2),
    ):
        if objective == NonconvexLogistic(0.1):
            call = lambda: objective.value(w, data)  # noqa: E731  (it has no optimum at all)
        with pytest.raises(DataError, match=told):
            call()


def test_test_data_of_another_kind_are_refused() -> None:
    with pytest.raises(DataError, match="are targets"):
        qsim.simulate(
            SIGNS, objective=qsim.LogisticRegression(0.1), method=qsim.GradientDescent(), workers=2, test=TARGETS
        )


def test_the_error_on_targets_is_the_mean_square() -> None:
    data = Dataset.from_arrays(EYE, [1.0, 2.0, 3.0, 4.0], kind="targets")
    w = np.array([0.5, -1.0, 2.0])
    off = EYE @ w - [1, 2, 3, 4]
    assert LeastSquares(0.0).error(w, data) == pytest.approx(np.mean(off**2), rel=1e-14)
    assert LeastSquares(0.0).value(w, data) == pytest.approx(np.mean(off**2) / 2, rel=1e-14)
    assert LeastSquares(0.0).error(w, SIGNS) == 0.25  # of signs the share of wrong ones: margins 0.5, -0.5, 1, 2
