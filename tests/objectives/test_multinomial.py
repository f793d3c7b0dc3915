"""Multinomial logistic regression: against plain Python, SciPy and dense Hessians; workers with K weights a feature."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import qsim
from helpers.rows import as_dicts
from oracles import multiclass
from qsim.batch import Memory
from qsim.block import Block, Rows
from qsim.datasets import Dataset, Dirichlet
from qsim.objectives import MultinomialLogistic, NoOptimumError
from qsim.weights import Replica
from qsim.workers.group import WorkerGroup
from qsim.workers.tasks import Job

pytestmark = pytest.mark.quick


def made(rows: int, features: int, classes: int, seed: int, share: float = 0.4, ones: bool = False) -> Dataset:
    """Sparse rows of a true softmax model."""
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((rows, features)) * (random.random((rows, features)) < share)
    matrix = (matrix != 0).astype(float) if ones else matrix
    margins = matrix @ random.standard_normal((features, classes)) * 2
    labels = np.argmax(margins + random.gumbel(size=margins.shape), axis=1)
    return Dataset.from_arrays(matrix, labels, empty="keep", kind="classes", classes=classes)


problems = st.builds(
    lambda rows, features, classes, seed, ones: (made(rows, features, classes, seed, ones=ones), classes),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(2, 5),
    st.integers(0, 10**6),
    st.booleans(),
)
DATA = made(300, 20, 5, seed=0)
OBJECTIVE = MultinomialLogistic(l2=0.01, classes=5)


def dense_hessian(data: Dataset, w: np.ndarray, classes: int) -> np.ndarray:
    """Return the Hessian of the mean loss, by Kronecker products of the oracle's probabilities."""
    rows = as_dicts(data)
    chances = multiclass.softmax(w.tolist(), rows, data.labels.tolist(), classes, 0.0)[2]
    total = np.zeros((w.size, w.size))
    for x, p in zip(data.to_scipy().toarray().astype(np.float64), map(np.array, chances), strict=True):
        total += np.kron(np.outer(x, x), np.diag(p) - np.outer(p, p)) / data.rows
    return total


@given(problems, st.sampled_from([0.0, 0.1]), st.sampled_from([0.1, 3.0, 300.0]))
def test_value_and_gradient_are_the_oracles(problem: tuple[Dataset, int], l2: float, size: float) -> None:
    data, classes = problem
    objective = MultinomialLogistic(l2, classes)
    w = size * np.random.default_rng(0).standard_normal(data.features * classes)
    value, gradient, chances = multiclass.softmax(w.tolist(), as_dicts(data), data.labels.tolist(), classes, l2)
    found, slope = objective.value_and_gradient(w, data)
    assert found == pytest.approx(value, rel=1e-12, abs=1e-13 * size)
    np.testing.assert_allclose(slope, gradient, rtol=1e-10, atol=1e-13 * size)
    margins = data.to_scipy().toarray().astype(np.float64) @ w.reshape(-1, classes)
    wrong = [1 - (z[y] == max(z)) / z.count(max(z)) for z, y in zip(margins.tolist(), data.labels, strict=True)]
    assert objective.error(w, data) == np.mean(wrong)
    assert objective.error(0 * w, data) == pytest.approx(1 - 1 / classes)  # all tie: one is drawn
    assert len(chances[0]) == classes


@pytest.mark.parametrize("size", [1e4, 800.0])
def test_stable_at_large_margins(size: float) -> None:
    data = Dataset.from_arrays(np.ones((3, 1)), [0, 1, 2], kind="classes")
    value, gradient = MultinomialLogistic(0.0, 3).value_and_gradient(np.array([size, 0.0, -size]), data)
    assert value == pytest.approx(size, rel=1e-15)
    np.testing.assert_allclose(gradient, [2 / 3, -1 / 3, -1 / 3], atol=1e-15)


