"""Training by a method under check: the loop of `simulate` with all that a method has in view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block, Rows
from qsim.compressors import QSGD, Compressor, Identity, Scaled, Sign, TopK
from qsim.datasets import Dataset, Partition, Shards
from qsim.engines import Engine, Serial
from qsim.keys import Key
from qsim.methods import Exchange, Method, Task
from qsim.objectives import LogisticRegression, Objective
from qsim.options import option
from qsim.problem import Problem
from qsim.simulation import Run, simulate
from qsim.testing.parts import copied
from qsim.testing.report import BrokenError, refuse_unless
from qsim.weights import Weights

WORKERS, ROUNDS = 5, 8
L2 = 0.05
_CANDIDATES: tuple[Compressor, ...] = (Identity(), QSGD(4), TopK(3), Scaled(QSGD(2)), Sign())


@option
class Sizes(Partition):
    """Rows in order: so many for each worker."""

    sizes: tuple[int, ...]

    def split(self, dataset: Dataset, workers: int, key: Key) -> Shards:
        return Shards(dataset, np.arange(dataset.rows), np.cumsum([0, *self.sizes]))


def sparse(rows: int = 40, features: int = 18, seed: int = 0) -> Dataset:
    """Return rows of unit length with three entries each."""
    random = np.random.default_rng(seed)
    columns = np.sort(np.argsort(random.random((rows, features)), axis=1)[:, :3], axis=1)
    labels = np.where(random.random(rows) < 0.5, -1, 1)
    values = random.standard_normal((rows, 3))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return Dataset(np.arange(0, 3 * rows + 1, 3), columns.ravel(), values.ravel(), labels, features, "sparse")


def alike(rows: int) -> Dataset:
    """Return rows that are all the same, so that every batch has the same gradient."""
    x = np.random.default_rng(1).standard_normal(6)
    return Dataset.from_arrays(np.tile(x / np.linalg.norm(x), (rows, 1)), np.ones(rows), name="alike")


@dataclass(frozen=True, eq=False)
class MethodUnderTest:
    """A method under check."""

    method: Method
    reference: Method | None = None
    seed: int = 0

    @cached_property
    def compressors(self) -> list[Compressor]:
        """The compressors of a few kinds that it takes."""
        found, refusals = [], []
        for compressor in _CANDIDATES:
            try:
                self.run(compressor).method.resolved(self.run(compressor).problem())
                found.append(compressor)
            except ValueError as error:
                refusals.append(str(error))
        if not found:
            raise BrokenError(f"it refuses every compressor that is tried: {refusals[0]}")
        return found

    def run(self, compressor: Compressor | None = None, **changes: Any) -> Run:
        """Return a run by the method, as a worker process gets it: what the object itself was made to keep is gone."""
        case = {
            "data": sparse(),
            "objective": LogisticRegression(l2=L2),
            "method": copied(self.method),
            "compressor": compressor or self.compressors[0],
            "workers": WORKERS,
            "partition": Sizes((14, 3, 0, 8, 15)),
            "rounds": ROUNDS,
            "evaluate_every": ROUNDS,
            "optimum": False,
            "seed": self.seed,
        }
        return Run(**(case | changes))

    def train(self, run: Run, engine: Engine | None = None, **how: Any) -> NDArray[np.float64]:
        """Return the final weights."""
        return simulate(run, engine=engine or Serial(), progress=False, **how).weights

    def takes(self, run: Run) -> bool:
        """Tell whether the method takes a run: its clients, say."""
        try:
            run.method.resolved(run.problem())
        except ValueError:
            return False
        return True

    def allowed(self, compressor: Compressor, **changes: Any) -> Run | None:
        """Return a run by the method, if there can be one."""
        try:
            run = self.run(compressor, **changes)
        except ValueError:
            return None
        return run if self.takes(run) else None

    def resolved(self, compressor: Compressor) -> Method:
        """Return the method with the steps of the usual run."""
        run = self.run(compressor)
        return run.method.resolved(run.problem())

    @cached_property
    def random(self) -> bool:
        """Whether another seed gives other weights without a compressor's noise: batches are drawn."""
        one, other = (self.train(self.run(seed=seed)) for seed in (self.seed, self.seed + 1))
        return not np.allclose(one, other, rtol=1e-4, atol=1e-6)


