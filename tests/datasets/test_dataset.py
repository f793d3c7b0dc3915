"""Dataset: what goes in comes out, what cannot be used is refused by name and place, nothing can be changed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import qsim
from qsim.datasets import DataError, Dataset

pytestmark = pytest.mark.quick

FORMATS = ("csr", "csc", "coo", "bsr", "lil", "dok", "dia")
matrices = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.0, 1.0, -2.5, 3e38]))
)


def tiny(**changes: Any) -> Dataset:
    """Rows (0: 5, 2: 6), (), (1: 7)."""
    parts: dict[str, Any] = {
        "indptr": [0, 2, 2, 3],
        "indices": [0, 2, 1],
        "values": [5, 6, 7],
        "labels": [1, -1, 1],
        "features": 3,
    }
    return Dataset(**(parts | changes))


def some_labels(rows: int) -> np.ndarray:
    return np.arange(rows) % 2


@pytest.mark.parametrize("format", [*FORMATS, "array"])
@given(dense=matrices)
def test_round_trip_through_every_format(format: str, dense: np.ndarray) -> None:
    matrix = dense if format == "array" else sp.coo_array(dense).asformat(format)
    data = Dataset.from_arrays(matrix, some_labels(len(dense)), empty="keep")
    assert (data.to_scipy().toarray() == dense).all()
    assert data.indptr.dtype == np.int64
    assert data.indices.dtype == np.int32
    assert data.labels.dtype == np.int8
    stored = matrix.nnz if format == "bsr" else np.count_nonzero(dense)  # blocks store zeros
    assert data.nonzeros == stored
    assert (data.rows, data.features) == dense.shape
    assert data.density == stored / dense.size


@given(dense=matrices, seed=st.integers(0, 100))
def test_unsorted_rows_are_sorted_and_the_matrix_is_left_alone(dense: np.ndarray, seed: int) -> None:
    coo, rng = sp.coo_array(dense), np.random.default_rng(seed)
    order = rng.permutation(coo.nnz)
    order = order[np.argsort(coo.row[order], kind="stable")]
    indptr = np.concatenate(([0], np.cumsum(np.bincount(coo.row, minlength=len(dense)))))
    matrix = sp.csr_array((coo.data[order], coo.col[order], indptr), shape=dense.shape)
    before = [array.copy() for array in (matrix.indptr, matrix.indices, matrix.data)]
    data = Dataset.from_arrays(matrix, some_labels(len(dense)), empty="keep")
    assert (data.to_scipy().toarray() == dense).all()
    for old, new in zip(before, (matrix.indptr, matrix.indices, matrix.data), strict=True):
        assert (old == new).all()
        assert new.flags.writeable


def test_stored_zeros_stay_and_spare_room_is_ignored() -> None:
    matrix = sp.csr_array((np.array([0.0, 2.0]), np.array([0, 1]), np.array([0, 1, 2])))
    assert Dataset.from_arrays(matrix, [0, 1]).values.tolist() == [0, 2]
    matrix.data, matrix.indices = np.append(matrix.data, 9.0), np.append(matrix.indices, 0)
    assert Dataset.from_arrays(matrix, [0, 1]).nonzeros == 2


@pytest.mark.parametrize("format", ["csr", "csc", "coo"])
def test_duplicates_are_refused_in_every_format_that_can_hold_them(format: str) -> None:
    coo = sp.coo_array((np.ones(3), ([0, 1, 1], [0, 2, 2])), shape=(2, 3))
    if format != "coo":
        major, minor = (coo.row, coo.col) if format == "csr" else (coo.col, coo.row)
        size = coo.shape[0 if format == "csr" else 1]
        indptr = np.searchsorted(major, np.arange(size + 1))
        coo = getattr(sp, f"{format}_array")((coo.data, minor, indptr), shape=coo.shape)
    assert coo.nnz == 3
    with pytest.raises(DataError, match=r"row 1 .*column 2 twice.*sum_duplicates"):
        Dataset.from_arrays(coo, [0, 1], empty="keep")


def test_empty_rows_and_columns_are_refused_unless_meant() -> None:
    rows = sp.csr_array(np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(DataError, match=r'2 rows.*: 1, 2;.*empty="keep"'):
        Dataset.from_arrays(rows, [0, 1, 1])
    with pytest.raises(DataError, match=r"1 columns.*: 1;"):
        Dataset.from_arrays(np.array([[1.0, 0.0]]), [1])
    assert Dataset.from_arrays(rows, [0, 1, 1], empty="keep").rows == 3
    with pytest.raises(ValueError, match="kep"):
        Dataset.from_arrays(rows, [0, 1, 1], empty="kep")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [[[1.0]], np.ones(3), np.ones((1, 1, 1)), sp.coo_array(np.ones(3)), "text"])
def test_what_is_no_matrix_is_refused(wrong: Any) -> None:
    with pytest.raises(DataError, match=type(wrong).__name__):
        Dataset.from_arrays(wrong, [1])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"indptr": [0]}, "at least one row.* found 1"),
        ({"indptr": [[0, 2, 2, 3]]}, r"indptr.*\(1, 4\)"),
        ({"indptr": [0.0, 2.0, 2.0, 3.0]}, "indptr.*float64"),
        ({"indptr": [1, 2, 2, 3]}, "3 entries, found 1 to 3"),
        ({"indptr": [0, 2, 2, 4]}, "3 entries, found 0 to 4"),
        ({"indptr": [0, 3, 2, 3]}, "3 and then 2 in row 1"),
        ({"indices": [0.0, 2.0, 1.0]}, "indices.*float64"),
        ({"indices": [0, 3, 1]}, "column 3 in row 0"),
        ({"indices": [0, 2, -1]}, "column -1 in row 2"),
        ({"indices": [2, 0, 1]}, "2 and then 0 in row 0.*from_arrays"),
        ({"indices": [2, 2, 1]}, "row 0 holds column 2 twice.*sum_duplicates"),
        ({"values": [5, 6]}, r"values.*\(3,\).*\(2,\)"),
        ({"values": ["a", "b", "c"]}, "values.*<U1"),
        ({"values": [5, 6, np.nan]}, "nan in row 2, column 1"),
        ({"values": [5, -np.inf, 6]}, "-inf in row 0, column 2"),
        ({"values": [5, 1e300, 6]}, r"1e\+300 in row 0, column 2; scale it down"),
        ({"labels": [1, -1]}, r"labels.*\(3,\).*\(2,\)"),
        ({"labels": [1, 2, 1]}, r"found 1, 2 \(2 in row 1\).*np.where\(y == positive, 1, -1\)"),
        ({"labels": [-1, 0, 1]}, "found -1, 0, 1; recode"),
        ({"labels": [1, np.nan, 1]}, r"nan \(nan in row 1\)"),
        ({"labels": ["no", "yes", "no"]}, r"'no', 'yes' \(no in row 0\)"),
        ({"labels": [1, None, 0]}, r"None in row 1"),
        ({"features": 0}, "features.*0"),
        ({"features": 3.0}, "features.*3.0"),
        ({"features": True}, "features.*True"),
    ],
)
def test_refusals_say_what_and_where(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        tiny(**changes)


def test_a_long_list_of_wrong_labels_is_cut_short() -> None:
    with pytest.raises(DataError, match="and 15 more"):
        Dataset(np.arange(21), np.zeros(20, int), None, np.arange(20), 1)


@pytest.mark.parametrize(
    ("labels", "signs"),
    [
        ([0, 1, 0], [-1, 1, -1]),
        ([-1.0, 1.0, -1.0], [-1, 1, -1]),
        ([True, False, True], [1, -1, 1]),
        ([1, 1, 1], [1, 1, 1]),
        ([0, 0, 0], [-1, -1, -1]),
        ([-1, -1, -1], [-1, -1, -1]),
        (np.array([0, 1, 1], np.uint8), [-1, 1, 1]),
        (np.array([0, 1, 1], object), [-1, 1, 1]),
    ],
)
def test_labels(labels: Any, signs: list[int]) -> None:
    data = tiny(labels=labels)
    assert data.labels.tolist() == signs
    assert data.positives == signs.count(1)


def test_rows_boundaries_may_fall_back_and_rows_may_be_empty() -> None:
    data = Dataset([0, 0, 1, 2, 2], [2, 0], None, [1, 1, 0, 0], 3)
    assert data.to_scipy().toarray().tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert Dataset([0, 0], [], None, [1], 1).nonzeros == 0


def test_wide_data_has_wide_columns_and_the_rest_narrow() -> None:
    assert Dataset([0, 1], [2**31 - 1], None, [1], 2**31).indices.dtype == np.int32
    wide = Dataset([0, 1], [2**31], None, [1], 2**31 + 1)
    assert wide.indices.dtype == np.int64
    assert wide.indices[0] == 2**31
    edge = Dataset([0, 1], [5], None, [1], 2**31).with_intercept()
    assert edge.indices.tolist() == [5, 2**31]


def test_ones_are_not_stored_and_the_digest_does_not_care() -> None:
    given, none = tiny(values=[1.0, 1.0, 1.0]), tiny(values=None)
    assert given.values is None
    assert given == none
    assert given.digest == none.digest
    assert hash(given) == hash(none)


def test_digest_is_pinned_and_sees_every_part_but_the_name() -> None:
    base = tiny()
    assert base.digest == "e6c562c0b80d8001"
    assert tiny(name="other", labels=[1.0, 0.0, 1.0]) == base
    changed = [
        tiny(indptr=[0, 2, 3, 3]),
        tiny(indices=[0, 1, 1]),
        tiny(values=[5, 6, 8]),
        tiny(values=None),
        tiny(labels=[1, 1, 1]),
        tiny(features=4),
    ]
    assert len({data.digest for data in (base, *changed)}) == 7
    assert base != "a data set"


def test_nothing_can_be_changed() -> None:
    indices = np.array([0, 2, 1], np.int32)
    data = tiny(indices=indices)
    indices[0] = 1
    assert data.indices[0] == 0
    for array in (data.indptr, data.indices, data.values, data.labels):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(FrozenInstanceError):
        data.features = 9  # type: ignore[misc]


def test_read_only_arrays_of_the_right_type_are_shared() -> None:
    indices = np.array([0, 2, 1], np.int32)
    indices.flags.writeable = False
    data = tiny(indices=indices)
    assert np.shares_memory(data.indices, indices)
    matrix = data.to_scipy()
    assert np.shares_memory(matrix.indices, indices)
    assert np.shares_memory(matrix.data, data.values)
    assert matrix.dtype == np.float32


@given(dense=matrices)
def test_intercept_is_a_last_column_of_ones(dense: np.ndarray) -> None:
    data = Dataset.from_arrays(dense, some_labels(len(dense)), empty="keep", name="named")
    more = data.with_intercept()
    assert (more.to_scipy().toarray() == np.column_stack([dense, np.ones(len(dense))])).all()
    assert (more.values is None) == (data.values is None)
    assert more is data.with_intercept()
    assert more.source is None
    assert (more.labels == data.labels).all()
    assert more.name == "named"


@given(dense=matrices, numbers=st.lists(st.integers(0, 1000), min_size=1, max_size=8))
def test_take_is_numpy_indexing(dense: np.ndarray, numbers: list[int]) -> None:
    rows = np.array(numbers) % len(dense)
    data = Dataset.from_arrays(dense, some_labels(len(dense)), empty="keep", name="whole")
    part = data.take(rows)
    assert (part.to_scipy().toarray() == dense[rows]).all()
    assert (part.labels == data.labels[rows]).all()
    assert part.features == data.features
    assert data.take(rows, name="part").name == "part"
    assert part.name == f"{len(rows):,} row{'s' * (len(rows) != 1)} of whole"
    assert data.take([0]).name == f"1 row of {data.name}"
    assert part.source is None


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([0, 3], "from 0 to 2, found 3 at place 1"),
        ([-1], "found -1"),
        ([True, False, True], "np.flatnonzero"),
        ([0.5], "float64"),
        ([], "at least one row"),
    ],
)
def test_take_refuses(rows: list[Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        tiny().take(rows)


def test_repr() -> None:
    assert repr(tiny(name="t")) == "Dataset('t', 3 x 3, 3 non-zeros, 2 positive)"


def test_importing_the_room_is_light() -> None:
    code = "import sys, qsim.datasets; print([m for m in ('scipy', 'pandas', 'numba') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


MASKED = np.ma.array([0, 1], mask=[False, True])


@pytest.mark.parametrize("name", ["indptr", "indices", "values", "labels"])
def test_masked_arrays_are_refused(name: str) -> None:
    parts = {"indptr": [0, 1, 2], "indices": [0, 1], "values": [1.0, 2.0], "labels": [0, 1]}
    with pytest.raises(DataError, match=rf"^{name} is a masked array, whose mask would be lost; leave .*filled\(0\)"):
        Dataset(**(parts | {name: np.ma.array(parts[name], mask=False)}), features=2)


def test_masked_matrices_rows_and_weights_are_refused() -> None:
    with pytest.raises(DataError, match="the matrix is a masked array"):
        Dataset.from_arrays(np.ma.array(np.eye(2), mask=np.eye(2)), [0, 1])
    with pytest.raises(DataError, match="rows is a masked array"):
        tiny().take(MASKED)
    for quantize in (lambda: qsim.QSGD(2).quantize(MASKED, qsim.Key(0)), lambda: qsim.batch.Vectors.dense(MASKED)):
        with pytest.raises(ValueError, match="is a masked array"):
            quantize()
    with pytest.raises(ValueError, match="w is a masked array"):
        qsim.LogisticRegression(0.1).value(np.ma.array(np.zeros(tiny().features), mask=True), tiny())


@pytest.mark.parametrize("kind", ["csc", "bsr", "coo"])
@pytest.mark.parametrize("place", [-5, 10**8])
def test_broken_matrices_are_refused(kind: str, place: int) -> None:
    """SciPy changes their format without a look at them, and ended the process."""
    matrix = sp.csr_array(np.ones((4, 3))).asformat(kind)
    (matrix.coords[0] if kind == "coo" else matrix.indices)[0] = place
    with pytest.raises(DataError, match="the matrix is not sound|rows must be from 0 to 3"):
        Dataset.from_arrays(matrix, [1, 0, 1, 0])


@pytest.mark.parametrize("features", [10**30, 2**63, np.array([3]), np.array([3, 3])], ids=str)
def test_more_features_than_can_be_counted(features: object) -> None:
    with pytest.raises(DataError, match="features must be a whole number"):
        Dataset([0, 1], [0], None, [1], features)  # type: ignore[arg-type]
