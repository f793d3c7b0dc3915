"""Runs in which workers draw together: the same bits everywhere, exact for equal gradients, steps of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from helpers.bounds import beyond
from helpers.planned import agree, plain
from qsim.clients import SampledClients
from qsim.compressors import CorrelatedQuantization, PermK, RandK, Scaled
from qsim.datasets import ByLabel, Contiguous, Dataset, Quadratics
from qsim.engines import Processes, Serial
from qsim.methods import EFBV, MARINA, GradientDescent
from qsim.objectives import LeastSquares

RUN = qsim.Run(
    qsim.datasets.synthetic(130, 50, 6, seed=5),
    qsim.LogisticRegression(l2=0.05),
    qsim.SGD(0.5, batch=3),
    PermK(7),
    workers=7,
    partition=ByLabel(),
    rounds=12,
    evaluate_every=4,
    optimum=False,
)
VARIED = {
    "sgd": {},
    "descent": {"method": GradientDescent(0.5)},
    "marina": {"method": MARINA(0.3, p=0.4)},
    "feedback": {"compressor": qsim.ErrorFeedback(Scaled(PermK(7)))},
    "some": {"clients": SampledClients(3)},
    "some who share": {"clients": SampledClients(3), "compressor": PermK(3)},
    "rounded": {"compressor": CorrelatedQuantization(7, bits=2)},
    "sum": {"downlink": qsim.downlinks.SparseSum()},
    "unequal": {"partition": qsim.datasets.Dirichlet(0.3), "weighting": "workers"},
}


@pytest.mark.parametrize("changes", VARIED.values(), ids=VARIED)
def test_numbers_do_not_depend_on_where_workers_run(changes: dict) -> None:
    """In planned rounds, in blocks, on threads; the number is that among all workers, not in a block."""
    run = replace(RUN, **changes)
    one = plain(run)
    agree(qsim.simulate(run), one)
    for engine in (Serial(block=1), Serial(block=3), Serial(threads=2, block=2)):
        agree(plain(run, engine=engine), one)


def test_nor_on_processes_or_interruptions(tmp_path) -> None:
    one = plain(RUN)
    agree(plain(RUN, engine=Processes(2)), one)

    def stopped(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    path = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        plain(RUN, checkpoint=path, every=1, after_round=stopped)
    agree(plain(RUN, checkpoint=path), one)


def same_rows(workers: int) -> Dataset:
    rows = np.random.default_rng(0).standard_normal((8, 13)).astype(np.float32)
    return Dataset.from_arrays(np.tile(rows, (workers, 1)), np.tile(np.arange(8) % 2 * 2 - 1, workers))


def test_equal_gradients_lose_nothing() -> None:
    """Workers with the same rows: gradient descent as without compression, at a 4th of the bits, but for rounding."""
    run = replace(RUN, data=same_rows(4), partition=Contiguous(), workers=4, compressor=PermK(4), rounds=40)
    run = replace(run, method=GradientDescent(0.5))
    exact, found = (qsim.simulate(replace(run, compressor=c)) for c in (qsim.Identity(), PermK(4)))
    alone = qsim.simulate(replace(run, compressor=RandK(4)))
    assert np.allclose(found.weights, exact.weights, rtol=1e-5, atol=1e-6)
    assert np.abs(alone.weights - exact.weights).max() > 1e-2
    assert found.frame["bits_up"].sum() < 0.35 * exact.frame["bits_up"].sum()
    assert run.problem().spread == pytest.approx(1)


def test_what_is_counted() -> None:
    """k numbers of 32 bits per worker and round, whatever is zero; the header once."""
    found = qsim.simulate(replace(RUN, method=GradientDescent(0.1)))
    header = 8 * len(qsim.Channel(PermK(7)).pack(qsim.batch.Vectors.dense(np.ones(50)), qsim.Key(0).words(0, 1))[0])
    assert found.frame["bits_up"].sum() == 7 * (12 * 32 * 8 + header)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="is for 7 workers, found workers=8"):
        replace(RUN, workers=8)
    network = qsim.Network(qsim.network.Ring())
    with pytest.raises(ValueError, match="adds messages on their way"):
        replace(RUN, network=network, downlink=qsim.downlinks.Replicated())
    replace(RUN, network=qsim.Network(qsim.network.AllGather()), downlink=qsim.downlinks.Replicated())


# Constants and steps.


def test_spread() -> None:
    """W times the largest weight, over the share of those that take part."""
    assert replace(RUN, partition=Contiguous(), data=same_rows(7)).problem().spread == pytest.approx(1)
    problem = replace(RUN, partition=qsim.datasets.Dirichlet(0.3)).problem()
    assert problem.spread == pytest.approx(7 * problem.weights.max())
    some = replace(RUN, data=same_rows(7), clients=SampledClients(2)).problem()
    assert some.spread == pytest.approx(7 / 2)
    share = replace(RUN, data=same_rows(7), clients=SampledClients(2), compressor=PermK(2)).problem()
    assert share.spread == pytest.approx(1)
    alone = replace(RUN, data=same_rows(7), compressor=RandK(5)).problem()
    assert alone.spread == pytest.approx((50 if alone.n == 50 else alone.n) / 5 / 7 - 1 / 7)


@pytest.mark.parametrize("clients", [qsim.clients.AllClients(), SampledClients(3)], ids=repr)
@pytest.mark.parametrize("weights", ["equal", "unequal"])
def test_the_spread_bounds_the_error_of_the_mean(clients, weights: str) -> None:
    """Exactly, over all sets of clients (with equal weights, where it is no ratio) and all ways to deal coordinates.

    Attained, for vectors whose mean is zero.
    """
    from itertools import combinations

    workers, n = 6, 4
    p = np.full(6, 1 / 6) if weights == "equal" else np.array([3, 1, 1, 2, 2, 1]) / 10
    count = clients.count if isinstance(clients, SampledClients) else workers
    if count < workers and weights == "unequal":
        return
    v = np.random.default_rng(1).standard_normal((workers, n))
    v -= p @ v
    squares, found = (v**2).sum(axis=1), []
    for who in combinations(range(workers), count):
        here = np.zeros(workers)
        here[list(who)] = p[list(who)] / p[list(who)].sum()
        found.append(workers * here**2 @ squares)  # E ||sum of here_i Q_i(v_i)||^2, coordinate by coordinate
    spread = workers * p.max() * (1 if count == workers else workers / count)
    assert np.mean(found) <= spread * (p @ squares) * (1 + 1e-12)
    if weights == "equal":
        assert np.mean(found) == pytest.approx(spread * (p @ squares))


def test_the_hessian_variance() -> None:
    """How much changes of gradients differ, over that of the weights: by dense Hessians, and never more than Lt."""
    rng = np.random.default_rng(2)
    data = Dataset.from_arrays(rng.standard_normal((40, 6)) * rng.random(6), rng.standard_normal(40), kind="targets")
    run = replace(RUN, data=data, objective=LeastSquares(l2=0.1), compressor=PermK(5), workers=5)
    run = replace(run, partition=Contiguous())
    problem = run.problem()
    x, shards = data.to_scipy().toarray(), problem.shards
    parts = [x[shards.order[a:b]] for a, b in zip(shards.offsets[:-1], shards.offsets[1:], strict=True)]
    hessians = np.array([part.T @ part / len(part) for part in parts])
    mean = np.tensordot(problem.weights, hessians, 1)
    v = rng.standard_normal((6, 20_000))
    changes = np.einsum("w,wij->ij", problem.weights, hessians @ hessians) - mean @ mean
    exact = np.sqrt(np.linalg.eigvalsh(changes)[-1])
    sampled = np.sqrt(np.einsum("iv,ij,jv->v", v, changes, v) / (v**2).sum(axis=0)).max()
    assert 0.9 * exact < sampled <= problem.hessian_variance == pytest.approx(exact, rel=1e-5)
    assert problem.hessian_variance < problem.mean_square_smoothness
    same = replace(run, data=same_rows(5), objective=LeastSquares(l2=0.0), partition=Contiguous()).problem()
    assert same.hessian_variance < 1e-4 * same.smoothness
    other = replace(RUN, objective=qsim.LogisticRegression(l2=0.1)).problem()
    assert other.hessian_variance == other.mean_square_smoothness


SKEWED = qsim.Run(
    Quadratics((10.0,) * 5, mu=0.5, heterogeneity=1.0),
    LeastSquares(l2=0.0),
    MARINA(),
    PermK(5),
    workers=5,
    partition=Contiguous(),
    rounds=300,
)


@pytest.mark.parametrize("smoothness", [(10.0,) * 5, (1.0, 2.0, 4.0, 8.0, 20.0)], ids=["like", "unlike"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of runs that diverge
def test_marina_keeps_its_bound_with_the_step_of_the_hessian_variance(smoothness: tuple[float, ...]) -> None:
    """And breaks it with a step 8 times as long."""
    run = replace(SKEWED, data=Quadratics(smoothness, mu=0.5, heterogeneity=1.0))
    problem, p = run.problem(), 0.2
    step = run.method.resolved(problem).step(0)
    root = np.sqrt(2 * (1 - p) / p) * problem.hessian_variance
    assert step == pytest.approx(min(1 / (problem.smoothness + root), p / (2 * 0.5)))
    alone = replace(run, compressor=RandK(2))
    assert step > 1.15 * alone.method.resolved(alone.problem()).step(0)
    assert beyond(run) <= 1
    assert beyond(run, 8) > 1


def test_marina_with_unequal_shards() -> None:
    """S = (W p_max - 1) Lt^2 + L_pm^2."""
    partition = qsim.datasets.Dirichlet(0.5)
    run = replace(RUN, objective=LeastSquares(l2=0.1), method=MARINA(p=0.5), partition=partition)
    problem = run.problem()
    assert problem.weights.max() > 1.5 / 7
    assert problem.hessian_variance < problem.mean_square_smoothness
    error = (7 * problem.weights.max() - 1) * problem.mean_square_smoothness**2 + problem.hessian_variance**2
    expected = min(1 / (problem.smoothness + np.sqrt(2 * error)), 0.5 / (2 * problem.strong_convexity))
    assert run.method.resolved(problem).step(0) == pytest.approx(expected)


def test_ef_bv_knows_that_errors_of_workers_do_not_average_out() -> None:
    """omega_m of Perm-K is 1, above omega/W, and omega of Scaled ones is not divided."""
    method = EFBV().resolved(replace(SKEWED, method=EFBV()).problem())
    assert method.scale == pytest.approx(1 / 2)
    scaled = replace(SKEWED, method=EFBV(), compressor=Scaled(PermK(5)))
    one = EFBV().resolved(scaled.problem())
    assert one.scale == one.shift
    assert beyond(replace(SKEWED, method=EFBV())) <= 1
