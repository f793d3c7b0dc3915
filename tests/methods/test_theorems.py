"""Steps and promises that follow from theorems: the formulas of the papers, at constants that are all different."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import qsim
from qsim.clients import AllClients
from qsim.compressors import Bernoulli, Compose, Identity, RandK, Sign, TopK
from qsim.methods import (
    DASHA,
    DIANA,
    EF21,
    EFBV,
    MARINA,
    MVR,
    PAGE,
    SGD,
    EControl,
    Fatkhullin2023,
    Gorbunov2020,
    GradientDescent,
    HeavyBall,
    LocalSGD,
    Method,
    Nesterov,
    Richtarik2021,
    Richtarik2024,
    SignSGD,
)
from qsim.problem import Problem
from qsim.steps import Constant, TimesTheory

pytestmark = pytest.mark.quick

N, L, MOST, MEAN, ROW, S, SHARE, MU = 20, 2.0, 3.0, 2.5, 7.0, 0.75, 0.25, 0.125
ARITHMETIC, FEATURE, ENERGY = 2.25, 1.5, 29.0
BEHIND, DISTANCE, SENT, NOISE, GRADIENT, CHANGE, ROUNDING = 5.0, 11.0, 13.0, 17.0, 19.0, 23.0, 2.0**-20


def problem(compressor: qsim.compressors.Compressor, **changes: Any) -> Problem:
    """A problem with the constants above: what a method may ask for, and nothing else."""
    constants: dict[str, Any] = {
        "n": N,
        "smoothness": L,
        "largest_smoothness": MOST,
        "mean_smoothness": ARITHMETIC,
        "mean_square_smoothness": MEAN,
        "sent_smoothness": np.array([1.0, MOST - MU]),
        "feature_smoothness": FEATURE,
        "largest_of_owners": lambda parts: float(parts.max()),
        "worker_contractions": np.full(2, compressor.contraction(N) or 0.0),
        "scaled_energy": lambda w, factors: ENERGY * factors.max(),
        "weights": np.array([SHARE, 1 - SHARE]),
        "worker_convexity": MU,
        "sent_energy": lambda w: ENERGY,
        "row_smoothness": ROW,
        "spread": S,
        "omega": compressor.variance(N),
        "delta": compressor.contraction(N),
        "participation": 1.0,
        "largest_share": SHARE,
        "strong_convexity": MU,
        "unbiased_mean": True,
        "hessian_variance": MEAN,
        "down": None,
        "suboptimality": BEHIND,
        "square_distance": DISTANCE,
        "sent_at_optimum": SENT,
        "row_noise": lambda w: NOISE,
        "mean_square_gradient": lambda w: GRADIENT,
        "mean_square_change": lambda: CHANGE,
        "rounding": ROUNDING,
        "optimum": None,
        "start": None,
        "clients": AllClients(),
        "objective": qsim.LogisticRegression(l2=MU),
        "compressor": compressor,
    }
    found: Any = SimpleNamespace(**(constants | changes))
    return found


GD_STEP = 1 / (L + 2 * S * MOST)
SGD_STEP = 1 / (L + 2 * S * MOST + 2 * (S + SHARE) * ROW / 3)
SGD_FLOOR = SGD_STEP / MU * (2 * S * SENT + 2 * (S + SHARE) * NOISE / 3)
DIANA_STEP = 2 / (L + MU + 6 * S * (MOST - MU))
OMEGA = N / 4 - 1  # of RandK(4)
DIANA_SHIFT = 1 / (1 + OMEGA)
MARINA_STEP = 1 / (L + MEAN * sqrt(2 * 0.5 * S / 0.5))
THETA, RATIO = 1 - sqrt(1 - 0.2), 0.8 / (1 - sqrt(0.8)) ** 2  # of TopK(4): delta = 1/5
EF21_STEP = 1 / (L + FEATURE * sqrt(2 * RATIO))
HALF_THETA = 1 - sqrt(1 - 0.1)  # where half of the workers take part


def momentum_step(eta: float, mu: float = MU) -> float:
    late, sent = (1 / eta - 1) ** 2, RATIO * eta**2 * FEATURE**2
    if mu == 0:
        return 1 / (L + sqrt(4 * sent + 2 * late * (L**2 + 2 * sent)))
    return min(1 / (L + sqrt(8 * sent + 4 * late * (L**2 + 4 * sent))), min(THETA, eta) / (2 * mu))


def seldom(eta: float, share: float) -> float:
    """EF21 with momentum, of clients who take part with a probability of `share`, for mu = 0."""
    forgets, sent = 1 - sqrt(1 - share * (2 * eta - eta**2)), RATIO * eta**2
    return 1 / (L + FEATURE * sqrt(4 * sent + 2 * (1 / forgets - 1) ** 2 * (1 + 2 * sent)))


def general_diana(spread: float, mu: float, common: float, l2: float) -> float:
    rough = L + common + 6 * spread * (MOST - MU + common - l2)
    return min(2 / rough, mu / (common**2 + 6 * spread * (common - l2) ** 2 + rough * (mu - common)))


def estimated(compression: float, change: float, late: float, total: float) -> float:
    return 1 / (L + sqrt(2 * (compression * (change + late) + total)))


DASHA_STEP = 1 / (L + MEAN * sqrt(4 * S * (2 * OMEGA + 1)))
FORGET = 1 / (2 * OMEGA + 1)
KEPT = sqrt(0.8)  # of TopK(4)
CONTROL = (1 - KEPT) / (3 * KEPT + 0.5)
PAGE_ROWS, MVR_ROWS = 0.75 * ROW**2 / 3, 2 * 0.7**2 * ROW**2 / 3


def ef_bv(eta: float, omega: float, mean: float) -> tuple[float, float, float, float, float]:
    """lambda, nu, r, r_m and the step, at the defaults of EF-BV's Theorem 1."""
    shift, scale = (min(1, (1 - eta) / ((1 - eta) ** 2 + x)) for x in (omega, mean))
    left = (1 - shift + shift * eta) ** 2 + shift**2 * omega
    whole = (1 - scale + scale * eta) ** 2 + scale**2 * mean
    return shift, scale, left, whole, 1 / (L + MEAN * sqrt(whole / left) / (sqrt((1 + left) / (2 * left)) - 1))


