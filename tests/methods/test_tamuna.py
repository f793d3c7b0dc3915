"""TAMUNA and CompressedScaffnew: the papers' loop in dense NumPy, special cases, and the rate."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import qsim
from helpers.bounds import beyond
from helpers.dense_loops import L2, RUN, STEP, WORKERS, Loop, N
from oracles import drawn
from qsim.clients import AllClients, SampledClients
from qsim.compressors import Identity, PermK
from qsim.datasets import ByLabel, Contiguous, Dirichlet, Quadratics
from qsim.keys import Purpose
from qsim.methods import TAMUNA, Scaffnew
from qsim.objectives import LeastSquares
from qsim.problem import TheoryError
from qsim.steps import InverseTime
from qsim.storage import read_arrays

FEW = replace(RUN, rounds=8, seed=1, weighting="workers")


def tamuna(run: qsim.Run) -> np.ndarray:
    """Algorithm 1, with the coordinates of each worker by the oracle of PermK."""
    loop, method, template = Loop(run), run.method, run.compressor
    w, h = loop.start, np.zeros((WORKERS, N))
    for t in range(run.rounds):
        present = loop.present(t)
        here = np.arange(WORKERS) if present is None else np.flatnonzero(present)
        step, x = method.step(t), np.tile(w, (WORKERS, 1))
        for _ in range(loop.rows.fold(t).generator().geometric(method.p)):
            x = x - step * (loop.gradients(x) + L2 * x - h)
        word = qsim.Key(run.seed).fold(Purpose.QUANTIZE, t, 0).word >> 24 << 24
        sends = np.zeros((WORKERS, N), bool)
        for number, i in enumerate(here):
            mine = drawn.block(word + number, template.workers, template.copies, N)
            sends[i, [j for j in mine if j < N]] = True
        assert (sends.sum(axis=0) == template.copies).all()
        w = np.where(sends, x, 0.0).sum(axis=0) / template.copies
        h = h + np.where(sends, method.learning / step * (w - x), 0.0)
    return w


@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.5)], ids=repr)
@pytest.mark.parametrize(
    ("template", "clients", "step"),
    [
        (PermK(6, 3), AllClients(), STEP),
        (PermK(6, 4), AllClients(), InverseTime(STEP, 9)),
        (PermK(4, 2), SampledClients(4), STEP),
        (PermK(3, 3), SampledClients(3), STEP),
    ],
    ids=repr,
)
def test_it_is_that_of_the_papers(template: PermK, clients, step, partition) -> None:
    method = TAMUNA(step, p=0.3, learning=0.2)
    run = replace(FEW, method=method, compressor=template, clients=clients, partition=partition)
    np.testing.assert_allclose(qsim.simulate(run).weights, tamuna(run), atol=3e-6)


@pytest.mark.parametrize("step", [STEP, InverseTime(STEP, 5)], ids=repr)
def test_with_every_copy_it_is_scaffnew(step) -> None:
    """Also of shards with unequal weights; the step and p of theory are those of Scaffnew."""
    run = replace(FEW, partition=Dirichlet(0.5), weighting="rows", method=Scaffnew(step, p=0.3))
    expected = qsim.simulate(run).weights
    for compressor in (Identity(), PermK(6, 6)):
        found = qsim.simulate(replace(run, method=TAMUNA(step, p=0.3), compressor=compressor))
        np.testing.assert_allclose(found.weights, expected, atol=1e-6)
    plain, other = (replace(run, method=method).bound() for method in (Scaffnew(), TAMUNA()))
    assert other.factor == pytest.approx(plain.factor, rel=1e-12)
    assert other.start == pytest.approx(plain.start, rel=1e-12)


def test_control_variates_sum_to_zero_whoever_takes_part(tmp_path: Path) -> None:
    """To the rounding of weights to float32 on their way down; of who sat out they do not change."""
    run = replace(FEW, method=TAMUNA(STEP, p=0.3), compressor=PermK(3, 2), clients=SampledClients(3))
    kept = []
    for rounds in (7, 8):
        qsim.simulate(replace(run, rounds=rounds), checkpoint=tmp_path / f"{rounds}.npz")
        kept.append(read_arrays(tmp_path / f"{rounds}.npz")["workers/method/control"].reshape(WORKERS, N))
    assert np.abs(kept[1]).max() > 0.01
    assert np.abs(kept[1].sum(axis=0)).max() < 1e-5
    changed = (kept[0] != kept[1]).any(axis=1)
    assert changed.tolist() == Loop(run).present(7).tolist()


def test_what_is_counted() -> None:
    """Up: k numbers for each that takes part, without positions. Down: w to those that do not have it, and then the
    new w to all of them."""
    run = replace(FEW, method=TAMUNA(STEP, p=0.3), compressor=PermK(3, 2), clients=SampledClients(3))
    frame, heard = qsim.simulate(run).frame, np.zeros(WORKERS, bool)
    k = PermK(3, 2).most_kept(N)
    header = 8 * len(qsim.Channel(PermK(3, 2)).pack(qsim.batch.Vectors.dense(np.ones(N)), qsim.Key(0).words(0, 1))[0])
    holds, down = np.zeros(WORKERS, bool), 0
    for t in range(run.rounds):
        here = Loop(run).present(t)
        assert frame["bits_up"][t + 1] == 3 * 32 * k + header * int((here & ~heard).sum())
        heard |= here
        down += int((here & ~holds).sum()) + 3
        holds = here
    assert 32 * N * down <= frame["bits_down"].sum() < 32 * N * down * 1.02


SKEWED = qsim.Run(
    Quadratics((1.0, 2.0, 4.0, 8.0, 20.0), mu=0.5, heterogeneity=1.0),
    LeastSquares(l2=0.0),
    TAMUNA(),
    workers=5,
    partition=Contiguous(),
    rounds=120,
)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of runs that diverge
@pytest.mark.parametrize(
    "changes",
    [
        {"compressor": PermK(5, 3)},
        {"compressor": PermK(3, 2), "clients": SampledClients(3)},
        {"clients": SampledClients(2)},
        {"compressor": PermK(5, 2), "method": TAMUNA(p=0.2)},
    ],
    ids=repr,
)
def test_the_bound_holds_and_a_longer_step_breaks_it(changes: dict) -> None:
    run = replace(SKEWED, **changes)
    assert beyond(run) <= 1
    assert beyond(run, 2) > 1


@pytest.mark.parametrize(("step", "p", "learning"), [(2 / 20.5, 0.6, None), (1 / 20, 0.2, None), (0.05, 0.3, 0.1)])
@pytest.mark.parametrize(("workers", "copies"), [(3, 2), (4, 2), (4, 3)])
def test_a_round_shrinks_the_error_as_derived(workers, copies, step, p, learning) -> None:
    """The expectation over the number of local steps and over all sets of workers, of random states of quadratics in
    one coordinate: at most the factor, and with a fourth of the gain no more, as at slow states."""
    data = Quadratics(tuple(np.linspace(1.0, 20.0, workers)), mu=0.5)
    problem = replace(SKEWED, data=data, workers=workers, compressor=PermK(workers, copies)).problem()
    method = TAMUNA(step, p, learning).resolved(problem)
    factor, e = method.bound(problem).factor, method.learning
    random, worst = np.random.default_rng(0), 0.0
    for trial in range(60):
        curved = np.exp(random.uniform(np.log(0.5), np.log(20), workers))  # f_i = curved_i u^2/2, w* = 0
        d, h = 10.0 ** random.uniform(-2, 2), random.standard_normal(workers)
        if trial % 3 == 0:
            curved[:] = (0.5, 20)[trial % 2]
        if trial % 5 == 0:
            d = 0.0
        h -= h.mean()
        c = step**2 / (p * e * (copies - 1) / (workers - 1))
        before, left, found, x = d**2 + c * np.mean(h**2), 1.0, 0.0, np.full(workers, d)
        for _ in range(int(40 / p)):
            x = x - step * (curved * x - h)
            sets, after = list(combinations(range(workers), copies)), 0.0
            for some in map(list, sets):
                w, learnt = x[some].mean(), h.copy()
                learnt[some] += e / step * (w - x[some])
                after += (w**2 + c * np.mean(learnt**2)) / len(sets)
            found += left * p * after
            left *= 1 - p
        worst = max(worst, found / before)
    assert worst <= factor * (1 + 1e-12)
    assert 1 - worst <= 4 * (1 - factor)


def test_the_step_and_probability_are_those_of_theory() -> None:
    problem = replace(SKEWED, compressor=PermK(5, 3)).problem()
    method = TAMUNA().resolved(problem)
    assert method.step(0) == pytest.approx(2 / 20.5, rel=1e-6)
    share, learnt = 5 * 2 / (3 * 4), 2 / 4
    kept = (19.5 / 20.5) ** 2
    assert method.p == pytest.approx(np.sqrt((1 - kept) / (share * learnt)), rel=1e-6)
    assert method.learning == pytest.approx(method.p * share)
    assert method.bound(problem).factor > Scaffnew().resolved(SKEWED.problem()).bound(SKEWED.problem()).factor
    assert TAMUNA(0.05, 0.5, learning=0.9).resolved(problem).bound(problem) is None  # the proof needs e <= p x
    assert TAMUNA(InverseTime(0.05), 0.5).resolved(problem).bound(problem) is None


def test_what_is_refused() -> None:
    for changes, words in [
        ({"compressor": qsim.RandK(2)}, "two or more of the 5 workers"),
        ({"compressor": PermK(5)}, r"qsim.PermK\(workers=5, copies=3\)"),
        ({"compressor": PermK(5, 3), "clients": SampledClients(3)}, "two or more of the 3 workers"),
        ({"compressor": PermK(5, 3), "partition": Dirichlet(0.3), "data": RUN.data}, "must have equal weights"),
        ({"compressor": qsim.ErrorFeedback(qsim.TopK(2))}, "without a memory"),
    ]:
        with pytest.raises(ValueError, match=words):
            TAMUNA(0.1, 0.5).resolved(replace(SKEWED, **changes).problem())
    with pytest.raises(TheoryError, match="not strongly convex"):
        TAMUNA().resolved(replace(RUN, objective=LeastSquares(l2=0.0)).problem())
    with pytest.raises(TheoryError, match="no p follows"):
        TAMUNA(100.0).resolved(SKEWED.problem())
    with pytest.raises(ValueError, match="drops messages"):
        replace(SKEWED, network=qsim.Network(rule=qsim.network.Fastest(3)))
    with pytest.raises(ValueError, match="learning must be at most 1"):
        TAMUNA(learning=1.5)
    with pytest.raises(ValueError, match="is for 3 workers"):
        replace(SKEWED, compressor=PermK(3))
