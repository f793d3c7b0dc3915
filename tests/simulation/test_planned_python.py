"""Planned rounds that come back to Python for what has no kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from helpers.planned import RUN, agree, differences, plain, small
from qsim.compressors import NotFiniteError
from qsim.methods import SGD, HeavyBall, WithReplacement
from qsim.program import NoProgram, Program
from qsim.testing.shipped import shipped

OBJECTIVES = [qsim.LogisticRegression(l2=0.02), qsim.objectives.LeastSquares(l2=0.02)]
METHODS = [
    SGD(0.3, batch=2),
    SGD(0.1, batch=2, momentum=HeavyBall(0.4)),
    qsim.DIANA(0.1, shift=0.1),
    qsim.EF21(0.1, batch=2),
]


@qsim.option
class Mine(qsim.compressors.Compressor):
    """Rounds to whole thousandths, by coins of its own: nobody can do its rounds again."""

    emits = qsim.batch.Floats

    def compress(self, v, keys, memory=None):
        return qsim.batch.Floats(v.n, v.offsets, v.index, np.round(v.value, 3).astype(np.float32))


@pytest.mark.parametrize("compressor", [*shipped(qsim.compressors, qsim.compressors.Compressor), Mine()], ids=repr)
def test_bits_are_those_of_the_exchange(compressor: qsim.compressors.Compressor, count: list[int]) -> None:
    wrong = []
    for number, objective in enumerate(OBJECTIVES):
        for method in METHODS:
            if compressor.three_point(1) is not None and not isinstance(method, qsim.EF21):
                continue  # which is refused
            run = qsim.Run(
                small(True),
                objective,
                method,
                compressor,
                workers=compressor.correlated or 5,
                rounds=12,
                downlink=(qsim.downlinks.SparseSum(), qsim.downlinks.DenseWeights())[number],
                until=qsim.stopping.Passes(3.0) if number else None,
                evaluate_every=7,
                optimum=False,
            )
            wrong += differences(run)
    assert not wrong
    if isinstance(compressor, qsim.PowerSGD | qsim.ThreePCv2):  # with a memory that no program knows
        assert not count
    else:
        assert sum(count) > 10


@pytest.mark.parametrize(
    "changes",
    [
        {"compressor": qsim.compressors.Sign()},
        {"codec": qsim.codecs.Auto()},
        {"objective": qsim.objectives.LeastSquares(l2=0.1)},
        {"compressor": qsim.ErrorFeedback(qsim.compressors.ScaledSign())},
        {"network": qsim.Network(rule=qsim.network.Fastest(1)), "workers": 2, "compressor": Mine()},
    ],
    ids=str,
)
def test_what_python_is_called_for(changes: dict, count: list[int]) -> None:
    run = replace(RUN, rounds=20, **changes)
    agree(qsim.simulate(run), plain(run))
    assert sum(count) > 15


@pytest.mark.parametrize("network", [None, qsim.Network(machines=qsim.network.Machines(per_nonzero=1e-3))])
def test_rows_are_counted_as_often_as_an_objective_reads_them(network: qsim.Network | None, count: list[int]) -> None:
    @qsim.option
    class Twice(qsim.LogisticRegression):
        def update(self, block, rows, weights, step):
            block.margins(block.all_rows(), weights)
            return super().update(block, rows, weights, step)

    run = replace(RUN, data=small(True), objective=Twice(0.1), workers=3, rounds=6, network=network)
    found = qsim.simulate(run)
    agree(found, plain(run))
    assert found.frame["passes"].iloc[-1] == (24 + 3) / 24
    assert sum(count) == 5


def test_what_a_rule_ends_is_not_done_twice(count: list[int]) -> None:
    """A compressor that keeps something of its own, and a budget that ends the run within what would be run at once."""
    calls: list[int] = []

    @qsim.option
    class Counting(Mine):
        def compress(self, v, keys, memory=None):
            calls.append(1)
            return super().compress(v, keys, memory)

    run = replace(RUN, compressor=Counting(), until=qsim.stopping.Bits(16_000_000), evaluate_every=250)
    found = qsim.simulate(run)
    done = int(found.frame["round"].iloc[-1])
    assert 20 < done < 240
    assert len(calls) == done
    assert sum(count) == done - 1


@pytest.mark.parametrize("error", [ValueError("no more"), NotFiniteError("too large", 0)], ids=repr)
def test_an_exception_says_where_it_was_raised(error: Exception) -> None:
    def run() -> qsim.Run:
        rounds = iter(range(7))

        @qsim.option
        class Failing(Mine):
            def compress(self, v, keys, memory=None):
                if next(rounds, None) is None:
                    raise error
                return super().compress(v, keys, memory)

        return replace(RUN, compressor=Failing())

    told = []
    for way in (plain, qsim.simulate):
        with pytest.raises(type(error)) as seen:
            way(run())
        told.append((str(seen.value), getattr(seen.value, "__notes__", [])[-1:]))
    assert told[0] == told[1]
    assert "round 7" in str(told[0])


def test_what_python_cannot_do_once_is_left_to_the_exchange(count: list[int]) -> None:
    """A compressor that reads as float64 is called once more in the first such round, and then as often as always."""
    calls: list[int] = []

    @qsim.option
    class Wide(Mine):
        def compress(self, v, keys, memory=None):
            calls.append(1)
            return super().compress(v, keys, memory)

        def decompress(self, message, keys):
            return replace(message.vectors(), value=message.value.astype(np.float64))

    run = replace(RUN, compressor=Wide(), rounds=20)
    found = qsim.simulate(run)
    assert len(calls) == 21
    assert sum(count) == 0
    agree(found, plain(run))


def test_a_header_that_changes_is_refused() -> None:
    @qsim.option
    class Drifting(qsim.QSGD):
        def compress(self, v, keys, memory=None):
            levels = 4 if np.abs(v.value).sum() > 1e-3 else 5
            return qsim.QSGD(levels).compress(v, keys)

    run = replace(RUN, method=SGD(qsim.steps.InverseTime(0.5, 0.1)), compressor=Drifting(4), rounds=3000)
    for way in (plain, qsim.simulate):
        with pytest.raises(ValueError, match="was opened with the header"):
            way(run)


def test_a_program_takes_back_what_it_cannot_do() -> None:
    from qsim.kernels.vectors import first_not_finite

    program, numbers, seen = Program(), np.ones(2), []
    program.python(lambda: seen.append(1))

    def begin() -> None:
        with program.all_or_nothing():
            program.call(first_not_finite, numbers, stop="negative")  # would end each round
            program.python(lambda: seen.append(2))
            raise NoProgram

    with pytest.raises(NoProgram):
        begin()
    program.call(first_not_finite, numbers, stop="not negative")
    assert program.run(3) == 3
    assert seen == [1, 1, 1]
    numbers[1] = np.nan
    assert program.run(3) == 0


def test_what_a_user_overrides_is_not_passed_over(count: list[int]) -> None:
    """A subclass of a shipped part inherits a plan that knows nothing of it."""

    @qsim.option
    class Half(qsim.QSGD):
        def compress(self, v, keys, memory=None):
            return super().compress(v, keys, memory).scaled(0.5)

    @qsim.option
    class Steeper(qsim.LogisticRegression):
        def slope(self, margins, labels):
            return 2 * super().slope(margins, labels)

        def loss(self, margins, labels):
            return 2 * super().loss(margins, labels)

        def _slopes(self, block, rows, weights):
            return 2 * super()._slopes(block, rows, weights)

    @qsim.option
    class Twice(SGD):
        def round(self, w, state, exchange):
            super().round(w, state, exchange)
            w.shrink(0.5)

    @qsim.option
    class First(WithReplacement):
        def draw(self, block, batch, t, memory, key):
            return super().draw(block, batch, 0, memory, key)

    @qsim.option
    class Wide(qsim.codecs.Varint):
        def encode(self, message):
            return super().encode(message)

    @qsim.option
    class Heavier(HeavyBall):
        def along(self, velocity, step):
            return 2 * super().along(velocity, step)

    @qsim.option
    class Sum(qsim.downlinks.SparseSum):
        def aggregate(self, total, state, key):
            return super().aggregate(total.scaled(0.5), state, key)

    for changes in (
        {"method": Twice(0.1)},
        {"method": SGD(0.1, sampling=First())},
        {"method": SGD(0.1, momentum=Heavier(0.5))},
        {"downlink": Sum()},
    ):
        run = replace(RUN, rounds=5, **changes)
        agree(qsim.simulate(run), plain(run))
    assert count == []
    for changes in (  # which Python is called for
        {"compressor": Half(4)},
        {"objective": Steeper(l2=0.1)},
        {"codec": Wide()},
        {"compressor": qsim.ErrorFeedback(qsim.Scaled(Half(4)))},
    ):
        run = replace(RUN, rounds=5, **changes)
        agree(qsim.simulate(run), plain(run))
        assert sum(count) == 4
        count.clear()
