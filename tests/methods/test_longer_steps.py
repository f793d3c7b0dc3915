"""The steps that are derived in docs/theory.md: bounds hold on problems with known constants, and are not idle."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import qsim
from helpers.bounds import SEEDS, beyond
from qsim.clients import SampledClients
from qsim.compressors import Identity, RandK, Scaled, ScaledSign, ThreePCv2, TopK
from qsim.datasets import ByLabel, Contiguous, Dirichlet, Quadratics
from qsim.methods import (
    DIANA,
    EF21,
    SGD,
    Fatkhullin2023,
    Gorbunov2020,
    GradientDescent,
    Method,
    Passes,
    RareFeatures,
    Richtarik2021,
    Richtarik2024,
    Sadiev2024,
)
from qsim.objectives import LeastSquares, NonconvexLogistic, WithRegulariser
from qsim.problem import Problem
from qsim.steps import Constant

SKEWED = qsim.Run(
    Quadratics((1.0, 2.0, 4.0, 8.0, 20.0), mu=0.5, heterogeneity=1.0),
    LeastSquares(l2=0.0),
    DIANA(),
    workers=5,
    partition=Contiguous(),
    rounds=400,
)


def rare() -> qsim.datasets.Dataset:
    """Rows of four features each, none of which is in many of them."""
    random = np.random.default_rng(0)
    columns = np.sort(np.argsort(random.random((120, 200)), axis=1)[:, :4], axis=1)
    labels = np.where(random.random(120) < 0.5, -1, 1)
    return qsim.datasets.Dataset(4 * np.arange(121), columns.ravel(), 4 * random.standard_normal(480), labels, 200)


SPARSE = qsim.Run(
    rare(),
    qsim.LogisticRegression(l2=0.1),
    EF21(),
    workers=12,
    partition=ByLabel(),
    rounds=400,
)
BOUNDED: list[tuple[qsim.Run, Method, qsim.compressors.Compressor, dict, float]] = [
    (SKEWED, DIANA(), Identity(), {}, 1.2),
    (SKEWED, DIANA(), RandK(2), {}, 4),
    (SKEWED, DIANA(), RandK(2), {"clients": SampledClients(2)}, 4),
    (SPARSE, DIANA(), RandK(50), {}, 16),
    (SKEWED, EF21(), TopK(2), {}, 64),
    (SKEWED, EF21(), TopK(2), {"clients": SampledClients(2)}, 128),
    (SPARSE, EF21(), TopK(30), {"partition": Dirichlet(0.5)}, 256),
    (SPARSE, EF21(RareFeatures()), TopK(30), {}, 16),
    (SPARSE, EF21(RareFeatures(), shifts="gradient"), TopK(30), {}, 16),
    (SPARSE, EF21(RareFeatures()), TopK(30), {"clients": SampledClients(6)}, 64),
    (SPARSE, EF21(RareFeatures()), TopK(30), {"partition": Dirichlet(0.5)}, 64),
    (SKEWED, EF21(), ThreePCv2(RandK(2), TopK(2)), {"rounds": 150}, 16),
    (SKEWED, EF21(momentum=0.5), ThreePCv2(qsim.QSGD(4), TopK(2)), {"rounds": 150}, 64),
    (SPARSE, EF21(shifts="gradient"), ThreePCv2(RandK(30), TopK(30)), {"rounds": 150}, 256),
    (SKEWED, EF21(momentum=0.3), TopK(2), {}, 128),
    (SKEWED, EF21(momentum=0.3, shifts="gradient"), Scaled(qsim.QSGD(1)), {}, 128),
]


@pytest.mark.parametrize(("run", "method", "compressor", "changes", "far"), BOUNDED, ids=lambda x: repr(x)[:40])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of runs that diverge
def test_bounds_hold_and_far_longer_steps_break_them(run, method, compressor, changes, far: float) -> None:
    run = replace(run, method=method, compressor=compressor, **changes)
    assert beyond(run) <= 1
    assert beyond(run, far) > 1


def test_without_compression_the_step_of_diana_is_the_best_there_is() -> None:
    """2/(L + mu), at which the ends of the spectrum shrink alike: the factor is met, from a start in both."""
    run = replace(SKEWED, method=DIANA(), rounds=60)
    problem = run.problem()
    big, small = problem.smoothness, problem.strong_convexity
    assert run.method.resolved(problem).step(0) == pytest.approx(2 / (big + small), rel=1e-9)
    found = qsim.simulate(run).axis("suboptimality")
    assert found[60] / found[40] == pytest.approx(run.bound().factor ** 20, rel=1e-3)
    assert run.bound().factor == pytest.approx(((big - small) / (big + small)) ** 2, rel=1e-9)


def owners(problem: Problem) -> np.ndarray:
    """Which worker owns which feature, from the dense rows: shape (workers, n)."""
    rows, shards = problem.shards.dataset.to_scipy().toarray(), problem.shards
    return np.array([(rows[shards.order[low:high]] != 0).any(axis=0) for low, high in pairwise(shards.offsets)])


def gradients(problem: Problem, w: np.ndarray) -> np.ndarray:
    """What each worker's rows say of the gradient: shape (workers, n)."""
    block = qsim.block.Block(problem.shards, 0, problem.workers)
    return problem.objective.update(block, block.all_rows(), qsim.weights.Replica(w), 1.0).to_dense()


