"""Q-NASTYA, DIANA-NASTYA and DIANA-RR: their papers' loops in dense NumPy, special cases, and rates."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import qsim
from helpers.dense_loops import L2, RUN, STEP, WORKERS, Half, Loop, N, half, weights
from qsim.clients import SampledClients
from qsim.compressors import Identity, RandK
from qsim.datasets import ByLabel, Contiguous, Dirichlet, Quadratics
from qsim.methods import (
    DIANA,
    DIANANASTYA,
    DIANARR,
    QNASTYA,
    GradientDescent,
    LocalSGD,
    Method,
    Passes,
    Sadiev2024,
)
from qsim.objectives import LeastSquares, NonconvexLogistic, WithRegulariser
from qsim.problem import TheoryError
from qsim.steps import Constant

LOCAL, SHIFT = 0.2, 0.4


def mean_gradients(loop: Loop, method, t: int, w: np.ndarray, kept: dict, moving: bool = True) -> np.ndarray:
    """(w - u_m)/(c m) of all workers; with `moving` false every gradient is taken at w, as in the authors' code."""
    rows = Passes().draw(loop.block, method.steps * method.batch, t, kept, loop.rows)
    u = np.tile(w, (WORKERS, 1))
    for j in range(method.steps):
        at = u if moving else w
        u = u - method.local_step * (loop.gradients(at, rows.step(j, method.batch)) + L2 * at)
    return (w - u) / (method.local_step * method.steps)


def q_nastya(loop: Loop, method: QNASTYA, moving: bool = True, inside: bool = False) -> np.ndarray:
    """Algorithm 3 of Sadiev et al.; the regulariser's part of the way is not compressed, unless it is inside."""
    w, kept = loop.start, Passes().memory(loop.block)
    for t in range(RUN.rounds):
        v = mean_gradients(loop, method, t, w, kept, moving)
        known = 0.0 if inside else (1 - (1 - method.local_step * L2) ** method.steps) * w
        known = known / (method.local_step * method.steps)
        w = w - STEP * (loop.share @ half(v - known) + known)
    return w


def diana_nastya(loop: Loop, method: DIANANASTYA) -> np.ndarray:
    w, h, kept = loop.start, np.zeros((WORKERS, N)), Passes().memory(loop.block)
    for t in range(RUN.rounds):
        v = mean_gradients(loop, method, t, w, kept)
        known = (1 - (1 - method.local_step * L2) ** method.steps) / (method.local_step * method.steps) * w
        message = half(v - known - h)
        w = w - STEP * (loop.share @ (h + message) + known)
        h = h + method.shift * message
    return w


def diana_rr(loop: Loop, method: DIANARR) -> np.ndarray:
    w, h = loop.start, np.zeros((method.parts, WORKERS, N))
    for t in range(RUN.rounds):
        order = loop.coins.fold(t // method.parts).generator().permutation(method.parts)
        part = order[t % method.parts]
        shards = [loop.shards.order[low:high] for low, high in pairwise(loop.shards.offsets)]
        mine = [np.array_split(rows, method.parts)[part] for rows in shards]
        rows = qsim.block.Rows(np.concatenate(mine), np.cumsum([0, *map(len, mine)]))
        message = half(loop.gradients(w, rows) - h[part])
        w = w - STEP * (loop.share @ (h[part] + message) + L2 * w)
        h[part] += method.shift * message
    return w


LOOPS = [
    (QNASTYA(STEP, LOCAL, steps=5), q_nastya),
    (QNASTYA(STEP, LOCAL, steps=4, batch=3), q_nastya),
    (DIANANASTYA(STEP, LOCAL, SHIFT, steps=5), diana_nastya),
    (DIANANASTYA(STEP, LOCAL, SHIFT, steps=4, batch=3), diana_nastya),
    (DIANARR(STEP, SHIFT, parts=5), diana_rr),
]


@pytest.mark.parametrize(("method", "loop"), LOOPS, ids=lambda x: getattr(x, "__name__", repr(x)[:60]))
@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(2.0)], ids=repr)
def test_methods_are_those_of_the_paper(method, loop, partition) -> None:
    """To float32's rounding of gradients and messages, over 25 rounds of steps of 0.3."""
    if isinstance(method, DIANARR) and not isinstance(partition, ByLabel):
        return  # np.array_split is ours only where parts are of one size
    run = replace(RUN, method=method, compressor=Half(), partition=partition)
    np.testing.assert_allclose(qsim.simulate(run).weights, loop(Loop(run), method), atol=2e-6)


def test_local_steps_move() -> None:
    """Published code of NASTYA evaluates every gradient of a pass at the weights of the round, where it is no local
    method. Here that would be seen: it ends elsewhere, by far more than rounding."""
    method = QNASTYA(STEP, LOCAL, steps=5)
    run = replace(RUN, method=method, compressor=Half())
    frozen = q_nastya(Loop(run), method, moving=False)
    assert np.abs(qsim.simulate(run).weights - frozen).max() > 1e-3


