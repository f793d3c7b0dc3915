"""Bits by the papers' formulas: their values, the page's table against bytes, and the axis of a trace."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

import qsim
from helpers.paths import DOCS
from qsim.batch import Vectors
from qsim.clients import SampledClients
from qsim.compressors import Compressor
from qsim.formulas import FORMULAS, WITHOUT, fixed_width_bits, message_bits, sparse_bits, theorem_bits
from qsim.testing.shipped import shipped

PAGE = DOCS / "formulas.md"
LENGTH, DRAWS = 10_000, 8
SHOWN = [
    qsim.Identity(),
    qsim.QSGD(1),
    qsim.QSGD(4),
    qsim.QSGD(16),
    qsim.QSGD(100),
    qsim.QSGD(7, norm="max"),
    qsim.TernGrad(),
    qsim.NaturalCompression(),
    qsim.NaturalDithering(4),
    qsim.TopK(100),
    qsim.RandK(100),
    qsim.RandK(100, "drawn"),
    qsim.Bernoulli(0.01),
    qsim.Sign(),
    qsim.ScaledSign(),
    qsim.OneBit(),
    qsim.DRIVE(),
    qsim.EDEN(2),
    qsim.QUICFL(2),
    qsim.RoundedFloats("float16"),
    qsim.Bucketed(qsim.QSGD(7, norm="max"), 512),
    qsim.Compose(qsim.TopK(100), qsim.QSGD(4)),
    qsim.SubtractiveDither(4),
    qsim.CorrelatedQuantization(8, 2),
    qsim.CompK(100, 1000),
    qsim.MixK(50, 50),
    qsim.RandSeqK(100),
    qsim.PermK(8),
    qsim.Kashin(2),
    qsim.CountSketch(5, 200),
    qsim.RankR(4, 100),
    qsim.PowerSGD(4, 100),
    qsim.PerLayer(((None, qsim.QSGD(4)), (100, qsim.Identity()))),
]
RUN = qsim.Run(
    "spark_sample", qsim.LogisticRegression(0.1), qsim.GradientDescent(0.1), qsim.QSGD(4), workers=4, rounds=6
)


def row(compressor: Compressor) -> str:
    """A line of the page: bits of Gaussian vectors by formula, in packets, and their quotient."""
    v = Vectors.dense(np.random.default_rng(0).standard_normal((DRAWS, LENGTH)).astype(np.float32))
    key = qsim.Key(1) if compressor.correlated is None else qsim.Key(1).numbered
    _, packets = qsim.Channel(compressor).pack(v, key.words(0, DRAWS))
    by_formula, sent = message_bits(compressor, LENGTH), packets.bits / DRAWS
    assert by_formula is not None
    name = repr(compressor).replace("qsim.", "").replace("compressors.", "")
    return f"| `{name}` | {by_formula:,.0f} | {sent:,.0f} | {sent / by_formula:.2f} |"


@pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")
def test_the_page_has_what_is_sent() -> None:
    found = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert found == [row(compressor) for compressor in SHOWN]


@pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")
def test_the_page_has_every_formula() -> None:
    """As maths: without the signs of TeX it is the formula's text."""
    text = re.sub(r"\\lceil (.*?) \\rceil", r"ceil(\1)", PAGE.read_text(encoding="utf-8"))
    for sign, plain in {"$": "", r"\log_2": "log2", r"\sqrt": "sqrt", r"\le ": "<= ", r"\min": "min"}.items():
        text = text.replace(sign, plain)
    for cls, formula in FORMULAS.items():
        assert f"| {cls.__name__} | {formula.text} | {formula.source} | {formula.known} |" in text
    for cls, reason in WITHOUT.items():
        assert f"| {cls.__name__} | none | {reason} | |" in text