@given(problems, st.integers(1, 12), st.booleans(), st.data())
@settings(max_examples=40)
def test_workers_against_the_oracle(
    problem: tuple[Dataset, int], workers: int, exact: bool, draw: st.DataObject
) -> None:
    """Updates, losses and products of all rows and of a batch, in float32 and float64, where workers have moved."""
    data, classes = problem
    workers, dtype = min(workers, data.rows), np.float64 if exact else np.float32
    shards = Dirichlet(0.5).split(data, workers, qsim.Key(draw.draw(st.integers(0, 1000)))).of_width(classes)
    block, random = Block(shards, 0, workers), np.random.default_rng(1)
    w, v = random.standard_normal((2, data.features * classes)).astype(dtype)
    moved = Memory.zeros(block.support, "moved")
    moved.arrays["moved"] = random.standard_normal(block.support.offsets[-1]).astype(dtype)
    held = [0.5 * (w - m) for m in moved.vectors("moved").to_dense()]
    owned = np.split(shards.order, shards.offsets[1:-1])
    picks = [draw.draw(st.lists(st.sampled_from(own.tolist()), max_size=5)) if own.size else [] for own in owned]
    some = Rows(np.array([r for pick in picks for r in pick], np.int64), np.cumsum([0, *map(len, picks)]))
    objective = MultinomialLogistic(0.7, classes)
    tight = {"rtol": 1e-10, "atol": 1e-12} if exact else {"rtol": 1e-4, "atol": 1e-5}
    for rows, per_worker in ((block.all_rows(), [own.tolist() for own in owned]), (some, picks)):
        at = Replica(w, 0.5, moved.arrays["moved"])
        update = objective.update(block, rows, at, 0.25)
        product, losses = objective.hvp(block, rows, at, v), objective.losses(block, rows, at)
        assert update.value.dtype == product.value.dtype == dtype
        assert (update.n, product.n, losses.n) == (data.features * classes, data.features * classes, 1)
        for worker, own in enumerate(per_worker):
            index = update.index[update.offsets[worker] : update.offsets[worker + 1]].tolist()
            columns = sorted({j for r in (own if rows is some else owned[worker]) for j in entries(data, r)})
            assert index == [j * classes + c for j in columns for c in range(classes)]
            if not own:
                assert not update.to_dense()[worker].any()
                assert losses.value[worker] == 0
                continue
            part = data.take(own)
            value, gradient, _ = multiclass.softmax(
                held[worker].astype(float).tolist(), as_dicts(part), part.labels.tolist(), classes, 0.0
            )
            np.testing.assert_allclose(update.to_dense()[worker], 0.25 * np.array(gradient), **tight)
            assert losses.value[worker] == pytest.approx(value, rel=1e-4 if not exact else 1e-12)
            hessian = dense_hessian(part, held[worker].astype(float), classes)
            np.testing.assert_allclose(product.to_dense()[worker], hessian @ v, **tight)


def entries(data: Dataset, row: int) -> list[int]:
    return data.indices[data.indptr[row] : data.indptr[row + 1]].tolist()


def test_the_weights_of_workers() -> None:
    """What `held` gives is what margins are taken with."""
    shards = Dirichlet(0.5).split(DATA, 3, qsim.Key(2)).of_width(5)
    block, random = Block(shards, 1, 3), np.random.default_rng(0)
    w = random.standard_normal(100)
    moved = random.standard_normal(block.support.offsets[-1])
    for at in (Replica(w), Replica(w, 0.5), Replica(w, 0.5, moved)):
        rows = block.all_rows()
        margins = block.margins(rows, at)
        for worker, held in enumerate(block.held(at)):
            low, high = rows.offsets[worker : worker + 2]
            matrix = DATA.to_scipy()[rows.index[low:high]].astype(np.float64)
            np.testing.assert_allclose(margins[low:high], matrix @ held.reshape(-1, 5), rtol=1e-12, atol=1e-12)
    assert np.array_equal(w, np.random.default_rng(0).standard_normal(100))  # left as it was


def test_the_optimum_is_scipys() -> None:
    found = OBJECTIVE.optimum(DATA)
    assert found.gradient_norm <= 1e-10
    matrix, y = DATA.to_scipy().toarray().astype(np.float64), DATA.labels

    def value(w: np.ndarray) -> float:
        z = matrix @ w.reshape(20, 5)
        return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(300), y]) + 0.005 * w @ w

    near = minimize(value, np.zeros(100), method="BFGS", options={"gtol": 1e-6})
    assert found.value <= near.fun <= found.value + 1e-9
    np.testing.assert_allclose(found.weights, near.x, atol=1e-3)
    assert OBJECTIVE.error(found.weights, DATA) == np.mean(np.argmax(matrix @ found.weights.reshape(20, 5), 1) != y)


def test_the_hessian_that_solves_for_it() -> None:
    w, v = np.random.default_rng(0).standard_normal((2, 100))
    np.testing.assert_allclose(
        OBJECTIVE.hessian(w, DATA)(v), dense_hessian(DATA, w, 5) @ v + 0.01 * v, rtol=1e-9, atol=1e-12
    )


def test_two_classes_are_logistic_regression() -> None:
    """With u = w_1 - w_0 the loss is that of u; of all such w the smallest is -w_0 = w_1 = u / 2, so l2 doubles."""
    data = qsim.datasets.load("spark_sample")
    classes = Dataset(data.indptr, data.indices, data.values, data.labels == 1, 16, kind="classes")
    two = MultinomialLogistic(0.2, 2, intercept=True).optimum(classes)
    one = qsim.LogisticRegression(0.1, intercept=True).optimum(data)
    assert two.value == pytest.approx(one.value, rel=1e-12)
    np.testing.assert_allclose(two.weights.reshape(17, 2) @ [-1, 1], one.weights, atol=1e-9)