def test_with_the_regulariser_inside_it_is_the_papers_to_the_letter() -> None:
    method = QNASTYA(STEP, LOCAL, steps=5)
    run = replace(RUN, method=method, compressor=Half(), objective=WithRegulariser(RUN.objective))
    found = qsim.simulate(run).weights
    np.testing.assert_allclose(found, q_nastya(Loop(run), method, inside=True), atol=2e-6)
    assert np.abs(found - q_nastya(Loop(run), method)).max() > 1e-3


SAME = [
    (QNASTYA(1.0, LOCAL, steps=5), LocalSGD(LOCAL, 5, sampling=Passes()), Identity()),
    (QNASTYA(STEP, LOCAL, steps=1, batch=20), GradientDescent(STEP), RandK(5)),
    (DIANANASTYA(STEP, LOCAL, SHIFT, steps=1, batch=20), DIANA(STEP, SHIFT), RandK(5)),
    (DIANARR(STEP, SHIFT, parts=1), DIANA(STEP, SHIFT), RandK(5)),
    (DIANANASTYA(STEP, LOCAL, SHIFT, steps=5), QNASTYA(STEP, LOCAL, steps=5), Identity()),
]


@pytest.mark.parametrize(("method", "other", "compressor"), SAME, ids=lambda x: repr(x)[:60])
def test_special_cases(method: Method, other: Method, compressor) -> None:
    """To rounding: one step of all 20 rows is a gradient, and one of the server that is as long as the local ones
    together is local SGD."""
    changes = {"partition": Contiguous()}
    np.testing.assert_allclose(weights(method, compressor, **changes), weights(other, compressor, **changes), atol=2e-6)


@pytest.mark.parametrize(
    "method",
    [QNASTYA(STEP, LOCAL, steps=5), DIANANASTYA(STEP, LOCAL, SHIFT, steps=5), LocalSGD(LOCAL, 5, sampling=Passes())],
    ids=lambda method: type(method).__name__,
)
def test_where_the_regulariser_is_makes_no_difference_without_compression(method: Method) -> None:
    inside = weights(method, Identity(), objective=WithRegulariser(RUN.objective))
    np.testing.assert_allclose(weights(method, Identity()), inside, atol=2e-6)


# Rates.

SKEWED = qsim.Run(
    Quadratics((1.0, 2.0, 4.0, 8.0, 20.0), mu=0.5, heterogeneity=1.0),
    LeastSquares(l2=0.5),
    QNASTYA(),
    workers=5,
    partition=Contiguous(),
    rounds=150,
    evaluate_every=10,
)
SEEDS = 3