class _Watched(Method):
    """Hands on to another method, and watches what it does with what it is given."""

    def __init__(self, method: Method) -> None:
        self.inner, self.seen = method, list[str]()

    def resolved(self, problem: Problem) -> Any:
        found = _Watched(self.inner.resolved(problem))
        found.seen = self.seen
        return found

    def start(self, w: Weights) -> Arrays:
        return _plain(self.inner.start(w), "start")

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        self.inner.round(w, state, exchange)
        _plain(state, "round")
        self.seen.append("round")

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        vector = task.weights.vector.view()
        vector.flags.writeable = False
        task = replace(task, weights=replace(task.weights, vector=vector))
        before = {name: array.copy() for name, array in memory.arrays.items()}
        first = self.inner.work(task, objective, block, memory)
        kept = [part.copy() for part in (first.offsets, first.value)]
        after = {name: array.copy() for name, array in memory.arrays.items()}
        for name, array in before.items():
            memory.arrays[name][...] = array
        again = self.inner.work(task, objective, block, memory)
        refuse_unless(
            first.rows == block.workers, f"work must return a row a worker, {block.workers}: found {first.rows}"
        )
        same = all(np.array_equal(a, b, True) for a, b in zip(kept, (again.offsets, again.value), strict=True))
        same &= all(np.array_equal(after[name], memory.arrays[name], True) for name in after)
        refuse_unless(same, f"work gives other vectors for the same task and memory, for {task.name!r}")
        self.seen.append("work")
        return again

    def reads(self, task: Task, block: Block, memory: Memory) -> Rows:
        return self.inner.reads(task, block, memory)

    def memory(self, block: Block, support: Support) -> Memory:
        found = self.inner.memory(block, support)
        _plain(found.arrays, "memory")
        return found

    @property
    def learns_delivery(self) -> bool:
        return self.inner.learns_delivery

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        kept = arrived.value.copy()
        self.inner.on_delivered(task, block, memory, arrived, delivered)
        refuse_unless(np.array_equal(kept, arrived.value, True), "on_delivered writes to what arrived")
        _plain(memory.arrays, "on_delivered")
        self.seen.append("on_delivered")

    def solution(self, w: Weights, state: Arrays) -> NDArray[np.float64]:
        found = self.inner.solution(w, state)
        good = isinstance(found, np.ndarray) and found.shape == w.vector.shape and found.dtype == np.float64
        refuse_unless(good, f"solution must be a float64 array of shape {w.vector.shape}, found {found!r}")
        return found

    @property
    def keeps_support(self) -> bool:  # type: ignore[override]
        return self.inner.keeps_support

    def rows_per_round(self, shards: Shards) -> float:
        return self.inner.rows_per_round(shards)


def watched(method: Method) -> _Watched:
    """Return a method that raises BrokenError for what the one inside does wrong."""
    return _Watched(method)


def _plain(arrays: Arrays, where: str) -> Arrays:
    """Refuse what is no dict of plain arrays: a run must be able to go on from a file of them."""
    refuse_unless(isinstance(arrays, dict), f"{where} must keep a dict of arrays, found {arrays!r}")
    for name, array in arrays.items():
        good = isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype.kind in "biufc"
        refuse_unless(good, f"{where} keeps {name!r} as {type(array).__name__}: only arrays of numbers can be kept")
    return arrays


def interrupted(run: Run, path: Any, after: int) -> None:
    """Run up to a round, with a checkpoint at every round."""

    def stop(done: int) -> None:
        if done == after:
            raise _StopError

    try:
        simulate(run, engine=Serial(), checkpoint=path, every=1, after_round=stop, progress=False)
    except _StopError:
        return
    raise BrokenError("the run ended before its rounds")


class _StopError(Exception):
    pass
