"""Constants of theory and the optimum of rows that only their workers have: those of all rows in one place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qsim
from helpers.rows_elsewhere import LOGISTIC, WORKERS, click_parts, npz_parts, require_same, run_of, together
from qsim.datasets import DataError, Parts, save_npz
from qsim.engines import Engine, Processes, Serial, Session
from qsim.objectives import LeastSquares, MultinomialLogistic, NonconvexLogistic, NoOptimumError, WithRegulariser
from qsim.problem import Problem
from qsim.workers.tasks import Job

OBJECTIVES: dict[str, Any] = {
    "logistic": LOGISTIC,
    "intercept": qsim.LogisticRegression(0.01, intercept=True),
    "regulariser inside": WithRegulariser(LOGISTIC),
    "nonconvex": NonconvexLogistic(0.1),
    "an intercept apart, and l1": qsim.WithL1(qsim.WithIntercept(LOGISTIC), 0.003),
    "classes": MultinomialLogistic(0.01, classes=3, intercept=True),
    "targets": LeastSquares(0.01),
}
METHODS: dict[str, dict[str, Any]] = {
    "descent": {"method": qsim.GradientDescent(), "compressor": qsim.QSGD(4)},
    "batches": {"method": qsim.SGD(batch=3), "compressor": qsim.QSGD(4)},
    "shifts": {"method": qsim.DIANA(), "compressor": qsim.RandK(20)},
    "differences": {"method": qsim.EF21(), "compressor": qsim.TopK(20)},
    "regulariser inside": {"method": qsim.GradientDescent(), "objective": WithRegulariser(LOGISTIC)},
}


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return click_parts(tmp_path_factory.mktemp("clicks"))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where optima are kept: nothing is known yet."""
    monkeypatch.setattr("qsim.storage.user_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "optima"


def parts_for(name: str, clicks: Parts, folder: Path) -> Parts:
    return npz_parts(folder, name) if name in ("classes", "targets") else clicks


def both(name: str, clicks: Parts, folder: Path, workers: int = WORKERS) -> tuple[Problem, Problem]:
    """The problem of rows elsewhere, and that of the same rows in one place."""
    parts = parts_for(name, clicks, folder)
    options = {"objective": OBJECTIVES[name], "method": qsim.GradientDescent(0.1), "workers": workers}
    data, partition = together(parts, workers)
    return run_of(parts, **options).problem(), run_of(data, partition=partition, **options).problem()


@pytest.mark.parametrize("workers", [3, WORKERS, 40])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_constants_are_those_of_all_rows_in_one_place(name: str, workers: int, clicks: Parts, tmp_path: Path) -> None:
    """What is of workers or rows to the last bit; of 40 workers some have no row."""
    there, here = both(name, clicks, tmp_path, workers)
    assert (there.shards.sizes.min() == 0) == (workers == 40)
    run = run_of(there.data.source, objective=there.objective, method=qsim.GradientDescent(0.1), workers=workers)
    with run.measured_on(Serial(block=1)) as alone:
        assert np.array_equal(alone.worker_smoothness, here.worker_smoothness)
        assert alone.row_smoothness == here.row_smoothness
    u, w = np.random.default_rng(1).standard_normal((2, here.n))
    assert np.array_equal(there.worker_smoothness, here.worker_smoothness)
    assert there.row_smoothness == here.row_smoothness
    assert there.worker_convexity == pytest.approx(here.worker_convexity, rel=1e-12)
    assert there.feature_smoothness == here.feature_smoothness
    assert there.sent_energy(w) == here.sent_energy(w)
    assert there.mean_square_gradient(w) == here.mean_square_gradient(w)
    assert there.row_noise(w) == here.row_noise(w) > 0
    assert np.array_equal(there._of_workers("square norms", u, w), here._of_workers("square norms", u, w))
    assert there.smoothness == pytest.approx(here.smoothness, rel=2e-7)
    assert there.strong_convexity == pytest.approx(here.strong_convexity, rel=1e-12)
    if name != "nonconvex":
        assert there.objective.value(w, there.data) == pytest.approx(here.objective.value(w, here.data), rel=1e-13)


@pytest.mark.parametrize("features", [1, 2])
def test_the_largest_eigenvalue_of_few_features(tmp_path: Path, features: int) -> None:
    parts = npz_parts(tmp_path, "targets", features)
    data, _ = together(parts)
    there = run_of(parts, objective=LeastSquares(0.0), method=qsim.GradientDescent(0.1)).problem()
    dense = data.to_scipy().toarray().astype(np.float64)
    values = np.linalg.eigvalsh(dense.T @ dense / data.rows)
    assert there.smoothness == pytest.approx(values[-1], rel=1e-12)
    assert there.strong_convexity == pytest.approx(values[0], rel=1e-12)


def test_rows_of_zeros_have_no_step(tmp_path: Path) -> None:
    for part in range(2):
        save_npz(tmp_path / f"{part}.npz", qsim.Dataset([0, 1, 1], [part], [0.0], [1, -1], 4))
    objective, method = qsim.LogisticRegression(0.0), qsim.GradientDescent()
    run = run_of(Parts(tmp_path / "*.npz"), objective=objective, method=method, workers=4)
    with pytest.raises(ValueError, match="L = 0 .* give the step"):
        qsim.simulate(run)


@pytest.mark.parametrize("case", METHODS)
def test_steps_of_theory_on_every_engine(clicks: Parts, case: str) -> None:
    """The same bits; no bits are counted for constants."""
    data, partition = together(clicks)
    run, here = run_of(clicks, **METHODS[case]), run_of(data, partition=partition, **METHODS[case])
    with run.measured_on(Serial()) as problem:
        method: Any = run.method.resolved(problem)
    near: Any = here.method.resolved(here.problem())
    assert method.step(0) == pytest.approx(near.step(0), rel=2e-7)
    serial = qsim.simulate(run)
    require_same(serial, qsim.simulate(replace(run, method=method)))
    for engine in (Processes(2), Serial(threads=2, block=2)):
        require_same(serial, qsim.simulate(run, engine=engine))


@pytest.mark.parametrize("case", METHODS)
@pytest.mark.parametrize("engine", [None, Processes(2)], ids=["serial", "processes"])
def test_bounds_are_those_of_all_rows_in_one_place(clicks: Parts, case: str, engine: Engine | None) -> None:
    data, partition = together(clicks)
    bound = run_of(clicks, **METHODS[case]).bound(engine)
    expected = run_of(data, partition=partition, **METHODS[case]).bound()
    assert bound is not None
    assert expected is not None
    np.testing.assert_allclose(bound([0, 10, 10**6]), expected([0, 10, 10**6]), rtol=1e-6)


class OneSlot(Engine):
    """An engine with room for one session."""

    def __init__(self) -> None:
        self.opened, self.busy = 0, False

    def open(self, job: Job) -> Session:
        assert not self.busy, "there is a session already"
        self.opened, self.busy, session = self.opened + 1, True, Serial().open(job)
        end = type(session).__exit__
        slot = self

        class Ending(type(session)):  # type: ignore[misc]
            def __exit__(self, *problem: Any) -> None:
                slot.busy = False
                end(self, *problem)

        session.__class__ = Ending
        return session


@pytest.mark.parametrize(("workers", "sessions"), [(WORKERS, 3), (3, 2)])
def test_there_is_one_session_at_a_time(clicks: Parts, workers: int, sessions: int, kept: Path) -> None:
    """And one for all constants where every worker has a file."""
    run = run_of(clicks, workers=workers, method=qsim.GradientDescent(), compressor=qsim.QSGD(4), optimum=True)
    engine, expected = OneSlot(), run.problem()
    qsim.simulate(run, engine=engine)
    assert engine.opened == sessions
    with run.measured_on(engine) as problem:  # what is of files, of workers, and of files again
        assert problem.smoothness == expected.smoothness
        assert problem.largest_smoothness == expected.largest_smoothness
        assert problem.suboptimality == expected.suboptimality
    assert not engine.busy


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_optimum_is_that_of_all_rows_in_one_place(name: str, clicks: Parts, tmp_path: Path, kept: Path) -> None:
    there, here = both(name, clicks, tmp_path)
    if name == "nonconvex":
        with pytest.raises(NoOptimumError, match="not convex"):
            there.minimum  # noqa: B018
        return
    gradient = here.objective.gradient(there.optimum, here.data)
    assert np.linalg.norm(gradient) <= 1.01e-10
    assert there.minimum == pytest.approx(here.minimum, rel=1e-13)
    np.testing.assert_allclose(there.optimum, here.optimum, atol=1e-7)
    assert there.square_distance == pytest.approx(here.square_distance, rel=1e-6)
    assert there.suboptimality == pytest.approx(here.suboptimality, rel=1e-9)


def test_the_optimum_depends_neither_on_workers_nor_on_engines(clicks: Parts, kept: Path) -> None:
    """A run records the distance to it, which costs no bits."""
    method = qsim.GradientDescent(0.5)
    losses, minima, optima = [], [], []
    for workers, engine in ((WORKERS, Serial()), (4, Processes(2)), (WORKERS, Processes(2))):
        trace = qsim.simulate(run_of(clicks, method=method, workers=workers, optimum=True), engine=engine)
        assert len(list(kept.iterdir())) == 1
        losses.append(trace.frame["loss"].iloc[-1] - trace.frame["suboptimality"].iloc[-1])
        with run_of(clicks, method=method, workers=workers).measured_on(engine) as problem:
            minima.append(problem.minimum)
            optima.append(problem.optimum.tobytes())
        for path in kept.iterdir():
            path.unlink()
    assert len(set(minima)) == len(set(optima)) == 1
    np.testing.assert_allclose(losses, minima, rtol=1e-15)
    without = qsim.simulate(run_of(clicks, method=method))
    assert trace.frame["bits_up"].equals(without.frame["bits_up"])
    assert np.array_equal(trace.weights, without.weights)


def test_the_optimum_is_found_once(clicks: Parts, kept: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = run_of(clicks, method=qsim.GradientDescent(0.5))
    minimum = run.problem().minimum
    (path,) = kept.iterdir()
    monkeypatch.setattr(Serial, "open", lambda self, job: pytest.fail("rows were measured"))
    assert run.problem().minimum == minimum
    monkeypatch.undo()
    monkeypatch.setattr("qsim.storage.user_cache", lambda: kept.parent)
    path.write_bytes(b"damaged" + path.read_bytes()[7:])
    assert run.problem().minimum == minimum
    other = run_of(click_parts(tmp_path, (30, 48, 11)), method=qsim.GradientDescent(0.5))
    assert other.problem().minimum != minimum
    assert len(list(kept.iterdir())) == 2


def test_what_has_no_minimum_is_refused(clicks: Parts, tmp_path: Path) -> None:
    method = qsim.GradientDescent(0.1)
    with pytest.raises(NoOptimumError, match=r"not known: it has none if a plane separates the classes.*Use l2 > 0"):
        qsim.simulate(run_of(clicks, objective=qsim.LogisticRegression(0.0), method=method, optimum=True))
    classes = npz_parts(tmp_path, "classes")
    with pytest.raises(NoOptimumError, match="a shift of the weights of all classes changes nothing"):
        qsim.simulate(run_of(classes, objective=MultinomialLogistic(0.0, 3), method=method, optimum=True))
    with pytest.raises(DataError, match=r"has classes up to 2: say .*classes=3"):
        qsim.simulate(run_of(classes, objective=MultinomialLogistic(0.1, 2), method=method))
