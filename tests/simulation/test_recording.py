"""What is recorded: the columns of a trace, and rules that end a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from oracles import csr
from qsim.batch import Vectors
from qsim.methods import Method

pytestmark = pytest.mark.quick

DATA = qsim.datasets.synthetic(40, 12, 4, seed=1)
TEST = qsim.datasets.synthetic(30, 12, 4, seed=2)
L2 = 0.05
RUN = qsim.Run(
    DATA,
    objective=qsim.LogisticRegression(l2=L2),
    method=qsim.GradientDescent(step=qsim.steps.Constant(2.0)),
    compressor=qsim.QSGD(levels=1),
    workers=3,
    rounds=5,
    test=TEST,
)


def parts(data: qsim.Dataset) -> tuple[np.ndarray, np.ndarray]:
    return data.to_scipy().toarray().astype(np.float64), data.labels.astype(np.float64)


def loss_and_gradient(w: np.ndarray, data: qsim.Dataset = DATA, l2: float = L2) -> tuple[float, list[float]]:
    x, y = parts(data)
    rows = [{j: float(value) for j, value in enumerate(row) if value} for row in x]
    return csr.logistic(w.tolist(), rows, y.tolist(), l2)


def test_every_column_is_what_its_name_says() -> None:
    """After every round, from the weights and the oracle."""
    frame = qsim.simulate(RUN).frame
    least = RUN.objective.optimum(DATA).value
    assert least > 0.1
    for t in range(6):
        w = qsim.simulate(replace(RUN, rounds=t)).weights
        loss, gradient = loss_and_gradient(w)
        row = frame.iloc[t]
        assert row["loss"] == pytest.approx(loss, rel=1e-13)
        assert row["suboptimality"] == pytest.approx(loss - least, rel=1e-9)
        assert row["gradient_norm"] == pytest.approx(sum(g * g for g in gradient) ** 0.5, rel=1e-12)
        assert row["test_loss"] == pytest.approx(loss_and_gradient(w, TEST, 0.0)[0], rel=1e-13)
        for name, data in (("train_error", DATA), ("test_error", TEST)):
            x, y = parts(data)
            assert row[name] == np.mean((1 - np.sign(x @ w) * y) / 2)
    for name in ("loss", "suboptimality", "gradient_norm", "train_error", "test_loss", "test_error"):
        assert frame[name].nunique() > 2  # no column is constant, and none is another
    assert not frame["train_error"].equals(frame["test_error"])


def test_axes_are_cumulative_and_both_ways() -> None:
    trace = qsim.simulate(RUN)
    frame = trace.frame
    for name in ("nonzeros", "bits_up", "bits_down"):
        assert frame[name].iloc[1:].min() > 0
        assert trace.axis(name).tolist() == np.cumsum(frame[name]).tolist()
    assert trace.axis("bits").tolist() == np.cumsum(frame["bits_up"] + frame["bits_down"]).tolist()
    assert trace.axis("round").tolist() == [0, 1, 2, 3, 4, 5]
    assert trace.axis("loss").tolist() == frame["loss"].tolist()


@pytest.mark.parametrize("weighting", ["rows", "workers"])
def test_passes_count_the_rows_that_gradients_are_computed_of(weighting: str) -> None:
    """A full gradient is a pass; a batch counts its rows, on every worker that has any."""
    run = replace(RUN, weighting=weighting, evaluate_every=2)
    assert qsim.simulate(run).frame["passes"].tolist() == [0, 1, 1, 1, 1, 1]
    batches = replace(run, method=qsim.SGD(step=qsim.steps.Constant(1.0), batch=7))
    trace = qsim.simulate(batches)
    assert trace.frame["passes"].tolist() == pytest.approx([0] + [3 * 7 / 40] * 5)
    assert trace.axis("passes").tolist() == pytest.approx([3 * 7 * t / 40 for t in range(6)])
    idle = qsim.datasets.Dirichlet(alpha=0.01)
    shards = idle.split(DATA, 20, qsim.Key(0).fold(qsim.keys.Purpose.PARTITION))
    busy = np.count_nonzero(np.diff(shards.offsets))
    assert busy < 20
    frame = qsim.simulate(replace(batches, workers=20, partition=idle)).frame
    assert frame["passes"].tolist() == pytest.approx([0] + [busy * 7 / 40] * 5)


def test_a_bound_that_is_met_exactly_is_met() -> None:
    for rule, name in ((qsim.stopping.GradientNorm, "gradient_norm"), (qsim.stopping.Suboptimality, "suboptimality")):
        assert rule(0.25).reached({name: 0.25})
        assert rule(0.25).reached({name: 0.0})
        assert not rule(0.25).reached({name: np.nextafter(0.25, 1)})
        assert not rule(0.25).reached({name: np.nan})
    reached = qsim.simulate(RUN).frame["gradient_norm"]
    frame = qsim.simulate(replace(RUN, until=qsim.stopping.GradientNorm(float(reached.min())))).frame
    assert len(frame) - 1 == reached.idxmin()


@pytest.mark.parametrize("step", [qsim.steps.InverseTime(1.5, halving=1), qsim.steps.InverseSqrt(1.5, scale=0.5)])
@pytest.mark.parametrize("downlink", [qsim.downlinks.DenseWeights(), qsim.downlinks.SparseSum()])
def test_a_decaying_step_by_hand(step, downlink) -> None:
    """w <- (1 - a_t l2) w - a_t grad of the loss, with a_t in both places; float32 messages, hence 1e-6."""
    objective = qsim.LogisticRegression(l2=0.3)
    run = replace(
        RUN,
        objective=objective,
        method=qsim.GradientDescent(step=step),
        compressor=qsim.Identity(),
        start=qsim.starts.Uniform(3.0),
        downlink=downlink,
    )
    w = run.start.weights(12, qsim.Key(0).fold(1))
    for t in range(5):
        w = (1 - step(t) * 0.3) * w - step(t) * qsim.LogisticRegression(0.0).gradient(w, DATA)
    assert step(4) < 0.5 * step(0)
    np.testing.assert_allclose(qsim.simulate(run).weights, w, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("step", [2.0, 2.5])
def test_a_step_that_shrinks_weights_to_zero_or_past_it_is_refused(step: float) -> None:
    run = replace(RUN, objective=qsim.LogisticRegression(l2=0.5), optimum=False)
    with pytest.raises(ValueError, match="must stay below 1"):
        qsim.simulate(replace(run, method=qsim.GradientDescent(step=qsim.steps.Constant(step))))
    qsim.simulate(replace(run, method=qsim.GradientDescent(step=qsim.steps.Constant(1.9))))


def test_uniform_starts_fill_their_range() -> None:
    """10,000 draws: that none is within 1% of an end, or the mean is off by 7 deviations, has probability below 1e-11.

    Power: a range that stops 1% short of an end is found surely, as is a mean that is off by 3% of the radius.
    """
    w = qsim.starts.Uniform(2.0).weights(10_000, qsim.Key(3))
    assert -2 <= w.min() < -1.98
    assert 1.98 < w.max() <= 2
    assert abs(w.mean()) < 7 * 2 / 3**0.5 / 100


@qsim.option
class Scripted(Method):
    """Moves the first weight to what the script says for (seed-free) rounds 0, 1, ..."""

    script: tuple[float, ...]

    def round(self, w, state, exchange):
        exchange("nothing", w)
        state["count"] = state.get("count", np.zeros(1)) + 1
        w.vector[:] = self.script[exchange.round] + state["count"][0]

    def work(self, task, objective, block, memory):
        return Vectors.dense(np.ones((block.workers, block.n), np.float32))


def test_the_servers_state_survives_a_checkpoint(tmp_path) -> None:
    run = replace(RUN, method=Scripted((0.0, 0.5, -3.0, 1.0, 0.25)), compressor=qsim.Identity())

    class StopError(Exception):
        pass

    def stop(done: int) -> None:
        if done == 3:
            raise StopError

    with pytest.raises(StopError):
        qsim.simulate(run, checkpoint=tmp_path / "run.npz", every=2, after_round=stop)
    resumed = qsim.simulate(run, checkpoint=tmp_path / "run.npz")
    assert resumed.weights.tolist() == [5.25] * 12
    assert resumed.frame.equals(qsim.simulate(run).frame)
