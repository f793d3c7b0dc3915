"""`check_compressor`: shipped compressors and an honest user's pass; every known mistake is planted, and caught.

What is caught is caught with certainty or nearly so: the plants are further off than the power that the report states.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy.stats import binom

import qsim
from helpers import planted_claims, planted_messages
from helpers.honest_compressors import Claimless, Fast, KeepsLargest, Ternary
from qsim.batch import Levels
from qsim.compressors import QSGD, Compressor
from qsim.options import option
from qsim.testing import Finding, Report, bias, check_compressor
from qsim.testing import compressor as checks
from qsim.testing.bounds import EXTENSION, SURE, Wager
from qsim.testing.compressor_under_test import CompressorUnderTest
from qsim.testing.gallery import gallery, worsened
from qsim.testing.messages import all_codecs
from qsim.testing.pools import pool
from qsim.testing.probes import Probe, three_sizes
from qsim.testing.subprocess_call import elsewhere
from qsim.verify import EXAMPLES


@pytest.fixture(autouse=True)
def _few_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer keys for small biases than by default, to save time; `test_planted` takes all."""
    monkeypatch.setattr(bias, "_MOST", {True: 4000, False: 8000})
    monkeypatch.setattr(bias, "_NUMBERS", 2**21)


@pytest.mark.parametrize("compressor", [Ternary(), Fast(), KeepsLargest(), Claimless()], ids=repr)
def test_honest_compressors_pass(compressor: Compressor) -> None:
    report = check_compressor(compressor)
    assert report.good, str(report)


@pytest.mark.parametrize("compressor", EXAMPLES, ids=repr)
def test_shipped_compressors_pass(compressor: Compressor) -> None:
    report = check_compressor(compressor)
    assert report.good, str(report)


PLANTED = [*planted_claims.PLANTED, *planted_messages.PLANTED]


@pytest.mark.parametrize(("compressor", "promises"), PLANTED, ids=lambda value: type(value).__name__)
def test_planted_mistakes_are_caught(compressor: Compressor, promises: list[str], monkeypatch) -> None:
    """Only the checks that must find it are run, to save time."""
    monkeypatch.setattr(checks, "CHECKS", {promise: checks.CHECKS[promise] for promise in promises})
    found = check_compressor(compressor).findings
    assert [promise for promise in promises if found[promise].kept is not False] == [], str(Report("", found))


# The parts of the check.


@pytest.mark.parametrize("p", [1e-6, 1e-4, 1e-2, 0.1, 0.5, 0.9, 0.9999])
def test_no_bet_is_won_by_chance(p: float) -> None:
    """Exactly, for 1 - p or -p with mean 0 and the largest reach: over all counts, the wins are at most e^-SURE."""
    rows = 4000
    k = np.arange(rows + 1)
    for spread in ((p * (1 - p)) ** 0.5, 1e-3):  # also for a pilot that saw too little
        for sign in (1, -1):
            bet = Wager(spread, 1.0, rows)
            wealth = k * np.log1p(bet.stake * sign * (1 - p)) + (rows - k) * np.log1p(-bet.stake * sign * p)
            assert binom.pmf(k, rows, p)[wealth >= SURE].sum() <= np.exp(-SURE)


def test_bets_find_what_is_said_to_be_found() -> None:
    """Of 2,000 samples with a mean of `seen`, all but a few are promising; with 4 times the rows all but a few win."""
    random, rows = np.random.default_rng(0), 400
    bets = [Wager(1.0, 2.0, rows) for _ in range(2)]
    for bet, length in zip(bets, (rows, EXTENSION * rows), strict=True):
        bet.add(random.standard_normal((length, 2000)) + bet.seen)
    assert (bets[0].wealth < bets[0]._promising).mean() < 0.004
    assert (bets[1].wealth < SURE).mean() < 0.004
    none = Wager(1.0, 2.0, rows)
    none.add(random.standard_normal((rows, 2000)))
    assert (none.wealth > none._promising).mean() < 0.006


