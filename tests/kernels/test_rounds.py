"""The small kernels of planned rounds, each against plain Python, bit by bit, over values that are hard on them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from oracles import clock as plain_clock
from oracles import participation as plain_participation
from oracles import rounds as plain_rounds
from qsim.kernels import clock, participation, rounds

LARGEST = float(np.finfo(np.float32).max)
ODD = [0.0, -0.0, 1e-50, -1e-300, 1.0, LARGEST, -LARGEST, 2 * LARGEST, 1e300, np.inf, -np.inf, np.nan]


class Draw:
    """Arguments of kernels, at random."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.size, self.rows = int(self.rng.integers(1, 12)), int(self.rng.integers(1, 7))

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def number(self) -> float:
        return float(self.rng.normal() * 10.0 ** self.rng.integers(-3, 4))

    def positive(self) -> float:
        return abs(self.number()) + 1e-9

    def word(self) -> np.uint64:
        return np.uint64(self.rng.integers(0, 2**64, dtype=np.uint64))

    def words(self) -> Any:
        return np.array([self.word()])

    def array(self, size: int | None = None, kind: Any = np.float64, odd: bool = False) -> Any:
        size = self.size if size is None else size
        found = self.rng.normal(size=size) * 10.0 ** self.rng.integers(-3, 4, size)
        if odd:
            found = np.where(self.rng.random(size) < 0.5, self.rng.choice(ODD, size), found)
        with np.errstate(over="ignore"):
            return np.where(self.rng.random(size) < 0.2, 0.0, found).astype(kind)

    def flags(self, size: int | None = None) -> Any:
        return self.rng.random(self.size if size is None else size) < self.rng.choice([0.0, 0.5, 1.0])

    def offsets(self, rows: int | None = None, most: int = 4) -> Any:
        """Some rows are empty."""
        sizes = self.rng.integers(0, most + 1, self.rows if rows is None else rows)
        return np.concatenate(([0], np.cumsum(sizes)))

    def turn(self) -> Any:
        """The round, its place among those that are run at once, and that of the next weights to keep."""
        return np.array([self.whole(0, 1000), self.whole(0, 3), self.whole(0, 3)])

    def row(self, odd: bool = False, kind: Any = np.float64) -> tuple[Any, Any, Any]:
        """Offsets, coordinates (or none) and values of one row of a vector; there is room behind it."""
        count = self.whole(0, self.size + 1)
        index = np.sort(self.rng.permutation(self.size)).astype(np.int32)
        found = None if self.rng.random() < 0.4 else index
        return np.array([0, count]), found, self.array(kind=kind, odd=odd)

    def times(self, size: int) -> Any:
        """Some are equal, and some are zero, of either sign."""
        few = self.rng.choice([0.0, -0.0, 0.03125, 0.375, 0.75], size)
        return few if self.rng.random() < 0.5 else self.rng.random(size)


def _accounts(d: Draw) -> tuple[Any, ...]:
    workers = d.whole(1, 300)
    who = np.flatnonzero(d.rng.random(workers) < 0.7)
    count = who.size
    ready = d.times(count)
    times = [d.times(count), ready, d.times(count), d.times(count)]
    sizes = d.rng.integers(0, 99, count).astype(float)
    return who, d.flags(count), 9.5, *times, sizes, d.positive(), d.whole(1, 4), d.flags(workers), np.zeros(6)


def _work(d: Draw) -> tuple[Any, ...]:
    who = np.flatnonzero(d.rng.random(d.size) < 0.7)
    counts = [d.rng.integers(0, 99, d.size) for _ in range(2)]
    delays = None if d.rng.random() < 0.5 else d.rng.random((3, d.size))
    numbers = [d.positive(), d.positive() if delays is None else 0.0, d.positive()]
    return who, *counts, delays, d.turn(), d.rng.random(d.size), *numbers, *(np.zeros(who.size) for _ in range(3))


