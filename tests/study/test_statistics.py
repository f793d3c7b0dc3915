"""Statistics over seeds: intervals, common axes, costs to a target and paired comparisons, against plain Python."""

from __future__ import annotations

import re
from bisect import bisect_right
from math import exp, log, sqrt
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import t as student

import qsim
from helpers.paths import DOCS
from qsim.study import (
    AxisSpec,
    Bootstrap,
    Cell,
    Panel,
    Results,
    Settings,
    StudentT,
    draw,
    figure_grid,
    no_winner,
    reach,
    resample,
)
from qsim.study.statistics import band

pytestmark = pytest.mark.quick

SEEDS = Settings("spark_sample", 2, 2, 4)


def interval(values: list[float], confidence: float = 0.95) -> tuple[float, float]:
    half = student.ppf((1 + confidence) / 2, len(values) - 1) * stdev(values) / sqrt(len(values))
    return mean(values) - half, mean(values) + half


# Intervals.


def test_t_intervals_by_hand() -> None:
    samples = np.array([[1.0, 2.0, 7.0], [4.0, 2.0, 9.0], [3.0, 2.0, 1.0]])
    for confidence in (0.95, 0.99):
        low, high = StudentT().interval(samples, confidence)
        for column in range(3):
            assert (low[column], high[column]) == pytest.approx(interval(samples[:, column].tolist(), confidence))


@pytest.mark.parametrize(
    ("bands", "seeds", "nominal"),
    [(StudentT(), 4, 0.95), (Bootstrap("BCa", 999), 20, 0.93), (Bootstrap("percentile", 999), 20, 0.93)],
)
def test_intervals_cover_the_mean_of_normal_samples(bands, seeds: int, nominal: float) -> None:
    """2,000 experiments: 0.035 is seven deviations of the share that is covered, so a false alarm is below 1e-11.

    The bootstrap covers 93% with 20 seeds. Power: intervals with normal quantiles cover 85% of the means of 4 seeds.
    """
    samples = np.random.default_rng(1).normal(3.0, 2.0, (seeds, 2000))
    low, high = bands.interval(samples)
    assert abs(np.mean((low <= 3) & (high >= 3)) - nominal) < 0.035


def test_bootstrap_of_three_seeds_against_all_resamples() -> None:
    """All 27 resamples of three seeds are equally likely: the quantiles of 20,000 are among theirs, or next to them."""
    values = [1.0, 2.0, 10.0]
    means = sorted(mean((a, b, c)) for a in values for b in values for c in values)
    low, high = Bootstrap("percentile", 20_000).interval(np.array(values)[:, None])
    assert (low[0], high[0]) == pytest.approx((means[0], means[-1]))  # 1/27 > 2.5%: the ends
    low, high = Bootstrap("percentile", 20_000).interval(np.array(values)[:, None], 0.8)
    assert (low[0], high[0]) == pytest.approx((means[2], means[-3]))  # the second and third of 27 are at 3.7% to 11.1%


def test_bootstrap_is_repeatable_and_keeps_what_has_no_spread() -> None:
    samples = np.random.default_rng(0).normal(size=(6, 3))
    samples[:, 1] = 5.0
    first, again = (Bootstrap().interval(samples) for _ in range(2))
    assert np.array_equal(first, again)
    assert first[0][1] == first[1][1] == 5.0
    assert not np.array_equal(first, Bootstrap(seed=1).interval(samples))
    for words in ("BCa", "999", "95%"):
        assert words in Bootstrap(resamples=999).words
    with pytest.raises(ValueError, match="BCa"):
        Bootstrap("bca")
    with pytest.raises(ValueError, match="resamples"):
        Bootstrap(resamples=1)
    assert eval(repr(Bootstrap("percentile")), {"qsim": qsim}) == Bootstrap("percentile")


def test_a_logarithmic_band_is_that_of_the_logarithms() -> None:
    samples = np.array([[1e-3, 1.0], [1e-5, 2.0], [3e-4, 0.0]])
    found = band(np.arange(2.0), samples, StudentT(), logarithmic=True)
    logs = [log(x) for x in samples[:, 0]]
    low, high = interval(logs)
    assert (found.mean[0], found.low[0], found.high[0]) == pytest.approx((exp(mean(logs)), exp(low), exp(high)))
    assert 0 < found.low[0] < found.mean[0] < found.high[0]
    assert np.isnan([found.mean[1], found.low[1], found.high[1]]).all()  # a zero has no logarithm: it is not dropped


