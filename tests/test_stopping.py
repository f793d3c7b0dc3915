"""Rules that end a run: at a target, at a budget, at the first of several; exact at the round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.network import Exponential, Machines
from qsim.stopping import AnyOf, Bits, GradientNorm, Passes, Seconds, StoppingRule, Suboptimality, any_of

pytestmark = pytest.mark.quick

RUN = qsim.Run(
    qsim.datasets.load("spark_sample"),
    objective=qsim.LogisticRegression(l2=0.01),
    method=qsim.SGD(step=0.5, batch=3),
    compressor=qsim.QSGD(levels=2),
    workers=5,
    rounds=40,
    evaluate_every=7,
    network=qsim.Network(),
)


@pytest.fixture(scope="module")
def whole() -> qsim.Trace:
    return qsim.simulate(RUN)


@pytest.mark.parametrize(
    ("quantity", "rule"),
    [
        ("bits", Bits),
        ("bits_up", lambda budget: Bits(budget, "up")),
        ("bits_down", lambda budget: Bits(budget, "down")),
        ("passes", Passes),
        ("seconds", Seconds),
    ],
)
@pytest.mark.parametrize("end", [1, 10, 14, 39])
def test_a_budget_ends_the_run_with_the_round_that_spends_it(
    whole: qsim.Trace, quantity: str, rule: type, end: int
) -> None:
    spent = whole.axis(quantity).astype(float)
    for budget in (spent[end], (spent[end] + spent[end - 1]) / 2):
        trace = qsim.simulate(replace(RUN, until=rule(budget)))
        assert len(trace.frame) == end + 1
        assert np.isfinite(trace.frame["loss"].iloc[-1])  # the last round is evaluated
        evaluated = np.isfinite(trace.frame["loss"].to_numpy())
        assert np.flatnonzero(evaluated).tolist() == sorted({0, end, *range(0, end, 7)})
        assert trace.axis(quantity).tolist() == whole.axis(quantity)[: end + 1].tolist()


def test_a_budget_that_is_not_spent_changes_nothing(whole: qsim.Trace) -> None:
    trace = qsim.simulate(replace(RUN, until=any_of(Bits(1e12), Passes(1e9), Seconds(1e9))))
    assert trace.weights.tobytes() == whole.weights.tobytes()


def test_the_first_of_several_ends_the_run(whole: qsim.Trace) -> None:
    bits, passes = whole.axis("bits").astype(float), whole.axis("passes")
    rules = any_of(Bits(bits[20]), any_of(Passes(passes[9]), Suboptimality(1e-12)))
    assert rules == AnyOf((Bits(bits[20]), Passes(passes[9]), Suboptimality(1e-12)))  # one level
    assert len(qsim.simulate(replace(RUN, until=rules)).frame) == 10
    assert eval(repr(rules)) == rules


@pytest.mark.parametrize("end", [3, 8])
def test_a_killed_run_stops_where_the_whole_one_does(whole: qsim.Trace, tmp_path: Path, end: int) -> None:
    run = replace(RUN, until=any_of(Seconds(float(whole.axis("seconds")[8])), Bits(float(whole.axis("bits")[9]))))

    def stop(done: int) -> None:
        if done == end:
            raise KeyboardInterrupt

    path = tmp_path / "run.npz"
    if end < 8:
        with pytest.raises(KeyboardInterrupt):
            qsim.simulate(run, checkpoint=path, every=2, after_round=stop)
    trace = qsim.simulate(run, checkpoint=path, every=2)
    assert len(trace.frame) == 9
    assert len(qsim.simulate(run, checkpoint=path, every=2).frame) == 9  # it is finished


@pytest.mark.usefixtures("compensated_sum")
def test_seconds_are_those_of_the_trace_in_one_go_or_resumed(tmp_path: Path) -> None:
    """Killed in the middle, and resumed after its end: at a budget that rounding of the last bit would miss."""
    machines = Machines(1e-3, 1e-6, Exponential(0.01), encode_per_entry=1e-6, decode_per_byte=1e-7)
    timed = replace(RUN, network=qsim.Network(machines=machines))
    spent = qsim.simulate(timed).axis("seconds").astype(float)
    for end in range(2, 40):
        run, path = replace(timed, until=Seconds(spent[end])), tmp_path / f"{end}.npz"
        assert len(qsim.simulate(run).frame) == end + 1

        def stop(done: int, last: int = end // 2) -> None:
            if done == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            qsim.simulate(run, checkpoint=path, every=1, after_round=stop)
        for _ in range(2):
            assert len(qsim.simulate(run, checkpoint=path, every=50).frame) == end + 1


@qsim.option
class Middle(StoppingRule):
    """A rule of a user's own."""

    def reached(self, seen: Mapping[str, float]) -> bool:
        assert seen["bits"] == seen["bits_up"] + seen["bits_down"]
        return seen["loss"] < 10 and seen["round"] >= 6


def test_a_users_own_rule_sees_nan_where_nothing_was_evaluated() -> None:
    assert len(qsim.simulate(replace(RUN, until=Middle())).frame) == 8  # round 7 is the first that is evaluated


def test_one_worker_stops_as_exactly() -> None:
    """Many rounds are done at once for one worker."""
    run = replace(RUN, workers=1, method=qsim.SGD(step=0.5), network=None)
    bits = qsim.simulate(run).axis("bits").astype(float)
    assert len(qsim.simulate(replace(run, until=Bits(bits[12]))).frame) == 13


def test_bad_rules_are_refused() -> None:
    for rule in (Bits, Passes, Seconds, GradientNorm, Suboptimality):
        for bad in (0, -1, np.nan, np.inf, True, None):
            with pytest.raises(ValueError, match="budget|bound"):
                rule(bad)
    with pytest.raises(ValueError, match="did you mean 'both'"):
        Bits(1, "bot")
    for rules in ((), (1e3,), [Bits(1)], Bits(1)):
        with pytest.raises(TypeError, match="a tuple of rules"):
            AnyOf(rules)