COMP = Compose(TopK(10), Bernoulli(0.5))  # of 20 coordinates: eta = sqrt(1/2), omega = 1
_, _, BV_LEFT, BV_WHOLE, BV_STEP = ef_bv(sqrt(0.5), 1.0, SHARE)
BV_LATE = sqrt((1 + BV_LEFT) / (2 * BV_LEFT)) - 1
FLAT = {"objective": qsim.LogisticRegression(l2=0.0)}
STEPS: list[tuple[Method, qsim.compressors.Compressor, dict[str, Any], float]] = [
    (GradientDescent(), Identity(), {"spread": 0.0}, 1 / L),
    (GradientDescent(), RandK(4), {}, GD_STEP),
    (GradientDescent(momentum=Nesterov(0.5)), RandK(4), {}, GD_STEP),
    (SGD(batch=3), RandK(4), {}, SGD_STEP),
    (SGD(batch=1), Identity(), {"spread": 0.0}, 1 / (L + 2 * SHARE * ROW)),
    (DIANA(), RandK(4), {}, DIANA_STEP),
    (DIANA(), RandK(4), {"spread": 0.0}, 2 / (L + MU)),
    (DIANA(batch=3), RandK(4), {}, 2 / (2 / DIANA_STEP + 2 * (5 * S + SHARE) * ROW / 3)),
    (DIANA(), RandK(4), {"strong_convexity": 0.0, "worker_convexity": 0.0} | FLAT, 1 / (L + 6 * S * (MOST - MU))),
    (DIANA(), RandK(4), {"strong_convexity": 0.5}, general_diana(S, 0.5, MU, MU)),
    (DIANA(), RandK(4), FLAT, general_diana(S, MU, MU, 0.0)),
    (DIANA(), RandK(4), {"worker_convexity": 0.0} | FLAT, 1 / (L + 6 * S * (MOST - MU))),
    (DIANA(Gorbunov2020()), RandK(4), {}, 1 / ((1 + 6 * S) * MOST)),
    (DIANA(Gorbunov2020(), batch=3), RandK(4), {}, 1 / ((1 + 6 * S) * MOST + 2 * (S + SHARE) * ROW / 3)),
    (MARINA(p=0.5), RandK(4), {}, MARINA_STEP),
    (MARINA(p=0.5), RandK(4), {"strong_convexity": 0.0}, 1 / (L + MEAN * sqrt(0.5 * S / 0.5))),
    (MARINA(p=0.5), RandK(4), {"strong_convexity": 2.0}, 0.5 / (2 * 2.0)),
    (MARINA(), RandK(4), {}, 1 / (L + MEAN * sqrt(2 * (1 - 0.2) * S / 0.2))),
    (EF21(), TopK(4), {}, EF21_STEP),
    (EF21(), TopK(4), {"strong_convexity": 0.0}, 1 / (L + FEATURE * sqrt(RATIO))),
    (EF21(), TopK(4), {"strong_convexity": 2.0}, THETA / (2 * 2.0)),
    (EF21(), TopK(4), {"participation": 0.5}, 1 / (L + FEATURE * sqrt(2 * 0.9 / HALF_THETA**2))),
    (EF21(Richtarik2021()), TopK(4), {}, 1 / (L + MEAN * sqrt(2 * RATIO))),
    (EF21(Richtarik2024()), TopK(4), {}, 1 / (L + ARITHMETIC * sqrt(2 * RATIO))),
    (EF21(momentum=0.9), TopK(4), {}, momentum_step(0.9)),
    (EF21(momentum=0.03), TopK(4), {}, momentum_step(0.03)),
    (EF21(momentum=0.03), TopK(4), {"strong_convexity": 0.0}, momentum_step(0.03, 0.0)),
    (EF21(momentum=0.03), TopK(4), {"strong_convexity": 2.0}, momentum_step(0.03, 2.0)),
    (EF21(momentum=0.9), TopK(4), {"strong_convexity": 2.0}, THETA / (2 * 2.0)),
    (EF21(momentum=0.3), TopK(4), {"strong_convexity": 0.0, "participation": 0.5}, seldom(0.3, 0.5)),
    (EF21(Fatkhullin2023(), momentum=0.9), TopK(4), {}, 0.2 / (20 * MEAN)),
    (EF21(Fatkhullin2023(), momentum=0.03), TopK(4), {}, 0.03 / (7 * L)),
    (EF21(momentum=1.0), TopK(4), {}, EF21_STEP),
    (EF21(server_momentum=HeavyBall(0.5)), TopK(4), {}, 0.5 / (L + sqrt(2 * L**2 + 2 * RATIO * FEATURE**2))),
    (
        EF21(server_momentum=HeavyBall(0.9)),
        TopK(4),
        {"participation": 0.5},
        0.1 / (L + sqrt(2 * 81 * L**2 + 2 * 0.9 / HALF_THETA**2 * FEATURE**2)),
    ),
    (
        EF21(estimator=PAGE(3, p=0.25)),
        TopK(4),
        {},
        estimated(RATIO, 1.25 * MEAN**2 + PAGE_ROWS, 2 * PAGE_ROWS, SHARE * PAGE_ROWS / 0.25),
    ),
    (
        EF21(estimator=MVR(3, 0.3)),
        TopK(4),
        {},
        estimated(RATIO, 2 * MEAN**2 + MVR_ROWS, 2 * 0.3 * MVR_ROWS, SHARE * MVR_ROWS / 0.3),
    ),
    (DASHA(), RandK(4), {}, DASHA_STEP),
    (DASHA(), RandK(4), {"strong_convexity": 0.0}, 1 / (L + MEAN * sqrt(2 * S * (2 * OMEGA + 1)))),
    (DASHA(), RandK(4), {"strong_convexity": 2.0}, FORGET / (2 * 2.0)),
    (
        DASHA(forget=0.05),
        RandK(4),
        {},
        1 / (L + MEAN * sqrt(2 * S * (1 + 4 * OMEGA * 0.05) / (0.05 * (1.5 - 0.05)))),
    ),
    (
        DASHA(forget=0.05),
        RandK(4),
        {"strong_convexity": 0.0},
        1 / (L + MEAN * sqrt(2 * S * (1 + 2 * OMEGA * 0.05) / (0.05 * (2 - 0.05)))),
    ),
    (
        DASHA(estimator=PAGE(3, p=0.25)),
        RandK(4),
        {},
        1 / (L + sqrt(4 * S * (2 * OMEGA + 1) * (1.25 * MEAN**2 + 3 * PAGE_ROWS) + 2 * SHARE * PAGE_ROWS / 0.25)),
    ),
    (
        DASHA(estimator=MVR(3, 0.3)),
        RandK(4),
        {},
        estimated(2 * S * (2 * OMEGA + 1), 2 * MEAN**2 + MVR_ROWS, 0.6 * MVR_ROWS, SHARE * MVR_ROWS / 0.3),
    ),
    (EControl(), TopK(4), {}, CONTROL / (6 * MEAN)),
    (EControl(strength=0.01), TopK(4), {}, 0.01 / (6 * MEAN)),
    (EControl(), Identity(), {"mean_square_smoothness": 0.5}, 1 / (2 * L)),
    (EFBV(), RandK(4), {"spread": SHARE * OMEGA}, ef_bv(0.0, OMEGA, SHARE * OMEGA)[-1]),
    (EFBV(), RandK(4), {"spread": OMEGA}, ef_bv(0.0, OMEGA, OMEGA)[-1]),
    (EFBV(), TopK(4), {"shared": False}, ef_bv(KEPT, 0.0, 0.0)[-1]),
    (EFBV(), COMP, {"shared": False}, ef_bv(sqrt(0.5), 1.0, SHARE)[-1]),
    (EFBV(), Identity(), {"spread": 0.0}, 1 / L),
    (LocalSGD(steps=8), Identity(), {}, 4 / (MU * (16 * ROW / MU + 1))),
    (LocalSGD(steps=8, batch=None), Identity(), {}, 4 / (MU * (16 * MOST / MU + 1))),
    (LocalSGD(steps=2000), Identity(), {}, 4 / (MU * (2000 + 1))),
    (SignSGD(), Sign(), {}, 1 / sqrt(N * L)),
]