# Common axes.


def plain(at: list[float], up: list[float], x: float, log_x: bool, log_y: bool) -> float:
    """Return y at x: on the straight line between the neighbours."""
    by, value = (log if log_x else float), (log if log_y else float)
    last = dict(zip(at, up, strict=True))
    positions = sorted(last)
    right = min(bisect_right(positions, x), len(positions) - 1)
    a, b = positions[max(right - 1, 0)], positions[right]
    share = 0.0 if a == b else (by(x) - by(a)) / (by(b) - by(a))
    found = value(last[a]) + share * (value(last[b]) - value(last[a]))
    return exp(found) if log_y else found


curves = st.lists(st.tuples(st.integers(0, 9), st.floats(0.01, 100)), min_size=1, max_size=8)


@given(st.lists(curves, min_size=1, max_size=4), st.booleans(), st.booleans())
@example([[(0, 1.0), (2, 1.0)], [(1, 1.0)]], False, False)  # one place in common, between two positions
def test_resampling_by_hand(steps: list[list[tuple[int, float]]], log_x: bool, log_y: bool) -> None:
    seeds = [(np.cumsum([step for step, _ in seed]).astype(float), np.array([y for _, y in seed])) for seed in steps]
    kept = [[(x, y) for x, y in zip(at.tolist(), up.tolist(), strict=True) if x > 0 or not log_x] for at, up in seeds]
    grid, found = resample(seeds, log_x=log_x, log_y=log_y)
    starts, ends = [seed[0][0] for seed in kept if seed], [seed[-1][0] for seed in kept if seed]
    if len(starts) < len(kept) or max(starts) > min(ends):
        assert grid.size == 0
        return
    assert (grid[0], grid[-1]) == (max(starts), min(ends))
    assert (np.diff(grid) > 0).all()
    for row, seed in zip(found, kept, strict=True):
        at, up = [x for x, _ in seed], [y for _, y in seed]
        assert row.tolist() == pytest.approx([plain(at, up, x, log_x, log_y) for x in grid], rel=1e-9)


def test_positions_that_all_seeds_share_are_the_grid() -> None:
    """Rounds 0, 4, 8, 10 are not evenly spaced; a seed that ended at 8 ends the grid, and no value is changed."""
    whole, early = np.array([0.0, 4.0, 8.0, 10.0]), np.array([0.0, 4.0, 8.0])
    grid, up = resample([(whole, whole**2), (early, 3 * early)])
    assert grid.tolist() == [0, 4, 8]
    assert up.tolist() == [[0, 16, 64], [0, 12, 24]]