def test_the_search_finds_worse_vectors() -> None:
    compressor, v = QSGD(4), gallery(64, qsim.Key(0))["gaussian"]

    def score(rows):
        return np.array([compressor.exact_variance(row) / float(row @ row) for row in rows])

    found = worsened(v, score, qsim.Key(1))
    before, after = score(np.stack([v, found]))
    assert before < 0.9
    assert 0.9 < after <= compressor.variance(64) * (1 + 1e-6)


def test_a_report_tells_kept_broken_and_not_made_apart() -> None:
    report = Report("it", {"a": Finding(True), "b": Finding(False, "7", 1.0, 7.0), "c": Finding(None, "silent")})
    assert not report.good
    assert report.broken == ["b"]
    assert str(report) == "it\n  kept    a\n  BROKEN  b: 7\n  -       c: silent"
    assert list(report.frame.columns) == ["promise", "kept", "claimed", "measured", "seen"]
    assert report.frame["kept"].tolist() == [True, False, None]
    assert report.frame["measured"].tolist()[1] == 7.0
    assert Report("it", {"c": Finding(None)}).good


@option
class OnlyAtHome(Fast):
    """Works in one process; in others it fails, or takes the process along."""

    pid: int
    way: str

    def compress(self, v, keys, memory=None):
        if os.getpid() != self.pid:
            print("what is printed there does no harm")
            if self.way == "ends":
                os._exit(3)
            raise RuntimeError("not here")
        return super().compress(v, keys)


