"""The recorder: writes a trace while a run goes on, and knows when the run's rule ends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, inner
from qsim.datasets import Contiguous
from qsim.datasets.parts import PartShards, are_elsewhere
from qsim.engines import Session
from qsim.identity import environment
from qsim.keys import Key
from qsim.network import PARTS, Clock
from qsim.network.clock import elapsed
from qsim.options import flag
from qsim.problem import Problem
from qsim.simulation.elsewhere import RowsReader
from qsim.simulation.evaluation import TOGETHER, Evaluator, evaluator
from qsim.simulation.run import Run
from qsim.trace import CUMULATIVE, EVALUATION, FORMULA, TIME, TRAFFIC, Trace, progressive_columns

Solution = Callable[[], NDArray[np.float64]]
"""Gives the weights that are evaluated, when they are needed."""
_UNKNOWN = dict.fromkeys(EVALUATION, np.nan)


@dataclass(frozen=True, eq=False)
class Counted:
    """Counts of some rounds, a row each.

    traffic: non-zeros, bits up, bits down, rows read. formula_bits: bits up by the compressor's formula, NaN without
    one. times: with a network, the seconds of each part of the round, and how many messages were dropped. scores: of
    one round with progressive validation, how many rows were scored, and the sums of their losses and errors.
    """

    traffic: NDArray[np.int64]
    formula_bits: NDArray[np.float64]
    times: NDArray[np.float64] | None = None
    scores: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Return how many rounds there are."""
        return len(self.traffic)

    def seconds(self) -> list[float]:
        """Return the seconds of each round."""
        return [0.0] * len(self) if self.times is None else elapsed(self.times[:, :-1]).tolist()


