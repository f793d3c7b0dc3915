"""Paired comparisons: against SciPy, and what is printed of them, which never contradicts itself."""

from __future__ import annotations

import re
from math import sqrt
from statistics import mean

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from qsim.study import Bootstrap, Comparison, Settings, StudentT, compare, significance, winner


def test_lists_keep_their_level_under_no_difference() -> None:
    """500 lists of 5 comparisons without a difference: at most 5% have a finding, 6.2 deviations allowed (1e-9).

    Power: without a correction 20% have one, 4.8 deviations above what is allowed. The five share a reference, as
    those of a study do.
    """
    random = np.random.default_rng(2)
    found = 0
    for _ in range(500):
        samples = {str(k): random.normal(size=6) for k in range(5)}
        found += any(c.beyond_noise for c in compare(samples, random.normal(size=6)).values())
    assert found / 500 < 0.05 + 6.2 * sqrt(0.05 * 0.95 / 500)


@pytest.mark.parametrize(("seeds", "others"), [(3, 1), (5, 6), (10, 3), (40, 4)])
def test_a_detectable_difference_is_found_in_about_80_percent(seeds: int, others: int) -> None:
    """2,000 samples whose true mean is what one with their true deviation would call detectable.

    Found in 70% to 87%; the share's deviation is 1%, so a wrong quantile (50% for the half-width alone) is noticed.
    """
    random = np.random.default_rng(seeds)
    critical, quantile = student.ppf(1 - 0.025 / others, seeds - 1), student.ppf(0.8, seeds - 1)
    size, found, sizes = (critical + quantile) / sqrt(seeds), 0, []
    for _ in range(2000):
        samples = {"a": random.normal(size, 1.0, seeds)} | {
            str(k): random.normal(size=seeds) for k in range(others - 1)
        }
        one = compare(samples, np.zeros(seeds))["a"]
        found += one.beyond_noise
        sizes.append((one.detectable / size) ** 2)
    assert 0.7 < found / 2000 < 0.87
    assert mean(sizes) == pytest.approx(1, abs=0.25)  # the mean square of the deviation of a sample: 1


NUMBER = r"[+-]?\d+(?:\.\d+)?(?:e[+-]\d+)?"


def require_consistent(text: str, seeds: int) -> None:
    """Parse what is printed of a comparison; it must not contradict itself."""
    if "not defined" in text:
        assert not re.search(r"\b(nan|inf)\b", text)
        return
    if match := re.fullmatch(rf"deterministic: ({NUMBER})( times)? \(same for all seeds\)", text):
        return
    if seeds == 1:
        assert re.fullmatch(rf"{NUMBER}( times)? \(one seed: the noise is not known\)", text)
        return
    match = re.fullmatch(
        rf"({NUMBER})( times)? \(({NUMBER}) to ({NUMBER}); (beyond the seed noise"
        rf"|no difference found, one of ({NUMBER})( times)? would have been)(?:, p (<|=) ({NUMBER}))?\)",
        text,
    )
    assert match, text
    middle, times, low, high, verdict, least, _, _, p = match.groups()
    null = 1.0 if times else 0.0
    assert float(low) <= float(middle) <= float(high)
    assert float(low) < float(high)  # no interval of zero width
    assert (verdict == "beyond the seed noise") == (not float(low) <= null <= float(high))
    assert p is None or (float(p) <= 0.05) == (verdict == "beyond the seed noise")
    if least is not None:
        gap = abs(np.log(float(middle))) if times else abs(float(middle))
        assert (np.log(float(least)) if times else float(least)) >= gap * (1 - 1e-12)


values = st.floats(-1e6, 1e6) | st.floats(1e-12, 1e12) | st.sampled_from([0.0, 1.0, 1.0, -1.0, float("nan"), 1e300])


@given(st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(values, min_size=n, max_size=n), min_size=2, max_size=5)))
@example([[1.0, 5.0, 9.0], [2.0, 10.0, 18.0], [1.0, 5.0, 9.0]])
@example([[1.0, 5.0, 9.0], [1.1, 5.1, 9.1]])  # the same difference but for the last digits
@example([[1.0, 1.0, 1.0], [1.0001, 1.00011, 1.00012]])  # "1 times (1 to 1; beyond ...)" would contradict itself
def test_no_printed_comparison_contradicts_itself(samples: list[list[float]]) -> None:
    other, *rest = (np.array(values) for values in samples)
    for ratio in (False, True):
        for bands in (StudentT(), Bootstrap("percentile", 100)):
            if isinstance(bands, Bootstrap) and len(other) < 3:
                continue
            with np.errstate(all="ignore"):
                found = compare({str(k): sample for k, sample in enumerate(rest)}, other, bands, ratio=ratio)
            for comparison in found.values():
                require_consistent(str(comparison), len(other))
                assert "within the seed noise" not in str(comparison)
            said, led = significance(found), winner("best", found)
            for name, comparison in found.items():
                if comparison.kind != "one seed" and len(found) > 1 and "all." not in said and "any (" not in said:
                    assert re.search(rf"\b{name}\b", said)
                assert ("beyond the seed noise" in led) <= (comparison.beyond_noise)