@pytest.mark.parametrize(("method", "compressor", "changes", "step"), STEPS, ids=lambda x: repr(x)[:70])
def test_steps(method, compressor, changes, step) -> None:
    resolved: Any = method.resolved(problem(compressor, **changes))
    assert resolved.step(0) == pytest.approx(step, rel=1e-12)
    assert isinstance(resolved.step, Constant) or isinstance(method, (LocalSGD, SignSGD))
    given: Any = type(method)(step=Constant(0.01)).resolved(problem(compressor, **changes))
    assert given.step(0) == 0.01


@pytest.mark.parametrize(("method", "compressor", "changes", "step"), STEPS, ids=lambda x: repr(x)[:70])
def test_multiples_of_steps(method, compressor, changes, step) -> None:
    times = replace(method, step=TimesTheory(8.0, method.step))
    if isinstance(method, (LocalSGD, SignSGD)):
        with pytest.raises(ValueError, match="a method whose step of theory is constant"):
            times.resolved(problem(compressor, **changes)).step(0)
    else:
        longer: Any = times.resolved(problem(compressor, **changes))
        assert isinstance(longer.step, Constant)
        assert longer.step(0) == pytest.approx(8 * step, rel=1e-12)


def test_a_multiple_is_of_a_theorem_about_the_method() -> None:
    with pytest.raises(TypeError, match="is a theorem about EF21, found as the step of DIANA"):
        qsim.methods.DIANA(step=TimesTheory(2.0, qsim.methods.Richtarik2021()))
    with pytest.raises(TypeError, match="theorem must be None or the step of a theorem, found"):
        TimesTheory(2.0, Constant(0.5))