def test_what_goes_wrong_in_another_process_is_told(monkeypatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", {"pickling": checks.CHECKS["pickling"]})
    for way, words in (("fails", "RuntimeError: not here"), ("ends", "ended while it worked there")):
        found = check_compressor(OnlyAtHome(os.getpid(), way)).findings["pickling"]
        assert found.kept is False
        assert words in found.seen
        assert check_compressor(Fast()).good  # the next one is checked again


def test_an_answer_that_nobody_waited_for_is_not_taken_for_another(monkeypatch) -> None:
    """As Ctrl-C leaves it."""

    def interrupted(pipe):
        raise KeyboardInterrupt

    assert elsewhere(abs, -1) == 1
    with monkeypatch.context() as patch:
        patch.setattr("qsim.testing.subprocess_call._read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            elsewhere(abs, -2)
    assert elsewhere(abs, -3) == 3


def test_what_is_not_claimed_is_not_called_kept() -> None:
    found = check_compressor(Claimless()).findings
    for promise in ("unbiased", "variance", "contraction", "it compresses", "error feedback adds up"):
        assert found[promise].kept is None
        assert found[promise].seen


def test_numbers_and_power_are_reported() -> None:
    report = check_compressor(QSGD(2))
    row = report.frame.set_index("promise").loc["variance"]
    assert 0.98 * row["claimed"] < row["measured"] < 1.02 * row["claimed"]
    assert "worst found" in row["seen"]
    assert "any excess is found" in row["seen"]
    assert "is found with probability 99.9%" in report.findings["expected non-zeros"].seen
    assert "along v at any of 10 lengths up to n = 100,000" in report.findings["unbiased"].seen


@option
class Off(Fast):
    """A bias of part of v, and a variance that is stated too small by another part."""

    bias: float = 0.0
    excess: float = 0.0

    def compress(self, v, keys, memory=None):
        return super().compress(v, keys).scaled(1 + self.bias)

    def variance(self, n):
        return super().variance(n) / (1 + self.excess)


@pytest.mark.parametrize("seed", range(3))
def test_the_power_is_as_stated(seed: int) -> None:
    """What is said to be found is, and a third of it is not."""
    key = qsim.Key(seed)
    probe = Probe("gaussian", gallery(64, key)["gaussian"], {"v": gallery(64, key)["gaussian"].astype(float) / 64})
    probe.columns["v"] /= probe.columns["v"] @ probe.v
    flat = Probe("constant", np.ones(64, np.float32), {})  # which attains the variance
    found = pool(CompressorUnderTest(Off(), key), probe, (1,), (4000, 4000))
    strain, excess = pool(CompressorUnderTest(Off(), key), flat, (2,), (4000, 4000)).errors["variance"]
    assert max(found.strain[0], strain) < 1
    for part, is_seen in ((1.02, True), (0.33, False)):
        off = CompressorUnderTest(Off(bias=part * float(found.seen[0])), key)
        assert (pool(off, probe, (1,), (4000, 4000)).strain[0] >= 1) == is_seen
        off = CompressorUnderTest(Off(excess=part * excess), key)
        assert (pool(off, flat, (2,), (4000, 4000)).errors["variance"][0] >= 1) == is_seen


def test_more_effort_sees_more() -> None:
    """Four times the keys: half of the bias, at four times the cost."""
    probe = three_sizes(300, qsim.Key(0))
    once, more = (pool(CompressorUnderTest(Off(), qsim.Key(0), effort), probe, (1,), (2000, 2000)) for effort in (1, 4))
    assert more.rows == 4 * once.rows
    assert more.seen[0] < 0.6 * once.seen[0]
    with pytest.raises(ValueError, match="effort must be a whole number of at least 1"):
        check_compressor(Fast(), effort=0)


def test_one_seed_gives_one_report() -> None:
    first, again, other = (check_compressor(Fast(), seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_short_lengths_may_be_refused() -> None:
    """With a reason, which is shown; all lengths may not."""

    class Long(KeepsLargest):
        def quantize(self, v, key):
            if v.size < 200:
                raise ValueError("at least 200 coordinates, please")
            return super().quantize(v, key)

    found = check_compressor(Long()).findings
    assert found["vectors of any length"].kept is None
    assert "200 coordinates, please (n = 1)" in found["vectors of any length"].seen
    assert found["contraction"].kept
    assert "n = 300" in found["contraction"].seen

    class Never(KeepsLargest):
        def quantize(self, v, key):
            raise ValueError("no")

    assert "vectors of any length" in check_compressor(Never()).broken


def test_a_scale_that_underflows_takes_its_levels_along() -> None:
    """Found by the check: `Scaled` made messages of tiny vectors that no codec takes."""
    message = Levels(
        4, np.array([0, 2, 4]), np.array([0, 3, 1, 2]), np.int32([1, 1, -1, 2]), np.float32([1, 1e-45, 1e-45, 3]), 2, 2
    )
    scaled = message.scaled(0.4)
    assert scaled.offsets.tolist() == [0, 1, 2]
    assert scaled.index.tolist() == [0, 2]
    assert scaled.level.tolist() == [1, 2]
    codec = qsim.codecs.Varint()
    assert codec.decode(codec.encode(scaled), codec.header(scaled)) == scaled


def test_only_compressors_can_be_checked() -> None:
    with pytest.raises(TypeError, match="only a Compressor can be checked"):
        check_compressor(Ternary)


def test_every_codec_is_tried() -> None:
    kinds = {type(codec) for codec in all_codecs()}
    exported = {getattr(qsim.codecs, name) for name in qsim.codecs.__all__} - {
        qsim.codecs.Codec,
        qsim.codecs.DecodeError,
    }
    assert kinds == exported
    assert {qsim.codecs.Elias(code) for code in ("gamma", "delta", "omega")} <= set(all_codecs())


@option
class LargeOnly(Fast):
    """A certificate that holds as n grows only; it says nothing about short vectors."""

    asymptotic = True

    def variance(self, n):
        return n**0.5 - 1 if n >= 1000 else 0.0


def test_asymptotic_certificates_are_tested_at_a_large_length() -> None:
    found = check_compressor(LargeOnly()).findings
    assert found["variance"].kept
    assert "n = 2000)" in found["variance"].seen or "n = 1024)" in found["variance"].seen
    assert "asymptotic, so 5% more is let pass" in found["variance"].seen
