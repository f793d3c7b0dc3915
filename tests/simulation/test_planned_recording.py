"""Planned rounds, and what is recorded of them: evaluations, rules that look at these, steps that end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import qsim
from helpers.planned import RUN, agree, plain, small, stopped
from qsim.methods import SGD

EVALUATED = replace(RUN, data=small(True), test=small(False), workers=3, rounds=90, optimum=True)
OBJECTIVES = [
    qsim.LogisticRegression(0.05), qsim.LogisticRegression(0.05, intercept=True), qsim.LogisticRegression(0.0)
]  # fmt: skip


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize("every", [1, 4])
def test_what_is_evaluated_in_the_midst_of_rounds(
    objective: qsim.LogisticRegression, every: int, tmp_path: Path
) -> None:
    run = replace(EVALUATED, objective=objective, evaluate_every=every, optimum=objective.l2 > 0)
    whole = plain(run)
    agree(qsim.simulate(run), whole)
    path = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        qsim.simulate(replace(run, rounds=120), checkpoint=path, every=25, after_round=stopped)
    agree(qsim.simulate(replace(run, rounds=120), checkpoint=path, every=25), plain(replace(run, rounds=120)))


@pytest.mark.parametrize("end", [3, 37, 88, 89])
@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("name", ["suboptimality", "gradient_norm", "train_error", "own"])
def test_a_rule_that_looks_at_what_is_evaluated(name: str, every: int, end: int, count: list[int]) -> None:
    """Rounds after the end are undone, on the server and at the workers, and nothing of them is recorded."""
    seen: list[dict[str, float]] = []

    @qsim.option
    class Own(qsim.stopping.StoppingRule):
        def reached(self, found):
            seen.append(dict(found))
            return found["round"] >= end if name == "own" else found[name] <= bound

    run = replace(
        EVALUATED, evaluate_every=every, method=qsim.DIANA(0.05, shift=0.3, batch=2), objective=OBJECTIVES[0],
        compressor=qsim.QSGD(16), codec=qsim.codecs.Varint(),
    )  # fmt: skip
    if name != "own":
        bound = float(plain(run).frame[name].iloc[: end + 1].min())
    run = replace(run, until=Own())
    right, asked = plain(run), list(map(str, seen))
    seen.clear()
    count.clear()
    agree(qsim.simulate(run), right)
    assert list(dict.fromkeys(map(str, seen))) == asked
    assert sum(count) == max(len(right.frame) - 2, 0)  # but for the first round


def test_no_more_are_evaluated_at_once_than_are_kept(count: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qsim.simulation.planned._EVALUATIONS", 4)
    run = replace(EVALUATED, evaluate_every=3)
    agree(qsim.simulate(run), plain(run))
    assert count[:3] == [11, 12, 12]


def test_a_method_with_a_solution_of_its_own_is_not_planned(count: list[int]) -> None:
    class Shown(SGD):
        def solution(self, w, state):
            return w.dense() + 1

    Shown.__module__ = "qsim.shown"
    run = replace(RUN, method=Shown(0.1), rounds=9, evaluate_every=1)
    agree(qsim.simulate(run), plain(run))
    assert count == []


@pytest.mark.parametrize("method", [SGD, partial(qsim.methods.LocalSGD, steps=1, batch=1)], ids=["SGD", "LocalSGD"])
def test_a_step_of_ones_own_raises_in_its_round(method: Callable[..., Any], count: list[int]) -> None:
    @qsim.option
    class Short(qsim.steps.Step):
        def __call__(self, t: int) -> float:
            return [0.1, 0.2, 0.1, 0.2, 0.1][t]

    done: list[int] = []
    with pytest.raises(IndexError):
        qsim.simulate(replace(RUN, method=method(Short())), after_round=done.append)
    assert done == [1, 2, 3, 4, 5]
    run = replace(RUN, method=method(Short()), rounds=5)
    count.clear()
    agree(qsim.simulate(run), plain(run))
    assert sum(count) == 4
    with pytest.raises(IndexError):
        qsim.simulate(replace(run, rounds=30))
    ended = replace(run, rounds=30, until=qsim.stopping.Passes(4 / 200))  # before the step that raises
    agree(qsim.simulate(ended), plain(ended))


@pytest.mark.parametrize(("most", "is_planned"), [(2**20, True), (10, False)])
def test_threads_are_for_rounds_that_read_much(
    most: int, is_planned: bool, count: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short rounds are planned, on one thread."""
    monkeypatch.setattr("qsim.simulation.planned._ALONE", most)
    run = replace(RUN, workers=5, rounds=20, method=qsim.GradientDescent(0.1))
    found = qsim.simulate(run, engine=qsim.engines.Serial(threads=2))
    assert bool(count) == is_planned
    agree(found, plain(run))


@pytest.mark.parametrize(("block", "is_planned"), [(None, True), (5, True), (2, False)])
def test_blocks_that_are_asked_for_are_not_planned_as_one(
    block: int | None, is_planned: bool, count: list[int]
) -> None:
    run = replace(RUN, workers=5, rounds=20)
    found = qsim.simulate(run, engine=qsim.engines.Serial(block=block))
    assert bool(count) == is_planned
    agree(found, plain(run))