def ends(run: qsim.Run, times: float) -> np.ndarray:
    """The mean over seeds, of runs with so many times the step of theory; infinity for those that overflow."""
    resolved = run.method.resolved(run.problem())
    method, found = replace(resolved, step=Constant(times * resolved.step(0))), []
    for seed in range(SEEDS):
        try:
            trace = qsim.simulate(replace(run, method=method, seed=seed))
            found.append(trace.axis("suboptimality")[:: run.evaluate_every])
        except (ValueError, OverflowError, FloatingPointError):
            return np.full(run.rounds // run.evaluate_every + 1, np.inf)
    return np.mean(found, axis=0)


def fill(method: Method, run: qsim.Run) -> Method:
    return method.resolved(replace(run, method=method).problem())


@pytest.mark.parametrize("method", [QNASTYA(), DIANANASTYA(), QNASTYA(batch=4)], ids=repr)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of runs that diverge
def test_bounds_hold_and_far_longer_steps_break_them(method: Method) -> None:
    run = replace(SKEWED, method=method, compressor=qsim.QSGD(2))
    promise = run.bound()(np.arange(0, run.rounds + 1, 10))
    found = ends(run, 1.0)
    assert (found <= promise).all()
    assert promise[-1] < 0.9 * promise[0]
    assert found[-1] < 0.7 * found[0]
    assert (ends(replace(run, rounds=40), 256) > promise[:5]).any()


def test_drift_is_in_the_bound() -> None:
    """Without compression only the way of local steps leaves a floor, which falls as the square of the step, here 15
    times for a quarter, and so does the one that is stated."""
    run = replace(RUN, partition=ByLabel(), rounds=300, evaluate_every=300)
    local, stated, found = 0.5 / (20 * run.problem().row_smoothness), [], []
    for times in (1.0, 0.25):
        case = replace(run, method=QNASTYA(local_step=times * local))
        stated.append(case.bound().floor)
        found.append(qsim.simulate(case).axis("suboptimality")[-1])
        assert found[-1] < stated[-1]
    assert stated[0] / stated[1] == pytest.approx(16 * (1 - 2.5 / 64) / (1 - 2.5 / 4), rel=1e-3)
    assert 8 < found[0] / found[1] < 24


def test_diana_rr_meets_its_bound() -> None:
    """At the ends of passes over 20 rows; steps 64 times as long throw the weights about."""
    run = replace(SKEWED, method=DIANARR(), compressor=qsim.QSGD(2), rounds=800, evaluate_every=20)
    problem, method = run.problem(), fill(DIANARR(), run)
    step, best, row, parts = method.step(0), problem.optimum, problem.row_smoothness, 20
    assert method.parts == parts
    expected = min(method.shift / (2 * parts * 0.5), 1 / ((1 + 6 * problem.spread) * row))
    assert step == fill(DIANARR(Sadiev2024()), run).step(0) == pytest.approx(expected, rel=1e-12)
    x, y = problem.shards.dataset.to_scipy().toarray().astype(float), problem.shards.dataset.labels
    rows = x * (x @ best - y)[:, None]  # of losses, worker by worker
    mean = rows.reshape(5, parts, -1).mean(axis=0) + 0.5 * best
    begin = np.sum((problem.start - best) ** 2) + 4 * problem.spread * step**2 / method.shift * np.sum(rows**2) / 5
    floor = 2 * step**2 / 0.5 * row * parts / 4 * np.mean(np.sum(mean**2, axis=1))
    bound = problem.smoothness / 2 * ((1 - step * 0.5) ** np.arange(0, 801, 20) * begin + floor)
    found = ends(run, 1.0)
    assert (found <= bound).all()
    assert found[-1] < 0.7 * found[0]
    assert (ends(replace(run, rounds=100), 64) > bound[:6]).any()


def test_shifts_get_below_the_floor_of_compression() -> None:
    """Quantized to one level, on skewed shards, with the same steps: what the noise of C leaves goes."""
    skewed = replace(RUN, compressor=qsim.QSGD(1), rounds=1500, evaluate_every=1500)
    plain = replace(skewed, method=QNASTYA(0.3, 1e-3, steps=20))
    learns = replace(skewed, method=DIANANASTYA(0.3, 1e-3, 0.2, steps=20))
    floor, end = (qsim.simulate(run).axis("suboptimality")[-1] for run in (plain, learns))
    assert end < 1e-2 * floor


def test_steps_are_those_of_the_theorems() -> None:
    run = replace(SKEWED, compressor=RandK(2))
    problem = run.problem()
    row, spread = problem.row_smoothness, problem.spread
    assert spread == pytest.approx(4 / 5)
    plain, learns = fill(QNASTYA(), run), fill(DIANANASTYA(), run)
    assert plain.local_step == pytest.approx(1 / (5 * 20 * row))
    assert learns.local_step == pytest.approx(1 / (16 * 20 * row))
    assert plain.step(0) == pytest.approx(1 / (row * (1 + 2 * spread)))
    assert learns.step(0) == pytest.approx(1 / (row * (1 + 7 * spread)))
    assert fill(QNASTYA(Sadiev2024()), run).step(0) == pytest.approx(1 / (16 * row * (1 + spread)))
    older = min(learns.shift / (2 * problem.strong_convexity), 1 / (16 * row * (1 + 9 * spread)))
    assert fill(DIANANASTYA(Sadiev2024()), run).step(0) == pytest.approx(older)
    assert fill(QNASTYA(batch=4), run).steps == 5


def test_what_is_refused() -> None:
    uneven = {"partition": Dirichlet(2.0)}
    for method, changes, words in [
        (QNASTYA(), uneven, "for rounds that are whole passes"),
        (QNASTYA(steps=3), {}, "for rounds that are whole passes"),
        (QNASTYA(local_step=0.1, steps=3), {}, "for rounds that are whole passes"),
        (DIANANASTYA(batch=3), {}, "for rounds that are whole passes"),
        (DIANARR(), uneven, "as the number of parts, found shards"),
        (DIANARR(parts=3), {}, "no step of theory is known for DIANARR"),
        (DIANARR(), {"clients": SampledClients(2)}, "no step of theory is known for DIANARR"),
    ]:
        with pytest.raises(TheoryError, match=words):
            method.resolved(replace(RUN, method=method, compressor=RandK(5), **changes).problem())
    for method, changes, words in [
        (
            QNASTYA(STEP, LOCAL, 2),
            {"objective": NonconvexLogistic(0.1)},
            "QNASTYA leaves out .* a regulariser",
        ),
        (QNASTYA(STEP, 20.0, 2), {}, "local_step \\* l2 = 2: it must stay below 1"),
        (QNASTYA(20.0, LOCAL, 2), {}, "step \\* l2 = .*: it must stay below 1"),
        (QNASTYA(STEP, LOCAL, 2), {"compressor": qsim.ErrorFeedback(qsim.TopK(5))}, "memory"),
    ]:
        with pytest.raises(ValueError, match=words):
            qsim.simulate(replace(RUN, **({"compressor": RandK(5), "optimum": False} | changes), method=method))
    for part in (lambda: DIANANASTYA(shift=1.5), lambda: DIANARR(shift=1.5)):
        with pytest.raises(ValueError, match="must be at most 1"):
            part()
    assert replace(SKEWED, method=QNASTYA(local_step=1.0, steps=20)).bound() is None
