"""EF21 with clients who sit out (PP) and with sums that come down compressed (BC); MARINA with batches (VR-MARINA)."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

import qsim
from helpers.dense_loops import L2, RUN, STEP, WORKERS, Half, Loop, N, half, top, weights
from qsim.clients import SampledClients
from qsim.compressors import Identity, RandK, Scaled, TopK
from qsim.datasets import ByLabel, Contiguous, Dirichlet, Quadratics
from qsim.downlinks import CompressedSum, SparseSum
from qsim.methods import (
    EF21,
    LBFGS,
    MARINA,
    PAGE,
    SGD,
    FedNL,
    GradientDescent,
    HeavyBall,
    Method,
    NewtonCG,
    Passes,
    SignSGD,
    WithReplacement,
)
from qsim.objectives import LeastSquares
from qsim.problem import TheoryError
from qsim.steps import Constant


def both_ways(loop: Loop, method: EF21) -> np.ndarray:
    """EF21-BC: EF21 on the workers, and on the server."""
    w, h, g = loop.start, np.zeros((WORKERS, N)), np.zeros(N)
    for t in range(RUN.rounds):
        found = loop.gradients(w)
        h = found if t == 0 and method.shifts == "gradient" else h + top(found - h)
        g = g + top((loop.share @ h - g)[None])[0]
        w = w - STEP * (g + L2 * w)
    return w


@pytest.mark.parametrize("method", [EF21(STEP), EF21(STEP, shifts="gradient")], ids=repr)
@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.5)], ids=repr)
def test_sums_that_come_down_compressed_are_those_of_the_paper(method: EF21, partition) -> None:
    """To rounding, and to what comes of it where coordinates are so near to a tie that another one is kept."""
    run = replace(RUN, method=method, compressor=TopK(4), downlink=CompressedSum(TopK(4)), partition=partition)
    np.testing.assert_allclose(qsim.simulate(run).weights, both_ways(Loop(run), method), atol=5e-5)


def test_what_comes_down_is_counted() -> None:
    """Four of 20 coordinates, to each of six workers, a round; and without loss it is the sum."""
    run = replace(RUN, method=EF21(STEP), compressor=TopK(4), downlink=CompressedSum(TopK(4)))
    trace, whole = qsim.simulate(run), qsim.simulate(replace(run, downlink=SparseSum()))
    assert trace.axis("bits_down")[-1] < 0.5 * whole.axis("bits_down")[-1]
    exact = qsim.simulate(replace(run, downlink=CompressedSum(Identity())))
    np.testing.assert_allclose(exact.weights, whole.weights, atol=1e-6)


def vr_marina(loop: Loop, method: MARINA) -> np.ndarray:
    """Algorithm 2 of Gorbunov et al."""
    w, g, kept = loop.start, np.zeros(N), method.sampling.memory(loop.block)
    before = w
    for t in range(RUN.rounds):
        if t == 0 or loop.coins.fold(t).generator().random() < method.p:
            g = loop.share @ loop.gradients(w)
        else:
            rows = method.sampling.draw(loop.block, method.batch, t, kept, loop.rows)
            g = g + loop.share @ half(loop.gradients(w, rows) - loop.gradients(before, rows))
        before, w = w, w - STEP * (g + L2 * w)
    return w


@pytest.mark.parametrize("sampling", [WithReplacement(), Passes()], ids=repr)
@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.5)], ids=repr)
def test_vr_marina_is_that_of_the_paper(sampling, partition) -> None:
    method = MARINA(STEP, p=0.3, batch=3, sampling=sampling)
    run = replace(RUN, method=method, compressor=Half(), partition=partition)
    np.testing.assert_allclose(qsim.simulate(run).weights, vr_marina(Loop(run), method), atol=2e-6)


def test_batches_of_all_rows_are_marina() -> None:
    """In passes over 20 rows, a batch of 20 is the shard, in another order."""
    whole, same = MARINA(STEP, p=0.3, batch=20, sampling=Passes()), {"partition": Contiguous()}
    plain = weights(MARINA(STEP, p=0.3), RandK(5), **same)
    np.testing.assert_allclose(weights(whole, RandK(5), **same), plain, atol=2e-6)
    assert np.abs(plain - weights(MARINA(STEP, p=0.3, batch=3), RandK(5), **same)).max() > 1e-4


# Rates.

SKEWED = qsim.Run(
    Quadratics((1.0, 2.0, 4.0, 8.0, 20.0), mu=0.5, heterogeneity=1.0),
    LeastSquares(l2=0.0),
    EF21(),
    workers=5,
    partition=Contiguous(),
    rounds=400,
    evaluate_every=10,
)
DOWN = {"downlink": CompressedSum(TopK(5))}
BOUNDED: list[tuple[Method, qsim.compressors.Compressor, dict, float]] = [
    (EF21(), TopK(5), DOWN, 128),
    (EF21(), TopK(5), DOWN | {"clients": SampledClients(3)}, 512),
    (EF21(shifts="gradient"), Scaled(RandK(5)), {"downlink": CompressedSum(TopK(2))}, 1024),
    (EF21(), TopK(5), {"clients": SampledClients(3)}, 128),
    (MARINA(batch=4), RandK(3), {}, 64),
    (MARINA(batch=1, p=0.5), Identity(), {}, 64),
]


def ends(run: qsim.Run, times: float) -> np.ndarray:
    """The mean over four seeds, of runs with so many times the step of theory; infinity for those that overflow."""
    resolved = run.method.resolved(run.problem())
    method, found = replace(resolved, step=Constant(times * resolved.step(0))), []
    for seed in range(4):
        try:
            trace = qsim.simulate(replace(run, method=method, seed=seed))
            found.append(trace.axis("suboptimality")[:: run.evaluate_every])
        except (ValueError, OverflowError, FloatingPointError):
            return np.full(run.rounds // run.evaluate_every + 1, np.inf)
    return np.mean(found, axis=0)


@pytest.mark.parametrize(("method", "compressor", "changes", "far"), BOUNDED, ids=lambda x: repr(x)[:50])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of runs that diverge
def test_bounds_hold_and_far_longer_steps_break_them(method, compressor, changes, far: float) -> None:
    run = replace(SKEWED, method=method, compressor=compressor, **changes)
    promise = run.bound()(np.arange(0, 401, 10))
    assert (ends(run, 1.0) <= promise).all()
    assert (ends(replace(run, rounds=100), far) > promise[:11]).any()


def test_steps_are_those_of_the_theorems() -> None:
    """EF21-PP: delta times the share that takes part. EF21-BC and VR-MARINA: the formulas of their docstrings."""
    run = replace(SKEWED, compressor=TopK(5))
    problem, mu = run.problem(), 0.5
    big, several = problem.smoothness, problem.feature_smoothness

    def step(method: Method, **changes) -> float:
        case = replace(run, method=method, **changes)
        return method.resolved(case.problem()).step(0)

    def parts(delta: float) -> tuple[float, float]:
        return sqrt(1 - delta), (1 - delta) / (1 - sqrt(1 - delta)) ** 2

    q, ratio = parts(0.5 * 3 / 5)
    few = min(1 / (big + several * sqrt(2 * ratio)), (1 - q) / (2 * mu))
    assert step(EF21(), clients=SampledClients(3)) == pytest.approx(few, rel=1e-6)
    q, ratio = parts(0.5)
    late, ratio_down = parts(0.2)
    root = sqrt(4 * ratio + 8 * (1 + q) ** 2 * ratio_down * (1 + 2 * ratio))
    two = min(1 / (big + several * root), (1 - max(q, late)) / (2 * mu))
    assert step(EF21(), downlink=CompressedSum(TopK(2))) == pytest.approx(two, rel=1e-6)
    assert step(EF21(), downlink=CompressedSum(Identity())) == pytest.approx(
        min(1 / (big + several * sqrt(4 * ratio)), (1 - q) / (2 * mu)), rel=1e-6
    )
    square, row = problem.mean_square_smoothness**2, problem.row_smoothness**2
    p = 4 / (4 + 20)
    noise = (1 - p) / p * (4 / 5 * (square + row / 4) + row / (5 * 4))
    with_batch = MARINA(batch=4).resolved(replace(run, compressor=RandK(2)).problem())
    assert with_batch.p == pytest.approx(p)
    assert with_batch.step(0) == pytest.approx(min(1 / (big + sqrt(2 * noise)), p / (2 * mu)), rel=1e-6)
    assert MARINA(batch=40).resolved(replace(run, compressor=RandK(2)).problem()).p == pytest.approx(1 / 5)


def test_what_is_refused() -> None:
    newton = LBFGS(gradients="compressed"), NewtonCG(gradients="compressed"), FedNL()
    for method in (MARINA(STEP, p=0.5), SignSGD(STEP), *newton):
        with pytest.raises(ValueError, match="does not add up what comes"):
            replace(RUN, method=method, compressor=qsim.Sign() if isinstance(method, SignSGD) else RandK(5), **DOWN)
    for method in (
        EF21(server_momentum=HeavyBall(0.5)),
        EF21(estimator=PAGE(2)),
        EF21(momentum=0.5),
    ):
        with pytest.raises(TheoryError, match="no step of theory is known for .* with sums compressed by"):
            method.resolved(replace(RUN, compressor=TopK(5), **DOWN).problem())
    with pytest.raises(ValueError, match="CompressedSum needs a contraction"):
        CompressedSum(RandK(5))
    with pytest.raises(ValueError, match="is its memory already"):
        CompressedSum(qsim.ErrorFeedback(TopK(5)))
    assert replace(RUN, method=GradientDescent(0.1), **DOWN).bound() is None
    assert replace(RUN, method=SGD(0.1), **DOWN).bound() is None
    assert replace(RUN, method=MARINA(batch=2, sampling=Passes()), compressor=RandK(5)).bound() is None
