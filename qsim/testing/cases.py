"""Cases to check an objective on: small data sets of each kind of labels that it takes, weights and directions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from qsim.block import Block, Rows
from qsim.datasets import DataError, Dataset, Shards
from qsim.datasets.labels import Kind
from qsim.keys import Key
from qsim.objectives import Objective
from qsim.objectives.derivative import direction
from qsim.testing.report import BrokenError, refuse_unless
from qsim.weights import Replica

KINDS: tuple[Kind, ...] = get_args(Kind)
_ROWS, _FEATURES = 48, 20
_LEAST, _MOST = 24, 256  # rows of data that are given


@dataclass(frozen=True, eq=False)
class Case:
    """An objective on a data set. All randomness comes from the key."""

    objective: Objective
    data: Dataset
    key: Key

    @cached_property
    def design(self) -> Dataset:
        """The rows that meet the weights."""
        return self.objective.design(self.data)

    @property
    def n(self) -> int:
        """The length of the weights."""
        return self.design.features * self.objective.width

    def direction(self, *parts: int) -> NDArray[np.float64]:
        """Return a random direction along which margins change at a rate of about 1."""
        return direction(self.design, self.objective.width, self.key.fold(*parts).generator())

    def point(self, scale: float, *parts: int) -> NDArray[np.float64]:
        """Return random weights whose margins are about `scale`."""
        return scale * self.direction(0, *parts)

    def value(self, w: NDArray[np.float64]) -> float:
        """Return F(w), quietly."""
        with np.errstate(all="ignore"):
            return float(self.objective.value(w, self.data))

    def gradient(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the gradient at w, quietly."""
        with np.errstate(all="ignore"):
            found = self.objective.gradient(w, self.data)
        refuse_unless(
            isinstance(found, np.ndarray) and found.shape == (self.n,) and found.dtype == np.float64,
            f"the gradient must be a float64 array of shape ({self.n},), found {_described(found)}",
        )
        return found

    def of(self, rows: NDArray[np.int64]) -> Case:
        """Return the case of some of the rows."""
        return Case(self.objective, self.data.take(rows), self.key)

    def shards(self, *ends: int) -> Shards:
        """Return shards of the rows in order, of which worker i's end at ends[i], and the last one's at the end."""
        offsets = np.array([0, *ends, self.design.rows])
        return Shards(self.design, np.arange(self.design.rows), offsets).of_width(self.objective.width)

    def size_of_rows(self, w: NDArray[np.float64]) -> float:
        """Return the mean norm of the gradients of single rows, of which rounding is a part."""
        every = Workers(self.objective, self.shards(*range(1, self.design.rows)))
        return float(np.linalg.norm(every.update(Replica(w)), axis=1).mean())

    def __str__(self) -> str:
        """Show which data these are."""
        return f"{self.data.kind}, {self.data.name}"


@dataclass(frozen=True, eq=False)
class Workers:
    """All workers of some shards, as one block, and what they are told by weights of a precision."""

    objective: Objective
    shards: Shards

    @cached_property
    def block(self) -> Block:
        """Their block."""
        return Block(self.shards, 0, self.shards.workers)

    def update(self, at: Replica, rows: Rows | None = None, step: float = 1.0) -> NDArray[Any]:
        """Return the update of every worker, a dense row each."""
        with np.errstate(all="ignore"):
            return self.objective.update(self.block, rows or self.block.all_rows(), at, step).to_dense()

    def losses(self, at: Replica) -> NDArray[Any]:
        """Return the loss of every worker."""
        with np.errstate(all="ignore"):
            return self.objective.losses(self.block, self.block.all_rows(), at).to_dense()[:, 0]

    def hvp(self, at: Replica, along: NDArray[Any]) -> NDArray[Any]:
        """Return the product with the Hessian of every worker's loss, a dense row each."""
        with np.errstate(all="ignore"):
            return self.objective.hvp(self.block, self.block.all_rows(), at, along).to_dense()


@dataclass(frozen=True, eq=False)
class ObjectiveUnderTest:
    """An objective under check."""

    whole: Objective
    key: Key
    given: Dataset | None = None

    @property
    def objective(self) -> Objective:
        """The smooth part, which is all of most objectives."""
        return self.whole.smooth_part

    @cached_property
    def cases(self) -> list[Case]:
        """The data that it is checked on: some rows of those that are given, or two small sets of each kind it takes.

        One of them has any values, the other ones only.
        """
        if self.given is not None:
            rows = np.resize(np.arange(self.given.rows), max(_LEAST, self.given.rows))  # a few count several times
            if rows.size > _MOST:
                rows = np.sort(self.key.fold(9).generator().choice(rows, _MOST, replace=False))
            return [Case(self.objective, self.given.take(rows), self.key)]
        return [case for kind in self.objective.takes for case in self._made(kind)]

    @cached_property
    def whole_cases(self) -> list[Case]:
        """The same with the nonsmooth part."""
        return [Case(self.whole, case.data, case.key) for case in self.cases]

    def _made(self, kind: Kind) -> list[Case]:
        refusal = ""
        for labels in _labels(self.objective, kind, self.key.fold(8).generator()):
            try:
                cases = [Case(self.objective, data, self.key) for data in made(labels, kind, self.key)]
                for case in cases:
                    self.objective.design(case.data)
                return cases
            except DataError as error:
                refusal = str(error)
        raise BrokenError(
            f"takes says {kind!r}, but they are refused ({refusal}): check_objective(objective, data=...)"
        )


def made(labels: NDArray[Any], kind: Kind, key: Key) -> Iterator[Dataset]:
    """Yield a data set with any values, and one with ones."""
    random = key.fold(7).generator()
    filled = random.random((_ROWS, _FEATURES)) < 0.2
    filled[np.arange(_ROWS), np.arange(_ROWS) % _FEATURES] = True
    for name, values in (("any values", random.standard_normal(filled.shape)), ("ones", np.ones(filled.shape))):
        indptr = np.concatenate([[0], np.cumsum(filled.sum(axis=1))])
        held = None if name == "ones" else values[filled].astype(np.float32)
        yield Dataset(indptr, np.nonzero(filled)[1], held, labels, _FEATURES, name, kind=kind)


def _labels(objective: Objective, kind: Kind, random: np.random.Generator) -> Iterator[NDArray[Any]]:
    """Yield labels of a kind; for targets also such as only some objectives take."""
    if kind == "signs":
        yield random.permutation(np.where(np.arange(_ROWS) % 3 == 0, -1, 1))
    elif kind == "classes":
        most = int(getattr(objective, "classes", max(objective.width, 2)))
        for classes in dict.fromkeys([most, 2]):
            yield random.permutation(np.arange(_ROWS) % min(classes, _ROWS))
    elif kind == "targets":
        yield random.standard_normal(_ROWS)
        yield random.poisson(2.0, _ROWS).astype(np.float64)
        yield random.uniform(0.1, 0.9, _ROWS)
    else:
        raise BrokenError(f"takes must be a tuple of {', '.join(map(repr, KINDS))}, found {objective.takes!r}")


def _described(found: Any) -> str:
    return f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else repr(found)