@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.2)], ids=repr)
def test_the_smoothness_of_features_is_that_of_dense_formulas(partition) -> None:
    problem = replace(SPARSE, partition=partition).problem()
    parts = problem.weights * (problem.worker_smoothness - 0.1)
    assert problem.sent_smoothness == pytest.approx(problem.worker_smoothness - 0.1, rel=1e-12)
    assert problem.feature_smoothness == pytest.approx((parts @ owners(problem)).max(), rel=1e-12)
    assert problem.feature_smoothness < 0.75 * parts.sum()


@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.2)], ids=repr)
def test_the_step_of_rare_features_is_that_of_dense_formulas(partition) -> None:
    """Top-14 of r_i weights; a worker that owns no more than 14 leaves nothing out."""
    run = replace(SPARSE, method=EF21(RareFeatures()), compressor=TopK(14), partition=partition, workers=30)
    problem = run.problem()
    owned = owners(problem)
    delta = np.minimum(14 / np.maximum(owned.sum(axis=1), 1), 1.0)
    assert (delta == 1).any()
    assert problem.worker_contractions == pytest.approx(delta, rel=1e-12)
    theta, late = 1 - np.sqrt(1 - delta), np.sqrt(1 - delta) / (1 - np.sqrt(1 - delta))
    several = (problem.weights * problem.sent_smoothness * late @ owned).max()
    step = min(1 / (problem.smoothness + np.sqrt(2) * several), theta.min() / 0.2)
    assert run.method.resolved(problem).step(0) == pytest.approx(step, rel=1e-12)
    sent = gradients(problem, problem.start)
    parts = np.divide(problem.weights, problem.sent_smoothness, where=problem.sent_smoothness > 0, out=np.zeros(30))
    error = several * (parts * np.sqrt(1 - delta)) @ (sent**2).sum(axis=1)
    assert run.bound().start == pytest.approx(problem.suboptimality + step * error, rel=1e-6)
    assert replace(run, method=EF21(1.001 * step)).bound() is None


def test_where_zeros_count_all_contract_alike() -> None:
    """The factor of `Scaled` is that for all n coordinates; what has a regulariser in it fills them."""
    for changes in (
        {"compressor": Scaled(qsim.QSGD(1))},
        {"objective": WithRegulariser(qsim.LogisticRegression(l2=0.1))},
    ):
        problem = replace(SPARSE, **({"compressor": TopK(5)} | changes)).problem()
        assert set(problem.worker_contractions.tolist()) == {problem.delta}
    with pytest.raises(ValueError, match="about EF21 without momentum, an estimator or compressed sums, found"):
        EF21(RareFeatures(), momentum=0.5).resolved(replace(SPARSE, compressor=TopK(5)).problem())


def test_owners_have_a_number_each() -> None:
    with pytest.raises(ValueError, match=r"parts must have shape \(12,\), a number per worker, found \(3,\)"):
        SPARSE.problem().largest_of_owners(np.ones(3))