def test_shares_and_steps_that_fall() -> None:
    assert DIANA().resolved(problem(RandK(4))).shift == pytest.approx(1 / (1 + OMEGA))
    assert DIANA(shift=0.1).resolved(problem(RandK(4))).shift == 0.1
    assert MARINA().resolved(problem(RandK(4))).p == pytest.approx(1 / (1 + OMEGA))
    assert MARINA(p=0.75).resolved(problem(RandK(4))).p == 0.75
    local, signs = LocalSGD(steps=8).resolved(problem(Identity())), SignSGD().resolved(problem(Sign()))
    for k in (1, 10, 1000):
        assert local.step(k) == pytest.approx(4 / (MU * (16 * ROW / MU + 1 + k)), rel=1e-12)
        assert signs.step(k) == pytest.approx(1 / sqrt(N * L * (1 + k)), rel=1e-12)


def test_what_else_is_left_to_theory() -> None:
    assert DASHA().resolved(problem(RandK(4))).forget == pytest.approx(FORGET)
    assert EControl().resolved(problem(TopK(4))).strength == pytest.approx(CONTROL)
    assert EControl().resolved(problem(Identity())).strength == 1.0
    resolved = EFBV().resolved(problem(COMP, shared=False))
    assert (resolved.shift, resolved.scale) == pytest.approx(ef_bv(sqrt(0.5), 1.0, SHARE)[:2])
    rows = SimpleNamespace(shards=SimpleNamespace(dataset=SimpleNamespace(rows=100)), workers=4)
    assert PAGE(5).resolved(rows).p == pytest.approx(5 / 30)
    assert PAGE(5, p=0.5).resolved(rows).p == 0.5