class Recorder:
    """Writes a trace while a run goes on; evaluates the objective in float64, apart from training."""

    def __init__(self, run: Run, problem: Problem) -> None:
        """Prepare for a run; solves for the optimum if the run wants it."""
        self._run = run
        self._shards: Any = problem.shards
        self._data: Any = problem.data
        self._test: Any = run.load_test()
        self.test_elsewhere: PartShards | None = None
        """Who holds which test data, if these are elsewhere."""
        if are_elsewhere(self._test):
            design: Any = run.objective.design(cast("Any", self._test))
            self.test_elsewhere = design.shared_out(min(run.workers, design.rows), run.objective.width)
        self._on_data: Evaluator
        self._on_test: Evaluator | None = None
        self._minimum = problem.minimum if run.optimum else np.nan
        self._counted: list[NDArray[np.int64]] = []
        self._formula_bits = [np.zeros(1)]
        self._times: list[tuple[float, ...]] = []
        self._scores = [np.zeros(3)]  # of each round, for progressive validation
        self._evaluations: dict[int, dict[str, float]] = {}
        self._spent = np.zeros(len(CUMULATIVE), np.int64)
        self._seconds = 0.0

    def read_in(self, session: Session) -> None:
        """Have rows evaluated: those that are elsewhere by the workers of a session."""
        objective = self._run.objective
        if isinstance(self._shards, PartShards):
            self._data = replace(self._data, reader=RowsReader(self._shards, lambda: session))
            self._on_data = evaluator(objective, self._data, None)
        else:
            self._on_data = evaluator(objective, self._data, self._shards)
        if self.test_elsewhere is not None:
            self._test = replace(self._test, reader=RowsReader(self.test_elsewhere, lambda: session, test=True))
            self._on_test = evaluator(objective, self._test, None)
        elif self._test is not None:
            workers = min(self._run.workers, self._test.rows)  # as if it were a file
            shards = Contiguous().split(objective.design(self._test), workers, Key(self._run.seed))
            self._on_test = evaluator(objective, self._test, shards.of_width(objective.width))

    def start(self, solution: Solution) -> bool:
        """Record round 0; tells whether the run is over already."""
        if self._run.network is not None:
            self._times.append((0.0,) * (len(PARTS) + 1))
        self._counted.append(np.zeros((1, len(CUMULATIVE)), np.int64))
        return self._over(0, solution, evaluate=True)

    def record(self, done: int, solution: Solution, counted: Counted) -> bool:
        """Record what was counted in the last rounds, `done` of them in all; tells whether the run's rule ends it here.

        `rounds_to_end` was asked about all of them but the last.
        """
        if counted.times is not None:
            self._times += map(tuple, counted.times.tolist())
        for seconds in counted.seconds():
            self._seconds += seconds
        if self._run.progressive:
            self._scores.append(np.zeros(3) if counted.scores is None else counted.scores)
        self._counted.append(counted.traffic)
        self._formula_bits.append(counted.formula_bits)
        self._spent += counted.traffic.sum(axis=0)
        return self._over(done, solution, evaluate=done % self._run.evaluate_every == 0 or done == self._run.rounds)

    def rounds_to_end(self, done: int, counted: Counted, solutions: NDArray[np.float64]) -> int:
        """Return how many of the next rounds, `done` of them in all, there are until the run's rule ends it.

        counted: what they counted, which is not recorded. solutions: the weights after the rounds to evaluate, a row
            each; what is found of those before the end is recorded.

        All of the rounds if the rule does not end it before the last, of which it is not asked.
        """
        first, every = done - len(counted), self._run.evaluate_every
        due, found = range((first // every + 1) * every, done + 1, every), self._evaluated(solutions)
        if self._run.until is None:
            self._evaluations |= zip(due, found, strict=True)
            return len(counted)
        spent, seconds = self._spent + counted.traffic.cumsum(axis=0), self._seconds
        for number, took in enumerate(counted.seconds(), start=1):
            seconds += took
            if first + number in due:
                self._evaluations[first + number] = next(found)
            seen = self._evaluations.get(first + number, _UNKNOWN)
            if number < len(counted) and self._reached(first + number, seen, spent[number - 1], seconds):
                return number
        return len(counted)

    def trace(self, solution: Solution, clock: Clock | None = None) -> Trace:
        """Return what was recorded."""
        *traffic, rows = np.concatenate(self._counted).T.copy()
        columns: dict[str, NDArray[Any]] = {"round": np.arange(rows.size)}
        columns |= dict(zip(TRAFFIC, traffic, strict=True))
        columns |= {f"cumulative_{name}": np.cumsum(columns[name]) for name in TRAFFIC}
        columns |= {"passes": rows / self._data.rows, "cumulative_passes": np.cumsum(rows) / self._data.rows}
        formula_bits = np.concatenate(self._formula_bits)
        if not np.isnan(formula_bits).any():
            columns |= {FORMULA: formula_bits, f"cumulative_{FORMULA}": np.cumsum(formula_bits)}
        if clock is not None:
            times = np.array(self._times)
            *parts, dropped = times.T.copy()
            total = elapsed(times[:, :-1])
            columns |= dict(zip(TIME, (total, *parts), strict=True))
            columns |= {"cumulative_seconds": np.cumsum(total), "dropped": dropped.astype(np.int64)}
        if self._run.progressive:
            columns |= progressive_columns(np.array(self._scores))
        for name in EVALUATION:
            columns[name] = np.full(rows.size, np.nan)
            columns[name][list(self._evaluations)] = [seen[name] for seen in self._evaluations.values()]
        schedule = {} if clock is None else clock.timelines()
        return Trace(columns, solution(), self._provenance(), schedule)

    def snapshot(self) -> Arrays:
        """Return what was recorded, as arrays."""
        evaluations = [[seen[name] for name in EVALUATION] for seen in self._evaluations.values()]
        times = {"times": np.array(self._times)} if self._times else {}
        return {
            "counted": np.concatenate(self._counted),
            "formula_bits": np.concatenate(self._formula_bits),
            "evaluated": np.array(list(self._evaluations)),
            "evaluations": np.array(evaluations),
            "scores": np.array(self._scores),
        } | times

    def restore(self, saved: Arrays) -> bool:
        """Go back to what was recorded; tells whether the run's rule had ended it there."""
        self._counted, self._formula_bits = [saved["counted"]], [saved["formula_bits"]]
        counted = Counted(saved["counted"], saved["formula_bits"], saved.get("times"))
        self._times = [] if counted.times is None else list(map(tuple, counted.times.tolist()))
        self._scores = list(saved["scores"])
        self._spent = saved["counted"].sum(axis=0)
        self._seconds = float(np.cumsum(counted.seconds())[-1])  # in the order of the rounds, as they were recorded
        rows = zip(saved["evaluated"].tolist(), saved["evaluations"].tolist(), strict=True)
        self._evaluations = {done: dict(zip(EVALUATION, row, strict=True)) for done, row in rows}
        done = len(saved["counted"]) - 1
        return self._reached(done, self._evaluations.get(done, _UNKNOWN), self._spent, self._seconds)

    def _over(self, done: int, solution: Solution, evaluate: bool) -> bool:
        """Evaluate where that is due, or the run ends; tells whether its rule ends it."""
        if evaluate and done not in self._evaluations:
            self._evaluations[done] = self._evaluate(solution())
        over = self._reached(done, self._evaluations.get(done, _UNKNOWN), self._spent, self._seconds)
        if over and done not in self._evaluations:
            self._evaluations[done] = self._evaluate(solution())
        return over

    def _reached(
        self, done: int, evaluation: dict[str, float], spent_so_far: NDArray[np.int64], seconds: float
    ) -> bool:
        if self._run.until is None:
            return False
        _, up, down, rows = spent_so_far.tolist()
        spent = {"round": done, "bits_up": up, "bits_down": down, "bits": up + down, "passes": rows / self._data.rows}
        time = {} if self._run.network is None else {"seconds": seconds}
        seen = MappingProxyType(spent | time | evaluation)  # which a user's rule cannot change
        return flag(f"what reached of {self._run.until!r} returns", self._run.until.reached(seen))

    def _evaluate(self, w: NDArray[np.float64]) -> dict[str, float]:
        (found,) = self._evaluated(w[None])
        return found

    def _evaluated(self, solutions: NDArray[np.float64]) -> Iterator[dict[str, float]]:
        """Evaluate weights, a row each, a few at a time and only when they are asked for."""
        for low in range(0, len(solutions), TOGETHER):
            some = solutions[low : low + TOGETHER]
            found = self._on_data.evaluate(some)
            on_test = [(np.nan, np.nan)] * len(some) if self._on_test is None else self._on_test.score(some)
            for (loss, gradient, error), (test_loss, test_error) in zip(found, on_test, strict=True):
                yield {
                    "loss": loss,
                    "suboptimality": loss - self._minimum,
                    "gradient_norm": math.sqrt(inner(gradient, gradient)),
                    "train_error": error,
                    "test_loss": test_loss,
                    "test_error": test_error,
                }

    def _provenance(self) -> dict[str, Any]:
        used = {"data": self._data} if self._test is None else {"data": self._data, "test": self._test}
        described = {
            name: {"name": data.name, "repr": repr(data), "digest": data.digest, "kind": data.kind}
            for name, data in used.items()
        }
        arguments = {field.name: repr(getattr(self._run, field.name)) for field in fields(self._run)}
        return {"run": repr(self._run), "arguments": arguments, **described, **environment()}