def test_owners_of_a_feature_own_all_its_weights() -> None:
    """Two weights a feature: three workers of two rows, each with features of its own."""
    data = qsim.datasets.Dataset.from_arrays(np.eye(6, dtype=np.float32), np.arange(6) % 3, kind="classes")
    objective = qsim.MultinomialLogistic(l2=0.1, classes=3)
    problem = replace(SPARSE, objective=objective, data=data, workers=3, partition=Contiguous()).problem()
    assert problem.feature_smoothness == pytest.approx((problem.weights * problem.sent_smoothness).max())


@pytest.mark.parametrize(
    "changes", [{"compressor": ScaledSign()}, {"objective": WithRegulariser(qsim.LogisticRegression(l2=0.1))}], ids=repr
)
def test_where_all_own_all_it_is_the_mean(changes) -> None:
    problem = replace(SPARSE, **changes).problem()
    assert problem.feature_smoothness == pytest.approx(problem.weights @ problem.sent_smoothness, rel=1e-12)


def test_changes_of_gradients_add_up_to_at_most_m() -> None:
    """The two inequalities of the proof, for random weights: sums of changes, and the energy of what is sent."""
    problem, rng = SPARSE.problem(), np.random.default_rng(0)
    for _ in range(20):
        w, v = rng.standard_normal((2, problem.n))
        change = gradients(problem, w) - gradients(problem, v)
        energy = problem.weights / problem.sent_smoothness @ (change**2).sum(axis=1)
        assert energy <= problem.feature_smoothness * np.sum((w - v) ** 2)
        assert np.sum((problem.weights @ change) ** 2) <= problem.feature_smoothness * energy
        assert np.sum((problem.weights @ gradients(problem, w)) ** 2) <= problem.sent_energy(w)
        mean = problem.weights / problem.sent_smoothness @ (gradients(problem, w) ** 2).sum(axis=1)
        assert problem.sent_energy(w) == pytest.approx(problem.feature_smoothness * mean, rel=1e-9)


def test_convexity_that_all_workers_have() -> None:
    """l2 where no more is known; of least squares the smallest of the workers' own, which can be far below mu."""
    assert SPARSE.problem().worker_convexity == 0.1
    assert SKEWED.problem().worker_convexity == pytest.approx(0.5, rel=1e-9)
    x = np.diag(np.float32([2.0, 1.0, 1.0, 2.0]))[[0, 1, 2, 3, 0, 1, 2, 3]]
    data = qsim.datasets.Dataset.from_arrays(x, np.ones(8), kind="targets")
    few = replace(SKEWED, data=data, objective=LeastSquares(l2=0.25), workers=2)
    assert few.problem().worker_convexity == pytest.approx(0.25 + 1 / 4)
    alone = replace(few, workers=4).problem()  # two rows each, of four features
    assert alone.worker_convexity == pytest.approx(0.25)
    assert alone.strong_convexity == pytest.approx(0.25 + 1 / 4)
    curved = replace(SPARSE, objective=NonconvexLogistic(0.1), optimum=False).problem()
    assert curved.worker_convexity == curved.strong_convexity == 0.0


def test_losses_that_may_be_concave_count_with_the_regulariser() -> None:
    @qsim.option
    class Hilly(LeastSquares):
        def strong_convexity(self, data):
            return 0.0

    problem = replace(SKEWED, objective=Hilly(l2=0.5)).problem()
    assert problem.sent_smoothness == pytest.approx(problem.worker_smoothness + 0.5)


@pytest.mark.parametrize(("run", "method", "compressor", "changes", "far"), BOUNDED, ids=lambda x: repr(x)[:40])
def test_no_step_is_shorter_than_the_older_one(run, method, compressor, changes, far: float) -> None:
    problem = replace(run, method=method, compressor=compressor, **changes).problem()
    longest = method.resolved(problem).step(0)
    older = [Gorbunov2020()] if isinstance(method, DIANA) else [Richtarik2021(), Richtarik2024()]
    if getattr(method, "momentum", None) is not None:
        older = [Fatkhullin2023()]  # a theorem about contractions
        if compressor.three_point(problem.n) is not None:
            with pytest.raises(qsim.problem.TheoryError, match="no contraction"):
                replace(method, step=older.pop()).resolved(problem)
    for step in older:
        assert replace(method, step=step).resolved(problem).step(0) < longest * (1 + 1e-9), step


