"""Progressive validation: batches are scored at the weights before them, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qsim
from helpers.honest_objectives import Huber, Squares
from qsim.block import Block
from qsim.datasets import HashedText, Parts, save_clicks
from qsim.engines import Processes, Serial
from qsim.keys import Purpose
from qsim.methods import Task
from qsim.network import Exponential, Fastest, Machines, Network
from qsim.trace import PROGRESSIVE
from qsim.weights import Replica

L2, ROUNDS = 0.05, 6
DATA = qsim.datasets.synthetic(90, 20, 5, seed=1)
RUN = qsim.Run(
    DATA,
    qsim.LogisticRegression(L2),
    qsim.SGD(0.5, batch=4),
    qsim.QSGD(2),
    workers=4,
    rounds=ROUNDS,
    optimum=False,
    progressive=True,
)
SLOW = Machines(delay=Exponential(0.01))
CASES: dict[str, dict[str, Any]] = {
    "batches": {},
    "passes": {"method": qsim.SGD(0.5, batch=4, sampling=qsim.methods.Passes())},
    "all rows": {"method": qsim.GradientDescent(0.5)},
    "a memory": {"compressor": qsim.ErrorFeedback(qsim.TopK(2))},
    "shifts": {"method": qsim.DIANA(0.5, batch=3)},
    "differences": {"method": qsim.MARINA(0.5, p=0.4)},
    "local steps": {"method": qsim.LocalSGD(0.5, steps=3, batch=2)},
    "an average": {"method": qsim.Averaged(qsim.SGD(0.5, batch=2))},
    "second order": {"method": qsim.LBFGS(), "compressor": qsim.Identity()},
    "drawn workers": {"clients": qsim.clients.SampledClients(2)},
    "drops": {"network": Network(rule=Fastest(3), machines=SLOW), "compressor": qsim.ErrorFeedback(qsim.TopK(2))},
    "what is asked for": {"downlink": qsim.downlinks.SparsePull(), "network": Network()},
    "compressed weights": {"downlink": qsim.downlinks.CompressedWeights(qsim.TopK(5))},
    "sums": {"downlink": qsim.downlinks.SparseSum()},
    "the regulariser inside": {"objective": qsim.WithRegulariser(qsim.LogisticRegression(L2))},
    "an intercept": {"objective": qsim.LogisticRegression(L2, intercept=True)},
    "a loss of one's own": {"objective": Huber(L2), "data": qsim.datasets.Quadratics(smoothness=(1.0, 2.0), mu=0.5)},
}


def of(case: str) -> qsim.Run:
    return replace(RUN, **CASES[case])


def loss_and_error(w: np.ndarray, data: qsim.Dataset, rows: np.ndarray) -> tuple[float, float]:
    x, y = data.to_scipy().toarray()[rows].astype(np.float64), data.labels[rows].astype(np.float64)
    return float(np.mean(np.log1p(np.exp(-y * (x @ w))))), float(np.mean(0.5 - np.sign(x @ w * y) / 2))


@pytest.mark.parametrize("case", CASES)
def test_nothing_else_changes(case: str) -> None:
    """Weights, counts, evaluations and virtual time, to the last bit."""
    found, right = qsim.simulate(of(case)), qsim.simulate(replace(of(case), progressive=False))
    assert found.weights.tobytes() == right.weights.tobytes()
    assert found.frame.drop(columns=list(PROGRESSIVE)).equals(right.frame)


@pytest.mark.parametrize("case", CASES)
def test_engines_and_blocks_agree_to_the_last_bit(case: str) -> None:
    run = of(case)
    right = qsim.simulate(run, engine=Serial()).frame
    assert np.isfinite(right[list(PROGRESSIVE)].iloc[1:]).all().all()
    engines = [Serial(block=1), Serial(threads=2)]
    for engine in [*engines, Processes(2)] if case in ("batches", "drawn workers", "drops") else engines:
        assert qsim.simulate(run, engine=engine).frame.equals(right)


@pytest.mark.parametrize("case", ["batches", "passes"])
def test_the_rows_of_a_batch_are_scored_at_the_weights_before_it(case: str) -> None:
    """Drawn again by hand; margins are float32, hence 1e-6."""
    run = of(case)
    frame, method, problem = qsim.simulate(run).frame, run.method, run.problem()
    block, losses, errors = Block(problem.shards, 0, 4), [], []
    memory = method.memory(block, block.support)
    for t in range(ROUNDS):
        w = qsim.simulate(replace(run, rounds=t)).weights
        task = Task("update", t, Replica(w.astype(np.float32)), qsim.Key(0).fold(Purpose.DATA))
        rows = method.reads(task, block, memory).index
        assert rows.size == 16
        loss, error = loss_and_error(w, DATA, rows)
        losses.append(loss)
        errors.append(error)
        assert frame["progressive_loss"][t + 1] == pytest.approx(loss, rel=1e-6)
        assert frame["progressive_error"][t + 1] == error
        assert frame["mean_progressive_loss"][t + 1] == pytest.approx(np.mean(losses), rel=1e-6)
        assert frame["mean_progressive_error"][t + 1] == pytest.approx(np.mean(errors), rel=1e-12)
    assert frame[list(PROGRESSIVE)].iloc[0].isna().all()
    assert len(set(losses)) == ROUNDS


@pytest.mark.parametrize("case", ["all rows", "differences", "the regulariser inside", "an intercept"])
def test_of_all_rows_it_is_the_training_loss_of_the_round_before(case: str) -> None:
    run = replace(of(case), method=of(case).method if case == "differences" else qsim.GradientDescent(0.5))
    trace = qsim.simulate(replace(run, test=DATA))
    before = trace.frame.iloc[:-1]
    np.testing.assert_allclose(trace.axis("progressive_loss")[1:], before["test_loss"], rtol=1e-6)
    np.testing.assert_allclose(trace.axis("progressive_error")[1:], before["test_error"], rtol=1e-12)


def test_the_weights_are_those_that_the_workers_have() -> None:
    """By a downlink that loses most, and which they know better than the server's."""
    run = replace(of("compressed weights"), method=qsim.GradientDescent(0.5), test=DATA)
    trace = qsim.simulate(run)
    assert trace.frame["progressive_loss"][1] == pytest.approx(np.log(2), rel=1e-6)
    gap = np.abs(trace.axis("progressive_loss")[2:] - trace.frame["test_loss"].iloc[1:-1])
    assert (gap > 1e-4).all()