@given(st.lists(curves, min_size=1, max_size=3), st.integers(2, 5), st.booleans())
def test_rounds_that_were_not_evaluated_are_no_points(steps, every: int, log_y: bool) -> None:
    """A trace's frame has NaN between evaluations: the curve is the one of the evaluated rounds."""
    seeds = [(np.cumsum([1 + x for x, _ in seed]).astype(float), np.array([y for _, y in seed])) for seed in steps]
    holes = [
        (
            np.interp(np.arange((len(at) - 1) * every + 1) / every, np.arange(len(at)), at),
            np.full((len(at) - 1) * every + 1, np.nan),
        )
        for at, _ in seeds
    ]
    for (_, full), (_, up) in zip(holes, seeds, strict=True):
        full[::every] = up
    for ours, expected in zip(resample(holes, log_y=log_y), resample(seeds, log_y=log_y), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_frames_of_runs_evaluated_now_and_then_are_curves() -> None:
    run = qsim.Run(
        qsim.datasets.load("spark_sample"),
        objective=qsim.LogisticRegression(l2=0.1),
        method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
        workers=2,
        rounds=12,
        evaluate_every=5,
        optimum=False,
    )
    frame = qsim.simulate(run).frame
    bits, loss = resample([(frame["cumulative_bits_up"], frame["loss"])] * 2)
    assert bits.tolist() == frame["cumulative_bits_up"][[0, 5, 10, 12]].tolist()
    assert loss.tolist() == [frame["loss"][[0, 5, 10, 12]].tolist()] * 2
    assert reach([frame["round"]], [frame["loss"]], frame["loss"][10]).costs.tolist() == [10]
    trace = qsim.simulate(run)
    with pytest.raises(ValueError, match="leave optimum=True"):
        trace.plot(y="suboptimality")
    found = Results(SEEDS, [Cell("a", run)], [trace])
    with figure_grid(height=2.0) as (_, axes), pytest.raises(ValueError, match="leave optimum=True"):
        draw(found, Panel("bits", "suboptimality"), axes[0, 0], found.curves)


def test_what_falls_is_no_axis() -> None:
    with pytest.raises(ValueError, match="never fall"):
        resample([(np.array([3.0, 1.0]), np.ones(2))])


# Costs to a target.


def test_costs_to_a_target_by_hand() -> None:
    """The first evaluated point at or below the target counts, though the curve rises again behind it."""
    across = [np.array([0.0, 10.0, 20.0, 40.0]), np.array([0.0, 12.0, 24.0, 48.0])]
    up = [np.array([9.0, 4.0, 6.0, 1.0]), np.array([9.0, 8.0, 4.0, 4.0])]
    found = reach(across, up, 4.0)
    assert found.costs.tolist() == [10, 24]
    low, high = interval([log(10), log(24)])
    assert (found.mean, found.low, found.high) == pytest.approx((sqrt(240), exp(low), exp(high)))
    assert str(reach(across[:1], up[:1], 4.0)) == "10 (one seed)"
    assert str(reach(across[:1] * 3, up[:1] * 3, 4.0)) == "10 (all seeds)"


def test_seeds_that_never_come_to_the_target_are_told() -> None:
    across = [np.array([0.0, 10.0, 20.0])] * 3
    up = [np.array([9.0, 4.0, 1.0]), np.array([9.0, 8.0, 7.0]), np.array([9.0, 8.0, 3.0])]
    found = reach(across, up, 4.0)
    assert found.reached == 2
    assert np.isnan([found.mean, found.low, found.high]).all()  # no mean over those that did
    assert str(found) == "2 of 3 seeds (10 to 20), the other not within 20"
    assert str(reach(across, up, 0.5)) == "not reached within 20"
    assert str(reach(across, up, 9.0)) == "met at the start"


costs = st.lists(st.tuples(st.floats(0.01, 3e4), st.booleans()), min_size=1, max_size=5)


@given(costs)
@example([(19.83, False), (1.6, False), (2.6, False)])
@example([(1999.6, False), (2500.0, True)])
def test_what_is_said_of_seeds_that_miss_a_target_is_true_of_each(seeds: list[tuple[float, bool]]) -> None:
    """Each spends so much; those marked come to the target at the end, the others never."""
    text = str(
        reach([np.array([0.0, x]) for x, _ in seeds], [np.array([9.0, 1.0 if met else 5.0]) for _, met in seeds], 2.0)
    )
    missed = [x for x, met in seeds if not met]
    limits = re.findall(r"not (?:reached )?within ([\d.,e+-]+)", text)
    assert len(limits) == bool(missed)
    for limit in limits:
        assert float(limit.replace(",", "")) <= min(missed)
        assert ("longest run spent" in text) >= (max(missed) > 1.001 * min(missed) + 1)


# Results.


def results(losses: dict[str, list[list[float]]], bits: dict[str, list[list[float]]], **options) -> Results:
    cells = [Cell(curve, None) for curve in losses for _ in losses[curve]]
    traces = [
        qsim.Trace(
            {
                "round": np.arange(len(loss)),
                "loss": np.array(loss),
                "suboptimality": np.array(loss) - 1,
                "cumulative_bits_up": np.array(sent),
            }
            | {f"cumulative_{name}": np.zeros(len(loss)) for name in ("nonzeros", "bits_down", "passes")}
            | {
                name: np.full(len(loss), np.nan) for name in ("gradient_norm", "train_error", "test_loss", "test_error")
            },
            np.zeros(1),
            {},
        )
        for curve in losses
        for loss, sent in zip(losses[curve], bits[curve], strict=True)
    ]
    return Results(Settings("spark_sample", 2, 2, 2, **options), cells, traces)


LOSSES = {"a": [[9.0, 5.0, 3.0], [9.0, 5.0, 2.0]], "b": [[9.0, 7.0, 5.0], [9.0, 3.0, 1.5]]}
BITS = {"a": [[0.0, 8.0, 16.0], [0.0, 10.0, 20.0]], "b": [[0.0, 4.0, 8.0], [0.0, 5.0, 10.0]]}


def test_bands_on_bits_end_with_the_shortest_seed() -> None:
    found = results(LOSSES, BITS).band("a", "loss", axis="bits_up")
    assert found.at.tolist() == [0, 8, 16]
    second = [9.0, 9 - 4 * 8 / 10, 5 - 3 * 6 / 10]
    assert found.mean.tolist() == pytest.approx([mean(pair) for pair in zip([9.0, 5.0, 3.0], second, strict=True)])
    low, high = interval([5.0, second[1]])
    assert (found.low[1], found.high[1]) == pytest.approx((low, high))
    on_log = results(LOSSES, BITS).band("a", "loss", axis="bits_up", log=True)
    assert (on_log.at[0], on_log.at[-1]) == (10, 16)  # the first of a seed above zero is 8, of the other 10


def test_paired_differences_at_equal_bits() -> None:
    """At 8 bits seed 0 of b is at its end; its difference to a is 5 - 5, seed 1's 1.5 + 1.5 * 2/5 - 5.8."""
    found = results(LOSSES, BITS).band("b", "loss", "a", axis="bits_up")
    assert (found.at[0], found.at[-1]) == (0, 8)
    assert found.mean[-1] == pytest.approx(mean([0.0, 1.5 + 1.5 * 2 / 5 - (9 - 4 * 8 / 10)]))
    ratio = results(LOSSES, BITS).band("b", "suboptimality", "a")
    assert ratio.mean.tolist() == pytest.approx([1, sqrt(6 / 4 * 2 / 4), sqrt(4 / 2 * 0.5 / 1)])
    unequal = results({"a": LOSSES["a"], "b": LOSSES["b"][:1]}, BITS | {"b": BITS["b"][:1]})
    with pytest.raises(ValueError, match="cannot be paired"):
        unequal.band("b", "loss", "a")


def test_finals_comparisons_and_costs_of_results() -> None:
    found = results(LOSSES, BITS)
    assert found.final("a", "loss") == 2.5
    assert found.final("a", "suboptimality") == pytest.approx(sqrt(2))  # geometric
    assert found.compare(["b"], "a", "loss")["b"].mean == pytest.approx(mean([2, -0.5]))
    assert found.compare(["b"], "a", "suboptimality")["b"].mean == pytest.approx(sqrt(4 / 2 * 0.5 / 1))
    assert found.reach("a", 4.0, per=2.0).costs.tolist() == [4, 5]
    found.traces["a"][0].columns["cumulative_bits_down"] += np.array([0.0, 100.0, 200.0])
    assert found.reach("a", 4.0).costs.tolist() == [108, 10]  # both directions, unless one is named
    assert found.reach("a", 4.0, axis="bits_up").costs.tolist() == [8, 10]
    found = results(LOSSES, BITS)
    best, others = found.cheapest(["a", "b"], 6.0)
    assert best == "b"
    assert others["a"].mean == pytest.approx(sqrt(8 / 4 * 10 / 5))
    assert found.cheapest(["a", "b"], 0.1) is None
    assert found.cheapest(["a", "b"], 2.0)[0] == "a"  # only one seed of b comes there
    assert no_winner(found, ["a", "b"], 0.1) == "none gets there with every seed"
    assert found.cheapest(["a", "b"], 8.0) is None
    assert no_winner(found, ["a", "b"], 8.0) == "all are there at the start"
    assert found.once(len_of) is found.once(len_of)


def test_a_target_that_some_seeds_meet_at_the_start() -> None:
    found = results({"a": [[9.0, 5.0, 3.0], [4.0, 3.0, 2.0]], "b": [[9.0, 5.0, 3.0], [4.0, 3.0, 2.0]]}, BITS)
    assert str(found.reach("a", 4.0)) == "1 of 2 seeds at the start, the others within 8"
    assert found.cheapest(["a", "b"], 4.0) is None
    assert no_winner(found, ["a", "b"], 4.0) == "some seeds are there at the start"


def len_of(found: Results) -> list[str]:
    return found.curves


def test_settings_say_which_bands_there_are() -> None:
    found = results(LOSSES, BITS, bands=Bootstrap("percentile", 500))
    assert "bootstrap" in found.settings.statistics
    assert "t-intervals" in SEEDS.statistics
    assert found.band("b", "loss").high[2] == pytest.approx(5.0)  # of two seeds the larger: no t-interval ends there
    assert eval(repr(found.settings), {"qsim": qsim}) == found.settings


def test_numbers_name_axis_curve_and_seeds() -> None:
    table = results(LOSSES, BITS).numbers(AxisSpec("bits_up", ("loss",), log=False))
    rounds, bits = table[table["axis"] == "round"], table[table["axis"] == "bits_up"]
    assert rounds["round"].tolist() == [0, 1, 2] * 2
    assert rounds["cumulative_bits_up"].tolist() == [0, 9, 18, 0, 4.5, 9]
    assert bits["cumulative_bits_up"].tolist() == [0, 8, 16, 0, 4, 8]
    assert set(table["seeds"]) == {2}
    assert bits["loss"].iloc[2] == pytest.approx(mean([3, 5 - 3 * 6 / 10]))
    assert bits["suboptimality"].isna().all()


def test_curves_are_compared_at_rounds_that_all_have() -> None:
    nan = float("nan")
    losses = {"a": [[1, nan, 3, 4, 5], [1, 2, 3, 4, 5]], "b": [[1, 2, 3, nan], [1, 2, 7, 4]]}
    found = results(losses, {curve: [[0.0] * len(loss) for loss in seeds] for curve, seeds in losses.items()})
    assert found.rounds.tolist() == [0, 2]
    assert found.final("b", "loss") == 5
    assert found.band("a", "loss").at.tolist() == [0, 2, 3, 4]  # b, which ended before, does not cut a


PAGE = DOCS / "statistics.md"


@pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")
def test_the_page_on_statistics_runs(capsys: pytest.CaptureFixture[str]) -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    assert len(programs) == 4
    space = {"__name__": "page"}
    for program in programs:
        exec(compile(program, PAGE.name, "exec"), space)
    assert "For every curve the step over 0.05" in capsys.readouterr().out


@pytest.mark.parametrize("bands", [StudentT(), Bootstrap(resamples=100)], ids=repr)
def test_intervals_of_what_there_is_none(bands: StudentT | Bootstrap) -> None:
    """A confidence of 1 was an infinite interval, or none where samples are equal; one seed was NaN."""
    samples = np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]])
    for confidence in (0, 1, 1.5, -0.5, np.nan, "0.9", None, True):
        with pytest.raises(ValueError, match="confidence must be"):
            bands.interval(samples, confidence)
    for wrong in (samples[:1], samples[:0], 1.0, np.ma.array(samples, mask=samples > 4), samples + 1j, [["a"], ["b"]]):
        with pytest.raises(ValueError, match="no interval of less than two seeds|samples (is a masked|must be an arr)"):
            bands.interval(wrong)
    usual, other = bands.interval(samples), bands.interval(samples.astype(int).tolist())
    assert np.array_equal(usual, other)


def test_curves_that_are_none() -> None:
    axis, up = np.array([0.0, 10.0]), np.array([3.0, 2.0])
    hidden = np.ma.array(up, mask=[0, 1])
    for x, y, told in (
        (axis, hidden, "is a masked"),
        (hidden, up, "is a masked"),
        (axis, 2.0, "one y"),
        (axis, up[:1], "one y"),
    ):
        for call in (lambda x=x, y=y: resample([(x, y)]), lambda x=x, y=y: reach([x], [y], 1.0)):
            with pytest.raises(ValueError, match=told):
                call()
    for target in (np.nan, None, "1", True):
        with pytest.raises(ValueError, match="target must be a finite number"):
            reach([axis], [up], target)  # type: ignore[arg-type]


def test_curves_that_have_one_position_in_common() -> None:
    """The last of one is the first of another, and lies between two of the third."""
    seeds = [
        (np.array(at, float), np.array(up, float))
        for at, up in (([0, 10], [1, 2]), ([10, 20], [5, 6]), ([5, 15], [0, 4]))
    ]
    grid, up = resample(seeds)
    assert grid.tolist() == [10.0]
    assert up.tolist() == [[2.0], [5.0], [2.0]]