def test_skewed_seeds_are_covered_less_as_the_captions_say() -> None:
    """20,000 samples of 5 exponential numbers: the share covered has a deviation of 0.23%."""
    samples = np.random.default_rng(3).exponential(size=(5, 20_000))
    low, high = StudentT().interval(samples)
    assert abs(np.mean((low <= 1) & (high >= 1)) - 0.8825) < 0.015
    assert "88%" in Settings("spark_sample", 2, 2, 5).statistics
    assert "88%" not in Settings("spark_sample", 2, 2, 40).statistics


def test_comparisons_against_scipy() -> None:
    """k joint intervals at 1 - 5%/k; p-values of the paired t-test, times k; ratios by logarithms."""
    random = np.random.default_rng(0)
    other = random.lognormal(size=7)
    samples = {"a": other * random.lognormal(0.5, 0.1, 7), "b": other * random.lognormal(0.0, 0.1, 7)}
    for ratio in (False, True):
        found = compare(samples, other, ratio=ratio)
        paired = {k: np.log(v / other) if ratio else v - other for k, v in samples.items()}
        tests = {k: ttest_1samp(v, 0) for k, v in paired.items()}
        for k, test in tests.items():
            assert found[k].p == pytest.approx(min(1, 2 * test.pvalue))
            ends = test.confidence_interval(1 - 0.05 / 2)
            expected = (paired[k].mean(), ends.low, ends.high)
            back = np.exp(expected) if ratio else expected
            assert (found[k].mean, found[k].low, found[k].high) == pytest.approx(tuple(back))
    assert "times" in str(compare(samples, other, ratio=True)["a"])


def test_verdicts() -> None:
    seeds = np.array([1.0, 5.0, 9.0, 2.0])
    shifted = compare({"b": seeds + np.array([0.1, 0.12, 0.09, 0.11])}, seeds)["b"]
    assert shifted.beyond_noise  # a shift in every seed, although the seeds differ by more
    assert "beyond the seed noise" in str(shifted)
    assert "no difference found, one of 2.4 would" in str(
        compare({"b": seeds + np.array([1, -1, 1, -1.0])}, seeds)["b"]
    )
    same = compare({"b": seeds}, seeds)["b"]
    assert (same.mean, same.kind, same.beyond_noise) == (0.0, "deterministic", False)
    assert same.verdict == "equal for all seeds"
    shift = compare({"b": seeds + 1.0, "c": seeds + np.array([1, -1, 1, -1.0])}, seeds)
    assert str(shift["b"]) == "deterministic: +1 (same for all seeds)"
    assert shift["b"].beyond_noise
    assert shift["c"] == compare({"c": seeds + np.array([1, -1, 1, -1.0])}, seeds)["c"]  # what has no noise is no test
    assert str(compare({"b": 3 * seeds}, seeds, ratio=True)["b"]) == "deterministic: 3 times (same for all seeds)"
    tiny = np.array([0.0, 4e-8, -3e-8, 1e-8])  # as float32 rounds
    for ratio, made, said in ((True, seeds * (0.55 + tiny), "0.55 times"), (False, seeds + 20 + 20 * tiny, "+20")):
        assert str(compare({"b": made}, seeds, ratio=ratio)["b"]) == f"deterministic: {said} (same for all seeds)"
    assert compare({"b": seeds * (1 + tiny)}, seeds, ratio=True)["b"].verdict == "equal for all seeds"
    assert compare({"b": seeds * (0.55 + 100 * tiny)}, seeds, ratio=True)["b"].kind == "beyond"
    one = compare({"b": np.array([2.0])}, np.array([1.0]))["b"]
    assert not one.beyond_noise
    assert str(one) == "+1 (one seed: the noise is not known)"
    zero = compare({"b": np.array([1.0, 0.0])}, np.array([1.0, 2.0]), ratio=True)["b"]
    assert not zero.beyond_noise
    assert "not above zero" in str(zero)
    assert Comparison(0.1, 0.01, 0.3, 0.051, 4).beyond_noise  # the interval decides
    assert not Comparison(0.1, -0.1, 0.3, 0.01, 4).beyond_noise