def below(start: float, step: float) -> tuple[float, float, float]:
    """A factor of 1 - step mu, and no floor."""
    return 1 - step * MU, start, 0.0


PROMISES: list[tuple[Method, qsim.compressors.Compressor, dict[str, Any], tuple[float, float, float]]] = [
    (GradientDescent(), Identity(), {"spread": 0.0}, below(BEHIND, 1 / L)),
    (GradientDescent(Constant(0.1)), Identity(), {"spread": 0.0}, below(BEHIND, 0.1)),
    (
        GradientDescent(),
        RandK(4),
        {},
        (1 - GD_STEP * MU, L / 2 * DISTANCE, L / 2 * 2 * S * SENT * GD_STEP / MU),
    ),
    (SGD(batch=3), RandK(4), {}, (1 - SGD_STEP * MU, L / 2 * DISTANCE, L / 2 * SGD_FLOOR)),
    (
        DIANA(),
        RandK(4),
        {},
        ((1 - DIANA_STEP * MU) ** 2, L / 2 * (DISTANCE + 4 * S * DIANA_STEP**2 / DIANA_SHIFT * SENT), 0.0),
    ),
    (
        DIANA(shifts="gradient"),
        RandK(4),
        {},
        ((1 - DIANA_STEP * MU) ** 2, L / 2 * (DISTANCE + 4 * S * DIANA_STEP**2 / DIANA_SHIFT * CHANGE), 0.0),
    ),
    (
        DIANA(Constant(0.05)),
        RandK(4),
        {"strong_convexity": 0.5, "worker_convexity": 0.25},
        (
            1 - 0.05 + 0.05**2 * (0.25**2 + 6 * S * MU**2 + (L + 0.25 + 6 * S * MOST) * 0.25),
            L / 2 * (DISTANCE + 4 * S * 0.05**2 / DIANA_SHIFT * SENT),
            0.0,
        ),
    ),
    (
        DIANA(shift=0.01),
        RandK(4),
        {"participation": 0.5},
        (1 - 0.01 * 0.5 / 2, L / 2 * (DISTANCE + 4 * S * DIANA_STEP**2 / 0.005 * SENT), 0.0),
    ),
    (MARINA(p=0.5), RandK(4), {}, below(BEHIND, MARINA_STEP)),
    (EF21(), TopK(4), {}, below(BEHIND + EF21_STEP / THETA * 0.8 * ENERGY, EF21_STEP)),
    (
        EF21(momentum=0.9),
        TopK(4),
        {},
        below(BEHIND + 2 * momentum_step(0.9) / THETA * 0.8 * ENERGY, momentum_step(0.9)),
    ),
    (EF21(momentum=0.9, shifts="gradient"), TopK(4), {}, below(BEHIND, momentum_step(0.9))),
    (EF21(shifts="gradient"), TopK(4), {}, below(BEHIND, EF21_STEP)),
    (DASHA(), RandK(4), {}, below(BEHIND, DASHA_STEP)),
    (
        DASHA(shifts="zero"),
        RandK(4),
        {},
        below(BEHIND + DASHA_STEP / (2 * FORGET * (1.5 - FORGET)) * (1 + 4 * S * FORGET) * GRADIENT, DASHA_STEP),
    ),
    (EFBV(shifts="gradient"), COMP, {"shared": False}, (max(1 - BV_STEP * MU, (1 + BV_LEFT) / 2), BEHIND, 0.0)),
    (
        EFBV(),
        COMP,
        {"shared": False},
        (
            max(1 - BV_STEP * MU, (1 + BV_LEFT) / 2),
            BEHIND + BV_STEP * BV_WHOLE / (2 * BV_LEFT * BV_LATE * (1 + BV_LATE)) * GRADIENT,
            0.0,
        ),
    ),
    (EF21(Constant(0.01)), TopK(4), {"participation": 0.5}, below(BEHIND + 0.01 / HALF_THETA * 0.9 * ENERGY, 0.01)),
]