def test_smoothness_holds_and_is_attained() -> None:
    """At weights where two classes share the probability of all rows, the Hessian's largest eigenvalue is the bound."""
    exact = np.linalg.norm(DATA.to_scipy().toarray().astype(np.float64), 2) ** 2 / (2 * DATA.rows)
    assert OBJECTIVE.smoothness(DATA) == pytest.approx(0.01 + exact, rel=1e-6)
    wide = Dataset.from_arrays(sp.hstack([DATA.to_scipy(), np.ones((300, 1))]), DATA.labels, kind="classes")
    random = np.random.default_rng(0)
    for scale in (0.1, 1.0, 10.0):
        w = scale * random.standard_normal(105)
        assert np.linalg.eigvalsh(dense_hessian(wide, w, 5))[-1] <= OBJECTIVE.smoothness(wide) - 0.01
    shared = np.zeros((21, 5))
    shared[20] = [100, 100, 0, 0, 0]
    top = np.linalg.eigvalsh(dense_hessian(wide, shared.ravel(), 5))[-1]
    assert top == pytest.approx(OBJECTIVE.smoothness(wide) - 0.01, rel=1e-6)
    shards = Dirichlet(0.5).split(DATA, 4, qsim.Key(1)).of_width(5)
    for own, rows in zip(
        OBJECTIVE.worker_smoothness(shards), np.split(shards.order, shards.offsets[1:-1]), strict=True
    ):
        matrix = DATA.to_scipy()[rows].toarray().astype(np.float64)
        assert own == pytest.approx(0.01 + np.linalg.norm(matrix, 2) ** 2 / (2 * max(rows.size, 1)), rel=1e-6)


METHODS = [
    qsim.SGD(step=qsim.steps.Constant(0.3), batch=4),
    qsim.methods.LocalSGD(step=qsim.steps.Constant(0.1), steps=3, batch=4),
    qsim.methods.DIANA(),
    qsim.methods.NewtonCG(gradients="compressed"),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_the_same_bits_everywhere(method: qsim.methods.Method, tmp_path: Any) -> None:
    run = qsim.Run(DATA, OBJECTIVE, method, qsim.QSGD(4), workers=5, rounds=8, partition=Dirichlet(1.0))
    trace = qsim.simulate(run)
    assert trace.frame["suboptimality"].iloc[-1] < 0.8 * trace.frame["suboptimality"].iloc[0]
    blocks = qsim.simulate(run, engine=qsim.engines.Serial(block=2, threads=2), checkpoint=tmp_path / "a.npz", every=3)
    assert blocks.weights.tobytes() == trace.weights.tobytes()
    assert blocks.frame.equals(trace.frame)


def test_the_same_bits_in_processes() -> None:
    run = qsim.Run(DATA, OBJECTIVE, METHODS[0], qsim.ErrorFeedback(qsim.TopK(7)), workers=5, rounds=5)
    assert qsim.simulate(run, engine=qsim.engines.Processes(2)).frame.equals(qsim.simulate(run).frame)


def test_shards_of_another_width_are_refused() -> None:
    block = Block(Dirichlet(0.5).split(DATA, 3, qsim.Key(2)), 0, 3)
    with pytest.raises(ValueError, match=r"width 1 are for 20 weights, found 100; .* shards\.of_width"):
        OBJECTIVE.update(block, block.all_rows(), Replica(np.zeros(100)), 1.0)


def test_blocks_of_workers_are_as_small_as_their_weights_are_many() -> None:
    data = made(400, 2000, 2, seed=1, share=0.05)
    jobs = [
        Job(
            qsim.datasets.Shuffled().split(data, 100, qsim.Key(0)).of_width(classes),
            MultinomialLogistic(0.1, classes),
            qsim.GradientDescent(),
            qsim.Channel(qsim.QSGD(2), codec),
            qsim.Key(0),
        )
        for codec in (None, qsim.codecs.Dense())
        for classes in (10, 100)
    ]
    sizes = [WorkerGroup(job, 0, 100)._blocks[0].block.workers for job in jobs]
    assert sizes[0] == pytest.approx(10 * sizes[1], abs=10)
    assert sizes[2] == pytest.approx(10 * sizes[3], abs=10)
    assert sizes[1] < sizes[0] < 100
    assert sizes[3] == 1


def test_messages_hold_what_rows_touch() -> None:
    """Of a batch of one row with k entries come at most 5 k numbers."""
    run = qsim.Run(DATA, OBJECTIVE, qsim.SGD(step=qsim.steps.Constant(0.1)), workers=1, rounds=20, optimum=False)
    sent = qsim.simulate(replace(run, codec=qsim.codecs.SparseFloats())).frame["nonzeros"].to_numpy()[1:]
    sizes = 5 * np.diff(DATA.indptr)
    assert set(sent.tolist()) <= set(sizes.tolist())
    assert sent.max() < 100


@pytest.mark.parametrize(
    ("bad", "told"), [({"l2": -1}, "l2"), ({"classes": 1}, "classes must be a whole number of at least 2")]
)
def test_bad_options(bad: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(OBJECTIVE, **bad)


def test_no_optimum_without_l2_and_no_wrong_weights() -> None:
    with pytest.raises(NoOptimumError, match=r"no one minimum.*Use l2 > 0"):
        MultinomialLogistic(0.0, 5).optimum(DATA)
    with pytest.raises(ValueError, match=r"w must have shape \(100,\)"):
        OBJECTIVE.value(np.zeros(20), DATA)
    assert MultinomialLogistic(0.1, 7).value(np.zeros(140), DATA) == pytest.approx(np.log(7))  # two without rows