def _rounded_row(d: Draw) -> tuple[Any, ...]:
    offsets, index, value = d.row(odd=True)
    return offsets, index, value, np.zeros(2, np.int64), np.zeros(d.size, np.int32), np.zeros(d.size, np.float32)


def _dense_rows(d: Draw) -> tuple[Any, ...]:
    offsets, n = d.offsets(), d.size + 4
    index = np.concatenate([np.sort(d.rng.permutation(n)[:k]) for k in np.diff(offsets)]).astype(np.int32)
    return offsets, index, d.array(index.size, np.float32), n, np.full(4 * n * d.rows, 7, np.uint8)


def _of_rows(d: Draw, kind: Any = np.float32) -> tuple[Any, Any]:
    offsets = d.offsets()
    return offsets, d.array(int(offsets[-1]), kind, odd=True)


def _perhaps(d: Draw, found: Any) -> Any:
    return None if d.rng.random() < 0.3 else found


F32 = np.float32
ROUNDS: dict[str, Callable[[Draw], tuple[Any, ...]]] = {
    "fold_round": lambda d: (d.word(), d.turn(), d.whole(0, 9), np.zeros(d.size, np.uint64)),
    "fold_exchange": lambda d: (d.word(), d.turn(), d.whole(0, 9), np.zeros(d.size, np.uint64)),
    "number_exchange": lambda d: (d.word(), d.turn(), d.whole(0, 9), np.zeros(d.size, np.uint64)),
    "fold_down": lambda d: (d.word(), d.turn(), np.zeros(1, np.uint64)),
    "begin_round": lambda d: (
        d.turn(),
        d.rng.choice([0.5, 0.95, 1.0, 2.0], 3),
        np.zeros(1),
        d.rng.choice([0.0, 0.4, 0.5, 1.0]),
        d.rng.choice([0, 0, 1, 5], 1),
    ),
    "keep_weights": lambda d: (d.turn(), d.whole(1, 4), d.number(), d.array(), np.zeros((4, d.size))),
    "end_round": lambda d: (
        d.turn(),
        *(d.whole(0, 999) for _ in range(3)),
        _perhaps(d, np.array([0, d.whole(0, 99)])),
        d.whole(1, 9),
        d.whole(0, 99),
        np.zeros((3, 4), np.int64),
    ),
    "to_float32": lambda d: (d.array(odd=True), d.rng.choice([0.5, 1.0, 3.0]), np.zeros(d.size, F32)),
    "scale_by_count": lambda d: ((rows := d.offsets()), d.number(), d.array(int(rows[-1]), F32)),
    "shrink": lambda d: (d.rng.choice([0.0, 0.5, 1.0]), d.rng.choice([0.0, 0.9]), d.array(), _scale(d)),
    "shrink_by": lambda d: (d.rng.choice([0.5, 0.9, 2.0**-65], 3), d.turn(), _scale(d), d.array()),
    "descend": lambda d: (d.number(), d.array(odd=True), _factor(d), d.array(odd=True), d.rng.integers(0, 3, 1)),
    "subtract": lambda d: (*d.row(odd=True), d.number(), _factor(d), d.array(odd=True), d.rng.integers(0, 3, 1)),
    "weighted": lambda d: (*(row := d.row(kind=F32))[:1], row[2], d.rng.choice([0.25, -0.5]), np.zeros(d.size)),
    "add_row": lambda d: (*d.row(), d.number(), d.array()),
    "take_dense": lambda d: (d.array(), d.rng.integers(0, 9, d.size, dtype=np.uint64), np.zeros(d.size)),
    "first_wrong": lambda d: ((rows := d.offsets()), d.array(int(rows[-1]), F32, odd=d.rng.random() < 0.5)),
    "times": lambda d: (d.turn(), d.whole(0, 99)),
    "reaches": lambda d: (np.int32(d.whole(-3, 3)), d.whole(-3, 3)),
    "exceeds": lambda d: (d.rng.choice([*ODD, 3.0]), d.rng.choice([3.0, LARGEST])),
    "multiply": lambda d: (d.number(), d.array(kind=F32)),
    "difference": lambda d: (d.number(), d.array(), d.array(), np.zeros(d.size, F32)),
    "round_nonzeros": _rounded_row,
    "widen": lambda d: (*(row := d.row(kind=F32))[:1], row[2], np.zeros(d.size)),
    "plain_step": lambda d: (d.number(), d.positive(), d.number(), d.array(), np.zeros(d.size)),
    "accelerate": lambda d: (d.number(), d.array(), d.array()),
    "add_to_average": lambda d: (d.rng.random(3), d.turn(), d.number(), d.array(), d.array()),
    "look_ahead": lambda d: (d.number(), d.array(), d.array(), np.zeros(d.size)),
    "average": lambda d: (
        F32(d.rng.random()),
        np.array([0, d.whole(0, d.size + 1)]),
        d.array(kind=F32),
        d.array(kind=F32),
        np.zeros(d.size, F32),
        np.zeros(d.size, F32),
    ),
    "less": lambda d: (d.array(kind=F32), d.array(kind=d.rng.choice([F32, np.float64])), np.zeros(d.size, F32)),
    "store": lambda d: (d.whole(-9, 9), np.zeros(2, np.int64)),
    "copy": lambda d: (d.array(d.size + 2), np.zeros(d.size)),
    "negative": lambda d: (d.array(d.size + 2), np.zeros(d.size)),
    "multiplied": lambda d: (*_of_rows(d), F32(d.rng.choice([1e-30, 0.5, 0.0])), np.zeros(99, F32)),
    "rounded": lambda d: (d.array(odd=True), np.zeros(d.size, F32)),
    "fill": lambda d: (np.zeros(d.size), d.number()),
    "write_floats": lambda d: (d.array(kind=F32), np.zeros(4 * d.size, np.uint8)),
    "write_dense": _dense_rows,
    "read_floats": lambda d: (d.array(kind=F32).view(np.uint8), np.zeros(d.size, F32)),
    "unsound_offsets": lambda d: (np.abs(d.offsets() + d.rng.choice([-1, 0, 0, 0, 0, 1], d.rows + 1)), d.whole(0, 20)),
    "clear_behind": lambda d: ((rows := d.offsets()), d.whole(0, 5), np.full(int(rows[-1]) + 6, 9, np.uint8)),
}
PARTICIPATION: dict[str, Callable[[Draw], tuple[Any, ...]]] = {
    "nonzeros_of": lambda d: (*_of_rows(d), _perhaps(d, d.flags(d.rows))),
    "bytes_of": lambda d: (d.offsets(), _perhaps(d, d.flags(d.rows))),
    "rows_of": lambda d: (d.offsets(), d.flags(d.rows)),
    "weights_of": lambda d: ((size := d.whole(1, 300)) and d.rng.random(size), d.flags(size), np.ones(size)),
    "pairwise_sum": lambda d: (d.array(int(d.rng.choice([d.whole(0, 12), d.whole(125, 140), d.whole(0, 2000)]))),),
    "silence": lambda d: (*_of_rows(d), d.flags(d.rows)),
    "take_entry": lambda d: (d.rng.random((3, d.size)), d.turn(), np.zeros(d.size)),
    "entry": lambda d: (d.flags(3), d.turn()),
    "copy_rows": lambda d: ((rows := d.offsets()), _perhaps(d, d.flags(d.rows)), d.array(int(rows[-1])), np.ones(99)),
    "is_zero": lambda d: (d.rng.choice(ODD),),
    "product": lambda d: (d.number(), d.number()),
}
CLOCK: dict[str, Callable[[Draw], tuple[Any, ...]]] = {
    "draw_uniforms": lambda d: (d.word(), d.whole(0, 99), np.zeros((d.rows, d.size))),
    "fold_ties": lambda d: (d.word(), d.turn(), d.size, np.zeros(1, np.uint64)),
    "places_of": lambda d: ((there := d.flags()), np.zeros(int(there.sum()), np.int64)),
    "count_touched": lambda d: (
        (rows := d.offsets(9)),
        d.rng.integers(0, 9, d.size),
        np.sort(d.rng.integers(0, d.size, rows.size)),
        np.ones(rows.size - 1, np.int64),
    ),
    "lengths": lambda d: (d.offsets(), np.zeros(d.rows, np.int64)),
    "take_sizes": lambda d: (np.flatnonzero(d.flags(d.rows)), d.offsets(), np.zeros(d.rows)),
    "work": _work,
    "arrive": lambda d: (
        d.times(d.size),
        d.rng.integers(0, 3, d.size) * 1.0,
        0.125,
        d.rng.choice([0.0, 0.5]),
        d.whole(1, 20),
        d.words(),
        np.zeros(d.size),
    ),
    "take_all": lambda d: (d.times(d.size), d.flags()),
    "take_until": lambda d: (d.times(d.size), d.rng.choice([0.375, 0.5, 9.0]), d.flags()),
    "take_first": lambda d: (d.times(d.size) + 0.0, d.whole(1, d.size + 1), d.words(), d.flags()),
    "account": _accounts,
    "end_time": lambda d: (
        d.turn(),
        d.rng.choice([0.0, 0.25]),
        _perhaps(d, np.array([0, d.whole(0, 3)])),
        *(d.whole(1, 9) for _ in range(2)),
        d.positive(),
        d.positive(),
        d.rng.random(6),
        np.zeros((3, 7)),
    ),
}