@pytest.mark.parametrize(("method", "compressor", "changes", "expected"), PROMISES, ids=lambda x: repr(x)[:70])
def test_promises(method, compressor, changes, expected) -> None:
    case = problem(compressor, **changes)
    promise = method.resolved(case).bound(case)
    assert promise is not None
    assert (promise.factor, promise.start, promise.floor) == pytest.approx(expected, rel=1e-12)
    rounding = ROUNDING * (1 + S / method.p) if isinstance(method, MARINA) else ROUNDING
    if isinstance(method, DASHA):
        rounding = ROUNDING * (1 + 8 * S / FORGET)
    assert promise.rounding == pytest.approx(rounding, rel=1e-12)


@pytest.mark.parametrize("method", [GradientDescent, DIANA, MARINA, EF21, DASHA, EFBV])
def test_nothing_is_promised_of_steps_that_are_too_long_or_without_convexity(method) -> None:
    case = problem(TopK(4) if method is EF21 else RandK(4), shared=False)
    longest = method().resolved(case)
    kept = {"p": longest.p} if method is MARINA else {}
    assert longest.bound(case) is not None
    assert method(Constant(longest.step(0) * 1.001), **kept).resolved(case).bound(case) is None
    flat = problem(case.compressor, strong_convexity=0.0, shared=False)
    assert method().resolved(flat).bound(flat) is None


@pytest.mark.parametrize(
    ("method", "compressor", "changes"),
    [
        (GradientDescent(momentum=Nesterov(0.5)), RandK(4), {}),
        (GradientDescent(Constant(0.01)), RandK(4), {"unbiased_mean": False}),
        (GradientDescent(Constant(0.01)), TopK(4), {}),
        (DIANA(batch=3), RandK(4), {}),
        (DIANA(), RandK(4), {"unbiased_mean": False}),
        (DIANA(shift=0.21), RandK(4), {}),
        (EF21(batch=3), TopK(4), {}),
        (EF21(momentum=0.9), TopK(4), {"participation": 0.5}),
        (EF21(momentum=0.9, batch=2), TopK(4), {}),
        (DASHA(estimator=PAGE(3, p=0.5)), RandK(4), {}),
        (DASHA(Constant(1e-3), forget=0.5), RandK(4), {}),
        (EF21(estimator=PAGE(3, p=0.5)), TopK(4), {}),
        (EF21(server_momentum=HeavyBall(0.5)), TopK(4), {}),
        (EFBV(batch=2), RandK(4), {"shared": False}),
        (EFBV(Constant(1e-3), shift=1.0), RandK(4), {"shared": False}),
        (EControl(), TopK(4), {}),
        (DIANA(Constant(2 / (L + 6 * S * (MOST - MU)))), RandK(4), {"worker_convexity": 0.0} | FLAT),
    ],
    ids=lambda x: repr(x)[:70],
)
def test_nothing_is_promised_where_a_theorem_does_not_hold(method, compressor, changes) -> None:
    case = problem(compressor, **changes)
    assert method.resolved(case).bound(case) is None