def test_formulas_by_hand() -> None:
    kept = 4 * (4 + 100)
    assert theorem_bits(10_000, 4) == pytest.approx((3 + 1.5 * math.log2(2 * (16 + 10_000) / kept)) * kept + 32)
    by_hand = {
        qsim.QSGD(4): theorem_bits(10_000, 4),
        qsim.QSGD(71): 10_000 * 8 + 32,  # 71^2 + 100 is above n/2
        qsim.QSGD(4, norm="max"): 10_000 * 4 + 32,
        qsim.NUQSGD(3): 10_000 * 4 + 32,
        qsim.TopK(7): 7 * (32 + 14),
        qsim.TopK(0.01): 100 * (32 + 14),
        qsim.RandK(7, "drawn"): 7 * 32,
        qsim.Wangni(50): 50 * (32 + 14),
        qsim.Bernoulli(0.5): 5_000 * (32 + 14),
        qsim.EDEN(3): 30_032,
        qsim.QUICFL(3): 31_282,
        qsim.Scaled(qsim.NaturalCompression()): 90_000,
        qsim.ErrorFeedback(qsim.TopK(7)): 7 * (32 + 14),
        qsim.Bucketed(qsim.TernGrad(), 300): 34 * 632,
        qsim.Compose(qsim.TopK(100), qsim.QSGD(1)): theorem_bits(100, 1) + 100 * 14,
        qsim.ThreePCv2(qsim.RandK(5), qsim.TopK(7)): 12 * (32 + 14),
        qsim.Compose(qsim.MixK(30, 70), qsim.QSGD(1)): theorem_bits(100, 1) + 100 * 14,
        qsim.SubtractiveDither(4): 10_000 * 4 + 32,
        qsim.CorrelatedQuantization(5, 3): 30_032,
        qsim.CompK(7, 100): 7 * (32 + 14),
        qsim.MixK(7, 0.01): 107 * (32 + 14),
        qsim.RandSeqK(7): 7 * 32,
        qsim.PermK(6, 4): 2 * 3334 * 32,  # 4 of 6 workers have each coordinate
        qsim.Kashin(2): 4 * 10_000 + 2 * 32,  # of 8,192 coordinates, and the rest
        qsim.Kashin(3, 1024): 6 * 10_000 + 10 * 32,
        qsim.CountSketch(3, 100): 300 * 32,
        qsim.CountSketch(3, 5000): 320_000,  # as it is
        qsim.RankR(2, 30): 2 * (334 + 30) * 32,
        qsim.SymmetricRankR(2): 2 * (141 + 1) * 32,  # 141 rows have 10,011 numbers
        qsim.PowerSGD(3, 10): 3 * (1000 + 10) * 32,
        qsim.PowerSGD(60, 100): 320_000,  # as it is
        qsim.PerLayer(((100, qsim.TopK(5)), (None, qsim.Sign()))): 5 * (32 + 7) + 9_900,
    }
    for compressor, bits in by_hand.items():
        assert message_bits(compressor, 10_000) == pytest.approx(bits), compressor
    assert sparse_bits(10_000, 7, positions=False) == 7 * 32
    assert fixed_width_bits(100, 8) == 100 * 5 + 32
    for wrong in (lambda: theorem_bits(0, 1), lambda: fixed_width_bits(1, 0), lambda: message_bits(qsim.Identity(), 0)):
        with pytest.raises(ValueError, match="at least 1"):
            wrong()


def test_every_compressor_has_a_formula_or_a_reason() -> None:
    for compressor in shipped(qsim.compressors, Compressor):
        found = message_bits(compressor, 1000)
        if found is None:
            assert type(compressor) in WITHOUT, compressor
        else:
            assert 0 < found <= 46 * 1000, compressor
    assert not set(FORMULAS) & set(WITHOUT)
    for compressor in (qsim.HardThreshold(1.0), qsim.TopLEK(3), qsim.ErrorFeedback(qsim.TopLEK(3))):
        assert message_bits(compressor, 1000) is None
    assert message_bits(qsim.PerLayer(((5, qsim.TopLEK(3)), (None, qsim.Sign()))), 1000) is None


@qsim.option
class Mine(qsim.compressors.Compressor):
    """One whose formula is its own, or none."""

    known: bool = True

    emits = qsim.batch.Floats

    def quantize(self, v, key):
        return qsim.batch.Floats.single(v)

    @property
    def formula_bits(self):
        if not self.known:
            raise AttributeError
        return lambda n: 3 * n


def test_the_axis_of_a_trace() -> None:
    """Planned rounds and the exchange, who takes part, exact gradients, a formula of one's own."""
    n, each = 16, message_bits(qsim.QSGD(4), 16)
    trace = qsim.simulate(RUN)
    assert trace.axis("formula_bits_up").tolist() == [4 * each * t for t in range(7)]
    assert trace.frame["formula_bits_up"].tolist() == [0.0, *[4 * each] * 6]
    progressive = qsim.simulate(replace(RUN, progressive=True))  # through the exchange
    assert np.array_equal(progressive.axis("formula_bits_up"), trace.axis("formula_bits_up"))
    some = qsim.simulate(replace(RUN, clients=SampledClients(3)))
    assert some.axis("formula_bits_up")[-1] == 18 * each
    shifts = qsim.simulate(replace(RUN, method=qsim.DIANA(0.1, shifts="gradient")))
    assert shifts.frame["formula_bits_up"].tolist()[1:3] == [4 * 32 * n, 4 * each]
    assert qsim.simulate(replace(RUN, compressor=Mine())).axis("formula_bits_up")[1] == 4 * 3 * n
    with pytest.raises(ValueError, match="no formula in qsim.formulas"):
        qsim.simulate(replace(RUN, compressor=Mine(known=False))).axis("formula_bits_up")
    assert "formulas" in qsim.plot(trace, x="formula_bits_up", y="loss").get_xlabel()


def test_the_axis_is_resumed(tmp_path) -> None:
    def stop(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    run, path = replace(RUN, rounds=9), tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        qsim.simulate(run, checkpoint=path, every=2, after_round=stop)
    assert qsim.simulate(run, checkpoint=path).frame.equals(qsim.simulate(run).frame)


def test_no_more_numbers_than_there_are() -> None:
    with pytest.raises(ValueError, match="k must be at most n = 10, found 20"):
        sparse_bits(10, 20)
