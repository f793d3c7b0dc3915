"""Many small steps with l2: the kernels against a plain loop, whatever the way of shrinking."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from qsim.block import Block, Rows
from qsim.datasets import Dataset, Shards
from qsim.l2_decay import EveryStep, GlobalScale, JustInTime, L2Decay
from qsim.methods import LocalSGD, Passes, WithReplacement
from qsim.steps import Constant, InverseTime
from qsim.weights import Replica, Weights

WAYS = (GlobalScale(), JustInTime(), EveryStep())


def by_formula(
    shards: Shards, rows: Rows, batch: int | None, w: np.ndarray, steps: np.ndarray, l2: float
) -> np.ndarray:
    """The local steps by the formula, dense and in float64: prod (1 - a l2) w - u_H of each worker."""
    data = shards.dataset
    x, y = data.to_scipy().toarray().astype(float), data.labels.astype(float)
    out = np.zeros((shards.workers, data.features))
    for worker in range(shards.workers):
        mine = rows.index[rows.offsets[worker] : rows.offsets[worker + 1]]
        u, still = w.astype(float), w.astype(float)
        for h, a in enumerate(steps.tolist()):
            chosen = mine if batch is None else mine[h * batch : (h + 1) * batch]
            gradient = np.zeros_like(u)
            for i in chosen:
                gradient -= y[i] / (1 + np.exp(y[i] * (x[i] @ u))) * x[i] / len(chosen)
            u, still = (1 - a * l2) * u - a * gradient, (1 - a * l2) * still
        out[worker] = still - u
    return out


def local_steps(shards: Shards, rows: Rows, batch: int | None, w: Replica, steps: np.ndarray, l2: float, way: L2Decay):
    block = Block(shards, 0, shards.workers)
    return qsim.LogisticRegression(l2=l2).local_steps(block, rows, batch, w, steps, way)


@st.composite
def problems(draw: st.DrawFn):
    """Shards with empty workers and unused columns, rows for every step, weights, steps."""
    data = Dataset(
        [0, 2, 2, 5, 6, 9],
        [0, 4, 1, 2, 4, 6, 0, 1, 4],
        None if draw(st.booleans()) else np.linspace(-1.5, 1.5, 9).astype(np.float32),
        [1, 0, 1, 1, 0],
        features=8,
    )
    shards = Shards(data, np.array([3, 0, 1, 4, 2]), np.array([0, 2, 2, 5]))
    count = draw(st.integers(1, 12))
    batch = draw(st.sampled_from([None, 1, 3]))
    rows = Block(shards, 0, 3).all_rows()
    if batch is not None:
        chosen = st.lists(st.sampled_from([3, 0]), min_size=count * batch, max_size=count * batch)
        others = st.lists(st.sampled_from([1, 4, 2]), min_size=count * batch, max_size=count * batch)
        index = np.array(draw(chosen) + draw(others))
        rows = Rows(index, np.array([0, count * batch, count * batch, 2 * count * batch]))
    steps = np.array(draw(st.lists(st.floats(0.01, 2.0), min_size=count, max_size=count)))
    l2 = draw(st.sampled_from([0.0, 1e-3, 0.3, 0.49]))
    w = np.random.default_rng(draw(st.integers(0, 9))).normal(size=8).astype(np.float32)
    return shards, rows, batch, w, steps, l2


@given(problem=problems())
def test_every_decay_follows_the_formula(problem) -> None:
    """To float32's rounding: 12 steps that move numbers of about 1 by up to 2."""
    shards, rows, batch, w, steps, l2 = problem
    right = by_formula(shards, rows, batch, w, steps, l2)
    data, touched = shards.dataset, np.zeros(right.shape, bool)
    for worker, (first, last) in enumerate(zip(rows.offsets[:-1], rows.offsets[1:], strict=True)):
        for i in rows.index[first:last]:
            touched[worker, data.indices[data.indptr[i] : data.indptr[i + 1]]] = True
    for way in WAYS:
        found = local_steps(shards, rows, batch, Replica(w / 4, 4.0), steps, l2, way)
        assert found.index is not None
        np.testing.assert_allclose(found.to_dense(), right, atol=2e-5)
        assert not found.to_dense()[~touched].any()  # exactly


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("ones", [False, True])
def test_rows_of_many_nonzeros_follow_the_formula(batch: int, ones: bool) -> None:
    """More than four, which are added in chains, and more than there is room for at first."""
    sizes, random = [3, 65, 64, 700, 129, 5000], np.random.default_rng(1)
    index = np.concatenate([np.sort(random.permutation(6000)[:size]) for size in sizes])
    values = None if ones else random.standard_normal(index.size).astype(np.float32)
    data = Dataset([0, *np.cumsum(sizes)], index, values, [1, 0, 0, 1, 1, 0], features=6000)
    shards, rows = Shards(data, np.arange(6), np.array([0, 6])), Rows(np.arange(6), np.array([0, 6]))
    w, steps = random.standard_normal(6000).astype(np.float32) / 50, np.full(6 // batch, 0.1)
    right = by_formula(shards, rows, batch, w, steps, 0.3)
    for way in WAYS:
        found = local_steps(shards, rows, batch, Replica(w / 4, 4.0), steps, 0.3, way)
        np.testing.assert_allclose(found.to_dense(), right, atol=2e-6, err_msg=repr(way))


@pytest.mark.parametrize("way", WAYS, ids=repr)
@pytest.mark.parametrize(
    "steps",
    [np.full(3000, 1.8), np.geomspace(1.9, 1e-3, 3000), np.repeat([1.8, 1e-5], [271, 2729])],
    ids=["constant", "falling", "nothing is left, then it stays"],
)
def test_many_steps_neither_underflow_nor_drift(way: L2Decay, steps: np.ndarray) -> None:
    """With a l2 of up to 0.95 the product of all shrinkings is far below 1e-300."""
    data = Dataset([0, 1, 2, 3], [0, 2, 3], np.float32([0.5, 1.0, 2.0]), [1, 0, 1], features=4)
    shards = Shards(data, np.array([0, 1, 2]), np.array([0, 3]))
    index = np.zeros(3000, np.int64)
    index[[0, 1500, 1501, 2990]] = 1  # the second row is hardly ever read, the third is not
    rows = Rows(index, np.array([0, 3000]))
    w = np.float32([3.0, 5.0, -2.0, 1e30])
    found = local_steps(shards, rows, 1, Replica(w), steps, 0.5, way).to_dense()
    right = by_formula(shards, rows, 1, w, steps, 0.5)
    assert np.prod(1 - 0.5 * steps) < 1e-200
    np.testing.assert_allclose(found, right, rtol=1e-4)
    assert found[0, [1, 3]].tolist() == [0, 0]


@given(batch=st.sampled_from([None, 1, 2]), shuffled=st.booleans())
def test_any_objective_takes_local_steps(batch: int | None, shuffled: bool) -> None:
    """The local steps of the contract, made of updates, does what the kernels do."""

    @qsim.option
    class Plain(qsim.objectives.LinearModel):
        l2: float

        def loss(self, margins, labels):
            return np.logaddexp(0, -labels * margins)

        def slope(self, margins, labels):
            return -labels / (1 + np.exp(labels * margins))

        def curvature(self, margins, labels):
            return np.exp(-abs(margins)) / (1 + np.exp(-abs(margins))) ** 2

        def curvature_bound(self):
            return 0.25

    data = qsim.datasets.Synthetic(rows=40, features=12, nonzeros_per_row=3, seed=2).load()
    method = LocalSGD(Constant(0.5), steps=6, batch=batch, sampling=Passes() if shuffled else WithReplacement())
    run = qsim.Run(data, Plain(0.05), method, workers=3, rounds=4, optimum=False)
    found, right = qsim.simulate(run), qsim.simulate(replace(run, objective=qsim.LogisticRegression(0.05)))
    np.testing.assert_allclose(found.weights, right.weights, atol=2e-6)
    assert found.frame["passes"].tolist() == right.frame["passes"].tolist()
    with pytest.raises(ValueError, match=r"Plain takes local steps with decay=qsim.l2_decay.GlobalScale\(\) only"):
        qsim.simulate(replace(run, method=replace(method, decay=JustInTime())))


def test_many_steps_of_any_objective_do_not_underflow() -> None:
    """(1 - a l2)^H = 0.95^20000 is 1e-445: least squares came to not-a-number from some 2,000 steps on."""
    source = qsim.datasets.Quadratics(smoothness=(1.0, 2.0), mu=0.5, heterogeneity=1.0, features=3)
    method = LocalSGD(Constant(0.1), steps=20_000, batch=None)
    objective = qsim.objectives.LeastSquares(l2=0.5)
    run = qsim.Run(source, objective, method, workers=2, partition=qsim.datasets.Contiguous(), rounds=2)
    problem = run.problem()
    rows = np.array_split(np.arange(problem.data.rows), 2)
    ends = []
    for own in rows:
        x = problem.data.to_scipy().toarray()[own].astype(float)
        hessian = x.T @ x / own.size + 0.5 * np.eye(3)
        ends.append(np.linalg.solve(hessian, x.T @ problem.data.labels[own] / own.size))
    np.testing.assert_allclose(qsim.simulate(run).weights, np.mean(ends, axis=0), rtol=1e-5)


def test_ways_are_one_method() -> None:
    """Runs differ in rounding alone, over many rounds and with steps that fall."""
    data = qsim.datasets.Synthetic(rows=60, features=300, nonzeros_per_row=5, seed=4).load()
    method = LocalSGD(InverseTime(2.0, 250.0), steps=50)
    run = qsim.Run(data, qsim.LogisticRegression(l2=1e-2), method, workers=4, rounds=20)
    scaled, late, dense = (qsim.simulate(replace(run, method=replace(method, decay=way))).weights for way in WAYS)
    np.testing.assert_allclose(scaled, dense, atol=4e-6)  # 1,000 steps, each to a rounding of 6e-8
    np.testing.assert_allclose(late, dense, atol=4e-6)
    assert np.abs(dense).max() > 0.5


def test_a_million_shrinkings_are_as_good_as_stated() -> None:
    """At most k 2^-53 off after k of them, against 50 digits; the product is e^-1000, so plain floats underflow."""
    w = Weights(np.array([1.0]))
    logarithm = 0.0
    for _ in range(1_000_000):
        w.shrink(1 - 1e-3)
        if w.scale == 1.0:  # multiplied in: take it out, so that nothing is too small to be compared
            logarithm += np.log(w.vector[0])
            w.vector[:] = 1.0
    getcontext().prec = 50
    right = (1 - Decimal("1e-3")).ln() * 1_000_000
    assert abs(logarithm + np.log(w.scale) - float(right)) < 1_000_000 * 2.0**-53 + 1e-12


def test_what_is_no_shrinkage_is_refused() -> None:
    with pytest.raises(TypeError, match=r"decay must be one of qsim.l2_decay.*found 'lazy'"):
        LocalSGD(Constant(1.0), decay="lazy")