def _scale(d: Draw) -> Any:
    """Some are so small that the next step moves them into the weights."""
    return d.rng.choice([1.0, 0.5, 2.0**-64, 2.0**-63], 1)


def _factor(d: Draw) -> float:
    """Of weights, which are this times a vector."""
    return float(d.rng.choice([1.0, 0.5, 0.37, 2.0**-64]))


GROUPS = [
    (rounds, plain_rounds, ROUNDS),
    (participation, plain_participation, PARTICIPATION),
    (clock, plain_clock, CLOCK),
]
NOT_HERE = {"fold", "pass_in_order", "rising"}
"""Kernels of other modules, which are imported there."""


@pytest.mark.parametrize(
    ("module", "oracle", "drawn", "name"), [(*group, name) for group in GROUPS for name in group[2]]
)
def test_a_kernel_does_what_plain_python_does(
    module: ModuleType, oracle: ModuleType, drawn: dict[str, Callable[[Draw], tuple[Any, ...]]], name: str
) -> None:
    for seed in range(200):
        ours = drawn[name](Draw(seed))
        theirs = deepcopy(ours)
        with np.errstate(all="ignore"):
            found, wanted = getattr(module, name)(*ours), getattr(oracle, name)(*theirs)
        if name == "unsound_offsets":
            found = found > 0
        assert np.array_equal(_bits(found), _bits(wanted)), (seed, found, wanted)
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(_bits(a), _bits(b)), (seed, a, b)


def _bits(x: Any) -> Any:
    """Return what two results must share: zeros differ by their signs, and numbers that are none are one."""
    if x is None or np.asarray(x).dtype.kind != "f":
        return x
    found = np.atleast_1d(np.asarray(x)).copy()
    found[np.isnan(found)] = np.nan
    return found.view(f"u{found.dtype.itemsize}")


@pytest.mark.parametrize(("module", "drawn"), [(group[0], group[2]) for group in GROUPS])
def test_no_kernel_is_left_out(module: ModuleType, drawn: dict[str, Any]) -> None:
    kernels = {name for name, value in vars(module).items() if hasattr(value, "py_func")} - NOT_HERE
    assert kernels == set(drawn) | ({"pairwise_sum"} if module is clock else set())