def test_reshuffled_passes_meet_their_bound() -> None:
    """Q-RR, at the ends of passes over 20 rows; steps 64 times as long throw the weights about, row by row."""
    method = SGD(Sadiev2024(), sampling=Passes())
    run = replace(SKEWED, objective=LeastSquares(l2=0.5), method=method, compressor=qsim.QSGD(2), rounds=4000)
    run = replace(run, evaluate_every=20)
    problem = run.problem()
    step, best, row = method.resolved(problem).step(0), problem.optimum, problem.row_smoothness
    assert step == pytest.approx(1 / ((1 + 2 * problem.spread) * row), rel=1e-12)
    variance = problem.row_noise(best)
    square = variance + problem.mean_square_gradient(best)
    floor = step**2 * row * 20 * variance / (2 * 0.5 * 5) + 2 * step * problem.spread * square / 0.5
    bound = (1 - step * 0.5) ** np.arange(0, 4001, 20) * problem.square_distance + floor

    def far(times: float) -> np.ndarray:
        case = replace(run, method=replace(method, step=Constant(times * step)))
        found = [qsim.simulate(replace(case, seed=s)).frame["suboptimality"].dropna() for s in range(SEEDS)]
        return np.mean(found, axis=0)

    assert (far(1.0) <= problem.smoothness / 2 * bound).all()
    assert far(1.0)[-1] < 0.1 * far(1.0)[0]
    assert (far(64.0) > problem.smoothness / 2 * bound).any()
    with pytest.raises(ValueError, match=r"say sampling=Passes\(\), found .*SGD"):
        SGD(Sadiev2024()).resolved(problem)
    assert run.bound() is None


def test_a_theorem_about_another_method_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Gorbunov2020\(\) is a theorem about DIANA, found as the step of EF21"):
        EF21(Gorbunov2020())
    with pytest.raises(TypeError, match=r"Richtarik2021\(\) is a theorem about EF21, found as the step of SGD"):
        SGD(step=Richtarik2021())
    with pytest.raises(ValueError, match="about EF21 with momentum, found none"):
        EF21(Fatkhullin2023()).resolved(replace(SPARSE, compressor=TopK(4)).problem())
    with pytest.raises(ValueError, match="known for a run only"):
        Gorbunov2020()(0)
    assert GradientDescent().step is None


def test_ef21_w_is_ef21_for_compressors_that_scale() -> None:
    """Weights inside the algorithm (EF21-W, ICLR 2024, Algorithm 2): Top-k of c v is c times Top-k of v, so nothing
    changes but rounding. In float64, on the quadratics, whose gradients are known."""
    problem = SKEWED.problem()
    x, y = problem.shards.dataset.to_scipy().toarray().astype(float), problem.shards.dataset.labels
    offsets = problem.shards.offsets

    def gradient(i: int, w: np.ndarray) -> np.ndarray:
        rows = slice(offsets[i], offsets[i + 1])
        return x[rows].T @ (x[rows] @ w - y[rows]) / (offsets[i + 1] - offsets[i])

    def top(v: np.ndarray) -> np.ndarray:
        return np.where(np.argsort(np.argsort(-np.abs(v), kind="stable")) < 2, v, 0.0)

    weights = problem.worker_smoothness / problem.worker_smoothness.sum()
    plain, weighted = np.zeros(problem.n), np.zeros(problem.n)
    shift, scaled = np.zeros((2, 5, problem.n))
    for _ in range(100):
        for i in range(5):
            shift[i] += top(gradient(i, plain) - shift[i])
            scaled[i] += top(gradient(i, weighted) / (5 * weights[i]) - scaled[i])
        plain, weighted = plain - 0.02 * shift.mean(axis=0), weighted - 0.02 * weights @ scaled
    np.testing.assert_allclose(weighted, plain, rtol=1e-9)
    run = replace(SKEWED, method=EF21(0.02), compressor=TopK(2), rounds=100)
    np.testing.assert_allclose(qsim.simulate(run).weights, plain, atol=1e-5)
