"""Shifts that begin at gradients, and regularisers inside what is compressed: against dense NumPy in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from qsim.compressors import Identity, TopK
from qsim.datasets import Dirichlet, Synthetic
from qsim.downlinks import SparsePull, SparseSum
from qsim.engines import Processes
from qsim.methods import DIANA, EF21, LBFGS, MARINA, SGD, GradientDescent, NewtonCG
from qsim.objectives import NonconvexLogistic, WithRegulariser
from qsim.steps import Constant

N, WORKERS, L2, K, STEP = 30, 5, 0.1, 4, 0.4
LOSS = qsim.LogisticRegression(l2=L2)
START = qsim.starts.Uniform(0.5)
RUN = qsim.Run(
    Synthetic(rows=150, features=N, nonzeros_per_row=6, noise=0.2, seed=1),
    LOSS,
    EF21(Constant(STEP), shifts="gradient"),
    TopK(K),
    workers=WORKERS,
    partition=Dirichlet(0.5),
    start=START,
    rounds=40,
)


def gradients(run: qsim.Run, inside: bool):
    """Return the function w -> (gradients of the workers, shape (W, n)), and their weights."""
    data, key = run.load(), qsim.Key(run.seed)
    shards = run.partition.split(data, WORKERS, key.fold(qsim.keys.Purpose.PARTITION))
    x, y = data.to_scipy().toarray().astype(float), data.labels.astype(float)

    def at(w: np.ndarray) -> np.ndarray:
        found = np.zeros((WORKERS, N))
        for worker in range(WORKERS):
            rows = shards.order[shards.offsets[worker] : shards.offsets[worker + 1]]
            if rows.size:
                found[worker] = x[rows].T @ (-y[rows] / (1 + np.exp(y[rows] * (x[rows] @ w)))) / rows.size
        return found + L2 * w * inside

    return at, shards.weights


def top(v: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(v)
    for row, out in zip(v, kept, strict=True):
        largest = np.argsort(-np.abs(row), kind="stable")[:K]
        out[largest] = row[largest]
    return kept


def ef21(run: qsim.Run, inside: bool, exact: bool, momentum: float | None = None) -> np.ndarray:
    """Algorithm 2 of Richtarik et al., with the regulariser in the gradients or beside them."""
    at, share = gradients(run, inside)
    w = run.start.weights(N, qsim.Key(run.seed).fold(qsim.keys.Purpose.START))
    h, v = np.zeros((WORKERS, N)), None
    for t in range(run.rounds):
        g = at(w)
        if momentum is not None:
            v = g if v is None else (1 - momentum) * v + momentum * g
            g = v
        h = g if exact and t == 0 else h + top(g - h)
        w = w - STEP * (share @ h + L2 * w * (not inside))
    return w


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("shifts", ["zero", "gradient"])
@pytest.mark.parametrize("momentum", [None, 0.3])
def test_ef21_is_that_of_its_authors(inside: bool, shifts: str, momentum: float | None) -> None:
    """To float32 rounding, over 40 rounds; the ways to begin, and where the regulariser is, differ by far more."""
    method = EF21(Constant(STEP), momentum=momentum, shifts=shifts)
    run = replace(RUN, method=method, objective=WithRegulariser(LOSS) if inside else LOSS)
    expected = ef21(run, inside, shifts == "gradient", momentum)
    found = qsim.simulate(run).weights
    np.testing.assert_allclose(found, expected, atol=3e-6)
    for changed in ((not inside, shifts == "gradient"), (inside, shifts == "zero")):
        assert np.abs(found - ef21(run, *changed, momentum)).max() > 1e-4


@pytest.mark.parametrize("inside", [False, True])
def test_diana_begins_at_gradients(inside: bool) -> None:
    """Without compression the shifts are known: h_i = g_i(w_0), then h_i + shift (g_i - h_i)."""
    run = replace(
        RUN,
        method=DIANA(Constant(STEP), shift=0.3, shifts="gradient"),
        compressor=Identity(),
        objective=WithRegulariser(LOSS) if inside else LOSS,
        rounds=12,
    )
    at, share = gradients(run, inside)
    w = START.weights(N, qsim.Key(0).fold(qsim.keys.Purpose.START))
    for _ in range(12):
        w = w - STEP * (share @ at(w) + L2 * w * (not inside))
    np.testing.assert_allclose(qsim.simulate(run).weights, w, atol=3e-6)
    quantized = replace(run, compressor=qsim.QSGD(1), rounds=400)
    end = qsim.simulate(quantized).frame["suboptimality"].iloc[-1]
    assert end < 1e-6, "shifts that were not what the server thinks would leave a bias"


def test_the_first_exchange_is_counted() -> None:
    """32 n bits from every worker in round 0, and no message of the compressor; then as usual."""
    zero = replace(RUN, method=EF21(Constant(STEP)), rounds=3)
    one, other = (qsim.simulate(run).frame for run in (replace(RUN, rounds=3), zero))
    assert one["bits_up"][1] == WORKERS * (32 * N + 8 * 4)
    assert one["bits_up"][2] > other["bits_up"][2]  # here the compressor's streams open
    assert one["bits_up"][3] <= WORKERS * K * 48
    assert one["bits_down"].tolist() == other["bits_down"].tolist()


def test_promises_begin_where_the_shifts_do() -> None:
    """EF21's second term is zero then, and DIANA's that of the way to the minimiser; runs stay below."""
    for method, compressor in ((EF21(shifts="gradient"), TopK(K)), (DIANA(shifts="gradient"), qsim.QSGD(4))):
        for objective in (LOSS, WithRegulariser(LOSS)):
            run = replace(RUN, method=method, compressor=compressor, objective=objective, rounds=150)
            promise, problem = run.bound(), run.problem()
            runs = [qsim.simulate(replace(run, seed=seed)) for seed in range(3)]
            mean = np.mean([trace.axis("suboptimality") for trace in runs[:1]], axis=0)
            assert (mean <= promise(np.arange(151))).all()
            if isinstance(method, EF21):
                assert promise.start == problem.suboptimality
            else:
                at, share = gradients(run, objective != LOSS)
                change = share @ ((at(problem.start) - at(problem.optimum)) ** 2).sum(axis=1)
                assert problem.mean_square_change() == pytest.approx(change, rel=1e-6)


@pytest.mark.parametrize(
    ("method", "compressor", "downlink"),
    [
        (EF21(Constant(STEP), shifts="gradient"), TopK(K), SparseSum()),
        (EF21(Constant(STEP), momentum=0.5, batch=3, shifts="gradient"), TopK(K), SparsePull()),
        (DIANA(Constant(STEP), shifts="gradient"), qsim.QSGD(4), SparsePull()),
    ],
    ids=repr,
)
@pytest.mark.parametrize("inside", [False, True])
def test_the_same_on_every_engine_and_resumed(method, compressor, downlink, inside: bool, tmp_path) -> None:
    objective = WithRegulariser(LOSS) if inside else LOSS
    run = replace(RUN, method=method, compressor=compressor, downlink=downlink, objective=objective, rounds=6)
    expected = qsim.simulate(run)

    class StopError(Exception):
        pass

    def stop(done: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        qsim.simulate(run, checkpoint=tmp_path / "run.npz", every=1, after_round=stop)
    found = [
        qsim.simulate(run, checkpoint=tmp_path / "run.npz"),
        qsim.simulate(run, engine=qsim.engines.Serial(block=2)),
    ]
    if downlink == SparseSum():
        found.append(qsim.simulate(run, engine=Processes(2)))
    for trace in found:
        assert trace.weights.tobytes() == expected.weights.tobytes()
        assert trace.frame.equals(expected.frame)


INSIDE = [
    (GradientDescent(Constant(STEP)), qsim.ErrorFeedback(TopK(K))),
    (SGD(Constant(STEP), batch=4), qsim.QSGD(4)),
    (MARINA(Constant(STEP), p=0.3), qsim.RandK(10)),
    (DIANA(Constant(STEP)), qsim.compressors.DRIVE()),
    (GradientDescent(Constant(STEP), qsim.methods.HeavyBall(0.5)), Identity()),
    (LBFGS(), Identity()),
    (NewtonCG(), Identity()),
]


@pytest.mark.parametrize(("method", "compressor"), INSIDE, ids=lambda x: repr(x)[:30])
def test_every_method_takes_the_regulariser_inside(method, compressor) -> None:
    """Without compression only rounding changes; with it messages do, and the optimum stays what it is."""
    for objective in (LOSS, NonconvexLogistic(weight=0.05)):
        known = objective == LOSS
        run = replace(RUN, method=method, objective=WithRegulariser(objective), optimum=known, rounds=60)
        if isinstance(method, SGD):
            run = replace(run, method=replace(method, batch=500, sampling=qsim.methods.Passes()))
        plain = replace(run, objective=objective, compressor=Identity())
        if not (isinstance(method, MARINA)):
            exact = qsim.simulate(replace(run, compressor=Identity())), qsim.simulate(plain)
            np.testing.assert_allclose(exact[0].weights, exact[1].weights, atol=1e-5)
        trace = qsim.simulate(replace(run, compressor=compressor))
        assert trace.frame["loss"].iloc[-1] < trace.frame["loss"].iloc[0]
        if isinstance(method, (LBFGS, NewtonCG)):
            assert trace.frame["gradient_norm"].iloc[-1] < 1e-8


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="shifts must be one of"):
        EF21(shifts="gradients")
    for method in (EF21(shifts="gradient"), DIANA(Constant(STEP), shift=0.5, shifts="gradient")):
        with pytest.raises(ValueError, match="all shifts begin at gradients, in round 0"):
            qsim.simulate(replace(RUN, method=method, clients=qsim.clients.SampledClients(2)))
    with pytest.raises(TypeError, match="objective must be such as"):
        WithRegulariser(0.1)
    with pytest.raises(ValueError, match="inside already"):
        WithRegulariser(WithRegulariser(LOSS))
    assert eval(repr(WithRegulariser(LOSS))) == WithRegulariser(LOSS)