def test_it_tells_of_rows_that_were_never_learnt() -> None:
    """Labels are coins: before a row is learnt its error is 1/2, and of all rows together it is less afterwards.

    2,000 rows in one pass: an error that is off by 0.07, 6.2 deviations, has a probability below 1e-9. Power: scored
    after they were learnt, the rows of a batch have an error of about 0.2.
    """
    random = np.random.default_rng(0)
    data = qsim.Dataset.from_arrays(random.standard_normal((2000, 1000)) / 30, random.choice([-1, 1], 2000))
    method = qsim.SGD(40.0, batch=10, sampling=qsim.methods.Passes())
    plain = replace(RUN, objective=qsim.LogisticRegression(0.0), compressor=qsim.Identity())
    trace = qsim.simulate(replace(plain, data=data, method=method, rounds=50))
    assert trace.axis("passes")[-1] == 1
    assert abs(trace.axis("mean_progressive_error")[-1] - 0.5) < 0.07
    assert trace.frame["train_error"].iloc[-1] < 0.25


def test_the_first_exchange_of_a_round_counts() -> None:
    """A line search looks at other weights after it."""
    trace = qsim.simulate(of("second order"))
    assert trace.frame["progressive_loss"][1] == pytest.approx(np.log(2), rel=1e-6)
    assert trace.frame["loss"][1] < 0.69


def test_who_takes_part_is_scored_whose_message_is_late_too() -> None:
    run = of("drops")
    trace = qsim.simulate(run)
    assert trace.frame["dropped"].sum() == ROUNDS
    assert trace.frame["progressive_loss"][1] == pytest.approx(np.log(2), rel=1e-6)
    few = qsim.simulate(of("drawn workers"))
    assert set((few.frame["progressive_error"][2:] * 2 * 8) % 1) == {0.0}  # of two workers' four rows, ties as halves


def test_an_objective_whose_error_is_not_of_margins_has_a_loss_alone() -> None:
    trace = qsim.simulate(replace(RUN, objective=Squares(), start=qsim.starts.Uniform(0.1)))
    assert np.isfinite(trace.axis("progressive_loss")[1:]).all()
    assert np.isnan(trace.axis("progressive_error")).all()


def test_a_run_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    right, path = qsim.simulate(RUN), tmp_path / "run.npz"

    def stop(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        qsim.simulate(RUN, checkpoint=path, every=2, after_round=stop)
    assert qsim.simulate(RUN, checkpoint=path, every=2).frame.equals(right.frame)


def test_over_files_that_only_workers_read(tmp_path: Path) -> None:
    for part, rows in enumerate((30, 47)):
        save_clicks(tmp_path / f"{part}.tsv", rows, part=part)
    run = replace(RUN, data=Parts(HashedText(tmp_path / "*.tsv", 2**8)))
    right = qsim.simulate(run).frame
    assert np.isfinite(right[list(PROGRESSIVE)].iloc[1:]).all().all()
    assert qsim.simulate(run, engine=Processes(2)).frame.equals(right)


def test_a_run_without_it_says_how_to_have_it() -> None:
    trace = qsim.simulate(replace(RUN, progressive=False))
    assert not set(PROGRESSIVE) & set(trace.columns)
    with pytest.raises(ValueError, match=r"no progressive loss, mean so far: run with progressive=True"):
        trace.axis("mean_progressive_loss")
    with pytest.raises(ValueError, match="progressive must be True or False, found 1"):
        replace(RUN, progressive=1)
    assert qsim.plot(qsim.simulate(RUN), "passes", "mean_progressive_loss").get_ylabel() == (
        "progressive loss, mean so far"
    )
