"""Rounds of a single worker in one kernel: the same to the last bit as through the exchange, or not done there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.compressors import NotFiniteError
from qsim.datasets import Dataset, Synthetic
from qsim.methods import SGD, HeavyBall, Passes, WithReplacement
from qsim.simulation.solo import Solo
from qsim.steps import Constant, InverseSqrt, InverseTime

RUN = qsim.Run(
    Synthetic(rows=200, features=5000, nonzeros_per_row=20, values="tfidf", seed=5),
    qsim.LogisticRegression(l2=1e-3),
    SGD(Constant(0.5)),
    compressor=qsim.QSGD(4),
    workers=1,
    rounds=250,
    evaluate_every=100,
    optimum=False,
)


def plain(run: qsim.Run) -> qsim.Trace:
    """The run, round by round: somebody looks on."""
    return qsim.simulate(run, after_round=lambda done: None)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rounds at a time were done in the kernel."""
    done: list[int] = []
    rounds = Solo.rounds

    def counted(self, w, first, end):
        found = rounds(self, w, first, end)
        done.append(0 if found is None else len(found))
        return found

    monkeypatch.setattr(Solo, "rounds", counted)
    return done


def agree(one: qsim.Trace, other: qsim.Trace) -> None:
    assert one.weights.tobytes() == other.weights.tobytes()
    assert one.frame.equals(other.frame)


@settings(max_examples=25)
@given(
    levels=st.sampled_from([1, 2, 4, 127, 10_000]),
    norm=st.sampled_from(["l2", "max"]),
    sampling=st.sampled_from([WithReplacement(), Passes()]),
    step=st.sampled_from([Constant(0.5), InverseTime(5.0, 30.0), InverseSqrt(2.0)]),
    l2=st.sampled_from([0.0, 1e-3, 0.15]),
    bits=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 5),
    ones=st.booleans(),
    codec=st.sampled_from([qsim.codecs.GolombRice(), qsim.codecs.Varint()]),
)
def test_bits_are_those_of_the_exchange(levels, norm, sampling, step, l2, bits, seed, ones, codec) -> None:
    data = RUN.load()
    data = Dataset(data.indptr, data.indices, None if ones else data.values, data.labels > 0, data.features)
    run = replace(
        RUN,
        data=data,
        objective=qsim.LogisticRegression(l2=l2, intercept=ones),
        method=SGD(step, sampling=sampling),
        compressor=qsim.QSGD(levels, norm),
        codec=codec,
        downlink=qsim.downlinks.DenseWeights(bits),
        seed=seed,
    )
    agree(qsim.simulate(run), plain(run))


def test_long_rows_and_thinned_blocks() -> None:
    """Rows of thousands of non-zeros, some of whose blocks are thinned, and one without any."""
    rng = np.random.default_rng(1)
    lengths = np.array([9000, 0, 4000])
    indices = np.concatenate([np.sort(rng.choice(20_000, size, replace=False)) for size in lengths])
    values = rng.normal(size=indices.size).astype(np.float32)
    values[:9000:3000] *= 1000
    data = Dataset(np.concatenate([[0], lengths.cumsum()]), indices, values, [1, 0, 1], 20_000)
    run = replace(RUN, data=data, compressor=qsim.QSGD(1), rounds=60, method=SGD(Constant(1e-3)))
    agree(qsim.simulate(run), plain(run))


def test_it_is_done_where_it_can_be(count: list[int]) -> None:
    qsim.simulate(RUN)
    assert count == [99, 100, 50]  # the first round opens the streams


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 2},
        {"method": SGD(Constant(0.5), batch=2)},
        {"method": SGD(Constant(0.5), momentum=HeavyBall(0.5))},
        {"method": qsim.GradientDescent(Constant(0.5))},
        {"compressor": qsim.QSGD(4, 3.0)},
        {"compressor": qsim.Philox(qsim.QSGD(4))},
        {"codec": qsim.codecs.Elias("gamma")},
        {"downlink": qsim.downlinks.SparseSum()},
        {"clients": qsim.clients.SampledClients(1)},
        {"objective": qsim.objectives.LeastSquares(l2=0.1)},
    ],
    ids=str,
)
def test_other_runs_go_through_the_exchange(changes: dict, count: list[int]) -> None:
    qsim.simulate(replace(RUN, rounds=3, **changes))
    assert count == []


def test_a_run_is_resumed_in_the_kernel(tmp_path: Path, count: list[int]) -> None:
    path, whole = tmp_path / "run.npz", qsim.simulate(RUN)
    with pytest.raises(KeyboardInterrupt):
        qsim.simulate(RUN, checkpoint=path, every=30, after_round=stopped)
    assert path.exists()
    count.clear()
    agree(qsim.simulate(RUN, checkpoint=path, every=30), whole)
    assert count == [10, 20, 30, 30, 20, 10, 30, 10]  # from round 90 on


def stopped(done: int) -> None:
    if done == 97:
        raise KeyboardInterrupt


def test_a_rule_ends_it_at_the_same_round() -> None:
    run = replace(RUN, evaluate_every=10)
    some = plain(run).frame["gradient_norm"].dropna().iloc[10]
    run = replace(run, until=qsim.stopping.GradientNorm(float(some)))
    found = qsim.simulate(run)
    assert 0 < found.frame["round"].iloc[-1] < run.rounds
    agree(found, plain(run))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"method": SGD(Constant(2.0)), "objective": qsim.LogisticRegression(l2=0.5)}, ValueError),
        ({"method": SGD(Constant(1e39))}, NotFiniteError),
    ],
    ids=["past zero", "infinite"],
)
def test_the_exchange_says_why_a_round_fails(changes: dict, error: type[Exception]) -> None:
    run = replace(RUN, **changes)
    with pytest.raises(error) as seen:
        qsim.simulate(run)
    with pytest.raises(error) as right:
        plain(run)
    assert str(seen.value) == str(right.value)


def test_divergence_is_found_in_the_same_round() -> None:
    """A step that grows from round to round: the first rounds are good."""

    @qsim.option
    class Growing(qsim.steps.Step):
        def __call__(self, t: int) -> float:
            return 10.0 ** (2 * t)

    run = replace(RUN, method=SGD(Growing()), objective=qsim.LogisticRegression(l2=0.0))
    with pytest.raises(NotFiniteError) as seen:
        qsim.simulate(run)
    with pytest.raises(NotFiniteError) as right:
        plain(run)
    assert str(seen.value) == str(right.value)
